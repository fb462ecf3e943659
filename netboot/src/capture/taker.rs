//! Makes of each packet that belongs the block that will stand in the file: with its interface, direction and comment, cut
//! and completed as it is on the wire. Decides and counts; moves nothing.

use std::collections::BTreeMap;

use super::order::Order;
use super::pcapng::{self, Flags, Packet};
use super::policy::{Kind, Policy};
use super::recorder::Options;
use super::{segments, wire};
use crate::fastpath::captured::Record;
use crate::net::tap::{Seen, Way};

/// The packet socket's number in the file; the XDP program's is the next.
pub(super) const INTERFACE: u32 = 0;
pub(super) const XDP: u32 = 1;
/// What is said of an answer of the program, and of what it has answered.
const ANSWER: &str = "answer of the XDP program";
const ANSWERED: &str = "answered by the XDP program; the daemon does not see it";
/// What is said of frames that were cut.
const CUT: &str = "sent in one piece with its neighbours, and cut up by the kernel or the network card";

/// What a capture came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets by what they are.
    pub kinds: BTreeMap<Kind, u64>,
    /// How many of them are from the XDP program.
    pub xdp: u64,
    /// Packets that found no room, because what reads was too slow.
    pub dropped: u64,
}

impl Summary {
    /// All packets.
    pub fn packets(&self) -> u64 {
        self.kinds.values().sum()
    }
}

/// Makes blocks of the packets that belong.
#[derive(Debug)]
pub(super) struct Taker {
    policy: Policy,
    count: u64,
    longest: usize,
    pub(super) order: Order,
    pub(super) summary: Summary,
}

impl Taker {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            policy: Policy::new(options.all.is_some(), options.macs.clone()),
            count: options.count.unwrap_or(u64::MAX),
            longest: usize::try_from(options.longest).unwrap_or(usize::MAX),
            order: Order::default(),
            summary: Summary::default(),
        }
    }

    pub(super) fn has_enough(&self) -> bool {
        self.summary.packets() >= self.count
    }

    /// Takes a frame that has passed the packet socket, if it belongs.
    pub(super) fn take(&mut self, seen: &Seen<'_>) {
        let Some(taken) = self.policy.take(&wire::frame(seen.bytes), seen.at_ns) else { return };
        let flags = match seen.way {
            Way::ToUs => Flags::UNICAST,
            Way::Broadcast => Flags::BROADCAST,
            Way::Multicast => Flags::MULTICAST,
            Way::ToOthers => Flags::PROMISCUOUS,
            Way::Sent => Flags::OUTBOUND,
        };
        let Seen { bytes, length, at_ns, .. } = *seen;
        let packet = Packet { interface: INTERFACE, at_ns, flags, bytes, length, comment: None };
        if let Some(frames) = taken.block.and_then(|block| segments::cut(bytes, block)) {
            for frame in frames {
                let (bytes, length, comment) = (frame.as_slice(), frame.len(), Some(CUT));
                self.put(taken.kind, Packet { bytes, length, comment, ..packet });
            }
        } else if seen.unsummed {
            let mut whole = bytes.to_vec();
            segments::complete(&mut whole);
            self.put(taken.kind, Packet { bytes: &whole, ..packet });
        } else {
            self.put(taken.kind, packet);
        }
    }

    /// Takes a request that the XDP program has answered, or its answer, if it belongs.
    pub(super) fn take_answer(&mut self, record: &Record<'_>) {
        let Record { at_ns, sent, bytes } = *record;
        let Some(taken) = self.policy.take(&wire::frame(bytes), at_ns) else { return };
        let (flags, comment) =
            if sent { (Flags::OUTBOUND, Some(ANSWER)) } else { (Flags::INBOUND, Some(ANSWERED)) };
        let length = bytes.len();
        if self.put(taken.kind, Packet { interface: XDP, at_ns, flags, bytes, length, comment }) {
            self.summary.xdp += 1;
        }
    }

    /// Puts a packet into the file's order, unless there are enough. Returns whether it did.
    fn put(&mut self, kind: Kind, packet: Packet<'_>) -> bool {
        if self.has_enough() {
            return false;
        }
        *self.summary.kinds.entry(kind).or_default() += 1;
        let bytes = packet.bytes.get(..self.longest).unwrap_or(packet.bytes);
        self.order.put(packet.at_ns, pcapng::packet(&Packet { bytes, ..packet }));
        true
    }
}
