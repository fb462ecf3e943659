//! Offers that wait for the wire: probes out, answers in. Part of the server.

use std::io;
use std::net::Ipv4Addr;

use netboot_ebpf::Reason;

use super::{RECEIVE_ERRORS, Server, ignored, wall};
use crate::dhcp::lease::Owner;
use crate::dhcp::parked::Parked;
use crate::dhcp::policy::Change;
use crate::dhcp::segments::Segment;
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::net::arp::Prober;
use crate::timeline::Timeline;

/// Answers read in one go.
const HEARD_AT_ONCE: usize = 512;

impl Server {
    /// Looks whether somebody uses an address of the interface's subnet before it is offered.
    pub(super) fn probe(&mut self, parked: Parked, timeline: &Timeline) {
        let (Some(prober), Some(own)) = (&self.prober, self.segments.first_mut()) else { return };
        if self.parking.is_full() {
            return ignored(Some(parked.answer.mac), Reason::QueueFull, timeline);
        }
        if let Err(error) = prober.send(parked.addr) {
            tracing::warn!(interface = self.link.name, addr = %parked.addr, %error, "send an ARP probe");
        }
        own.leases.probe(parked.addr, parked.owner.clone());
        self.parking.park(parked, tokio::time::Instant::now().into_std());
    }

    /// Sends the offers of which the probe has found nobody.
    pub(super) fn probed(&mut self, timeline: &Timeline) {
        let (now, time) = (wall(), tokio::time::Instant::now().into_std());
        while let Some(addr) = self.parking.again(time) {
            if let Some(prober) = &self.prober {
                // The first one is enough if this one does not leave.
                let _ = prober.send(addr);
            }
        }
        while let Some(Parked { addr, owner, answer, .. }) = self.parking.due(time) {
            if self.waits(&owner, addr) {
                self.change(0, owner, Change::Offer(addr), now, Some(answer), timeline);
            }
        }
    }

    /// Whether a client still waits for an address that is being probed: meanwhile it may have chosen another server, and
    /// the address may be another's.
    fn waits(&self, owner: &Owner, addr: Ipv4Addr) -> bool {
        let own = self.segments.first();
        own.is_some_and(|Segment { leases, .. }| {
            leases.is_probing(owner) && leases.held_for(owner) == Some(addr)
        })
    }

    /// Looks at what the probes were answered.
    pub(super) fn hear(&mut self, snapshot: &Snapshot, timeline: &Timeline) {
        let mut errors = 0;
        for _ in 0..HEARD_AT_ONCE {
            let Some(prober) = &self.prober else { return };
            match prober.try_answer() {
                Ok(Some((addr, mac))) => self.in_use(addr, mac, snapshot, timeline),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // One comes when the link goes down for a moment; without end they come when it is gone.
                Err(error) if errors == RECEIVE_ERRORS => {
                    tracing::warn!(interface = self.link.name, %error, "receive ARP; addresses are offered unseen now");
                    self.prober = None;
                }
                Err(error) => {
                    errors += 1;
                    tracing::warn!(interface = self.link.name, %error, "receive ARP");
                }
            }
        }
    }

    /// Somebody says that an address is his.
    fn in_use(&mut self, addr: Ipv4Addr, by: Mac, snapshot: &Snapshot, timeline: &Timeline) {
        while let Some(Parked { request, addressed, owner, answer, .. }) = self.parking.take(addr) {
            if !self.waits(&owner, addr) {
                continue;
            }
            if request.card() == by || answer.mac == by {
                // The machine itself, from an earlier life.
                return self.change(0, owner, Change::Offer(addr), wall(), Some(answer), timeline);
            }
            timeline.count("dhcp", "conflict");
            tracing::warn!(%addr, mac = %by, "{by} uses {addr} of the pool, which nobody gave it; the address is left alone for a while");
            if let Some(own) = self.segments.first_mut() {
                own.leases.conflict(addr, wall());
            }
            self.decide(request, addressed, snapshot, timeline);
        }
    }
}

/// Waits for an answer to a probe, for ever without a prober.
pub(super) async fn answered(prober: Option<&Prober>) {
    match prober {
        // An error is seen when it is read.
        Some(prober) => drop(prober.readable().await),
        None => std::future::pending().await,
    }
}
