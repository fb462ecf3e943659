use std::net::{Ipv4Addr, SocketAddrV4};

use super::{FRAGMENTED, Kind, Policy, Taken};
use crate::capture::wire;
use crate::mac::Mac;
use crate::net::frames::{self, Datagram};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 11);
const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 11]);
const OTHER: Mac = Mac([0x52, 0x54, 0, 0, 0, 12]);
const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const RRQ: &[u8] = b"\0\x01pxelinux.0\0octet\0blksize\x001428\0";

fn udp(macs: [Mac; 2], from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let [from_mac, to_mac] = macs;
    let (from, to) = (SocketAddrV4::new(from.0, from.1), SocketAddrV4::new(to.0, to.1));
    frames::frame(&Datagram { from_mac, to_mac, from, to, payload }).unwrap()
}

/// A DHCP packet of or to this machine, with `ciaddr` and `yiaddr`.
fn dhcp(op: u8, mac: Mac, addrs: [Ipv4Addr; 2]) -> Vec<u8> {
    let mut payload = vec![op, 1, 6, 0];
    payload.extend([0; 8]);
    payload.extend(addrs.iter().flat_map(Ipv4Addr::octets));
    payload.extend([0; 8]);
    payload.extend(mac.0);
    payload.extend([0; 206]);
    payload
}

fn all_machines() -> Policy {
    Policy::new(false, [].into())
}

fn take(policy: &mut Policy, bytes: &[u8]) -> Option<Kind> {
    policy.take(&wire::frame(bytes), 7).map(|taken| taken.kind)
}

/// The ICMP error about a frame, from the other end.
fn error(about: &[u8]) -> Vec<u8> {
    let mut bytes = [&about[..34], &[3, 3, 0, 0, 0, 0, 0, 0], &about[14..42]].concat();
    bytes[23] = 1;
    bytes[16..18].copy_from_slice(&56u16.to_be_bytes());
    bytes
}

#[test]
fn dhcp_and_the_boot_service_on_every_port() {
    let any = Ipv4Addr::UNSPECIFIED;
    for (from, to) in [(68, 67), (67, 68), (67, 67), (68, 4011), (4011, 68), (4011, 2000)] {
        let bytes = udp([MAC, Mac::BROADCAST], (any, from), (SERVER, to), b"");
        assert_eq!(take(&mut all_machines(), &bytes), Some(Kind::Dhcp), "{from} {to}");
    }
    let bytes = udp([MAC, SERVER_MAC], (CLIENT, 2000), (SERVER, 53), b"");
    assert_eq!(take(&mut all_machines(), &bytes), None);
    assert_eq!(take(&mut Policy::new(true, [].into()), &bytes), Some(Kind::Other));
}

#[test]
fn a_transfer_is_followed_from_its_request_on() {
    let mut policy = all_machines();
    let data = udp([SERVER_MAC, MAC], (SERVER, 4000), (CLIENT, 2000), &[0, 3, 0, 1, 9]);
    assert_eq!(take(&mut policy, &data), None, "nobody asked");
    let request = udp([MAC, SERVER_MAC], (CLIENT, 2000), (SERVER, 69), RRQ);
    assert_eq!(take(&mut policy, &request), Some(Kind::Tftp));
    let oack = udp([SERVER_MAC, MAC], (SERVER, 4000), (CLIENT, 2000), b"\0\x06blksize\x001428\0");
    assert_eq!(policy.take(&wire::frame(&oack), 8), Some(Taken { kind: Kind::Tftp, block: Some(1428) }));
    for _ in 0..2 {
        assert_eq!(take(&mut policy, &data), Some(Kind::Tftp));
    }
    let other = udp([SERVER_MAC, OTHER], (SERVER, 4000), (CLIENT, 2001), &[0, 3, 0, 1, 9]);
    assert_eq!(take(&mut policy, &other), None);
}

#[test]
fn later_fragments_go_with_their_first_one() {
    let mut policy = all_machines();
    let mut first = udp([SERVER_MAC, MAC], (SERVER, 69), (CLIENT, 2000), &[0; 64]);
    let mut later = first.clone();
    (first[18], first[20]) = (7, 0x20);
    (later[18], later[21]) = (7, 9);
    assert_eq!(take(&mut policy, &later), None);
    assert_eq!(take(&mut policy, &first), Some(Kind::Tftp));
    assert_eq!(take(&mut policy, &later), Some(Kind::Tftp));
    let mut strange = later.clone();
    strange[18] = 8;
    assert_eq!(take(&mut policy, &strange), None);
    for number in 0..200 {
        first[19] = number;
        take(&mut policy, &first);
        assert!(policy.fragmented.len() <= FRAGMENTED);
    }
}

#[test]
fn icmp_about_what_is_taken_and_else_only_with_all() {
    let mut policy = all_machines();
    let request = udp([MAC, SERVER_MAC], (CLIENT, 2000), (SERVER, 69), RRQ);
    let data = udp([SERVER_MAC, MAC], (SERVER, 4000), (CLIENT, 2000), &[0, 3, 0, 1]);
    assert_eq!(take(&mut policy, &error(&request)), Some(Kind::Icmp));
    assert_eq!(take(&mut policy, &error(&data)), None);
    take(&mut policy, &request);
    assert_eq!(take(&mut policy, &error(&data)), Some(Kind::Icmp));
    let mut echo = error(&data);
    echo[34] = 8;
    assert_eq!(take(&mut policy, &echo), None);
    assert_eq!(take(&mut Policy::new(true, [].into()), &echo), Some(Kind::Icmp));
}

#[test]
fn one_machine_alone_with_all_that_concerns_it() {
    let mut policy = Policy::new(false, [MAC].into());
    let none = Ipv4Addr::UNSPECIFIED;
    let everybody = Ipv4Addr::BROADCAST;
    // To everybody, and yet about it alone.
    let offer = |mac, addr| dhcp(2, mac, [none, addr]);
    let sent = |payload: &[u8]| udp([SERVER_MAC, Mac::BROADCAST], (SERVER, 67), (everybody, 68), payload);
    assert_eq!(take(&mut policy, &sent(&offer(OTHER, [192, 168, 90, 12].into()))), None);
    assert_eq!(take(&mut policy, &sent(&offer(MAC, CLIENT))), Some(Kind::Dhcp));
    // Its requests by Ethernet address, or by a router's and its own address.
    let router = Mac([2, 0, 0, 0, 0, 9]);
    for mac in [MAC, router] {
        let request = udp([mac, SERVER_MAC], (CLIENT, 2000), (SERVER, 69), RRQ);
        assert_eq!(take(&mut policy, &request), Some(Kind::Tftp), "{mac}");
        let data = udp([SERVER_MAC, mac], (SERVER, 4000), (CLIENT, 2000), &[0, 3, 0, 1]);
        assert_eq!(take(&mut policy, &data), Some(Kind::Tftp), "{mac}");
    }
    let address = Ipv4Addr::new(192, 168, 90, 12);
    let request = udp([OTHER, SERVER_MAC], (address, 2000), (SERVER, 69), RRQ);
    assert_eq!(take(&mut policy, &request), None);
    let data = udp([SERVER_MAC, OTHER], (SERVER, 4000), (address, 2000), &[0, 3, 0, 1]);
    assert_eq!(take(&mut policy, &data), None);
}

#[test]
fn arp_of_everybody_or_of_one_machine() {
    let arp = |mac: Mac, addr: Ipv4Addr, target: Ipv4Addr| {
        let parts = [&Mac::BROADCAST.0[..], &mac.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac.0, &addr.octets()];
        [parts.concat(), vec![0; 6], target.octets().to_vec()].concat()
    };
    let other = Ipv4Addr::new(192, 168, 90, 12);
    assert_eq!(take(&mut all_machines(), &arp(OTHER, other, SERVER)), Some(Kind::Arp));
    let mut policy = Policy::new(false, [MAC].into());
    assert_eq!(take(&mut policy, &arp(OTHER, other, SERVER)), None);
    assert_eq!(take(&mut policy, &arp(OTHER, other, CLIENT)), None, "nobody has it yet");
    assert_eq!(take(&mut policy, &arp(MAC, CLIENT, SERVER)), Some(Kind::Arp));
    assert_eq!(take(&mut policy, &arp(OTHER, other, CLIENT)), Some(Kind::Arp));
}

#[test]
fn any_packet_is_judged() {
    proptest::proptest!(|(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300))| {
        let mut policy = Policy::new(true, [MAC].into());
        take(&mut policy, &udp([MAC, MAC], (CLIENT, 68), (SERVER, 67), &bytes));
        take(&mut policy, &udp([MAC, MAC], (CLIENT, 9), (SERVER, 69), &bytes));
        take(&mut policy, &[&[2; 12][..], &[8, 0], &bytes].concat());
    });
}
