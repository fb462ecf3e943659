//! A flood from outside: more machines than there can be ask for an address. Memory stays bounded, a reserved machine is
//! served meanwhile, and the daemon goes on afterwards.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use netboot::mac::Mac;
use netboot::net::frames::Frames;
use xtask::lab::{SERVER_ADDR, Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, data, lab, status};
use crate::wire::{Ask, DISCOVER, Wire, uninterrupted};

/// DISCOVERs, each of another machine, as fast as they can be sent: more than the daemon can answer.
const FLOOD: u32 = 200_000;
/// What the daemon may grow by at its worst moment, KiB: 300 bytes for each stranger would be too much.
const GROWTH: u64 = 32 << 10;
/// ARP over Ethernet for IPv4: a reply (RFC 826).
const ARP_REPLY: [u8; 10] = [8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
/// The machine of [`BLADE`].
const RESERVED: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x77]);

/// The most memory that a process has had so far, KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_flood_of_strangers_keeps_no_reserved_machine_from_its_address() {
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    let pid = server.child().pid();
    let (strangers, blade) = (lab.client("strangers").unwrap(), lab.client("blade").unwrap());
    let (flood, wire) = (Wire::open(&lab, &strangers), Wire::open(&lab, &blade));
    let boots = |xid| wire.obtain(RESERVED, xid, SOON) == Some(Ipv4Addr::new(192, 168, 90, 77));
    assert!(boots(1), "{}", server.child().output());
    let before = resident(pid);

    let over = AtomicBool::new(false);
    let (meanwhile, took) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..FLOOD {
                let [_, a, b, c] = number.to_be_bytes();
                flood.send(&Ask::new(Mac([0x52, 0x54, 9, a, b, c]), number, DISCOVER));
            }
            over.store(true, Ordering::Release);
        });
        let (mut meanwhile, begun) = (0, Instant::now());
        while !over.load(Ordering::Acquire) {
            assert!(boots(2 + 2 * meanwhile), "{meanwhile} times before that");
            // What ends after the flood says nothing.
            meanwhile += u32::from(!over.load(Ordering::Acquire));
        }
        (meanwhile, begun.elapsed())
    });
    println!("{FLOOD} strangers in {took:?}; the reserved machine was served {meanwhile} times");
    assert!(meanwhile >= 10, "{meanwhile} times in {took:?}");

    // What waits is answered or dropped, and then all is as before.
    assert!(wait_for(SOON, || boots(1_000_000)));
    let counters = &status(&lab)["counters"]["dhcp"];
    assert!(counters["pool-exhausted"].as_u64() > Some(0), "{counters}");
    let grown = resident(pid).saturating_sub(before);
    println!("grown by {grown} KiB; {counters}");
    assert!(grown < GROWTH, "grown by {grown} KiB");
    server.stop().unwrap();
}

#[test]
fn in_a_flood_an_address_that_somebody_uses_is_offered_to_nobody() {
    let (lab, data) = (lab(), data(BLADE));
    let pool = ["--xdp", "off", "--pool", "192.168.90.100-192.168.90.199"];
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &pool).unwrap();
    let strangers = lab.client("strangers").unwrap();
    let flood = Wire::open(&lab, &strangers);
    let index = strangers.ip("-o link show eth0").unwrap().split(':').next().unwrap().parse().unwrap();
    let frames = strangers.inside(|| Frames::open(index).unwrap()).unwrap();
    let squatter = [0x52, 0x54, 8, 0, 0, 1];
    for number in 0..FLOOD {
        let [_, a, b, c] = number.to_be_bytes();
        flood.send(&Ask::new(Mac([0x52, 0x54, 9, a, b, c]), number, DISCOVER));
        // Somebody who has the whole pool answers late: when there is much else to do.
        if number % 2000 == 1999 {
            for last in 100..200 {
                let parts: [&[u8]; 5] =
                    [&Mac::BROADCAST.0, &squatter, &ARP_REPLY, &squatter, &[192, 168, 90, last]];
                frames.send(&[parts.concat(), vec![0; 10]].concat()).unwrap();
            }
        }
    }
    let counters = || status(&lab)["counters"]["dhcp"].clone();
    assert!(wait_for(SOON, || counters()["conflict"] == 100), "{}", counters());
    assert_eq!(counters()["offer"], serde_json::Value::Null, "{}", counters());
    server.stop().unwrap();
}

/// Processor time of a process, hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_daemon_with_nothing_to_do_sleeps() {
    let (lab, data) = (lab(), data(BLADE));
    std::fs::write(data.path().join("tftp/file"), vec![0; 1 << 20]).unwrap();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    let machine = lab.client("machine").unwrap();
    machine.ip("address add 192.168.90.50/24 dev eth0").unwrap();
    let socket = machine.inside(|| std::net::UdpSocket::bind(("192.168.90.50", 0)).unwrap()).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    // With a client, too, that has begun and says nothing more.
    let mut packet = [0; 2048];
    socket.send_to(b"\0\x01file\0octet\0", (SERVER_ADDR, 69)).unwrap();
    let (_, from) = uninterrupted(|| socket.recv_from(&mut packet)).unwrap();
    socket.send_to(&[0, 4, 0, 1], from).unwrap();
    assert_eq!(uninterrupted(|| socket.recv_from(&mut packet)).unwrap().0, 516);

    let before = ticks(server.child().pid());
    let second = std::time::Duration::from_secs(1);
    assert!(!wait_for(4 * second, || false));
    let spent = ticks(server.child().pid()) - before;
    assert!(
        spent <= 4,
        "{spent} hundredths of a second in four seconds: more than a hundredth of a processor"
    );
    server.stop().unwrap();
}
