//! Empty router advertisements on the wire of a lab: hand-made solicitations, a hand-made router, Linux as a client.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use netboot::mac::Mac;
use netboot::net::frames::Frames;
use netboot::net::link::Link;
use netboot::net::ra;
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use xtask::lab::{Lab, Namespace, Server, wait_for};

use crate::wire::uninterrupted;

const NETBOOT: &str = env!("CARGO_BIN_EXE_netboot");
const SOON: Duration = Duration::from_secs(20);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];

/// A server on a wire, and a client there that sends and sees frames.
struct Wire {
    // Dropped in this order: the process before the namespaces.
    server: Server,
    frames: Frames,
    seen: Socket,
    client: Namespace,
    lab: Lab,
    _data: TempDir,
}

/// A packet that the client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Packet {
    to_mac: [u8; 6],
    from: Ipv6Addr,
    to: Ipv6Addr,
    message: Vec<u8>,
}

impl Wire {
    fn new(settings: &str) -> Self {
        xtask::lab::remove_leftovers().unwrap();
        let lab = Lab::new().unwrap();
        let client = lab.client("client").unwrap();
        // The switch notices a moment later that something is plugged in, and would lose what is sent before.
        let ports = || lab.switch.ip("-d link show master br0").unwrap();
        let carries = || ports().matches("bridge_slave state forwarding").count() == 2;
        assert!(wait_for(SOON, carries), "{}", ports());
        let shown = client.ip("-o link show eth0").unwrap();
        let index = shown.split(':').next().unwrap().parse().unwrap();
        let (frames, seen) = client
            .inside(|| {
                let ipv6 = Protocol::from(i32::from(0x86dd_u16.to_be()));
                (Frames::open(index).unwrap(), Socket::new(Domain::PACKET, Type::RAW, Some(ipv6)).unwrap())
            })
            .unwrap();
        seen.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        seen.set_recv_buffer_size(1 << 20).unwrap();
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("tftp")).unwrap();
        fs::write(data.path().join("pxe_hosts.json"), r#"{"common": {}, "hosts": {}}"#).unwrap();
        fs::write(data.path().join("default.yaml"), "#cloud-config\n").unwrap();
        fs::write(data.path().join("netboot.json"), settings).unwrap();
        let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
        Self { server, frames, seen, client, lab, _data: data }
    }

    fn send(&self, mac: [u8; 6], addr: Ipv6Addr, message: &[u8]) {
        self.frames.send(&frame(mac, addr, message)).unwrap();
    }

    /// The next packet that the client sees and that is wanted.
    fn wait(&self, wanted: impl Fn(&Packet) -> bool) -> Packet {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if let Some(packet) = self.next().filter(&wanted) {
                return packet;
            }
        }
        panic!("no such packet came; {}", self.server.child().output());
    }

    /// The next packet that the client sees, if there is one soon.
    fn next(&self) -> Option<Packet> {
        let mut buffer = [0; 2048];
        let length = uninterrupted(|| (&self.seen).read(&mut buffer)).ok()?;
        Some(packet(&buffer[..length]))
    }

    fn counted(&self, name: &str) -> u64 {
        let url = "curl -s --max-time 5 http://127.0.0.1:8080/api/v1/status";
        let status: serde_json::Value = serde_json::from_str(&self.lab.server.shell(url).unwrap()).unwrap();
        status["counters"]["ra"][name].as_u64().unwrap_or_default()
    }

    fn wait_counted(&self, name: &str, count: u64) {
        assert!(wait_for(SOON, || self.counted(name) >= count), "{name}: {}", self.server.child().output());
        assert_eq!(self.counted(name), count, "{name}");
    }

    fn said(&self, text: &str) -> bool {
        wait_for(SOON, || self.server.child().output().contains(text))
    }

    /// The link-local address that belongs to the server's Ethernet address.
    fn server_addr(&self) -> Ipv6Addr {
        let shown = self.lab.server.ip("-o link show pxe0").unwrap();
        let mac = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
        let mut addr = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
        let mac = mac.parse::<Mac>().unwrap().0;
        addr[8..11].copy_from_slice(&mac[..3]);
        addr[13..].copy_from_slice(&mac[3..]);
        addr[8] ^= 2;
        addr.into()
    }
}

/// A blade's Ethernet address and the address that it makes from it.
fn blade(number: u8) -> ([u8; 6], Ipv6Addr) {
    let addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe00, number.into());
    ([0x52, 0x54, 0, 0, 0, number], addr)
}

/// An ICMPv6 message to all routers.
fn frame(mac: [u8; 6], addr: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 2];
    frame.extend(mac);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, u8::try_from(message.len()).unwrap(), 58, 255]);
    frame.extend(addr.octets());
    frame.extend(ALL_ROUTERS.octets());
    frame.extend(message);
    let sum = !folded(&frame);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The sum of pseudo header and message (RFC 8200 8.1), which is 0xffff when the checksum is right.
fn folded(frame: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
    };
    let mut sum = words(&frame[22..]) + words(&frame[18..20]) + 58;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Reads a frame that must be a sound packet of a neighbour.
fn packet(frame: &[u8]) -> Packet {
    let addr = |from: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[from..from + 16]).unwrap());
    if frame[20] == 58 {
        assert_eq!((folded(frame), frame[21]), (0xffff, 255), "{frame:02x?}");
        assert_eq!(usize::from(frame[19]), frame.len() - 54);
    }
    Packet {
        to_mac: frame[..6].try_into().unwrap(),
        from: addr(22),
        to: addr(38),
        message: frame[54..].to_vec(),
    }
}

fn is_advertisement(packet: &Packet) -> bool {
    packet.message[0] == 134
}

fn is_empty(packet: &Packet) -> bool {
    // Type, code and checksum; then no hop limit, no flags, no lifetime, no timers, and no options.
    packet.message[..2] == [134, 0] && packet.message[4..] == [0; 12]
}

#[test]
fn a_blade_with_an_address_is_told_alone_that_there_is_no_router() {
    let wire = Wire::new("{}");
    let (mac, addr) = blade(1);
    wire.send(mac, addr, &[&SOLICITATION[..], &[1, 1], &mac].concat());
    let answer = wire.wait(is_advertisement);
    assert!(is_empty(&answer), "{answer:?}");
    assert_eq!((answer.to_mac, answer.to, answer.from), (mac, addr, wire.server_addr()));
    wire.wait_counted("answered", 1);
}

#[test]
fn many_at_once_are_all_answered() {
    let wire = Wire::new("{}");
    for number in 0..200 {
        let (mac, addr) = blade(number);
        wire.send(mac, addr, &SOLICITATION);
    }
    let mut answered = BTreeSet::new();
    while answered.len() < 200 {
        let answer = wire.wait(is_advertisement);
        let number = answer.to.octets()[15];
        assert_eq!((answer.to_mac, answer.to), blade(number));
        assert!(answered.insert(number), "{number} is answered twice");
    }
    wire.wait_counted("answered", 200);

    // Those without an address share an answer, and a second one when they came too late for the first.
    for number in 0..200 {
        wire.send(blade(number).0, Ipv6Addr::UNSPECIFIED, &SOLICITATION);
    }
    for _ in 0..2 {
        let answer = wire.wait(is_advertisement);
        assert!(is_empty(&answer), "{answer:?}");
        assert_eq!((answer.to_mac, answer.to), ([0x33, 0x33, 0, 0, 0, 1], ALL_NODES));
    }
    let answered = wire.counted("answered");
    assert!((202..210).contains(&answered), "{answered}");
}

#[test]
fn the_malformed_are_not_answered() {
    let wire = Wire::new("{}");
    let (mac, addr) = blade(1);
    let sound = frame(mac, addr, &SOLICITATION);
    let mut hops = sound.clone();
    hops[21] = 254;
    let mut checksum = sound.clone();
    checksum[57] ^= 1;
    let code = frame(mac, addr, &[133, 1, 0, 0, 0, 0, 0, 0]);
    let short = frame(mac, addr, &[133, 0, 0, 0, 0, 0, 0]);
    let option = frame(mac, addr, &[&SOLICITATION[..], &[1, 0, 0, 0, 0, 0, 0, 0]].concat());
    let unspecified = [&SOLICITATION[..], &[1, 1], &mac].concat();
    let malformed = [hops, checksum, code, short, option, frame(mac, Ipv6Addr::UNSPECIFIED, &unspecified)];
    for frame in &malformed {
        wire.frames.send(frame).unwrap();
    }
    // In order: when this one is answered, all before it have been seen.
    let (mac, addr) = blade(2);
    wire.send(mac, addr, &SOLICITATION);
    assert_eq!(wire.wait(is_advertisement).to, addr);
    wire.wait_counted("malformed", 6);
    wire.wait_counted("answered", 1);
}

#[test]
fn a_real_router_is_asked_for_and_left_to_answer() {
    let wire = Wire::new("{}");
    let asked = wire.wait(|packet| packet.message[0] == 133);
    assert_eq!((asked.from, asked.to, asked.message.len()), (Ipv6Addr::UNSPECIFIED, ALL_ROUTERS, 8));
    let (router_mac, router) = blade(254);
    let (mac, addr) = blade(1);

    wire.send(router_mac, router, &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(wire.said(&format!("{router} is an IPv6 router on pxe0")));
    wire.send(mac, addr, &SOLICITATION);
    wire.send(mac, Ipv6Addr::UNSPECIFIED, &SOLICITATION);
    wire.wait_counted("real-router", 2);

    wire.send(router_mac, router, &[134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(wire.said("no IPv6 router on pxe0 any more"));
    wire.send(mac, addr, &SOLICITATION);
    assert_eq!(wire.wait(is_advertisement).to, addr);
    wire.wait_counted("answered", 1);
    wire.wait_counted("real-router", 2);
}

#[test]
fn a_machine_that_routes_ipv6_itself_is_silent() {
    let wire = Wire::new("{}");
    let (mac, addr) = blade(1);
    let set = |name, value| {
        wire.lab.server.shell(&format!("echo {value} > /proc/sys/net/ipv6/conf/pxe0/{name}")).unwrap();
    };
    // Where IPv6 is off, nothing is routed.
    set("forwarding", 1);
    wire.send(mac, addr, &SOLICITATION);
    assert_eq!(wire.wait(is_advertisement).to, addr);
    set("disable_ipv6", 0);
    wire.send(mac, addr, &SOLICITATION);
    wire.wait_counted("real-router", 1);
    assert!(wire.said("this machine routes IPv6 on pxe0"));
    set("forwarding", 0);
    wire.send(mac, addr, &SOLICITATION);
    assert_eq!(wire.wait(|packet| is_advertisement(packet) && packet.to == addr).from, wire.server_addr());
    wire.wait_counted("answered", 2);
}

#[test]
fn linux_takes_it_for_what_it_is() {
    let wire = Wire::new("{}");
    // It asks as soon as it has a link-local address.
    wire.client.shell("echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6").unwrap();
    let counters = || wire.client.shell("cat /proc/net/dev_snmp6/eth0").unwrap();
    let count = |name: &str| -> u64 {
        let counters = counters();
        let mut lines = counters.lines().map(str::split_whitespace);
        let mut line = lines.find(|line| line.clone().next() == Some(name)).unwrap();
        line.nth(1).unwrap().parse().unwrap()
    };
    assert!(wait_for(SOON, || count("Icmp6InRouterAdvertisements") > 0), "{}", counters());
    assert_eq!((count("Icmp6InErrors"), count("Icmp6InCsumErrors")), (0, 0), "{}", counters());
    // Nothing on it has changed.
    assert_eq!(wire.client.ip("-6 route show default").unwrap(), "");
    assert!(!wire.client.ip("-6 addr show dev eth0").unwrap().contains("scope global"));
}

#[test]
fn it_listens_to_the_group_unless_it_is_turned_off() {
    for (settings, listens) in [("{}", true), (r#"{"router_advertisement": "off"}"#, false)] {
        let wire = Wire::new(settings);
        let groups = wire.lab.server.ip("maddr show dev pxe0").unwrap();
        assert_eq!(groups.contains("33:33:00:00:00:02"), listens, "{settings}: {groups}");
        let open = wire.lab.server.shell("cat /proc/net/packet").unwrap();
        // The packet sockets that receive IPv6.
        assert_eq!(open.contains(" 86dd "), listens, "{settings}: {open}");
    }
}

/// The daemon starts anew in such a case, so this is the answering alone.
#[test]
fn an_interface_that_goes_down_and_comes_back_is_served_again() {
    let (server, client) = (Namespace::new("server").unwrap(), Namespace::new("client").unwrap());
    server.veth("pxe0", &client, "eth0").unwrap();
    let shown = server.ip("-o link show pxe0").unwrap();
    let link = Link {
        name: "pxe0".into(),
        index: shown.split(':').next().unwrap().parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        addr: [192, 168, 90, 2].into(),
        prefix: "192.168.90.0/24".parse().unwrap(),
    };
    let shown = client.ip("-o link show eth0").unwrap();
    let frames = client.inside(|| Frames::open(shown.split(':').next().unwrap().parse().unwrap()).unwrap());
    let (frames, stop, (tell, told)) = (frames.unwrap(), CancellationToken::new(), mpsc::channel());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let serve = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    ra::Server::open(&link)
                        .unwrap()
                        .run(move |name| tell.send(name).unwrap(), stop.clone())
                        .await;
                });
            };
            server.inside(serve).unwrap();
        });
        let _stop = stop.clone().drop_guard();
        let (mac, addr) = blade(1);
        let answered = || {
            // While the wire is down nothing can be sent.
            let _ = frames.send(&frame(mac, addr, &SOLICITATION));
            told.try_iter().any(|name| name == "answered")
        };
        assert!(wait_for(SOON, answered));
        server.ip("link set pxe0 down").unwrap();
        server.ip("link set pxe0 up").unwrap();
        told.try_iter().for_each(drop);
        assert!(wait_for(SOON, answered));
    });
}
