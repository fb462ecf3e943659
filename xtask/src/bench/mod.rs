//! `cargo xtask bench dhcp`: netboot, Kea and dnsmasq under the same load in one run, in turns.
//!
//! Virtual blades ask over a packet socket in a namespace of their own. Nothing leaves the namespaces, and every loop
//! ends by the clock.

mod blades;
mod contestant;
mod lossless;
mod open;
mod peers;
mod report;
mod scale;
mod socket;
mod summary;
mod wire;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use xtask::lab::remove_leftovers;

use crate::run::on_signal;
use crate::setup;
use crate::steps::{as_root, is_root, loud, unlock_sudo};
use blades::{Blades, Next, PATIENCE, Tally};
use contestant::{ALL, MOST_HOSTS, Running, Setting};
use lossless::{Search, holds};
use open::Open;
use peers::Peers;
use report::{Report, median};

/// How many blades ask at a time.
const CLIENTS: [usize; 3] = [1, 32, 256];
/// How long a server may take from its start to its first ACK.
const START: Duration = Duration::from_mins(1);

/// What can be set.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Rounds; in each every server is measured with 1, 32 and 256 clients.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    rounds: u64,
    /// Machines, each with its own MAC.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(256..=i64::from(MOST_HOSTS)))]
    hosts: u32,
    /// Let each server log every step as it does by default, into a file.
    #[arg(long)]
    logs: bool,
    /// Measure something else: how netboot alone starts, and its memory, with 10,000 machines and 50,000 leases.
    #[arg(long)]
    scale: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One measurement.
#[derive(Debug)]
struct Sample {
    /// Its place in [`ALL`].
    contestant: usize,
    clients: usize,
    /// Exchanges that ended within the time.
    in_time: u64,
    took: Duration,
    /// All, with those that were still under way then.
    tally: Tally,
    server_cpu: Duration,
    client_cpu: Duration,
}

impl Sample {
    #[allow(clippy::cast_precision_loss, reason = "the count of a short run")]
    fn rate(&self) -> f64 {
        self.in_time as f64 / self.took.as_secs_f64()
    }
}

/// Sets up, fetches the peers, builds, and measures.
///
/// # Errors
/// When something cannot be had or built, or a server does not serve.
pub(crate) fn dhcp(options: &Options) -> Result<()> {
    setup::setup()?;
    let home = xtask::root().join("target/bench");
    let peers = Peers::fetch(&home)?;
    let mut cargo = Command::new("cargo");
    // The blades must not be what is slow: this program is built with optimization, too.
    cargo.args(["build", "--release", "--locked", "--package", "netboot", "--package", "xtask"]);
    loud(cargo.current_dir(xtask::root()))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| xtask::root().join("target"), PathBuf::from);
    let release = target.join("release");
    unlock_sudo("the benchmark (network namespaces, XDP)")?;
    let mut command = as_root(release.join("xtask"))?;
    command.arg("bench-lab").arg(release.join("netboot")).arg(peers.root());
    for (name, value) in
        [("--seconds", options.seconds), ("--rounds", options.rounds), ("--hosts", options.hosts.into())]
    {
        command.arg(name).arg(value.to_string());
    }
    command.args(options.logs.then_some("--logs")).args(options.scale.then_some("--scale"));
    command.args(options.json.then_some("--json"));
    Err(command.exec().into())
}

/// The part that needs root.
///
/// # Errors
/// When a server cannot be started or does not answer; the error has its log.
pub(crate) fn lab(netboot: &Path, peers: PathBuf, options: &Options) -> Result<()> {
    anyhow::ensure!(is_root(), "this part of `cargo xtask bench dhcp` needs root");
    let stop = on_signal()?;
    remove_leftovers()?;
    // On the disk of the repository: a temporary directory may be in memory, where fsync costs nothing.
    let work = peers.with_file_name(format!("run-{}", std::process::id()));
    let setting = Setting {
        netboot: netboot.to_str().context("the program's path is not UTF-8")?,
        peers: &Peers::at(peers),
        hosts: options.hosts,
        leases: 0,
        logs: options.logs,
    };
    let measured = if options.scale {
        scale::measure(&setting, options, &work, &stop)
    } else {
        measure(&setting, options, &work, &stop).map(|report| {
            let text =
                format!("{}\nIn short, as in the README:\n\n{}", report.text(), summary::summary(&report));
            (text, report.json())
        })
    };
    let _ = std::fs::remove_dir_all(&work);
    let (text, json) = measured?;
    if options.json {
        println!("{json:#}");
    } else {
        println!("{text}");
    }
    Ok(())
}

fn measure(setting: &Setting<'_>, options: &Options, work: &Path, stop: &AtomicBool) -> Result<Report> {
    let rounds = usize::try_from(options.rounds)?;
    let mut report = Report {
        seconds: options.seconds,
        rounds,
        hosts: options.hosts,
        logs: options.logs,
        machine: machine(),
        ..Report::default()
    };
    let mut servers = Vec::new();
    for (number, contestant) in ALL.iter().enumerate() {
        let running = contestant.start(setting, &work.join(number.to_string()))?;
        let mut blades = Blades::new(running.plan);
        first(&running, &mut blades, stop).with_context(|| format!("start {}", contestant.name))?;
        report.starts.push((running.started.elapsed().as_millis(), 0));
        servers.push((number, contestant, running, blades));
    }
    for round in 0..rounds {
        for clients in CLIENTS {
            // Another one begins each time.
            servers.rotate_left(1);
            for (number, contestant, running, blades) in &mut servers {
                let sample = sample(running, blades, clients, Duration::from_secs(options.seconds), stop)
                    .with_context(|| format!("measure {}", contestant.name))?;
                eprintln!(
                    "  round {} {:>8} {:<18} {clients:>3} clients: {:>8.0} DORA/s, {} lost, {} invalid",
                    round + 1,
                    contestant.kind(),
                    contestant.name,
                    sample.rate(),
                    sample.tally.lost,
                    sample.tally.invalid,
                );
                report.samples.push(Sample { contestant: *number, ..sample });
            }
        }
    }
    for (number, _, running, _) in &servers {
        if let Some(start) = report.starts.get_mut(*number) {
            start.1 = running.memory_kib("VmRSS").unwrap_or_default();
        }
    }
    let mut searches: Vec<(usize, Running, Open, Search)> = Vec::new();
    for (number, _, running, _) in servers {
        let (open, guess) = (Open::new(running.plan), report.guess(number));
        searches.push((number, running, open, Search::new(guess)));
    }
    report.lossless = lossless(&mut searches, stop)?;
    Ok(report)
}

/// The lossless rate of each contestant, by its number. A step of each in turn, so that all meet the same minutes.
fn lossless(searches: &mut [(usize, Running, Open, Search)], stop: &AtomicBool) -> Result<Vec<f64>> {
    let mut found = vec![0.0; searches.len()];
    let mut searching = true;
    while searching {
        searching = false;
        for (number, running, open, search) in &mut *searches {
            let Some(rate) = search.next() else { continue };
            searching = true;
            let Some(who) = ALL.get(*number) else { continue };
            let fine =
                holds(running, open, rate, stop).with_context(|| format!("the rate of {}", who.name))?;
            eprintln!(
                "  {:>8} {:<18} {rate:>8.0} DORA/s {}",
                who.kind(),
                who.name,
                if fine { "held" } else { "not held" }
            );
            search.saw(fine);
            if let Some(found) = found.get_mut(*number) {
                *found = search.found();
            }
        }
    }
    Ok(found)
}

/// What this runs on, and how busy it is with other things.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    let load = load.split_whitespace().next().unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{processors} processors, Linux {}, load {load} before", kernel.trim())
}

/// Asks until the first machine has its address.
fn first(running: &Running, blades: &mut Blades, stop: &AtomicBool) -> Result<()> {
    while running.started.elapsed() < START {
        running.cpu()?;
        drive(running, blades, 1, Duration::from_millis(20), Duration::from_millis(20), stop)?;
        if blades.tally.done > 0 {
            return Ok(());
        }
    }
    bail!("no answer within {} s; its log:\n{}", START.as_secs(), running.log())
}

fn sample(
    running: &Running,
    blades: &mut Blades,
    clients: usize,
    time: Duration,
    stop: &AtomicBool,
) -> Result<Sample> {
    let own = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime));
    let (server, client) = (running.cpu()?, own()?);
    let (in_time, took) = drive(running, blades, clients, time, PATIENCE * 2, stop)?;
    Ok(Sample {
        contestant: 0,
        clients,
        in_time,
        took,
        tally: std::mem::take(&mut blades.tally),
        server_cpu: running.cpu()?.saturating_sub(server),
        client_cpu: own()?.saturating_sub(client),
    })
}

/// Runs the blades for a time, and then until nobody waits any more, for `grace` at most. Returns how many exchanges
/// ended within the time, and the time.
fn drive(
    running: &Running,
    blades: &mut Blades,
    clients: usize,
    time: Duration,
    grace: Duration,
    stop: &AtomicBool,
) -> Result<(u64, Duration)> {
    let wire = &running.wire;
    let start = Instant::now();
    blades.reset(clients, start);
    for slot in 0..clients {
        wire.send(blades.begin(slot, Instant::now()).unwrap_or_default()).context("send")?;
    }
    let mut frame = [0; 2048];
    let mut in_time = None;
    let mut looked = start;
    loop {
        let mut now = Instant::now();
        if in_time.is_none() && now - start >= time {
            in_time = Some((blades.tally.done, now - start));
        }
        if let Some(in_time) = in_time
            && (blades.waiting() == 0 || now - start >= time + grace)
        {
            return Ok(in_time);
        }
        if now - looked >= Duration::from_millis(100) {
            looked = now;
            while let Some(slot) = blades.give_up(now) {
                if in_time.is_none() {
                    wire.send(blades.begin(slot, now).unwrap_or_default()).context("send")?;
                }
            }
            anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
        }
        // Not without end, so that the clock is looked at.
        let mut heard = 0;
        while heard < blades::MOST
            && let Some(length) = wire.receive(&mut frame).context("receive")?
        {
            heard += 1;
            now = Instant::now();
            match blades.hear(frame.get(..length).unwrap_or_default(), now) {
                Next::Send(request) => wire.send(request).context("send")?,
                Next::Done(slot) if in_time.is_none() => {
                    wire.send(blades.begin(slot, now).unwrap_or_default()).context("send")?;
                }
                Next::Nothing | Next::Done(_) => {}
            }
        }
        if heard == 0 {
            wire.wait(Duration::from_millis(5))?;
        }
    }
}
