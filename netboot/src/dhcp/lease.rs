//! A lease, and whose it is.
//!
//! Values only; who has which address at a moment is the table in `leases`.

use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::Serialize;

use crate::mac::Mac;

/// A client without a reservation: its client identifier (option 61) where `dhcp.identity` makes it count, else its
/// Ethernet address (RFC 2131 4.2).
///
/// Two are the same client if they have the same identifier, or have none and the same address.
#[derive(Clone, Debug, Serialize)]
pub struct Owner {
    /// The Ethernet address it was last seen with.
    pub mac: Mac,
    /// Option 61, type byte included; `None` where the Ethernet address decides.
    #[serde(rename = "client_id", serialize_with = "hexadecimal", skip_serializing_if = "Option::is_none")]
    pub id: Option<Arc<[u8]>>,
}

impl Owner {
    fn key(&self) -> (Option<&[u8]>, Option<Mac>) {
        match &self.id {
            Some(id) => (Some(id), None),
            None => (None, Some(self.mac)),
        }
    }
}

impl From<Mac> for Owner {
    fn from(mac: Mac) -> Self {
        Self { mac, id: None }
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Owner {}

impl Hash for Owner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// An address that a client has, or had, until some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// The address.
    pub addr: Ipv4Addr,
    /// Whose it is.
    #[serde(flatten)]
    pub owner: Owner,
    /// When it ends, seconds since 1970.
    pub expires: u64,
}

impl Lease {
    /// The lease of an address.
    pub fn new(addr: Ipv4Addr, owner: impl Into<Owner>, expires: u64) -> Self {
        Self { addr, owner: owner.into(), expires }
    }
}

/// What becomes of leases, for whoever wants to follow them: only of clients that their Ethernet address tells apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is on disk.
    Bound {
        /// The number of its subnet: 0 is the interface's own.
        segment: u16,
        /// The lease.
        lease: Lease,
    },
    /// The client with this Ethernet address has none any more.
    Ended(Mac),
}

/// Hexadecimal digits, as in `01525400123456`.
pub fn digits(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Text takes whatever is written to it.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What [`digits`] wrote; `None` if it did not.
pub fn bytes(digits: &str) -> Option<Arc<[u8]>> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let byte = |pair: &[u8]| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}

#[allow(clippy::ref_option, reason = "serde calls it so")]
fn hexadecimal<S: serde::Serializer>(id: &Option<Arc<[u8]>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&digits(id.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::{Lease, Owner, bytes, digits};
    use crate::mac::Mac;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn id(mac: Mac, id: &[u8]) -> Owner {
        Owner { mac, id: Some(id.into()) }
    }

    #[test]
    fn one_client_is_known_by_its_identifier_else_by_its_address() {
        assert_eq!(Owner::from(MAC), Owner::from(MAC));
        assert_ne!(Owner::from(MAC), Owner::from(OTHER));
        assert_eq!(id(MAC, b"x"), id(OTHER, b"x"), "a second card of one machine");
        assert_ne!(id(MAC, b"x"), id(MAC, b"y"), "ROM and system of one machine, told apart");
        assert_ne!(id(MAC, b"x"), Owner::from(MAC));
    }

    #[test]
    fn leases_in_json() {
        let json = |lease: Lease| serde_json::to_string(&lease).unwrap();
        let addr = [10, 0, 0, 1].into();
        assert_eq!(
            json(Lease::new(addr, MAC, 5)),
            r#"{"addr":"10.0.0.1","mac":"02:00:00:00:00:01","expires":5}"#
        );
        assert_eq!(
            json(Lease::new(addr, id(MAC, &[1, 0xab]), 5)),
            r#"{"addr":"10.0.0.1","mac":"02:00:00:00:00:01","client_id":"01ab","expires":5}"#
        );
    }

    #[test]
    fn identifiers_come_back_from_their_digits() {
        for id in [&b""[..], &[0], &[0xff, 0x10, 7]] {
            assert_eq!(bytes(&digits(id)).as_deref(), Some(id));
        }
        for bad in ["0", "0g", "é0", "+1"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
