//! Reads the program's ring buffer: each record becomes a step of its machine.
//!
//! Nothing here makes the program wait: what finds the buffer full is counted there. The log has fewer lines than there are
//! answers when there are very many (`Timeline::settle`), for lines are what takes the time.

use std::net::Ipv4Addr;

use netboot_ebpf::abi::{Event, what};
use netboot_ebpf::verdict::message;
use netboot_ebpf::{Class, Reason};

use super::loader::Events;
use crate::mac::Mac;
use crate::timeline::{By, News, Step, Timeline};

/// Records at most `most` events; returns whether there may be more.
pub(super) fn record(events: &mut Events, most: usize, timeline: &Timeline) -> bool {
    for _ in 0..most {
        let Some(record) = events.next() else {
            timeline.settle();
            return false;
        };
        if let Some(step) = Event::from_bytes(&record).as_ref().and_then(step) {
            timeline.record(&step);
        } else {
            tracing::error!(length = record.len(), "an event of the fast path that is none");
        }
    }
    true
}

/// Takes over a counter of the program, and says what it means when one went up that should not.
pub(super) fn count(name: &'static str, value: u64, timeline: &Timeline) {
    if !timeline.set("xdp", name, value) {
        return;
    }
    let meaning = match name {
        "event-lost" => {
            "answers of XDP that are counted, but have no line here and are not in `last seen`: more came than the daemon could read"
        }
        "captured-lost" => "packets that `netboot capture` misses: more came than it could write",
        _ => return,
    };
    if timeline.is_news(News::Rose(name)) {
        tracing::warn!(counter = name, value, "{value} {meaning}");
    }
}

/// The step that an event tells of.
fn step(event: &Event) -> Option<Step> {
    let (mac, addr) = (Mac(event.mac), Ipv4Addr::from_bits(event.addr));
    let relay = (event.giaddr != 0).then(|| Ipv4Addr::from_bits(event.giaddr));
    let reason = || Reason::ALL.get(usize::from(event.detail)).copied();
    match event.what {
        what::ANSWERED => {
            let reply = match event.detail {
                message::OFFER => "offer",
                message::ACK => "ack",
                _ => return None,
            };
            let class = Class::from_number(event.class)?;
            Some(Step::Dhcp { mac, addr, reply, class, by: By::Xdp, relay, reserved: true })
        }
        what::PASSED => Some(Step::XdpPassed { mac, reason: reason()? }),
        what::DROPPED => Some(Step::XdpDropped { mac, relay, reason: reason()? }),
        what::FOREIGN => Some(Step::ForeignServer { addr, mac }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use netboot_ebpf::abi::{self, Event, what};
    use netboot_ebpf::{Class, Reason};

    use super::{count, step};
    use crate::mac::Mac;
    use crate::timeline::{By, News, Step, Timeline};

    const EVENT: Event = Event {
        at_ns: 1,
        addr: 0xc0a8_5a0b,
        xid: 2,
        giaddr: 0,
        mac: [2, 0, 0, 0, 0, 1],
        class: 2,
        what: what::ANSWERED,
        detail: 5,
        pad: [0; 3],
    };

    #[test]
    fn an_event_is_a_step() {
        let Some(Step::Dhcp { mac, addr, reply, class, by, relay, reserved }) = step(&EVENT) else {
            panic!("no step")
        };
        assert_eq!((mac, addr), (Mac(EVENT.mac), Ipv4Addr::new(192, 168, 90, 11)));
        assert_eq!((reply, class, by, relay, reserved), ("ack", Class::Ipxe, By::Xdp, None, true));
        let relayed = Event { giaddr: 0x0a00_0001, ..EVENT };
        let Some(Step::Dhcp { relay, .. }) = step(&relayed) else { panic!("no step") };
        assert_eq!(relay, Some(Ipv4Addr::new(10, 0, 0, 1)));
        for odd in [Event { detail: 6, ..EVENT }, Event { class: 99, ..EVENT }, Event { what: 9, ..EVENT }] {
            assert!(step(&odd).is_none(), "{odd:?}");
        }
    }

    #[test]
    fn what_was_not_answered_has_its_reason() {
        let detail = Reason::WrongAddress as u8;
        let passed = step(&Event { what: what::PASSED, detail, ..EVENT });
        assert!(matches!(passed, Some(Step::XdpPassed { reason: Reason::WrongAddress, .. })), "{passed:?}");
        let detail = Reason::RelayRate as u8;
        let dropped = step(&Event { what: what::DROPPED, detail, giaddr: 1, ..EVENT });
        let Some(Step::XdpDropped { reason: Reason::RelayRate, relay: Some(relay), .. }) = dropped else {
            panic!("{dropped:?}")
        };
        assert_eq!(relay, Ipv4Addr::new(0, 0, 0, 1));
        let foreign = step(&Event { what: what::FOREIGN, ..EVENT });
        assert!(matches!(foreign, Some(Step::ForeignServer { mac: Mac([2, ..]), .. })), "{foreign:?}");
        assert!(step(&Event { what: what::PASSED, detail: 255, ..EVENT }).is_none());
    }

    #[test]
    fn only_a_loss_that_grows_is_news() {
        let timeline = Timeline::default();
        let lost = abi::counter_name(abi::EVENTS_LOST).expect("it has a name");
        count(lost, 0, &timeline);
        assert!(timeline.is_news(News::Rose(lost)), "none were lost");
        let timeline = Timeline::default();
        for index in [abi::EVENTS_LOST, abi::CAPTURED_LOST, abi::OFFERS] {
            count(abi::counter_name(index).expect("it has a name"), 3, &timeline);
        }
        assert_eq!(timeline.counters()["xdp"][lost], 3);
        assert!(!timeline.is_news(News::Rose(lost)), "it was told");
        assert!(!timeline.is_news(News::Rose("captured-lost")) && timeline.is_news(News::Rose("offer")));
    }
}
