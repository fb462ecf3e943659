//! One transfer as a state machine: event in, action out (RFC 1350 section 2 and 4, RFC 2347, 7440). Pure.
//!
//! It knows block numbers and time, no sockets and no bytes. Times are durations since the transfer began. Rules held here:
//! DATA is never sent again because of a duplicate ACK, only because time is up (RFC 1123 section 4.2.3.1), which it is sooner
//! when a client says that it lacks the beginning of a window; an ACK in the
//! middle of a window makes the next window begin after it; until a client's first ACK it gets one window and few retries,
//! so that nobody can be flooded in another's name. A window is sent whole, as RFC 7440 has it (the client waits for all
//! of it), but after a loss not all at once: [`Transfer::burst`].

use std::ops::Range;
use std::time::Duration;

use super::options::Agreed;
use super::wire::code;

/// The first wait for an ACK, and the longest before back-off.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The shortest wait, however fast a client answered so far: it may stop for a moment to write to its disk.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
/// The same for a window of one block: to send that once too often costs next to nothing.
const SHORTEST_WAIT_OF_ONE: Duration = Duration::from_millis(50);
/// And for a window whose client says that it lacks the beginning.
const SHORTEST_WAIT_OF_GAP: Duration = Duration::from_millis(20);
/// Back-off doubles the wait up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A client that was heard before is given up after this long without progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// Retransmissions to a client that was never heard.
const FIRST_RETRIES: u32 = 3;
/// The longest pause within a window.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);
/// A window is sent in at most so many bursts: with the pauses between them it still takes less than the shortest wait.
const MOST_BURSTS: u64 = 64;
/// The same request from the same port, this long after the last progress, is a client that starts anew.
const ANEW: Duration = Duration::from_secs(2);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An ACK came.
    Ack(u16),
    /// An ERROR came.
    Error {
        /// Its code.
        code: u16,
        /// Its text.
        text: String,
    },
    /// Time has passed, perhaps up to [`Transfer::deadline`].
    Timeout,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Send the OACK.
    Oack,
    /// Send these blocks, in bursts of [`Transfer::burst`]; the first block of a file is 1, and [`Rollover::number`] what it has on the wire.
    Send(Range<u64>),
    /// The transfer has ended.
    End(End),
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The whole file is acknowledged.
    Done,
    /// The client only wanted to know the size.
    Probe,
    /// The client sent an ERROR.
    Refused(String),
    /// The client fell silent; with the block that it did not acknowledge, 0 for the OACK.
    Silent {
        /// The first block without ACK.
        block: u64,
        /// How often it was sent again.
        retries: u32,
    },
}

/// Where a transfer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The OACK is sent and waits for its ACK.
    Offered,
    /// Blocks are sent.
    Data,
    /// It is over.
    Ended,
}

/// A transfer of one file to one client.
#[derive(Clone, Debug)]
pub struct Transfer {
    windowsize: u64,
    timeout: Option<Duration>,
    tsize: bool,
    rollover: Rollover,
    /// The number of the last block, the one that is shorter than the others.
    last: u64,
    phase: Phase,
    /// Blocks up to here are acknowledged.
    acked: u64,
    /// Blocks up to here were sent at least once.
    sent: u64,
    heard: bool,
    retries: u32,
    progress_at: Duration,
    wait: Duration,
    deadline: Duration,
    /// When the outstanding packets were sent, unless one of them was sent twice: then an ACK does not tell which it
    /// answers (Karn's rule).
    timed_from: Option<Duration>,
    round_trip: Option<(Duration, Duration)>,
    /// The shortest time that an answer took: that of the network, without what pauses and a busy client add to it.
    shortest_trip: Option<Duration>,
    resent: u64,
    /// Blocks that leave at once.
    burst: u64,
}

impl Transfer {
    /// A transfer of `size` bytes at time `now`, and what to send first.
    pub fn begin(agreed: &Agreed, size: u64, now: Duration) -> (Self, Action) {
        let mut transfer = Self {
            windowsize: u64::from(agreed.windowsize.max(1)),
            timeout: agreed.timeout,
            tsize: agreed.tsize,
            rollover: agreed.rollover,
            last: size / u64::from(agreed.blksize.max(1)) + 1,
            phase: if agreed.oack.is_empty() { Phase::Data } else { Phase::Offered },
            acked: 0,
            sent: 0,
            heard: false,
            retries: 0,
            progress_at: now,
            wait: FIRST_WAIT,
            deadline: now.saturating_add(FIRST_WAIT),
            timed_from: Some(now),
            round_trip: None,
            shortest_trip: None,
            resent: 0,
            burst: u64::from(agreed.windowsize.max(1)),
        };
        let action = transfer.send();
        (transfer, action)
    }

    /// When it wants a [`Event::Timeout`].
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether the client has acknowledged anything.
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// When the client said last that it has something new.
    pub fn progress_at(&self) -> Duration {
        self.progress_at
    }

    /// Blocks sent more than once.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// How many blocks of a window may leave at once, at least 1, at most the window.
    ///
    /// A window that is lost in part was too much at once for somebody's buffer on the way. RFC 7440 does not let the
    /// server send fewer blocks before it waits: the client would wait too. So they are spread. A loss halves the burst,
    /// each window that arrives whole adds a block, of a window of more than 64 a 64th (additive increase, as in RFC 5681
    /// 3.1 beyond slow start): doubling it would lose every other window again, and a burst that is smaller than it need be
    /// costs but a pause.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// How long to wait between two bursts of a window: a quarter of the shortest round trip, at most a millisecond; zero
    /// when the burst is the window.
    pub fn pause(&self) -> Duration {
        if self.burst >= self.windowsize {
            return Duration::ZERO;
        }
        self.shortest_trip.map_or(LONGEST_PAUSE, |trip| (trip / 4).min(LONGEST_PAUSE))
    }

    /// What was to be sent at the last event is sent only now: a disk or other clients were waited for, and this one is not to
    /// blame.
    pub fn postpone(&mut self, now: Duration) {
        self.deadline = now.saturating_add(self.wait);
        self.progress_at = now;
        self.timed_from = self.timed_from.map(|_| now);
    }

    /// The first block that is not acknowledged.
    pub fn block(&self) -> u64 {
        if self.phase == Phase::Offered { 0 } else { self.acked.saturating_add(1) }
    }

    /// Whether a request that came again from the client's port is this transfer's own, sent twice, not a new one.
    pub fn owns(&self, same_request: bool, now: Duration) -> bool {
        same_request
            && self.phase != Phase::Ended
            && (!self.heard || now.saturating_sub(self.progress_at) < ANEW)
    }

    /// What to do about an event. After the end: nothing.
    pub fn on(&mut self, event: &Event, now: Duration) -> Action {
        if self.phase == Phase::Ended {
            return Action::Nothing;
        }
        let action = match event {
            Event::Ack(block) => self.ack(*block, now),
            Event::Error { code, text } => self.error(*code, text),
            Event::Timeout => self.timeout(now),
        };
        if matches!(action, Action::End(_)) {
            self.phase = Phase::Ended;
        }
        action
    }

    fn ack(&mut self, block: u16, now: Duration) -> Action {
        if self.phase == Phase::Offered {
            // Only block 0 acknowledges an OACK.
            if block != 0 {
                return Action::Nothing;
            }
            self.phase = Phase::Data;
        } else {
            // How far the ACK reaches beyond the last one, modulo 2^16. Nought is a duplicate, beyond what was sent is an
            // ACK of long ago: sending for these again would double every packet from here on.
            let Some(reach) = self.rollover.reach(self.acked, block) else { return Action::Nothing };
            let outstanding = self.sent.saturating_sub(self.acked);
            if reach == 0 {
                self.gap();
            }
            if reach == 0 || reach > outstanding {
                return Action::Nothing;
            }
            self.acked = self.acked.saturating_add(reach);
            if reach == outstanding {
                self.burst = self.burst.saturating_add(self.smallest_burst()).min(self.windowsize);
            } else {
                self.lost();
            }
        }
        self.progress(now);
        if self.acked >= self.last {
            return Action::End(End::Done);
        }
        self.timed_from = (self.sent <= self.acked).then_some(now);
        self.send()
    }

    fn progress(&mut self, now: Duration) {
        self.heard = true;
        self.retries = 0;
        self.progress_at = now;
        if let Some(sent_at) = self.timed_from {
            let sample = now.saturating_sub(sent_at);
            self.shortest_trip = Some(self.shortest_trip.map_or(sample, |trip| trip.min(sample)));
            // RFC 6298 section 2.
            self.round_trip = Some(match self.round_trip {
                None => (sample, sample / 2),
                Some((mean, spread)) => ((mean * 7 + sample) / 8, (spread * 3 + mean.abs_diff(sample)) / 4),
            });
        }
        let shortest = if self.windowsize == 1 { SHORTEST_WAIT_OF_ONE } else { SHORTEST_WAIT };
        self.wait = self.timeout.unwrap_or_else(|| self.answer_time().clamp(shortest, FIRST_WAIT));
        self.deadline = now.saturating_add(self.wait);
    }

    /// Within this time a client answers, as far as is known.
    fn answer_time(&self) -> Duration {
        self.round_trip.map_or(FIRST_WAIT, |(mean, spread)| mean + spread * 4)
    }

    /// An ACK came twice. Of a window it may say that its first block was lost (RFC 7440 section 4: the client acknowledges
    /// what it has), or be a packet that the network has doubled. So nothing is sent at once, but if the window's own ACK does
    /// not follow soon its time is up. Once a window, and not where a client has named the time (RFC 2349).
    fn gap(&mut self) {
        if self.windowsize > 1 && self.retries == 0 && self.timeout.is_none() && self.sent > self.acked {
            let soon = self.answer_time().clamp(SHORTEST_WAIT_OF_GAP, SHORTEST_WAIT);
            self.deadline = self.deadline.min(self.progress_at.saturating_add(soon));
        }
    }

    /// Part of a window did not arrive.
    fn lost(&mut self) {
        self.burst = (self.burst / 2).max(self.smallest_burst());
    }

    /// One block, of a window of at most [`MOST_BURSTS`].
    fn smallest_burst(&self) -> u64 {
        self.windowsize.div_ceil(MOST_BURSTS)
    }

    /// The OACK, or the window after the last ACK.
    fn send(&mut self) -> Action {
        if self.phase == Phase::Offered {
            return Action::Oack;
        }
        let end = self.acked.saturating_add(self.windowsize).min(self.last);
        let first = self.acked.saturating_add(1);
        self.resent = self.resent.saturating_add(self.sent.saturating_sub(self.acked));
        self.sent = self.sent.max(end);
        Action::Send(first..end.saturating_add(1))
    }

    fn error(&self, number: u16, text: &str) -> Action {
        // EDK II ends a size probe with 8, older ROMs with 0.
        let probe =
            self.phase == Phase::Offered && self.tsize && [code::OPTIONS, code::UNDEFINED].contains(&number);
        Action::End(if probe {
            End::Probe
        } else {
            End::Refused(format!(
                "the client sent error {number} \"{}\" at block {}",
                text.escape_debug(),
                self.block()
            ))
        })
    }

    fn timeout(&mut self, now: Duration) -> Action {
        if now < self.deadline {
            return Action::Nothing;
        }
        let patience = self.timeout.map_or(PATIENCE, |timeout| PATIENCE.max(timeout * 4));
        let given_up = if self.heard {
            now >= self.progress_at.saturating_add(patience)
        } else {
            self.retries >= FIRST_RETRIES
        };
        if given_up {
            return Action::End(End::Silent { block: self.block(), retries: self.retries });
        }
        self.retries = self.retries.saturating_add(1);
        self.timed_from = None;
        if self.phase == Phase::Data {
            self.lost();
        }
        self.wait = (self.wait * 2).min(LONGEST_WAIT.max(self.timeout.unwrap_or_default()));
        self.deadline = now.saturating_add(self.wait);
        if self.heard {
            self.deadline = self.deadline.min(self.progress_at.saturating_add(patience));
        }
        self.send()
    }
}

/// What comes behind block 65,535, which RFC 1350 does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rollover {
    /// 0, as nearly all clients want it.
    #[default]
    Zero,
    /// 1: no block has the number 0.
    One,
}

impl Rollover {
    /// How many numbers there are.
    const fn numbers(self) -> u64 {
        match self {
            Self::Zero => 1 << 16,
            Self::One => (1 << 16) - 1,
        }
    }

    /// A block's number on the wire; the first block of a file is 1, and 0 is what acknowledges an OACK.
    #[expect(clippy::cast_possible_truncation, reason = "less than 2^16")]
    pub const fn number(self, block: u64) -> u16 {
        match (self, block) {
            (Self::Zero, _) => (block % self.numbers()) as u16,
            (Self::One, 0) => 0,
            (Self::One, _) => ((block - 1) % self.numbers() + 1) as u16,
        }
    }

    /// How many blocks behind `block` the next one with this number is, 0 if `block` has it; `None` if none has.
    fn reach(self, block: u64, number: u16) -> Option<u64> {
        let (number, own) = (u64::from(number), u64::from(self.number(block)));
        match self {
            Self::One if number == 0 => (block == 0).then_some(0),
            // Behind 0, which nothing else has, all begins.
            Self::One if block == 0 => Some(number),
            _ => Some((number + self.numbers() - own) % self.numbers()),
        }
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
