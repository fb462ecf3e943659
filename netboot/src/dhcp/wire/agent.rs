//! The sub-options of option 82, which a relay agent adds (RFC 3046 2.0).
//!
//! Pure. The option itself goes back as it came, whatever is in it; here it is only looked into. An agent whose
//! sub-options cannot be told apart has said nothing.

use std::net::Ipv4Addr;

/// RFC 3046 3.1.
pub(super) const CIRCUIT_ID: u8 = 1;
/// RFC 3046 3.2.
pub(super) const REMOTE_ID: u8 = 2;
/// RFC 3527 3.
pub(super) const LINK_SELECTION: u8 = 5;
/// RFC 5107 4.
pub(super) const SERVER_ID_OVERRIDE: u8 = 11;

/// The value of the first sub-option of this code; none when any of them runs past the end, or it is empty. There is no
/// PAD and no END among sub-options.
pub(super) fn sub_option(relay_info: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut found = None;
    let mut rest = relay_info;
    while !rest.is_empty() {
        let [code, length, after @ ..] = rest else { return None };
        let (value, after) = after.split_at_checked(usize::from(*length))?;
        if *code == wanted && found.is_none() {
            found = Some(value);
        }
        rest = after;
    }
    found.filter(|value| !value.is_empty())
}

/// A sub-option that is an address; the unspecified one is none.
pub(super) fn address(relay_info: &[u8], wanted: u8) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = sub_option(relay_info, wanted)?.try_into().ok()?;
    Some(Ipv4Addr::from(bytes)).filter(|addr| !addr.is_unspecified())
}
