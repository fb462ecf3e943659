//! What was measured, for a script.

use serde_json::{Value, json};

use super::report::{NETBOOT, Report, Whole};
use super::samples::Sample;
use super::server::{ALL, Program};
use super::targets::targets;

impl Report {
    /// What `--json` prints.
    pub(super) fn json(&self) -> Value {
        let (mut rows, mut ratios) = (Vec::new(), Vec::new());
        let every =
            self.offloads.iter().flat_map(|offloads| self.cases.iter().map(|case| (*offloads, *case)));
        for (offloads, case) in every {
            let load = json!({ "blksize": case.ask.blksize, "window": case.ask.window, "clients": case.clients, "offloads": offloads, "lost_of_thousand": case.loss });
            for program in ALL {
                let Some(line) = self.samples.line(program, offloads, case) else { continue };
                let rounds: Vec<f64> = self.samples.of(program, offloads, case).map(Sample::rate).collect();
                let granted =
                    line.granted.map(|(blksize, window)| json!({ "blksize": blksize, "window": window }));
                rows.push(json!({
                    "server": program.name(), "load": load, "granted": granted, "mb_per_second": line.rate, "rounds": rounds,
                    "cpu_us_per_mb": { "server": line.server_cpu, "client": line.client_cpu, "sum": line.cpu() },
                    "bytes": line.tally.bytes, "again": line.tally.again, "gaps": line.tally.gaps,
                    "timeouts": line.tally.timeouts, "unanswered": line.tally.unanswered, "errors": line.errors, "error": line.error,
                    "slowest_client": line.fairness,
                }));
            }
            let best = self.samples.best_peer(NETBOOT, offloads, case);
            ratios.push(json!({
                "load": load, "best_peer": best.map(|(peer, _)| peer.name()), "to_best_peer": best.map(|(_, times)| times),
                "to_null": self.samples.ratio(NETBOOT, Program::Null, offloads, case),
                "to_plain": self.samples.ratio(NETBOOT, Program::Netboot { plain: true }, offloads, case),
            }));
        }
        let whole = |Whole { program, wire, outcome }: &Whole| {
            let granted = outcome.granted?;
            Some(json!({
                "server": program.name(), "offloads": wire.offloads, "mtu": wire.mtu, "seconds": outcome.took.as_secs_f64(),
                "blksize": granted.blksize, "window": granted.window,
            }))
        };
        let left_out = self.left_out.iter().map(|(program, wire, why)| {
            json!({ "server": program.name(), "offloads": wire.offloads, "mtu": wire.mtu, "why": why })
        });
        let targets = targets(self).into_iter().map(|target| {
            json!({ "what": target.what, "goal": target.goal, "measured": target.measured, "reached": target.reached })
        });
        json!({
            "machine": self.machine, "seconds": self.seconds, "rounds": self.rounds, "rows": rows, "ratios": ratios,
            "wholes": self.wholes.iter().filter_map(whole).collect::<Vec<_>>(),
            "left_out": left_out.collect::<Vec<_>>(), "targets": targets.collect::<Vec<_>>(),
        })
    }
}
