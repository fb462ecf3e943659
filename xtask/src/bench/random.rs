//! Numbers that look random and are the same in each run: which machine asks next.

/// xorshift64* (Vigna 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Begins a row of numbers; two that begin alike are alike.
    pub(super) fn new(seed: u64) -> Self {
        // All zeros would stay so.
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below this one, or 0.
    pub(super) fn below(&mut self, limit: u32) -> u32 {
        // The high bits are the better ones.
        let high = self.next() >> 32;
        u32::try_from((high * u64::from(limit)) >> 32).unwrap_or_default()
    }

    /// The numbers below this one, each once, in any order.
    pub(super) fn shuffled(&mut self, limit: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..limit).collect();
        for (last, high) in (0..all.len()).rev().zip((1..=limit).rev()) {
            let other = self.below(high);
            all.swap(last, usize::try_from(other).unwrap_or_default());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn every_machine_once_in_no_order() {
        let mut all = Random::new(7).shuffled(1000);
        let in_place = (0..).zip(&all).filter(|(place, host)| place == *host).count();
        assert!(in_place < 20, "{in_place} are where they were");
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert!(Random::new(7).shuffled(0).is_empty());
        let mut random = Random::new(0);
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
    }
}
