//! The program on made packets: a table of {name, packet in, answer or pass}.

use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions};
use netboot::dhcp::options::Subnet;
use netboot::fastpath::entries::{Entries, Machine, Name};
use netboot::fastpath::loader;
use netboot::fastpath::sync::apply;
use netboot::mac::Mac;
use netboot_ebpf::abi::{self, Event, what};
use netboot_ebpf::verdict::message::{DISCOVER, INFORM, RELEASE, REQUEST};
use netboot_ebpf::{Answer, Class, Reason};

use super::packets::{Request, SERVER_MAC};
use super::rig::{GRACE, Rig, XDP_PASS, XDP_TX, hex, monotonic};
use super::{BLADE, BLADE_ADDR, SERVER, snapshot, subnet};

/// What is done to a frame.
type Change = fn(&mut Vec<u8>);

impl Rig {
    pub(super) fn answers(
        &mut self,
        name: &str,
        request: &Request,
        answer: Answer,
        class: Class,
        expected: &[u8],
    ) {
        let (action, out, counter) = self.counted(name, &request.frame());
        assert_eq!(counter, if answer == Answer::Offer { "offer" } else { "ack" }, "{name}");
        assert_eq!(action, XDP_TX, "{name}");
        assert_eq!(hex(&out), hex(expected), "{name}");
        let event = self.event().unwrap_or_else(|| panic!("{name}: no event"));
        let told = Event {
            at_ns: event.at_ns,
            addr: BLADE_ADDR.to_bits(),
            xid: 0xdead_beef,
            giaddr: request.giaddr.to_bits(),
            mac: BLADE.0,
            class: class as u8,
            what: what::ANSWERED,
            detail: answer as u8,
            pad: [0; 3],
        };
        assert_eq!(event, told, "{name}");
        let now = u64::try_from(monotonic().as_nanos()).unwrap();
        assert!(event.at_ns <= now && now - event.at_ns < 10_000_000_000, "{name}: told at {}", event.at_ns);
    }

    pub(super) fn passes(&mut self, name: &str, packet: &[u8], reason: Reason) {
        let (action, out, counter) = self.counted(name, packet);
        assert_eq!(counter, reason.name(), "{name}");
        assert_eq!(action, XDP_PASS, "{name}");
        assert_eq!(out, packet, "{name}: the packet was touched");
        // It is told once in a while, and never as an answer.
        assert!(self.event().is_none_or(|event| event.what != what::ANSWERED), "{name}: told as an answer");
    }
}

#[test]
fn xdp_answers_what_the_daemon_would() {
    let mut rig = Rig::new();
    let (me, server) = (BLADE_ADDR.octets(), SERVER.octets());
    for class in Class::ALL.iter().copied() {
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
            // Without a tag, and with one that says a priority alone.
            for tags in [vec![], vec![0xe000]] {
                let name = format!("{} {name}, tags {tags:?}", class.name());
                let request = request.clone().with(|r| r.tags = tags);
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
        ("nobody's relay agent", discover().with(|r| r.giaddr = [10, 9, 0, 1].into()), Reason::UnknownSubnet),
        ("link selection", discover().option(82, &[5, 4, 192, 168, 90, 0]), Reason::AgentDecides),
        (
            "server identifier override",
            discover().option(82, &[1, 1, 7, 11, 4, 1, 2, 3, 4]),
            Reason::AgentDecides,
        ),
        ("an agent that cannot be read", discover().option(82, &[1, 9, 7]), Reason::BadOptions),
        ("empty option 82", discover().option(82, &[]), Reason::BadOptionLength),
        ("an offer sent to a client", discover().with(|r| r.ports = (67, 68)), Reason::NotDhcp),
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
        for tags in [vec![], vec![0]] {
            let name = format!("{name}, tags {tags:?}");
            rig.passes(&name, &request.clone().with(|r| r.tags = tags).frame(), reason);
        }
    }
    for message in [0, 4, 7, 9, 255] {
        rig.passes("message type", &Request::new(message, Class::Ipxe).frame(), Reason::MessageType);
    }
    rig.passes("no message type", &Request { options: vec![], ..discover() }.frame(), Reason::MessageType);

    let frames: [(&str, Change, Reason); 9] = [
        ("IPv6", |f| f[12..14].copy_from_slice(&[0x86, 0xdd]), Reason::NotDhcp),
        ("ARP", |f| f[12..14].copy_from_slice(&[8, 6]), Reason::NotDhcp),
        (
            "three tags",
            |f| {
                f.splice(12..12, [0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3]).for_each(drop);
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
    for tags in [vec![], vec![0]] {
        let request = Request::new(DISCOVER, Class::Ipxe).with(|r| r.tags = tags);
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
    // The program's clock is that of the last tick.
    rig.beat(monotonic().saturating_sub(GRACE + Duration::from_millis(20)));
    rig.passes("stale heartbeat", &discover.frame(), Reason::Stale);
    rig.beat(monotonic().saturating_sub(GRACE / 2));
    rig.answers("beating again", &discover, Answer::Offer, Class::Plain, &reply);
}

#[test]
fn xdp_follows_the_snapshot() {
    let mut rig = Rig::new();
    let discover = Request::new(DISCOVER, Class::Plain);
    apply(&mut rig.loaded, &mut rig.held, &Entries::default()).unwrap();
    rig.passes("reservation gone", &discover.frame(), Reason::Unknown);
    // The whole map, and no more.
    let machine = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        let name = Name { len: 0, bytes: [0; abi::NAME_MAX] };
        Machine { mac: Mac([2, 0, a, b, c, d]), addr: number.into(), group: 0, name, valid_until_ns: 0 }
    };
    let many =
        Entries { groups: vec![], pool: vec![], machines: (0..=abi::HOSTS_CAPACITY).map(machine).collect() };
    let error = apply(&mut rig.loaded, &mut rig.held, &many).unwrap_err();
    assert!(error.to_string().contains("HOSTS"), "{error}");
    assert_eq!(rig.held.len(), usize::try_from(abi::HOSTS_CAPACITY).unwrap());
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

/// The shortest of many runs on a packet.
fn least(rig: &mut Rig, packet: &[u8]) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..5_000 {
        rig.beat(monotonic());
        let options = TestRunOptions { data_in: Some(packet), ..TestRunOptions::default() };
        least = least.min(rig.loaded.program().unwrap().test_run(options).unwrap().duration);
        while rig.event().is_some() {}
    }
    least
}

#[test]
fn xdp_is_cheap_to_run() {
    let mut rig = Rig::new();
    let discover = |class| Request::new(DISCOVER, class);
    let other = discover(Class::Bios).with(|r| r.ports.1 = 69).frame();
    let unknown = discover(Class::Bios).with(|r| r.chaddr[5] = 99).frame();
    let nothing = least(&mut rig, &other);
    let miss = least(&mut rig, &unknown);
    let replies = [Class::Plain, Class::Bios, Class::Efi64, Class::Ipxe]
        .map(|class| (class.name(), least(&mut rig, &discover(class).frame())));
    println!("with the clock around it: other traffic {nothing:?}, a miss {miss:?}, replies {replies:?}");
    // Ten times what was measured, for machines differ.
    assert!(replies.iter().all(|(_, reply)| *reply < Duration::from_micros(4)), "{replies:?}");
}
