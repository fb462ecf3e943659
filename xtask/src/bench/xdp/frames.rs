//! Frames for the generator: of each kind one is put together in full, and then only what makes out the machine is written.
//!
//! Bytes only. To write a whole frame with its checksums takes longer than the program takes to answer it.

use std::net::Ipv4Addr;

use crate::bench::wire::{Chosen, Mac, request};

/// What kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A DISCOVER of a reserved machine.
    Discover,
    /// Its REQUEST.
    Request,
    /// A DISCOVER of a machine that nobody knows.
    Miss,
    /// UDP to another port of another machine, as long as a DISCOVER.
    Udp,
    /// TCP to another machine.
    Tcp,
}

/// Where things are in a frame without a tag or IP options.
const SOURCE: usize = 6;
const PROTOCOL: usize = 23;
const IP_SUM: usize = 24;
const UDP: usize = 34;
const PORT: usize = UDP + 2;
const UDP_SUM: usize = UDP + 6;
const XID: usize = UDP + 8 + 4;
const CHADDR: usize = UDP + 8 + 28;
/// The value of option 50, which stands behind option 53.
const WANTED: usize = UDP + 8 + 240 + 3 + 2;
/// The machine to which other traffic goes: not the server, so that nobody answers.
const ELSEWHERE: Mac = [0x06, 0, 0, 0, 0, 0x2a];
/// The first bytes of machines that nobody knows; `Plan::mac` gives no such address.
pub(super) const STRANGER: [u8; 2] = [0x02, 0x66];

/// A frame to be filled in.
#[derive(Clone, Debug)]
pub(super) struct Template {
    frame: Vec<u8>,
    /// The sum of the datagram without what is filled in; `None`: it is no DHCP, and stays as it is.
    sum: Option<u32>,
    wants: bool,
}

/// Whose frame it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) mac: Mac,
    pub(super) xid: u32,
    /// What it asks for, in a REQUEST.
    pub(super) addr: Ipv4Addr,
}

impl Template {
    /// A frame of this kind, for this server.
    pub(super) fn new(kind: Kind, server: Ipv4Addr) -> Self {
        let chosen = Chosen { addr: Ipv4Addr::UNSPECIFIED, server };
        let wants = kind == Kind::Request;
        let mut frame = Vec::new();
        request(&mut frame, [0; 6], 0, wants.then_some(chosen));
        if matches!(kind, Kind::Discover | Kind::Request | Kind::Miss) {
            let stored = frame.get(UDP_SUM..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
            let sum = Some(u32::from(!u16::from_be_bytes(stored)));
            return Self { frame, sum, wants };
        }
        put(&mut frame, 0, &ELSEWHERE);
        // Port 9 (discard); no checksum is right for it, nor wanted: nobody reads it.
        put(&mut frame, PORT, &[0, 9]);
        put(&mut frame, UDP_SUM, &[0, 0]);
        if kind == Kind::Tcp {
            put(&mut frame, PROTOCOL, &[6]);
            // The protocol, 17 before, is the low byte of a word of the header.
            let stored = frame.get(IP_SUM..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
            let sum = fold(u32::from(u16::from_be_bytes(stored)) + 17 - 6);
            put(&mut frame, IP_SUM, &sum.to_be_bytes());
        }
        Self { frame, sum: None, wants }
    }

    /// Its length.
    pub(super) fn len(&self) -> usize {
        self.frame.len()
    }

    /// Puts the whole frame into the buffer, which is long enough.
    pub(super) fn lay(&self, buffer: &mut [u8]) {
        put(buffer, 0, &self.frame);
    }

    /// Makes the frame in the buffer, laid there before, that of this machine.
    pub(super) fn fill(&self, buffer: &mut [u8], sender: &Sender) {
        let Some(mut sum) = self.sum else { return };
        put(buffer, SOURCE, &sender.mac);
        let (xid, wanted) = (sender.xid.to_be_bytes(), sender.addr.octets());
        let wanted: &[u8] = if self.wants { &wanted } else { &[] };
        for (at, bytes) in [(XID, &xid[..]), (CHADDR, &sender.mac), (WANTED, wanted)] {
            put(buffer, at, bytes);
            sum += weight(at, bytes);
        }
        let sum = match !fold(sum) {
            // 0 would say that there is none (RFC 768).
            0 => u16::MAX,
            other => other,
        };
        put(buffer, UDP_SUM, &sum.to_be_bytes());
    }
}

/// Whether it is a DHCP reply to a client, as far as can be told without reading all of it.
pub(super) fn is_reply(frame: &[u8]) -> bool {
    frame.get(PORT..UDP + 4) == Some(&[0, 68]) && frame.get(UDP + 8) == Some(&2)
}

/// Whether it is a reply to a machine that nobody knows.
pub(super) fn is_strangers(frame: &[u8]) -> bool {
    is_reply(frame) && frame.get(CHADDR..CHADDR + 2) == Some(&STRANGER)
}

/// What bytes at this place add to the sum of the datagram.
fn weight(at: usize, bytes: &[u8]) -> u32 {
    let even = |place: usize| (place - UDP).is_multiple_of(2);
    bytes.iter().zip(at..).map(|(byte, place)| u32::from(*byte) << if even(place) { 8 } else { 0 }).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{ELSEWHERE, Kind, Sender, Template, is_reply, is_strangers};
    use crate::bench::wire::message::OFFER;
    use crate::bench::wire::tests::{answer, is_sound};
    use crate::bench::wire::{Chosen, request};

    const SERVER: [u8; 4] = [10, 90, 0, 1];

    #[test]
    fn a_frame_that_is_filled_in_is_the_frame_that_a_blade_sends() {
        for (kind, wants) in [(Kind::Discover, false), (Kind::Request, true), (Kind::Miss, false)] {
            let template = Template::new(kind, SERVER.into());
            let mut buffer = vec![0; template.len()];
            template.lay(&mut buffer);
            // More than once into the same buffer.
            for host in [1u8, 2, 0xfe] {
                let sender = Sender {
                    mac: [0x52, 0x54, 0xff, 0xfe, 7, host],
                    xid: 0xdead_be00 | u32::from(host),
                    addr: [10, 255, 254, host].into(),
                };
                template.fill(&mut buffer, &sender);
                assert!(is_sound(&buffer), "{kind:?} {host}");
                let mut whole = Vec::new();
                let chosen = Chosen { addr: sender.addr, server: SERVER.into() };
                request(&mut whole, sender.mac, sender.xid, wants.then_some(chosen));
                // The GUID ends in the machine's address there, and with it the checksum is another.
                let guid = whole.windows(3).position(|bytes| bytes == [97, 17, 0]).unwrap() + 13;
                whole[guid..guid + 6].fill(0);
                whole[40..42].copy_from_slice(&buffer[40..42]);
                assert_eq!(buffer, whole, "{kind:?} {host}");
            }
        }
    }

    #[test]
    fn other_traffic_is_for_another_machine_and_is_not_changed() {
        for (kind, protocol) in [(Kind::Udp, 17), (Kind::Tcp, 6)] {
            let template = Template::new(kind, SERVER.into());
            let mut buffer = vec![0; template.len()];
            template.lay(&mut buffer);
            let before = buffer.clone();
            template.fill(&mut buffer, &Sender { mac: [1; 6], xid: 1, addr: SERVER.into() });
            assert_eq!(buffer, before);
            assert_eq!((&buffer[..6], buffer[23], &buffer[36..38]), (&ELSEWHERE[..], protocol, &[0, 9][..]));
            let sum: u32 =
                buffer[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{kind:?}: the header's checksum");
        }
    }

    #[test]
    fn replies_are_told_from_requests_and_by_whose_they_are() {
        let stranger = answer([2, 0x66, 0, 0, 0, 1], 5, OFFER, [10, 90, 128, 1], SERVER);
        let known = answer([0x52, 0x54, 0, 0, 0, 1], 5, OFFER, [10, 90, 16, 1], SERVER);
        assert_eq!((is_reply(&stranger), is_strangers(&stranger)), (true, true));
        assert_eq!((is_reply(&known), is_strangers(&known)), (true, false));
        let mut asked = Vec::new();
        request(&mut asked, [2, 0x66, 0, 0, 0, 1], 5, None);
        assert!(!is_reply(&asked) && !is_strangers(&asked) && !is_reply(&asked[..20]));
    }
}
