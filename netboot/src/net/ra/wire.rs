//! Router solicitations and advertisements as Ethernet frames (RFC 4861 4.1, 4.2, 6.1; RFC 2464).
//!
//! Bytes only. A frame that RFC 4861 6.1 tells to discard is [`Malformed`]. Extension headers are not followed: nobody
//! puts one before these messages, and a fragment must not be believed (RFC 6980 5).

use std::net::Ipv6Addr;

use crate::mac::Mac;
use crate::net::frames;

/// The `EtherType` of IPv6.
pub(super) const ETHERTYPE: u16 = 0x86dd;
/// The next header of ICMPv6.
pub(super) const ICMPV6: u8 = 58;
/// ICMPv6 types.
pub(super) const SOLICITATION: u8 = 133;
/// See [`SOLICITATION`].
pub(super) const ADVERTISEMENT: u8 = 134;
/// Where the IPv6 header begins.
pub(super) const IPV6: usize = 14;
/// Where the ICMPv6 message begins.
pub(super) const MESSAGE: usize = IPV6 + 40;

/// ff02::1
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// ff02::2
pub(super) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Neighbours are on the same link: no router has lowered the hop limit.
const HOP_LIMIT: u8 = 255;
/// The option with the sender's Ethernet address.
const SOURCE_LINK_LAYER: u8 = 1;

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Somebody asks for routers.
    Solicitation {
        /// The sender's Ethernet address.
        mac: Mac,
        /// The sender's address, unspecified if it has none yet.
        addr: Ipv6Addr,
        /// Where it was sent to.
        to: Ipv6Addr,
    },
    /// A router, or somebody like us, says what it is.
    Advertisement {
        /// The sender's Ethernet address.
        mac: Mac,
        /// The sender's link-local address.
        addr: Ipv6Addr,
        /// For how long it is a default router; 0: it is none.
        lifetime_secs: u16,
    },
}

/// A frame that must not be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads a frame, checked as RFC 4861 6.1.1 and 6.1.2 want it.
pub(super) fn parse(frame: &[u8]) -> Result<Message, Malformed> {
    read(frame).ok_or(Malformed)
}

fn read(frame: &[u8]) -> Option<Message> {
    let mac = Mac(*frame.get(6..)?.first_chunk()?);
    let header: &[u8; 40] = frame.get(IPV6..)?.first_chunk()?;
    let [version, _, _, _, high, low, next, hops, addresses @ ..] = header;
    let (from, to) = addresses.split_at(16);
    let from = Ipv6Addr::from(*from.first_chunk::<16>()?);
    let to = Ipv6Addr::from(*to.first_chunk::<16>()?);
    // What follows is the filling of a short frame.
    let message = frame.get(MESSAGE..)?.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
    let sound = frame.get(12..IPV6)? == ETHERTYPE.to_be_bytes()
        && version >> 4 == 6
        && (*next, *hops) == (ICMPV6, HOP_LIMIT)
        && from_one(mac)
        && !from.is_multicast()
        && !from.is_loopback()
        && checksum(from, to, message) == 0;
    if !sound {
        return None;
    }
    match message {
        [SOLICITATION, 0, _, _, _, _, _, _, options @ ..] => {
            let named = walk(options)?;
            if from.is_unspecified() && named {
                return None;
            }
            Some(Message::Solicitation { mac, addr: from, to })
        }
        [ADVERTISEMENT, 0, _, _, _, _, high, low, _, _, _, _, _, _, _, _, options @ ..] => {
            walk(options)?;
            let lifetime_secs = u16::from_be_bytes([*high, *low]);
            from.is_unicast_link_local().then_some(Message::Advertisement { mac, addr: from, lifetime_secs })
        }
        _ => None,
    }
}

/// Whether the address can be that of one sender.
fn from_one(mac: Mac) -> bool {
    let [first, ..] = mac.0;
    first & 1 == 0 && mac.0 != [0; 6]
}

/// Walks the options; says whether the sender's Ethernet address is among them. `None` if one has length 0 or is cut off.
fn walk(mut options: &[u8]) -> Option<bool> {
    let mut named = false;
    while let [kind, units, ..] = options {
        let length = usize::from(*units) * 8;
        if length == 0 {
            return None;
        }
        options = options.get(length..)?;
        named |= *kind == SOURCE_LINK_LAYER;
    }
    options.is_empty().then_some(named)
}

/// The frame with an empty router advertisement: no hop limit, no flags, router lifetime 0, no timers, no options.
pub(super) fn advertisement(mac: Mac, to_mac: Mac, to: Ipv6Addr) -> Vec<u8> {
    frame(
        (mac, link_local(mac)),
        (to_mac, to),
        &mut [ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    )
}

/// The frame that asks all routers to advertise themselves. Without a source address, so they answer everybody and need
/// not first find out where this address is, which nobody would tell them where IPv6 is off.
pub(super) fn solicitation(mac: Mac) -> Vec<u8> {
    let to = (multicast(ALL_ROUTERS), ALL_ROUTERS);
    frame((mac, Ipv6Addr::UNSPECIFIED), to, &mut [SOLICITATION, 0, 0, 0, 0, 0, 0, 0])
}

fn frame(from: (Mac, Ipv6Addr), to: (Mac, Ipv6Addr), message: &mut [u8]) -> Vec<u8> {
    let sum = checksum(from.1, to.1, message).to_be_bytes();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum);
    }
    let length = u16::try_from(message.len()).unwrap_or_default();
    let mut frame = Vec::with_capacity(MESSAGE + message.len());
    frame.extend(to.0.0);
    frame.extend(from.0.0);
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(from.1.octets());
    frame.extend(to.1.octets());
    frame.extend(&*message);
    frame
}

/// The ICMPv6 checksum (RFC 4443 2.3) of a message whose field is zero; 0 for a received one that is whole.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u16::try_from(message.len()).unwrap_or_default();
    let pseudo = [&from.octets()[..], &to.octets(), &length.to_be_bytes(), &[0, ICMPV6]].concat();
    !frames::sum(frames::sum(0, &pseudo), message)
}

/// The link-local address that belongs to an Ethernet address (RFC 4291 appendix A, modified EUI-64).
pub(super) fn link_local(mac: Mac) -> Ipv6Addr {
    let [first, second, third, fourth, fifth, sixth] = mac.0;
    let identifier = [first ^ 2, second, third, 0xff, 0xfe, fourth, fifth, sixth];
    Ipv6Addr::from((0xfe80 << 112) | u128::from(u64::from_be_bytes(identifier)))
}

/// The Ethernet address of a multicast group (RFC 2464 7).
pub(super) fn multicast(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests;
