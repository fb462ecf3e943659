//! Processor time and memory of a process, as /proc has them.

use std::collections::HashMap;
use std::time::Duration;

/// /proc counts time in hundredths of a second on every machine (`USER_HZ`).
const TICK_MILLIS: u64 = 10;
/// Processes that are looked at, of one that has many children.
const MOST: usize = 4096;

/// Processor time that a process has used: user and system, all its threads. `None` when it has ended.
pub(super) fn cpu(pid: u32) -> Option<Duration> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Processor time of a process and of its children, and of theirs, from now on. The kernel keeps no times of children
/// that nobody waits for, so they are those that each had when it was last looked at.
#[derive(Debug)]
pub(super) struct Family {
    first: u32,
    /// For each process: what it had used at the beginning, and what when it was last looked at.
    seen: HashMap<u32, [Duration; 2]>,
}

impl Family {
    /// Begins with what is there now; `None` when the process has ended.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let mut family = Self { first: pid, seen: HashMap::new() };
        family.look()?;
        for [before, last] in family.seen.values_mut() {
            *before = *last;
        }
        Some(family)
    }

    /// Looks at all that live, and returns how many that are; `None` when the first of them does not.
    pub(super) fn look(&mut self) -> Option<usize> {
        cpu(self.first)?;
        let mut all = vec![self.first];
        // The list grows while it is read.
        let mut next = 0;
        while let Some(pid) = all.get(next).copied()
            && next < MOST
        {
            if let Some(cpu) = cpu(pid) {
                let [_, last] = self.seen.entry(pid).or_default();
                *last = cpu.max(exact(pid));
                all.extend(children(pid));
            }
            next += 1;
        }
        Some(all.len())
    }

    /// What all of them have used since the beginning.
    pub(super) fn used(&self) -> Duration {
        self.seen.values().map(|[before, last]| last.saturating_sub(*before)).sum()
    }
}

/// Memory of a process, KiB, as /proc/PID/status has it: `VmRSS` is in use, `VmHWM` the most that ever was.
pub(super) fn memory_kib(pid: u32, what: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the first thread of a process has run, to the nanosecond; nothing where the kernel does not say. Of many processes
/// that have each used less than a tick, ticks would say nothing.
fn exact(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let read =
        |list: String| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>();
    lists.flat_map(read).collect()
}

/// User and system time of /proc/PID/stat; `None` of one that has ended and is not yet waited for.
fn parse(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    if ["Z", "X"].contains(fields.first()?) {
        return None;
    }
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks(11)? + ticks(12)?) * TICK_MILLIS))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::{Family, cpu, memory_kib, parse};

    #[test]
    fn times_of_a_process() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 20 10 20 0 3 0 99";
        assert_eq!(parse(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse(&stat.replace(" S ", " Z ")), None, "it has ended");
        assert_eq!(parse("7 (a) S 1"), None);
    }

    #[test]
    fn children_that_are_gone_count() {
        // A child of the shell works when it is told to; the shell only waits for it.
        let work = "read go; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; read end";
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("({work}); :")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let mut family = Family::of(child.id()).unwrap();
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
        family.look().unwrap();
        let used = family.used();
        assert!(used > cpu(child.id()).unwrap(), "the child has worked, the shell has not: {used:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(family.look(), None);
        assert_eq!(family.used(), used);
    }

    #[test]
    fn memory_of_this_process() {
        let own = std::process::id();
        // In this order: the other tests take memory meanwhile.
        let (now, most) = (memory_kib(own, "VmRSS"), memory_kib(own, "VmHWM"));
        assert!(now.is_some_and(|kib| kib > 0) && most >= now, "{now:?} {most:?}");
        assert_eq!(memory_kib(own, "Vm"), None);
    }
}
