//! TFTP as the client speaks it: RFC 1350 with the options of RFC 2347, 2348, 2349 and 7440. Bytes and types alone; not
//! the server's code, so that an error there is not one here as well.

/// The well-known port.
pub(super) const PORT: u16 = 69;
/// Block size and window of a server that answers without an OACK.
const PLAIN: Granted = Granted { blksize: 512, window: 1, tsize: None };

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// Bytes in a block.
    pub(super) blksize: u16,
    /// Blocks before an ACK.
    pub(super) window: u16,
}

/// What it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// Bytes in a block.
    pub(super) blksize: u16,
    /// Blocks before an ACK.
    pub(super) window: u16,
    /// Bytes of the file.
    pub(super) tsize: Option<u64>,
}

impl Default for Granted {
    fn default() -> Self {
        PLAIN
    }
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Data {
        block: u16,
        bytes: &'a [u8],
    },
    /// The options, as they are written.
    Oack(&'a [u8]),
    Error {
        code: u16,
        text: String,
    },
}

/// A read request.
pub(super) fn request(file: &str, ask: Ask) -> Vec<u8> {
    let (blksize, window) = (ask.blksize.to_string(), ask.window.to_string());
    let mut packet = vec![0, 1];
    let options = ["blksize", blksize.as_str(), "tsize", "0", "windowsize", window.as_str()];
    // A window of 1 is what there is without the option.
    let options = if ask.window == 1 { options.get(..4).unwrap_or_default() } else { &options };
    for word in [file, "octet"].iter().chain(options) {
        packet.extend_from_slice(word.as_bytes());
        packet.push(0);
    }
    packet
}

/// An acknowledgment.
pub(super) fn ack(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 4, high, low]
}

/// The ERROR with which a client ends a transfer.
pub(super) const ABORT: &[u8] = b"\0\x05\0\0the time is over\0";

/// What a packet says, `None` when it says nothing.
pub(super) fn read(packet: &[u8]) -> Option<Packet<'_>> {
    let (opcode, rest) = packet.split_first_chunk::<2>()?;
    match u16::from_be_bytes(*opcode) {
        3 => {
            let (block, bytes) = rest.split_first_chunk::<2>()?;
            Some(Packet::Data { block: u16::from_be_bytes(*block), bytes })
        }
        5 => {
            let (code, text) = rest.split_first_chunk::<2>()?;
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            let text = String::from_utf8_lossy(text).into_owned();
            Some(Packet::Error { code: u16::from_be_bytes(*code), text })
        }
        6 => Some(Packet::Oack(rest)),
        _ => None,
    }
}

/// What an OACK grants; `None` when it says what was not asked, more than was asked, or the same twice.
pub(super) fn granted(options: &[u8], ask: Ask) -> Option<Granted> {
    let words: Vec<&[u8]> = options.strip_suffix(&[0])?.split(|byte| *byte == 0).collect();
    let mut granted = PLAIN;
    let mut seen: Vec<String> = Vec::new();
    for pair in words.chunks(2) {
        let [name, value] = pair else { return None };
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let value: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
        let most = |most: u16| u16::try_from(value).ok().filter(|value| (1..=most).contains(value));
        match name.as_str() {
            "blksize" => granted.blksize = most(ask.blksize)?,
            "windowsize" if ask.window > 1 => granted.window = most(ask.window)?,
            "tsize" => granted.tsize = Some(value),
            _ => return None,
        }
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
    }
    Some(granted)
}

#[cfg(test)]
mod tests {
    use super::{ABORT, Ask, Granted, PLAIN, Packet, ack, granted, read, request};

    const ASK: Ask = Ask { blksize: 1428, window: 16 };

    #[test]
    fn what_is_asked() {
        let packet = request("a/b", ASK);
        assert_eq!(packet, b"\0\x01a/b\0octet\0blksize\x001428\0tsize\x000\0windowsize\x0016\0");
        let lock_step = request("f", Ask { blksize: 512, window: 1 });
        assert_eq!(lock_step, b"\0\x01f\0octet\0blksize\x00512\0tsize\x000\0");
        assert_eq!(ack(0x1234), [0, 4, 0x12, 0x34]);
    }

    #[test]
    fn what_comes() {
        assert_eq!(read(b"\0\x03\x01\x02ab"), Some(Packet::Data { block: 0x102, bytes: b"ab" }));
        assert_eq!(read(b"\0\x03\0\x01"), Some(Packet::Data { block: 1, bytes: b"" }));
        assert_eq!(read(ABORT), Some(Packet::Error { code: 0, text: "the time is over".to_owned() }));
        assert_eq!(read(b"\0\x06blksize\x008\0"), Some(Packet::Oack(b"blksize\x008\0")));
        for other in [&b""[..], b"\0", b"\0\x03\0", b"\0\x05", b"\0\x04\0\x01", b"\0\x01f\0octet\0"] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_an_oack_may_say() {
        let all = Granted { blksize: 1400, window: 4, tsize: Some(9) };
        assert_eq!(granted(b"blksize\x001400\0WindowSize\x004\0tsize\x009\0", ASK), Some(all));
        let some = Granted { tsize: Some(9), ..PLAIN };
        assert_eq!(granted(b"tsize\x009\0", ASK), Some(some));
        for (options, why) in [
            (&b"blksize\x001429\0"[..], "more than was asked"),
            (b"windowsize\x0017\0", "more than was asked"),
            (b"windowsize\x000\0", "nothing"),
            (b"timeout\x001\0", "not asked"),
            (b"blksize\x001\0blksize\x001\0", "twice"),
            (b"blksize\x00x\0", "no number"),
            (b"blksize\0", "no value"),
            (b"blksize\x001428", "no end"),
        ] {
            assert_eq!(granted(options, ASK), None, "{why}");
        }
        assert_eq!(granted(b"windowsize\x001\0", Ask { window: 1, ..ASK }), None, "not asked either");
    }
}
