//! One transfer as its client sees it: packets and the time go in, what to send comes out. Pure.

use std::time::{Duration, Instant};

use super::content::{Source, Wrong};
use super::wire::{self, Ask, Granted, Packet};

/// Nothing new for so long: the last packet is sent again.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// So many times in a row; then there is no server.
const TRIES: u32 = 5;

/// What to do after a packet, or after none for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    /// Acknowledge this block.
    Ack(u16),
    /// Acknowledge this block: it is the last one.
    Done(u16),
    /// Send the request again.
    Ask,
    /// There is no use in going on, and why.
    Failed(String),
}

/// What was seen of one transfer, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Bytes of blocks that were right, each counted once.
    pub(super) bytes: u64,
    /// Blocks that came when they were there already: the server has sent them again.
    pub(super) again: u64,
    /// Times that a block was missing before one that came.
    pub(super) gaps: u64,
    /// Times that nothing new had come for [`PATIENCE`].
    pub(super) timeouts: u64,
    /// Those of them that were before the server's first answer.
    pub(super) unanswered: u64,
}

impl Tally {
    /// Adds another's.
    pub(super) fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.again += other.again;
        self.gaps += other.gaps;
        self.timeouts += other.timeouts;
        self.unanswered += other.unanswered;
    }
}

/// The transfer.
#[derive(Debug)]
pub(super) struct Transfer<'a> {
    ask: Ask,
    source: Source<'a>,
    /// `None` until the server has answered.
    granted: Option<Granted>,
    /// Blocks that have come, in their order.
    good: u64,
    /// Those of them since the last ACK.
    unacked: u16,
    /// The server has been told where to go on, and has not yet.
    told: bool,
    /// When the last new block came, or the last packet was sent again.
    last: Instant,
    /// Times in a row that a packet was sent again.
    tries: u32,
    pub(super) tally: Tally,
}

impl<'a> Transfer<'a> {
    /// A transfer whose request is sent now.
    pub(super) fn new(ask: Ask, source: Source<'a>, now: Instant) -> Self {
        let tally = Tally::default();
        Self { ask, source, granted: None, good: 0, unacked: 0, told: false, last: now, tries: 0, tally }
    }

    /// What the server has granted.
    pub(super) fn granted(&self) -> Option<Granted> {
        self.granted
    }

    /// A packet from the server.
    pub(super) fn hear(&mut self, packet: &[u8], now: Instant) -> Step {
        match wire::read(packet) {
            Some(Packet::Data { block, bytes }) => self.data(block, bytes, now),
            Some(Packet::Oack(options)) => self.oack(options, now),
            Some(Packet::Error { code, text }) => Step::Failed(format!("ERROR {code}: {text}")),
            None => Step::Failed("a packet that is no DATA, OACK or ERROR".to_owned()),
        }
    }

    fn oack(&mut self, options: &[u8], now: Instant) -> Step {
        if self.granted.is_some() {
            // It came twice: so did the request, or the ACK was lost. Later ones say nothing.
            return if self.good == 0 { self.tell_again() } else { Step::Wait };
        }
        let Some(granted) = wire::granted(options, self.ask) else {
            return Step::Failed(format!("OACK {:?}", String::from_utf8_lossy(options)));
        };
        if let Some((said, size)) = granted.tsize.zip(self.source.size())
            && said != size
        {
            return Step::Failed(format!("tsize is {said}, not {size}"));
        }
        self.granted = Some(granted);
        self.progress(now);
        Step::Ack(0)
    }

    fn data(&mut self, block: u16, bytes: &[u8], now: Instant) -> Step {
        let granted = *self.granted.get_or_insert_default();
        // Block numbers go round.
        let ahead = block.wrapping_sub(low(self.good));
        if ahead != 1 {
            return self.other(ahead);
        }
        let blksize = usize::from(granted.blksize);
        let offset = usize::try_from(self.good).unwrap_or(usize::MAX).saturating_mul(blksize);
        let is_last = match self.source.check(offset, bytes, blksize) {
            Ok(is_last) => is_last,
            Err(Wrong::Length) => {
                return Step::Failed(format!("block {} has {} bytes", self.good + 1, bytes.len()));
            }
            Err(Wrong::Content) => {
                return Step::Failed(format!("block {} is not what the file has there", self.good + 1));
            }
        };
        self.good += 1;
        self.unacked += 1;
        self.tally.bytes += bytes.len() as u64;
        self.progress(now);
        if is_last {
            return Step::Done(block);
        }
        if self.unacked < granted.window {
            return Step::Wait;
        }
        self.unacked = 0;
        Step::Ack(block)
    }

    /// A block that is not the next one.
    fn other(&mut self, ahead: u16) -> Step {
        if ahead > u16::MAX / 2 || ahead == 0 {
            self.tally.again += 1;
            // The last of a window again: the ACK was lost.
            return if ahead == 0 && self.unacked == 0 { self.tell_again() } else { Step::Wait };
        }
        if self.told {
            return Step::Wait;
        }
        self.tally.gaps += 1;
        self.tell_again()
    }

    /// Says once where to go on: RFC 7440 section 4. Whatever else was under way is not answered, lest all be sent twice
    /// from then on.
    fn tell_again(&mut self) -> Step {
        if self.told {
            return Step::Wait;
        }
        self.told = true;
        self.unacked = 0;
        Step::Ack(low(self.good))
    }

    fn progress(&mut self, now: Instant) {
        (self.last, self.tries, self.told) = (now, 0, false);
    }

    /// The time goes by.
    pub(super) fn tick(&mut self, now: Instant) -> Step {
        if now.saturating_duration_since(self.last) < PATIENCE {
            return Step::Wait;
        }
        self.tally.timeouts += 1;
        self.tally.unanswered += u64::from(self.granted.is_none());
        self.tries += 1;
        self.last = now;
        if self.tries >= TRIES {
            return Step::Failed(format!("nothing for {TRIES} times {} s", PATIENCE.as_secs()));
        }
        if self.granted.is_none() {
            return Step::Ask;
        }
        self.told = false;
        self.tell_again()
    }
}

/// A block's number on the wire.
fn low(block: u64) -> u16 {
    u16::try_from(block & 0xffff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::content::{Source, content};
    use super::super::wire::Ask;
    use super::{PATIENCE, Step, Tally, Transfer};

    const ASK: Ask = Ask { blksize: 8, window: 4 };
    const OACK: &[u8] = b"\0\x06blksize\x008\0windowsize\x004\0tsize\x00100\0";

    fn data(block: u16, bytes: &[u8]) -> Vec<u8> {
        [&[0, 3], &block.to_be_bytes()[..], bytes].concat()
    }

    /// A transfer of 100 bytes after its OACK, what sends a block of it, and the time.
    fn begun(file: &[u8]) -> (Transfer<'_>, impl Fn(u16) -> Vec<u8>, Instant) {
        let now = Instant::now();
        let mut transfer = Transfer::new(ASK, Source::File(file), now);
        assert_eq!(transfer.hear(OACK, now), Step::Ack(0));
        let block =
            |number: u16| data(number, file.chunks(8).nth(usize::from(number) - 1).unwrap_or_default());
        (transfer, block, now)
    }

    #[test]
    fn a_window_has_one_ack() {
        let file = content(100);
        let (mut transfer, block, now) = begun(&file);
        let steps: Vec<Step> = (1..=13).map(|number| transfer.hear(&block(number), now)).collect();
        for (place, step) in (1..).zip(&steps) {
            let wanted = match place {
                4 | 8 | 12 => Step::Ack(place),
                13 => Step::Done(13),
                _ => Step::Wait,
            };
            assert_eq!(*step, wanted, "block {place}");
        }
        assert_eq!(transfer.tally, Tally { bytes: 100, ..Tally::default() });
    }

    #[test]
    fn a_gap_is_told_once() {
        let file = content(100);
        let (mut transfer, block, now) = begun(&file);
        let steps: Vec<Step> = [1, 3, 4, 2].map(|number| transfer.hear(&block(number), now)).into();
        assert_eq!(steps, [Step::Wait, Step::Ack(1), Step::Wait, Step::Wait]);
        // The server's new window is 2 to 5.
        let steps: Vec<Step> = [3, 4, 5].map(|number| transfer.hear(&block(number), now)).into();
        assert_eq!(steps, [Step::Wait, Step::Wait, Step::Ack(5)]);
        assert_eq!((transfer.tally.gaps, transfer.tally.again), (1, 0));
    }

    #[test]
    fn a_window_that_comes_again_has_one_ack_more() {
        let file = content(100);
        let (mut transfer, block, now) = begun(&file);
        for number in 1..=4 {
            transfer.hear(&block(number), now);
        }
        let steps: Vec<Step> = [1, 2, 3, 4, 4].map(|number| transfer.hear(&block(number), now)).into();
        assert_eq!(steps, [Step::Wait, Step::Wait, Step::Wait, Step::Ack(4), Step::Wait]);
        assert_eq!(transfer.tally.again, 5);
    }

    #[test]
    fn silence_is_answered_and_has_an_end() {
        let file = content(100);
        let start = Instant::now();
        let mut transfer = Transfer::new(ASK, Source::File(&file), start);
        assert_eq!(transfer.tick(start + PATIENCE / 2), Step::Wait);
        assert_eq!(transfer.tick(start + PATIENCE), Step::Ask);
        assert_eq!(transfer.tally, Tally { timeouts: 1, unanswered: 1, ..Tally::default() });
        let (mut transfer, block, now) = begun(&file);
        transfer.hear(&block(1), now);
        let mut steps = (1..=5).map(|times| transfer.tick(now + PATIENCE * times + Duration::from_millis(1)));
        assert!(steps.by_ref().take(4).all(|step| step == Step::Ack(1)));
        assert!(matches!(steps.next(), Some(Step::Failed(_))));
        drop(steps);
        assert_eq!((transfer.tally.timeouts, transfer.tally.unanswered), (5, 0));
    }

    #[test]
    fn wrong_blocks_end_it() {
        let file = content(100);
        for (packet, why) in [
            (data(1, &file[8..16]), "block 1 is not what the file has there"),
            (data(1, &file[..7]), "block 1 has 7 bytes"),
            (b"\0\x05\0\x01gone\0".to_vec(), "ERROR 1: gone"),
            (vec![0, 9], "a packet that is no DATA, OACK or ERROR"),
        ] {
            let (mut transfer, _, now) = begun(&file);
            assert_eq!(transfer.hear(&packet, now), Step::Failed(why.to_owned()));
        }
        let mut transfer = Transfer::new(ASK, Source::File(&file[..99]), Instant::now());
        assert_eq!(transfer.hear(OACK, Instant::now()), Step::Failed("tsize is 100, not 99".to_owned()));
    }

    #[test]
    fn block_numbers_go_round() {
        let now = Instant::now();
        let mut transfer = Transfer::new(Ask { blksize: 8, window: 1 }, Source::Endless, now);
        transfer.hear(b"\0\x06blksize\x008\0", now);
        for block in (1..=u16::MAX).chain(0..=3) {
            assert_eq!(transfer.hear(&data(block, &[0; 8]), now), Step::Ack(block));
        }
        assert_eq!(transfer.hear(&data(u16::MAX, &[0; 8]), now), Step::Wait, "long ago");
        assert_eq!(transfer.tally, Tally { bytes: 65_539 * 8, again: 1, ..Tally::default() });
    }
}
