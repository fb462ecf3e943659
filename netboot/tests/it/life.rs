//! The XDP program outlives the daemon as long as it should and no longer: handed over, killed, taken over, cleaned up.
//!
//! A virtual machine asks all the time while it happens, and checks each answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netboot::fastpath::GRACE;
use netboot::mac::Mac;
use tempfile::TempDir;
use xtask::lab::{Child, Lab, Namespace, SERVER_ADDR, Server, pin_directories, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, data, lab, status};
use crate::wire::{Ask, DISCOVER, OFFER, Wire};

/// The machine of [`BLADE`].
const RESERVED: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x77]);
/// A DISCOVER so often.
const EVERY: Duration = Duration::from_millis(3);
/// No stream is longer.
const LONGEST: Duration = Duration::from_mins(1);
/// A line of a netboot that took over.
const TAKEN: &str = "has taken the place of the one before";

/// A PXE network with one reserved machine on it.
struct House {
    machines: Namespace,
    data: TempDir,
    lab: Lab,
}

impl House {
    fn new() -> Self {
        let (lab, data) = (lab(), data(BLADE));
        Self { machines: lab.client("machines").unwrap(), data, lab }
    }

    fn start(&self, xdp: &str) -> Server {
        Server::start(&self.lab, Path::new(NETBOOT), self.data.path(), &["--xdp", xdp]).unwrap()
    }

    fn wire(&self) -> Wire {
        Wire::open(&self.lab, &self.machines)
    }

    /// The directories of pins: one for each schema.
    fn pins(&self) -> Vec<PathBuf> {
        let directories = pin_directories(self.lab.server.name());
        directories
            .iter()
            .flat_map(|directory| fs::read_dir(directory).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    fn pin(&self) -> PathBuf {
        let pins = self.pins();
        assert_eq!(pins.len(), 1, "{pins:?}");
        pins[0].clone()
    }

    /// What `ip` says of XDP on the interface.
    fn attached(&self) -> bool {
        self.lab.server.ip("link show pxe0").unwrap().contains("xdp")
    }

    fn nothing_is_left(&self) {
        assert!(!self.attached(), "still attached");
        assert_eq!(pin_directories(self.lab.server.name()), Vec::<PathBuf>::new());
    }
}

/// Kills it and waits until it is gone.
pub(crate) fn kill(mut server: Server) {
    server.child().signal("KILL").unwrap();
    assert!(wait_for(SOON, || !server.is_running()));
}

/// Asks until there is an OFFER.
fn offered(wire: &Wire, xid: u32) {
    let reply = wire.ask(&Ask::new(RESERVED, xid, DISCOVER), SOON).expect("an offer");
    assert_eq!((reply.message, reply.yiaddr), (OFFER, [192, 168, 90, 77].into()));
}

/// A machine that asks all the time, on a thread of its own.
struct Stream {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    thread: JoinHandle<Heard>,
}

/// What it heard.
struct Heard {
    asked: u32,
    /// How many replies each question has.
    replies: BTreeMap<u32, u32>,
    /// All replies that differ in more than their number.
    kinds: BTreeSet<Vec<u8>>,
}

impl Stream {
    fn start(wire: Wire) -> Self {
        // Until the switch knows the way.
        offered(&wire, 1);
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = std::thread::spawn(move || {
            let mut heard = Heard { asked: 0, replies: BTreeMap::new(), kinds: BTreeSet::new() };
            let begun = Instant::now();
            while !stopped.load(Ordering::Acquire) && begun.elapsed() < LONGEST {
                heard.asked += 1;
                wire.send(&Ask::new(RESERVED, 1000 + heard.asked, DISCOVER));
                heard.listen(&wire, EVERY, &count);
            }
            // What is still on its way.
            heard.listen(&wire, Duration::from_secs(1), &count);
            heard
        });
        Self { stop, answered, thread }
    }

    /// Waits until so many more were answered.
    fn more(&self, count: u32) {
        let wanted = self.answered.load(Ordering::Acquire) + count;
        assert!(wait_for(SOON, || self.answered.load(Ordering::Acquire) >= wanted));
    }

    fn end(self) -> Heard {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

impl Heard {
    fn listen(&mut self, wire: &Wire, within: Duration, count: &AtomicU32) {
        let deadline = Instant::now() + within;
        while let Some((reply, mut bytes)) = wire.hear_all(deadline.saturating_duration_since(Instant::now()))
        {
            if reply.mac == RESERVED && reply.xid > 1000 {
                bytes[4..8].fill(0);
                self.kinds.insert(bytes);
                *self.replies.entry(reply.xid).or_default() += 1;
                count.fetch_add(1, Ordering::Release);
            }
        }
    }

    /// Each question has exactly one answer, and all are the same.
    fn check(&self) {
        let (first, last) = (1001, 1000 + self.asked);
        let unanswered: Vec<u32> = (first..=last).filter(|xid| !self.replies.contains_key(xid)).collect();
        assert!(unanswered.is_empty(), "of {} without an answer: {unanswered:?}", self.asked);
        assert!(self.replies.values().all(|count| *count == 1), "{:?}", self.replies);
        assert_eq!(self.kinds.len(), 1, "XDP or daemon, the reply is the same");
    }
}

#[test]
fn a_hand_over_leaves_no_discover_unanswered() {
    let house = House::new();
    for _ in 0..3 {
        let first = house.start("generic");
        assert!(house.pin().join("link").exists() && house.pin().join("EVENTS").exists());
        let stream = Stream::start(house.wire());
        stream.more(100);
        let begun = Instant::now();
        let log = first.hand_over().unwrap();
        assert!(log.contains("XDP answers for 3 s more"), "{log}");
        assert!(house.attached());
        let second = house.start("generic");
        let took = begun.elapsed();
        stream.more(100);
        let heard = stream.end();
        house.pin();
        let log = second.stop().unwrap();
        house.nothing_is_left();
        if took >= GRACE {
            eprintln!("this machine is too busy to start within the grace time: {took:?}");
            continue;
        }
        assert!(log.contains(TAKEN) && log.contains("\"known\":true"), "{log}");
        heard.check();
        assert!(!log.contains("\"by\":\"daemon\""), "in place: no packet went by a program: {log}");
        return;
    }
    panic!("no start was quick enough to tell");
}

#[test]
fn what_xdp_answers_between_two_daemons_is_recorded_by_the_second() {
    let house = House::new();
    let wire = house.wire();
    let offers = |log: &str| log.matches("\"reply\":\"offer\"").count();
    let first = house.start("generic");
    offered(&wire, 1);
    let log = first.hand_over().unwrap();
    let before = offers(&log);
    assert!(before >= 1 && log.contains("\"by\":\"xdp\""), "{log}");
    for xid in 2..7 {
        offered(&wire, xid);
    }
    let second = house.start("generic");
    let counted = |component: &str| status(&house.lab)["counters"][component]["offer"].as_u64().unwrap_or(0);
    assert!(wait_for(SOON, || counted("dhcp") == 5), "{}", second.child().output());
    assert_eq!(counted("xdp"), 5 + before as u64, "it counts on");
    let log = second.stop().unwrap();
    assert_eq!((offers(&log), log.matches("\"by\":\"xdp\"").count()), (5, 5), "{log}");
}

#[test]
fn killed_it_answers_within_the_grace_time_and_passes_everything_after_it() {
    let house = House::new();
    let wire = house.wire();
    let first = house.start("generic");
    offered(&wire, 1);
    kill(first);
    let killed = Instant::now();
    assert!(house.attached());
    // What is passed arrives here.
    let socket = house.lab.server.inside(|| UdpSocket::bind("0.0.0.0:67").unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    offered(&wire, 2);
    let mut packet = [0; 1500];
    assert!(socket.recv(&mut packet).is_err(), "XDP has answered it, and nobody else has seen it");
    let mut xid = 100;
    let passed = wait_for(SOON, || {
        xid += 1;
        wire.send(&Ask::new(RESERVED, xid, DISCOVER));
        socket.recv(&mut packet).is_ok()
    });
    let after = killed.elapsed();
    assert!(passed && after > GRACE / 2, "{after:?}");
    assert!(after < 2 * GRACE, "{after:?}");
    // The last beat was up to half a second before the kill; from now on nothing is answered.
    while wire.hear(Duration::ZERO).is_some() {}
    wire.send(&Ask::new(RESERVED, 9999, DISCOVER));
    let arrived = || socket.recv(&mut packet).is_ok_and(|_| packet[4..8] == 9999_u32.to_be_bytes());
    assert!(wait_for(SOON, arrived));
    assert_eq!(wire.hear(Duration::from_millis(200)), None);
    drop(socket);

    // The next one cleans up, also what somebody had only begun to pin.
    fs::create_dir(house.pin().with_file_name("0123456789abcdef-new")).unwrap();
    let second = house.start("generic");
    offered(&wire, 10_000);
    house.pin();
    let stale = || status(&house.lab)["counters"]["xdp"]["stale-heartbeat"].as_u64().unwrap_or(0);
    assert!(wait_for(SOON, || stale() >= 2), "{}", status(&house.lab));
    let log = second.stop().unwrap();
    assert!(log.contains(TAKEN), "{log}");
    house.nothing_is_left();
}

#[test]
fn a_successor_of_another_schema_replaces_and_removes_what_it_finds() {
    let house = House::new();
    let wire = house.wire();
    let first = house.start("generic");
    offered(&wire, 1);
    first.hand_over().unwrap();
    offered(&wire, 2);
    let (own, other) = (house.pin(), house.pin().with_file_name("0123456789abcdef"));
    fs::rename(&own, &other).unwrap();
    let second = house.start("generic");
    assert_eq!(house.pin(), own);
    offered(&wire, 3);
    let counted = |component: &str| status(&house.lab)["counters"][component]["offer"].as_u64();
    let anew = || counted("dhcp") >= Some(1) && counted("xdp") == counted("dhcp");
    assert!(wait_for(SOON, anew), "it counts anew: {}", status(&house.lab));
    let log = second.stop().unwrap();
    assert!(log.contains(TAKEN) && log.contains("\"known\":false"), "{log}");
    house.nothing_is_left();
}

#[test]
fn what_the_settings_do_not_want_any_more_is_taken_off() {
    let house = House::new();
    for (xdp, said, shown) in [
        ("off", "removed the XDP program of the netboot before", None),
        ("native", "to attach anew: it is attached in generic mode", Some(" xdp ")),
    ] {
        house.start("generic").hand_over().unwrap();
        assert!(house.attached());
        let second = house.start(xdp);
        let links = house.lab.server.ip("-d link show pxe0").unwrap();
        assert!(shown.map_or(!links.contains("xdp"), |mode| links.contains(mode)), "{links}");
        assert_eq!(house.pins().len(), usize::from(shown.is_some()));
        let log = second.stop().unwrap();
        assert!(log.contains(said), "{log}");
        house.nothing_is_left();
    }
}

#[test]
fn a_second_netboot_on_the_interface_takes_nothing_from_the_first() {
    let house = House::new();
    let wire = house.wire();
    let first = house.start("generic");
    let pin = house.pin();
    let state = tempfile::tempdir().unwrap();
    let mut command = house.lab.server.command(NETBOOT);
    command.args(["serve", "--interface", "pxe0", "--xdp", "generic", "--http-port", "8081", "--data"]);
    command.arg(house.data.path()).arg("--state").arg(state.path());
    let mut second = Child::spawn(command).unwrap();
    assert_eq!(second.wait(SOON).unwrap().code(), Some(1), "{}", second.output());
    assert!(second.output().contains("port 67/udp is taken"), "{}", second.output());
    assert_eq!(house.pin(), pin);
    offered(&wire, 1);
    let answered = || first.steps().iter().any(|step| step.text("by") == "xdp");
    assert!(wait_for(SOON, answered), "{}", first.child().output());
    first.stop().unwrap();
}

#[test]
fn pins_of_interfaces_that_are_gone_are_swept_and_others_are_left_alone() {
    let (gone, dead, alive, new) = (House::new(), House::new(), House::new(), House::new());
    // One whose namespace is gone, one whose interface is, and two that are there, one of them killed.
    kill(gone.start("generic"));
    kill(dead.start("generic"));
    kill(new.start("generic"));
    let running = alive.start("generic");
    let (gone_pin, dead_pin) = (gone.pin(), dead.pin());
    assert!(Command::new("ip").args(["netns", "del", gone.lab.server.name()]).status().unwrap().success());
    dead.lab.server.ip("link del pxe0").unwrap();
    // The kernel takes its time to take a namespace down.
    let fresh = House::new();
    let swept = || {
        fresh.start("generic").stop().unwrap();
        !gone_pin.exists() && !dead_pin.exists()
    };
    assert!(wait_for(SOON, swept));
    assert!(!gone_pin.parent().unwrap().exists() && !dead_pin.parent().unwrap().exists());
    for house in [&alive, &new] {
        house.pin();
        assert!(house.attached());
    }
    fresh.nothing_is_left();
    running.stop().unwrap();
    alive.nothing_is_left();

    // An interface of the same name that was made anew has no program yet.
    dead.lab.server.veth("pxe0", &dead.lab.switch, "uplink").unwrap();
    dead.lab.switch.ip("link set uplink master br0").unwrap();
    dead.lab.server.ip(&format!("addr add {SERVER_ADDR}/24 dev pxe0")).unwrap();
    let server = dead.start("generic");
    offered(&dead.wire(), 1);
    assert!(!server.stop().unwrap().contains(TAKEN));
    dead.nothing_is_left();
}

#[test]
fn without_a_bpf_file_system_it_serves_and_says_so() {
    let house = House::new();
    let wire = house.wire();
    let serve = |capabilities: &str| {
        let mut command = house.lab.server.command("unshare");
        let line = format!(
            "umount -q /sys/fs/bpf; exec setpriv --bounding-set {capabilities} {NETBOOT} serve --interface pxe0 \
             --xdp generic --log-format json --data {}",
            house.data.path().display()
        );
        command.args(["--mount", "sh", "-c", &line]);
        Child::spawn(command).unwrap()
    };
    // Where it may it mounts one.
    let mut server = serve("+all");
    server.wait_line("mounted the BPF file system at /sys/fs/bpf", SOON).unwrap();
    server.wait_line("\"message\":\"ready\"", SOON).unwrap();
    assert!(!server.output().contains("is not pinned"), "{}", server.output());
    server.signal("TERM").unwrap();
    assert_eq!(server.wait(SOON).unwrap().code(), Some(0));
    house.nothing_is_left();

    let mut server = serve("-sys_admin");
    let line = server.wait_line("the XDP program is not pinned", SOON).unwrap();
    assert!(line.contains("mount -t bpf bpf /sys/fs/bpf"), "{line}");
    server.wait_line("\"message\":\"ready\"", SOON).unwrap();
    offered(&wire, 1);
    server.wait_line("\"by\":\"xdp\"", SOON).unwrap();
    server.signal("USR1").unwrap();
    assert_eq!(server.wait(SOON).unwrap().code(), Some(0), "{}", server.output());
    assert!(server.output().contains("SIGUSR1 is like SIGTERM here"), "{}", server.output());
    house.nothing_is_left();
}
