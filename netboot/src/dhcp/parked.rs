//! Offers that wait until a probe has shown that nobody uses their address.
//!
//! Pure: a list in the order of time; the clock is an argument. Two probes, for one can be lost.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::lease::Owner;
use super::policy::Addressed;
use super::server::Answer;
use super::wire::Request;

/// Between the two probes, and from the second to the offer. Whoever is on the link has answered by then; the most
/// impatient boot ROM asks again after a second.
const PAUSE: Duration = Duration::from_millis(100);
/// Offers that wait. More clients than this within [`PAUSE`] twice have to ask again.
const MOST: usize = 4096;

/// An offer that waits.
#[derive(Debug)]
pub(super) struct Parked {
    /// What was asked, for when another address must be found.
    pub(super) request: Request,
    /// How.
    pub(super) addressed: Addressed,
    /// The address that is looked for.
    pub(super) addr: Ipv4Addr,
    /// For whom.
    pub(super) owner: Owner,
    /// The offer.
    pub(super) answer: Answer,
}

/// The offers that wait: for the second probe, then for its answer.
#[derive(Debug, Default)]
pub(super) struct Parking {
    once: VecDeque<(Instant, Parked)>,
    twice: VecDeque<(Instant, Parked)>,
}

impl Parking {
    /// There is no room.
    pub(super) fn is_full(&self) -> bool {
        self.once.len() + self.twice.len() >= MOST
    }

    /// Adds an offer of which the first probe was sent now.
    pub(super) fn park(&mut self, parked: Parked, now: Instant) {
        self.once.push_back((now + PAUSE, parked));
    }

    /// The next address that is to be probed again.
    pub(super) fn again(&mut self, now: Instant) -> Option<Ipv4Addr> {
        let (_, parked) = pop(&mut self.once, now)?;
        let addr = parked.addr;
        self.twice.push_back((now + PAUSE, parked));
        Some(addr)
    }

    /// The next offer that has waited long enough.
    pub(super) fn due(&mut self, now: Instant) -> Option<Parked> {
        pop(&mut self.twice, now).map(|(_, parked)| parked)
    }

    /// Takes out the offer of an address.
    pub(super) fn take(&mut self, addr: Ipv4Addr) -> Option<Parked> {
        let list = |list: &mut VecDeque<(Instant, Parked)>| {
            let place = list.iter().position(|(_, parked)| parked.addr == addr)?;
            list.remove(place).map(|(_, parked)| parked)
        };
        list(&mut self.once).or_else(|| list(&mut self.twice))
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let first = |list: &VecDeque<(Instant, Parked)>| list.front().map(|(due, _)| *due);
        first(&self.once).into_iter().chain(first(&self.twice)).min()
    }
}

fn pop(list: &mut VecDeque<(Instant, Parked)>, now: Instant) -> Option<(Instant, Parked)> {
    list.pop_front_if(|(due, _)| *due <= now)
}
