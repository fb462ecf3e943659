//! What is to be reached, held against what was measured. Pure: numbers in, sentences out. Each target is held against the
//! worst of all loads that it is for.

use super::report::{NETBOOT, Report};
use super::samples::Case;
use super::server::{ALL, Program, Wire};
use crate::bench::target::Target;

/// netboot's rate in units of the best peer's: one block at a time, one client and many; with a window.
const LOCK_STEP: f64 = 1.0;
const LOCK_STEP_MANY: f64 = 1.5;
const WINDOW: f64 = 2.0;
/// In units of tftpd-hpa's where packets are lost.
const LOSSY: f64 = 5.0;
/// Its rate in units of the null responder's.
const CEILING: f64 = 0.9;

/// All of them.
pub(super) fn targets(report: &Report) -> Vec<Target> {
    report.offloads.iter().flat_map(|offloads| of_wire(report, *offloads)).collect()
}

/// With loss: netboot's rate in units of tftpd-hpa's, which knows no window, with each window.
fn with_loss(report: &Report, offloads: bool) -> Target {
    let to_hpa = |case| report.samples.ratio(NETBOOT, Program::Hpa, offloads, case);
    let worst = worst(report, &|_| true, to_hpa, f64::total_cmp);
    let wire = Wire { mtu: 1500, offloads }.name();
    Target {
        what: format!("{wire}, packets lost: MB/s in units of tftpd-hpa's"),
        goal: format!("≥ {LOSSY}"),
        measured: measured(worst),
        reached: worst.map(|(ratio, _)| ratio >= LOSSY),
    }
}

fn of_wire(report: &Report, offloads: bool) -> Vec<Target> {
    if report.cases.iter().any(|case| case.loss > 0) {
        return vec![with_loss(report, offloads)];
    }
    let wire = if offloads { "offloads on" } else { "offloads off" };
    let to_peer = |case| Some(report.samples.best_peer(NETBOOT, offloads, case)?.1);
    let to_null = |case| report.samples.ratio(NETBOOT, Program::Null, offloads, case);
    let lock_step = |case: Case| case.ask.window == 1;
    let rate = |what: &str,
                other: &str,
                is: &dyn Fn(Case) -> bool,
                ratio: &dyn Fn(Case) -> Option<f64>,
                goal: f64| {
        let worst = worst(report, is, ratio, f64::total_cmp);
        let sign = if goal > LOCK_STEP || other == NULL { "≥" } else { ">" };
        Target {
            what: format!("{wire}, {what}: MB/s in units of the {other}'s"),
            goal: format!("{sign} {goal}"),
            measured: measured(worst),
            reached: worst.map(|(ratio, _)| if sign == ">" { ratio > goal } else { ratio >= goal }),
        }
    };
    let mut all = vec![
        rate("window 1, 1 client", PEER, &|case| lock_step(case) && case.clients == 1, &to_peer, LOCK_STEP),
        rate("window 1, 1 client", NULL, &|case| lock_step(case) && case.clients == 1, &to_null, CEILING),
        rate(
            "window 1, 32 clients",
            PEER,
            &|case| lock_step(case) && case.clients == 32,
            &to_peer,
            LOCK_STEP_MANY,
        ),
    ];
    for window in [16, 64] {
        let is = move |case: Case| case.ask.window == window;
        all.push(rate(&format!("window {window}"), PEER, &is, &to_peer, WINDOW));
        all.push(rate(&format!("window {window}"), NULL, &is, &to_null, CEILING));
    }
    let worst =
        worst(report, &|_| true, |case| cpu(report, offloads, case), |one, other| other.total_cmp(one));
    all.push(Target {
        what: format!("{wire}, every load: CPU of both ends a MB in units of the thriftiest peer's"),
        goal: "< 1".to_owned(),
        measured: measured(worst),
        reached: worst.map(|(ratio, _)| ratio < 1.0),
    });
    all
}

const PEER: &str = "best peer";
const NULL: &str = "null responder";

/// netboot's processor time for a MB in units of the least of the peers'.
fn cpu(report: &Report, offloads: bool, case: Case) -> Option<f64> {
    let of = |program| {
        let line = report.samples.line(program, offloads, case)?;
        (line.tally.bytes > 0).then(|| line.cpu())
    };
    let peers = ALL.into_iter().filter(|program| program.is_peer());
    let least = peers.filter_map(of).min_by(f64::total_cmp)?;
    Some(of(NETBOOT)? / least)
}

/// The worst of all loads of a kind: the first in this order.
fn worst(
    report: &Report,
    is: &dyn Fn(Case) -> bool,
    of: impl Fn(Case) -> Option<f64>,
    order: fn(&f64, &f64) -> std::cmp::Ordering,
) -> Option<(f64, Case)> {
    let cases = report.cases.iter().copied().filter(|case| is(*case));
    let found = cases.filter_map(|case| Some((of(case)?, case)));
    found.min_by(|one, other| order(&one.0, &other.0))
}

fn measured(worst: Option<(f64, Case)>) -> String {
    worst.map_or_else(|| "–".to_owned(), |(value, case)| format!("{value:.2} at the worst: {}", case.name()))
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::{NETBOOT, Program, Report, targets};

    /// The verdict and the measured part of the target whose name begins so.
    fn verdict(report: &Report, what: &str) -> (Option<bool>, String) {
        let all = targets(report);
        let found = all.iter().find(|target| target.what.starts_with(what));
        let found = found.unwrap_or_else(|| panic!("no target {what}: {all:?}"));
        (found.reached, found.measured.clone())
    }

    const PEERS: &str = "offloads off, window 16: MB/s in units of the best peer's";
    const CEILING: &str = "offloads off, window 16: MB/s in units of the null responder's";

    #[test]
    fn the_worst_load_counts() {
        let mut report = report();
        let at = "at the worst: blksize 1428, window 16, 1 client";
        assert_eq!(verdict(&report, PEERS), (Some(true), format!("4.00 {at}")));
        assert_eq!(verdict(&report, CEILING), (Some(true), format!("0.95 {at}")));
        assert_eq!(verdict(&report, "offloads off, every load: CPU").0, Some(true));
        let last = report.samples.0.iter_mut().rfind(|sample| sample.program == NETBOOT).unwrap();
        last.outcome.tally.bytes /= 3;
        let at = "at the worst: blksize 1428, window 16, 32 clients";
        assert_eq!(verdict(&report, PEERS), (Some(false), format!("1.33 {at}")));
        assert_eq!(verdict(&report, CEILING), (Some(false), format!("0.32 {at}")));
        // Of a third of the bytes, and no peer needs more than 1900 µs.
        assert_eq!(verdict(&report, "offloads off, every load: CPU"), (Some(false), format!("1.88 {at}")));
        assert_eq!(verdict(&report, "offloads off, window 1, 32").0, Some(true));
    }

    #[test]
    fn to_be_as_fast_is_not_to_be_ahead() {
        let mut report = report();
        report.samples.0.iter_mut().for_each(|sample| sample.outcome.tally.bytes = 1_000_000);
        let one = "offloads off, window 1, 1 client: MB/s in units of the ";
        assert_eq!(verdict(&report, &format!("{one}best")).0, Some(false));
        assert_eq!(verdict(&report, &format!("{one}null")).0, Some(true));
    }

    #[test]
    fn where_packets_are_lost_tftpd_hpa_alone_counts() {
        let mut report = report();
        report.cases.iter_mut().for_each(|case| case.loss = 10);
        report.samples.0.iter_mut().for_each(|sample| sample.case.loss = 10);
        let all = targets(&report);
        assert_eq!(all.len(), 1);
        let (reached, measured) = verdict(&report, "offloads off, packets lost");
        assert_eq!(reached, Some(false));
        assert!(
            measured.starts_with("4.00 at the worst: blksize 1428, window 1, 1 client, 10 ‰ lost"),
            "{measured}"
        );
    }

    #[test]
    fn what_was_not_measured_has_no_verdict() {
        let mut report = report();
        report.samples.0.retain(|sample| sample.program != Program::Null);
        assert_eq!(verdict(&report, CEILING), (None, "–".to_owned()));
        let window = "offloads off, window 64: MB/s in units of the best peer's";
        assert_eq!(verdict(&report, window), (None, "–".to_owned()));
    }
}
