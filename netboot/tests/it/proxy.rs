//! proxyDHCP beside a foreign server, and port 4011: hand-made PXE clients, real systems, a dnsmasq that has the addresses.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use netboot_ebpf::verdict::message::{ACK, DISCOVER, OFFER, REQUEST};
use tempfile::TempDir;
use xtask::lab::{Child, Lab, Namespace, Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, client, data, lab, udhcpc, value};
use crate::wire::{self, uninterrupted};

const US: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 2);
const THEM: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 3);
/// Reserved as `192.168.90.77` with the channel `beta`, also at the foreign server.
const RESERVED: &str = "52:54:00:00:00:77";
const BIOS: &[u8] = b"\x3c\x20PXEClient:Arch:00000:UNDI:002001\x5d\x02\0\0";
const EFI: &[u8] = b"\x3c\x20PXEClient:Arch:00007:UNDI:003016\x5d\x02\0\x07";

/// Somebody else's DHCP server on the network. It says nothing of booting.
pub(crate) struct Foreign {
    server: Child,
    _leases: TempDir,
    _namespace: Namespace,
}

impl Foreign {
    /// Starts it; `hosts` are its reservations as `mac,address,name`.
    pub(crate) fn start(lab: &Lab, hosts: &[&str]) -> Self {
        let namespace = lab.client("foreign").unwrap();
        namespace.ip(&format!("addr add {THEM}/24 dev eth0")).unwrap();
        let leases = tempfile::tempdir().unwrap();
        let mut command = namespace.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=eth0"]);
        command.args([
            "--bind-interfaces",
            "--user=root",
            "--pid-file=",
            "--no-ping",
            "--dhcp-authoritative",
        ]);
        command.args(["--log-dhcp", "--log-facility=-", "--dhcp-range=192.168.90.100,192.168.90.150,1h"]);
        command.arg(format!("--dhcp-leasefile={}", leases.path().join("leases").display()));
        command.args(hosts.iter().map(|host| format!("--dhcp-host={host}")));
        let server = Child::spawn(command).unwrap();
        server.wait_line("DHCP, IP range", SOON).unwrap();
        Self { server, _leases: leases, _namespace: namespace }
    }

    pub(crate) fn log(&self) -> String {
        self.server.output()
    }
}

/// A socket in a client's namespace.
fn socket(client: &Namespace, addr: Ipv4Addr, port: u16) -> UdpSocket {
    let open = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind_device(Some(b"eth0")).unwrap();
        socket.bind(&SocketAddrV4::new(addr, port).into()).unwrap();
        UdpSocket::from(socket)
    };
    client.inside(open).unwrap()
}

/// A request with the broadcast flag, of the machine with this MAC; `options` come after 53.
fn packet(mac: &str, ciaddr: Ipv4Addr, message: u8, options: &[&[u8]]) -> Vec<u8> {
    let mac: netboot::mac::Mac = mac.parse().unwrap();
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

/// A reply and who sent it.
struct Reply {
    from: SocketAddr,
    bytes: Vec<u8>,
}

impl Reply {
    fn option(&self, wanted: u8) -> Option<&[u8]> {
        wire::option(&self.bytes, wanted)
    }

    fn text(&self, code: u8) -> String {
        String::from_utf8_lossy(self.option(code).unwrap_or_default()).into_owned()
    }

    fn is(&self, message: u8) -> bool {
        self.option(53) == Some(&[message])
    }

    fn yiaddr(&self) -> Ipv4Addr {
        [self.bytes[16], self.bytes[17], self.bytes[18], self.bytes[19]].into()
    }
}

/// Asks, again each second as a client does, until a reply of this server came.
fn ask(socket: &UdpSocket, packet: &[u8], to: (Ipv4Addr, u16), server: Ipv4Addr) -> Reply {
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let deadline = Instant::now() + SOON;
    let mut buffer = [0; 1500];
    while Instant::now() < deadline {
        socket.send_to(packet, to).unwrap();
        while let Ok((length, from)) = uninterrupted(|| socket.recv_from(&mut buffer)) {
            if from.ip() == server {
                return Reply { from, bytes: buffer[..length].to_vec() };
            }
        }
    }
    panic!("no reply of {server}");
}

const ALL: (Ipv4Addr, u16) = (Ipv4Addr::BROADCAST, 67);
const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn counters(lab: &Lab) -> serde_json::Value {
    status(lab)["counters"]["dhcp"].take()
}

fn status(lab: &Lab) -> serde_json::Value {
    let text = lab.server.shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/status").unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A data directory with one reserved machine, boot loaders and these settings.
fn directory(settings: &str) -> TempDir {
    let data = data(BLADE);
    for file in ["tftp/pxelinux.0", "tftp/grubx64.efi"] {
        fs::write(data.path().join(file), "x").unwrap();
    }
    fs::write(data.path().join("netboot.json"), settings).unwrap();
    data
}

#[test]
fn beside_a_foreign_server_the_address_is_its_and_the_boot_file_ours() {
    let (lab, data) = (lab(), directory(r#"{"mode": "proxy"}"#));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let foreign = Foreign::start(&lab, &["52:54:00:00:00:77,192.168.90.77,theirs"]);
    for (mac, firmware, file, channel) in [
        (RESERVED, BIOS, "pxelinux.0", "pxelinux.cfg/beta"),
        (RESERVED, EFI, "grubx64.efi", "pxelinux.cfg/beta"),
        ("52:54:00:00:04:01", BIOS, "pxelinux.0", ""),
    ] {
        let machine = client(&lab, mac);
        let unbound = socket(&machine, NOWHERE, 68);
        let discover = packet(mac, NOWHERE, DISCOVER, &[firmware]);
        let mut unflagged = discover.clone();
        unflagged[10] = 0;
        let ours = ask(&unbound, &unflagged, ALL, US);
        assert!(ours.is(OFFER) && ours.from.port() == 67);
        assert_eq!((ours.yiaddr(), ours.option(51), ours.option(1)), (NOWHERE, None, None));
        assert_eq!((ours.text(67).as_str(), ours.text(209).as_str()), (file, channel));
        assert_eq!((ours.text(60).as_str(), ours.option(43)), ("PXEClient", Some(&[6, 1, 8, 255][..])));

        let theirs = ask(&unbound, &discover, ALL, THEM);
        assert!(theirs.is(OFFER));
        let addr = theirs.yiaddr();
        let (wish, of) = ([&[50, 4], &addr.octets()[..]].concat(), [&[54, 4], &THEM.octets()[..]].concat());
        let taken = ask(&unbound, &packet(mac, NOWHERE, REQUEST, &[firmware, &wish, &of]), ALL, THEM);
        assert!(taken.is(ACK) && taken.yiaddr() == addr);

        // Some firmware asks for the boot file with its address: a BIOS ROM from port 68, EDK II from 4011.
        machine.ip(&format!("addr add {addr}/24 dev eth0")).unwrap();
        for port in [68, 4011] {
            let bound = socket(&machine, addr, port);
            let request = packet(mac, addr, REQUEST, &[firmware, &[54, 4, 192, 168, 90, 2]]);
            let reply = ask(&bound, &request, (US, 4011), US);
            assert!(reply.is(ACK) && reply.from.port() == 4011);
            assert_eq!((reply.yiaddr(), reply.text(67).as_str()), (NOWHERE, file));
            assert_eq!(reply.text(209), channel);
        }
    }
    // A system has nothing to do with it.
    let told = udhcpc(&client(&lab, "52:54:00:00:04:02"), 5, &[]);
    assert_eq!((value(&told, "serverid"), value(&told, "boot_file")), ("192.168.90.3", ""), "{told}");
    let counted = counters(&lab);
    for name in ["boot-offer", "boot-ack", "other-server", "not-a-boot-client"] {
        assert!(counted[name].as_u64() > Some(0), "{name}: {counted}");
    }
    for name in ["offer", "ack", "nak", "pool-exhausted"] {
        assert_eq!(counted[name], serde_json::Value::Null, "{name}: {counted}");
    }
    let leases = lab.server.shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/leases").unwrap();
    assert_eq!(leases, "[]");
    let why = "XDP answers full DHCP only";
    assert!(status(&lab)["xdp"].as_str().unwrap().contains(why), "{}", status(&lab));
    assert!(
        !foreign.log().contains("DHCPDECLINE") && !foreign.log().contains("DHCPNAK"),
        "{}",
        foreign.log()
    );
    let log = server.stop().unwrap();
    assert!(log.contains(why) && !log.contains("no pool"), "{log}");
}

#[test]
fn a_class_is_turned_off_by_an_empty_boot_file() {
    let (lab, data) = (lab(), directory(r#"{"boot": {"efi64": ""}}"#));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--mode", "proxy"]).unwrap();
    let machine = client(&lab, RESERVED);
    let unbound = socket(&machine, NOWHERE, 68);
    // The first is answered, so the second, sent before it, was seen and is not.
    ask(&unbound, &packet(RESERVED, NOWHERE, DISCOVER, &[BIOS]), ALL, US);
    unbound.send_to(&packet(RESERVED, NOWHERE, DISCOVER, &[EFI]), ALL).unwrap();
    let before = counters(&lab)["boot-offer"].as_u64();
    ask(&unbound, &packet(RESERVED, NOWHERE, DISCOVER, &[BIOS]), ALL, US);
    assert!(wait_for(SOON, || counters(&lab)["no-boot-file"] == 1), "{}", counters(&lab));
    assert!(counters(&lab)["boot-offer"].as_u64() > before);
    let log = server.stop().unwrap();
    assert!(!log.contains("there is no boot file for this machine"), "on purpose: {log}");
}

#[test]
fn a_menu_is_shown_and_what_was_chosen_is_told_on_port_4011() {
    const SETTINGS: &str =
        r#"{"dhcp": {"menu": {"prompt": "F8?", "timeout_secs": 3, "items": ["local", "stable", "beta"]}}}"#;
    let menu = b"\x06\x01\x07\x08\x0e\x80\x01\x01\xc0\xa8\x5a\x02\x80\x02\x01\xc0\xa8\x5a\x02\
        \x09\x1d\0\0\x0aLocal disk\x80\x01\x06stable\x80\x02\x04beta\x0a\x04\x03F8?\xff";
    for (mode, xdp) in [("full", "generic"), ("full", "off"), ("proxy", "off")] {
        let (lab, data) = (lab(), directory(SETTINGS));
        let server =
            Server::start(&lab, Path::new(NETBOOT), data.path(), &["--mode", mode, "--xdp", xdp]).unwrap();
        let machine = client(&lab, RESERVED);
        let unbound = socket(&machine, NOWHERE, 68);
        let offer = ask(&unbound, &packet(RESERVED, NOWHERE, DISCOVER, &[BIOS]), ALL, US);
        assert_eq!(offer.option(43), Some(&menu[..]), "{mode} {xdp}");
        machine.ip("addr add 192.168.90.77/24 dev eth0").unwrap();
        let addr = Ipv4Addr::new(192, 168, 90, 77);
        let bound = socket(&machine, addr, 68);
        let chosen = [43, 7, 71, 4, 0x80, 1, 0, 0, 255];
        let reply = ask(&bound, &packet(RESERVED, addr, REQUEST, &[BIOS, &chosen]), (US, 4011), US);
        assert!(reply.is(ACK) && reply.from.port() == 4011);
        assert_eq!(reply.option(43), Some(&chosen[2..]), "{mode} {xdp}");
        assert_eq!((reply.text(67), reply.text(209)), ("pxelinux.0".into(), "pxelinux.cfg/stable".into()));
        let by = if xdp == "off" { "daemon" } else { "xdp" };
        let offered = |server: &Server| {
            let name = if mode == "proxy" { "boot-offer" } else { "offer" };
            server.steps().iter().any(|step| step.text("reply") == name && step.text("by") == by)
        };
        assert!(wait_for(SOON, || offered(&server)), "{mode} {xdp}: {}", server.child().output());
        server.stop().unwrap();
    }
}

#[test]
fn a_taken_port_4011_is_named_with_its_process() {
    let (lab, data) = (lab(), directory("{}"));
    let _boot_service = lab.server.inside(|| UdpSocket::bind((US, 4011)).unwrap()).unwrap();
    for mode in ["full", "proxy"] {
        let mut command = lab.server.command(NETBOOT);
        command.args(["serve", "--interface", "pxe0", "--mode", mode, "--xdp", "off", "--data"]);
        let mut server = Child::spawn({
            command.arg(data.path());
            command
        })
        .unwrap();
        assert_eq!(server.wait(SOON).unwrap().code(), Some(1));
        let (output, me) = (server.output(), format!("(pid {})", std::process::id()));
        assert!(output.contains("port 4011/udp is taken by ") && output.contains(&me), "{output}");
    }
}
