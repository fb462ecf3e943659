//! VLAN tags of Ethernet frames as bytes (IEEE 802.1Q 9.6): put on, and taken off.

/// A tag, and the inner one of two.
const CUSTOMER: u16 = 0x8100;
/// The outer one of two.
const SERVICE: u16 = 0x88a8;
/// Destination and source.
const ADDRESSES: usize = 12;
/// The number in a tag; the rest is priority.
const NUMBER: u16 = 0x0fff;

/// The frame with these tags, the outer first. As it was if it is too short to be one.
pub(super) fn push(frame: &[u8], tags: &[u16]) -> Vec<u8> {
    let Some((addresses, rest)) = frame.split_at_checked(ADDRESSES) else { return frame.to_vec() };
    let mut tagged = addresses.to_vec();
    for (at, tag) in tags.iter().enumerate() {
        let kind = if at + 1 < tags.len() { SERVICE } else { CUSTOMER };
        tagged.extend(kind.to_be_bytes());
        tagged.extend((tag & NUMBER).to_be_bytes());
    }
    tagged.extend(rest);
    tagged
}

/// The frame without its tags if they are these and no more, `None` otherwise. `stripped` is what the kernel has taken out
/// of it already: the outermost.
pub(super) fn pop(frame: &[u8], stripped: Option<u16>, tags: &[u16]) -> Option<Vec<u8>> {
    let (addresses, mut rest) = frame.split_at_checked(ADDRESSES)?;
    let mut found: Vec<u16> = stripped.into_iter().map(|tag| tag & NUMBER).collect();
    while let [a, b, c, d, after @ ..] = rest
        && [CUSTOMER, SERVICE].contains(&u16::from_be_bytes([*a, *b]))
        && found.len() <= tags.len()
    {
        found.push(u16::from_be_bytes([*c, *d]) & NUMBER);
        rest = after;
    }
    (found == tags).then(|| [addresses, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::{pop, push};

    const PLAIN: &[u8] = b"destinsource\x08\x00data";

    #[test]
    fn tags_stand_behind_the_addresses() {
        assert_eq!(push(PLAIN, &[90]), b"destinsource\x81\x00\x00\x5a\x08\x00data");
        assert_eq!(push(PLAIN, &[100, 90]), b"destinsource\x88\xa8\x00\x64\x81\x00\x00\x5a\x08\x00data");
        assert_eq!(push(b"short", &[90]), b"short");
    }

    #[test]
    fn the_right_ones_are_taken_off_wherever_they_are() {
        for tags in [&[90][..], &[100, 90]] {
            assert_eq!(pop(&push(PLAIN, tags), None, tags).as_deref(), Some(PLAIN));
            // With a priority, where the kernel has the outer one already.
            let stripped = tags[0] | 0x6000;
            assert_eq!(pop(&push(PLAIN, &tags[1..]), Some(stripped), tags).as_deref(), Some(PLAIN));
        }
    }

    #[test]
    fn others_are_not_ours() {
        let twice = push(PLAIN, &[90, 90]);
        for (frame, stripped) in [
            (PLAIN, None),
            (PLAIN, Some(91)),
            (push(PLAIN, &[91]).as_slice(), None),
            (&push(PLAIN, &[90]), Some(90)),
            (&twice, None),
            (&twice, Some(90)),
            (b"short", Some(90)),
        ] {
            assert_eq!(pop(frame, stripped, &[90]), None, "{frame:?} {stripped:?}");
        }
        assert_eq!(pop(PLAIN, Some(100), &[100, 90]), None);
        assert_eq!(pop(&push(PLAIN, &[90, 100]), None, &[100, 90]), None);
    }
}
