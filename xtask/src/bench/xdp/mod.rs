//! `cargo xtask bench xdp`: what the XDP program costs, how fast it answers, and what that is beside Kea, dnsmasq and the
//! daemon alone, for a site and a large site, in turns in one run.

mod apart;
mod bpf;
mod cost;
mod edit;
mod flood;
mod frames;
mod generator;
mod json;
mod rate;
mod reflector;
mod report;
mod targets;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::blades::Blades;
use super::contestant::{ALL, Contestant, MOST_HOSTS, MOST_OF_ALL, Program, Running, Setting};
use super::drive::{first, sample};
use super::machine;
use super::samples::Sample;
use apart::Apart;
use bpf::{Action, count_runs};
use cost::{Cost, TRAFFIC};
use frames::Kind;
use generator::Generator;
use rate::Rate;
use reflector::Reflector;
use report::{Report, Start, TURNS};

/// What can be set.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Rounds; in each every server and every kind of traffic has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    rounds: u64,
    /// Machines with reservations.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(256..=i64::from(MOST_HOSTS)))]
    hosts: u32,
    /// Machines with reservations of a large site.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(256..=i64::from(MOST_OF_ALL)))]
    many: u32,
    /// One round of a second each, and no Kea or dnsmasq with a large site.
    #[arg(long)]
    quick: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    /// As they were typed, for the part that needs root.
    pub(super) fn words(&self) -> Vec<String> {
        let numbers = [
            ("--seconds", self.seconds),
            ("--rounds", self.rounds),
            ("--hosts", self.hosts.into()),
            ("--many", self.many.into()),
        ];
        let mut words: Vec<String> =
            numbers.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]).collect();
        for (set, name) in [(self.quick, "--quick"), (self.json, "--json")] {
            words.extend(set.then(|| name.to_owned()));
        }
        words
    }
}

/// A server that serves.
struct Served {
    /// Its place in the report.
    number: usize,
    who: Contestant,
    hosts: u32,
    running: Running,
    blades: Blades,
}

/// Measures, and returns the tables and the JSON.
///
/// # Errors
/// When something cannot be set up, or netboot does not serve; the error has its log.
pub(super) fn run(
    setting: &Setting<'_>,
    options: &Options,
    work: &Path,
    stop: &AtomicBool,
) -> Result<(String, Value)> {
    let (seconds, rounds) = if options.quick { (1, 1) } else { (options.seconds, options.rounds) };
    let options = &Options { seconds, rounds, ..options.clone() };
    let mut report = Report {
        seconds,
        rounds,
        hosts: options.hosts,
        many: options.many,
        machine: machine(),
        ..Report::default()
    };
    let mut served = start(setting, options, work, &mut report, stop)?;
    let reflector = Reflector::new(setting.peers, Action::Reflect)?;
    let empty = Reflector::new(setting.peers, Action::Pass)?;
    blades(&mut served, false, options, &mut report, stop)?;
    rates(&served, &reflector, false, options, &mut report, stop)?;
    let apart = Apart::new()?;
    if let Some(apart) = &apart {
        let all = served.iter().map(|server| server.running.namespace());
        for namespace in all.chain([reflector.namespace(), empty.namespace()]) {
            apart.receive(namespace)?;
        }
        blades(&mut served, true, options, &mut report, stop)?;
        rates(&served, &reflector, true, options, &mut report, stop)?;
    }
    costs(&served, &empty, options, &mut report, stop)?;
    edits(&served, options, work, &mut report)?;
    drop((apart, served));
    floods(setting, options, work, &mut report, stop)?;
    Ok((report.text(), report.json()))
}

/// Starts all servers, each for both sites. Of Kea and dnsmasq it is noted when they cannot serve a large one.
fn start(
    setting: &Setting<'_>,
    options: &Options,
    work: &Path,
    report: &mut Report,
    stop: &AtomicBool,
) -> Result<Vec<Served>> {
    let mut served = Vec::new();
    for hosts in [options.hosts, options.many] {
        for who in ALL.into_iter().filter(|who| who.reserved) {
            let number = report.starts.len();
            let mut start = Start { who, hosts, first_millis: None, memory_kib: 0 };
            if options.quick && hosts == options.many && !who.is_netboot() {
                report.starts.push(start);
                continue;
            }
            let running = who.start(&Setting { hosts, ..*setting }, &work.join(number.to_string()))?;
            let mut blades = Blades::shuffled(running.plan);
            match first(&running, &mut blades, stop) {
                Ok(()) => {
                    start.first_millis = Some(running.started.elapsed().as_millis());
                    start.memory_kib = running.memory_kib("VmRSS").unwrap_or_default();
                    served.push(Served { number, who, hosts, running, blades });
                }
                Err(error) if who.is_netboot() || hosts != options.many => {
                    return Err(error).with_context(|| format!("start {} with {hosts} machines", who.name));
                }
                Err(error) => eprintln!("  {} with {hosts} machines: {error:#}", who.name),
            }
            if let Some(millis) = start.first_millis {
                eprintln!("  {} with {hosts} machines: first ACK after {millis} ms", who.name);
            }
            report.starts.push(start);
        }
    }
    Ok(served)
}

/// Virtual blades.
fn blades(
    served: &mut [Served],
    apart: bool,
    options: &Options,
    report: &mut Report,
    stop: &AtomicBool,
) -> Result<()> {
    for round in 0..options.rounds {
        for (clients, _) in TURNS.into_iter().filter(|turn| turn.1 == apart) {
            // Another one begins each time.
            served.rotate_left(1);
            for Served { number, who, hosts, running, blades } in &mut *served {
                let time = Duration::from_secs(options.seconds);
                let sample = sample(running, blades, clients, time, stop)
                    .with_context(|| format!("measure {} with {hosts} machines", who.name))?;
                eprintln!(
                    "  round {} {:<18} {hosts:>6} machines {clients:>3} clients, {}: {:>8.0} DORA/s, {} lost, {} invalid",
                    round + 1,
                    who.name,
                    if apart { "2 processors" } else { "1 processor" },
                    sample.rate(),
                    sample.tally.lost,
                    sample.tally.invalid,
                );
                report.samples_mut(apart).0.push(Sample { contestant: *number, ..sample });
            }
        }
    }
    Ok(())
}

/// The servers whose replies come from the kernel.
fn with_xdp(served: &[Served]) -> Vec<&Served> {
    let mut found: Vec<&Served> =
        served.iter().filter(|server| server.who.program == Program::Netboot { xdp: true }).collect();
    // Whoever began the last turn.
    found.sort_by_key(|server| server.number);
    found
}

/// The generator against the program and against the reflector.
fn rates(
    served: &[Served],
    reflector: &Reflector,
    apart: bool,
    options: &Options,
    report: &mut Report,
    stop: &AtomicBool,
) -> Result<()> {
    let Some(any) = served.first() else { return Ok(()) };
    let mut lines = vec![(None, Generator::new(Kind::Discover, any.running.plan))];
    for server in with_xdp(served) {
        lines.push((Some(server), Generator::new(Kind::Discover, server.running.plan)));
    }
    let mut rates: Vec<Rate> = lines
        .iter()
        .map(|(server, _)| Rate { hosts: server.map_or(0, |server| server.hosts), apart, turns: Vec::new() })
        .collect();
    for round in 0..options.rounds {
        for ((server, generator), rate) in lines.iter_mut().zip(&mut rates) {
            let running = server.map(|server| &server.running);
            let wire = running.map_or(&reflector.wire, |running| &running.wire);
            let turn = rate::turn(wire, generator, running, Duration::from_secs(options.seconds), stop)?;
            eprintln!("  round {} {:<31} {:>8.0}/s", round + 1, rate.name(), turn.rate());
            rate.turns.push(turn);
        }
    }
    report.rates.extend(rates);
    Ok(())
}

/// The kernel's own statistics.
fn costs(
    served: &[Served],
    empty: &Reflector,
    options: &Options,
    report: &mut Report,
    stop: &AtomicBool,
) -> Result<()> {
    let Some(any) = served.first() else { return Ok(()) };
    let mut lines = Vec::new();
    for one in with_xdp(served) {
        let (id, generic) = one.running.xdp_program()?;
        anyhow::ensure!(generic, "netboot's program is not attached in generic mode: this is not a veth");
        for (kind, traffic) in TRAFFIC {
            let program = bpf::Program::by_id(id).with_context(|| format!("open the BPF program {id}"))?;
            let generator = Generator::new(kind, one.running.plan);
            lines.push((Some((one, program)), generator, Cost::new(traffic, Some(kind), one.hosts)));
        }
    }
    let generator = Generator::new(Kind::Udp, any.running.plan);
    lines.push((None, generator, Cost::new("a program of two instructions", None, 0)));
    let counting = count_runs().context("make the kernel count the time of BPF programs (Linux 5.8)")?;
    for round in 0..options.rounds {
        for (of, generator, cost) in &mut lines {
            let (running, program, wire) = match of {
                Some((one, program)) => (Some(&one.running), &*program, &one.running.wire),
                None => (None, &empty.program, &empty.wire),
            };
            let turn = cost::turn(program, wire, generator, running, options.seconds, stop)
                .with_context(|| format!("measure {}, {} machines", cost.traffic, cost.hosts))?;
            eprintln!(
                "  round {} {:<30} {:>6} machines: {:>4.0} ns",
                round + 1,
                cost.traffic,
                cost.hosts,
                turn.mean_ns
            );
            cost.turns.push(turn);
        }
    }
    // Without the clock.
    drop(counting);
    for _ in 0..options.rounds {
        for (of, generator, cost) in &mut lines {
            let program = of.as_ref().map_or(&empty.program, |(_, program)| program);
            if cost.is_passed() {
                cost.tests.push(cost::test(program, generator).with_context(|| cost.traffic)?);
            }
        }
    }
    report.costs = lines.into_iter().map(|(.., cost)| cost).collect();
    Ok(())
}

/// Edits of the machines' file. The first of a large site comes behind all else: netboot reads it for a while.
fn edits(served: &[Served], options: &Options, work: &Path, report: &mut Report) -> Result<()> {
    for server in with_xdp(served) {
        let home = work.join(server.number.to_string());
        let edit = edit::edits(&server.running, &home, server.hosts, options.rounds)
            .with_context(|| format!("edit {} machines", server.hosts))?;
        eprintln!("  an edit of {:>6} machines: {:.0} ms", server.hosts, edit.middle());
        report.edits.push(edit);
    }
    Ok(())
}

/// Fresh servers, so that memory is that of the flood.
fn floods(
    setting: &Setting<'_>,
    options: &Options,
    work: &Path,
    report: &mut Report,
    stop: &AtomicBool,
) -> Result<()> {
    let wanted = report.flood_rate();
    for (number, who) in ALL.into_iter().filter(|who| who.reserved && who.is_netboot()).enumerate() {
        let setting = Setting { hosts: options.hosts, ..*setting };
        let running = who.start(&setting, &work.join(format!("flood-{number}")))?;
        // The same blades go on: no late answer is taken for another's.
        let mut blades = Blades::shuffled(running.plan);
        first(&running, &mut blades, stop).with_context(|| format!("start {}", who.name))?;
        let flood =
            flood::flood(who, &running, &mut blades, wanted, Duration::from_secs(options.seconds * 3), stop)
                .with_context(|| format!("flood {}", who.name))?;
        eprintln!(
            "  {:<18} {:.0} unknown machines/s: {} of {} exchanges of reserved ones done",
            who.name, wanted, flood.tally.done, flood.begun
        );
        report.floods.push(flood);
    }
    Ok(())
}
