//! What was measured of one server at a time, and what all measurements of one say together.

use std::time::Duration;

use super::blades::Tally;

/// One measurement.
#[derive(Debug)]
pub(super) struct Sample {
    /// Its place among those that are measured.
    pub(super) contestant: usize,
    pub(super) clients: usize,
    /// Exchanges that ended within the time.
    pub(super) in_time: u64,
    pub(super) took: Duration,
    /// All, with those that were still under way then.
    pub(super) tally: Tally,
    pub(super) server_cpu: Duration,
    pub(super) client_cpu: Duration,
}

impl Sample {
    /// Exchanges in a second.
    #[allow(clippy::cast_precision_loss, reason = "the count of a short run")]
    pub(super) fn rate(&self) -> f64 {
        self.in_time as f64 / self.took.as_secs_f64()
    }
}

/// All measurements, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Samples(pub(super) Vec<Sample>);

/// One line: a contestant with so many clients.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) rate: f64,
    pub(super) slowest: f64,
    pub(super) fastest: f64,
    /// p50 and p99 of OFFER, and of ACK.
    pub(super) latency: [u32; 4],
    /// Microseconds for an exchange.
    pub(super) server_cpu: f64,
    pub(super) client_cpu: f64,
    pub(super) done: u64,
    pub(super) invalid: u64,
    pub(super) stray: u64,
    pub(super) lost: u64,
}

impl Samples {
    /// Those of a contestant with so many clients.
    pub(super) fn of(&self, contestant: usize, clients: usize) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| sample.contestant == contestant && sample.clients == clients)
    }

    /// What all rounds of a contestant with so many clients say together.
    #[allow(clippy::cast_precision_loss, reason = "counts and microseconds of a short run")]
    pub(super) fn row(&self, contestant: usize, clients: usize) -> Row {
        let all = || self.of(contestant, clients);
        let rates: Vec<f64> = all().map(Sample::rate).collect();
        let sum = |of: fn(&Sample) -> u64| all().map(of).sum::<u64>();
        let done = sum(|sample| sample.tally.done);
        let each = |of: fn(&Sample) -> u128| all().map(of).sum::<u128>() as f64 / done.max(1) as f64;
        let sorted = |of: fn(&Sample) -> &Vec<u32>| {
            let mut times: Vec<u32> = all().flat_map(of).copied().collect();
            times.sort_unstable();
            [50, 99].map(|percent| percentile(&times, percent))
        };
        let ([a, b], [c, d]) = (sorted(|sample| &sample.tally.offers), sorted(|sample| &sample.tally.acks));
        Row {
            rate: median(&rates),
            slowest: rates.iter().copied().fold(f64::INFINITY, f64::min),
            fastest: rates.iter().copied().fold(0.0, f64::max),
            latency: [a, b, c, d],
            server_cpu: each(|sample| sample.server_cpu.as_micros()),
            client_cpu: each(|sample| sample.client_cpu.as_micros()),
            done,
            invalid: sum(|sample| sample.tally.invalid),
            stray: sum(|sample| sample.tally.stray),
            lost: sum(|sample| sample.tally.lost),
        }
    }

    /// netboot's rate in units of another's, by rounds.
    pub(super) fn ratio(&self, one: usize, other: usize, clients: usize) -> f64 {
        let pairs = self.of(one, clients).zip(self.of(other, clients));
        median(&pairs.map(|(one, other)| one.rate() / other.rate()).collect::<Vec<_>>())
    }
}

/// The value at or above which this share of all values ends; 0 of none. The values are sorted.
pub(super) fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// The value in the middle; 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use super::{median, percentile};

    #[test]
    fn middles() {
        assert!((median(&[9.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 9.0]) - 3.0).abs() < 1e-9);
        let times: Vec<u32> = (1..=200).collect();
        assert_eq!((percentile(&times, 50), percentile(&times, 99), percentile(&[], 50)), (100, 198, 0));
        assert_eq!(percentile(&[7], 99), 7);
    }
}
