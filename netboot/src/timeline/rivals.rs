//! Other DHCP servers that were heard speaking to clients. Pure, and bounded: the one goes that was silent longest.

use std::net::Ipv4Addr;

use super::recent::Recent;
use crate::mac::Mac;

/// More are somebody's game.
const MOST: usize = 16;

/// Another DHCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rival {
    /// The address that its packets come from.
    pub addr: Ipv4Addr,
    /// The Ethernet address.
    pub mac: Mac,
    /// When it was heard last, in seconds since 1970. Not each of its packets is told.
    pub last_seen: u64,
}

/// Those that were heard.
#[derive(Debug)]
pub(super) struct Rivals(Recent<(Ipv4Addr, Mac), Rival>);

impl Default for Rivals {
    fn default() -> Self {
        Self(Recent::new(MOST))
    }
}

impl Rivals {
    pub(super) fn note(&mut self, addr: Ipv4Addr, mac: Mac, now: u64) {
        self.0.put((addr, mac), Rival { addr, mac, last_seen: now });
    }

    /// All of them, the one that was heard last first.
    pub(super) fn all(&self) -> Vec<Rival> {
        self.0.newest_first().map(|(_, rival)| *rival).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Rival, Rivals};
    use crate::mac::Mac;

    #[test]
    fn each_is_there_once_and_no_more_than_so_many() {
        let mut rivals = Rivals::default();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        for now in [5, 9] {
            rivals.note([10, 0, 0, 1].into(), mac, now);
        }
        rivals.note([10, 0, 0, 2].into(), mac, 7);
        let first = Rival { addr: [10, 0, 0, 1].into(), mac, last_seen: 9 };
        assert_eq!(rivals.all(), [Rival { addr: [10, 0, 0, 2].into(), mac, last_seen: 7 }, first]);
        for number in 0..1000_u32 {
            rivals.note(number.into(), mac, 10);
        }
        assert_eq!(rivals.all().len(), MOST);
    }
}
