use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::{ALL_NODES, ALL_ROUTERS, ASK_AGAIN, GAP, Message, Outcome, Packet, Policy};
use crate::mac::Mac;

const SERVER: Mac = Mac([2, 0, 0, 0, 0, 1]);
const BLADE: Mac = Mac([2, 0, 0, 0, 0, 2]);
const BLADE_ADDR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 2);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

const TO_BLADE: Outcome = Outcome::Now(Packet::Advertisement { mac: BLADE, to: BLADE_ADDR });
const TO_ALL: Packet = Packet::Advertisement { mac: Mac([0x33, 0x33, 0, 0, 0, 1]), to: ALL_NODES };

/// A policy at second 0, after it asked for routers as often as it does.
fn settled() -> (Policy, Instant) {
    let start = Instant::now();
    let mut policy = Policy::new(SERVER, start);
    for turn in 0..3 {
        assert_eq!(policy.due(start + turn * ASK_AGAIN), Some(Packet::Solicitation));
    }
    assert_eq!(policy.next(), None);
    (policy, start + 3 * ASK_AGAIN)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn asks(policy: &mut Policy, addr: Ipv6Addr, now: Instant) -> Outcome {
    policy.receive(&Message::Solicitation { mac: BLADE, addr, to: ALL_ROUTERS }, false, now)
}

fn says(policy: &mut Policy, addr: Ipv6Addr, lifetime_secs: u16, now: Instant) -> Outcome {
    let mac = Mac([2, 0, 0, 0, 0, 0xff]);
    policy.receive(&Message::Advertisement { mac, addr, lifetime_secs }, false, now)
}

#[test]
fn who_has_an_address_is_answered_alone_and_at_once_each_time() {
    let (mut policy, now) = settled();
    for _ in 0..300 {
        assert_eq!(asks(&mut policy, BLADE_ADDR, now), TO_BLADE);
    }
    assert_eq!(policy.next(), None);
}

#[test]
fn who_has_none_is_answered_with_all_and_not_more_than_every_three_seconds() {
    let (mut policy, now) = settled();
    assert_eq!(asks(&mut policy, Ipv6Addr::UNSPECIFIED, now), Outcome::Now(TO_ALL));
    assert_eq!(policy.next(), None);
    for tenth in 1..30 {
        let now = now + tenth * Duration::from_millis(100);
        assert_eq!(asks(&mut policy, Ipv6Addr::UNSPECIFIED, now), Outcome::Later);
        assert_eq!(policy.due(now), None);
    }
    assert_eq!(policy.next(), Some(now + GAP));
    assert_eq!(policy.due(now + GAP), Some(TO_ALL));
    assert_eq!((policy.due(now + GAP), policy.next()), (None, None));
    assert_eq!(asks(&mut policy, Ipv6Addr::UNSPECIFIED, now + GAP), Outcome::Later);
    assert_eq!(asks(&mut policy, Ipv6Addr::UNSPECIFIED, now + 3 * GAP), Outcome::Now(TO_ALL));
}

#[test]
fn only_what_is_meant_for_routers_or_for_us_counts() {
    let (mut policy, now) = settled();
    let mut to = |to: &str| {
        let to = to.parse().unwrap();
        policy.receive(&Message::Solicitation { mac: BLADE, addr: BLADE_ADDR, to }, false, now)
    };
    assert_eq!(to("fe80::ff:fe00:1"), TO_BLADE);
    assert_eq!(to("fe80::ff:fe00:7"), Outcome::Nothing);
    assert_eq!(to("ff02::1"), Outcome::Nothing);
}

#[test]
fn our_own_frames_mean_nothing() {
    let (mut policy, now) = settled();
    let own = [
        Message::Solicitation { mac: SERVER, addr: BLADE_ADDR, to: ALL_ROUTERS },
        Message::Advertisement { mac: SERVER, addr: ROUTER, lifetime_secs: 1800 },
    ];
    for message in own {
        assert_eq!(policy.receive(&message, false, now), Outcome::Nothing);
    }
    assert_eq!(asks(&mut policy, BLADE_ADDR, now), TO_BLADE);
}

#[test]
fn a_real_router_silences_for_its_lifetime() {
    let (mut policy, now) = settled();
    assert_eq!(says(&mut policy, ROUTER, 30, now), Outcome::Appeared(ROUTER));
    assert_eq!(says(&mut policy, ROUTER, 30, now + secs(10)), Outcome::Nothing);
    assert_eq!(asks(&mut policy, BLADE_ADDR, now + secs(39)), Outcome::RealRouter);
    assert_eq!(asks(&mut policy, BLADE_ADDR, now + secs(40)), TO_BLADE);
    assert_eq!(says(&mut policy, ROUTER, 30, now + secs(41)), Outcome::Appeared(ROUTER));
}

#[test]
fn a_router_that_says_goodbye_is_gone_when_it_was_the_last() {
    let (mut policy, now) = settled();
    assert_eq!(says(&mut policy, ROUTER, 9000, now), Outcome::Appeared(ROUTER));
    assert_eq!(says(&mut policy, OTHER, u16::MAX, now), Outcome::Nothing);
    assert_eq!(says(&mut policy, ROUTER, 0, now), Outcome::Nothing);
    assert_eq!(asks(&mut policy, BLADE_ADDR, now), Outcome::RealRouter);
    assert_eq!(says(&mut policy, OTHER, 0, now), Outcome::Gone);
    assert_eq!(asks(&mut policy, BLADE_ADDR, now), TO_BLADE);
}

#[test]
fn one_like_us_is_no_router() {
    let (mut policy, now) = settled();
    assert_eq!(says(&mut policy, OTHER, 0, now), Outcome::Nothing);
    assert_eq!(asks(&mut policy, BLADE_ADDR, now), TO_BLADE);
}

#[test]
fn this_machine_may_be_the_router() {
    let (mut policy, now) = settled();
    let message = Message::Solicitation { mac: BLADE, addr: BLADE_ADDR, to: ALL_ROUTERS };
    assert_eq!(policy.receive(&message, true, now), Outcome::RealRouter);
    assert_eq!(policy.receive(&message, false, now), TO_BLADE);
}

#[test]
fn a_router_heard_in_time_stops_the_asking_and_the_answer_to_all() {
    let start = Instant::now();
    let mut policy = Policy::new(SERVER, start);
    assert_eq!((policy.next(), policy.due(start)), (Some(start), Some(Packet::Solicitation)));
    assert_eq!((policy.next(), policy.due(start)), (Some(start + ASK_AGAIN), None));
    asks(&mut policy, Ipv6Addr::UNSPECIFIED, start);
    assert_eq!(asks(&mut policy, Ipv6Addr::UNSPECIFIED, start), Outcome::Later);
    assert_eq!(policy.next(), Some(start + GAP), "the earlier of the two");
    says(&mut policy, ROUTER, 1800, start);
    assert_eq!((policy.next(), policy.due(start + secs(60))), (None, None));
}

#[test]
fn a_flood_of_made_up_routers_takes_no_memory() {
    let (mut policy, now) = settled();
    for number in 0..10_000 {
        says(&mut policy, Ipv6Addr::from((0xfe80 << 112) | number), 9000, now);
    }
    assert!(policy.routers.len() <= 16);
    assert_eq!(asks(&mut policy, BLADE_ADDR, now), Outcome::RealRouter);
}
