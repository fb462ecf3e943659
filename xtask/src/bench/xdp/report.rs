//! What was measured, as tables for people.

use std::fmt::Write as _;
use std::time::Duration;

use super::cost::Cost;
use super::edit::Edit;
use super::flood::{Flood, latency};
use super::rate::{Line, Rate};
use super::targets::{ALL_TAKEN, targets};
use crate::bench::contestant::{Contestant, Program};
use crate::bench::samples::{Samples, median};

/// How many blades ask at a time, and whether what they send is handed to another processor.
pub(super) const TURNS: [(usize, bool); 3] = [(1, false), (32, false), (32, true)];
/// The flood, in units of dnsmasq's rate.
const FLOOD: f64 = 10.0;
/// It is not slower than this, however slow dnsmasq was.
const LEAST_FLOOD: f64 = 1000.0;

/// A server that was started.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) who: Contestant,
    pub(super) hosts: u32,
    /// From its start to the first ACK; `None`: it was not tried, or did not answer in time.
    pub(super) first_millis: Option<u128>,
    /// In use then.
    pub(super) memory_kib: u64,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) seconds: u64,
    pub(super) rounds: u64,
    pub(super) hosts: u32,
    pub(super) many: u32,
    /// What it ran on.
    pub(super) machine: String,
    pub(super) starts: Vec<Start>,
    /// Each with the place of its server in `starts`.
    pub(super) samples: Samples,
    /// The same on two processors; there may be one alone.
    pub(super) apart: Samples,
    /// On one processor, then on two.
    pub(super) rates: Vec<Rate>,
    pub(super) costs: Vec<Cost>,
    pub(super) edits: Vec<Edit>,
    pub(super) floods: Vec<Flood>,
}

impl Report {
    /// What the blades measured on one processor, or on two.
    pub(super) fn samples(&self, apart: bool) -> &Samples {
        if apart { &self.apart } else { &self.samples }
    }

    /// The same, for more of it.
    pub(super) fn samples_mut(&mut self, apart: bool) -> &mut Samples {
        if apart { &mut self.apart } else { &mut self.samples }
    }

    /// The turns that there were on this machine.
    pub(super) fn turns(&self) -> impl Iterator<Item = (usize, bool)> + use<> {
        let two = !self.apart.0.is_empty();
        TURNS.into_iter().filter(move |turn| two || !turn.1)
    }

    /// The place of a server that served so many machines.
    pub(super) fn number(&self, program: Program, hosts: u32) -> Option<usize> {
        self.starts.iter().position(|start| {
            start.who.program == program && start.hosts == hosts && start.first_millis.is_some()
        })
    }

    /// DISCOVERs a second of the flood.
    pub(super) fn flood_rate(&self) -> f64 {
        let dnsmasq = self.number(Program::Dnsmasq, self.hosts);
        let rate = dnsmasq.map_or(0.0, |number| self.samples.row(number, 32).rate);
        (rate * FLOOD).max(LEAST_FLOOD)
    }

    /// What came back of a line, as a share of what the reflector sends back on as many processors.
    pub(super) fn of_ceiling(&self, hosts: u32, apart: bool) -> f64 {
        let line = |hosts| self.rates.iter().find(|rate| rate.hosts == hosts && rate.apart == apart);
        let Some((ours, ceiling)) = line(hosts).zip(line(0)) else { return 0.0 };
        let pairs = ours.turns.iter().zip(&ceiling.turns);
        median(&pairs.map(|(ours, ceiling)| ours.rate() / ceiling.rate()).collect::<Vec<_>>())
    }

    /// The tables.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}; rounds: {} of {} s a measurement, {} and {} machines\n\n",
            self.machine, self.rounds, self.seconds, self.hosts, self.many
        );
        self.cost_table(&mut text);
        self.rate_table(&mut text);
        self.blades_table(&mut text);
        self.edit_table(&mut text);
        self.flood_table(&mut text);
        text.push_str("| to reach | goal | measured | |\n|---|--:|--:|---|\n");
        for target in targets(self) {
            let (what, goal, measured) = (&target.what, &target.goal, &target.measured);
            let _ = writeln!(text, "| {what} | {goal} | {measured} | {} |", target.verdict());
        }
        text
    }

    fn cost_table(&self, text: &mut String) {
        text.push_str(
            "| traffic | machines | ns a run | (lowest–highest) | taken by the program | by TestRun, ns |\n\
             |---|--:|--:|--:|--:|--:|\n",
        );
        let mut mixed = false;
        for cost in &self.costs {
            let [middle, low, high] = cost.nanos();
            let tests =
                if cost.tests.is_empty() { "–".to_owned() } else { format!("{:.0}", median(&cost.tests)) };
            let _ = writeln!(
                text,
                "| {} | {} | {middle:.0} | ({low:.0}–{high:.0}) | {} | {tests} |",
                cost.traffic,
                machines(cost.hosts),
                if cost.is_passed() { "–".to_owned() } else { format!("{:.1} %", cost.taken() * 100.0) },
            );
            mixed |= !cost.is_passed() && cost.taken() < ALL_TAKEN;
        }
        if mixed {
            text.push_str(
                "\nNot all machines had their replies in the program's map, so that its number is not that of replies alone.\n",
            );
        }
        text.push('\n');
    }

    fn rate_table(&self, text: &mut String) {
        text.push_str(
            "| generator against | processors | sent/s | back/s | (slowest–fastest) | of the ceiling | CPU server, µs each | + generator | whole machine | invalid |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for rate in &self.rates {
            let line = Line::of(&rate.turns);
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {:.0} | ({:.0}–{:.0}) | {:.0} % | {:.2} | {:.2} | {:.2} | {} |",
                rate.name(),
                rate.processors(),
                line.sent,
                line.back,
                line.slowest,
                line.fastest,
                self.of_ceiling(rate.hosts, rate.apart) * 100.0,
                line.server,
                line.server + line.own,
                line.busy,
                line.invalid,
            );
        }
        text.push('\n');
    }

    fn blades_table(&self, text: &mut String) {
        text.push_str(
            "| server | machines | clients | processors | DORA/s | (slowest–fastest) | × dnsmasq | × Kea | OFFER p50, µs | p99 | ACK p50 | p99 | CPU server, µs an exchange | + client | lost | invalid |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for (number, start) in self.starts.iter().enumerate() {
            let name = start.who.name;
            if start.first_millis.is_none() {
                let _ = writeln!(
                    text,
                    "| {name} | {} | – | – | no ACK within a minute, or not tried |{}",
                    start.hosts,
                    " – |".repeat(11)
                );
                continue;
            }
            for (clients, apart) in self.turns() {
                let samples = self.samples(apart);
                let row = samples.row(number, clients);
                let times = |peer| match self.number(peer, start.hosts) {
                    Some(peer) => format!("{:.1}", samples.ratio(number, peer, clients)),
                    None => "–".to_owned(),
                };
                let [a, b, c, d] = row.latency;
                let _ = writeln!(
                    text,
                    "| {name} | {} | {clients} | {} | {:.0} | ({:.0}–{:.0}) | {} | {} | {a} | {b} | {c} | {d} | {:.0} | {:.0} | {} | {} |",
                    start.hosts,
                    if apart { 2 } else { 1 },
                    row.rate,
                    row.slowest,
                    row.fastest,
                    times(Program::Dnsmasq),
                    times(Program::Kea),
                    row.server_cpu,
                    row.server_cpu + row.client_cpu,
                    row.lost,
                    row.invalid,
                );
            }
        }
        text.push_str(
            "\n| server | machines | start to first ACK, ms | memory then, MiB |\n|---|--:|--:|--:|\n",
        );
        for start in &self.starts {
            let millis = start.first_millis.map_or_else(|| "–".to_owned(), |millis| millis.to_string());
            let (name, hosts, mib) = (start.who.name, start.hosts, start.memory_kib / 1024);
            let _ = writeln!(text, "| {name} | {hosts} | {millis} | {mib} |");
        }
        text.push('\n');
    }

    fn edit_table(&self, text: &mut String) {
        text.push_str(
            "| machines | maps at the start: built, ms | written, ms | edit of one machine to its answer, ms | maps then: built, ms | written, ms |\n\
             |---|--:|--:|--:|--:|--:|\n",
        );
        for edit in &self.edits {
            let [built, written] = edit.loaded.map(millis);
            let [built_then, written_then] = edit.edited.map(millis);
            let _ = writeln!(
                text,
                "| {} | {built:.1} | {written:.1} | {:.0} | {built_then:.1} | {written_then:.1} |",
                edit.hosts,
                edit.middle(),
            );
        }
        text.push('\n');
    }

    fn flood_table(&self, text: &mut String) {
        text.push_str(
            "| in the flood | unknown machines/s | of them offered | exchanges of reserved ones | done | lost | invalid | OFFER p50, µs | p99 | ACK p50 | p99 | memory before, KiB | half-way | after |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for flood in &self.floods {
            let [a, b, c, d] = latency(flood);
            let [before, half, after] = flood.memory;
            let _ = writeln!(
                text,
                "| {} | {:.0} | {:.0} % | {} | {} | {} | {} | {a} | {b} | {c} | {d} | {before} | {half} | {after} |",
                flood.who.name,
                flood.rate(),
                flood.offered() * 100.0,
                flood.begun,
                flood.tally.done,
                flood.tally.lost,
                flood.tally.invalid,
            );
        }
        text.push('\n');
    }
}

/// Microseconds as milliseconds.
pub(super) fn millis(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1000.0
}

fn machines(hosts: u32) -> String {
    if hosts == 0 { "–".to_owned() } else { hosts.to_string() }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::cost::{self, Cost, TRAFFIC};
    use super::super::flood::Flood;
    use super::super::rate::{Rate, Turn};
    use super::{Report, Start, TURNS};
    use crate::bench::blades::Tally;
    use crate::bench::contestant::ALL;
    use crate::bench::samples::Sample;

    /// A run in which most went well: XDP 30,000, off 1000, Kea 200, dnsmasq 100 exchanges a second.
    pub(in crate::bench::xdp) fn report() -> Report {
        let second = Duration::from_secs(1);
        let mut report = Report { seconds: 1, rounds: 1, hosts: 1000, many: 100_000, ..Report::default() };
        for hosts in [1000, 100_000] {
            for (who, in_time, micros) in [(0, 1000, 50), (1, 30_000, 2), (2, 200, 80), (3, 100, 100)] {
                for (clients, apart) in TURNS {
                    let number = report.starts.len();
                    let tally =
                        Tally { done: in_time, offers: vec![micros], acks: vec![9], ..Tally::default() };
                    report.samples_mut(apart).0.push(Sample {
                        contestant: number,
                        clients,
                        in_time,
                        took: second,
                        tally,
                        server_cpu: second,
                        client_cpu: second,
                    });
                }
                report.starts.push(Start { who: ALL[who], hosts, first_millis: Some(70), memory_kib: 2048 });
            }
        }
        for (hosts, apart, back) in [
            (0, false, 600_000),
            (1000, false, 300_000),
            (100_000, false, 200_000),
            (0, true, 800_000),
            (1000, true, 200_000),
        ] {
            let turn = Turn {
                sent: 600_000,
                back,
                invalid: 0,
                took: second,
                server_cpu: Duration::ZERO,
                own_cpu: second,
                busy: second * 2,
            };
            report.rates.push(Rate { hosts, apart, turns: vec![turn] });
        }
        for (hosts, nanos) in
            [(1000, [240.0, 250.0, 41.0, 15.0, 13.0]), (100_000, [390.0, 399.0, 39.0, 15.0, 13.0])]
        {
            for ((kind, traffic), mean_ns) in TRAFFIC.into_iter().zip(nanos) {
                let mut cost = Cost::new(traffic, Some(kind), hosts);
                cost.turns.push(cost::Turn { mean_ns, taken: 1.0 });
                report.costs.push(cost);
            }
        }
        let mut least = Cost::new("a program of two instructions", None, 0);
        least.turns.push(cost::Turn { mean_ns: 48.0, taken: 0.0 });
        report.costs.push(least);
        report.floods.push(Flood {
            who: ALL[1],
            wanted: 1000.0,
            sent: 3000,
            took: second * 3,
            offered: 1500,
            begun: 500,
            tally: Tally { done: 500, offers: vec![4], acks: vec![5], ..Tally::default() },
            memory: [10_000, 10_500, 10_600],
        });
        report
    }

    #[test]
    fn every_line_has_every_column() {
        let mut report = report();
        report.starts[7].first_millis = None;
        let text = report.text();
        let mut columns = 0;
        for line in text.lines() {
            let here = line.matches('|').count();
            assert!(columns == 0 || here == 0 || here == columns, "{here} columns, not {columns}: {line}");
            columns = here;
        }
        let table = "| netboot with XDP | 1000 | 32 | 2 | 30000 | (30000–30000) | 300.0 | 150.0 | 2 | 2 | 9 | 9 | 33 | 67 | 0 | 0 |";
        assert!(text.contains(table), "{text}");
        assert!(text.contains("| netboot, 100000 machines | 1 | 600000 | 200000 | (200000–200000) | 33 % | 0.00 | 5.00 | 10.00 | 0 |"), "{text}");
        assert!(
            text.contains(
                "| miss: unknown MAC, 1000 machines | ≤ 40 ns | 41 ns (two instructions: 48) | **missed** |"
            ),
            "{text}"
        );
        assert!(text.contains("| netboot with XDP | 1000 | 50 % | 500 | 500 | 0 | 0 | 4 | 4 | 5 | 5 | 10000 | 10500 | 10600 |"), "{text}");
    }

    #[test]
    fn the_flood_is_ten_times_what_dnsmasq_does() {
        let mut report = report();
        assert!((report.flood_rate() - 1000.0).abs() < 1e-9);
        report
            .samples
            .0
            .iter_mut()
            .filter(|sample| sample.contestant == 3)
            .for_each(|sample| sample.in_time = 500);
        assert!((report.flood_rate() - 5000.0).abs() < 1e-9);
        report.starts[3].first_millis = None;
        assert!((report.flood_rate() - 1000.0).abs() < 1e-9, "no dnsmasq, and a flood nevertheless");
    }

    #[test]
    fn a_script_gets_all_of_it() {
        let json = report().json();
        for (name, count) in
            [("kernel", 11), ("rates", 5), ("blades", 24), ("starts", 8), ("floods", 1), ("targets", 20)]
        {
            assert_eq!(json[name].as_array().unwrap().len(), count, "{name}");
        }
        assert_eq!(json["blades"][5]["to_kea"], 150.0);
    }
}
