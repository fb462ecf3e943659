//! `--scale`: netboot with as many machines and leases as a large site has: how long it takes to start, and its memory.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::blades::Blades;
use super::contestant::{ALL, Contestant, SERVER, Setting};
use super::dhcp::Options;
use super::drive::{START, drive};
use super::machine;
use super::samples::median;

/// Reservations.
pub(super) const HOSTS: u32 = 10_000;
/// Leases in the store.
pub(super) const LEASES: u32 = 50_000;
/// What is to be reached: milliseconds from start to ready, and MiB of memory.
const MOST: (f64, f64) = (1000.0, 150.0);
/// Clients that ask while the memory grows.
const CLIENTS: usize = 256;

/// One start.
#[derive(Clone, Copy, Debug)]
struct Start {
    ready: Duration,
    /// KiB in use when ready, after it has answered, and the most there ever was.
    memory: [u64; 3],
    answered: u64,
}

/// Starts netboot with XDP and without, round by round, and returns the table.
///
/// # Errors
/// When it cannot be set up or does not serve; the error has its log.
pub(super) fn measure(
    setting: &Setting<'_>,
    options: &Options,
    work: &Path,
    stop: &AtomicBool,
) -> Result<(String, Value)> {
    let setting = Setting { hosts: HOSTS, leases: LEASES, ..*setting };
    let netboot: Vec<&Contestant> = ALL.iter().filter(|who| who.reserved && who.is_netboot()).collect();
    let mut starts: Vec<Vec<Start>> = vec![Vec::new(); netboot.len()];
    for round in 0..options.rounds {
        for (number, who) in netboot.iter().enumerate() {
            let home = work.join(format!("scale-{round}-{number}"));
            let start = one(who, &setting, &home, Duration::from_secs(options.seconds), stop)
                .with_context(|| format!("{} with {HOSTS} machines and {LEASES} leases", who.name))?;
            eprintln!("  round {} {:<18} ready in {:?}", round + 1, who.name, start.ready);
            if let Some(list) = starts.get_mut(number) {
                list.push(start);
            }
            std::fs::remove_dir_all(&home).with_context(|| format!("remove {}", home.display()))?;
        }
    }
    Ok(report(&netboot, &starts, options.rounds))
}

fn one(
    who: &Contestant,
    setting: &Setting<'_>,
    home: &Path,
    time: Duration,
    stop: &AtomicBool,
) -> Result<Start> {
    let running = who.start(setting, home)?;
    let started = running.started;
    let ready = running.inside(move || healthy(started))?;
    let ready = ready.with_context(|| format!("its log:\n{}", running.log()))?;
    let at_start = running.memory_kib("VmRSS").unwrap_or_default();
    let mut blades = Blades::new(running.plan);
    drive(&running, &mut blades, CLIENTS, time, time, stop)?;
    running.cpu()?;
    let memory = ["VmRSS", "VmHWM"].map(|what| running.memory_kib(what).unwrap_or_default());
    anyhow::ensure!(blades.tally.done > 0, "it answers nobody; its log:\n{}", running.log());
    anyhow::ensure!(blades.tally.invalid == 0, "{} invalid replies", blades.tally.invalid);
    Ok(Start { ready, memory: [at_start, memory[0], memory[1]], answered: blades.tally.done })
}

/// Asks for its health until it says that it serves; returns how long after its start that was.
fn healthy(started: Instant) -> Result<Duration> {
    let place = SocketAddr::from((SERVER, 8080));
    while started.elapsed() < START {
        if let Ok(mut stream) = TcpStream::connect_timeout(&place, START) {
            let mut answer = String::new();
            stream.set_read_timeout(Some(START))?;
            let asked =
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
            if asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.contains(" 200 ") {
                return Ok(started.elapsed());
            }
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    anyhow::bail!("not ready within {} s", START.as_secs())
}

#[allow(clippy::cast_precision_loss, reason = "KiB of a process")]
fn report(netboot: &[&Contestant], starts: &[Vec<Start>], rounds: u64) -> (String, Value) {
    let machine = machine();
    let mut text = format!(
        "{machine}; {HOSTS} machines, {LEASES} leases in the store, {rounds} starts; to reach: {} s and {} MiB\n\n\
         | server | start to ready, ms | (slowest) | memory when ready, MiB | after answering | most | exchanges |\n\
         |---|--:|--:|--:|--:|--:|--:|\n",
        MOST.0 / 1000.0,
        MOST.1
    );
    let mut rows = Vec::new();
    for (who, starts) in netboot.iter().zip(starts) {
        let millis: Vec<f64> = starts.iter().map(|start| start.ready.as_secs_f64() * 1000.0).collect();
        let (middle, slowest) = (median(&millis), millis.iter().copied().fold(0.0, f64::max));
        let most = |of: usize| {
            starts
                .iter()
                .filter_map(|start| start.memory.get(of))
                .max()
                .map_or(0.0, |kib| *kib as f64 / 1024.0)
        };
        let answered: u64 = starts.iter().map(|start| start.answered).sum();
        let [ready, after, peak] = [most(0), most(1), most(2)];
        let _ = writeln!(
            text,
            "| {} | {middle:.0} | ({slowest:.0}) | {ready:.0} | {after:.0} | {peak:.0} | {answered} |",
            who.name
        );
        rows.push(json!({
            "server": who.name, "ready_ms": middle, "slowest_ms": slowest, "ready_mib": ready,
            "answered_mib": after, "most_mib": peak, "exchanges": answered,
            "reached": slowest < MOST.0 && peak < MOST.1,
        }));
    }
    (text, json!({ "machine": machine, "hosts": HOSTS, "leases": LEASES, "starts": rows }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ALL, Start, report};

    #[test]
    fn the_worst_of_all_starts_counts() {
        let start = |millis, kib| Start {
            ready: Duration::from_millis(millis),
            memory: [kib, kib * 2, kib * 3],
            answered: 5,
        };
        let (text, json) =
            report(&[&ALL[0]], &[vec![start(100, 1024), start(300, 2048), start(1200, 1024)]], 3);
        assert!(text.contains("| netboot --xdp off | 300 | (1200) | 2 | 4 | 6 | 15 |"), "{text}");
        assert_eq!(json["starts"][0]["reached"], false);
    }
}
