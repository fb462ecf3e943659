//! What is to be reached, held against what was measured. Pure.

use super::samples::{Case, Samples};
use crate::bench::target::Target;

/// netboot in units of nginx: answers in a second, p99; MB/s and processor time of the large file.
const RATE: f64 = 1.0;
const P99: f64 = 1.5;
const LARGE_RATE: f64 = 0.95;
const LARGE_CPU: f64 = 1.2;

/// All of them.
pub(super) fn targets(samples: &Samples) -> Vec<Target> {
    let of = |case: Case| {
        let what = |of: &str| format!("{}: {of} in units of nginx's", case.name());
        match case {
            Case::Text { .. } => [
                at_least(what("answers/s"), samples.rate_ratio(case), RATE),
                at_most(what("p99"), samples.p99_ratio(case), P99),
            ],
            Case::Large => [
                at_least(what("MB/s"), samples.rate_ratio(case), LARGE_RATE),
                at_most(what("CPU for a GB"), samples.cpu_ratio(case), LARGE_CPU),
            ],
        }
    };
    Case::all().into_iter().flat_map(of).collect()
}

fn at_least(what: String, ratio: Option<f64>, goal: f64) -> Target {
    target(what, format!("≥ {goal}"), ratio, ratio.map(|ratio| ratio >= goal))
}

fn at_most(what: String, ratio: Option<f64>, goal: f64) -> Target {
    target(what, format!("≤ {goal}"), ratio, ratio.map(|ratio| ratio <= goal))
}

fn target(what: String, goal: String, ratio: Option<f64>, reached: Option<bool>) -> Target {
    let measured = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    Target { what, goal, measured, reached }
}

#[cfg(test)]
mod tests {
    use super::super::samples::tests::sample;
    use super::super::server::Program;
    use super::{Case, Samples, targets};

    #[test]
    fn each_is_held_against_its_goal() {
        let text = Case::Text { connections: 1, keeps: true };
        let samples = Samples(vec![
            sample(Program::Netboot, text, 100, 60),
            sample(Program::Nginx, text, 100, 39),
            sample(Program::Netboot, Case::Large, 95, 12),
            sample(Program::Nginx, Case::Large, 100, 10),
        ]);
        let all = targets(&samples);
        let verdict = |what: &str| all.iter().find(|target| target.what.starts_with(what)).unwrap().reached;
        assert_eq!(verdict("1 connection, keep-alive: answers/s"), Some(true));
        assert_eq!(verdict("1 connection, keep-alive: p99"), Some(false));
        assert_eq!(verdict("4 connections, keep-alive: answers/s"), None);
        assert_eq!(verdict("256 MiB file, 1 connection: MB/s"), Some(true));
        assert_eq!(verdict("256 MiB file, 1 connection: CPU"), Some(true));
        assert_eq!(all.len(), 14);
    }
}
