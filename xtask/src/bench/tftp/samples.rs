//! What was measured of one server at a time, and what all measurements of one say together. Pure.

use std::time::Duration;

use super::client::Outcome;
use super::server::{ALL, Program, Wire};
use super::transfer::Tally;
use super::wire::Ask;
use crate::bench::samples::median;

/// What is asked for, and by how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) ask: Ask,
    pub(super) clients: usize,
    /// Of a thousand packets so many are lost.
    pub(super) loss: u16,
}

/// Clients that ask for blocks of this length with this window.
const fn case(blksize: u16, window: u16, clients: usize) -> Case {
    Case { ask: Ask { blksize, window }, clients, loss: 0 }
}

/// The windows, blocks.
const WINDOWS: [u16; 4] = [1, 4, 16, 64];
/// The lengths of a block that an Ethernet frame has room for, and of one that needs larger frames, bytes.
const BLKSIZES: [u16; 3] = [512, 1408, 1428];
const JUMBO: u16 = 8192;

impl Case {
    /// All that are measured, or the few.
    pub(super) fn all(quick: bool) -> Vec<Self> {
        if quick {
            return [1, 16]
                .iter()
                .flat_map(|window| [1, 32].map(|clients| case(1428, *window, clients)))
                .collect();
        }
        let rows =
            BLKSIZES.into_iter().chain([JUMBO]).flat_map(|blksize| WINDOWS.map(|window| (blksize, window)));
        let mut all: Vec<Self> = rows
            .flat_map(|(blksize, window)| [1, 32].map(|clients| case(blksize, window, clients)))
            .collect();
        all.push(case(1428, 16, 256));
        all
    }

    /// Those with loss: one client, blocks of 1428 bytes.
    pub(super) fn lossy(of_thousand: u16) -> Vec<Self> {
        WINDOWS.map(|window| Self { loss: of_thousand, ..case(1428, window, 1) }).into()
    }

    /// The largest packet of the wire that it needs, bytes.
    pub(super) const fn mtu(self) -> u16 {
        if self.ask.blksize > 1468 { 9000 } else { 1500 }
    }

    /// As a sentence has it.
    pub(super) fn name(self) -> String {
        let s = if self.clients == 1 { "" } else { "s" };
        let lost = if self.loss == 0 { String::new() } else { format!(", {} ‰ lost", self.loss) };
        format!("blksize {}, window {}, {} client{s}{lost}", self.ask.blksize, self.ask.window, self.clients)
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) program: Program,
    pub(super) wire: Wire,
    pub(super) case: Case,
    pub(super) outcome: Outcome,
    pub(super) server_cpu: Duration,
}

impl Sample {
    /// MB (10^6 bytes) in a second.
    #[allow(clippy::cast_precision_loss, reason = "bytes of a short run")]
    pub(super) fn rate(&self) -> f64 {
        self.outcome.tally.bytes as f64 / 1e6 / self.outcome.took.as_secs_f64()
    }

    /// Processor time of the clients' thread without that in which it only waited.
    fn client_cpu(&self) -> Duration {
        self.outcome.cpu.saturating_sub(self.outcome.spun)
    }

    /// What the client with the fewest bytes has of those of the one with the most.
    #[allow(clippy::cast_precision_loss, reason = "bytes of a short run")]
    fn fairness(&self) -> f64 {
        let bytes = || self.outcome.bytes.iter().copied();
        bytes().min().unwrap_or_default() as f64 / bytes().max().unwrap_or_default().max(1) as f64
    }
}

/// One line: a server with one kind of load on one kind of wire, all rounds together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// MB/s: the middle, the slowest and the fastest.
    pub(super) rate: f64,
    pub(super) slowest: f64,
    pub(super) fastest: f64,
    /// Microseconds for a MB.
    pub(super) server_cpu: f64,
    pub(super) client_cpu: f64,
    /// Block length and window that were granted, `None` when nobody was answered.
    pub(super) granted: Option<(u16, u16)>,
    pub(super) tally: Tally,
    pub(super) errors: u64,
    /// Why the first transfer failed.
    pub(super) error: Option<String>,
    /// Bytes of the slowest client in units of the fastest's, in the middle.
    pub(super) fairness: f64,
}

impl Line {
    /// Processor time of both ends, microseconds for a MB.
    pub(super) fn cpu(&self) -> f64 {
        self.server_cpu + self.client_cpu
    }
}

/// All measurements, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(pub(super) Vec<Sample>);

impl Samples {
    /// Those of a server.
    pub(super) fn of(&self, program: Program, wire: bool, case: Case) -> impl Iterator<Item = &Sample> {
        let is = move |sample: &&Sample| {
            sample.program == program && sample.wire.offloads == wire && sample.case == case
        };
        self.0.iter().filter(is)
    }

    /// What they say together; `None` when there are none.
    #[allow(clippy::cast_precision_loss, reason = "bytes and microseconds of a short run")]
    pub(super) fn line(&self, program: Program, offloads: bool, case: Case) -> Option<Line> {
        let all = || self.of(program, offloads, case);
        all().next()?;
        let rates: Vec<f64> = all().map(Sample::rate).collect();
        let mut tally = Tally::default();
        all().for_each(|sample| tally.add(&sample.outcome.tally));
        let megabytes = (tally.bytes as f64 / 1e6).max(1e-6);
        let each =
            |of: fn(&Sample) -> Duration| all().map(of).sum::<Duration>().as_secs_f64() * 1e6 / megabytes;
        let granted = all().find_map(|sample| sample.outcome.granted);
        Some(Line {
            rate: median(&rates),
            slowest: rates.iter().copied().fold(f64::INFINITY, f64::min),
            fastest: rates.iter().copied().fold(0.0, f64::max),
            server_cpu: each(|sample| sample.server_cpu),
            client_cpu: each(Sample::client_cpu),
            granted: granted.map(|granted| (granted.blksize, granted.window)),
            tally,
            errors: all().map(|sample| sample.outcome.errors).sum(),
            error: all().find_map(|sample| sample.outcome.error.clone()),
            fairness: median(&all().map(Sample::fairness).collect::<Vec<_>>()),
        })
    }

    /// One's rate in units of another's, by rounds; `None` when one of them was not measured.
    pub(super) fn ratio(&self, one: Program, other: Program, offloads: bool, case: Case) -> Option<f64> {
        let pairs = self.of(one, offloads, case).zip(self.of(other, offloads, case));
        let ratios: Vec<f64> = pairs
            .filter(|(_, other)| other.rate() > 0.0)
            .map(|(one, other)| one.rate() / other.rate())
            .collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// The fastest of the peers, and netboot's rate in units of its.
    pub(super) fn best_peer(&self, one: Program, offloads: bool, case: Case) -> Option<(Program, f64)> {
        let ratio = |peer: Program| Some((peer, self.ratio(one, peer, offloads, case)?));
        let peers = ALL.into_iter().filter(|program| program.is_peer());
        peers.filter_map(ratio).min_by(|one, other| one.1.total_cmp(&other.1))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::{Case, Line, Program, Sample, Samples, Tally, Wire, case};
    use crate::bench::tftp::client::Outcome;
    use crate::bench::tftp::wire::Granted;

    /// A measurement of a second with so many MB, and so many µs of processor time for each at each end.
    pub(in super::super) fn sample(program: Program, case: Case, megabytes: u64, micros: u64) -> Sample {
        let cpu = Duration::from_micros(megabytes * micros);
        let outcome = Outcome {
            took: Duration::from_secs(1),
            tally: Tally { bytes: megabytes * 1_000_000, ..Tally::default() },
            bytes: vec![megabytes * 600_000, megabytes * 400_000],
            granted: Some(Granted { blksize: case.ask.blksize, window: 1, tsize: None }),
            cpu: cpu * 3,
            spun: cpu * 2,
            ..Outcome::default()
        };
        Sample { program, wire: Wire { mtu: 1500, offloads: false }, case, outcome, server_cpu: cpu }
    }

    const NETBOOT: Program = Program::Netboot { plain: false };

    #[test]
    fn rounds_together() {
        let case = case(1428, 16, 32);
        let rounds = [(900, 300), (100, 50), (200, 40)];
        let both = |(ours, theirs)| [sample(NETBOOT, case, ours, 7), sample(Program::Hpa, case, theirs, 9)];
        let samples = Samples(rounds.into_iter().flat_map(both).collect());
        let line = samples.line(NETBOOT, false, case).unwrap();
        assert_eq!((line.rate, line.slowest, line.fastest), (200.0, 100.0, 900.0));
        assert!((line.server_cpu - 7.0).abs() < 1e-9 && (line.cpu() - 14.0).abs() < 1e-9, "{line:?}");
        assert!((line.fairness - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(line.granted, Some((1428, 1)));
        // 3, 2 and 5.
        assert_eq!(samples.ratio(NETBOOT, Program::Hpa, false, case), Some(3.0));
        assert_eq!(samples.best_peer(NETBOOT, false, case), Some((Program::Hpa, 3.0)));
        assert_eq!(samples.line(NETBOOT, true, case), None::<Line>);
        assert_eq!(samples.ratio(NETBOOT, Program::Atftpd, false, case), None);
    }

    #[test]
    fn every_case_once() {
        let all = Case::all(false);
        assert_eq!(all.len(), 4 * 4 * 2 + 1);
        assert!(all.iter().enumerate().all(|(number, case)| !all[..number].contains(case)));
        assert_eq!(all.iter().filter(|case| case.mtu() == 9000).count(), 8);
        assert_eq!(Case::all(true).len(), 4);
        assert_eq!(all[0].name(), "blksize 512, window 1, 1 client");
        let lossy = Case::lossy(10);
        assert_eq!(
            (lossy.len(), lossy[3].name().as_str()),
            (4, "blksize 1428, window 64, 1 client, 10 ‰ lost")
        );
    }
}
