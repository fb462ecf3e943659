//! `netboot capture`: what was typed, where it is written to, the signals that end it, and what is said meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, value_parser};
use tokio::signal::unix::{SignalKind, signal};

use super::{WRONG, failed, logs, report};
use crate::capture::pcapng;
use crate::capture::recorder::{Notice, Options, Recorder};
use crate::capture::taker::Summary;
use crate::config::{self, Given};
use crate::mac::Mac;

pub(super) const EXAMPLES: &str = "\
Examples:
  sudo netboot capture -i eth1 -w boot.pcapng        DHCP, TFTP, ARP and errors about them, until Ctrl-C
  sudo netboot capture -i eth1 | wireshark -k -i -   the same, live
  ssh root@appliance netboot capture -i eth1 | wireshark -k -i -
  sudo netboot capture --mac 52:54:00:12:34:56 -w blade.pcapng --seconds 120
                                                     one machine alone, the interface as ./data/netboot.json names it
  sudo netboot capture -i eth1 --all --snaplen 128 -w all.pcapng
                                                     all UDP, ICMP and HTTP too, the beginning of each packet

tcpdump on the same machine sees nothing of what the XDP program answers; this does, while a netboot serves the interface.
Where it cannot, it says why and captures the rest. The file is whole whenever it ends, and nobody but its owner can read it.
Exit codes: 0 fine, also when the reader of the pipe has gone; 1 it may not listen, or failed; 2 wrong usage or settings.";

/// How long the last blocks may take to be written.
const LAST_BLOCKS: Duration = Duration::from_secs(5);

/// What was typed.
#[derive(Debug, Args)]
pub(super) struct Capture {
    /// The PXE interface, or the trunk that carries it [default: the trunk or else the interface of netboot.json].
    #[arg(short, long, value_name = "IF", env = "NETBOOT_INTERFACE")]
    interface: Option<String>,
    /// Where to write the capture: a file, or - for standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    write: PathBuf,
    /// These machines alone; may be repeated.
    #[arg(long, value_name = "MAC")]
    mac: Vec<Mac>,
    /// All UDP and ICMP, and TCP of the HTTP port.
    #[arg(long)]
    all: bool,
    /// End after so many packets.
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=315_360_000))]
    seconds: Option<u64>,
    /// Bytes kept of each packet.
    #[arg(short, long, value_name = "BYTES", default_value_t = pcapng::LONGEST, value_parser = value_parser!(u32).range(64..=i64::from(pcapng::LONGEST)))]
    snaplen: u32,
    /// The data directory, for its netboot.json.
    #[arg(long, value_name = "DIR", env = "NETBOOT_DATA", default_value = "./data")]
    data: PathBuf,
    /// TCP port for HTTP, with --all [default: 8080].
    #[arg(long, value_name = "PORT", env = "NETBOOT_HTTP_PORT", value_parser = value_parser!(u16).range(1..))]
    http_port: Option<u16>,
}

/// Captures until it is told to end.
pub(super) fn run(arguments: Capture) -> ExitCode {
    let Capture { interface, write, mac, all, count, seconds, snaplen, data, http_port } = arguments;
    let given = Given { http_port, ..Given::default() };
    let settings = config::resolve(&data, given);
    // Who names one need not have settings that netboot could serve with.
    let settings = if interface.is_some() { settings } else { settings.and_then(config::Settings::serving) };
    let settings = match settings {
        Ok(settings) => settings,
        Err(problems) => {
            report::problems(&problems.0);
            return ExitCode::from(WRONG);
        }
    };
    let to_stdout = write == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        eprintln!(
            "netboot: a capture is nothing to read on a terminal: write it to a file with -w boot.pcapng, or add | wireshark -k -i -"
        );
        return ExitCode::from(WRONG);
    }
    let options = Options {
        interface: interface.or(settings.trunk).unwrap_or(settings.interface),
        all: all.then_some(settings.http.port),
        macs: mac.into_iter().collect(),
        count,
        time: seconds.map(Duration::from_secs),
        longest: snaplen,
    };
    match capture(options, (!to_stdout).then_some(write.as_path())) {
        Ok(summary) => {
            clear();
            eprintln!("netboot: {}", sentence(&summary));
            ExitCode::SUCCESS
        }
        Err(error) => {
            clear();
            failed(&error)
        }
    }
}

/// Captures into a file, or to standard output.
fn capture(options: Options, path: Option<&Path>) -> Result<Summary> {
    // First what can fail, so that no file is overwritten for nothing.
    let recorder = Recorder::open(options)?;
    let mut file = match path {
        Some(path) => {
            // Boot traffic has passwords in it.
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(path).with_context(|| format!("write {}", path.display()))?
        }
        None => File::from(io::stdout().as_fd().try_clone_to_owned().context("write to standard output")?),
    };
    let (stop, stopped) = UnixStream::pair().context("make a pair of sockets")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let (sender, mut ended) = tokio::sync::oneshot::channel();
        // A thread of its own: who reads a pipe may be slow, and signals are heard all the same.
        std::thread::Builder::new().name("capture".to_owned()).spawn(move || {
            // Nobody listens any more when it took too long to end.
            let _ = sender.send(recorder.run(&mut file, stopped.as_fd(), notice));
        })?;
        let result = tokio::select! {
            result = &mut ended => result,
            () = async { tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} } } => {
                drop(stop);
                tokio::time::timeout(LAST_BLOCKS, ended)
                    .await
                    .context("who reads the capture does not read on: its end is not written")?
            }
        };
        Ok(result.context("the capture's thread has ended")??)
    })
}

/// Says what is worth it, on standard error.
fn notice(notice: Notice<'_>) {
    if let Notice::Progress(summary) = notice {
        if logs::terminal() {
            eprint!("\r{}\x1b[K", sentence(summary));
            let _ = io::stderr().flush();
        }
        return;
    }
    clear();
    match notice {
        Notice::WithXdp => eprintln!("netboot: what the XDP program answers is captured too"),
        Notice::WithoutXdp(why) => {
            eprintln!("netboot: what the XDP program answers is not captured: {why}");
        }
        Notice::Trouble(error) => eprintln!("netboot: {error}; it goes on"),
        Notice::Progress(_) => {}
    }
}

/// Takes the line of the progress away.
fn clear() {
    if logs::terminal() {
        eprint!("\r\x1b[K");
    }
}

/// The sum in words.
fn sentence(summary: &Summary) -> String {
    let mut parts: Vec<String> =
        summary.kinds.iter().map(|(kind, count)| format!("{} {count}", kind.name())).collect();
    if summary.xdp > 0 {
        parts.push(format!("{} of them by XDP", summary.xdp));
    }
    let packets = usize::try_from(summary.packets()).unwrap_or(usize::MAX);
    let kinds = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    let lost = match summary.dropped {
        0 => String::new(),
        dropped => {
            format!("; {dropped} came too fast and are missing: --mac or a file on a fast disk may help")
        }
    };
    format!("{} captured{kinds}{lost}", report::count(packets, "packet"))
}

#[cfg(test)]
mod tests {
    use super::{Summary, sentence};
    use crate::capture::policy::Kind;

    #[test]
    fn the_sum_is_a_sentence() {
        let kinds = [(Kind::Dhcp, 4), (Kind::Tftp, 100)].into_iter().collect();
        let summary = Summary { kinds, xdp: 2, dropped: 0 };
        assert_eq!(sentence(&summary), "104 packets captured (DHCP 4, TFTP 100, 2 of them by XDP)");
        let summary = Summary { dropped: 7, ..Summary::default() };
        assert!(sentence(&summary).starts_with("0 packets captured; 7 came too fast"));
    }
}
