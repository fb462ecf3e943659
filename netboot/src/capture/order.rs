//! Puts what comes from two sources into the order of its time: each waits a moment for what is older.
//!
//! Keeps no clock, and no more bytes than [`MOST`].

use std::collections::BTreeMap;

/// How long something waits: longer than a source is not looked at.
pub(super) const WAIT_NS: u64 = 50_000_000;
/// With more than this waiting, the oldest goes at once.
const MOST: usize = 32 << 20;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// By time, and what came first at the same time first.
    waiting: BTreeMap<(u64, u64), Vec<u8>>,
    number: u64,
    bytes: usize,
}

impl Order {
    /// Takes the block of something that happened then.
    pub(super) fn put(&mut self, at_ns: u64, block: Vec<u8>) {
        self.number += 1;
        self.bytes += block.len();
        self.waiting.insert((at_ns, self.number), block);
    }

    /// The next block that has waited long enough.
    pub(super) fn next(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        let (at_ns, _) = *self.waiting.first_key_value()?.0;
        if self.bytes <= MOST && at_ns.saturating_add(WAIT_NS) > now_ns {
            return None;
        }
        let (_, block) = self.waiting.pop_first()?;
        self.bytes -= block.len();
        Some(block)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Order, WAIT_NS};

    #[test]
    fn what_is_older_goes_first_though_it_comes_later() {
        let mut order = Order::default();
        for (at_ns, name) in [(20, "c"), (10, "a"), (20, "d"), (15, "b")] {
            order.put(at_ns, name.into());
        }
        assert_eq!(order.next(WAIT_NS + 9), None);
        let out: Vec<_> = std::iter::from_fn(|| order.next(WAIT_NS + 19)).collect();
        assert_eq!(out, [b"a", b"b"]);
        // What comes too late goes at once.
        order.put(5, "late".into());
        assert_eq!(order.next(WAIT_NS + 19), Some("late".into()));
        let out: Vec<_> = std::iter::from_fn(|| order.next(u64::MAX)).collect();
        assert_eq!(out, [b"c", b"d"]);
        assert!(order.is_empty() && order.bytes == 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut order = Order::default();
        let mut out = 0;
        for at_ns in 0..4 {
            order.put(at_ns, vec![0; MOST / 2]);
            out += std::iter::from_fn(|| order.next(0)).count();
        }
        assert_eq!((out, order.bytes), (2, MOST));
    }
}
