//! Reads the program's ring buffer: each answer becomes a step of its machine.

use std::net::Ipv4Addr;

use netboot_ebpf::Class;
use netboot_ebpf::abi::{Event, what};
use netboot_ebpf::verdict::message;

use super::loader::Events;
use crate::mac::Mac;
use crate::timeline::{By, Step, Timeline};

/// Records at most `most` answers.
pub(super) fn record(events: &mut Events, most: usize, timeline: &Timeline) {
    for _ in 0..most {
        let Some(record) = events.next() else { return };
        if let Some(step) = Event::from_bytes(&record).as_ref().and_then(step) {
            timeline.record(&step);
        } else {
            tracing::error!(length = record.len(), "an event of the fast path that is none");
        }
    }
}

/// The step that an event tells of.
fn step(event: &Event) -> Option<Step> {
    if event.what != what::ANSWERED {
        return None;
    }
    let reply = match event.detail {
        message::OFFER => "offer",
        message::ACK => "ack",
        _ => return None,
    };
    let class = Class::from_number(event.class)?;
    Some(Step::Dhcp { mac: Mac(event.mac), addr: Ipv4Addr::from_bits(event.addr), reply, class, by: By::Xdp })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use netboot_ebpf::Class;
    use netboot_ebpf::abi::{Event, what};

    use super::step;
    use crate::mac::Mac;
    use crate::timeline::{By, Step};

    #[test]
    fn an_event_is_a_step() {
        let event = Event {
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
        let Some(Step::Dhcp { mac, addr, reply, class, by }) = step(&event) else { panic!("no step") };
        assert_eq!((mac, addr), (Mac(event.mac), Ipv4Addr::new(192, 168, 90, 11)));
        assert_eq!((reply, class, by), ("ack", Class::Ipxe, By::Xdp));
        assert!(step(&Event { detail: 6, ..event }).is_none());
        assert!(step(&Event { class: 99, ..event }).is_none());
    }
}
