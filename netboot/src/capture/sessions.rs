//! The TFTP transfers that run: who asked from which port, so that what follows between two ports that nobody knows
//! beforehand is known for TFTP (RFC 1350 4).
//!
//! Bounded: a transfer is forgotten when it is silent for long, or when it was silent for longest and there are too many.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::tftp::wire::{self, Packet};

/// More than run at once on any server of one network.
pub(super) const MOST: usize = 8192;
/// Longest pause in a transfer, nanoseconds: the longest `timeout` (RFC 2349), and a little.
const IDLE_NS: u64 = 300_000_000_000;
/// Without the option `blksize` (RFC 1350 2).
const BLOCK: usize = 512;

/// A transfer: the client's address and port, and the server's address.
type Key = (Ipv4Addr, u16, Ipv4Addr);

#[derive(Debug)]
struct Session {
    /// When it was last heard.
    at_ns: u64,
    /// Bytes in a block.
    block: usize,
}

/// All transfers that are known.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_key: BTreeMap<Key, Session>,
    /// The same by when they were last heard.
    by_age: BTreeSet<(u64, Key)>,
}

impl Sessions {
    /// A client asks a server for a file.
    pub(super) fn begin(&mut self, client: (Ipv4Addr, u16), server: Ipv4Addr, at_ns: u64) {
        let key = (client.0, client.1, server);
        // Who asks again from the same port begins anew.
        self.forget(key);
        while let Some((heard_ns, oldest)) = self.by_age.first().copied()
            && (self.by_key.len() >= MOST || heard_ns.saturating_add(IDLE_NS) < at_ns)
        {
            self.forget(oldest);
        }
        self.by_key.insert(key, Session { at_ns, block: BLOCK });
        self.by_age.insert((at_ns, key));
    }

    /// Whether a datagram is part of a transfer, and then how many bytes a block of it has.
    pub(super) fn part(
        &mut self,
        from: (Ipv4Addr, u16),
        to: (Ipv4Addr, u16),
        payload: &[u8],
        at_ns: u64,
    ) -> Option<usize> {
        let keys = [(from.0, from.1, to.0), (to.0, to.1, from.0)];
        let key = keys.into_iter().find(|key| self.by_key.contains_key(key))?;
        let session = self.by_key.get_mut(&key)?;
        if session.at_ns.saturating_add(IDLE_NS) < at_ns {
            self.forget(key);
            return None;
        }
        self.by_age.remove(&(session.at_ns, key));
        session.at_ns = session.at_ns.max(at_ns);
        self.by_age.insert((session.at_ns, key));
        if let Ok(Packet::Oack(options)) = wire::parse(payload) {
            let granted = options.iter().find(|(name, _)| name.eq_ignore_ascii_case("blksize"));
            session.block = granted.and_then(|(_, value)| value.parse().ok()).unwrap_or(BLOCK);
        }
        Some(session.block)
    }

    /// Whether these two are the ends of a transfer.
    pub(super) fn has(&self, one: (Ipv4Addr, u16), other: (Ipv4Addr, u16)) -> bool {
        self.by_key.contains_key(&(one.0, one.1, other.0))
            || self.by_key.contains_key(&(other.0, other.1, one.0))
    }

    fn forget(&mut self, key: Key) {
        if let Some(session) = self.by_key.remove(&key) {
            self.by_age.remove(&(session.at_ns, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{IDLE_NS, MOST, Sessions};

    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 2);
    const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 168, 90, 11), 2000);
    const DATA: &[u8] = &[0, 3, 0, 1];

    #[test]
    fn a_transfer_is_known_in_both_directions_on_whatever_port_the_server_takes() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.part((SERVER, 4000), CLIENT, DATA, 0), None);
        sessions.begin(CLIENT, SERVER, 0);
        assert_eq!(sessions.part((SERVER, 4000), CLIENT, b"\0\x06BlkSize\x001428\0", 1), Some(1428));
        assert_eq!(sessions.part(CLIENT, (SERVER, 4000), &[0, 4, 0, 0], 2), Some(1428));
        assert!(sessions.has(CLIENT, (SERVER, 4000)) && sessions.has((SERVER, 1), CLIENT));
        // Another port of the client, and another server.
        assert_eq!(sessions.part((CLIENT.0, 2001), (SERVER, 4000), DATA, 3), None);
        assert_eq!(sessions.part((Ipv4Addr::LOCALHOST, 4000), CLIENT, DATA, 3), None);
        // From the same port for the next file, without options.
        sessions.begin(CLIENT, SERVER, 4);
        assert_eq!(sessions.part((SERVER, 4001), CLIENT, DATA, 5), Some(512));
    }

    #[test]
    fn it_is_forgotten_after_a_long_silence() {
        let mut sessions = Sessions::default();
        sessions.begin(CLIENT, SERVER, 5);
        assert!(sessions.part((SERVER, 4000), CLIENT, DATA, 5 + IDLE_NS).is_some());
        assert!(sessions.part((SERVER, 4000), CLIENT, DATA, 5 + 2 * IDLE_NS).is_some());
        assert!(sessions.part((SERVER, 4000), CLIENT, DATA, 6 + 3 * IDLE_NS).is_none());
        assert!(sessions.by_key.is_empty() && sessions.by_age.is_empty());
    }

    #[test]
    fn a_flood_of_requests_fills_no_memory_and_the_silent_ones_go_first() {
        let mut sessions = Sessions::default();
        sessions.begin(CLIENT, SERVER, 0);
        for number in 0..3 * u64::try_from(MOST).unwrap() {
            let stranger = (Ipv4Addr::from_bits(u32::try_from(number).unwrap()), 9);
            sessions.begin(stranger, SERVER, 2 * number);
            assert!(sessions.part((SERVER, 4000), CLIENT, DATA, 2 * number + 1).is_some());
            assert!(sessions.by_key.len() <= MOST && sessions.by_key.len() == sessions.by_age.len());
        }
        assert_eq!(sessions.by_key.len(), MOST);
        sessions.begin(CLIENT, SERVER, 10 * IDLE_NS);
        assert_eq!(sessions.by_key.len(), 1, "the others have ended by now");
    }
}
