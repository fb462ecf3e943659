//! `cargo xtask run`: boots a virtual blade from netboot, or serves for real.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use xtask::lab::{Accel, Blade, Lab, READY, Report, Server, data_directory, remove_leftovers, sentence};

use crate::setup;
use crate::steps::{as_root, is_root, loud, unlock_sudo};
use crate::story::Story;

/// The first machine of `data.sample/pxe_hosts.json`.
const BLADE: &str = "52:54:00:12:34:56";

/// Sets up, builds, and boots a blade in a lab of its own.
///
/// # Errors
/// When the blade did not report its cloud-config; the error says why and where the logs are.
pub(crate) fn boot(deadline: u64) -> Result<()> {
    setup::setup()?;
    let netboot = build(false)?;
    if is_root() {
        return lab(&netboot, deadline);
    }
    unlock_sudo("the lab (network namespaces, XDP)")?;
    let this = std::env::current_exe().context("find this program")?;
    // In place of this process: one program gets Ctrl-C, and cleans up.
    Err(as_root(this)?.arg("lab").arg(netboot).arg(deadline.to_string()).exec().into())
}

/// Sets up, builds, and serves with these arguments until it is stopped.
///
/// # Errors
/// When it cannot be built or started.
pub(crate) fn serve(arguments: &[String]) -> Result<()> {
    setup::setup()?;
    let netboot = build(true)?;
    unlock_sudo("netboot (raw frames, XDP, ports below 1024)")?;
    Err(as_root(netboot)?.arg("serve").args(arguments).exec().into())
}

fn build(release: bool) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--package", "netboot", "--locked"]).current_dir(xtask::root());
    if release {
        cargo.arg("--release");
    }
    loud(&mut cargo)?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| xtask::root().join("target"), PathBuf::from);
    Ok(target.join(if release { "release/netboot" } else { "debug/netboot" }))
}

/// The part that needs root: the lab, the server, the blade, and what they did.
///
/// # Errors
/// When the blade did not report its cloud-config; the error says why and where the logs are.
pub(crate) fn lab(netboot: &Path, deadline: u64) -> Result<()> {
    let stop = on_signal()?;
    for name in remove_leftovers()? {
        eprintln!("removed {name}, left by a run that was killed");
    }
    let logs = std::env::temp_dir().join(format!("netboot-run-{}", std::process::id()));
    // Not create_dir_all: a path that is there already is somebody else's.
    std::fs::create_dir(&logs).with_context(|| format!("create {}", logs.display()))?;
    match blade(netboot, Duration::from_secs(deadline), &logs, &stop) {
        Ok(()) => std::fs::remove_dir_all(&logs).with_context(|| format!("remove {}", logs.display())),
        Err(error) => {
            // The copies of the boot payload are of no use to anybody.
            let _ = std::fs::remove_dir_all(logs.join("data"));
            Err(error.context(format!("the blade did not boot; logs: {}", logs.display())))
        }
    }
}

fn blade(netboot: &Path, deadline: Duration, logs: &Path, stop: &AtomicBool) -> Result<()> {
    let data = logs.join("data");
    data_directory(&data)?;
    let lab = Lab::new()?;
    let mut screen = Screen::new();
    screen.say("lab", "a network of namespaces: netboot on 192.168.90.2, one blade");
    let mut server = Server::start(&lab, netboot, &data, &[])?;
    // What it said while it was waited for; the rest comes line by line.
    for line in server.child().output().lines() {
        screen.say("server", &sentence(line));
        if line.contains(READY) {
            break;
        }
    }
    let mut blade = Blade::start(&lab, BLADE, Accel::best(), &logs.join("kernel.log"))?;
    screen.say("lab", &format!("blade {BLADE} is switched on ({:?})", blade.accel()));
    let mut story = Story::new();
    let mut start = Instant::now();
    let mut off = false;
    let end = loop {
        while let Some(line) = server.next_line(Duration::ZERO) {
            story.server(&line);
            screen.say("server", &sentence(&line));
        }
        let accel = blade.accel();
        match blade.next_line(Duration::from_millis(50)) {
            Some(line) => {
                off = false;
                if blade.accel() != accel {
                    // Another machine, as far as times go.
                    (story, start) = (Story::new(), Instant::now());
                }
                story.console(&line);
                screen.say("blade", &line);
            }
            None if off => break Ok(()),
            None => off = blade.is_off(),
        }
        if stop.load(Ordering::Relaxed) {
            break Err(anyhow!("stopped by a signal"));
        }
        if start.elapsed() > deadline {
            break Err(anyhow!("no report within {} s (--deadline sets another time)", deadline.as_secs()));
        }
        if !server.is_running() {
            break Err(anyhow!("netboot ended"));
        }
    };
    let report = Report::parse(blade.console());
    std::fs::write(logs.join("console.log"), blade.console()).context("write console.log")?;
    std::fs::write(logs.join("server.log"), server.child().output()).context("write server.log")?;
    println!("\n{story}");
    end?;
    server.stop()?;
    let report = report.context("the blade went off without a report")?;
    let (hostname, address, status) =
        (report.field("hostname"), report.field("address"), report.field("status"));
    if !status.contains(" 200") || report.cloud_config.is_empty() {
        bail!("the blade {hostname} ({address}) got no cloud-config: {status}\n{}", report.cloud_config);
    }
    println!("booted     {hostname} has {address} and its cloud-config");
    Ok(())
}

/// A flag that SIGINT and SIGTERM set, so that namespaces and processes are cleaned up as at any other end.
pub(crate) fn on_signal() -> Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let (mut interrupt, mut terminate) = runtime.block_on(async {
        Ok::<_, std::io::Error>((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    })?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        flag.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}

/// What is shown as it happens: who, since when, what. In colour on a terminal.
struct Screen {
    start: Instant,
    colour: bool,
}

impl Screen {
    fn new() -> Self {
        Self { start: Instant::now(), colour: std::io::stdout().is_terminal() }
    }

    fn say(&mut self, who: &str, what: &str) {
        if what.trim().is_empty() {
            return;
        }
        let seconds = self.start.elapsed().as_secs_f32();
        let colour = match who {
            "server" => "36",
            "blade" => "33",
            _ => "2",
        };
        if self.colour {
            println!("\x1b[{colour}m{seconds:6.1} {who:<6} | {what}\x1b[0m");
        } else {
            println!("{seconds:6.1} {who:<6} | {what}");
        }
    }
}
