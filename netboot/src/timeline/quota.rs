//! How many lines the log gets in a second. Pure.
//!
//! The program in the kernel answers more machines in a second than anybody can read, and than a log takes. What is left out
//! is counted, so that one line says how much that was.

/// Lines in a second. A rack that is switched on at once is far below that.
const MOST: u64 = 4096;

/// What became of this second's lines.
#[derive(Debug, Default)]
pub(super) struct Quota {
    second: u64,
    written: u64,
    left_out: u64,
}

impl Quota {
    /// Whether a line may be written now.
    pub(super) fn take(&mut self, second: u64) -> bool {
        if self.second != second {
            (self.second, self.written) = (second, 0);
        }
        let may = self.written < MOST;
        if may {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        may
    }

    /// How many lines were left out in seconds that are over, each told once.
    pub(super) fn settle(&mut self, second: u64) -> Option<u64> {
        let over = self.left_out > 0 && self.second != second;
        over.then(|| std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Quota};

    #[test]
    fn what_is_left_out_is_told_once_when_its_second_is_over() {
        let mut quota = Quota::default();
        assert_eq!((0..10_000).filter(|_| quota.take(7)).count() as u64, MOST);
        assert_eq!(quota.settle(7), None);
        assert_eq!((quota.settle(8), quota.settle(8)), (Some(10_000 - MOST), None));
        assert!(quota.take(8));
        assert_eq!(quota.settle(9), None);
        // A clock that is set back begins a new second like any other.
        assert!(quota.take(3));
    }
}
