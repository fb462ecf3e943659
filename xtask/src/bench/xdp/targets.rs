//! What is to be reached, held against what was measured. Pure: numbers in, sentences out.

use super::cost::Cost;
use super::frames::Kind;
use super::report::{Report, millis};
use crate::bench::contestant::Program;
use crate::bench::target::Target;

/// Nanoseconds of a reply with the machines of a site, and of a large one.
const REPLY: [f64; 2] = [250.0, 400.0];
/// Nanoseconds of a miss, and of other traffic.
const MISS: f64 = 40.0;
const OTHER: f64 = 20.0;
/// The rate of exchanges in units of dnsmasq's and of Kea's.
const DNSMASQ: f64 = 25.0;
const KEA: f64 = 8.0;
/// The generator is what is slow when so much of what it does against the reflector comes back as replies.
const CEILING: f64 = 0.9;
/// dnsmasq's median time to an OFFER in units of ours.
const LATENCY: f64 = 10.0;
/// How much the daemon's memory may grow under the flood, KiB.
const MEMORY_KIB: u64 = 32 << 10;
/// Milliseconds until all machines are in the maps, until an edit of one is answered, and until it is in the maps.
const LOADED_MS: f64 = 1000.0;
const EDIT_MS: f64 = 100.0;
const WRITE_MS: f64 = 5.0;
/// Fewer of the frames taken by the program than this: the number is not that of replies alone.
pub(super) const ALL_TAKEN: f64 = 0.99;

/// All of them.
pub(super) fn targets(report: &Report) -> Vec<Target> {
    let mut all: Vec<Target> = report.costs.iter().filter_map(|cost| nanos(report, cost)).collect();
    for hosts in [report.hosts, report.many] {
        for (peer, name, times) in [(Program::Dnsmasq, "dnsmasq", DNSMASQ), (Program::Kea, "Kea", KEA)] {
            all.push(rate(report, hosts, peer, name, times));
        }
    }
    for hosts in [report.hosts, report.many] {
        for clients in [1, 32] {
            all.push(latency(report, hosts, clients));
        }
    }
    for edit in &report.edits {
        let hosts = edit.hosts;
        let loaded = edit.loaded.map(millis).iter().sum::<f64>();
        let written = millis(edit.edited[1]);
        all.push(time(format!("{hosts} machines into the maps at the start"), LOADED_MS, loaded));
        all.push(time(
            format!("one of {hosts} machines edited until it is answered so"),
            EDIT_MS,
            edit.middle(),
        ));
        all.push(time(format!("of that, writing the maps, {hosts} machines"), WRITE_MS, written));
    }
    all.extend(report.floods.iter().flat_map(|flood| {
        let (done, begun) = (flood.tally.done, flood.begun);
        let [before, _, after] = flood.memory;
        [
            Target {
                what: format!("{} in the flood: reserved machines get OFFER and ACK", flood.who.name),
                goal: "all".to_owned(),
                measured: format!("{done} of {begun}, {} invalid", flood.tally.invalid),
                reached: Some(begun > 0 && done == begun && flood.tally.invalid == 0),
            },
            Target {
                what: format!("{} in the flood: its memory grows", flood.who.name),
                goal: format!("≤ {} MiB", MEMORY_KIB >> 10),
                measured: format!("{} KiB", after.saturating_sub(before)),
                reached: Some(after.saturating_sub(before) <= MEMORY_KIB),
            },
        ]
    }));
    all
}

fn nanos(report: &Report, cost: &Cost) -> Option<Target> {
    let goal = match cost.kind? {
        Kind::Discover | Kind::Request if cost.hosts == report.hosts => REPLY[0],
        Kind::Discover | Kind::Request => REPLY[1],
        Kind::Miss => MISS,
        Kind::Udp | Kind::Tcp => OTHER,
    };
    let [mean, ..] = cost.nanos();
    let what = format!("{}, {} machines", cost.traffic, cost.hosts);
    let goal_text = format!("≤ {goal:.0} ns");
    if !cost.is_passed() && cost.taken() < ALL_TAKEN {
        let measured = format!("the program took {:.0} % alone", cost.taken() * 100.0);
        return Some(Target { what, goal: goal_text, measured, reached: None });
    }
    // No program is faster than this, as the kernel measures it.
    let least = report.costs.iter().find(|cost| cost.kind.is_none()).map_or(0.0, |cost| cost.nanos()[0]);
    let measured = format!("{mean:.0} ns (two instructions: {least:.0})");
    Some(Target { what, goal: goal_text, measured, reached: Some(mean <= goal) })
}

/// Milliseconds that are to be few.
fn time(what: String, most: f64, measured: f64) -> Target {
    let measured_text =
        if measured < 10.0 { format!("{measured:.2} ms") } else { format!("{measured:.0} ms") };
    Target { what, goal: format!("< {most:.0} ms"), measured: measured_text, reached: Some(measured < most) }
}

fn rate(report: &Report, hosts: u32, peer: Program, name: &str, times: f64) -> Target {
    let what = format!("DORA/s with XDP, 32 clients, {hosts} machines, in units of {name}'s");
    let goal = format!("≥ {times:.0}, or the generator's ceiling");
    let ours = report.number(Program::Netboot { xdp: true }, hosts);
    let Some((ours, peer)) = ours.zip(report.number(peer, hosts)) else {
        return Target { what, goal, measured: format!("{name} did not serve"), reached: None };
    };
    // On two processors if there are two: on one the generator has what the program leaves.
    let apart = !report.apart.0.is_empty();
    let ratio = report.samples(apart).ratio(ours, peer, 32);
    let ceiling = report.of_ceiling(hosts, apart);
    let measured = format!("{ratio:.1}; {:.0} % of the ceiling", ceiling * 100.0);
    Target { what, goal, measured, reached: Some(ratio >= times || ceiling >= CEILING) }
}

fn latency(report: &Report, hosts: u32, clients: usize) -> Target {
    let what = format!("OFFER p50 of dnsmasq in units of XDP's, {clients} clients, {hosts} machines");
    let goal = format!("≥ {LATENCY:.0}");
    let ours = report.number(Program::Netboot { xdp: true }, hosts);
    let Some((ours, peer)) = ours.zip(report.number(Program::Dnsmasq, hosts)) else {
        return Target { what, goal, measured: "dnsmasq did not serve".to_owned(), reached: None };
    };
    let [ours, peer] = [ours, peer].map(|number| f64::from(report.samples.row(number, clients).latency[0]));
    // Below a microsecond the clock says 0.
    let ratio = peer / ours.max(1.0);
    Target { what, goal, measured: format!("{ratio:.1}"), reached: Some(ratio >= LATENCY) }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::targets;
    use crate::bench::samples::Sample;

    /// The verdict and the measured part of the target whose name begins so.
    fn verdict(report: &super::Report, what: &str) -> (Option<bool>, String) {
        let all = targets(report);
        let found = all.iter().find(|target| target.what.starts_with(what));
        let found = found.unwrap_or_else(|| panic!("no target {what}"));
        (found.reached, found.measured.clone())
    }

    #[test]
    fn each_target_is_held_against_its_own_number() {
        let mut report = report();
        assert_eq!(
            verdict(&report, "reply: OFFER, 1000"),
            (Some(true), "240 ns (two instructions: 48)".to_owned())
        );
        assert_eq!(
            verdict(&report, "reply: OFFER, 100000"),
            (Some(true), "390 ns (two instructions: 48)".to_owned())
        );
        assert_eq!(
            verdict(&report, "miss: unknown MAC, 1000"),
            (Some(false), "41 ns (two instructions: 48)".to_owned())
        );
        let ratio = "DORA/s with XDP, 32 clients, 1000 machines, in units of dnsmasq's";
        assert_eq!(verdict(&report, ratio), (Some(true), "300.0; 25 % of the ceiling".to_owned()));
        let kea = "DORA/s with XDP, 32 clients, 100000 machines, in units of Kea's";
        assert_eq!(verdict(&report, kea).0, Some(true));
        assert_eq!(
            verdict(&report, "OFFER p50 of dnsmasq in units of XDP's, 1 "),
            (Some(true), "50.0".to_owned())
        );
        assert_eq!(verdict(&report, "netboot with XDP in the flood: res").0, Some(true));
        for cost in &mut report.costs {
            cost.turns.iter_mut().for_each(|turn| turn.mean_ns *= 2.0);
        }
        report.floods[0].tally.done -= 1;
        report.floods[0].memory[2] += 32 << 10;
        assert_eq!(verdict(&report, "reply: OFFER, 1000").0, Some(false));
        assert_eq!(verdict(&report, "reply: OFFER, 100000").0, Some(false));
        assert_eq!(verdict(&report, "netboot with XDP in the flood: res").0, Some(false));
        assert_eq!(verdict(&report, "netboot with XDP in the flood: its").0, Some(false));
    }

    #[test]
    fn a_slow_generator_is_no_slow_program() {
        let mut report = report();
        let ours = |sample: &&mut Sample| sample.contestant == 1;
        report.apart.0.iter_mut().filter(ours).for_each(|sample| sample.in_time = 100);
        let ratio = "DORA/s with XDP, 32 clients, 1000 machines, in units of dnsmasq's";
        assert_eq!(verdict(&report, ratio).0, Some(false));
        report.rates[3].turns[0].back /= 4;
        assert_eq!(verdict(&report, ratio), (Some(true), "1.0; 100 % of the ceiling".to_owned()));
        // With one processor, what was measured there counts.
        report.apart.0.clear();
        assert_eq!(verdict(&report, ratio), (Some(true), "300.0; 50 % of the ceiling".to_owned()));
    }

    #[test]
    fn what_was_not_measured_has_no_verdict() {
        let mut report = report();
        report.costs.iter_mut().for_each(|cost| cost.turns.iter_mut().for_each(|turn| turn.taken = 0.16));
        let reached = verdict(&report, "reply: OFFER, 100000");
        assert_eq!(reached, (None, "the program took 16 % alone".to_owned()));
        report.starts[7].first_millis = None;
        let ratio = "DORA/s with XDP, 32 clients, 100000 machines, in units of dnsmasq's";
        assert_eq!(verdict(&report, ratio), (None, "dnsmasq did not serve".to_owned()));
    }
}
