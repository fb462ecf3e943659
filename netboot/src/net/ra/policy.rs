//! Whom to answer and when (RFC 4861 6.2.6), and which routers there are (RFC 4861 6.3.4, 6.3.7).
//!
//! Decides only: the time comes as an argument. An answer to one is sent at once, though the RFC lets routers wait up to
//! half a second lest several speak at the same time: a blade is waiting for it.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::wire::{self, ALL_NODES, ALL_ROUTERS, Message};
use crate::mac::Mac;

/// `MIN_DELAY_BETWEEN_RAS` (RFC 4861 10), for those that go to everybody.
pub(super) const GAP: Duration = Duration::from_secs(3);
/// `RTR_SOLICITATION_INTERVAL`.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(4);
/// `MAX_RTR_SOLICITATIONS`.
const ASKS: u8 = 3;
/// Routers remembered. One is enough to be silent, so a flood of made-up ones changes nothing.
const ROUTERS: usize = 16;

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// The empty advertisement.
    Advertisement {
        /// Ethernet destination.
        mac: Mac,
        /// Destination.
        to: Ipv6Addr,
    },
    /// The question whether there is a router.
    Solicitation,
}

/// What follows from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This is sent now.
    Now(Packet),
    /// Everybody gets an answer a little later: see [`Policy::next`].
    Later,
    /// Not answered, for there is a real router.
    RealRouter,
    /// A real router is heard: no more answers from now on.
    Appeared(Ipv6Addr),
    /// The last real router says that it is one no more.
    Gone,
    /// It changes nothing.
    Nothing,
}

/// What is known about the link.
#[derive(Debug)]
pub(super) struct Policy {
    mac: Mac,
    /// The real routers, each until when it is one.
    routers: BTreeMap<Ipv6Addr, Instant>,
    /// When everybody was last answered.
    answered_all: Option<Instant>,
    /// When everybody is to be answered next.
    answer_all: Option<Instant>,
    /// When to ask for routers, and how often yet.
    ask: Option<(Instant, u8)>,
}

impl Policy {
    /// For the interface with this Ethernet address. The first thing to do is to ask for routers.
    pub(super) fn new(mac: Mac, now: Instant) -> Self {
        Self { mac, routers: BTreeMap::new(), answered_all: None, answer_all: None, ask: Some((now, ASKS)) }
    }

    /// What to do about a message. `is_router`: this machine is itself an IPv6 router on the link.
    pub(super) fn receive(&mut self, message: &Message, is_router: bool, now: Instant) -> Outcome {
        match *message {
            // Another interface of ours on the same wire.
            Message::Solicitation { mac, .. } | Message::Advertisement { mac, .. } if mac == self.mac => {
                Outcome::Nothing
            }
            Message::Solicitation { mac, addr, to } => {
                if to != ALL_ROUTERS && to != wire::link_local(self.mac) {
                    Outcome::Nothing
                } else if is_router || self.is_routed(now) {
                    Outcome::RealRouter
                } else if addr.is_unspecified() {
                    self.answer_all(now)
                } else {
                    Outcome::Now(Packet::Advertisement { mac, to: addr })
                }
            }
            Message::Advertisement { addr, lifetime_secs, .. } => self.advertised(addr, lifetime_secs, now),
        }
    }

    /// Who has no address yet is answered with a frame to everybody, and one such frame answers all who wait for it.
    fn answer_all(&mut self, now: Instant) -> Outcome {
        match self.answered_all.map(|last| last + GAP) {
            Some(earliest) if earliest > now => {
                self.answer_all = Some(earliest);
                Outcome::Later
            }
            _ => Outcome::Now(self.now_to_all(now)),
        }
    }

    fn now_to_all(&mut self, now: Instant) -> Packet {
        self.answer_all = None;
        self.answered_all = Some(now);
        Packet::Advertisement { mac: wire::multicast(ALL_NODES), to: ALL_NODES }
    }

    fn advertised(&mut self, addr: Ipv6Addr, lifetime_secs: u16, now: Instant) -> Outcome {
        let was = self.is_routed(now);
        if lifetime_secs == 0 {
            self.routers.remove(&addr);
        } else if self.routers.len() < ROUTERS || self.routers.contains_key(&addr) {
            self.routers.insert(addr, now + Duration::from_secs(lifetime_secs.into()));
            (self.answer_all, self.ask) = (None, None);
        }
        match (was, self.is_routed(now)) {
            (false, true) => Outcome::Appeared(addr),
            (true, false) => Outcome::Gone,
            _ => Outcome::Nothing,
        }
    }

    /// Whether there is a real router; forgets those whose lifetime is over.
    fn is_routed(&mut self, now: Instant) -> bool {
        self.routers.retain(|_, until| *until > now);
        !self.routers.is_empty()
    }

    /// When [`Self::due`] next has something to send.
    pub(super) fn next(&self) -> Option<Instant> {
        let ask = self.ask.map(|(at, _)| at);
        ask.into_iter().chain(self.answer_all).min()
    }

    /// What is to be sent by now without a message; to be called until there is nothing.
    pub(super) fn due(&mut self, now: Instant) -> Option<Packet> {
        if let Some((at, left)) = self.ask
            && at <= now
        {
            self.ask = (left > 1).then(|| (now + ASK_AGAIN, left - 1));
            return Some(Packet::Solicitation);
        }
        self.answer_all.filter(|at| *at <= now).map(|_| self.now_to_all(now))
    }
}

#[cfg(test)]
mod tests;
