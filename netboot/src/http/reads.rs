//! How often each machine has had its secrets since it last booted. Time comes as the number of its boot.
//!
//! Who gets into a running machine later finds nothing more to read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::mac::Mac;

/// The count of each machine that has secrets.
#[derive(Debug)]
pub struct Reads {
    most: u32,
    counted: Mutex<HashMap<Mac, Count>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    boot: u64,
    reads: u32,
}

impl Reads {
    /// Allows so many a boot.
    pub fn new(most: u32) -> Self {
        Self { most, counted: Mutex::default() }
    }

    /// Takes one, if there is one left. Another number of the boot begins anew.
    pub(super) fn take(&self, mac: Mac, boot: u64) -> bool {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counted.entry(mac).or_default();
        if count.boot != boot {
            *count = Count { boot, reads: 0 };
        }
        let left = count.reads < self.most;
        count.reads += u32::from(left);
        left
    }

    /// So many a boot.
    pub(super) fn most(&self) -> u32 {
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::Reads;
    use crate::mac::Mac;

    #[test]
    fn each_boot_of_each_machine_has_its_own_count() {
        let (reads, one, other) = (Reads::new(2), Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let taken: Vec<bool> = [0, 0, 0, 1, 1, 1].map(|boot| reads.take(one, boot)).into();
        assert_eq!(taken, [true, true, false, true, true, false]);
        assert!(reads.take(other, 0) && !Reads::new(0).take(one, 7));
    }
}
