//! The program on packets as no client should send them: what it answers is what the daemon would, byte for byte, and
//! nothing of an earlier packet is in it.

use std::net::Ipv4Addr;

use netboot::dhcp::policy::Route;
use netboot::fastpath::entries::Site;
use netboot::mac::Mac;
use netboot_ebpf::Reason;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::SERVER;
use super::packets::{SERVER_MAC, frame};
use super::rig::{Rig, XDP_PASS, XDP_TX, hex, monotonic};
use crate::corpus::{answer, kernel, odd_packets, reserved, setting};

const BLADE: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

/// The program with the reserved machine and the settings of the corpus.
fn rig() -> Rig {
    let (settings, subnet) = setting();
    Rig::on(&reserved(), &Site::new(&subnet, &settings.dhcp), |_| {})
}

/// The payload as a broadcast frame.
fn broadcast(payload: &[u8]) -> Vec<u8> {
    frame(Mac::BROADCAST, BLADE, &[], (Ipv4Addr::UNSPECIFIED, 68), (Ipv4Addr::BROADCAST, 67), payload)
}

/// Fills the program's memory with bytes that must not be seen again: by a long request of the same machine, then by one
/// with long echoes.
fn poison(rig: &mut Rig) {
    let request = |more: &str| {
        let text = format!("flags 8000\nsname 64*a5\nfile 128*a5\n53 01\n{more}\nend\nraw 60*a5");
        broadcast(&xtask::packets::parse(&text).unwrap())
    };
    let long = request("224 255*a5\n225 255*a5\n226 255*a5");
    assert_eq!(rig.counted("poison", &long).2, "offer");
    let echoes = request("61 120*a5\n97 70*a5\n57 05c0");
    assert_eq!(rig.counted("poison", &echoes).2, "offer");
    while rig.event().is_some() {}
}

/// What the program does with the payload is right.
fn fares_as_in_the_daemon(rig: &mut Rig, name: &str, payload: &[u8]) {
    let sent = broadcast(payload);
    let (action, out, counter) = rig.counted(name, &sent);
    if action == XDP_TX {
        let reply = answer(payload, &reserved()).unwrap_or_else(|reason| panic!("{name}: {reason:?}"));
        let (to, addr) = match reply.route {
            Route::Unicast { mac, addr } => (mac, (addr, 68)),
            Route::Broadcast => (Mac::BROADCAST, (Ipv4Addr::BROADCAST, 68)),
            // Back to whoever brought it.
            Route::Relay(agent) => (BLADE, (agent, 67)),
            other => panic!("{name}: XDP has answered what goes to {other:?}"),
        };
        let expected = frame(to, SERVER_MAC, &[], (SERVER, 67), addr, &reply.bytes);
        assert_eq!(hex(&out), hex(&expected), "{name}");
        return;
    }
    assert_eq!((action, hex(&out)), (XDP_PASS, hex(&sent)), "{name}: the packet was touched");
    let reason = kernel(payload).err().map(Reason::name);
    // Whether the reply has room is seen only when there is one.
    let full = [Reason::TooSmall, Reason::LongEcho].map(|reason| Some(reason.name()));
    assert!(reason == Some(counter) || full.contains(&Some(counter)), "{name}: {counter}, not {reason:?}");
}

#[test]
fn odd_packets_fare_in_the_program_as_in_the_daemon() {
    let mut rig = rig();
    let mut answered = 0;
    for (name, payload) in odd_packets() {
        poison(&mut rig);
        fares_as_in_the_daemon(&mut rig, &name, &payload);
        answered += usize::from(kernel(&payload).is_ok());
    }
    assert!(answered > 20, "{answered} of them are answered by the program");
}

#[test]
fn any_packet_fares_in_the_program_as_in_the_daemon() {
    let mut rig = rig();
    let packets = prop::sample::select(odd_packets());
    let places = prop::collection::vec((0_usize..420, any::<u8>()), 1..4);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let rig = std::cell::RefCell::new(&mut rig);
    let result = runner.run(&(packets, places), |((name, mut payload), places)| {
        for (at, byte) in places {
            if let Some(place) = payload.get_mut(at) {
                *place = byte;
            }
        }
        let mut rig = rig.borrow_mut();
        rig.beat(monotonic());
        poison(&mut rig);
        fares_as_in_the_daemon(&mut rig, &name, &payload);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
