//! `netboot capture` beside a daemon, with real clients; its files are read by tshark and by a reader of our own.
//!
//! What XDP answers is in `pinned`, as far as the maps go without a program, and in `live` with one.

#[cfg(feature = "fastpath")]
mod live;
mod pcapng;
#[cfg(feature = "fastpath")]
mod pinned;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use netboot::mac::Mac;
use netboot::net::frames::{Datagram, Frames, frame};
use tempfile::TempDir;
use xtask::lab::{Child, Lab, Namespace, SERVER_ADDR, Server, wait_for};

use self::pcapng::{File, Packet};
use crate::daemon::{BLADE, NETBOOT, SOON, client, data, lab, udhcpc, value};

const BLADE_MAC: &str = "52:54:00:00:00:77";
const STRANGER_MAC: &str = "52:54:00:00:00:99";

/// A running capture of `pxe0`.
struct Capture {
    child: Child,
    directory: TempDir,
}

impl Capture {
    fn start(lab: &Lab, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = lab.server.command(NETBOOT);
        command.args(["capture", "-i", "pxe0", "-w"]).arg(directory.path().join("file")).args(arguments);
        command.current_dir(directory.path());
        let child = Child::spawn(command).unwrap();
        // It listens before it looks for XDP.
        child.wait_line("what the XDP program answers is", SOON).unwrap();
        Self { child, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("file")
    }

    /// Whether the file has so many packets by now that are of this kind; it may end within one.
    fn has(&self, most: usize, wanted: impl Fn(&Packet) -> bool) -> bool {
        let bytes = fs::read(self.path()).unwrap();
        let mut whole = 0;
        while let Some(length) = bytes.get(whole + 4..whole + 8) {
            let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
            if bytes.len() < whole + length {
                break;
            }
            whole += length;
        }
        pcapng::read(&bytes[..whole]).packets.iter().filter(|packet| wanted(packet)).count() >= most
    }

    /// Ends it with this signal; where the file is, what it says, and what was said at the end.
    fn end(mut self, signal: &str) -> (TempDir, File, String) {
        self.child.signal(signal).unwrap();
        let status = self.child.wait(SOON).unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.child.output());
        let output = self.child.output();
        let file = pcapng::read(&fs::read(self.path()).unwrap());
        (self.directory, file, output.lines().last().unwrap().to_owned())
    }
}

/// What tshark says of a file, a line a packet.
fn tshark(file: &Path, arguments: &[&str]) -> String {
    let output = Command::new("tshark").arg("-r").arg(file).args(arguments).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{errors}");
    assert!(!errors.contains("cut short") && !errors.contains("damaged"), "{errors}");
    text.into_owned()
}

/// A client that has asked by DHCP, and has the address that it was given.
fn boot(lab: &Lab, mac: &str) -> (Namespace, Ipv4Addr) {
    let client = client(lab, mac);
    let told = udhcpc(&client, 5, &[]);
    let addr = value(&told, "ip").parse().unwrap_or_else(|_| panic!("no lease: {told}"));
    client.ip(&format!("addr add {addr}/24 dev eth0")).unwrap();
    (client, addr)
}

/// Fetches a file over TFTP, lock-step with the smallest blocks or in windows with larger ones.
fn fetch(client: &Namespace, name: &str, windows: bool) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let got = directory.path().join("got");
    let server = SERVER_ADDR.to_string();
    let mut command = client.command(if windows { "atftp" } else { "tftp" });
    if windows {
        command.args(["--option", "windowsize 16", "--option", "blksize 1428"]);
        command.args(["-g", "-r", name, "-l", "got", &server]);
    } else {
        command.args(["-m", "binary", &server, "-c", "get", name, "got"]);
    }
    let output = command.current_dir(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(got).unwrap()
}

/// The files that were sent to a client, by the port that asked, put together from their blocks in the capture.
fn files(file: &File, to: Ipv4Addr) -> BTreeMap<u16, Vec<u8>> {
    let mut files: BTreeMap<u16, BTreeMap<u16, Vec<u8>>> = BTreeMap::new();
    for packet in &file.packets {
        assert_eq!(packet.bytes.len(), usize::try_from(packet.length).unwrap(), "nothing is cut off");
        assert!(packet.bytes.len() <= 1514, "no frame is longer than on the wire");
        if let Some((_, (addr, port), [0, 3, high, low, data @ ..])) = packet.udp()
            && addr == to
        {
            files.entry(port).or_default().insert(u16::from_be_bytes([*high, *low]), data.to_vec());
        }
    }
    files.into_iter().map(|(port, blocks)| (port, blocks.into_values().flatten().collect())).collect()
}

#[test]
fn a_boot_is_captured_whole_and_in_order() {
    let (lab, data) = (lab(), data(BLADE));
    let content: Vec<u8> = (0..200_001_u32).map(|at| (at ^ (at >> 8)).to_le_bytes()[0]).collect();
    fs::write(data.path().join("tftp/kernel"), &content).unwrap();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    let capture = Capture::start(&lab, &[]);
    let (client, addr) = boot(&lab, BLADE_MAC);
    assert_eq!(addr, Ipv4Addr::new(192, 168, 90, 77));
    for windows in [false, true] {
        assert!(fetch(&client, "kernel", windows) == content);
    }
    let (directory, file, sum) = capture.end("INT");
    server.stop().unwrap();

    assert_eq!(file.interfaces, ["pxe0"]);
    assert_eq!(file.sums, 1);
    let messages: Vec<_> = file.packets.iter().filter_map(Packet::dhcp).collect();
    assert_eq!(messages, [1, 2, 3, 5]);
    let directions: Vec<_> =
        file.packets.iter().filter(|packet| packet.dhcp().is_some()).map(|packet| packet.direction).collect();
    assert_eq!(directions, [1, 2, 1, 2]);
    assert!(file.packets.is_sorted_by_key(|packet| packet.at_ns));
    let sent = files(&file, addr);
    assert_eq!(sent.len(), 2);
    assert!(sent.values().all(|sent| *sent == content), "every block, once cut");
    assert!(file.packets.iter().any(|packet| packet.comment.contains("in one piece")), "windows");
    assert!(sum.contains("DHCP 4, TFTP ") && sum.contains("ARP ") && !sum.contains("missing"), "{sum}");

    // Wireshark has nothing to find fault with, checksums among it.
    let file = directory.path().join("file");
    let checked = ["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"];
    let faults = "udp.checksum.status == 0 || ip.checksum.status == 0 || _ws.malformed";
    assert_eq!(tshark(&file, &[&checked[..], &["-Y", faults]].concat()).lines().next(), None);
    let good =
        tshark(&file, &[&checked[..], &["-Y", "udp.checksum.status == 1 && tftp.opcode == 3"]].concat());
    assert_eq!(good.lines().count(), 200_001 / 512 + 1 + 200_001 / 1428 + 1);
    let fields = ["-T", "fields", "-e", "dhcp.option.dhcp", "-Y", "dhcp", "-e", "frame.interface_name"];
    assert_eq!(tshark(&file, &fields), "1\tpxe0\n2\tpxe0\n3\tpxe0\n5\tpxe0\n");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is nobody else's");
}

#[test]
fn one_machine_alone_is_captured() {
    let (lab, data) = (lab(), data(BLADE));
    fs::write(data.path().join("tftp/kernel"), "small").unwrap();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    let one = Capture::start(&lab, &["--mac", BLADE_MAC]);
    let both = Capture::start(&lab, &["--mac", BLADE_MAC, "--mac", STRANGER_MAC]);
    let machines = [boot(&lab, STRANGER_MAC), boot(&lab, BLADE_MAC)];
    for (client, _) in &machines {
        fetch(client, "kernel", false);
    }
    let [(_, stranger), (_, blade)] = machines;
    let ((_, one, _), (_, both, _)) = (one.end("INT"), both.end("INT"));
    server.stop().unwrap();

    assert_eq!(files(&one, blade).len(), 1);
    assert_eq!(files(&one, stranger).len(), 0);
    assert_eq!((files(&both, blade).len(), files(&both, stranger).len()), (1, 1));
    let stranger_mac = STRANGER_MAC.parse::<Mac>().unwrap().0;
    let about = |file: &File| {
        file.packets
            .iter()
            .filter(|packet| packet.bytes.windows(6).any(|bytes| bytes == stranger_mac))
            .count()
    };
    assert_eq!(about(&one), 0);
    assert!(about(&both) >= 8);
}

#[test]
fn it_ends_by_itself_and_cuts_packets_where_it_is_told_to() {
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    let mut counted = Capture::start(&lab, &["--count", "3", "--snaplen", "64"]);
    boot(&lab, BLADE_MAC);
    assert_eq!(counted.child.wait(SOON).unwrap().code(), Some(0));
    let file = pcapng::read(&fs::read(counted.path()).unwrap());
    assert_eq!(file.packets.len(), 3);
    assert!(file.packets.iter().all(|packet| packet.bytes.len() <= 64 && packet.length >= 42));
    assert!(file.packets.iter().any(|packet| packet.bytes.len() == 64 && packet.length >= 342));
    let mut timed = Capture::start(&lab, &["--seconds", "1"]);
    assert_eq!(timed.child.wait(SOON).unwrap().code(), Some(0));
    let file = pcapng::read(&fs::read(timed.path()).unwrap());
    assert_eq!((file.interfaces.len(), file.sums), (1, 1));
    server.stop().unwrap();
}

#[test]
fn the_vlan_tag_that_the_kernel_takes_off_is_in_the_file() {
    let lab = lab();
    let capture = Capture::start(&lab, &[]);
    let client = client(&lab, BLADE_MAC);
    let index = client.ip("-o link show eth0").unwrap().split(':').next().unwrap().parse().unwrap();
    let frames = client.inside(|| Frames::open(index).unwrap()).unwrap();
    let plain = frame(&Datagram {
        from_mac: BLADE_MAC.parse().unwrap(),
        to_mac: Mac::BROADCAST,
        from: "0.0.0.0:68".parse().unwrap(),
        to: "255.255.255.255:67".parse().unwrap(),
        payload: &[7; 300],
    })
    .unwrap();
    let one: &[u8] = &[0x81, 0, 0xa0, 90];
    let two: &[u8] = &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 90];
    let sent: Vec<Vec<u8>> =
        [one, two].iter().map(|tags| [&plain[..12], tags, &plain[12..]].concat()).collect();
    assert!(wait_for(SOON, || {
        for frame in &sent {
            frames.send(frame).unwrap();
        }
        sent.iter().all(|frame| capture.has(1, |packet| packet.bytes == *frame))
    }));
    let (_, _, sum) = capture.end("TERM");
    assert!(sum.contains("DHCP "), "{sum}");
}

#[test]
fn it_ends_in_peace_when_its_reader_goes() {
    let lab = lab();
    let mut command = lab.server.command(NETBOOT);
    let directory = tempfile::tempdir().unwrap();
    command.args(["capture", "--interface", "pxe0"]).current_dir(directory.path());
    let mut process =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut head = [0; 8];
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_exact(&mut head).unwrap();
    assert_eq!(head[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    // Without a packet that would have to be written.
    drop(stdout);
    let mut status = None;
    assert!(wait_for(SOON, || {
        status = process.try_wait().unwrap();
        status.is_some()
    }));
    let mut said = String::new();
    process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.unwrap().code(), Some(0), "{said}");
    assert!(said.contains("0 packets captured"), "{said}");
}

#[test]
fn what_cannot_be_captured_is_said_with_the_remedy() {
    let (lab, directory) = (lab(), tempfile::tempdir().unwrap());
    let kept = directory.path().join("kept");
    fs::write(&kept, "old").unwrap();
    let refused = |mut command: Command, arguments: &[&str]| {
        command.args(arguments).current_dir(directory.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code(), text.concat())
    };
    let netboot = || lab.server.command(NETBOOT);
    let unprivileged = || {
        let mut command = lab.server.command("setpriv");
        command.args(["--inh-caps=-all", "--bounding-set=-all", NETBOOT]);
        command
    };
    let terminal = || {
        let mut command = lab.server.command("script");
        command.args(["-qec", &format!("{NETBOOT} capture -i pxe0"), "/dev/null"]);
        command
    };
    for (command, arguments, code, said) in [
        (netboot(), &["capture", "-w", "kept"][..], 2, "give --interface eth1"),
        (netboot(), &["capture", "-i", "nosuch0", "-w", "kept"], 1, "nosuch0 does not exist (`ip link`"),
        (unprivileged(), &["capture", "-i", "pxe0", "-w", "kept"], 1, "CAP_NET_RAW: run this as root"),
        (netboot(), &["capture", "-i", "pxe0", "-w", "no/such"], 1, "write no/such: No such file"),
        (netboot(), &["capture", "-i", "pxe0", "--mac", "5"], 2, "six hexadecimal pairs"),
        (terminal(), &[], 2, "| wireshark -k -i -"),
    ] {
        let (found, text) = refused(command, arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    assert_eq!(fs::read_to_string(&kept).unwrap(), "old", "nothing is overwritten for nothing");
}

#[test]
fn an_interface_that_goes_away_ends_it_with_a_whole_file() {
    let lab = lab();
    let mut capture = Capture::start(&lab, &[]);
    lab.server.ip("link del pxe0").unwrap();
    assert_eq!(capture.child.wait(SOON).unwrap().code(), Some(1));
    assert!(capture.child.output().contains("interface pxe0 is gone"), "{}", capture.child.output());
    let file = pcapng::read(&fs::read(capture.path()).unwrap());
    assert_eq!((file.interfaces.len(), file.sums), (1, 1));
}
