//! Tests of the transfer's state machine: tables of what happens and what is done, and whole transfers over a bad network.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn agreed(blksize: u16, windowsize: u16, options: bool) -> Agreed {
    let oack = if options { vec![("tsize".to_owned(), "0".to_owned())] } else { vec![] };
    Agreed { blksize, windowsize, timeout: None, tsize: options, rollover: Rollover::Zero, oack }
}

/// A transfer of so many full blocks, and its first action.
fn begin(full_blocks: u64, windowsize: u16, options: bool) -> (Transfer, Action) {
    Transfer::begin(&agreed(512, windowsize, options), full_blocks * 512, Duration::ZERO)
}

fn ack(transfer: &mut Transfer, block: u16) -> Action {
    transfer.on(&Event::Ack(block), Duration::ZERO)
}

#[test]
fn one_block_at_a_time() {
    let (mut transfer, first) = begin(2, 1, false);
    assert_eq!(first, Action::Send(1..2));
    assert_eq!(ack(&mut transfer, 1), Action::Send(2..3));
    assert_eq!(ack(&mut transfer, 2), Action::Send(3..4), "an empty block ends a file of whole blocks");
    assert_eq!(ack(&mut transfer, 3), Action::End(End::Done));
    assert_eq!(ack(&mut transfer, 3), Action::Nothing, "after the end");
    assert_eq!(transfer.resent(), 0);
}

#[test]
fn an_empty_file_is_one_empty_block() {
    let (mut transfer, first) = begin(0, 64, false);
    assert_eq!(first, Action::Send(1..2));
    assert_eq!(ack(&mut transfer, 1), Action::End(End::Done));
}

#[test]
fn options_come_first() {
    let (mut transfer, first) = begin(9, 4, true);
    assert_eq!(first, Action::Oack);
    assert_eq!(ack(&mut transfer, 1), Action::Nothing, "block 1 was not sent yet");
    assert!(!transfer.heard());
    assert_eq!(ack(&mut transfer, 0), Action::Send(1..5));
    assert!(transfer.heard());
    assert_eq!(ack(&mut transfer, 0), Action::Nothing, "the same again");
    assert_eq!(ack(&mut transfer, 4), Action::Send(5..9));
    assert_eq!(ack(&mut transfer, 8), Action::Send(9..11));
    assert_eq!(ack(&mut transfer, 10), Action::End(End::Done));
}

#[test]
fn goes_on_after_an_ack_in_the_middle_of_a_window() {
    let (mut transfer, _) = begin(99, 4, true);
    assert_eq!(ack(&mut transfer, 0), Action::Send(1..5));
    assert_eq!(ack(&mut transfer, 2), Action::Send(3..7));
    assert_eq!(transfer.resent(), 2);
    assert_eq!(ack(&mut transfer, 1), Action::Nothing, "an ACK of long ago");
    assert_eq!(ack(&mut transfer, 7), Action::Nothing, "an ACK of what was never sent");
    assert_eq!(ack(&mut transfer, 6), Action::Send(7..11));
}

#[test]
fn duplicate_acks_send_nothing() {
    // The sorcerer's apprentice: every ACK comes twice, the file still goes out once.
    for windowsize in [1, 4] {
        let (mut transfer, first) = begin(40, windowsize, true);
        let mut actions = vec![first, ack(&mut transfer, 0), ack(&mut transfer, 0)];
        let mut blocks = 0;
        while let Some(action) = actions.pop() {
            if let Action::Send(range) = action {
                blocks += range.end - range.start;
                let last = u16::try_from(range.end - 1).unwrap();
                actions.extend([ack(&mut transfer, last), ack(&mut transfer, last)]);
            }
        }
        assert_eq!((blocks, transfer.resent()), (41, 0), "window {windowsize}");
    }
}

#[test]
fn sends_again_when_time_is_up_and_backs_off() {
    let (mut transfer, _) = begin(99, 4, true);
    transfer.on(&Event::Ack(0), SECOND / 100);
    assert_eq!(transfer.on(&Event::Timeout, SECOND / 10), Action::Nothing, "too early");
    let mut waits = vec![];
    let mut now = SECOND / 100;
    let end = loop {
        waits.push(transfer.deadline().saturating_sub(now).as_millis());
        now = transfer.deadline();
        match transfer.on(&Event::Timeout, now) {
            Action::Send(range) => assert_eq!(range, 1..5),
            end => break end,
        }
    };
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000, 3800]);
    assert_eq!(end, Action::End(End::Silent { block: 1, retries: 9 }));
    assert_eq!(transfer.resent(), 9 * 4);
}

#[test]
fn progress_ends_the_back_off() {
    let (mut transfer, _) = begin(99, 1, false);
    let mut now = transfer.deadline();
    assert_eq!(transfer.on(&Event::Timeout, now), Action::Send(1..2));
    now += SECOND;
    assert_eq!(transfer.on(&Event::Ack(1), now), Action::Send(2..3));
    assert_eq!(transfer.deadline().saturating_sub(now), SECOND, "an ACK of a block sent twice is no measure");
    now += SECOND / 100;
    assert_eq!(transfer.on(&Event::Ack(2), now), Action::Send(3..4));
    assert_eq!(transfer.deadline().saturating_sub(now), SHORTEST_WAIT_OF_ONE);
}

#[test]
fn an_ack_that_comes_twice_is_not_answered_but_ends_the_wait_sooner() {
    let ms = Duration::from_millis;
    let (mut transfer, _) = begin(99, 4, true);
    transfer.on(&Event::Ack(0), ms(1));
    transfer.on(&Event::Ack(4), ms(2));
    assert_eq!(transfer.deadline(), ms(202));
    assert_eq!(transfer.on(&Event::Ack(4), ms(3)), Action::Nothing);
    assert_eq!(transfer.deadline(), ms(22));
    // What was a doubled packet costs nothing.
    assert_eq!(transfer.on(&Event::Ack(8), ms(4)), Action::Send(9..13));
    assert_eq!((transfer.deadline(), transfer.resent()), (ms(204), 0));
    // What was a gap is filled when the time is up, once; then the back-off counts.
    transfer.on(&Event::Ack(8), ms(5));
    assert_eq!(transfer.on(&Event::Timeout, ms(23)), Action::Nothing);
    assert_eq!(transfer.on(&Event::Timeout, ms(24)), Action::Send(9..13));
    let again = transfer.deadline();
    assert_eq!(again, ms(24 + 400));
    transfer.on(&Event::Ack(8), ms(25));
    assert_eq!(transfer.deadline(), again);
    // A client far away answers later.
    let (mut transfer, _) = begin(99, 4, true);
    transfer.on(&Event::Ack(0), ms(40));
    transfer.on(&Event::Ack(4), ms(80));
    transfer.on(&Event::Ack(4), ms(81));
    assert_eq!(transfer.deadline(), ms(80 + 40 + 4 * 15));
    // Neither where there is nothing to lack the beginning of, nor against what was agreed.
    let (mut transfer, _) = begin(99, 1, false);
    transfer.on(&Event::Ack(1), ms(1));
    transfer.on(&Event::Ack(1), ms(2));
    assert_eq!(transfer.deadline(), ms(51));
    let mut options = agreed(512, 4, true);
    options.timeout = Some(SECOND * 7);
    let (mut transfer, _) = Transfer::begin(&options, 50_000, Duration::ZERO);
    transfer.on(&Event::Ack(0), ms(1));
    transfer.on(&Event::Ack(0), ms(2));
    assert_eq!(transfer.deadline(), ms(7001));
}

#[test]
fn who_was_never_heard_gets_little() {
    for options in [false, true] {
        let (mut transfer, first) = begin(99, 64, options);
        let mut sent = vec![first];
        let end = loop {
            match transfer.on(&Event::Timeout, transfer.deadline()) {
                Action::End(end) => break end,
                action => sent.push(action),
            }
        };
        assert_eq!(sent.len(), 4);
        let block = u64::from(!options);
        assert_eq!(end, End::Silent { block, retries: 3 });
        assert_eq!(transfer.deadline(), SECOND * (1 + 2 + 4 + 5));
    }
}

#[test]
fn the_timeout_that_was_agreed_is_kept() {
    let mut options = agreed(512, 1, true);
    options.timeout = Some(SECOND * 7);
    let (mut transfer, _) = Transfer::begin(&options, 5000, Duration::ZERO);
    transfer.on(&Event::Ack(0), SECOND);
    assert_eq!(transfer.deadline(), SECOND * 8);
    assert_eq!(transfer.on(&Event::Timeout, SECOND * 8), Action::Send(1..2));
    assert_eq!(transfer.deadline(), SECOND * 15);
}

#[test]
fn a_size_probe_is_no_failure() {
    let error = |code| Event::Error { code, text: "no thanks".to_owned() };
    for code in [0, 8] {
        let (mut transfer, _) = begin(9, 1, true);
        assert_eq!(transfer.on(&error(code), SECOND), Action::End(End::Probe));
    }
    let refused =
        |block| Action::End(End::Refused(format!("the client sent error 8 \"no thanks\" at block {block}")));
    let (mut transfer, _) = begin(9, 1, false);
    assert_eq!(transfer.on(&error(8), SECOND), refused(1), "nobody asked for the size");
    let (mut transfer, _) = begin(9, 1, true);
    ack(&mut transfer, 0);
    ack(&mut transfer, 1);
    assert_eq!(transfer.on(&error(8), SECOND), refused(2), "in the middle of the file");
    let (mut transfer, _) = begin(9, 1, true);
    assert!(matches!(transfer.on(&error(3), SECOND), Action::End(End::Refused(_))), "the disk is full");
}

#[test]
fn a_request_that_comes_again_is_one_transfer() {
    let (mut transfer, _) = begin(9, 1, false);
    assert!(transfer.owns(true, SECOND * 3), "not answered yet");
    assert!(!transfer.owns(false, SECOND), "another file");
    transfer.on(&Event::Ack(1), SECOND * 4);
    assert!(transfer.owns(true, SECOND * 5), "an old packet");
    assert!(!transfer.owns(true, SECOND * 6), "the client has started anew");
}

#[test]
fn block_numbers_roll_over_to_0_or_1() {
    let table = [
        (0, 0, 0),
        (1, 1, 1),
        (65_535, 65_535, 65_535),
        (65_536, 0, 1),
        (65_537, 1, 2),
        (131_070, 65_534, 65_535),
    ];
    for (block, zero, one) in table {
        assert_eq!((Rollover::Zero.number(block), Rollover::One.number(block)), (zero, one), "{block}");
    }
    let blocks = 3 * 65536 + 5;
    for (windowsize, rollover) in
        [1, 7, 64].into_iter().flat_map(|size| [(size, Rollover::Zero), (size, Rollover::One)])
    {
        let agreed = Agreed { rollover, ..agreed(512, windowsize, false) };
        let (mut transfer, mut action) = Transfer::begin(&agreed, blocks * 512, Duration::ZERO);
        let mut sent = 0;
        let end = loop {
            match action {
                Action::Send(range) => {
                    assert_eq!(range.start, sent + 1);
                    sent = range.end - 1;
                    action = ack(&mut transfer, rollover.number(sent));
                }
                other => break other,
            }
        };
        assert_eq!((end, sent), (Action::End(End::Done), blocks + 1), "window {windowsize}, {rollover:?}");
    }
}

#[test]
fn where_no_block_has_the_number_0_it_acknowledges_nothing() {
    let agreed = Agreed { rollover: Rollover::One, ..agreed(512, 4, true) };
    let (mut transfer, _) = Transfer::begin(&agreed, 99 * 512, Duration::ZERO);
    assert_eq!(ack(&mut transfer, 0), Action::Send(1..5), "but the OACK");
    assert_eq!(ack(&mut transfer, 0), Action::Nothing);
    assert_eq!(ack(&mut transfer, 4), Action::Send(5..9));
    assert_eq!(ack(&mut transfer, 0), Action::Nothing);
}

#[test]
fn a_loss_halves_the_burst_and_whole_windows_let_it_grow() {
    let (mut transfer, _) = begin(10_000, 64, true);
    transfer.on(&Event::Timeout, transfer.deadline());
    assert_eq!((transfer.burst(), transfer.pause()), (64, Duration::ZERO), "no block was lost with the OACK");
    ack(&mut transfer, 0);
    // What is acknowledged, and the burst then.
    let acks = [(64, 64), (100, 32), (164, 33), (228, 34), (229, 17), (230, 8), (294, 9)];
    for (block, burst) in acks {
        assert!(matches!(ack(&mut transfer, block), Action::Send(_)), "{block}");
        assert_eq!(transfer.burst(), burst, "{block}");
    }
    assert_eq!(ack(&mut transfer, 294), Action::Nothing);
    assert_eq!(transfer.burst(), 9, "an ACK that comes twice is no loss");
    for burst in [4, 2, 1, 1] {
        assert_eq!(transfer.on(&Event::Timeout, transfer.deadline()), Action::Send(295..359));
        assert_eq!(transfer.burst(), burst);
    }
    for window in 1..=70_u16 {
        ack(&mut transfer, 294 + 64 * window);
        assert_eq!(transfer.burst(), u64::from(window + 1).min(64));
    }
    assert_eq!(transfer.pause(), Duration::ZERO);
}

#[test]
fn a_window_of_one_block_is_never_divided() {
    let (mut transfer, _) = begin(99, 1, false);
    transfer.on(&Event::Timeout, transfer.deadline());
    assert_eq!((transfer.burst(), transfer.pause()), (1, Duration::ZERO));
}

#[test]
fn the_pause_between_bursts_is_a_part_of_the_round_trip() {
    for (trip, pause) in [(0, 0), (400, 100), (3_996, 999), (80_000, 1_000)] {
        let (mut transfer, _) = begin(9_999, 8, true);
        let (trip, pause) = (Duration::from_micros(trip), Duration::from_micros(pause));
        transfer.on(&Event::Ack(0), trip);
        transfer.on(&Event::Ack(4), trip * 2);
        assert_eq!((transfer.burst(), transfer.pause()), (4, pause));
        // What pauses add to later round trips makes them no longer.
        transfer.on(&Event::Ack(12), trip * 3);
        transfer.on(&Event::Ack(20), trip * 3 + SECOND);
        assert_eq!((transfer.burst(), transfer.pause()), (6, pause));
    }
    let (mut transfer, _) = begin(99, 8, false);
    transfer.on(&Event::Timeout, transfer.deadline());
    assert_eq!((transfer.burst(), transfer.pause()), (4, Duration::from_millis(1)), "nothing is known yet");
}

/// What a client that keeps RFC 7440 does with a block, and whether it acknowledges it.
struct Client {
    next: u64,
    in_window: u64,
    windowsize: u64,
    last: u64,
}

impl Client {
    fn data(&mut self, block: u64) -> Option<u16> {
        if block == self.next {
            self.next += 1;
            self.in_window += 1;
            if self.in_window < self.windowsize && block < self.last {
                return None;
            }
        }
        self.in_window = 0;
        Some(Rollover::Zero.number(self.next - 1))
    }
}

proptest! {
    #[test]
    fn an_ack_tells_how_far_it_reaches(block in 0_u64..300_000, further in 0_u64..0x8000, one in any::<bool>()) {
        let rollover = if one { Rollover::One } else { Rollover::Zero };
        prop_assert_eq!(rollover.reach(block, rollover.number(block + further)), Some(further));
    }

    #[test]
    fn every_file_arrives_over_a_bad_network(
        blocks in 0_u64..200, windowsize in 1_u16..20, options in any::<bool>(),
        fates in proptest::collection::vec(0_u8..10, 1..400),
    ) {
        let (mut transfer, first) = begin(blocks, windowsize, options);
        let mut client = Client { next: 1, in_window: 0, windowsize: windowsize.into(), last: blocks + 1 };
        // Of ten packets one is lost, one comes twice; what runs longer than the table meets a good network. Without
        // progress at most three are lost: who is not heard after three retries is given up, and rightly.
        let mut fates = fates.into_iter();
        let (mut lost, mut reached) = (0, 0);
        let mut copies = move |block: u64| {
            if block > reached {
                (lost, reached) = (0, block);
            }
            match fates.next() {
                Some(0) if lost < 3 => { lost += 1; 0 }
                Some(1) => 2,
                _ => 1,
            }
        };
        let mut now = Duration::ZERO;
        let mut actions = std::collections::VecDeque::from([first]);
        let mut steps = 0_u32;
        loop {
            steps += 1;
            prop_assert!(steps < 100_000, "it never ends");
            let at = transfer.block();
            let acks = match actions.pop_front() {
                Some(Action::End(end)) => { prop_assert_eq!(end, End::Done); break }
                Some(Action::Nothing) => vec![],
                Some(Action::Oack) => vec![0; copies(at)],
                Some(Action::Send(range)) => {
                    let arrived: Vec<_> = range.flat_map(|block| vec![block; copies(at)]).collect();
                    let acks: Vec<_> = arrived.into_iter().filter_map(|block| client.data(block)).collect();
                    acks.into_iter().flat_map(|ack| vec![ack; copies(at)]).collect()
                }
                None => {
                    now = transfer.deadline();
                    actions.push_back(transfer.on(&Event::Timeout, now));
                    continue;
                }
            };
            now += Duration::from_millis(1);
            actions.extend(acks.into_iter().map(|block| transfer.on(&Event::Ack(block), now)));
            // An ERROR of the end may overtake: the rest of the queue is of no interest then.
            if let Some(end) = actions.iter().position(|action| matches!(action, Action::End(_))) {
                actions.drain(..end);
            }
        }
        prop_assert_eq!(client.next, blocks + 2);
    }

    #[test]
    fn any_events_end_without_a_panic(
        size in any::<u64>(), blksize in any::<u16>(), windowsize in any::<u16>(), options in any::<bool>(),
        timeout in proptest::option::of(1_u64..256),
        events in proptest::collection::vec((any::<u16>(), 0_u8..8, 0_u64..20_000), 0..200),
    ) {
        let mut agreed = agreed(blksize, windowsize, options);
        agreed.timeout = timeout.map(Duration::from_secs);
        if size % 2 == 1 {
            agreed.rollover = Rollover::One;
        }
        let last = size / u64::from(blksize.max(1)) + 1;
        let mut now = Duration::ZERO;
        let (mut transfer, mut action) = Transfer::begin(&agreed, size, now);
        let mut ended = false;
        for (number, kind, millis) in events {
            check(&action, last, windowsize, &mut ended)?;
            now += Duration::from_millis(millis);
            let event = match kind {
                0 if number % 50 == 0 => Event::Error { code: number, text: String::new() },
                0..=2 => Event::Timeout,
                // Most numbers are of no use: near ones are.
                3..=5 => Event::Ack(agreed.rollover.number(transfer.block()).wrapping_add(number % 70).wrapping_sub(2)),
                _ => Event::Ack(number),
            };
            action = transfer.on(&event, now);
            let (burst, window) = (transfer.burst(), u64::from(windowsize.max(1)));
            prop_assert!((1..=window).contains(&burst));
            let pauses = u32::try_from(window.div_ceil(burst) - 1).unwrap();
            prop_assert!(transfer.pause() * pauses < Duration::from_millis(200), "longer than the shortest wait");
        }
        let mut timeouts = 0;
        while !ended {
            check(&action, last, windowsize, &mut ended)?;
            now = now.max(transfer.deadline());
            action = transfer.on(&Event::Timeout, now);
            timeouts += 1;
            prop_assert!(timeouts < 50, "silence never ends it");
        }
        prop_assert_eq!(transfer.on(&Event::Timeout, now * 2), Action::Nothing);
    }
}

fn check(action: &Action, last: u64, windowsize: u16, ended: &mut bool) -> Result<(), TestCaseError> {
    prop_assert!(!*ended || *action == Action::Nothing);
    match action {
        Action::Send(range) => {
            prop_assert!(range.start >= 1 && range.end <= last + 1 && range.start < range.end);
            prop_assert!(range.end - range.start <= u64::from(windowsize.max(1)));
        }
        Action::End(_) => *ended = true,
        Action::Nothing | Action::Oack => {}
    }
    Ok(())
}
