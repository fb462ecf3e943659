//! What a code may hold: the built-in types, and the codes that the server decides about itself.
//!
//! RFC 2132, 3397 (119), 3442 (121), 5859 (150), 5071 (208 to 211), 5417 (138), 8910 (114), 8925 (108).

use super::value::Kind;

/// Where options are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `dhcp.options`: for everybody.
    Everybody,
    /// A subnet, a profile or a machine.
    Narrower,
}

/// The type of a code, and whether it may have several values. `None`: it must be written.
pub(super) fn kind(code: u8) -> Option<(Kind, bool)> {
    Some(match code {
        2 => (Kind::I32, false),
        16 | 32 => (Kind::Address, false),
        3..=11 | 41 | 42 | 44 | 45 | 48 | 49 | 65 | 68..=76 | 138 | 150 => (Kind::Address, true),
        13 | 22 | 26 => (Kind::U16, false),
        25 | 117 => (Kind::U16, true),
        23 | 37 | 46 | 116 => (Kind::U8, false),
        24 | 35 | 38 | 108 | 211 => (Kind::U32, false),
        19 | 20 | 27 | 29..=31 | 34 | 36 | 39 => (Kind::Bool, false),
        14 | 15 | 17 | 18 | 40 | 47 | 64 | 100 | 101 | 114 | 160 | 209 | 210 | 252 => (Kind::Text, false),
        43 | 125 => (Kind::Hex, false),
        119 => (Kind::Domains, true),
        121 | 249 => (Kind::Routes, true),
        208 => (Kind::Magic, false),
        _ => return None,
    })
}

/// Why a code cannot be set here, and what to write instead.
pub(super) fn refused(code: u8, place: Place) -> Option<&'static str> {
    Some(match (code, place) {
        (3, Place::Everybody) => "write `dhcp.router`",
        (6, Place::Everybody) => "write `dhcp.dns`",
        (15, Place::Everybody) => "write `dhcp.domain`",
        (0 | 255, _) => "leave it out: it marks padding or the end of the options",
        (1 | 28, _) => "leave it out: it follows from the subnet's prefix",
        (12, _) => "write `$hostname` of the machine in pxe_hosts.json",
        (51 | 58 | 59, _) => "write `dhcp.lease_secs`",
        (50 | 55 | 57 | 93 | 94, _) => "leave it out: only clients send it",
        (52 | 53 | 54 | 56, _) => "leave it out: it is part of every message as the protocol wants it",
        (60, _) => "leave it out: firmware is told its own class; say what it boots in `boot`",
        (61 | 82 | 97 | 118, _) => "leave it out: it goes back as the client or its relay sent it",
        (66 | 67, _) => "write `boot`: the boot file by class; the server is this one",
        (80, _) => "write `dhcp.rapid_commit`",
        _ => return None,
    })
}
