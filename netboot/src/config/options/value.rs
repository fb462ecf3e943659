//! From a value as written to the bytes of an option.
//!
//! Pure. What cannot be read is answered with what to write.

use std::fmt::Write;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use jsonc_parser::ast::Value;

/// The type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One byte.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Four bytes with a sign.
    I32,
    /// A byte of 0 or 1.
    Bool,
    /// IPv4 addresses.
    Address,
    /// Text without a closing NUL.
    Text,
    /// Bytes.
    Hex,
    /// Domain names as in the DNS (RFC 1035 3.1), uncompressed (RFC 3397).
    Domains,
    /// Routes with their destinations cut to their prefixes (RFC 3442).
    Routes,
    /// The one value of option 208 (RFC 5071 4).
    Magic,
}

/// The names of the types, for a message.
pub const NAMES: &str = "u8, u16, u32, i32, bool, address, text, hex, domains, routes";

impl Kind {
    /// Its name in `netboot.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::Bool => "bool",
            Self::Address => "address",
            Self::Text => "text",
            Self::Hex => "hex",
            Self::Domains => "domains",
            Self::Routes => "routes",
            Self::Magic => "magic",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::U8,
            Self::U16,
            Self::U32,
            Self::I32,
            Self::Bool,
            Self::Address,
            Self::Text,
            Self::Hex,
            Self::Domains,
            Self::Routes,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }

    /// Several values of it can stand one after the other.
    pub(super) const fn repeats(self) -> bool {
        !matches!(self, Self::Bool | Self::Text | Self::Hex | Self::Magic)
    }

    /// What to write.
    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::U8 => "write a whole number from 0 to 255, without quotes",
            Self::U16 => "write a whole number from 0 to 65535, without quotes",
            Self::U32 => "write a whole number from 0 to 4294967295, without quotes",
            Self::I32 => "write a whole number from -2147483648 to 2147483647, without quotes",
            Self::Bool => "write true or false, without quotes",
            Self::Address => "write an IPv4 address, as in \"192.168.90.1\"",
            Self::Text => "write a text in double quotes, without control characters",
            Self::Hex => "write bytes as pairs of hexadecimal digits, as in \"01:0a:ff\"",
            Self::Domains => "write domain names, as in [\"blades.example\", \"rack.example\"]",
            Self::Routes => {
                "write routes, as in [\"10.0.0.0/8 via 192.168.90.1\", \"default via 192.168.90.1\"]"
            }
            Self::Magic => "write true: this option has one value only, f1:00:74:7e",
        }
    }

    /// Adds the bytes of one value; `None`: it is none of this type.
    pub(super) fn encode(self, value: &Value<'_>, bytes: &mut Vec<u8>) -> Option<()> {
        match (self, value) {
            (Self::U8, Value::NumberLit(number)) => bytes.push(number.value.parse().ok()?),
            (Self::U16, Value::NumberLit(number)) => {
                bytes.extend(number.value.parse::<u16>().ok()?.to_be_bytes());
            }
            (Self::U32, Value::NumberLit(number)) => {
                bytes.extend(number.value.parse::<u32>().ok()?.to_be_bytes());
            }
            (Self::I32, Value::NumberLit(number)) => {
                bytes.extend(number.value.parse::<i32>().ok()?.to_be_bytes());
            }
            (Self::Bool, Value::BooleanLit(literal)) => bytes.push(literal.value.into()),
            (Self::Magic, Value::BooleanLit(literal)) if literal.value => {
                bytes.extend([0xf1, 0x00, 0x74, 0x7e]);
            }
            (Self::Address, Value::StringLit(text)) => {
                bytes.extend(text.value.parse::<Ipv4Addr>().ok()?.octets());
            }
            (Self::Text, Value::StringLit(text))
                if !text.value.is_empty() && !text.value.chars().any(char::is_control) =>
            {
                bytes.extend(text.value.as_bytes());
            }
            (Self::Hex, Value::StringLit(text)) => hex(&text.value, bytes)?,
            (Self::Domains, Value::StringLit(text)) => domain(&text.value, bytes)?,
            (Self::Routes, Value::StringLit(text)) => route(&text.value, bytes)?,
            _ => return None,
        }
        Some(())
    }
}

/// As it was written, for people to read.
pub(super) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::StringLit(text) => text.value.to_string(),
        Value::NumberLit(number) => number.value.to_owned(),
        Value::BooleanLit(literal) => literal.value.to_string(),
        other => {
            let mut text = String::new();
            // Writing into a string does not fail.
            let _ = write!(text, "({})", super::super::json::kind(other));
            text
        }
    }
}

/// Pairs of digits with `:`, `-` or a space between them, or nothing.
fn hex(text: &str, bytes: &mut Vec<u8>) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut rest = text.as_bytes();
    loop {
        let [high, low, after @ ..] = rest else { return None };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
        rest = match after.split_first() {
            None => return Some(()),
            Some((b':' | b'-' | b' ', behind)) => behind,
            Some(_) => after,
        };
    }
}

/// Labels with their lengths, the root's at last (RFC 1035 3.1).
fn domain(text: &str, bytes: &mut Vec<u8>) -> Option<()> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.len() > 253 {
        return None;
    }
    for label in text.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        if !label.bytes().all(legal) {
            return None;
        }
        bytes.push(length);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    Some(())
}

/// Width of the prefix, as many bytes of the destination as it has bits in, the router (RFC 3442, page 3).
fn route(text: &str, bytes: &mut Vec<u8>) -> Option<()> {
    let mut words = text.split_ascii_whitespace();
    let (destination, via, router) = (words.next()?, words.next()?, words.next()?);
    if via != "via" || words.next().is_some() {
        return None;
    }
    let destination = if destination == "default" { "0.0.0.0/0" } else { destination };
    let network: Ipv4Network = destination.parse().ok()?;
    // With bits behind the prefix it is not clear what was meant.
    if network.network() != network.ip() {
        return None;
    }
    let router: Ipv4Addr = router.parse().ok()?;
    bytes.push(network.prefix());
    bytes.extend(network.ip().octets().iter().take(usize::from(network.prefix().div_ceil(8))));
    bytes.extend(router.octets());
    Some(())
}
