//! What a client asks for and what it is granted (RFC 2347, 2348, 2349, 7440). Pure.
//!
//! Only what was asked is granted, never more than was asked; an option that is unknown or makes no sense is left out of
//! the OACK, which RFC 2347 lets a client live with.

use std::time::Duration;

use super::transfer::Rollover;

/// Block size without the option (RFC 1350).
const BLKSIZE: u16 = 512;

/// IPv4, UDP and TFTP headers around a block.
const HEADERS: u32 = 20 + 8 + 4;

/// The largest window ever granted: half the block numbers, so that an old ACK is never taken for a new one.
const WINDOW_LIMIT: u16 = 0x7fff;

/// What the server allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet of the link, bytes: a block must fit without IP fragments.
    pub mtu: u32,
    /// Largest window, blocks.
    pub max_window: u16,
    /// What comes behind block 65,535.
    pub rollover: Rollover,
    /// Bytes of the client's windows that may be on their way at once. A window has at least one block.
    pub in_flight: u64,
}

/// What was agreed for a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Bytes in a block.
    pub blksize: u16,
    /// Blocks sent before an ACK is awaited.
    pub windowsize: u16,
    /// The client's retransmission interval.
    pub timeout: Option<Duration>,
    /// The client asked for the size: it may be all it wants.
    pub tsize: bool,
    /// What comes behind block 65,535. No option says so: it is the server's setting.
    pub rollover: Rollover,
    /// What the OACK says, names in the client's spelling; empty: no OACK.
    pub oack: Vec<(String, String)>,
}

/// Grants what can be granted of the options of a request for a file of `size` bytes.
pub fn negotiate(asked: &[(&str, &str)], size: u64, limits: Limits) -> Agreed {
    let mut agreed = Agreed {
        blksize: BLKSIZE,
        windowsize: 1,
        timeout: None,
        tsize: false,
        rollover: limits.rollover,
        oack: Vec::new(),
    };
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in asked {
        let option = name.to_ascii_lowercase();
        // RFC 2347: an option may be given once. The first counts.
        if seen.contains(&option) {
            continue;
        }
        let Ok(value) = value.parse::<u64>() else { continue };
        let granted = match option.as_str() {
            "blksize" if value >= 8 => {
                let fits = limits.mtu.saturating_sub(HEADERS).clamp(8, 65464);
                let blksize = u16::try_from(value.min(u64::from(fits))).unwrap_or(BLKSIZE);
                agreed.blksize = blksize;
                u64::from(blksize)
            }
            "windowsize" if value >= 1 => {
                let most = limits.max_window.clamp(1, WINDOW_LIMIT);
                agreed.windowsize = u16::try_from(value).unwrap_or(u16::MAX).min(most);
                // Said below.
                0
            }
            "timeout" if (1..=255).contains(&value) => {
                agreed.timeout = Some(Duration::from_secs(value));
                value
            }
            "tsize" => {
                agreed.tsize = true;
                size
            }
            _ => continue,
        };
        agreed.oack.push(((*name).to_owned(), granted.to_string()));
        seen.push(option);
    }
    // How many blocks there is room for depends on their size, which may be asked for last.
    let most = (limits.in_flight / u64::from(agreed.blksize)).max(1);
    agreed.windowsize = agreed.windowsize.min(u16::try_from(most).unwrap_or(u16::MAX));
    for (name, value) in &mut agreed.oack {
        if name.eq_ignore_ascii_case("windowsize") {
            *value = agreed.windowsize.to_string();
        }
    }
    agreed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pairs = &'static [(&'static str, &'static str)];

    #[test]
    fn a_window_has_no_more_bytes_than_there_is_room_for() {
        let limits = Limits { in_flight: 10_000, ..LIMITS };
        for (blksize, window, granted) in
            [("1000", "64", 10), ("1000", "4", 4), ("1001", "64", 9), ("8", "64", 64), ("1468", "1", 1)]
        {
            for asked in [
                [("blksize", blksize), ("WindowSize", window)],
                [("WindowSize", window), ("blksize", blksize)],
            ] {
                let agreed = negotiate(&asked, 0, limits);
                assert_eq!(agreed.windowsize, granted, "{asked:?}");
                assert!(agreed.oack.contains(&("WindowSize".to_owned(), granted.to_string())), "{agreed:?}");
            }
        }
        let none = Limits { in_flight: 0, ..LIMITS };
        assert_eq!(negotiate(&[("windowsize", "64")], 0, none).windowsize, 1, "one block always");
    }

    const LIMITS: Limits =
        Limits { mtu: 1500, max_window: 64, rollover: Rollover::Zero, in_flight: u64::MAX };

    #[test]
    fn grants_only_what_was_asked() {
        // What is asked, what the OACK says.
        let cases: &[(Pairs, Pairs)] = &[
            (&[], &[]),
            (&[("blksize", "1408")], &[("blksize", "1408")]),
            (&[("blksize", "1468")], &[("blksize", "1468")]),
            (&[("blksize", "1469")], &[("blksize", "1468")]),
            (&[("blksize", "65464")], &[("blksize", "1468")]),
            (&[("blksize", "99999")], &[("blksize", "1468")]),
            (&[("blksize", "8")], &[("blksize", "8")]),
            (&[("blksize", "7")], &[]),
            (&[("blksize", "0")], &[]),
            (&[("blksize", "-1")], &[]),
            (&[("blksize", "")], &[]),
            (&[("blksize", "99999999999999999999")], &[]),
            (&[("BLKSize", "512")], &[("BLKSize", "512")]),
            (&[("tsize", "0")], &[("tsize", "777")]),
            (&[("tsize", "5")], &[("tsize", "777")]),
            (&[("tsize", "x")], &[]),
            (&[("timeout", "1")], &[("timeout", "1")]),
            (&[("timeout", "255")], &[("timeout", "255")]),
            (&[("timeout", "0")], &[]),
            (&[("timeout", "256")], &[]),
            (&[("windowsize", "4")], &[("windowsize", "4")]),
            (&[("windowsize", "65535")], &[("windowsize", "64")]),
            (&[("windowsize", "100000")], &[("windowsize", "64")]),
            (&[("windowsize", "0")], &[]),
            (&[("multicast", ""), ("rollover", "0")], &[]),
            (&[("blksize", "600"), ("BLKSIZE", "700")], &[("blksize", "600")]),
            (
                &[("tsize", "0"), ("nonsense", "1"), ("blksize", "1468"), ("windowsize", "4")],
                &[("tsize", "777"), ("blksize", "1468"), ("windowsize", "4")],
            ),
        ];
        for (asked, oack) in cases {
            let agreed = negotiate(asked, 777, LIMITS);
            let said: Vec<_> =
                agreed.oack.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(said, *oack, "{asked:?}");
        }
    }

    #[test]
    fn agrees_what_it_says() {
        let agreed = negotiate(
            &[("tsize", "0"), ("blksize", "9000"), ("windowsize", "90"), ("timeout", "3")],
            5,
            LIMITS,
        );
        assert_eq!((agreed.blksize, agreed.windowsize, agreed.tsize), (1468, 64, true));
        assert_eq!(agreed.timeout, Some(Duration::from_secs(3)));
        let plain = negotiate(&[], 5, LIMITS);
        assert_eq!((plain.blksize, plain.windowsize, plain.tsize, plain.timeout), (512, 1, false, None));
    }

    #[test]
    fn an_old_ack_is_never_a_new_one() {
        let limits = Limits { mtu: 9000, max_window: u16::MAX, ..LIMITS };
        assert_eq!(negotiate(&[("windowsize", "65535")], 0, limits).windowsize, 0x7fff);
        assert_eq!(
            negotiate(&[("windowsize", "9")], 0, Limits { mtu: 0, max_window: 0, ..LIMITS }).windowsize,
            1
        );
    }

    proptest! {
        #[test]
        fn never_more_than_asked(blksize in any::<u32>(), windowsize in any::<u32>(), mtu in any::<u32>(), max_window in any::<u16>()) {
            let (b, w) = (blksize.to_string(), windowsize.to_string());
            let agreed = negotiate(&[("blksize", &b), ("windowsize", &w)], 0, Limits { mtu, max_window, ..LIMITS });
            for (name, value) in &agreed.oack {
                let asked = if name == "blksize" { blksize } else { windowsize };
                prop_assert!(value.parse::<u32>().unwrap() <= asked);
            }
            prop_assert!(agreed.blksize >= 8 && agreed.windowsize >= 1);
        }
    }
}
