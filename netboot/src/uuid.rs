//! What firmware calls its machine (SMBIOS): one type, one textual form (`4c4c4544-0042-3510-8058-b9c04f4a3333`). Knows no
//! machine.

use std::fmt;
use std::str::FromStr;

/// The identifier of a machine, its bytes in the order in which they are written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Whether it tells a machine from others: boards that were never given one have zeros alone, or ones alone.
    pub fn is_somebodys(self) -> bool {
        self.0 != [0; 16] && self.0 != [0xff; 16]
    }

    /// The same with the bytes of its first three fields the other way round.
    #[must_use]
    pub const fn swapped(self) -> Self {
        let Self(mut bytes) = self;
        bytes.swap(0, 3);
        bytes.swap(1, 2);
        bytes.swap(4, 5);
        bytes.swap(6, 7);
        Self(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, byte) in self.0.iter().enumerate() {
            let hyphen = if [4, 6, 8, 10].contains(&number) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not the identifier of a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a UUID; write it as in 4c4c4544-0042-3510-8058-b9c04f4a3333")]
pub struct BadUuid(String);

impl FromStr for Uuid {
    type Err = BadUuid;

    /// Reads groups of 8, 4, 4, 4 and 12 hexadecimal digits in either case.
    fn from_str(text: &str) -> Result<Self, BadUuid> {
        let bad = || BadUuid(text.to_owned());
        let digits = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        if !digits || !text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) {
            return Err(bad());
        }
        let bits = u128::from_str_radix(&text.replace('-', ""), 16).map_err(|_| bad())?;
        Ok(Self(bits.to_be_bytes()))
    }
}

impl serde::Serialize for Uuid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Uuid;

    const UUID: Uuid =
        Uuid([0x4c, 0x4c, 0x45, 0x44, 0, 0x42, 0x35, 0x10, 0x80, 0x58, 0xb9, 0xc0, 0x4f, 0x4a, 0x33, 0x33]);

    #[test]
    fn reads_what_firmware_shows() {
        for text in ["4c4c4544-0042-3510-8058-b9c04f4a3333", "4C4C4544-0042-3510-8058-B9C04F4A3333"] {
            assert_eq!(text.parse(), Ok(UUID), "{text}");
        }
        assert_eq!(UUID.to_string(), "4c4c4544-0042-3510-8058-b9c04f4a3333");
        assert_eq!(UUID.swapped().to_string(), "44454c4c-4200-1035-8058-b9c04f4a3333");
        assert_eq!(UUID.swapped().swapped(), UUID);
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "4c4c4544",
            "4c4c454400423510-8058-b9c04f4a3333--",
            "4c4c4544-0042-3510-8058-b9c04f4a333",
            "4c4c4544-0042-3510-8058-b9c04f4a333g",
            "4c4c4544-0042-3510-8058-b9c04f4a3333-",
            "+c4c4544-0042-3510-8058-b9c04f4a3333",
            "{4c4c4544-0042-3510-8058-b9c04f4a3333}",
        ] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }

    #[test]
    fn boards_without_one_are_nobody() {
        assert!(UUID.is_somebodys());
        assert!(!Uuid([0; 16]).is_somebodys());
        assert!(!Uuid([0xff; 16]).is_somebodys());
    }
}
