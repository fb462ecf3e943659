//! The program on real frames: attached to a veth in a namespace, asked from the namespace at the other end.

use std::collections::BTreeSet;
use std::time::Duration;

use netboot::config::{Limits, Xdp};
use netboot::fastpath::{Error, Fastpath, Mode};
use netboot::mac::Mac;
use netboot::net::link::Link;
use netboot::timeline::Timeline;
use netboot_ebpf::verdict::message::{DISCOVER, REQUEST};
use netboot_ebpf::{Answer, Class};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use xtask::lab::{Child, Namespace, pin_directories, remove_pins, wait_for};

use super::packets::{Request, SERVER_MAC};
use super::{SERVER, site, snapshot, subnet};

const SOON: Duration = Duration::from_secs(10);

/// An interface inside a namespace.
pub(super) fn link(namespace: &Namespace, name: &str) -> Link {
    let text = namespace.ip(&format!("-o link show {name}")).unwrap();
    let index = text.split(':').next().unwrap().trim().parse().unwrap();
    Link { name: name.to_owned(), index, mac: SERVER_MAC, mtu: 1500, addr: SERVER, prefix: subnet().prefix }
}

/// A raw socket on an interface of the namespace, for sending.
struct Wire(Socket);

impl Wire {
    fn open(namespace: &Namespace, name: &str) -> Self {
        let index = link(namespace, name).index;
        let socket = namespace
            .inside(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))))
            .unwrap()
            .unwrap();
        // sockaddr_ll: family, protocol, index, the rest is for receiving.
        let mut address = [0u8; 20];
        address[..2].copy_from_slice(&17u16.to_ne_bytes());
        address[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: the storage is larger, and any bytes are good in it.
        unsafe { (&raw mut storage).cast::<[u8; 20]>().write_unaligned(address) };
        // SAFETY: 20 bytes of it were written.
        socket.bind(&unsafe { SockAddr::new(storage, 20) }).unwrap();
        Self(socket)
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(self.0.send(frame).unwrap(), frame.len());
    }
}

/// What arrives at an interface, by tcpdump: it shows a frame with its tag, which the kernel takes out for others.
struct Capture(Child);

impl Capture {
    fn open(namespace: &Namespace, name: &str) -> Self {
        let arguments =
            ["-i", name, "-Q", "in", "-n", "-l", "-xx", "--immediate-mode", "udp src port 67 or vlan"];
        let child = namespace.spawn("tcpdump", &arguments).unwrap();
        child.wait_line("listening on", SOON).unwrap();
        Self(child)
    }

    /// The next frame, in hexadecimal.
    fn next(&self, length: usize) -> String {
        let mut text = String::new();
        while text.len() < 2 * length {
            let Some(line) = self.0.next_line(SOON) else { panic!("no frame of {length} bytes, but {text}") };
            if let Some((_, bytes)) = line.trim().strip_prefix("0x").and_then(|line| line.split_once(':')) {
                text.extend(bytes.split_whitespace());
            }
        }
        text
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn xdp_answers_real_frames() {
    let (server, client) = (Namespace::new("server").unwrap(), Namespace::new("client").unwrap());
    server.veth("pxe0", &client, "eth0").unwrap();
    server.ip(&format!("link set pxe0 address {SERVER_MAC}")).unwrap();
    let (wire, capture) = (Wire::open(&client, "eth0"), Capture::open(&client, "eth0"));
    let (link, timeline) = (link(&server, "pxe0"), Timeline::default());
    let mut fastpath = server
        .inside(|| Fastpath::start(&link, None, site(), Xdp::Auto, Limits::default(), timeline.clone()))
        .unwrap()
        .unwrap_or_else(|e| panic!("{e}"));
    let changed = server.inside(|| fastpath.update(&snapshot(), &BTreeSet::new())).unwrap().unwrap();
    assert_eq!(fastpath.mode(), Some(Mode::Generic));
    assert_eq!(fastpath.note(), Some("pxe0 is a veth interface"));
    assert!(server.ip("-d link show pxe0").unwrap().contains("xdpgeneric"));
    assert_eq!((changed.added, changed.replaced, changed.removed), (2, 0, 0));

    let counted = |component: &str, name: &str| {
        timeline.counters().get(component).and_then(|names| names.get(name)).copied().unwrap_or(0)
    };
    // The thread has beaten once when it has counted.
    assert!(wait_for(SOON, || timeline.counters().contains_key("xdp")));
    let mut answered = (0, 0);
    for class in [Class::Plain, Class::Bios, Class::Efi64, Class::Ipxe] {
        for tags in [vec![], vec![0xe000]] {
            // 0: the reply is longer than the request; 1200: it is shorter.
            for padded in [0, 1200] {
                let discover =
                    Request::new(DISCOVER, class).with(|r| (r.tags, r.padded) = (tags.clone(), padded));
                let expected = discover.reply(Answer::Offer, class, Request::HOME);
                wire.send(&discover.frame());
                assert_eq!(capture.next(expected.len()), hex(&expected), "{class:?} {tags:?} {padded}");
                let request = Request::new(REQUEST, class)
                    .option(50, &super::BLADE_ADDR.octets())
                    .option(54, &SERVER.octets())
                    .with(|r| (r.tags, r.padded, r.flags) = (tags.clone(), padded, 0x8000));
                let everybody = (Mac::BROADCAST, std::net::Ipv4Addr::BROADCAST);
                let expected = request.reply(Answer::Ack, class, everybody);
                wire.send(&request.frame());
                assert_eq!(capture.next(expected.len()), hex(&expected), "{class:?} {tags:?} {padded}");
                answered = (answered.0 + 1, answered.1 + 1);
            }
        }
    }
    wire.send(&Request::new(DISCOVER, Class::Bios).with(|r| r.chaddr[0] = 6).frame());
    assert!(wait_for(SOON, || counted("xdp", "unknown-mac") == 1), "{:?}", timeline.counters());
    assert!(
        wait_for(SOON, || (counted("dhcp", "offer"), counted("dhcp", "ack")) == answered),
        "{:?}",
        timeline.counters()
    );
    assert!(
        wait_for(SOON, || (counted("xdp", "offer"), counted("xdp", "ack")) == answered),
        "{:?}",
        timeline.counters()
    );

    fastpath.close();
    assert!(!server.ip("-d link show pxe0").unwrap().contains("xdp"), "still attached");
}

#[test]
fn xdp_is_not_there_before_the_first_snapshot() {
    let (server, client) = (Namespace::new("server").unwrap(), Namespace::new("client").unwrap());
    server.veth("pxe0", &client, "eth0").unwrap();
    let (link, timeline) = (link(&server, "pxe0"), Timeline::default());
    let start = || Fastpath::start(&link, None, site(), Xdp::Generic, Limits::default(), timeline.clone());
    let mut fastpath = server.inside(start).unwrap().unwrap();
    assert!(!server.ip("-d link show pxe0").unwrap().contains("xdp"));
    assert_eq!(fastpath.mode(), None);
    server.inside(|| fastpath.update(&snapshot(), &BTreeSet::new())).unwrap().unwrap();
    assert!(server.ip("-d link show pxe0").unwrap().contains("xdpgeneric"));
    // One that netboot has not pinned is never replaced.
    remove_pins(&pin_directories(server.name()));
    let mut second = server.inside(start).unwrap().unwrap();
    let error = server.inside(|| second.update(&snapshot(), &BTreeSet::new())).unwrap().unwrap_err();
    assert!(
        matches!(error, Error::Attach { .. }) && error.to_string().contains("another XDP program"),
        "{error}"
    );
    assert_eq!(second.mode(), None);
}
