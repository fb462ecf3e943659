//! What was measured of one server at a time, and what all measurements of one say together. Pure.

use std::time::Duration;

use super::client::Outcome;
use super::server::Program;
use crate::bench::samples::{median, percentile};

/// What is asked for, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// The cloud-config, over so many connections; each has many requests, or one.
    Text { connections: usize, keeps: bool },
    /// The large file, over one connection.
    Large,
}

impl Case {
    /// All that are measured.
    pub(super) fn all() -> Vec<Self> {
        let texts = [true, false]
            .into_iter()
            .flat_map(|keeps| [1, 4, 32].map(|connections| Self::Text { connections, keeps }));
        texts.chain([Self::Large]).collect()
    }

    /// Whether this program is asked: the script closes every connection, and has no files.
    pub(super) const fn is_for(self, program: Program) -> bool {
        !matches!((program, self), (Program::Script, Self::Large | Self::Text { keeps: true, .. }))
    }

    /// As a sentence has it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Large => "256 MiB file, 1 connection".to_owned(),
            Self::Text { connections, keeps } => {
                let s = if connections == 1 { "" } else { "s" };
                let kind = if keeps { "keep-alive" } else { "new for each" };
                format!("{connections} connection{s}, {kind}")
            }
        }
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) program: Program,
    pub(super) case: Case,
    pub(super) outcome: Outcome,
    pub(super) server_cpu: Duration,
}

impl Sample {
    /// Answers in a second; of the large file MB (10^6 bytes).
    #[allow(clippy::cast_precision_loss, reason = "counts of a short run")]
    pub(super) fn rate(&self) -> f64 {
        let count =
            if self.case == Case::Large { self.outcome.bytes as f64 / 1e6 } else { self.outcome.done as f64 };
        count / self.outcome.took.as_secs_f64()
    }

    /// Microseconds of processor time for an answer; of the large file milliseconds for a GB.
    #[allow(clippy::cast_precision_loss, reason = "counts of a short run")]
    fn each(&self, cpu: Duration) -> f64 {
        let micros = cpu.as_micros() as f64;
        if self.case == Case::Large {
            micros / 1e3 / (self.outcome.bytes.max(1) as f64 / 1e9)
        } else {
            micros / self.outcome.done.max(1) as f64
        }
    }
}

/// One line: a server with one kind of load, all rounds together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) rate: f64,
    pub(super) slowest: f64,
    pub(super) fastest: f64,
    /// p50 and p99, microseconds: the middle of the rounds.
    pub(super) times: [f64; 2],
    pub(super) server_cpu: f64,
    pub(super) client_cpu: f64,
    pub(super) errors: u64,
}

/// All measurements, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(pub(super) Vec<Sample>);

impl Samples {
    fn of(&self, program: Program, case: Case) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| sample.program == program && sample.case == case)
    }

    /// What all rounds say together; `None` of none.
    pub(super) fn line(&self, program: Program, case: Case) -> Option<Line> {
        let of = |value: &dyn Fn(&Sample) -> f64| self.of(program, case).map(value).collect::<Vec<_>>();
        let rates = of(&Sample::rate);
        (!rates.is_empty()).then(|| Line {
            rate: median(&rates),
            slowest: rates.iter().copied().fold(f64::INFINITY, f64::min),
            fastest: rates.iter().copied().fold(0.0, f64::max),
            times: [50, 99].map(|percent| median(&of(&|sample| time(sample, percent)))),
            server_cpu: median(&of(&|sample| sample.each(sample.server_cpu))),
            client_cpu: median(&of(&|sample| sample.each(sample.outcome.cpu))),
            errors: self.of(program, case).map(|sample| sample.outcome.errors).sum(),
        })
    }

    /// Something of netboot's in units of nginx's, by rounds.
    fn ratio(&self, case: Case, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        let pairs = self.of(Program::Netboot, case).zip(self.of(Program::Nginx, case));
        let ratios: Vec<f64> = pairs.map(|(own, other)| value(own) / value(other)).collect();
        (!ratios.is_empty()).then(|| median(&ratios)).filter(|ratio| ratio.is_finite())
    }

    pub(super) fn rate_ratio(&self, case: Case) -> Option<f64> {
        self.ratio(case, Sample::rate)
    }

    pub(super) fn p99_ratio(&self, case: Case) -> Option<f64> {
        self.ratio(case, |sample| time(sample, 99))
    }

    pub(super) fn cpu_ratio(&self, case: Case) -> Option<f64> {
        self.ratio(case, |sample| sample.each(sample.server_cpu))
    }
}

/// A percentile of one measurement, microseconds.
fn time(sample: &Sample, percent: usize) -> f64 {
    let mut times = sample.outcome.times.clone();
    times.sort_unstable();
    f64::from(percentile(&times, percent)) / 10.0
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::{Case, Outcome, Program, Sample, Samples};

    /// A second with so many answers, each of so many tenths of a microsecond at both ends and until it came.
    pub(in super::super) fn sample(program: Program, case: Case, done: u64, tenths: u32) -> Sample {
        let cpu = Duration::from_nanos(done * u64::from(tenths) * 100);
        let bytes = if case == Case::Large { done * 256_000_000 } else { done * 2000 };
        let times = vec![tenths; usize::try_from(done).unwrap()];
        let outcome = Outcome { took: Duration::from_secs(1), done, bytes, times, cpu, ..Outcome::default() };
        Sample { program, case, outcome, server_cpu: cpu }
    }

    #[test]
    fn rounds_together() {
        let case = Case::Text { connections: 4, keeps: true };
        let rounds = [(900, 300), (100, 50), (200, 40)];
        let both = |(own, other)| {
            [sample(Program::Netboot, case, own, 70), sample(Program::Nginx, case, other, 140)]
        };
        let samples = Samples(rounds.into_iter().flat_map(both).collect());
        let line = samples.line(Program::Netboot, case).unwrap();
        assert_eq!((line.rate, line.slowest, line.fastest), (200.0, 100.0, 900.0));
        assert_eq!((line.times, line.server_cpu), ([7.0, 7.0], 7.0));
        // 3, 2 and 5.
        assert_eq!(samples.rate_ratio(case), Some(3.0));
        assert_eq!((samples.p99_ratio(case), samples.cpu_ratio(case)), (Some(0.5), Some(0.5)));
        assert_eq!(samples.line(Program::Script, case), None);
        assert_eq!(samples.rate_ratio(Case::Large), None);
    }

    #[test]
    fn a_large_file_is_counted_in_bytes() {
        let samples = Samples(vec![sample(Program::Netboot, Case::Large, 4, 1_000_000)]);
        let line = samples.line(Program::Netboot, Case::Large).unwrap();
        // 1.024 GB, 0.4 s.
        assert!((line.rate - 1024.0).abs() < 1e-9, "{}", line.rate);
        assert!((line.server_cpu - 390.625).abs() < 1e-9, "{}", line.server_cpu);
    }

    #[test]
    fn every_case_once() {
        let all = Case::all();
        assert_eq!(all.len(), 7);
        assert_eq!(all.iter().filter(|case| case.is_for(Program::Script)).count(), 3);
    }
}
