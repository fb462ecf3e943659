//! Which addresses may be leased to machines without a reservation.
//!
//! Pure. Says nothing about who has which address: that is `leases`.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use crate::config::Range;

/// The most addresses that are ever leased, so that the table has a bound. More machines than this on one
/// network is not a network that anybody boots.
pub const LARGEST: usize = 65_536;

/// The pool of a subnet: the ranges that were set, as far as they are in it, else .10 to .250 of a /24 and the
/// same share of any other prefix; without what is excluded. A /31 and a /32 have no room for clients.
pub fn ranges(prefix: Ipv4Network, set: &[Range], excluded: &[Range]) -> Vec<Range> {
    let size = 1_u64 << (32 - u32::from(prefix.prefix()));
    if size < 4 {
        return Vec::new();
    }
    // Neither the network's own address nor the broadcast address.
    let base = u64::from(u32::from(prefix.network()));
    let (lowest, highest) = (base + 1, base + size - 2);
    let wanted: Vec<(u64, u64)> = if set.is_empty() {
        vec![(base + (10 * size).div_ceil(256), base + 250 * size / 256)]
    } else {
        set.iter().map(|range| (u32::from(range.first).into(), u32::from(range.last).into())).collect()
    };
    let inside = wanted.into_iter().filter_map(|(first, last)| {
        let (first, last) = (first.max(lowest), last.min(highest));
        // Both ends are in the prefix now, so they are addresses.
        let addr = |number| u32::try_from(number).ok().map(Ipv4Addr::from);
        (first <= last).then_some(Range { first: addr(first)?, last: addr(last)? })
    });
    excluded
        .iter()
        .fold(inside.collect(), |pool, hole| pool.iter().flat_map(|range| without(range, hole)).collect())
}

/// What is left of a range: what is before the hole, and what is behind it.
fn without(range: &Range, hole: &Range) -> impl Iterator<Item = Range> {
    let before = u32::from(hole.first).checked_sub(1).map(|last| (range.first, range.last.min(last.into())));
    let behind = u32::from(hole.last).checked_add(1).map(|first| (range.first.max(first.into()), range.last));
    let parts = [before, behind].into_iter().flatten();
    parts.filter(|(first, last)| first <= last).map(|(first, last)| Range { first, last })
}

/// The addresses of the ranges, [`LARGEST`] at most; they may repeat where ranges overlap.
pub fn addresses(ranges: &[Range]) -> impl Iterator<Item = Ipv4Addr> {
    let each = ranges.iter().flat_map(|range| u32::from(range.first)..=u32::from(range.last));
    each.map(Ipv4Addr::from).take(LARGEST)
}

#[cfg(test)]
mod tests {
    use super::{LARGEST, addresses, ranges};
    use crate::config::Range;

    fn range(text: &str) -> Range {
        let (first, last) = text.split_once('-').unwrap();
        Range { first: first.parse().unwrap(), last: last.parse().unwrap() }
    }

    fn pool(prefix: &str, set: &[&str]) -> Vec<String> {
        let set: Vec<Range> = set.iter().map(|text| range(text)).collect();
        ranges(prefix.parse().unwrap(), &set, &[]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_same_share_of_every_prefix() {
        let table: [(&str, &[&str]); 12] = [
            ("192.168.90.0/24", &["192.168.90.10-192.168.90.250"]),
            ("10.0.0.0/8", &["10.10.0.0-10.250.0.0"]),
            ("172.16.0.0/16", &["172.16.10.0-172.16.250.0"]),
            ("10.1.0.0/23", &["10.1.0.20-10.1.1.244"]),
            ("10.1.0.0/25", &["10.1.0.5-10.1.0.125"]),
            ("10.1.0.128/26", &["10.1.0.131-10.1.0.190"]),
            ("10.1.0.0/27", &["10.1.0.2-10.1.0.30"]),
            ("10.1.0.0/28", &["10.1.0.1-10.1.0.14"]),
            ("10.1.0.0/29", &["10.1.0.1-10.1.0.6"]),
            ("10.1.0.0/30", &["10.1.0.1-10.1.0.2"]),
            ("10.1.0.0/31", &[]),
            ("10.1.0.0/32", &[]),
        ];
        for (prefix, want) in table {
            assert_eq!(pool(prefix, &[]), want, "{prefix}");
        }
        assert_eq!(pool("0.0.0.0/0", &[]), ["10.0.0.0-250.0.0.0"]);
    }

    #[test]
    fn what_was_set_counts_as_far_as_it_is_inside() {
        let net = "192.168.90.0/24";
        assert_eq!(pool(net, &["192.168.90.100-192.168.90.110"]), ["192.168.90.100-192.168.90.110"]);
        assert_eq!(
            pool(net, &["192.168.89.1-192.168.90.3", "10.0.0.1-10.0.0.9"]),
            ["192.168.90.1-192.168.90.3"]
        );
        assert_eq!(pool(net, &["192.168.90.200-192.168.91.9"]), ["192.168.90.200-192.168.90.254"]);
        assert!(pool(net, &["192.168.90.9-192.168.90.3"]).is_empty());
    }

    #[test]
    fn what_is_excluded_is_in_no_pool() {
        let pool = |set: &[&str], excluded: &[&str]| -> Vec<String> {
            let read = |texts: &[&str]| -> Vec<Range> { texts.iter().map(|text| range(text)).collect() };
            let left = ranges("10.0.0.0/24".parse().unwrap(), &read(set), &read(excluded));
            left.iter().map(ToString::to_string).collect()
        };
        let set = &["10.0.0.10-10.0.0.20", "10.0.0.30-10.0.0.40"][..];
        assert_eq!(pool(set, &["10.0.0.1-10.0.0.9"]), set);
        assert_eq!(pool(set, &["10.0.0.10-10.0.0.20"]), ["10.0.0.30-10.0.0.40"]);
        assert_eq!(
            pool(set, &["10.0.0.15-10.0.0.15", "10.0.0.17-10.0.0.31"]),
            ["10.0.0.10-10.0.0.14", "10.0.0.16-10.0.0.16", "10.0.0.32-10.0.0.40"]
        );
        assert_eq!(pool(set, &["0.0.0.0-255.255.255.255"]), [""; 0]);
        assert_eq!(pool(&[], &["10.0.0.11-10.0.0.250"]), ["10.0.0.10-10.0.0.10"], "of the derived pool too");
    }

    #[test]
    fn a_large_pool_is_bounded() {
        assert_eq!(addresses(&[range("10.0.0.0-10.255.255.255")]).count(), LARGEST);
        assert_eq!(addresses(&[range("10.0.0.1-10.0.0.3")]).count(), 3);
        assert_eq!(addresses(&[range("255.255.255.254-255.255.255.255")]).count(), 2);
    }
}
