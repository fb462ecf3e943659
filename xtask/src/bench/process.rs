//! Processor time and memory of a process, as /proc has them.

use std::time::Duration;

/// /proc counts time in hundredths of a second on every machine (`USER_HZ`).
const TICK_MILLIS: u64 = 10;
/// Processes that are looked at, of one that has many children.
const MOST: usize = 4096;

/// The times of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    /// User and system, all its threads.
    own: Duration,
    /// The same of its children that have ended, and of theirs.
    ended: Duration,
}

/// Processor time that a process has used: user and system, all its threads. `None` when it has ended.
pub(super) fn cpu(pid: u32) -> Option<Duration> {
    Some(times(pid)?.own)
}

/// The same with that of its children, and of theirs, whether they have ended or not. One that ends meanwhile may be
/// missing.
pub(super) fn family_cpu(pid: u32) -> Option<Duration> {
    let first = times(pid)?;
    let mut sum = first.own + first.ended;
    let mut family = children(pid);
    // The list grows while it is read.
    let mut next = 0;
    while let Some(child) = family.get(next).copied()
        && next < MOST
    {
        if let Some(times) = times(child) {
            sum += times.own + times.ended;
        }
        family.extend(children(child));
        next += 1;
    }
    Some(sum)
}

/// Memory of a process, KiB, as /proc/PID/status has it: `VmRSS` is in use, `VmHWM` the most that ever was.
pub(super) fn memory_kib(pid: u32, what: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn times(pid: u32) -> Option<Times> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let read =
        |list: String| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>();
    lists.flat_map(read).collect()
}

/// Reads /proc/PID/stat; of one that has ended and is not yet waited for there is nothing to say.
fn parse(stat: &str) -> Option<Times> {
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    if ["Z", "X"].contains(fields.first()?) {
        return None;
    }
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let time = |one, other| Some(Duration::from_millis((ticks(one)? + ticks(other)?) * TICK_MILLIS));
    Some(Times { own: time(11, 12)?, ended: time(13, 14)? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Times, cpu, family_cpu, memory_kib, parse};

    #[test]
    fn times_of_a_process() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 20 10 20 0 3 0 99";
        let times = Times { own: Duration::from_secs(2), ended: Duration::from_millis(300) };
        assert_eq!(parse(stat), Some(times));
        assert_eq!(parse(&stat.replace(" S ", " Z ")), None, "it has ended");
        assert_eq!(parse("7 (a) S 1"), None);
    }

    #[test]
    fn this_process() {
        let own = std::process::id();
        assert!(family_cpu(own) >= cpu(own));
        assert!(memory_kib(own, "VmHWM") >= memory_kib(own, "VmRSS"));
        assert!(memory_kib(own, "VmRSS").is_some_and(|kib| kib > 0));
        assert_eq!(memory_kib(own, "Vm"), None);
    }
}
