//! Offers that wait for the wire: probes out, answers in. Part of the server.

use std::io;
use std::net::Ipv4Addr;

use netboot_ebpf::Reason;

use super::{Server, ignored, wall};
use crate::dhcp::parked::Parked;
use crate::dhcp::policy::Change;
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::net::arp::Prober;
use crate::timeline::Timeline;

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
            let waits = self.segments.first().is_some_and(|own| {
                own.leases.is_probing(&owner) && own.leases.held_for(&owner) == Some(addr)
            });
            // Meanwhile it may have chosen another server.
            if waits {
                self.change(0, owner, Change::Offer(addr), now, Some(answer), timeline);
            }
        }
    }

    /// Somebody says that an address is his.
    pub(super) fn in_use(&mut self, addr: Ipv4Addr, by: Mac, snapshot: &Snapshot, timeline: &Timeline) {
        let Some(parked) = self.parking.take(addr) else { return };
        let Parked { request, addressed, owner, answer, .. } = parked;
        if answer.mac == by {
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

/// The next answer to a probe; none ever without a prober.
pub(super) async fn answered(prober: Option<&Prober>) -> io::Result<(Ipv4Addr, Mac)> {
    match prober {
        Some(prober) => prober.answer().await,
        None => std::future::pending().await,
    }
}
