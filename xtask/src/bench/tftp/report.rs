//! The tables.

use std::fmt::Write as _;

use super::client::Outcome;
use super::samples::{Case, Line, Samples};
use super::server::{ALL, Program, Wire};
use super::targets::targets;

/// netboot as it comes: what the others are held against.
pub(super) const NETBOOT: Program = Program::Netboot { plain: false };

/// A whole file of a server.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) program: Program,
    pub(super) wire: Wire,
    pub(super) outcome: Outcome,
}

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) machine: String,
    pub(super) seconds: u64,
    pub(super) rounds: u64,
    /// Offloads off, on, or one after the other.
    pub(super) offloads: Vec<bool>,
    pub(super) cases: Vec<Case>,
    pub(super) samples: Samples,
    pub(super) wholes: Vec<Whole>,
    /// Servers that did not serve, and why.
    pub(super) left_out: Vec<(Program, Wire, String)>,
}

/// A number with as many places as it needs.
fn number(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// What was granted, marked where it is not what was asked.
fn granted(line: &Line, case: Case) -> String {
    match line.granted {
        Some((blksize, window)) if (blksize, window) == (case.ask.blksize, case.ask.window) => {
            "all".to_owned()
        }
        Some((blksize, window)) => format!("{blksize} × {window}"),
        None => "nothing".to_owned(),
    }
}

impl Report {
    /// Notes that a server did not serve.
    pub(super) fn leave_out(&mut self, program: Program, wire: Wire, error: &anyhow::Error) {
        eprintln!("  {}, {}: left out: {error:#}", program.name(), wire.name());
        self.left_out.push((program, wire, format!("{error:#}")));
    }

    /// All tables.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}; rounds: {} of {} s a measurement; MB are 10^6 bytes, CPU in µs a MB, without the clients' waiting\n",
            self.machine, self.rounds, self.seconds
        );
        if let Some(loss) = self.cases.iter().map(|case| case.loss).find(|loss| *loss > 0) {
            let _ = writeln!(text, "Of a thousand packets of a transfer {loss} are lost, each way.");
        }
        for offloads in &self.offloads {
            let _ = writeln!(text, "\n{}\n", heading(*offloads));
            self.lines(*offloads, &mut text);
            text.push('\n');
            self.ratios(*offloads, &mut text);
        }
        text.push('\n');
        self.wholes(&mut text);
        text.push_str("\n| to reach | goal | measured | |\n|---|---|---|---|\n");
        for target in targets(self) {
            let (what, goal, measured) = (&target.what, &target.goal, &target.measured);
            let _ = writeln!(text, "| {what} | {goal} | {measured} | {} |", target.verdict());
        }
        text
    }

    fn lines(&self, offloads: bool, text: &mut String) {
        text.push_str(
            "| blksize | window | clients | server | granted | MB/s | (slowest–fastest) | CPU server | client | sum | again | gaps | timeouts | errors | slowest client |\n\
             |--:|--:|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for case in &self.cases {
            for program in ALL {
                let Some(line) = self.samples.line(program, offloads, *case) else { continue };
                let fairness =
                    if case.clients == 1 { "–".to_owned() } else { format!("{:.2}", line.fairness) };
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} | {} | ({}–{}) | {} | {} | {} | {} | {} | {} | {} | {fairness} |",
                    case.ask.blksize,
                    case.ask.window,
                    case.clients,
                    program.name(),
                    granted(&line, *case),
                    number(line.rate),
                    number(line.slowest),
                    number(line.fastest),
                    number(line.server_cpu),
                    number(line.client_cpu),
                    number(line.cpu()),
                    line.tally.again,
                    line.tally.gaps,
                    line.tally.timeouts,
                    line.errors,
                );
            }
        }
    }

    fn ratios(&self, offloads: bool, text: &mut String) {
        text.push_str(
            "| blksize | window | clients | netboot, MB/s | in units of the best peer's | who | of the null responder's | of engine plain's |\n\
             |--:|--:|--:|--:|--:|---|--:|--:|\n",
        );
        for case in &self.cases {
            let Some(line) = self.samples.line(NETBOOT, offloads, *case) else { continue };
            let ratio = |other| {
                let ratio = self.samples.ratio(NETBOOT, other, offloads, *case);
                ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
            };
            let (best, times) = match self.samples.best_peer(NETBOOT, offloads, *case) {
                Some((peer, times)) => (peer.name(), format!("{times:.2}")),
                None => ("–", "–".to_owned()),
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {times} | {best} | {} | {} |",
                case.ask.blksize,
                case.ask.window,
                case.clients,
                number(line.rate),
                ratio(Program::Null),
                ratio(Program::Netboot { plain: true }),
            );
        }
    }

    fn wholes(&self, text: &mut String) {
        text.push_str("| a whole file, every byte compared | wire | blksize | window | seconds |\n|---|---|--:|--:|--:|\n");
        for Whole { program, wire, outcome } in &self.wholes {
            let Some(granted) = outcome.granted else { continue };
            let _ = writeln!(
                text,
                "| {} | {}, MTU {} | {} | {} | {:.2} |",
                program.name(),
                wire.name(),
                wire.mtu,
                granted.blksize,
                granted.window,
                outcome.took.as_secs_f64()
            );
        }
        for (program, wire, why) in &self.left_out {
            let first = why.lines().next().unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {}, MTU {} | | | left out: {first} |",
                program.name(),
                wire.name(),
                wire.mtu
            );
        }
    }
}

/// Above the tables of one kind of wire.
fn heading(offloads: bool) -> &'static str {
    if offloads {
        "Offloads on at both ends (checksums, GSO, GRO, TSO): packets go over the veth uncut and with unfinished checksums, as over no wire."
    } else {
        "Offloads off at both ends (checksums, GSO, GRO, TSO): every packet is cut and summed as for a wire."
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::samples::tests::sample;
    use super::super::samples::{Case, Samples};
    use super::{ALL, NETBOOT, Outcome, Program, Report, Whole, Wire};
    use crate::bench::tftp::wire::Granted;

    /// netboot with 400 MB/s, its plain engine 300, the null responder 420, the peers 100, 90 and 80.
    pub(in super::super) fn report() -> Report {
        let cases = Case::all(true);
        let mut samples = Samples::default();
        for case in &cases {
            for (program, (megabytes, micros)) in
                ALL.into_iter().zip([(400, 500), (300, 600), (100, 900), (90, 800), (80, 950), (420, 400)])
            {
                samples.0.push(sample(program, *case, megabytes, micros));
            }
        }
        let granted = Some(Granted { blksize: 1428, window: 16, tsize: Some(64_000_000) });
        let whole = Whole {
            program: NETBOOT,
            wire: Wire { mtu: 1500, offloads: false },
            outcome: Outcome { done: 1, granted, ..Outcome::default() },
        };
        Report {
            machine: "a machine".to_owned(),
            seconds: 1,
            rounds: 1,
            offloads: vec![false],
            cases,
            samples,
            wholes: vec![whole],
            left_out: Vec::new(),
        }
    }

    #[test]
    fn a_line_for_each_server_and_load() {
        let mut report = report();
        report.leave_out(Program::Hpa, Wire { mtu: 9000, offloads: false }, &anyhow::anyhow!("why\nlog"));
        let text = report.text();
        for line in [
            "| 1428 | 16 | 32 | netboot | 1428 × 1 | 400 | (400–400) | 500 | 500 | 1000 | 0 | 0 | 0 | 0 | 0.67 |",
            "| 1428 | 1 | 1 | null responder | all | 420 | (420–420) | 400 | 400 | 800 | 0 | 0 | 0 | 0 | – |",
            "| 1428 | 16 | 32 | 400 | 4.00 | tftpd-hpa | 0.95 | 1.33 |",
            "| netboot | offloads off, MTU 1500 | 1428 | 16 | 0.00 |",
            "| tftpd-hpa | offloads off, MTU 9000 | | | left out: why |",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        assert_eq!(text.matches("| dnsmasq |").count(), 4, "{text}");
        assert_eq!(text.matches("Offloads off at both ends").count(), 1);
        let json = report.json();
        assert_eq!(json["rows"].as_array().unwrap().len(), 4 * ALL.len());
        assert_eq!(json["ratios"].as_array().unwrap().len(), 4);
        assert_eq!(json["rows"][0]["granted"]["window"], 1);
    }
}
