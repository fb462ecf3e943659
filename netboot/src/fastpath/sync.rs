//! Brings the program's map from what it holds to what it should hold, with as few writes as can be.
//!
//! Pure but for the [`Table`]. At no moment do two machines hold one address: what goes or changes its address is
//! taken out before anything is put in; in between, those machines are the daemon's.

use netboot_ebpf::abi::ReplyKey;

use super::entries::{Entries, Entry};

/// What an update did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Entries that were not there.
    pub added: usize,
    /// Entries that were there with another reply.
    pub replaced: usize,
    /// Entries that are gone.
    pub removed: usize,
}

/// The map.
pub trait Table {
    /// Why it could not be written.
    type Error;

    /// Puts an entry in, whole, in the place of one with the same key.
    ///
    /// # Errors
    /// When it cannot be written; the old entry, if any, is still there.
    fn put(&mut self, key: ReplyKey, entry: &Entry) -> Result<(), Self::Error>;

    /// Takes an entry out; fine if there is none.
    ///
    /// # Errors
    /// When it cannot be taken out.
    fn take(&mut self, key: ReplyKey) -> Result<(), Self::Error>;
}

/// Writes the difference. `held` is kept as the table is, also when something fails; an entry that cannot be put in
/// is taken out, for the daemon answers better than an old entry.
///
/// # Errors
/// The first failure, after everything else was tried.
pub fn apply<T: Table>(table: &mut T, held: &mut Entries, wanted: Entries) -> Result<Changed, T::Error> {
    let mut changed = Changed::default();
    let mut failure = None;
    let stale: Vec<(ReplyKey, bool)> = held
        .iter()
        .filter_map(|(key, entry)| match wanted.get(key) {
            None => Some((*key, true)),
            Some(new) => (new.addr != entry.addr).then_some((*key, false)),
        })
        .collect();
    for (key, gone) in &stale {
        // If it stays it still holds its address, so nothing may be put in that could have the same.
        table.take(*key)?;
        held.remove(key);
        changed.removed += usize::from(*gone);
    }
    for (key, entry) in wanted {
        if held.get(&key) == Some(&entry) {
            continue;
        }
        if let Err(error) = table.put(key, &entry) {
            failure.get_or_insert(error);
            if held.contains_key(&key) && table.take(key).is_ok() {
                held.remove(&key);
            }
            continue;
        }
        let known = held.insert(key, entry).is_some() || stale.contains(&(key, false));
        changed.replaced += usize::from(known);
        changed.added += usize::from(!known);
    }
    failure.map_or(Ok(changed), Err)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use netboot_ebpf::abi::ReplyKey;

    use super::{Changed, Table, apply};
    use crate::dhcp::options::{Client, Subnet, template};
    use crate::fastpath::entries::{Entries, Entry};
    use crate::inventory::Snapshot;

    /// A table that checks each moment, refuses what it is told to, and counts.
    #[derive(Default)]
    struct Fake {
        entries: BTreeMap<ReplyKey, Entry>,
        refuse: Option<ReplyKey>,
        writes: usize,
    }

    impl Table for Fake {
        type Error = ReplyKey;

        fn put(&mut self, key: ReplyKey, entry: &Entry) -> Result<(), ReplyKey> {
            if self.refuse == Some(key) {
                return Err(key);
            }
            let owner =
                self.entries.iter().find(|(other, held)| other.mac != key.mac && held.addr == entry.addr);
            assert_eq!(owner, None, "two owners of {}", entry.addr);
            self.writes += 1;
            self.entries.insert(key, entry.clone());
            Ok(())
        }

        fn take(&mut self, key: ReplyKey) -> Result<(), ReplyKey> {
            self.writes += 1;
            self.entries.remove(&key);
            Ok(())
        }
    }

    fn key(number: u8) -> ReplyKey {
        ReplyKey { mac: [2, 0, 0, 0, 0, number], class: 0, pad: 0 }
    }

    fn entries(list: &[(u8, u8, &str)]) -> Entries {
        let subnet = Subnet {
            server: Ipv4Addr::new(192, 168, 90, 2),
            prefix: "192.168.90.0/24".parse().expect("a prefix"),
            lease_secs: 3600,
            routers: vec![],
            dns: vec![],
            domain: None,
            boot: crate::config::Boot::default(),
            http_port: 8080,
            menu: None,
            custom: crate::config::options::Custom::default(),
            rapid_commit: false,
            mtu: 1500,
        };
        let entry = |addr, hostname| {
            let class = netboot_ebpf::Class::Plain;
            let hostname = Some(hostname);
            let client = Client { hostname, ..Client::new(&subnet, &Snapshot::default(), addr, None, class) };
            Entry { addr, template: template(&subnet, &client) }
        };
        list.iter()
            .map(|(number, addr, name)| (key(*number), entry(Ipv4Addr::new(192, 168, 90, *addr), *name)))
            .collect()
    }

    fn update(table: &mut Fake, held: &mut Entries, list: &[(u8, u8, &str)]) -> Result<Changed, ReplyKey> {
        let result = apply(table, held, entries(list));
        assert_eq!(&table.entries, held, "what is remembered is what is there");
        result
    }

    #[test]
    fn writes_the_difference_alone() {
        let (mut table, mut held) = (Fake::default(), Entries::new());
        let first = [(1, 11, "a"), (2, 12, "b"), (3, 13, "c")];
        assert_eq!(update(&mut table, &mut held, &first), Ok(Changed { added: 3, ..Changed::default() }));
        assert_eq!(update(&mut table, &mut held, &first), Ok(Changed::default()));
        assert_eq!(table.writes, 3);
        let second = [(1, 11, "a"), (2, 12, "other"), (4, 14, "d")];
        assert_eq!(update(&mut table, &mut held, &second), Ok(Changed { added: 1, replaced: 1, removed: 1 }));
        assert_eq!(table.writes, 6);
    }

    #[test]
    fn two_machines_change_places_without_sharing_an_address() {
        let (mut table, mut held) = (Fake::default(), Entries::new());
        update(&mut table, &mut held, &[(1, 11, "a"), (2, 12, "b")]).expect("put in");
        let changed = update(&mut table, &mut held, &[(1, 12, "a"), (2, 11, "b")]);
        assert_eq!(changed, Ok(Changed { replaced: 2, ..Changed::default() }));
    }

    #[test]
    fn what_cannot_be_put_in_is_taken_out() {
        let (mut table, mut held) = (Fake::default(), Entries::new());
        update(&mut table, &mut held, &[(1, 11, "a"), (2, 12, "b")]).expect("put in");
        table.refuse = Some(key(1));
        assert_eq!(update(&mut table, &mut held, &[(1, 11, "new"), (2, 12, "new")]), Err(key(1)));
        assert_eq!(table.entries.keys().collect::<Vec<_>>(), [&key(2)]);
        table.refuse = None;
        let changed = update(&mut table, &mut held, &[(1, 11, "new"), (2, 12, "new")]);
        assert_eq!(changed, Ok(Changed { added: 1, ..Changed::default() }), "the next update tries again");
    }
}
