//! Looks for other DHCP servers: the question, and what an answer says of who sent it (RFC 2131 4.4.1).
//!
//! The question is an ordinary DISCOVER of a machine that nobody has; no REQUEST follows, so no server gives an address away.

use std::net::Ipv4Addr;

use netboot_ebpf::verdict::message::{DISCOVER, OFFER};

use crate::mac::Mac;

/// Before the options of every DHCP packet (RFC 2131 3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where that is.
const COOKIE_AT: usize = 236;

/// A locally administered address for a machine that does not exist.
pub fn nobody(random: u64) -> Mac {
    let [_, _, mac @ ..] = (random & 0xff_ffff_ffff | 0x02 << 40).to_be_bytes();
    Mac(mac)
}

/// A DISCOVER with the broadcast flag, of the length that old servers want (RFC 1542 2.1).
pub fn discover(mac: Mac, xid: u32) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0];
    packet.extend(xid.to_be_bytes());
    packet.extend([0, 0, 0x80, 0]);
    packet.resize(28, 0);
    packet.extend(mac.0);
    packet.resize(COOKIE_AT, 0);
    packet.extend(COOKIE);
    // Mask, router, server, lease time: some servers want to be asked for something.
    packet.extend([53, 1, DISCOVER, 55, 4, 1, 3, 54, 51, 255]);
    packet.resize(300, 0);
    packet
}

/// Who made this offer: its server identifier, or `from` if it has none. `None` if it is no offer to that question.
pub fn offered(packet: &[u8], mac: Mac, xid: u32, from: Ipv4Addr) -> Option<Ipv4Addr> {
    let ours = packet.first() == Some(&2)
        && packet.get(4..8)? == xid.to_be_bytes()
        && packet.get(28..34)? == mac.0
        && packet.get(COOKIE_AT..COOKIE_AT + 4)? == COOKIE;
    let (mut offer, mut server) = (false, None);
    let mut rest = packet.get(COOKIE_AT + 4..)?;
    while let Some((code, after)) = rest.split_first().filter(|(code, _)| **code != 255) {
        if *code == 0 {
            rest = after;
            continue;
        }
        let (length, after) = after.split_first()?;
        let (value, after) = after.split_at_checked(usize::from(*length))?;
        match code {
            53 => offer = value == [OFFER],
            54 => server = value.first_chunk::<4>().map(|addr| Ipv4Addr::from(*addr)),
            _ => {}
        }
        rest = after;
    }
    (ours && offer).then(|| server.unwrap_or(from))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{discover, nobody, offered};
    use crate::dhcp::wire;
    use crate::mac::Mac;

    const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    /// The reply of a server to that question.
    fn reply(mac: Mac, options: &[u8]) -> Vec<u8> {
        let mut packet = discover(mac, 7);
        packet[0] = 2;
        packet.truncate(240);
        packet.extend(options);
        packet
    }

    #[test]
    fn the_question_is_one_that_a_server_understands() {
        let mac = nobody(0x0102_0304_0506_0708);
        assert_eq!(mac, Mac([2, 4, 5, 6, 7, 8]));
        let request = wire::decode(&discover(mac, 7)).unwrap();
        assert!(request.broadcast());
        assert_eq!(wire::sender(&discover(mac, 7)), Some(mac));
        assert_eq!(discover(mac, 7).len(), 300);
    }

    #[test]
    fn an_offer_says_whose_it_is_and_nothing_else_does() {
        let mac = nobody(1);
        let offer = reply(mac, &[0, 53, 1, 2, 54, 4, 10, 0, 0, 3, 255]);
        assert_eq!(offered(&offer, mac, 7, FROM), Some([10, 0, 0, 3].into()));
        assert_eq!(offered(&reply(mac, &[53, 1, 2, 255]), mac, 7, FROM), Some(FROM), "no identifier");
        assert_eq!(offered(&offer, mac, 8, FROM), None, "another question");
        assert_eq!(offered(&offer, nobody(2), 7, FROM), None, "another machine");
        assert_eq!(offered(&reply(mac, &[53, 1, 5, 255]), mac, 7, FROM), None, "an ACK");
        assert_eq!(offered(&discover(mac, 7), mac, 7, FROM), None, "the question itself");
        for length in 0..offer.len() - 8 {
            assert_eq!(offered(&offer[..length], mac, 7, FROM), None, "{length}");
        }
        assert_eq!(offered(&reply(mac, &[53, 1, 2, 54, 9, 1]), mac, 7, FROM), None, "cut short");
    }
}
