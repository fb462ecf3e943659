//! What was measured, as a table for people and as JSON. Ratios are of one round's neighbours, the median of all rounds.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::contestant::{ALL, Contestant, Program};
use super::dhcp::CLIENTS;
use super::samples::{Sample, Samples, median};

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) seconds: u64,
    pub(super) rounds: usize,
    pub(super) hosts: u32,
    pub(super) logs: bool,
    /// What it ran on.
    pub(super) machine: String,
    pub(super) samples: Samples,
    /// From start to the first exchange, milliseconds, and KiB of memory in use at the end; for each contestant.
    pub(super) starts: Vec<(u128, u64)>,
    /// The most exchanges a second that were all answered in time, for each contestant.
    pub(super) lossless: Vec<f64>,
}

impl Report {
    /// Where the search for a contestant's lossless rate begins.
    pub(super) fn guess(&self, contestant: usize) -> f64 {
        let rates: Vec<f64> = self.samples.of(contestant, 32).map(Sample::rate).collect();
        median(&rates) / 2.0
    }

    /// The lossless rate of a contestant, and in units of Kea's with the same addresses.
    pub(super) fn lossless(&self, contestant: usize) -> (f64, f64) {
        let of = |number: usize| self.lossless.get(number).copied().unwrap_or_default();
        let reserved = ALL.get(contestant).is_some_and(|who| who.reserved);
        let kea = ALL.iter().position(|who| who.program == Program::Kea && who.reserved == reserved);
        (of(contestant), of(contestant) / kea.map_or(0.0, of))
    }

    /// (netboot, the other), each by its number.
    fn pairs() -> impl Iterator<Item = (usize, usize)> {
        let netboot = ALL.iter().enumerate().filter(|(_, who)| who.is_netboot());
        netboot.flat_map(move |(one, netboot)| {
            let others = ALL.iter().enumerate();
            others
                .filter(move |(_, other)| !other.is_netboot() && other.reserved == netboot.reserved)
                .map(move |(other, _)| (one, other))
        })
    }

    /// The table.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}; rounds: {} of {} s a measurement, {} machines, {}; times in µs, CPU in µs an exchange\n\n\
             | addresses | server | clients | DORA/s | (slowest–fastest) | OFFER p50 | p99 | ACK p50 | p99 | CPU server | + client | lost | invalid | stray |\n\
             |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            self.machine,
            self.rounds,
            self.seconds,
            self.hosts,
            if self.logs { "each logs as it ships, into a file" } else { "each logs warnings alone" },
        );
        for (number, who) in ALL.iter().enumerate() {
            for clients in CLIENTS {
                let row = self.samples.row(number, clients);
                let [a, b, c, d] = row.latency;
                let _ = writeln!(
                    text,
                    "| {} | {} | {clients} | {:.0} | ({:.0}–{:.0}) | {a} | {b} | {c} | {d} | {:.0} | {:.0} | {} | {} | {} |",
                    who.kind(),
                    who.name,
                    row.rate,
                    row.slowest,
                    row.fastest,
                    row.server_cpu,
                    row.server_cpu + row.client_cpu,
                    row.lost,
                    row.invalid,
                    row.stray,
                );
            }
        }
        text.push_str(
            "\n| addresses | DORA/s of | in units of | 1 client | 32 | 256 |\n|---|---|---|--:|--:|--:|\n",
        );
        for (one, other) in Self::pairs() {
            let (Some(who), Some(peer)) = (ALL.get(one), ALL.get(other)) else { continue };
            let _ = write!(text, "| {} | {} | {} |", who.kind(), who.name, peer.name);
            for clients in CLIENTS {
                let _ = write!(text, " {:.2} |", self.samples.ratio(one, other, clients));
            }
            text.push('\n');
        }
        text.push_str("\n| addresses | server | lossless DORA/s | in units of Kea's |\n|---|---|--:|--:|\n");
        for (number, who) in ALL.iter().enumerate() {
            let (rate, ratio) = self.lossless(number);
            let _ = writeln!(text, "| {} | {} | {rate:.0} | {ratio:.2} |", who.kind(), who.name);
        }
        text.push_str(
            "\n| addresses | server | start to first ACK, ms | memory at the end, MiB |\n|---|---|--:|--:|\n",
        );
        for (who, (millis, kib)) in ALL.iter().zip(&self.starts) {
            let _ = writeln!(text, "| {} | {} | {millis} | {} |", who.kind(), who.name, kib / 1024);
        }
        text
    }

    /// The same for a script.
    pub(super) fn json(&self) -> Value {
        let mut rows = Vec::new();
        for (number, who) in ALL.iter().enumerate() {
            for clients in CLIENTS {
                let row = self.samples.row(number, clients);
                let [offer_p50, offer_p99, ack_p50, ack_p99] = row.latency;
                rows.push(json!({
                    "server": who.name, "addresses": who.kind(), "clients": clients, "dora_per_second": row.rate,
                    "rounds": self.samples.of(number, clients).map(Sample::rate).collect::<Vec<_>>(),
                    "offer_us": { "p50": offer_p50, "p99": offer_p99 }, "ack_us": { "p50": ack_p50, "p99": ack_p99 },
                    "cpu_us": { "server": row.server_cpu, "client": row.client_cpu },
                    "done": row.done, "lost": row.lost, "invalid": row.invalid, "stray": row.stray,
                }));
            }
        }
        let mut ratios = Vec::new();
        for (one, other) in Self::pairs() {
            let (Some(who), Some(peer)) = (ALL.get(one), ALL.get(other)) else { continue };
            for clients in CLIENTS {
                ratios.push(json!({
                    "server": who.name, "to": peer.name, "addresses": who.kind(), "clients": clients,
                    "dora_per_second": self.samples.ratio(one, other, clients),
                }));
            }
        }
        let lossless = |(number, who): (usize, &Contestant)| {
            let (rate, ratio) = self.lossless(number);
            json!({ "server": who.name, "addresses": who.kind(), "dora_per_second": rate, "to_kea": ratio })
        };
        let start = |(who, (millis, kib)): (&Contestant, &(u128, u64))| {
            let millis = u64::try_from(*millis).unwrap_or(u64::MAX);
            json!({ "server": who.name, "addresses": who.kind(), "first_ack_ms": millis, "memory_kib": kib })
        };
        json!({
            "machine": self.machine, "seconds": self.seconds, "rounds": self.rounds, "hosts": self.hosts, "logs": self.logs,
            "rows": rows, "ratios": ratios, "lossless": ALL.iter().enumerate().map(lossless).collect::<Vec<_>>(),
            "starts": ALL.iter().zip(&self.starts).map(start).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ALL, CLIENTS, Report, Sample};
    use crate::bench::blades::Tally;

    #[test]
    fn ratios_are_of_one_round() {
        let mut report = Report { rounds: 3, starts: vec![(1, 2048); ALL.len()], ..Report::default() };
        report.lossless = (1..).map(f64::from).map(|number| number * 300.0).take(ALL.len()).collect();
        // The machine gets slower from round to round, for all alike.
        for speed in [400, 200, 100] {
            for contestant in 0..ALL.len() {
                for clients in CLIENTS {
                    let done = speed * (7 - contestant as u64);
                    let tally = Tally { done, offers: vec![5], acks: vec![6], ..Tally::default() };
                    let second = Duration::from_secs(1);
                    let micros = Duration::from_micros(done);
                    report.samples.0.push(Sample {
                        contestant,
                        clients,
                        in_time: done,
                        took: second,
                        tally,
                        server_cpu: micros,
                        client_cpu: micros,
                    });
                }
            }
        }
        assert!((report.samples.ratio(0, 3, 32) - 7.0 / 4.0).abs() < 1e-9);
        let text = report.text();
        assert!(
            text.contains(
                "| reserved | dnsmasq | 32 | 800 | (400–1600) | 5 | 5 | 6 | 6 | 1 | 2 | 0 | 0 | 0 |"
            ),
            "{text}"
        );
        assert!(text.contains("| pool | dnsmasq | 2100 | 1.17 |"), "of the pool's Kea\n{text}");
        let json = report.json();
        assert_eq!(json["lossless"].as_array().unwrap().len(), ALL.len());
        // Two reserved and one pool set-up of netboot, against two others each.
        assert_eq!(json["ratios"].as_array().unwrap().len(), 3 * 2 * CLIENTS.len());
        assert_eq!(json["rows"].as_array().unwrap().len(), ALL.len() * CLIENTS.len());
    }
}
