//! Ranges of addresses, as pools are written: `192.168.90.10-192.168.90.250`.

use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnetwork::Ipv4Network;

use super::Range;

impl Range {
    /// Whether an address is in the range.
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&addr)
    }

    /// Whether every address of the range is one that a client of this subnet can have.
    pub fn within(&self, prefix: Ipv4Network) -> bool {
        let usable = |addr| {
            prefix.contains(addr)
                && (prefix.prefix() > 30 || (addr != prefix.network() && addr != prefix.broadcast()))
        };
        usable(self.first) && usable(self.last)
    }
}

/// One address, or a range of them: what is left out of pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses(pub(super) Range);

/// Not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    /// Not two addresses with `-` between them.
    #[error(
        "`{0}` is not a range of addresses; write the first and the last, as in 192.168.90.10-192.168.90.250"
    )]
    Form(String),
    /// The last address is before the first.
    #[error("{last} comes before {first}; write the lower address first: {last}-{first}")]
    Backwards {
        /// What was written first.
        first: Ipv4Addr,
        /// What was written last.
        last: Ipv4Addr,
    },
}

impl FromStr for Range {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let parse = |part: &str| part.trim().parse().ok();
        let (first, last) = text
            .split_once('-')
            .and_then(|(first, last)| Some((parse(first)?, parse(last)?)))
            .ok_or_else(|| BadRange::Form(text.to_owned()))?;
        if last < first { Err(BadRange::Backwards { first, last }) } else { Ok(Self { first, last }) }
    }
}

impl FromStr for Addresses {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        match text.trim().parse() {
            Ok(addr) => Ok(Self(Range { first: addr, last: addr })),
            Err(_) => text.parse().map(Self),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Range {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Addresses, Range};

    #[test]
    fn one_address_can_be_left_out_too() {
        let read = |text: &str| text.parse::<Addresses>().map(|addresses| addresses.0.to_string());
        assert_eq!(read("10.0.0.1"), Ok("10.0.0.1-10.0.0.1".to_owned()));
        assert_eq!(read("10.0.0.1-10.0.0.9"), Ok("10.0.0.1-10.0.0.9".to_owned()));
        assert!(read("10.0.0").is_err());
    }

    #[test]
    fn reads_two_addresses() {
        let range: Range = "192.168.90.10 - 192.168.90.250".parse().unwrap();
        assert_eq!(range.to_string(), "192.168.90.10-192.168.90.250");
        assert!(range.contains([192, 168, 90, 10].into()) && range.contains([192, 168, 90, 250].into()));
        assert!(!range.contains([192, 168, 90, 251].into()));
    }

    #[test]
    fn refuses_the_rest_and_says_what_to_write() {
        for text in [
            "",
            "-",
            "192.168.90.10",
            "192.168.90.10-",
            "192.168.90.10-250",
            "a-b",
            "1.2.3.4-1.2.3.5-1.2.3.6",
        ] {
            let error = text.parse::<Range>().unwrap_err().to_string();
            assert!(error.contains("as in 192.168.90.10-192.168.90.250"), "{text}: {error}");
        }
        let error = "10.0.0.9-10.0.0.1".parse::<Range>().unwrap_err().to_string();
        assert!(error.ends_with("10.0.0.1-10.0.0.9"), "{error}");
    }

    #[test]
    fn belongs_to_a_subnet_or_not() {
        let table = [
            ("10.1.0.1-10.1.0.254", "10.1.0.0/24", true),
            ("10.1.0.0-10.1.0.9", "10.1.0.0/24", false),
            ("10.1.0.1-10.1.0.255", "10.1.0.0/24", false),
            ("10.1.0.1-10.1.1.1", "10.1.0.0/24", false),
            ("10.1.0.1-10.1.1.1", "10.1.0.0/16", true),
            ("10.1.0.0-10.1.0.1", "10.1.0.0/31", true),
        ];
        for (range, prefix, expected) in table {
            assert_eq!(
                range.parse::<Range>().unwrap().within(prefix.parse().unwrap()),
                expected,
                "{range} {prefix}"
            );
        }
    }
}
