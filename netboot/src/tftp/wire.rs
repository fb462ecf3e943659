//! TFTP packets: bytes to values and back, nothing else (RFC 1350 section 5, RFC 2347).
//!
//! Parsing never panics and never allocates more than a list of options; what cannot be read has a named reason.

/// Error codes of RFC 1350 and RFC 2347.
pub mod code {
    /// Not defined, see the text.
    pub const UNDEFINED: u16 = 0;
    /// File not found.
    pub const NOT_FOUND: u16 = 1;
    /// Access violation.
    pub const ACCESS: u16 = 2;
    /// Illegal TFTP operation.
    pub const ILLEGAL: u16 = 4;
    /// Unknown transfer ID: the packet came from a port that has no part in the transfer.
    pub const UNKNOWN_TID: u16 = 5;
    /// The client does not want the options it was granted.
    pub const OPTIONS: u16 = 8;
}

/// How a file's bytes are to be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As they are.
    Octet,
    /// As text with the line ends of NVT-ASCII.
    Netascii,
    /// Anything else, `mail` among it.
    Other,
}

/// A read or write request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The file, as the client wrote it.
    pub name: &'a str,
    /// The transfer mode.
    pub mode: Mode,
    /// Options and their values in the order of the packet, names in the client's spelling.
    pub options: Vec<(&'a str, &'a str)>,
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ: wants a file.
    Read(Request<'a>),
    /// WRQ: wants to leave a file.
    Write(Request<'a>),
    /// DATA.
    Data {
        /// Block number, rolling over to 0.
        block: u16,
        /// The bytes; fewer than a block's worth ends the file.
        bytes: &'a [u8],
    },
    /// ACK of a block.
    Ack(u16),
    /// ERROR: ends the transfer.
    Error {
        /// One of [`code`].
        code: u16,
        /// Text for people.
        text: String,
    },
    /// OACK: the options granted.
    Oack(Vec<(&'a str, &'a str)>),
}

/// Why a packet could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends before its fixed part does.
    #[error("packet too short")]
    Short,
    /// No such operation.
    #[error("unknown opcode")]
    Opcode,
    /// A text without its closing NUL.
    #[error("text without its end")]
    Unterminated,
    /// A request without a file name.
    #[error("no file name")]
    NoName,
    /// A text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotText,
    /// An option without a value.
    #[error("option without a value")]
    NoValue,
}

impl Malformed {
    /// The name it is counted by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "malformed-short",
            Self::Opcode => "malformed-opcode",
            Self::Unterminated => "malformed-unterminated",
            Self::NoName => "malformed-no-name",
            Self::NotText => "malformed-not-text",
            Self::NoValue => "malformed-no-value",
        }
    }
}

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// Reads one packet.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse(packet: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (opcode, rest) = number(packet)?;
    match opcode {
        RRQ => request(rest).map(Packet::Read),
        WRQ => request(rest).map(Packet::Write),
        DATA => number(rest).map(|(block, bytes)| Packet::Data { block, bytes }),
        ACK => number(rest).map(|(block, _)| Packet::Ack(block)),
        ERROR => number(rest).map(|(code, text)| {
            // Written for people, often without its NUL: whatever can be read of it will do.
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            Packet::Error { code, text: String::from_utf8_lossy(text).into_owned() }
        }),
        OACK => options(rest).map(Packet::Oack),
        _ => Err(Malformed::Opcode),
    }
}

fn number(bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (number, rest) = bytes.split_first_chunk().ok_or(Malformed::Short)?;
    Ok((u16::from_be_bytes(*number), rest))
}

fn text(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(Malformed::Unterminated)?;
    let (text, rest) = bytes.split_at(end);
    let text = std::str::from_utf8(text).map_err(|_| Malformed::NotText)?;
    Ok((text, rest.get(1..).unwrap_or_default()))
}

fn request(bytes: &[u8]) -> Result<Request<'_>, Malformed> {
    let (name, rest) = text(bytes)?;
    if name.is_empty() {
        return Err(Malformed::NoName);
    }
    let (mode, rest) = text(rest)?;
    let mode = match mode.to_ascii_lowercase().as_str() {
        "octet" => Mode::Octet,
        "netascii" => Mode::Netascii,
        _ => Mode::Other,
    };
    Ok(Request { name, mode, options: options(rest)? })
}

fn options(mut rest: &[u8]) -> Result<Vec<(&str, &str)>, Malformed> {
    let mut options = Vec::new();
    // An empty name is padding, which old ROMs send up to a fixed packet size.
    while rest.first().is_some_and(|byte| *byte != 0) {
        let (name, after) = text(rest)?;
        if after.is_empty() {
            return Err(Malformed::NoValue);
        }
        let (value, after) = text(after)?;
        options.push((name, value));
        rest = after;
    }
    Ok(options)
}

impl Packet<'_> {
    /// The packet's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Read(request) => encode_request(RRQ, request, &mut bytes),
            Self::Write(request) => encode_request(WRQ, request, &mut bytes),
            Self::Data { block, bytes: data } => {
                bytes.extend(data_header(*block));
                bytes.extend_from_slice(data);
            }
            Self::Ack(block) => {
                bytes.extend(ACK.to_be_bytes());
                bytes.extend(block.to_be_bytes());
            }
            Self::Error { code, text } => {
                bytes.extend(ERROR.to_be_bytes());
                bytes.extend(code.to_be_bytes());
                put_text(text, &mut bytes);
            }
            Self::Oack(options) => {
                bytes.extend(OACK.to_be_bytes());
                put_options(options, &mut bytes);
            }
        }
        bytes
    }
}

/// The four bytes before a block's data.
pub const fn data_header(block: u16) -> [u8; 4] {
    let [a, b] = DATA.to_be_bytes();
    let [c, d] = block.to_be_bytes();
    [a, b, c, d]
}

fn encode_request(opcode: u16, request: &Request<'_>, bytes: &mut Vec<u8>) {
    bytes.extend(opcode.to_be_bytes());
    put_text(request.name, bytes);
    let mode = match request.mode {
        Mode::Octet => "octet",
        Mode::Netascii => "netascii",
        Mode::Other => "mail",
    };
    put_text(mode, bytes);
    put_options(&request.options, bytes);
}

fn put_options(options: &[(&str, &str)], bytes: &mut Vec<u8>) {
    for (name, value) in options {
        put_text(name, bytes);
        put_text(value, bytes);
    }
}

fn put_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let cases: &[(&str, &[u8], Packet<'_>)] = &[
            ("plain request", b"\0\x01pxelinux.0\0octet\0", read("pxelinux.0", Mode::Octet, &[])),
            ("mode in any case", b"\0\x01a\0OcTeT\0", read("a", Mode::Octet, &[])),
            ("netascii", b"\0\x01a\0NETASCII\0", read("a", Mode::Netascii, &[])),
            ("mail", b"\0\x01a\0mail\0", read("a", Mode::Other, &[])),
            (
                "options keep their spelling and order",
                b"\0\x01a\0octet\0TSIZE\x000\0blksize\x001408\0",
                read("a", Mode::Octet, &[("TSIZE", "0"), ("blksize", "1408")]),
            ),
            ("an empty value", b"\0\x01a\0octet\0x\0\0", read("a", Mode::Octet, &[("x", "")])),
            ("padding", b"\0\x01a\0octet\0\0\0\0\0", read("a", Mode::Octet, &[])),
            ("write request", b"\0\x02a\0octet\0", write("a")),
            ("ack", b"\0\x04\xff\xfe", Packet::Ack(0xfffe)),
            ("ack with a tail", b"\0\x04\0\x01xx", Packet::Ack(1)),
            ("empty data", b"\0\x03\0\x07", Packet::Data { block: 7, bytes: b"" }),
            ("error", b"\0\x05\0\x08no\0", error(8, "no")),
            ("error without its NUL", b"\0\x05\0\0aborted", error(0, "aborted")),
            ("error without text", b"\0\x05\0\0", error(0, "")),
            ("oack", b"\0\x06tsize\x009\0", Packet::Oack(vec![("tsize", "9")])),
        ];
        for (what, bytes, packet) in cases {
            assert_eq!(parse(bytes).as_ref(), Ok(packet), "{what}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let cases: &[(&[u8], Malformed)] = &[
            (b"", Malformed::Short),
            (b"\0", Malformed::Short),
            (b"\0\0", Malformed::Opcode),
            (b"\0\x07", Malformed::Opcode),
            (b"\x01\0a\0octet\0", Malformed::Opcode),
            (b"\0\x04\0", Malformed::Short),
            (b"\0\x03", Malformed::Short),
            (b"\0\x05\0", Malformed::Short),
            (b"\0\x01", Malformed::Unterminated),
            (b"\0\x01a", Malformed::Unterminated),
            (b"\0\x01a\0", Malformed::Unterminated),
            (b"\0\x01a\0octet", Malformed::Unterminated),
            (b"\0\x01\0octet\0", Malformed::NoName),
            (b"\0\x01\xff\0octet\0", Malformed::NotText),
            (b"\0\x01a\0octet\0blksize\0", Malformed::NoValue),
            (b"\0\x01a\0octet\0blksize", Malformed::Unterminated),
            (b"\0\x01a\0octet\0blksize\x0012", Malformed::Unterminated),
        ];
        for (bytes, reason) in cases {
            assert_eq!(parse(bytes), Err(*reason), "{bytes:?}");
        }
    }

    fn read<'a>(name: &'a str, mode: Mode, options: &[(&'a str, &'a str)]) -> Packet<'a> {
        Packet::Read(Request { name, mode, options: options.to_vec() })
    }

    fn write(name: &str) -> Packet<'_> {
        Packet::Write(Request { name, mode: Mode::Octet, options: vec![] })
    }

    fn error(code: u16, text: &str) -> Packet<'static> {
        Packet::Error { code, text: text.to_owned() }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_named(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_read_is_written_the_same(
            opcode in 1_u8..=6,
            tail in proptest::collection::vec(prop_oneof![Just(0_u8), 0x20_u8..0x7f], 0..60),
        ) {
            let bytes = [&[0, opcode], tail.as_slice()].concat();
            if let Ok(packet) = parse(&bytes) {
                let written = packet.encode();
                prop_assert_eq!(parse(&written), Ok(packet));
            }
        }
    }
}
