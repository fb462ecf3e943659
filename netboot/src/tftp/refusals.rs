//! How many ERRORs an address is sent from the well-known port: who asks in the name of another must not have it flooded. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// ERRORs to one address in a second. A boot loader that looks for its configuration by ten names, and then for modules that
/// are not there, gets thirty in a moment.
const A_SECOND: u32 = 256;

/// What was said in this second. Addresses are those of the PXE networks, so there are not more of them than these have.
#[derive(Debug)]
pub(super) struct Refusals {
    since: Instant,
    said: HashMap<IpAddr, u32>,
}

impl Refusals {
    /// None so far.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, said: HashMap::new() }
    }

    /// Whether one more may be said to this address; if so it counts.
    pub(super) fn may(&mut self, addr: IpAddr, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            self.said.clear();
            self.since = now;
        }
        let said = self.said.entry(addr).or_default();
        let may = *said < A_SECOND;
        *said = said.saturating_add(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{A_SECOND, Refusals};

    #[test]
    fn an_address_gets_so_many_a_second_whatever_others_get() {
        let begun = Instant::now();
        let mut refusals = Refusals::new(begun);
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for second in 0..3 {
            let now = begun + Duration::from_secs(second);
            let said = (0..1000).filter(|_| refusals.may(one, now)).count();
            assert_eq!(said, usize::try_from(A_SECOND).unwrap());
            assert!(refusals.may(other, now) && !refusals.may(one, now + Duration::from_millis(999)));
            assert_eq!(refusals.said.len(), 2);
        }
    }
}
