//! The program on made packets: a table of {name, packet in, answer or pass}.

use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions};
use netboot::dhcp::options::Subnet;
use netboot::fastpath::entries::{self, Entries};
use netboot::fastpath::loader::{self, Beat, Counters, Events, Loaded};
use netboot::fastpath::sync::apply;
use netboot::inventory::Snapshot;
use netboot::mac::Mac;
use netboot_ebpf::abi::{self, Event};
use netboot_ebpf::verdict::message::{DISCOVER, INFORM, RELEASE, REQUEST};
use netboot_ebpf::{Answer, Class, Reason};
use rustix::time::{ClockId, clock_gettime};

use super::packets::{Request, SERVER_MAC};
use super::{BLADE, BLADE_ADDR, SERVER, snapshot, subnet};

pub(super) const XDP_PASS: u32 = 2;
pub(super) const XDP_TX: u32 = 3;
const GRACE: Duration = Duration::from_secs(3);

/// What is done to a frame.
type Change = fn(&mut Vec<u8>);

/// The loaded program with the sample machines, beating.
pub(super) struct Rig {
    loaded: Loaded,
    beat: Beat,
    counters: Counters,
    events: Events,
}

impl Rig {
    fn new() -> Self {
        Self::with(&snapshot(), &subnet())
    }

    /// With these machines.
    pub(super) fn with(snapshot: &Snapshot, subnet: &Subnet) -> Self {
        let loaded = Loaded::load(SERVER, SERVER_MAC, GRACE, subnet.rapid_commit);
        let mut loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
        let (beat, counters, events) =
            (loaded.take_beat().unwrap(), loaded.take_counters().unwrap(), loaded.take_events().unwrap());
        let (wanted, left_out) = entries::build(snapshot, subnet);
        assert_eq!(left_out, []);
        apply(&mut loaded, &mut Entries::new(), wanted).unwrap();
        let mut rig = Self { loaded, beat, counters, events };
        rig.beat(monotonic());
        rig
    }

    pub(super) fn beat(&mut self, at: Duration) {
        self.beat.set(0, u64::try_from(at.as_nanos()).unwrap(), 0).unwrap();
    }

    /// Runs the program once; returns what it did, and the packet.
    fn run(&mut self, packet: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0xee; 4096];
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.loaded.program().unwrap().test_run(options).unwrap();
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        (result.return_value, out)
    }

    fn counts(&self) -> Vec<u64> {
        (0..abi::COUNTERS).map(|index| loader::count(&self.counters, index).unwrap()).collect()
    }

    /// Runs the program once; returns the packet and the one counter that went up, by one.
    pub(super) fn counted(&mut self, name: &str, packet: &[u8]) -> (u32, Vec<u8>, &'static str) {
        let before = self.counts();
        let (action, out) = self.run(packet);
        let after = self.counts();
        let mut up = (0..).zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
        let (index, (before, after)) = up.next().unwrap_or_else(|| panic!("{name}: nothing was counted"));
        assert_eq!(*after, before + 1, "{name}");
        assert_eq!(up.next(), None, "{name}: counted twice");
        (action, out, abi::counter_name(index).unwrap())
    }

    fn answers(&mut self, name: &str, request: &Request, answer: Answer, class: Class, expected: &[u8]) {
        let (action, out, counter) = self.counted(name, &request.frame());
        assert_eq!(counter, if answer == Answer::Offer { "offer" } else { "ack" }, "{name}");
        assert_eq!(action, XDP_TX, "{name}");
        assert_eq!(hex(&out), hex(expected), "{name}");
        let record = self.events.next().unwrap_or_else(|| panic!("{name}: no event"));
        let event = Event::from_bytes(&record).unwrap();
        let told = Event {
            at_ns: event.at_ns,
            addr: BLADE_ADDR.to_bits(),
            xid: 0xdead_beef,
            mac: BLADE.0,
            class: class as u8,
            answer: answer as u8,
        };
        assert_eq!(event, told, "{name}");
        let now = u64::try_from(monotonic().as_nanos()).unwrap();
        assert!(event.at_ns <= now && now - event.at_ns < 10_000_000_000, "{name}: told at {}", event.at_ns);
    }

    fn passes(&mut self, name: &str, packet: &[u8], reason: Reason) {
        let (action, out, counter) = self.counted(name, packet);
        assert_eq!(counter, reason.name(), "{name}");
        assert_eq!(action, XDP_PASS, "{name}");
        assert_eq!(out, packet, "{name}: the packet was touched");
        assert!(self.events.next().is_none(), "{name}: an event for no answer");
    }
}

pub(super) fn monotonic() -> Duration {
    clock_gettime(ClockId::Monotonic).try_into().unwrap()
}

/// Sixteen bytes a line, so that a difference can be found.
pub(super) fn hex(bytes: &[u8]) -> Vec<String> {
    bytes
        .chunks(16)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "))
        .collect()
}

const ANSWERED: [Class; 3] = [Class::Plain, Class::Bios, Class::Ipxe];

#[test]
fn xdp_answers_what_the_daemon_would() {
    let mut rig = Rig::new();
    let (me, server) = (BLADE_ADDR.octets(), SERVER.octets());
    for class in ANSWERED {
        let discover = Request::new(DISCOVER, class);
        let ask = Request::new(REQUEST, class);
        let everybody = (Mac::BROADCAST, std::net::Ipv4Addr::BROADCAST);
        let loud = |request: &Request| request.clone().with(|r| r.flags = 0x8000);
        let renew = ask.clone().with(|r| {
            r.ciaddr = BLADE_ADDR;
            r.src = BLADE_ADDR;
            r.dst = SERVER;
            r.to = SERVER_MAC;
        });
        let selecting = ask.clone().option(50, &me).option(54, &server);
        let table = [
            ("discover", discover.clone(), Answer::Offer, Request::HOME),
            ("discover, broadcast flag", loud(&discover), Answer::Offer, everybody),
            ("selecting", selecting.clone(), Answer::Ack, Request::HOME),
            ("selecting, broadcast flag", loud(&selecting), Answer::Ack, everybody),
            ("init-reboot", ask.clone().option(50, &me), Answer::Ack, Request::HOME),
            ("renew", renew.clone(), Answer::Ack, Request::HOME),
            (
                "renew, sent by another station",
                renew.clone().with(|r| r.from = Mac([2, 9, 9, 9, 9, 9])),
                Answer::Ack,
                Request::HOME,
            ),
            ("rebind", renew.with(|r| (r.to, r.dst) = everybody), Answer::Ack, Request::HOME),
            (
                "padded options",
                discover.clone().with(|r| r.options.splice(3..3, [0; 9]).for_each(drop)),
                Answer::Offer,
                Request::HOME,
            ),
            ("smallest request", discover.clone().with(|r| r.padded = 0), Answer::Offer, Request::HOME),
            ("large request", discover.clone().with(|r| r.padded = 1200), Answer::Offer, Request::HOME),
        ];
        for (name, request, answer, to) in table {
            for tag in [None, Some(90), Some(0xe05a)] {
                let name = format!("{} {name}, tag {tag:?}", class.name());
                let request = request.clone().with(|r| r.tag = tag);
                rig.answers(&name, &request, answer, class, &request.reply(answer, class, to));
            }
        }
    }
    let trailing = [Request::new(DISCOVER, Class::Plain).frame(), vec![0xaa; 40]].concat();
    let request = Request::new(DISCOVER, Class::Plain);
    let (action, out, counter) = rig.counted("bytes behind the datagram", &trailing);
    assert_eq!((action, counter), (XDP_TX, "offer"));
    assert_eq!(hex(&out), hex(&request.reply(Answer::Offer, Class::Plain, Request::HOME)));
}

#[test]
fn xdp_passes_every_doubt_untouched() {
    let mut rig = Rig::new();
    let discover = || Request::new(DISCOVER, Class::Bios);
    let ask = || Request::new(REQUEST, Class::Plain);
    let other = [192, 168, 90, 99];
    let long = [7; 255];
    let listed = |archs: &[u8]| {
        Request { options: vec![53, 1, 1], ..discover() }.option(60, b"PXEClient").option(93, archs)
    };
    let table: Vec<(&str, Request, Reason)> = vec![
        ("unknown MAC", discover().with(|r| r.chaddr[5] = 99), Reason::Unknown),
        ("a list of architectures, the first not known", listed(&[0, 99, 0, 0]), Reason::OtherClass),
        ("relayed", discover().with(|r| r.giaddr = SERVER), Reason::Relayed),
        ("option 82", discover().option(82, &[1, 1, 1]), Reason::Relayed),
        ("from a relay's port", discover().with(|r| r.ports.0 = 67), Reason::Relayed),
        ("from another port", discover().with(|r| r.ports.0 = 1068), Reason::NotDhcp),
        ("to another port", discover().with(|r| r.ports.1 = 69), Reason::NotDhcp),
        ("to another host", discover().with(|r| r.dst = other.into()), Reason::NotForUs),
        ("to another interface", discover().with(|r| r.to = Mac([2, 9, 9, 9, 9, 9])), Reason::NotForUs),
        ("a reply", discover().with(|r| r.begin[0] = 2), Reason::NotRequest),
        ("not Ethernet", discover().with(|r| r.begin[1] = 6), Reason::BadHardware),
        ("hlen 255", discover().with(|r| r.begin[2] = 255), Reason::BadHardware),
        ("hlen 0", discover().with(|r| r.begin[2] = 0), Reason::BadHardware),
        ("wrong cookie", discover().with(|r| r.cookie[3] = 98), Reason::BadCookie),
        ("option 52", discover().option(52, &[1]), Reason::Overload),
        ("an option twice", discover().option(61, &[1, 2]).option(61, &[3, 4]), Reason::RepeatedOption),
        (
            "option past the end",
            discover().with(|r| {
                r.padded = 0;
                r.options.extend([12, 200]);
            }),
            Reason::BadOptions,
        ),
        ("empty 53", Request { options: vec![53, 0], ..discover() }, Reason::BadOptionLength),
        ("empty 50", discover().option(50, &[]), Reason::BadOptionLength),
        ("empty 54", discover().option(54, &[]), Reason::BadOptionLength),
        ("empty 61", discover().option(61, &[]), Reason::BadOptionLength),
        ("empty 97", ask().option(97, &[]), Reason::BadOptionLength),
        ("empty 60", ask().option(60, &[]), Reason::BadOptionLength),
        ("empty 93", ask().option(93, &[]), Reason::BadOptionLength),
        ("long 57", ask().option(57, &[0, 0, 5]), Reason::BadOptionLength),
        (
            "client takes too little",
            ask().option(50, &BLADE_ADDR.octets()).option(57, &[1, 0]),
            Reason::TooSmall,
        ),
        ("long echo", ask().option(50, &BLADE_ADDR.octets()).option(97, &long), Reason::LongEcho),
        (
            "two long echoes",
            Request { options: vec![53, 1, 1], ..discover() }.option(61, &long).option(97, &long),
            Reason::LongEcho,
        ),
        ("too many options", discover().with(|r| r.padded = 240 + 1025), Reason::LongRequest),
        ("inform", Request::new(INFORM, Class::Plain), Reason::MessageType),
        ("release", Request::new(RELEASE, Class::Plain), Reason::MessageType),
        ("other server", ask().option(50, &BLADE_ADDR.octets()).option(54, &other), Reason::OtherServer),
        ("other address", ask().option(50, &other), Reason::WrongAddress),
        ("renews another address", ask().with(|r| r.ciaddr = other.into()), Reason::WrongAddress),
        ("no address", ask(), Reason::OddRequest),
    ];
    for (name, request, reason) in table {
        for tag in [None, Some(90)] {
            rig.passes(
                &format!("{name}, tag {tag:?}"),
                &request.clone().with(|r| r.tag = tag).frame(),
                reason,
            );
        }
    }
    for class in Class::ALL.iter().filter(|class| !class.in_kernel()) {
        rig.passes(class.name(), &Request::new(DISCOVER, *class).frame(), Reason::OtherClass);
    }
    for message in [0, 4, 7, 9, 255] {
        rig.passes("message type", &Request::new(message, Class::Ipxe).frame(), Reason::MessageType);
    }
    rig.passes("no message type", &Request { options: vec![], ..discover() }.frame(), Reason::MessageType);

    let frames: [(&str, Change, Reason); 9] = [
        ("IPv6", |f| f[12..14].copy_from_slice(&[0x86, 0xdd]), Reason::NotDhcp),
        ("ARP", |f| f[12..14].copy_from_slice(&[8, 6]), Reason::NotDhcp),
        (
            "two tags",
            |f| {
                f.splice(12..12, [0x81, 0, 0, 1, 0x81, 0, 0, 2]).for_each(drop);
            },
            Reason::NotDhcp,
        ),
        ("TCP", |f| f[23] = 6, Reason::NotDhcp),
        ("IP options", |f| f[14] = 0x46, Reason::OddIp),
        ("fragment", |f| f[20] = 0x20, Reason::OddIp),
        ("damaged IP header", |f| f[24] ^= 1, Reason::OddIp),
        ("UDP longer than IP", |f| f[39] += 1, Reason::BadLength),
        ("UDP shorter than IP", |f| f[39] -= 1, Reason::BadLength),
    ];
    for (name, change, reason) in frames {
        let mut frame = discover().frame();
        change(&mut frame);
        rig.passes(name, &frame, reason);
    }
    assert!(rig.run(&discover().frame()).0 == XDP_TX, "the packet that all of them were made from");
}

#[test]
fn xdp_passes_what_the_daemon_alone_answers() {
    let mut rig = Rig::new();
    let discover = || Request::new(DISCOVER, Class::Bios);
    let ask = || Request::new(REQUEST, Class::Plain);
    let table = [
        ("option 118", discover().option(118, &[192, 168, 90, 0]), Reason::SubnetSelection),
        (
            "empty option 118",
            ask().option(50, &BLADE_ADDR.octets()).option(118, &[]),
            Reason::SubnetSelection,
        ),
        ("BOOTP", Request { options: vec![], ..discover() }, Reason::MessageType),
        (
            "BOOTP without a cookie",
            Request { options: vec![], cookie: [0; 4], ..discover() },
            Reason::BadCookie,
        ),
    ];
    for (name, request, reason) in table {
        rig.passes(name, &request.frame(), reason);
    }
    let rapid = discover().option(80, &[]);
    let offer = |request: &Request| request.reply(Answer::Offer, Class::Bios, Request::HOME);
    rig.answers("option 80 where it is off", &rapid, Answer::Offer, Class::Bios, &offer(&rapid));
    let mut rig = Rig::with(&snapshot(), &Subnet { rapid_commit: true, ..subnet() });
    rig.passes("option 80", &rapid.frame(), Reason::RapidCommit);
    rig.answers("no option 80", &discover(), Answer::Offer, Class::Bios, &offer(&discover()));
    let chosen = Request::new(REQUEST, Class::Bios).option(50, &BLADE_ADDR.octets()).option(80, &[]);
    let ack = chosen.reply(Answer::Ack, Class::Bios, Request::HOME);
    rig.answers("option 80 in a REQUEST", &chosen, Answer::Ack, Class::Bios, &ack);
}

#[test]
fn xdp_passes_a_packet_cut_anywhere() {
    let mut rig = Rig::new();
    for tag in [None, Some(90)] {
        let request = Request::new(DISCOVER, Class::Ipxe).with(|r| r.tag = tag);
        let (frame, data) = (request.frame(), request.payload());
        for length in 14..frame.len() {
            let (action, out) = rig.run(&frame[..length]);
            assert_eq!((action, out.as_slice()), (XDP_PASS, &frame[..length]), "frame cut to {length}");
        }
        // The same with lengths and checksums that say it is whole.
        for length in 0..data.len() {
            let cut = request.frame_of(&data[..length]);
            let reason = if length < 240 { Reason::Truncated } else { Reason::BadOptions };
            rig.passes(&format!("data cut to {length}"), &cut, reason);
        }
    }
}

#[test]
fn xdp_is_silent_without_a_heartbeat() {
    let mut rig = Rig::new();
    let discover = Request::new(DISCOVER, Class::Plain);
    let reply = discover.reply(Answer::Offer, Class::Plain, Request::HOME);
    rig.answers("beating", &discover, Answer::Offer, Class::Plain, &reply);
    rig.beat(Duration::ZERO);
    rig.passes("no heartbeat", &discover.frame(), Reason::Stale);
    rig.beat(monotonic().saturating_sub(GRACE + Duration::from_millis(1)));
    rig.passes("stale heartbeat", &discover.frame(), Reason::Stale);
    rig.beat(monotonic().saturating_sub(GRACE / 2));
    rig.answers("beating again", &discover, Answer::Offer, Class::Plain, &reply);
}

#[test]
fn xdp_follows_the_snapshot() {
    let mut rig = Rig::new();
    let discover = Request::new(DISCOVER, Class::Plain);
    let (mut held, _) = entries::build(&snapshot(), &subnet());
    apply(&mut rig.loaded, &mut held, Entries::new()).unwrap();
    rig.passes("reservation gone", &discover.frame(), Reason::Unknown);
    // The whole map, and no more.
    let (entries, _) = entries::build(&snapshot(), &subnet());
    let entry = entries.values().next().unwrap();
    let many = (0..=abi::REPLIES_CAPACITY).map(|number| {
        let [a, b, c, d] = number.to_be_bytes();
        (entries::key(Mac([2, 0, a, b, c, d]), Class::Plain), entry.clone())
    });
    let many: Entries = many.collect();
    let error = apply(&mut rig.loaded, &mut held, many).unwrap_err();
    assert!(error.to_string().contains("REPLIES"), "{error}");
    assert_eq!(held.len(), usize::try_from(abi::REPLIES_CAPACITY).unwrap());
}

#[test]
fn xdp_counts_events_that_nobody_reads() {
    let mut rig = Rig::new();
    let discover = Request::new(DISCOVER, Class::Plain).frame();
    let mut lost = 0;
    for _ in 0..20_000 {
        assert_eq!(rig.run(&discover).0, XDP_TX, "it answers all the same");
        lost = loader::count(&rig.counters, abi::EVENTS_LOST).unwrap();
        if lost > 0 {
            break;
        }
    }
    assert_eq!(lost, 1);
}

#[test]
fn xdp_is_cheap_to_run() {
    let mut rig = Rig::new();
    let request = Request::new(DISCOVER, Class::Bios).frame();
    let mut least = Duration::MAX;
    for _ in 0..2_000 {
        let options = TestRunOptions { data_in: Some(&request), ..TestRunOptions::default() };
        least = least.min(rig.loaded.program().unwrap().test_run(options).unwrap().duration);
        while rig.events.next().is_some() {}
    }
    println!("one answer, with the clock around it: {least:?}");
    // Ten times what was measured, for machines differ.
    assert!(least < Duration::from_micros(4), "{least:?}");
}
