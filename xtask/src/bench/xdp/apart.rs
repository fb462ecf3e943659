//! Generator and program on two processors: what a veth delivers is handed to another processor than the sender's (RPS),
//! so that frames come to the program in rows, as from a network card.
//!
//! Without it the kernel runs the program of a veth's other end on the time of who sends, frame by frame.

use std::process::Command;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use xtask::lab::Namespace;

use crate::steps::quiet;

/// As long as this lives, this thread stays on one processor.
#[derive(Debug)]
pub(super) struct Apart {
    before: CpuSet,
    other: usize,
}

impl Apart {
    /// Keeps this thread on its first processor; `None` when it may use no second one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn new() -> Result<Option<Self>> {
        let before = sched_getaffinity(None).context("ask for this thread's processors")?;
        let Some((own, other)) = first_two(&before) else { return Ok(None) };
        let mut only = CpuSet::new();
        only.set(own);
        sched_setaffinity(None, &only).context("keep this thread on one processor")?;
        Ok(Some(Self { before, other }))
    }

    /// Hands what arrives at `pxe0` of this namespace to the other processor.
    ///
    /// # Errors
    /// When the kernel has no RPS.
    pub(super) fn receive(&self, server: &Namespace) -> Result<()> {
        let place = "/sys/class/net/pxe0/queues/rx-0/rps_cpus";
        let line = format!("echo {} > {place}", mask(self.other));
        // Not by nsenter: /sys shows the interfaces of the namespace in which it was mounted.
        let mut command = Command::new("ip");
        quiet(command.args(["netns", "exec", server.name(), "sh", "-c", &line])).map(drop)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // It could be set before.
        let _ = sched_setaffinity(None, &self.before);
    }
}

fn first_two(all: &CpuSet) -> Option<(usize, usize)> {
    let mut set = (0..CpuSet::MAX_CPU).filter(|processor| all.is_set(*processor));
    Some((set.next()?, set.next()?))
}

/// The bit of a processor as the kernel reads it: groups of 32 bits, the highest first.
fn mask(processor: usize) -> String {
    format!("{:x}{}", 1_u32 << (processor % 32), ",00000000".repeat(processor / 32))
}

#[cfg(test)]
mod tests {
    use super::{CpuSet, first_two, mask};

    #[test]
    fn processors_and_their_bits() {
        let mut set = CpuSet::new();
        set.set(3);
        assert_eq!(first_two(&set), None);
        set.set(40);
        set.set(41);
        assert_eq!(first_two(&set), Some((3, 40)));
        assert_eq!((mask(0), mask(31), mask(33)), ("1".into(), "80000000".into(), "2,00000000".into()));
    }
}
