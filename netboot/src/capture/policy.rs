//! What of the traffic a capture takes: DHCP, TFTP from its request to its last block, errors about these, and ARP; or more, or
//! that of some machines alone. Decides only; time comes with the packets.
//!
//! A machine is known by its Ethernet address, and by the address that DHCP or ARP says it has: behind a relay agent its
//! packets bear a router's Ethernet address.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use super::sessions::Sessions;
use super::wire::{Frame, Ip, Kind as Inside, Part, Quoted, Udp};
use crate::mac::Mac;
use crate::tftp;

/// DHCP, and the boot service of PXE (2.1).
const DHCP: [u16; 3] = [67, 68, 4011];
/// Fragmented packets whose later fragments are still to come.
const FRAGMENTED: usize = 64;

/// What a packet is, for the sum at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// DHCP, also on port 4011.
    Dhcp,
    /// TFTP.
    Tftp,
    /// ARP.
    Arp,
    /// ICMP.
    Icmp,
    /// TCP of the HTTP port.
    Http,
    /// Other UDP.
    Other,
}

impl Kind {
    /// As it is called in the sum.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dhcp => "DHCP",
            Self::Tftp => "TFTP",
            Self::Arp => "ARP",
            Self::Icmp => "ICMP",
            Self::Http => "HTTP",
            Self::Other => "other",
        }
    }
}

/// A packet that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What it is.
    pub kind: Kind,
    /// Of TFTP: how many bytes its transfer has in a block.
    pub block: Option<usize>,
}

impl From<Kind> for Taken {
    fn from(kind: Kind) -> Self {
        Self { kind, block: None }
    }
}

/// What is taken, and what is known of the packets so far.
#[derive(Debug)]
pub struct Policy {
    all: bool,
    /// Empty: every machine.
    macs: BTreeSet<Mac>,
    /// The addresses of these.
    addrs: BTreeMap<Mac, Ipv4Addr>,
    sessions: Sessions,
    fragmented: VecDeque<((Ipv4Addr, Ipv4Addr, u16), Kind)>,
}

impl Policy {
    /// `all`: other UDP, ICMP and TCP too, as far as it is seen at all. `macs`: these machines alone, if there are any.
    pub fn new(all: bool, macs: BTreeSet<Mac>) -> Self {
        Self { all, macs, addrs: BTreeMap::new(), sessions: Sessions::default(), fragmented: VecDeque::new() }
    }

    /// Whether a packet is taken.
    pub fn take(&mut self, frame: &Frame<'_>, at_ns: u64) -> Option<Taken> {
        match &frame.kind {
            Inside::Arp { macs, addrs } => {
                self.learn(macs.first(), addrs.first());
                let concerned = self.concerned(&frame.macs, addrs) || self.concerned(macs, &[]);
                concerned.then_some(Kind::Arp.into())
            }
            Inside::Ip(ip) => self.take_ip(frame, ip, at_ns),
            Inside::Other => None,
        }
    }

    fn take_ip(&mut self, frame: &Frame<'_>, ip: &Ip<'_>, at_ns: u64) -> Option<Taken> {
        let whole = (ip.from, ip.to, ip.id);
        if matches!(ip.part, Part::Later) {
            let first = self.fragmented.iter().find(|(packet, _)| *packet == whole);
            return first.map(|(_, kind)| (*kind).into());
        }
        let concerned = self.concerned(&frame.macs, &[ip.from, ip.to]);
        let taken = match ip.part {
            Part::Udp(udp) => self.take_udp(ip, &udp, concerned, at_ns),
            Part::Icmp(quoted) => {
                let about = quoted.is_some_and(|quoted| self.boots(quoted));
                (concerned && (about || self.all)).then_some(Kind::Icmp.into())
            }
            Part::Tcp(_) => (concerned && self.all).then_some(Kind::Http.into()),
            Part::Other | Part::Later => None,
        }?;
        if ip.more {
            self.fragmented.truncate(FRAGMENTED - 1);
            self.fragmented.push_front((whole, taken.kind));
        }
        Some(taken)
    }

    fn take_udp(&mut self, ip: &Ip<'_>, udp: &Udp<'_>, concerned: bool, at_ns: u64) -> Option<Taken> {
        if DHCP.contains(&udp.from) || DHCP.contains(&udp.to) {
            return (self.concerned_by_dhcp(udp.payload) || concerned).then_some(Kind::Dhcp.into());
        }
        let (from, to) = ((ip.from, udp.from), (ip.to, udp.to));
        // A request, to read or to write; which of the two ends is the client shows later packets' direction.
        if udp.to == tftp::PORT && concerned && matches!(udp.payload, [0, 1 | 2, ..]) {
            self.sessions.begin(from, ip.to, at_ns);
        }
        // Who has begun it was concerned.
        if let Some(block) = self.sessions.part(from, to, udp.payload, at_ns) {
            return Some(Taken { kind: Kind::Tftp, block: Some(block) });
        }
        let kind = if udp.from == tftp::PORT || udp.to == tftp::PORT { Kind::Tftp } else { Kind::Other };
        (concerned && (kind == Kind::Tftp || self.all)).then_some(kind.into())
    }

    /// Whether an ICMP error is about a packet that is taken for what it is.
    fn boots(&self, quoted: Quoted) -> bool {
        let ports = [quoted.from.1, quoted.to.1];
        ports.iter().any(|port| DHCP.contains(port) || *port == tftp::PORT)
            || self.sessions.has(quoted.from, quoted.to)
    }

    /// Whether one of these is a machine that is wanted.
    fn concerned(&self, macs: &[Mac], addrs: &[Ipv4Addr]) -> bool {
        self.macs.is_empty()
            || macs.iter().any(|mac| self.macs.contains(mac))
            || addrs.iter().any(|addr| self.addrs.values().any(|known| known == addr))
    }

    /// The same by the client's Ethernet address in a DHCP packet (RFC 2131 2), whose own address is remembered.
    fn concerned_by_dhcp(&mut self, payload: &[u8]) -> bool {
        let Some(mac) = payload.get(28..).and_then(<[u8]>::first_chunk).map(|bytes| Mac(*bytes)) else {
            return false;
        };
        // `yiaddr` of a reply, `ciaddr` of a request.
        let at = if payload.first() == Some(&2) { 16 } else { 12 };
        let addr = payload.get(at..).and_then(<[u8]>::first_chunk::<4>).map(|bytes| Ipv4Addr::from(*bytes));
        self.learn(Some(&mac), addr.as_ref());
        self.concerned(&[mac], &[])
    }

    /// A machine that is wanted has this address. One address for each, so what is remembered is bounded.
    fn learn(&mut self, mac: Option<&Mac>, addr: Option<&Ipv4Addr>) {
        if let (Some(mac), Some(addr)) = (mac, addr)
            && self.macs.contains(mac)
            && !addr.is_unspecified()
        {
            self.addrs.insert(*mac, *addr);
        }
    }
}

#[cfg(test)]
mod tests;
