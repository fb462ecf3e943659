//! What decisions change in the leases, on the disk and on the wire, in this order. Part of the server.

use netboot_ebpf::Reason;
use netboot_ebpf::verdict::message;

use super::{Answer, Server, identity, ignored, steady, wall};
use crate::dhcp::lease::{Lease, News, Owner};
use crate::dhcp::policy::{self, Change};
use crate::dhcp::record;
use crate::dhcp::segments::Segment;
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::store::Written;
use crate::timeline::Timeline;

/// What comes back from the writing thread.
#[derive(Debug)]
pub(super) enum Job {
    /// A lease was written.
    Lease {
        /// Whose leases it belongs to.
        segment: usize,
        /// The lease.
        lease: Lease,
        /// The reply that waits for it.
        answer: Option<Answer>,
    },
    /// This card of a machine was written, or deleted.
    Card(Mac),
    /// What nobody waits for.
    Other,
}

impl Server {
    /// The time to decide by. Leases end by the wall clock; when that was set they are put right first, so that nobody
    /// loses one.
    pub(super) fn now(&mut self) -> u64 {
        let now = wall();
        let Some(step) = self.clock.tick(now, steady()) else { return now };
        tracing::warn!(
            "the clock was set from {} to {} (seconds since 1970); leases go on for as long as their clients were told",
            step.from,
            step.to
        );
        let longest = u64::from(self.settings.max_lease_secs);
        for segment in &mut self.segments {
            let longest = longest.max(segment.subnet.lease_secs.into());
            let moved = segment.leases.clock_moved(step.from, step.to, longest);
            if !moved.is_empty() {
                let changes = moved.iter().map(record::put).collect();
                // If it cannot be queued, each is written when its client renews it.
                let _ = self.writer.submit(changes, Job::Other);
            }
        }
        now
    }

    /// Makes the change in the leases and sends the answer, at once or when the change is on disk.
    pub(super) fn change(
        &mut self,
        segment: usize,
        owner: Owner,
        change: Change,
        now: u64,
        answer: Option<Answer>,
        timeline: &Timeline,
    ) {
        let Some(Segment { leases, .. }) = self.segments.get_mut(segment) else { return };
        match change {
            Change::Lease { addr, secs } => {
                let lease = Lease { addr, owner, expires: now + u64::from(secs) };
                return self.write(segment, lease, now, answer, timeline);
            }
            // Kept as one that has ended, so that the client finds its address free when it comes back.
            Change::Release(addr) => {
                return self.write(segment, Lease { addr, owner, expires: now }, now, answer, timeline);
            }
            Change::Decline(addr) => {
                let ended = leases.decline(addr, &owner, now);
                self.tell(News::Ended(owner.mac));
                // If it cannot be queued, the client finds its record again after a restart: no harm to others.
                let _ = self.writer.submit(vec![record::put(&ended)], Job::Other);
            }
            Change::Offer(addr) => leases.offer(addr, owner, now),
            Change::Forget => leases.forget(&owner),
            Change::None => {}
        }
        if let Some(answer) = answer {
            self.send(&answer, timeline);
        }
    }

    /// Tells whoever follows the leases.
    fn tell(&self, news: News) {
        if let Some(sender) = &self.news {
            // Whoever followed has ended.
            let _ = sender.send(news);
        }
    }

    fn write(&mut self, segment: usize, lease: Lease, now: u64, answer: Option<Answer>, timeline: &Timeline) {
        let Some(Segment { leases, .. }) = self.segments.get_mut(segment) else { return };
        let before = leases.writing(&lease);
        let changes = [record::put(&lease)].into_iter().chain(before.map(record::delete)).collect();
        if let Err(Job::Lease { lease, answer, .. }) =
            self.writer.submit(changes, Job::Lease { segment, lease, answer })
        {
            leases.unwritten(&lease, now);
            if answer.is_some() {
                ignored(Some(lease.owner.mac), Reason::QueueFull, timeline);
            }
        }
    }

    /// What was handed to the writing thread is on disk, or is not.
    pub(super) fn finish(&mut self, done: Written<Job>, snapshot: &Snapshot, timeline: &Timeline) {
        for job in done.tokens {
            let (segment, lease, answer) = match job {
                Job::Lease { segment, lease, answer } => (segment, lease, answer),
                Job::Card(card) => {
                    if let Some(uuid) = self.cards.written(card, done.stored) {
                        identity::tell(card, uuid, snapshot);
                    }
                    continue;
                }
                Job::Other => continue,
            };
            let Some(Segment { leases, .. }) = self.segments.get_mut(segment) else { continue };
            let acknowledges = answer.as_ref().is_some_and(|answer| answer.reply.message == message::ACK);
            if done.stored && acknowledges && policy::is_void(&lease, snapshot) {
                self.void(segment, &lease, wall(), timeline);
            } else if done.stored {
                let (mac, addr) = (lease.owner.mac, lease.addr);
                let moved = leases.written(lease);
                let live = leases.live(addr, wall()).filter(|_| leases.in_pool(addr)).cloned();
                let segment_number = u16::try_from(segment).unwrap_or(u16::MAX);
                self.tell(match live {
                    Some(lease) => News::Bound { segment: segment_number, lease },
                    None => News::Ended(mac),
                });
                if let Some((moved, before)) = moved {
                    let changes =
                        [record::put(&moved)].into_iter().chain(before.map(record::delete)).collect();
                    // If it cannot be queued, it is written when its client renews it.
                    let _ = self.writer.submit(changes, Job::Other);
                }
                if let Some(answer) = answer {
                    self.send(&answer, timeline);
                }
            } else {
                leases.unwritten(&lease, wall());
                if answer.is_some() {
                    ignored(Some(lease.owner.mac), Reason::StoreFailed, timeline);
                }
            }
        }
    }

    /// Takes a lease back before its machine hears of it: the operator has reserved the address while it was being written.
    /// XDP was given what the disk said before, and may have given the address away. Not if the machine has it already: then
    /// it goes on with the lease that it was told of.
    fn void(&mut self, segment: usize, lease: &Lease, now: u64, timeline: &Timeline) {
        let Some(Segment { leases, .. }) = self.segments.get_mut(segment) else { return };
        let back = leases.voided(lease, now);
        ignored(Some(lease.owner.mac), Reason::WrongAddress, timeline);
        if back.expires > now {
            // If it cannot be queued, the record says more than the client was told: no harm to it.
            let _ = self.writer.submit(vec![record::put(&back)], Job::Other);
        } else {
            self.tell(News::Ended(lease.owner.mac));
            self.write(segment, back, now, None, timeline);
        }
    }
}
