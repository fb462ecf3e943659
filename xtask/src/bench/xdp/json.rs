//! What was measured, for a script.

use serde_json::{Value, json};

use super::cost::Cost;
use super::edit::Edit;
use super::flood::{Flood, latency};
use super::rate::{Line, Rate, Turn};
use super::report::{Report, Start};
use super::targets::targets;
use crate::bench::contestant::Program;

impl Report {
    /// What `--json` prints.
    pub(super) fn json(&self) -> Value {
        let cost = |cost: &Cost| {
            json!({
                "traffic": cost.traffic, "hosts": cost.hosts, "ns": cost.nanos()[0], "taken": cost.taken(),
                "rounds": cost.turns.iter().map(|turn| turn.mean_ns).collect::<Vec<_>>(), "test_run_ns": cost.tests,
            })
        };
        let rate = |rate: &Rate| {
            let line = Line::of(&rate.turns);
            json!({
                "against": if rate.hosts == 0 { "reflector" } else { "netboot with XDP" }, "hosts": rate.hosts,
                "processors": rate.processors(), "of_ceiling": self.of_ceiling(rate.hosts, rate.apart),
                "sent_per_second": line.sent, "back_per_second": line.back, "invalid": line.invalid,
                "rounds": rate.turns.iter().map(Turn::rate).collect::<Vec<_>>(),
                "cpu_us": { "server": line.server, "generator": line.own, "machine": line.busy },
            })
        };
        let mut rows = Vec::new();
        for (number, start) in
            self.starts.iter().enumerate().filter(|(_, start)| start.first_millis.is_some())
        {
            for (clients, apart) in self.turns() {
                let row = self.samples(apart).row(number, clients);
                let [offer_p50, offer_p99, ack_p50, ack_p99] = row.latency;
                let times = |peer| {
                    self.number(peer, start.hosts)
                        .map(|peer| self.samples(apart).ratio(number, peer, clients))
                };
                rows.push(json!({
                    "server": start.who.name, "hosts": start.hosts, "clients": clients, "processors": if apart { 2 } else { 1 }, "dora_per_second": row.rate,
                    "to_dnsmasq": times(Program::Dnsmasq), "to_kea": times(Program::Kea),
                    "offer_us": { "p50": offer_p50, "p99": offer_p99 }, "ack_us": { "p50": ack_p50, "p99": ack_p99 },
                    "cpu_us": { "server": row.server_cpu, "client": row.client_cpu },
                    "done": row.done, "lost": row.lost, "invalid": row.invalid, "stray": row.stray,
                }));
            }
        }
        let start = |start: &Start| {
            let millis = start.first_millis.and_then(|millis| u64::try_from(millis).ok());
            json!({ "server": start.who.name, "hosts": start.hosts, "first_ack_ms": millis, "memory_kib": start.memory_kib })
        };
        let flood = |flood: &Flood| {
            let [offer_p50, offer_p99, ack_p50, ack_p99] = latency(flood);
            json!({
                "server": flood.who.name, "wanted_per_second": flood.wanted, "sent_per_second": flood.rate(),
                "offered": flood.offered(), "begun": flood.begun, "done": flood.tally.done, "lost": flood.tally.lost,
                "invalid": flood.tally.invalid, "memory_kib": flood.memory,
                "offer_us": { "p50": offer_p50, "p99": offer_p99 }, "ack_us": { "p50": ack_p50, "p99": ack_p99 },
            })
        };
        let edit = |edit: &Edit| {
            json!({
                "hosts": edit.hosts, "edit_ms": edit.millis,
                "at_start_us": { "build": edit.loaded[0], "write": edit.loaded[1] },
                "last_edit_us": { "build": edit.edited[0], "write": edit.edited[1] },
            })
        };
        let targets = targets(self).into_iter().map(|target| {
            json!({ "what": target.what, "goal": target.goal, "measured": target.measured, "reached": target.reached })
        });
        json!({
            "machine": self.machine, "seconds": self.seconds, "rounds": self.rounds, "hosts": self.hosts, "many": self.many,
            "kernel": self.costs.iter().map(cost).collect::<Vec<_>>(),
            "rates": self.rates.iter().map(rate).collect::<Vec<_>>(),
            "blades": rows, "starts": self.starts.iter().map(start).collect::<Vec<_>>(),
            "edits": self.edits.iter().map(edit).collect::<Vec<_>>(),
            "floods": self.floods.iter().map(flood).collect::<Vec<_>>(), "targets": targets.collect::<Vec<_>>(),
        })
    }
}
