//! Leases of another server, held against the reserved machines and the leases that are there: which of them count.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::Range;

use crate::config::json::Source;
use crate::config::problem::{Problem, Severity};
use crate::dhcp::lease::{Lease, Owner};
use crate::inventory::Snapshot;

/// What becomes of the store.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// Leases to be written. Those that have ended are there so that the machine gets its address again.
    pub put: Vec<Lease>,
    /// Addresses whose lease gives way to another of the same machine; to be done first.
    pub delete: Vec<Ipv4Addr>,
    /// How many are in the store already.
    pub known: usize,
    /// Why others are left out.
    pub problems: Vec<Problem>,
}

/// Decides about each lease. Nobody loses a lease that has not ended: neither a machine of the store, nor a reserved
/// one. A machine has one lease, the one that ends last.
pub fn merge(
    source: &Source,
    found: &[(Range<usize>, Lease)],
    stored: &[Lease],
    reserved: &Snapshot,
    now: u64,
) -> Merged {
    let mut table = Table::default();
    // Of two of one machine the later counts, as for the server.
    let mut stored = stored.to_vec();
    stored.sort_by_key(|lease| lease.expires);
    for lease in stored {
        table.put(lease);
    }
    let mut merged = Merged::default();
    // The last to end comes first, so that nothing of the file takes the place of anything else of it.
    let mut order: Vec<_> = found.iter().collect();
    order.sort_by_key(|(at, lease)| (std::cmp::Reverse(lease.expires), at.start));
    for (at, lease) in order {
        match table.decide(lease, reserved, now) {
            Ok(Verdict::Put { before }) => {
                merged.delete.extend(before);
                merged.put.push(lease.clone());
                table.put(lease.clone());
            }
            Ok(Verdict::Known) => merged.known += 1,
            Err((why, help)) => {
                let message = format!("{} of {} is left out: {why}", lease.addr, lease.owner.mac);
                merged.problems.push(source.problem(Severity::Warning, at.start, at.end, message, help));
            }
        }
    }
    merged.problems.sort_by_key(|problem| problem.place);
    merged.put.sort_by_key(|lease| lease.addr);
    merged
}

/// What becomes of a lease that counts.
enum Verdict {
    /// Nothing: it is there.
    Known,
    /// It is written.
    Put {
        /// The address that the machine had before.
        before: Option<Ipv4Addr>,
    },
}

/// Who has what, ended or not.
#[derive(Debug, Default)]
struct Table {
    by_addr: HashMap<Ipv4Addr, Lease>,
    by_owner: HashMap<Owner, Lease>,
}

impl Table {
    fn put(&mut self, lease: Lease) {
        if let Some(other) = self.by_addr.insert(lease.addr, lease.clone())
            && self.by_owner.get(&other.owner) == Some(&other)
        {
            self.by_owner.remove(&other.owner);
        }
        let addr = lease.addr;
        if let Some(before) = self.by_owner.insert(lease.owner.clone(), lease)
            && before.addr != addr
        {
            self.by_addr.remove(&before.addr);
        }
    }

    /// Whether a lease counts; if not, why, and what to do.
    fn decide(
        &self,
        lease: &Lease,
        reserved: &Snapshot,
        now: u64,
    ) -> Result<Verdict, (String, &'static str)> {
        let Lease { addr, ref owner, expires } = *lease;
        if !is_machine(lease) {
            return Err(("no machine can have that".to_owned(), "nothing to do"));
        }
        if let Some(host) = reserved.by_mac(owner.mac) {
            let why = format!("the machine is reserved as {}", host.addr);
            return Err((why, "nothing to do: a reserved machine needs no lease"));
        }
        if let Some(host) = reserved.by_addr(addr) {
            let why = format!("the address is reserved for {}", host.mac);
            return Err((why, "nothing to do: the machine gets another address"));
        }
        if let Some(other) = self.by_addr.get(&addr)
            && other.owner != *owner
            && (other.expires > now || other.expires >= expires)
        {
            let why = format!(
                "{} {} the address",
                other.owner.mac,
                if other.expires > now { "has" } else { "had" }
            );
            return Err((why, "nothing to do: the machine gets another address"));
        }
        match self.by_owner.get(owner) {
            Some(own) if own.addr == addr && own.expires >= expires => Ok(Verdict::Known),
            Some(own) if own.expires >= expires => {
                let why = format!("the machine has {}, and for longer", own.addr);
                Err((why, "nothing to do: a machine has one lease"))
            }
            own => {
                let before = own.map(|own| own.addr).filter(|before| *before != addr);
                Ok(Verdict::Put { before })
            }
        }
    }
}

/// Whether the lease can be that of one machine.
fn is_machine(Lease { addr, owner: Owner { mac, .. }, .. }: &Lease) -> bool {
    let nobody = addr.is_unspecified() || addr.is_broadcast() || addr.is_multicast() || addr.is_loopback();
    let group = mac.0[0] & 1 == 1 || mac.0 == [0; 6];
    !nobody && !group
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Lease, Owner, merge};
    use crate::config::json::Source;
    use crate::inventory::{Host, Snapshot};
    use crate::mac::Mac;

    const NOW: u64 = 1000;

    fn lease((addr, mac, expires): (u8, u8, u64)) -> Lease {
        Lease::new([10, 0, 0, addr].into(), Mac([2, 0, 0, 0, 0, mac]), expires)
    }

    /// 10.0.0.99 is reserved for …:99.
    fn reserved() -> Snapshot {
        let Lease { addr, owner: Owner { mac, .. }, .. } = lease((99, 99, 0));
        let (hostname, channel) = ("r".to_owned(), "stable".to_owned());
        let variables = std::collections::BTreeMap::default();
        let boot = crate::config::Boot::default();
        let host = Host {
            mac,
            addr,
            hostname,
            channel,
            template: None,
            marks: None,
            ignition: None,
            variables,
            boot,
        };
        Snapshot::new(std::collections::BTreeMap::default(), vec![host])
    }

    type Row = (u8, u8, u64);

    fn check(stored: &[Row], found: &[Row], put: &[Row], delete: &[u8], why: &[&str]) {
        let stored: Vec<Lease> = stored.iter().copied().map(lease).collect();
        let text = "x\n".repeat(found.len());
        let found: Vec<_> =
            found.iter().enumerate().map(|(line, row)| (2 * line..2 * line + 1, lease(*row))).collect();
        let merged = merge(&Source::new(Path::new("f"), &text), &found, &stored, &reserved(), NOW);
        assert_eq!(merged.put, put.iter().copied().map(lease).collect::<Vec<_>>(), "{found:?}");
        assert_eq!(
            merged.delete,
            delete.iter().map(|last| [10, 0, 0, *last].into()).collect::<Vec<std::net::Ipv4Addr>>()
        );
        let said: Vec<_> = merged.problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), why.len(), "{said:#?}");
        for (said, part) in said.iter().zip(why) {
            assert!(said.contains(part), "{said}\nhas not\n{part}");
        }
        assert_eq!(merged.known + merged.put.len() + merged.problems.len(), found.len());
        // The same again changes nothing.
        let mut after: Vec<Lease> = stored
            .iter()
            .filter(|lease| !merged.delete.contains(&lease.addr))
            .filter(|lease| merged.put.iter().all(|put| put.addr != lease.addr))
            .cloned()
            .collect();
        after.extend(merged.put.iter().cloned());
        let again = merge(&Source::new(Path::new("f"), &text), &found, &after, &reserved(), NOW);
        assert_eq!((again.put, again.delete), (Vec::new(), Vec::new()));
    }

    #[test]
    fn into_an_empty_store() {
        check(&[], &[(1, 1, 2000), (2, 2, 500)], &[(1, 1, 2000), (2, 2, 500)], &[], &[]);
    }

    #[test]
    fn nobody_loses_a_lease_that_has_not_ended() {
        check(
            &[(1, 7, 1001)],
            &[(1, 1, 9000)],
            &[],
            &[],
            &[
                "f:1:1: warning: 10.0.0.1 of 02:00:00:00:00:01 is left out: 02:00:00:00:00:07 has the address;",
            ],
        );
        // At its very end it is over.
        check(&[(1, 7, 1000)], &[(1, 1, 9000)], &[(1, 1, 9000)], &[], &[]);
        check(&[(1, 7, 900)], &[(1, 1, 800)], &[], &[], &["had the address"]);
        check(&[(1, 7, 800)], &[(1, 1, 900)], &[(1, 1, 900)], &[], &[]);
    }

    #[test]
    fn a_machine_has_one_lease_the_one_that_ends_last() {
        check(&[(5, 1, 2000)], &[(1, 1, 3000)], &[(1, 1, 3000)], &[5], &[]);
        check(&[(5, 1, 2000)], &[(1, 1, 1500)], &[], &[], &["has 10.0.0.5, and for longer"]);
        check(&[(1, 1, 2000)], &[(1, 1, 1500)], &[], &[], &[]);
        check(&[(1, 1, 2000)], &[(1, 1, 2500)], &[(1, 1, 2500)], &[], &[]);
        check(&[], &[(1, 1, 1500), (2, 1, 1600)], &[(2, 1, 1600)], &[], &["f:1:1: warning: 10.0.0.1"]);
        check(&[], &[(1, 1, 1500), (1, 2, 1600)], &[(1, 2, 1600)], &[], &["f:1:1: warning: 10.0.0.1"]);
    }

    #[test]
    fn the_place_of_one_that_moves_away_can_be_taken() {
        // 5 is of …:01, who has 1 from now on; …:02 may have 5 then.
        check(&[(5, 1, 2000)], &[(1, 1, 3000), (5, 2, 2500)], &[(1, 1, 3000), (5, 2, 2500)], &[5], &[]);
    }

    #[test]
    fn reservations_count_more() {
        check(
            &[],
            &[(50, 99, 2000), (99, 1, 2000), (99, 99, 2000)],
            &[],
            &[],
            &[
                "the machine is reserved as 10.0.0.99",
                "the address is reserved for 02:00:00:00:00:63",
                "reserved as",
            ],
        );
    }

    #[test]
    fn what_no_machine_has_is_left_out() {
        let mut odd = lease((1, 1, 2000));
        odd.addr = [224, 0, 0, 1].into();
        let mut group = lease((2, 2, 2000));
        group.owner = Mac::BROADCAST.into();
        let source = Source::new(Path::new("f"), "x");
        let merged = merge(&source, &[(0..1, odd), (0..1, group)], &[], &reserved(), NOW);
        assert_eq!((merged.put.len(), merged.problems.len()), (0, 2));
    }
}
