//! The tables, and the same for a script.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::samples::{Case, Samples};
use super::server::ALL;
use super::targets::targets;

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) machine: String,
    pub(super) seconds: u64,
    pub(super) rounds: u64,
    /// Bytes of a cloud-config.
    pub(super) text_size: usize,
    pub(super) samples: Samples,
}

/// A number with as many places as it needs.
fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

impl Report {
    /// All tables.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}; rounds: {} of {} s a measurement; a cloud-config of {} bytes, {} machines; offloads on; times in µs, CPU in µs an answer\n\n\
             | connections | server | answers/s | (slowest–fastest) | p50 | p99 | CPU server | client | errors |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n",
            self.machine,
            self.rounds,
            self.seconds,
            self.text_size,
            super::site::HOSTS
        );
        let (large, texts): (Vec<Case>, Vec<Case>) =
            Case::all().into_iter().partition(|case| *case == Case::Large);
        for case in texts {
            self.lines(case, &mut text);
        }
        text.push_str(
            "\n| file | server | MB/s | (slowest–fastest) | p50 | p99 | CPU server, ms a GB | client | errors |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for case in large {
            self.lines(case, &mut text);
        }
        text.push_str("\n| netboot in units of nginx | rate | p99 | CPU |\n|---|--:|--:|--:|\n");
        for case in Case::all() {
            let of = &self.samples;
            let (rate, p99, cpu) = (of.rate_ratio(case), of.p99_ratio(case), of.cpu_ratio(case));
            let _ = writeln!(text, "| {} | {} | {} | {} |", case.name(), ratio(rate), ratio(p99), ratio(cpu));
        }
        text.push_str("\n| to reach | goal | measured | |\n|---|---|---|---|\n");
        for target in targets(&self.samples) {
            let (what, goal, measured) = (&target.what, &target.goal, &target.measured);
            let _ = writeln!(text, "| {what} | {goal} | {measured} | {} |", target.verdict());
        }
        text
    }

    fn lines(&self, case: Case, text: &mut String) {
        for program in ALL {
            let Some(line) = self.samples.line(program, case) else { continue };
            let _ = writeln!(
                text,
                "| {} | {} | {} | ({}–{}) | {} | {} | {} | {} | {} |",
                case.name(),
                program.name(),
                number(line.rate),
                number(line.slowest),
                number(line.fastest),
                number(line.times[0]),
                number(line.times[1]),
                number(line.server_cpu),
                number(line.client_cpu),
                line.errors
            );
        }
    }

    /// What `--json` prints.
    pub(super) fn json(&self) -> Value {
        let rows = Case::all().into_iter().flat_map(|case| {
            ALL.into_iter().filter_map(move |program| {
                let line = self.samples.line(program, case)?;
                Some(json!({
                    "server": program.name(), "load": case.name(), "rate": line.rate, "slowest": line.slowest, "fastest": line.fastest,
                    "p50_us": line.times[0], "p99_us": line.times[1], "server_cpu": line.server_cpu, "client_cpu": line.client_cpu,
                    "errors": line.errors,
                }))
            })
        });
        let targets = targets(&self.samples).into_iter().map(|target| {
            json!({ "what": target.what, "goal": target.goal, "measured": target.measured, "reached": target.reached })
        });
        json!({
            "machine": self.machine, "seconds": self.seconds, "rounds": self.rounds, "text_size": self.text_size,
            "rows": rows.collect::<Vec<_>>(), "targets": targets.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::tests::sample;
    use super::super::server::ALL;
    use super::{Case, Report, Samples};

    #[test]
    fn a_line_for_each_server_and_load() {
        let mut samples = Samples::default();
        for case in Case::all() {
            for (program, done) in ALL.into_iter().zip([40, 20, 1]) {
                if case.is_for(program) {
                    samples.0.push(sample(program, case, done, 250));
                }
            }
        }
        let report = Report { samples, text_size: 2000, ..Report::default() };
        let text = report.text();
        for line in [
            "| 1 connection, keep-alive | netboot | 40.0 | (40.0–40.0) | 25.0 | 25.0 | 25.0 | 25.0 | 0 |",
            "| 32 connections, new for each | a script | 1.0 |",
            "| 256 MiB file, 1 connection | nginx | 5120 |",
            "| 4 connections, new for each | 2.00 | 1.00 | 1.00 |",
            "| 4 connections, keep-alive: answers/s in units of nginx's | ≥ 1 | 2.00 | reached |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("keep-alive | a script"));
        let json = report.json();
        assert_eq!(json["rows"].as_array().unwrap().len(), 7 * 2 + 3);
        assert_eq!(json["rows"][0]["rate"], 40.0);
    }
}
