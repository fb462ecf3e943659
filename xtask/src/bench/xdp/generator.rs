//! The generator: frames of one kind as fast as they can be sent, 64 by one system call, and what comes back counted.
//!
//! One thread. On a veth the kernel runs the other end's XDP program on the time of who sends, so a processor more would
//! be one more for both.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::frames::{Kind, STRANGER, Sender, Template, is_reply};
use crate::bench::blades::{Owners, Plan};
use crate::bench::random::Random;
use crate::bench::socket::{BATCH, Batch, Socket};
use crate::bench::wire::{Heard, read};

/// Of so many replies one is read in full.
const READ: u64 = 64;

/// What was sent, and what came back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) sent: u64,
    pub(super) replies: u64,
    /// Of the replies that were read in full: those that no client could use.
    pub(super) invalid: u64,
    /// Requests that came back as they were.
    pub(super) reflected: u64,
}

/// Sends frames of one kind.
#[derive(Debug)]
pub(super) struct Generator {
    plan: Plan,
    kind: Kind,
    template: Template,
    /// The reserved machines in no order, and who is next.
    order: Vec<u32>,
    next: usize,
    random: Random,
    xid: u32,
    out: Batch,
    back: Batch,
    pub(super) count: Count,
}

impl Generator {
    /// Frames of this kind, from the machines of this plan.
    pub(super) fn new(kind: Kind, plan: Plan) -> Self {
        let mut random = Random::new(kind as u64 + 1);
        let template = Template::new(kind, plan.server);
        let mut out = Batch::new();
        out.rooms(BATCH, template.len()).for_each(|room| template.lay(room));
        let order = random.shuffled(plan.hosts);
        Self {
            plan,
            kind,
            template,
            order,
            next: 0,
            random,
            xid: 0,
            out,
            back: Batch::new(),
            count: Count::default(),
        }
    }

    /// One of its frames, as it was last sent.
    pub(super) fn frame(&mut self) -> Vec<u8> {
        let sender = self.sender();
        let mut frame = vec![0; self.template.len()];
        self.template.lay(&mut frame);
        self.template.fill(&mut frame, &sender);
        frame
    }

    fn sender(&mut self) -> Sender {
        self.xid = self.xid.wrapping_add(1);
        if self.kind == Kind::Miss {
            let [_, _, a, b, c, d, _, _] = self.random.next().to_be_bytes();
            let [first, second] = STRANGER;
            return Sender { mac: [first, second, a, b, c, d], xid: self.xid, addr: Ipv4Addr::UNSPECIFIED };
        }
        let host = self.order.get(self.next).copied().unwrap_or_default();
        self.next = if self.next + 1 < self.order.len() { self.next + 1 } else { 0 };
        let addr = self.plan.reservation(host).unwrap_or(Ipv4Addr::UNSPECIFIED);
        Sender { mac: Plan::mac(host), xid: self.xid, addr }
    }

    /// Sends so many frames, as many as go into a batch at most.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(super) fn burst(&mut self, wire: &Socket, count: usize) -> Result<()> {
        let count = count.min(BATCH);
        let senders: Vec<Sender> = (0..count).map(|_| self.sender()).collect();
        for (room, sender) in self.out.rooms(count, self.template.len()).zip(senders) {
            self.template.fill(room, &sender);
        }
        let sent = wire.send_some(&mut self.out).context("send")?;
        self.count.sent += sent as u64;
        Ok(())
    }

    /// Counts what has come back; returns whether there was anything.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(super) fn drain(&mut self, wire: &Socket) -> Result<bool> {
        let mut any = false;
        // What came back for the frames of one burst, and of a server that is behind.
        for _ in 0..4 {
            let count = wire.receive_all(&mut self.back).context("receive")?;
            any |= count > 0;
            for frame in self.back.frames() {
                if !is_reply(frame) {
                    self.count.reflected += 1;
                    continue;
                }
                self.count.replies += 1;
                if self.count.replies.is_multiple_of(READ) && !self.plan.is_right(frame) {
                    self.count.invalid += 1;
                }
            }
            if count < BATCH {
                break;
            }
        }
        Ok(any)
    }
}

impl Plan {
    /// Whether a client could use the reply: a reserved machine its address, a stranger any of the pool.
    fn is_right(&self, frame: &[u8]) -> bool {
        let Heard::Reply(reply) = read(frame) else { return false };
        let [first, second, host @ ..] = reply.mac;
        if [first, second] == STRANGER {
            return (self.pool.0..=self.pool.1).contains(&reply.yiaddr);
        }
        self.fits(&Owners::new(), u32::from_be_bytes(host), reply.yiaddr, &reply)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Generator, Kind};
    use crate::bench::blades::Plan;
    use crate::bench::wire::message::{ACK, OFFER};
    use crate::bench::wire::tests::answer;

    const SERVER: [u8; 4] = [10, 90, 0, 1];

    fn plan() -> Plan {
        Plan {
            hosts: 300,
            server: SERVER.into(),
            reserved: Some([10, 90, 16, 0].into()),
            pool: ([10, 90, 128, 0].into(), [10, 90, 128, 9].into()),
        }
    }

    #[test]
    fn all_machines_ask_and_strangers_are_ever_new() {
        let senders = |kind| {
            let mut generator = Generator::new(kind, plan());
            (0..300).map(|_| generator.frame()[6..12].to_vec()).collect::<BTreeSet<_>>()
        };
        let (known, strange) = (senders(Kind::Discover), senders(Kind::Miss));
        assert_eq!((known.len(), strange.len()), (300, 300));
        assert!(known.contains(&Plan::mac(299)[..]) && known.is_disjoint(&strange));
    }

    #[test]
    fn a_reply_is_right_for_the_machine_that_it_is_for() {
        let reply = |mac, message, addr| answer(mac, 1, message, addr, SERVER);
        let stranger = [2, 0x66, 1, 2, 3, 4];
        assert!(plan().is_right(&reply(Plan::mac(5), OFFER, [10, 90, 16, 5])));
        assert!(plan().is_right(&reply(Plan::mac(299), ACK, [10, 90, 17, 43])));
        assert!(plan().is_right(&reply(stranger, OFFER, [10, 90, 128, 9])));
        assert!(!plan().is_right(&reply(Plan::mac(5), OFFER, [10, 90, 16, 6])), "another's address");
        assert!(!plan().is_right(&reply(Plan::mac(5), 6, [10, 90, 16, 5])), "a NAK");
        assert!(!plan().is_right(&reply(stranger, OFFER, [10, 90, 16, 5])), "a reserved address");
        assert!(!plan().is_right(&[0; 300]));
    }
}
