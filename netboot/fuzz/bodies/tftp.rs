//! Any bytes as a TFTP packet: they are read or refused, and what was read can be written and read again. Then as a request
//! and what a network does to its transfer: whatever that is nothing is sent that must not be, and a client that keeps the
//! RFCs has the file at the end, every block of it in its place.

use std::collections::VecDeque;
use std::time::Duration;

use netboot::tftp::options::{Agreed, Limits, negotiate};
use netboot::tftp::transfer::{Action, End, Event, Rollover, Transfer};
use netboot::tftp::wire::{self, Packet};

use super::dice::Dice;

/// No transfer here needs as many steps.
const MOST: u32 = 200_000;

/// Reads the bytes as a packet, and plays a transfer by them.
pub(crate) fn run(data: &[u8]) {
    packet(data);
    let mut dice = Dice::new(data);
    let (agreed, size) = agree(&mut dice);
    if dice.once_in(2) {
        anything(&mut dice, &agreed, size);
    } else {
        network(&mut dice, &agreed, size);
    }
}

fn packet(data: &[u8]) {
    let Ok(packet) = wire::parse(data) else { return };
    let written = packet.encode();
    let again = wire::parse(&written).expect("what was read can be written");
    assert_eq!(again, packet);
    if let Packet::Read(request) = &packet {
        let limits = Limits { mtu: 1500, max_window: 64, rollover: Rollover::Zero, in_flight: 1 << 20 };
        let agreed = negotiate(&request.options, 1_000_000, limits);
        for (name, value) in &agreed.oack {
            let asked = request.options.iter().find(|(asked, _)| asked == name).expect("only what was asked");
            let (asked, granted): (u64, u64) = (asked.1.parse().unwrap(), value.parse().unwrap());
            assert!(name.eq_ignore_ascii_case("tsize") || granted <= asked, "{name}: {granted} of {asked}");
        }
        assert!(u32::from(agreed.blksize) + 32 <= 1500 || agreed.blksize == 512, "no fragments");
    }
}

/// What a client asked for, and the bytes of the file.
fn agree(dice: &mut Dice<'_>) -> (Agreed, u64) {
    let rollover = *dice.pick(&[Rollover::Zero, Rollover::One]);
    let limits = Limits { mtu: 1500, max_window: dice.number(), rollover, in_flight: 1 << 24 };
    let (blksize, window) = (dice.number().to_string(), dice.number().to_string());
    let all = [("blksize", blksize.as_str()), ("windowsize", &window), ("tsize", "0"), ("timeout", "3")];
    let asked: Vec<_> = all.into_iter().filter(|_| dice.once_in(2)).collect();
    // Mostly a few windows, at times more blocks than there are numbers.
    let blocks = if dice.once_in(200) { 66_000 } else { u64::from(dice.number() % 600) };
    let agreed = negotiate(&asked, 0, limits);
    let size = blocks * u64::from(agreed.blksize) + u64::from(dice.number() % agreed.blksize);
    (agreed, size)
}

/// What was sent, as it must be.
struct Sent {
    /// Of the file's blocks, with the last short one.
    last: u64,
    window: u64,
    /// Blocks up to here were sent once.
    reached: u64,
    heard: bool,
    packets: u64,
}

impl Sent {
    fn look(&mut self, action: &Action, transfer: &Transfer) {
        match action {
            Action::Send(blocks) => {
                assert!(blocks.start >= 1 && blocks.start < blocks.end && blocks.end <= self.last + 1);
                assert!(blocks.end - blocks.start <= self.window, "no more than a window");
                assert!(blocks.start <= self.reached + 1, "no block is left out");
                self.reached = self.reached.max(blocks.end - 1);
                self.packets += blocks.end - blocks.start;
            }
            Action::Oack => self.packets += 1,
            Action::Nothing | Action::End(_) => {}
        }
        self.heard |= transfer.heard();
        assert!(self.heard || self.packets <= 4 * self.window, "much to who never answered");
        assert!((1..=self.window).contains(&transfer.burst()));
        let bursts = u32::try_from(self.window.div_ceil(transfer.burst())).unwrap();
        assert!(transfer.pause() * (bursts - 1) < Duration::from_millis(200));
    }
}

/// Begins, and looks at what is sent first.
fn begin(agreed: &Agreed, size: u64) -> (Transfer, Action, Sent) {
    let (transfer, first) = Transfer::begin(agreed, size, Duration::ZERO);
    let last = size / u64::from(agreed.blksize) + 1;
    let window = u64::from(agreed.windowsize);
    let mut sent = Sent { last, window, reached: 0, heard: false, packets: 0 };
    sent.look(&first, &transfer);
    (transfer, first, sent)
}

/// Any events in any order: it ends when nothing comes any more.
fn anything(dice: &mut Dice<'_>, agreed: &Agreed, size: u64) {
    let (mut transfer, _, mut sent) = begin(agreed, size);
    let (mut now, mut ended) = (Duration::ZERO, false);
    while !dice.is_empty() {
        now += Duration::from_millis(u64::from(dice.byte()) * u64::from(dice.byte()));
        let event = match dice.below(8) {
            0 => Event::Timeout,
            1 => Event::Ack(dice.number()),
            2 if dice.once_in(32) => Event::Error { code: dice.number(), text: "\u{1b}[31m".to_owned() },
            3 => {
                transfer.postpone(now);
                continue;
            }
            _ => Event::Ack(
                agreed.rollover.number(transfer.block() + u64::from(dice.byte()) % (sent.window + 2)),
            ),
        };
        let action = transfer.on(&event, now);
        assert!(!ended || action == Action::Nothing, "after the end");
        ended |= matches!(action, Action::End(_));
        sent.look(&action, &transfer);
    }
    for _ in 0..64 {
        now = now.max(transfer.deadline());
        let action = transfer.on(&Event::Timeout, now);
        ended |= matches!(action, Action::End(_));
        sent.look(&action, &transfer);
    }
    assert!(ended, "silence ends it");
}

/// A client that keeps RFC 1350 and 7440, behind a network that loses, doubles and delays until it has no more bytes to do
/// so by.
fn network(dice: &mut Dice<'_>, agreed: &Agreed, size: u64) {
    let (mut transfer, first, mut sent) = begin(agreed, size);
    let (mut now, mut next, mut in_window, mut lost) = (Duration::ZERO, 1_u64, 0_u64, 0);
    let mut actions = VecDeque::from([first]);
    let mut acks: VecDeque<u64> = VecDeque::new();
    for step in 0.. {
        assert!(step < MOST, "it never ends");
        let before = next;
        match actions.pop_front() {
            Some(Action::End(end)) => {
                assert_eq!(end, End::Done);
                break;
            }
            Some(Action::Oack) => {
                if next == 1 && arrives(dice, &mut lost) {
                    acks.push_back(0);
                }
            }
            Some(Action::Send(blocks)) => {
                for block in blocks {
                    if !arrives(dice, &mut lost) {
                        continue;
                    }
                    if block == next {
                        (next, in_window) = (next + 1, in_window + 1);
                        if in_window == sent.window || block == sent.last {
                            in_window = 0;
                            acks.push_back(block);
                        }
                    } else {
                        // What is missing, or was acknowledged and that ACK is lost.
                        in_window = 0;
                        acks.push_back(next - 1);
                    }
                }
            }
            Some(Action::Nothing) => {}
            None => {
                now = now.max(transfer.deadline());
                let action = transfer.on(&Event::Timeout, now);
                sent.look(&action, &transfer);
                actions.push_back(action);
            }
        }
        if next > before && sent.heard {
            lost = 0;
        }
        for ack in std::mem::take(&mut acks) {
            if !arrives(dice, &mut lost) {
                continue;
            }
            now += Duration::from_micros(u64::from(dice.byte()) * 100);
            for _ in 0..=u8::from(dice.once_in(8)) {
                let action = transfer.on(&Event::Ack(agreed.rollover.number(ack)), now);
                sent.look(&action, &transfer);
                actions.push_back(action);
            }
        }
        // What the end overtakes is of no interest.
        if let Some(end) = actions.iter().position(|action| matches!(action, Action::End(_))) {
            actions.drain(..end);
        }
    }
    assert_eq!(next, sent.last + 1, "every block, in its order");
}

/// Whether a packet arrives. Not more than two are lost until the server has heard its client, and then without anything new
/// at the client: who is not heard after three retries is given up, and rightly.
fn arrives(dice: &mut Dice<'_>, lost: &mut u32) -> bool {
    let is_lost = *lost < 2 && dice.once_in(12);
    *lost += u32::from(is_lost);
    !is_lost
}
