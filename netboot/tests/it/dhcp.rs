//! The DHCP server on a wire of its own, with real clients and with hand-made packets; no daemon around it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use netboot::config;
use netboot::dhcp::options::Subnet;
use netboot::dhcp::server::{Error, Server};
use netboot::inventory::{Host, Loaders, Snapshot};
use netboot::mac::Mac;
use netboot::net::link::Link;
use netboot::store::{Change, Memory, Redb, Store};
use netboot::timeline::Timeline;
use netboot_ebpf::verdict::message::{ACK, DISCOVER, NAK, OFFER, REQUEST};
use tokio_util::sync::CancellationToken;
use xtask::lab::{Child, Namespace, enter, wait_for};

use crate::wire::{option, uninterrupted};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 2);
const BLADE: Mac = Mac([0x52, 0x54, 0, 0, 0, 0xb1]);
const BLADE_ADDR: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 11);
const SOON: Duration = Duration::from_secs(20);

/// A server's and a client's namespace with a wire between them.
struct Lab {
    server: Namespace,
    client: Namespace,
}

impl Lab {
    fn new() -> Self {
        let (server, client) = (Namespace::new("server").unwrap(), Namespace::new("client").unwrap());
        server.veth("pxe0", &client, "eth0").unwrap();
        server.ip(&format!("addr add {SERVER}/24 dev pxe0")).unwrap();
        Self { server, client }
    }

    fn link(&self) -> Link {
        let shown = self.server.ip("-o link show pxe0").unwrap();
        let word = |after: &str| {
            shown.split_whitespace().skip_while(|word| *word != after).nth(1).unwrap().to_owned()
        };
        Link {
            name: "pxe0".into(),
            index: shown.split(':').next().unwrap().parse().unwrap(),
            mac: word("link/ether").parse().unwrap(),
            mtu: 1500,
            addr: SERVER,
            prefix: "192.168.90.0/24".parse().unwrap(),
        }
    }

    /// Starts a server in its namespace, with one reserved blade.
    fn serve(&self, store: impl Store) -> Result<Running, Error> {
        let (link, timeline, stop) = (self.link(), Timeline::default(), CancellationToken::new());
        let (bound, answer) = mpsc::channel();
        let (name, steps, stopped) = (self.server.name().to_owned(), timeline.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            enter(&name).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                match Server::bind(&link, &subnet(), config::Mode::Full, &settings(), store) {
                    Ok(server) => {
                        bound.send(Ok(())).unwrap();
                        server
                            .run(Arc::new(ArcSwap::from_pointee(snapshot())), steps, stopped)
                            .await
                            .unwrap();
                    }
                    Err(error) => bound.send(Err(error)).unwrap(),
                }
            });
        });
        answer.recv().unwrap()?;
        Ok(Running { timeline, stop, thread: Some(thread) })
    }

    /// Runs udhcpc until it has an address and returns that.
    fn udhcpc(&self) -> Ipv4Addr {
        let arguments = ["-i", "eth0", "-f", "-q", "-n", "-t", "5", "-T", "2", "-s", "/bin/true"];
        let mut udhcpc = self.client.spawn("udhcpc", &arguments).unwrap();
        obtained(&mut udhcpc)
    }

    /// A socket of a client that has no address yet, or has this one.
    fn socket(&self, addr: Ipv4Addr) -> UdpSocket {
        let open = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
            socket.set_broadcast(true).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind_device(Some(b"eth0")).unwrap();
            socket.bind(&std::net::SocketAddrV4::new(addr, 68).into()).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            UdpSocket::from(socket)
        };
        self.client.inside(open).unwrap()
    }
}

fn obtained(udhcpc: &mut Child) -> Ipv4Addr {
    let status = udhcpc.wait(SOON).unwrap();
    let output = udhcpc.output();
    assert!(status.success(), "{output}");
    let (_, rest) = output.split_once("lease of ").unwrap_or_else(|| panic!("{output}"));
    rest.split_once(' ').unwrap().0.parse().unwrap()
}

/// A server that serves until this is dropped.
struct Running {
    timeline: Timeline,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// How often this happened. A step is counted after its packet is sent.
    fn count(&self, name: &str) -> u64 {
        self.timeline.counters().get("dhcp").and_then(|dhcp| dhcp.get(name).copied()).unwrap_or(0)
    }

    fn wait_count(&self, name: &str, count: u64) {
        assert!(wait_for(SOON, || self.count(name) >= count), "{name}: {:?}", self.timeline.counters());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn subnet() -> Subnet {
    Subnet {
        server: SERVER,
        prefix: "192.168.90.0/24".parse().unwrap(),
        lease_secs: 3600,
        routers: vec![SERVER],
        dns: vec![],
        domain: None,
        boot: config::Boot::default(),
        http_port: 8080,
        menu: None,
        custom: config::options::Custom::default(),
        rapid_commit: false,
        mtu: 1500,
    }
}

fn settings() -> config::Dhcp {
    config::Dhcp::default()
}

fn snapshot() -> Snapshot {
    let host = Host {
        mac: BLADE,
        addr: BLADE_ADDR,
        hostname: "blade-1".into(),
        channel: "stable".into(),
        template: None,
        marks: None,
        boot: config::Boot::default(),
        variables: BTreeMap::new(),
        ignition: None,
    };
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("tftp")).unwrap();
    std::fs::write(data.path().join("tftp/grubx64.efi"), "x").unwrap();
    Snapshot::new(BTreeMap::new(), vec![host]).with_loaders(Loaders::find(data.path()))
}

/// A request with the broadcast flag; `options` come after 53.
fn packet(mac: Mac, ciaddr: Ipv4Addr, message: u8, options: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0];
    packet.extend(ciaddr.octets());
    packet.resize(28, 0);
    packet.extend(mac.0);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99, 53, 1, message]);
    packet.extend(options.concat());
    packet.push(255);
    packet
}

/// Message type and `yiaddr` of the next reply.
fn reply(socket: &UdpSocket) -> io::Result<(u8, Ipv4Addr)> {
    let mut buffer = [0; 1500];
    let length = uninterrupted(|| socket.recv(&mut buffer))?;
    assert!((300..=548).contains(&length));
    assert_eq!(buffer[240..242], [53, 1]);
    Ok((buffer[242], [buffer[16], buffer[17], buffer[18], buffer[19]].into()))
}

fn to_all(socket: &UdpSocket, packet: &[u8]) {
    assert_eq!(socket.send_to(packet, (Ipv4Addr::BROADCAST, 67)).unwrap(), packet.len());
}

const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[test]
fn real_clients_get_their_address_again_after_a_restart() {
    let lab = Lab::new();
    let state = tempfile::tempdir().unwrap();
    let running = lab.serve(Redb::open(state.path()).unwrap()).unwrap();
    let first = lab.udhcpc();
    assert!((10..=250).contains(&first.octets()[3]), "{first}");
    running.wait_count("ack", 1);
    assert_eq!(running.count("offer"), 1);
    drop(running);

    let running = lab.serve(Redb::open(state.path()).unwrap()).unwrap();
    // Had the lease been lost, a stranger could have it, and the client would get it again all the same.
    let wish = [&[50, 4][..], &first.octets()].concat();
    let socket = lab.socket(NOWHERE);
    to_all(&socket, &packet(Mac([0x52, 0x54, 0, 0, 0, 0xd4]), NOWHERE, DISCOVER, &[&wish]));
    let (message, other) = reply(&socket).unwrap();
    assert!(message == OFFER && other != first, "{other}");
    drop(socket);
    assert_eq!(lab.udhcpc(), first);
    lab.client.ip(&format!("link set eth0 address {BLADE}")).unwrap();
    assert_eq!(lab.udhcpc(), BLADE_ADDR);
    lab.client.ip("link set eth0 address 52:54:00:00:00:c3").unwrap();
    let third = lab.udhcpc();
    assert!(third != first && third != BLADE_ADDR, "{third}");
    running.wait_count("ack", 3);
    assert_eq!((running.count("offer"), running.count("nak")), (4, 0));
}

/// The value of an option of a reply.
#[test]
fn each_firmware_gets_its_file_on_the_wire() {
    type Case<'a> = (&'a str, u8, &'a [u8], Option<&'a str>, Option<&'a str>);
    let lab = Lab::new();
    let _running = lab.serve(Memory::default()).unwrap();
    let socket = lab.socket(NOWHERE);
    let url = "http://192.168.90.2:8080/tftp/grubx64.efi";
    let none: &[u8] = &[];
    // Option 60, option 93, option 77; option 60 and the boot file of the reply.
    let table: [Case<'_>; 7] = [
        ("PXEClient:Arch:00000:UNDI:002001", 0, none, Some("PXEClient"), Some("pxelinux.0")),
        ("PXEClient:Arch:00007:UNDI:003016", 7, none, Some("PXEClient"), Some("grubx64.efi")),
        ("PXEClient:Arch:00009:UNDI:003016", 9, none, Some("PXEClient"), Some("grubx64.efi")),
        ("HTTPClient:Arch:00016:UNDI:003001", 16, none, Some("HTTPClient"), Some(url)),
        ("PXEClient:Arch:00011:UNDI:003000", 11, none, None, None),
        ("PXEClient:Arch:00007:UNDI:003010", 7, b"iPXE", None, Some("pxelinux.0")),
        ("PXEClient:Arch:00041:UNDI:002001", 41, none, Some("PXEClient"), None),
    ];
    for (vendor, arch, user, says, file) in table {
        let mut options =
            [&[60, u8::try_from(vendor.len()).unwrap()], vendor.as_bytes(), &[93, 2, 0, arch]].concat();
        if !user.is_empty() {
            options.extend([77, u8::try_from(user.len()).unwrap()]);
            options.extend(user);
        }
        to_all(&socket, &packet(BLADE, NOWHERE, DISCOVER, &[&options]));
        let mut buffer = [0; 1500];
        let length = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
        let reply = &buffer[..length];
        let text = |code| option(reply, code).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(text(60).as_deref(), says, "{vendor}");
        assert_eq!(text(67).as_deref(), file, "{vendor}");
        let name = String::from_utf8_lossy(reply[108..236].split(|byte| *byte == 0).next().unwrap());
        assert_eq!(name, file.unwrap_or_default(), "{vendor}");
        assert_eq!(reply[16..20], BLADE_ADDR.octets(), "an address in any case, {vendor}");
    }
}

#[test]
fn a_second_server_is_told_who_has_the_port() {
    let lab = Lab::new();
    let _running = lab.serve(Memory::default()).unwrap();
    let Err(error) = lab.serve(Memory::default()) else { panic!("two servers on one port") };
    let (message, pid) = (error.to_string(), std::process::id());
    assert!(
        message.contains("port 67/udp is taken by") && message.contains(&format!("kill {pid}")),
        "{message}"
    );
}

#[test]
fn bad_packets_are_counted_and_nothing_else() {
    let lab = Lab::new();
    let running = lab.serve(Memory::default()).unwrap();
    let socket = lab.socket(NOWHERE);
    let good = packet(BLADE, NOWHERE, DISCOVER, &[]);
    for length in 0..good.len() {
        to_all(&socket, &good[..length]);
    }
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    to_all(&socket, &with(0, 2));
    to_all(&socket, &with(2, 255));
    to_all(&socket, &with(239, 0));
    to_all(&socket, &packet(BLADE, NOWHERE, DISCOVER, &[&[50, 0]]));
    to_all(&socket, &good);
    assert_eq!(reply(&socket).unwrap(), (OFFER, BLADE_ADDR));
    running.wait_count("offer", 1);
    let counts = [
        ("truncated", 240),
        ("bad-options", (good.len() - 240) as u64),
        ("not-a-request", 1),
        ("bad-hardware-address", 1),
        ("bad-cookie", 1),
        ("bad-option-length", 1),
        ("offer", 1),
    ];
    for (name, count) in counts {
        assert_eq!(running.count(name), count, "{name}: {:?}", running.timeline.counters());
    }
}

/// A store whose commits wait for a word from the test.
struct Slow {
    started: mpsc::Sender<()>,
    go: mpsc::Receiver<bool>,
    content: Memory,
}

impl Store for Slow {
    fn list(&self) -> Result<Vec<(String, Vec<u8>)>, netboot::store::Error> {
        self.content.list()
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), netboot::store::Error> {
        self.started.send(()).unwrap();
        if self.go.recv().unwrap() {
            return self.content.commit(changes);
        }
        Err(netboot::store::Error::Database {
            what: "write",
            path: "leases".into(),
            why: "no space left".into(),
        })
    }
}

#[test]
fn an_ack_waits_for_the_disk_and_nobody_else_does() {
    let lab = Lab::new();
    let ((started, starts), (word, go)) = (mpsc::channel(), mpsc::channel());
    let content = Memory::default();
    // In this order, for a failure drops the word first, and the server ends.
    let (running, word) = (lab.serve(Slow { started, go, content: content.clone() }).unwrap(), word);
    let socket = lab.socket(NOWHERE);
    let new = Mac([0x52, 0x54, 0, 0, 0, 0x77]);
    let server_id = [&[54, 4][..], &SERVER.octets()].concat();
    let requested = |addr: Ipv4Addr| [&[50, 4][..], &addr.octets()].concat();

    to_all(&socket, &packet(new, NOWHERE, DISCOVER, &[]));
    let (message, addr) = reply(&socket).unwrap();
    assert_eq!(message, OFFER);
    let request = packet(new, NOWHERE, REQUEST, &[&server_id, &requested(addr)]);
    to_all(&socket, &request);
    starts.recv_timeout(SOON).unwrap();
    // While the disk is busy: a reserved machine, a newcomer, and the impatient one.
    to_all(&socket, &request);
    to_all(&socket, &packet(BLADE, NOWHERE, REQUEST, &[&server_id, &requested(BLADE_ADDR)]));
    assert_eq!(reply(&socket).unwrap(), (ACK, BLADE_ADDR));
    to_all(&socket, &packet(Mac([0x52, 0x54, 0, 0, 0, 0x78]), NOWHERE, DISCOVER, &[]));
    assert_eq!(reply(&socket).unwrap().0, OFFER);
    assert_eq!((running.count("ack"), running.count("answer-pending")), (1, 1));

    word.send(false).unwrap();
    running.wait_count("store-failed", 1);
    assert_eq!(running.count("ack"), 1, "no ACK without a disk");
    to_all(&socket, &request);
    starts.recv_timeout(SOON).unwrap();
    word.send(true).unwrap();
    assert_eq!(reply(&socket).unwrap(), (ACK, addr));
    assert_eq!(content.list().unwrap()[0].0, format!("lease/{addr}"));

    // What is on its way when the server is told to stop is finished and answered.
    to_all(&socket, &packet(new, NOWHERE, REQUEST, &[&requested(addr)]));
    starts.recv_timeout(SOON).unwrap();
    running.stop.cancel();
    word.send(true).unwrap();
    assert_eq!(reply(&socket).unwrap(), (ACK, addr));
}

#[test]
fn a_renewal_is_answered_where_the_client_is_and_a_refusal_to_everybody() {
    let lab = Lab::new();
    let running = lab.serve(Memory::default()).unwrap();
    lab.client.ip(&format!("link set eth0 address {BLADE}")).unwrap();
    lab.client.ip(&format!("addr add {BLADE_ADDR}/24 dev eth0")).unwrap();
    let socket = lab.socket(BLADE_ADDR);
    let renew = packet(BLADE, BLADE_ADDR, REQUEST, &[]);
    assert_eq!(socket.send_to(&renew, (SERVER, 67)).unwrap(), renew.len());
    assert_eq!(
        reply(&socket).unwrap(),
        (ACK, BLADE_ADDR),
        "to its own address, though the broadcast flag is set"
    );

    let everybody = lab.socket(NOWHERE);
    to_all(&everybody, &packet(BLADE, NOWHERE, REQUEST, &[&[50, 4, 192, 168, 90, 77]]));
    assert_eq!(reply(&everybody).unwrap(), (NAK, NOWHERE));
    running.wait_count("nak", 1);
    assert_eq!(running.count("ack"), 1);
}

/// Seen with another server: a newcomer's lease was being written, and a third machine's question to port 4011 went
/// unanswered, for good.
#[test]
fn the_boot_service_answers_while_the_disk_is_busy() {
    let lab = Lab::new();
    let ((started, starts), (word, go)) = (mpsc::channel(), mpsc::channel());
    let running = lab.serve(Slow { started, go, content: Memory::default() }).unwrap();
    let everybody = lab.socket(NOWHERE);
    let new = Mac([0x52, 0x54, 0, 0, 0, 0x77]);
    to_all(&everybody, &packet(new, NOWHERE, DISCOVER, &[]));
    let (_, addr) = reply(&everybody).unwrap();
    let taken = [&[54, 4][..], &SERVER.octets(), &[50, 4], &addr.octets()].concat();
    to_all(&everybody, &packet(new, NOWHERE, REQUEST, &[&taken]));
    starts.recv_timeout(SOON).unwrap();

    lab.client.ip(&format!("addr add {BLADE_ADDR}/24 dev eth0")).unwrap();
    let blade = lab.socket(BLADE_ADDR);
    let question = packet(BLADE, BLADE_ADDR, REQUEST, &[b"\x3c\x20PXEClient:Arch:00000:UNDI:002001"]);
    assert_eq!(blade.send_to(&question, (SERVER, 4011)).unwrap(), question.len());
    assert_eq!(reply(&blade).unwrap(), (ACK, NOWHERE), "what to boot, and no address");
    running.wait_count("boot-ack", 1);
    assert_eq!(running.count("ack"), 0, "the newcomer's is not on disk yet");
    word.send(true).unwrap();
    assert_eq!(reply(&everybody).unwrap(), (ACK, addr));
}
