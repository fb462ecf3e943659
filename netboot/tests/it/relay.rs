//! Machines behind a relay agent, in subnets of their own; and addresses of the pool that somebody uses already.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::Duration;

use netboot_ebpf::verdict::message::{ACK, DISCOVER, NAK, OFFER, REQUEST};
use xtask::lab::{Lab, Namespace, Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, client, data, lab, udhcpc, value};
use crate::wire::{self, uninterrupted};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 2);

/// Two subnets behind one relay agent, and a reserved machine in one of them.
const SETTINGS: &str = r#"{ "dhcp": { "dns": ["192.168.90.9"], "subnets": [
    { "prefix": "10.1.0.0/24", "pool": ["10.1.0.20-10.1.0.29"], "lease_secs": 600, "domain": "one.example" },
    { "prefix": "10.2.0.0/24", "relay": "192.168.90.5", "router": "10.2.0.1", "dns": "" } ] } }"#;
const HOSTS: &str = r#"{ "hosts": { "10.1.0.77": { "macaddr": "52:54:00:00:00:77", "$hostname": "far77", "channel": "beta" } } }"#;

/// A relay agent's end of the wire: hears what is sent to port 67, and speaks from there.
pub(crate) struct Relay {
    socket: UdpSocket,
    namespace: Namespace,
}

/// A reply as the relay agent gets it.
pub(crate) struct Heard(Vec<u8>);

impl Heard {
    fn message(&self) -> u8 {
        self.0[242]
    }

    pub(crate) fn yiaddr(&self) -> Ipv4Addr {
        [self.0[16], self.0[17], self.0[18], self.0[19]].into()
    }

    fn option(&self, wanted: u8) -> Option<&[u8]> {
        wire::option(&self.0, wanted)
    }
}

impl Relay {
    pub(crate) fn new(lab: &Lab, addr: Ipv4Addr) -> Self {
        let namespace = lab.client("relay").unwrap();
        namespace.ip(&format!("addr add {addr}/24 dev eth0")).unwrap();
        let socket = namespace.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).unwrap()).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { socket, namespace }
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        self.socket.send_to(packet, (SERVER, 67)).unwrap();
    }

    /// The next reply to this machine.
    fn hear(&self, mac: u8) -> Heard {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = uninterrupted(|| self.socket.recv_from(&mut buffer)).expect("a reply");
            assert_eq!(from, SocketAddrV4::new(SERVER, 67).into());
            if buffer[33] == mac {
                return Heard(buffer[..length].to_vec());
            }
        }
    }

    pub(crate) fn ask(&self, mac: u8, giaddr: [u8; 4], message: u8, options: &[&[u8]]) -> Heard {
        self.send(&packet(mac, giaddr, message, options));
        self.hear(mac)
    }
}

/// A request of 52:54:00:00:00:`mac` that came through a relay agent; `options` come after 53.
pub(crate) fn packet(mac: u8, giaddr: [u8; 4], message: u8, options: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 1, 1, 2, 3, 4, 0, 0, 0, 0];
    packet.resize(24, 0);
    packet.extend(giaddr);
    packet.extend([0x52, 0x54, 0, 0, 0, mac]);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99, 53, 1, message]);
    packet.extend(options.concat());
    packet.push(255);
    packet
}

fn option(code: u8, value: &[u8]) -> Vec<u8> {
    [&[code, u8::try_from(value.len()).unwrap()], value].concat()
}

#[test]
fn each_subnet_behind_a_relay_agent_has_its_own_pool_and_options() {
    let (lab, data) = (lab(), data(HOSTS));
    std::fs::write(data.path().join("netboot.json"), SETTINGS).unwrap();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let relay = Relay::new(&lab, [192, 168, 90, 5].into());
    let (one, two) = ([10, 1, 0, 1], [192, 168, 90, 5]);
    // Replies to 10.1.0.1 must find that address: the relay agent has it, too.
    relay.namespace.ip("addr add 10.1.0.1/32 dev eth0").unwrap();
    lab.server.ip("route add 10.1.0.0/24 via 192.168.90.5").unwrap();

    let info = option(82, &[1, 3, b'p', b'0', b'7']);
    let offer = relay.ask(1, one, DISCOVER, &[&info]);
    assert_eq!(offer.message(), OFFER);
    let first = offer.yiaddr();
    assert!((20..=29).contains(&first.octets()[3]) && first.octets()[..3] == [10, 1, 0], "{first}");
    assert_eq!(offer.0[24..28], one, "giaddr");
    assert_eq!(offer.option(51), Some(&600_u32.to_be_bytes()[..]));
    assert_eq!(offer.option(15), Some(&b"one.example"[..]));
    assert_eq!(offer.option(6), Some(&[192, 168, 90, 9][..]));
    assert_eq!(offer.option(3), None, "no router is known there");
    assert_eq!(offer.option(82), Some(&[1, 3, b'p', b'0', b'7'][..]));
    let (server_id, requested) = (option(54, &SERVER.octets()), option(50, &first.octets()));
    let ack = relay.ask(1, one, REQUEST, &[&server_id, &requested, &info]);
    assert_eq!((ack.message(), ack.yiaddr()), (ACK, first));

    // Known by its relay agent's address alone; an address of the derived pool, and options of its own.
    let offer = relay.ask(2, two, DISCOVER, &[]);
    assert_eq!((offer.message(), &offer.yiaddr().octets()[..3]), (OFFER, &[10, 2, 0][..]));
    assert_eq!((offer.option(3), offer.option(6)), (Some(&[10, 2, 0, 1][..]), None));
    // The relay agent says which subnet it is (RFC 3527), and what it wants to be called (RFC 5107).
    let info = option(82, &[[5, 4].as_slice(), &[10, 1, 0, 0], &[11, 4], &two].concat());
    let offer = relay.ask(3, two, DISCOVER, &[&info]);
    assert_eq!(offer.yiaddr().octets()[..3], [10, 1, 0]);
    assert_eq!(offer.option(54), Some(&two[..]));

    // A reserved machine where it is at home, and as a guest in the other subnet.
    let home = relay.ask(0x77, one, DISCOVER, &[]);
    assert_eq!(home.yiaddr(), Ipv4Addr::new(10, 1, 0, 77));
    let guest = relay.ask(0x77, two, DISCOVER, &[]);
    assert_eq!(guest.yiaddr().octets()[..3], [10, 2, 0]);
    for reply in [&home, &guest] {
        assert_eq!(reply.option(12), Some(&b"far77"[..]));
    }
    let refused = relay.ask(0x77, two, REQUEST, &[&server_id, &option(50, &[10, 1, 0, 77])]);
    assert_eq!((refused.message(), refused.0[10]), (NAK, 0x80), "the relay agent is to tell everybody");

    // From a subnet that is not served there is no answer, only a reason.
    relay.send(&packet(4, [10, 9, 0, 1], DISCOVER, &[]));
    let counted = || lab.server.shell("curl -s http://127.0.0.1:8080/api/v1/status").unwrap();
    assert!(wait_for(SOON, || counted().contains("\"unknown-subnet\":1")), "{}", counted());
    server.stop().unwrap();
}

#[test]
fn machines_behind_a_relay_agent_read_files_but_not_each_others_configs() {
    let (lab, data) = (lab(), data(HOSTS));
    std::fs::write(data.path().join("netboot.json"), SETTINGS).unwrap();
    std::fs::write(data.path().join("tftp/file"), "content").unwrap();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let far = lab.client("far").unwrap();
    far.ip("addr add 10.1.0.77/24 dev eth0").unwrap();
    far.ip("route add 192.168.90.0/24 dev eth0").unwrap();
    lab.server.ip("route add 10.1.0.0/24 dev pxe0").unwrap();
    assert_eq!(far.shell("curl -s --max-time 10 tftp://192.168.90.2/file").unwrap(), "content");
    let own = far.shell("curl -s --max-time 10 http://192.168.90.2:8080/").unwrap();
    assert!(own.contains("hostname: far77"), "{own}");
    let leases =
        far.shell("curl -s -o /dev/null -w '%{http_code}' http://192.168.90.2:8080/api/v1/leases").unwrap();
    assert_eq!(leases, "403");
    server.stop().unwrap();
}

#[test]
fn an_address_that_somebody_uses_is_offered_to_nobody() {
    let (lab, data) = (lab(), data(BLADE));
    // Two addresses, of which the one that the client would like is a squatter's.
    let pool = ["--pool", "192.168.90.100-192.168.90.101"];
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &pool).unwrap();
    let squatter = lab.client("squatter").unwrap();
    squatter.ip("addr add 192.168.90.100/24 dev eth0").unwrap();
    let newcomer = client(&lab, "52:54:00:00:00:d1");
    let told = udhcpc(&newcomer, 5, &["-r", "192.168.90.100"]);
    assert_eq!(value(&told, "ip"), "192.168.90.101", "{told}");
    let log = server.child().output();
    assert!(log.contains("uses 192.168.90.100 of the pool"), "{log}");
    // A second one gets nothing rather than a squatter's address.
    let second = lab.client("second").unwrap();
    assert_eq!(udhcpc(&second, 2, &[]), "");
    server.stop().unwrap();
}

#[test]
fn while_an_address_is_probed_others_are_answered() {
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    let machine = lab.client("machine").unwrap();
    let socket = machine
        .inside(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
            socket.set_broadcast(true).unwrap();
            socket.bind_device(Some(b"eth0")).unwrap();
            socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into()).unwrap();
            UdpSocket::from(socket)
        })
        .unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let broadcast = |mac: u8| {
        let mut packet = packet(mac, [0; 4], DISCOVER, &[]);
        packet[10] = 0x80;
        packet[3] = 0;
        socket.send_to(&packet, (Ipv4Addr::BROADCAST, 67)).unwrap();
    };
    // A switch loses what comes before it has noticed that something is plugged in.
    let mut buffer = [0; 1500];
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(wait_for(SOON, || {
        broadcast(0x77);
        uninterrupted(|| socket.recv(&mut buffer)).is_ok()
    }));
    while uninterrupted(|| socket.recv(&mut buffer)).is_ok() {}
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Ten that are new, then the reserved one: it is answered first.
    for mac in 1..=10 {
        broadcast(mac);
    }
    broadcast(0x77);
    let mut order = Vec::new();
    for _ in 0..11 {
        let mut buffer = [0; 1500];
        uninterrupted(|| socket.recv(&mut buffer)).unwrap();
        order.push((buffer[33], buffer[19]));
    }
    assert_eq!(order[0], (0x77, 77), "{order:?}");
    let addresses: std::collections::BTreeSet<u8> = order.iter().map(|(_, last)| *last).collect();
    assert_eq!(addresses.len(), 11, "{order:?}");
    server.stop().unwrap();
}
