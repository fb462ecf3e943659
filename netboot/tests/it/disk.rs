//! A disk that is full, or not to be written: nothing is acknowledged that is not stored, nobody else suffers, and what
//! was acknowledged is there when the disk can be written again.
//!
//! The state directory is a small tmpfs in a mount namespace of its own, which is gone with the process that holds it.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use netboot::mac::Mac;
use xtask::lab::{Child, Lab, Namespace, READY, SERVER_ADDR, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, data, lab, status};
use crate::wire::{ACK, Ask, DISCOVER, NAK, OFFER, REQUEST, Wire};

/// The machine of [`BLADE`].
const RESERVED: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x77]);
/// The store's file is sparse, so that this is more than it takes for some leases.
const SIZE: &str = "3m";

/// A small disk for the state, and the data directory on which it is mounted.
struct Disk {
    holder: Child,
    data: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let data = data(BLADE);
        let state = data.path().join("state");
        fs::create_dir(&state).unwrap();
        let mut command = Command::new("unshare");
        // Ends by itself, should the test be killed.
        let line = format!("mount -t tmpfs -o size={SIZE} state \"$0\" && echo mounted && exec sleep 300");
        command.args(["--mount", "sh", "-c", &line]).arg(&state);
        let holder = Child::spawn(command).unwrap();
        holder.wait_line("mounted", SOON).unwrap();
        Self { holder, data }
    }

    /// A file of the state directory, seen from outside.
    fn file(&self, name: &str) -> PathBuf {
        let state = self.data.path().join("state");
        Path::new("/proc")
            .join(self.holder.pid().to_string())
            .join("root")
            .join(state.strip_prefix("/").unwrap())
            .join(name)
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.file("filler")).unwrap();
        for size in [4096, 1] {
            while filler.write(&vec![0x5a; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.file("filler")).unwrap();
    }

    fn mount(&self, arguments: &str) {
        let state = self.data.path().join("state");
        let status = Command::new("nsenter")
            .arg(self.namespace())
            .arg("mount")
            .args(arguments.split(' '))
            .arg(state)
            .status();
        assert!(status.unwrap().success(), "mount {arguments}");
    }

    fn namespace(&self) -> String {
        format!("--mount=/proc/{}/ns/mnt", self.holder.pid())
    }

    /// Starts a server that has its state here.
    fn serve(&self, lab: &Lab) -> Child {
        let mut command = lab.server.command("nsenter");
        command.arg(self.namespace()).arg(NETBOOT);
        command
            .args(["serve", "--interface", "pxe0", "--xdp", "off", "--log-format", "json", "--data"])
            .arg(self.data.path());
        Child::spawn(command).unwrap()
    }

    fn serve_ready(&self, lab: &Lab) -> Child {
        let server = self.serve(lab);
        server.wait_line(READY, SOON).unwrap();
        server
    }

    /// What a server says that cannot start.
    fn refusal(&self, lab: &Lab) -> String {
        let mut server = self.serve(lab);
        assert_eq!(server.wait(SOON).unwrap().code(), Some(1), "{}", server.output());
        server.output()
    }
}

fn machine(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 4, number])
}

fn wire(lab: &Lab) -> (Namespace, Wire) {
    let client = lab.client("machines").unwrap();
    let wire = Wire::open(lab, &client);
    (client, wire)
}

/// Whether the machine gets its reservation, OFFER and ACK.
fn reserved_is_served(wire: &Wire, xid: u32) {
    assert_eq!(wire.obtain(RESERVED, xid, SOON), Some(Ipv4Addr::new(192, 168, 90, 77)));
}

/// Each has the address again that it was promised, and a stranger does not.
fn all_are_kept(wire: &Wire, leases: &[(Mac, Ipv4Addr)]) {
    for (number, (_, addr)) in (200..).zip(leases) {
        let stranger = Ask::new(machine(number), u32::from(number), REQUEST).requested(*addr);
        assert_eq!(wire.ask(&stranger, SOON).map(|reply| reply.message), Some(NAK), "{addr}");
    }
    for (mac, addr) in leases {
        let again = Ask::new(*mac, 7, REQUEST).requested(*addr);
        let reply = wire.ask(&again, SOON).map(|reply| (reply.message, reply.yiaddr));
        assert_eq!(reply, Some((ACK, *addr)), "{mac}");
    }
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_and_nothing_is_lost() {
    let (lab, disk) = (lab(), Disk::new());
    let (_client, wire) = wire(&lab);
    let server = disk.serve_ready(&lab);
    let mut leases: Vec<(Mac, Ipv4Addr)> = Vec::new();
    for number in 0..3 {
        leases.push((machine(number), wire.obtain(machine(number), 10, SOON).unwrap()));
    }

    disk.fill();
    let failed = || status(&lab)["counters"]["dhcp"]["store-failed"].as_u64().unwrap_or_default();
    // What is free in the file may still take a few.
    let mut refused = Vec::new();
    for number in 3..60 {
        let mac = machine(number);
        let offer = wire.ask(&Ask::new(mac, 10, DISCOVER), SOON).unwrap();
        let (before, mut ack) = (failed(), None);
        wire.send(&Ask::new(mac, 11, REQUEST).requested(offer.yiaddr).server(SERVER_ADDR));
        let answered = || {
            let heard = wire.hear(Duration::from_millis(50));
            ack = heard.filter(|reply| (reply.mac, reply.message) == (mac, ACK));
            ack.is_some() || failed() > before
        };
        assert!(wait_for(SOON, answered), "{}", server.output());
        match ack {
            Some(ack) => leases.push((mac, ack.yiaddr)),
            None => refused.push(mac),
        }
        if refused.len() == 4 {
            break;
        }
    }
    assert_eq!(refused.len(), 4, "the disk was not full; {}", server.output());
    assert!(failed() >= 4, "{}", status(&lab));
    // Offers need no disk, and reserved machines none at all.
    let offer = wire.ask(&Ask::new(machine(90), 11, DISCOVER), SOON).unwrap();
    assert_eq!(offer.message, OFFER);
    reserved_is_served(&wire, 20);
    let log = server.output();
    let said: Vec<_> = log.lines().filter(|line| line.contains("nothing is acknowledged until")).collect();
    assert!(said.len() == 1 && said[0].contains("leases.redb") && said[0].contains("No space left"), "{log}");

    disk.make_room();
    for mac in refused {
        leases
            .push((mac, wire.obtain(mac, 30, SOON).unwrap_or_else(|| panic!("{mac}: {}", server.output()))));
    }
    assert_eq!(server.output().matches("can be written again").count(), 1, "{}", server.output());
    assert!(!server.output().contains("damaged"), "{}", server.output());

    // As it is on disk, not as it was in memory.
    server.signal("KILL").unwrap();
    drop(server);
    let server = disk.serve_ready(&lab);
    all_are_kept(&wire, &leases);
    drop(server);

    // The next one starts on a full disk. It harms nothing, serves whom it can, and goes on when there is room.
    disk.fill();
    let _server = disk.serve_ready(&lab);
    reserved_is_served(&wire, 40);
    disk.make_room();
    all_are_kept(&wire, &leases);
    let names: Vec<_> =
        fs::read_dir(disk.file("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["leases.redb"]);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let (lab, disk) = (lab(), Disk::new());
    disk.fill();
    let said = disk.refusal(&lab);
    assert!(said.contains("leases.redb") && said.matches("No space left").count() == 1, "full: {said}");
    disk.make_room();
    disk.mount("-o remount,ro");
    let said = disk.refusal(&lab);
    assert!(
        said.contains("leases.redb") && said.matches("Read-only file system").count() == 1,
        "new: {said}"
    );

    // The same with leases in it.
    disk.mount("-o remount,rw");
    let (_client, wire) = wire(&lab);
    let server = disk.serve_ready(&lab);
    let lease = (machine(1), wire.obtain(machine(1), 10, SOON).unwrap());
    drop(server);
    disk.mount("-o remount,ro");
    let said = disk.refusal(&lab);
    assert!(said.contains("leases.redb") && said.matches("Read-only file system").count() == 1, "{said}");
    disk.mount("-o remount,rw");
    let _server = disk.serve_ready(&lab);
    all_are_kept(&wire, &[lease]);
}

#[test]
fn a_torn_file_is_put_aside_and_the_log_says_where() {
    let (lab, disk) = (lab(), Disk::new());
    let (_client, wire) = wire(&lab);
    let server = disk.serve_ready(&lab);
    wire.obtain(machine(1), 10, SOON).unwrap();
    drop(server);
    let store = disk.file("leases.redb");
    let length = store.metadata().unwrap().len();
    File::options().write(true).open(&store).unwrap().set_len(length / 2).unwrap();
    let torn = fs::read(&store).unwrap();
    let server = disk.serve_ready(&lab);
    let log = server.output();
    let said: Vec<_> = log.lines().filter(|line| line.contains("is damaged")).collect();
    assert!(
        said.len() == 1 && said[0].contains("\"ERROR\"") && said[0].contains("state/leases.redb.damaged-1"),
        "{log}"
    );
    // redb writes the length that it found into the header before it gives up; all else is kept.
    let kept = fs::read(disk.file("leases.redb.damaged-1")).unwrap();
    assert!(kept.len() == torn.len() && kept[64..] == torn[64..]);
    assert!(wire.obtain(machine(2), 20, SOON).is_some());
}
