//! The fixed BOOTP header (RFC 2131 section 2), read from a request and written over a reply's template.

use crate::packet::{field, put};
use crate::verdict::{Answer, Reason};

/// Length of the header with the options' cookie.
pub const HEADER: usize = 240;
/// The smallest reply (RFC 1542 2.1).
pub const SMALLEST: usize = 300;
/// The largest reply (RFC 2132 9.10).
pub const LARGEST: usize = 576 - 28;
/// Room for a reply under construction: the longest template and name, three options to echo, END, as far as the
/// verifier can tell.
pub const ROOM: usize = 4096;

/// The fields of a request that its reply repeats, in network order.
///
/// Aligned, so that they are copied in words.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Transaction.
    pub xid: [u8; 4],
    /// Seconds since the client began.
    pub secs: [u8; 2],
    /// The broadcast flag.
    pub flags: [u8; 2],
    /// The address the client already uses.
    pub ciaddr: [u8; 4],
    /// Relay agent.
    pub giaddr: [u8; 4],
    /// All 16 bytes of the field.
    pub chaddr: [u8; 16],
}

impl Header {
    /// Whether it is the header of a client's request.
    ///
    /// # Errors
    /// Why it is none.
    #[inline(always)]
    pub fn check(bytes: &[u8; HEADER]) -> Result<(), Reason> {
        let [op, htype, hlen] = field(bytes, 0);
        if op != 1 {
            return Err(Reason::NotRequest);
        }
        if htype != 1 || hlen != 6 {
            return Err(Reason::BadHardware);
        }
        if field(bytes, 236) != [99, 130, 83, 99] {
            return Err(Reason::BadCookie);
        }
        Ok(())
    }

    /// Reads the header of a client's request.
    ///
    /// # Errors
    /// Why it is none.
    #[inline(always)]
    pub fn read(bytes: &[u8; HEADER]) -> Result<Self, Reason> {
        Self::check(bytes)?;
        Ok(Self {
            xid: field(bytes, 4),
            secs: field(bytes, 8),
            flags: field(bytes, 10),
            ciaddr: field(bytes, 12),
            giaddr: field(bytes, 24),
            chaddr: field(bytes, 28),
        })
    }

    /// The Ethernet address of whoever sent a request.
    #[inline(always)]
    pub fn sender(bytes: &[u8; HEADER]) -> [u8; 6] {
        field(bytes, 28)
    }

    /// The client's Ethernet address.
    #[inline(always)]
    pub fn mac(&self) -> [u8; 6] {
        field(&self.chaddr, 0)
    }

    /// Writes the machine's address and what the request decides over the template at the beginning of `reply`.
    #[inline(always)]
    pub fn finish(&self, reply: &mut [u8; ROOM], yiaddr: u32, answer: Answer) {
        put(reply, 4, self.xid);
        put(reply, 8, self.secs);
        put(reply, 10, self.flags);
        // RFC 2131 table 3: zero in an OFFER.
        let offer = matches!(answer, Answer::Offer);
        put(reply, 12, if offer { [0; 4] } else { self.ciaddr });
        put(reply, 16, yiaddr.to_be_bytes());
        put(reply, 24, self.giaddr);
        put(reply, 28, self.chaddr);
        // Every template has option 53 first.
        put(reply, HEADER + 2, [answer as u8]);
    }
}

#[cfg(test)]
mod tests {
    use super::{HEADER, Header, ROOM};
    use crate::verdict::{Answer, Reason};

    fn request() -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        for (at, byte) in (0..).zip(bytes.iter_mut()) {
            *byte = at;
        }
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
        bytes
    }

    #[test]
    fn reads_each_field_from_its_place() {
        let header = Header::read(&request()).expect("a request");
        assert_eq!(header.xid, [4, 5, 6, 7]);
        assert_eq!((header.secs, header.flags), ([8, 9], [10, 11]));
        assert_eq!((header.ciaddr, header.giaddr), ([12, 13, 14, 15], [24, 25, 26, 27]));
        assert_eq!(header.chaddr.to_vec(), (28..44).collect::<Vec<u8>>());
        assert_eq!(header.mac(), [28, 29, 30, 31, 32, 33]);
    }

    #[test]
    fn refuses_what_is_no_request() {
        for (at, value, reason) in [
            (0, 2, Reason::NotRequest),
            (1, 6, Reason::BadHardware),
            (2, 255, Reason::BadHardware),
            (2, 0, Reason::BadHardware),
            (236, 98, Reason::BadCookie),
            (239, 0, Reason::BadCookie),
        ] {
            let mut bytes = request();
            bytes[at] = value;
            assert_eq!(Header::read(&bytes), Err(reason), "byte {at}");
        }
    }

    #[test]
    fn writes_each_field_to_its_place() {
        let header = Header::read(&request()).expect("a request");
        for (answer, message, ciaddr) in [(Answer::Offer, 2, [0; 4]), (Answer::Ack, 5, [12, 13, 14, 15])] {
            let mut reply = [0xee; ROOM];
            header.finish(&mut reply, 0x0102_0304, answer);
            let mut expected = [0xee; ROOM];
            expected[4..16].copy_from_slice(&request()[4..16]);
            expected[12..16].copy_from_slice(&ciaddr);
            expected[16..20].copy_from_slice(&[1, 2, 3, 4]);
            expected[24..44].copy_from_slice(&request()[24..44]);
            expected[242] = message;
            assert_eq!(reply, expected);
        }
    }
}
