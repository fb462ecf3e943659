//! The program on requests that come by another road: relay agents, routers, VLANs; its limits, leases, other servers,
//! and copies of what it answers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use netboot::config;
use netboot::dhcp::options::Subnet;
use netboot::fastpath::entries::Site;
use netboot::inventory::{Host, Snapshot};
use netboot::mac::Mac;
use netboot_ebpf::abi::what;
use netboot_ebpf::guard::Limits;
use netboot_ebpf::verdict::message::{DISCOVER, REQUEST};
use netboot_ebpf::{Answer, Class, Reason};

use super::packets::{Request, SERVER_MAC, frame};
use super::rig::{Rig, XDP_DROP, XDP_TX, hex};
use super::{BLADE, SERVER, blade, site, snapshot, subnet};

const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 9]);
const FAR: Mac = Mac([0x52, 0x54, 0, 0, 0, 77]);
const FAR_ADDR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 77);
const AGENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// A machine behind a relay agent.
fn far() -> Host {
    Host { mac: FAR, addr: FAR_ADDR, hostname: "far77".to_owned(), ..blade() }
}

/// The sample subnet, and two behind relay agents.
fn two_sites() -> Site {
    let data = tempfile::tempdir().unwrap();
    let text = r#"{ "dhcp": { "subnets": [ { "prefix": "10.1.0.0/16", "lease_secs": 300, "domain": "far.example" },
        { "prefix": "10.2.0.0/16", "relay": "192.168.90.9" } ] } }"#;
    std::fs::write(data.path().join(config::FILE), text).unwrap();
    let settings = config::resolve(data.path(), config::Given::default()).unwrap().dhcp;
    Site::new(&subnet(), &settings)
}

fn relayed(message: u8, class: Class, agent: Ipv4Addr) -> Request {
    Request::new(message, class).with(|r| {
        (r.giaddr, r.src, r.dst) = (agent, agent, SERVER);
        (r.from, r.to, r.ports.0) = (ROUTER, SERVER_MAC, 67);
    })
}

fn of_far(request: Request) -> Request {
    request.with(|r| r.chaddr[..6].copy_from_slice(&FAR.0))
}

impl Rig {
    fn answers_with(&mut self, name: &str, request: &Request, expected: &[u8]) {
        let (action, out, _) = self.counted(name, &request.frame());
        assert_eq!((action, hex(&out)), (XDP_TX, hex(expected)), "{name}");
        while self.event().is_some() {}
    }
}

#[test]
fn xdp_answers_relay_agents_and_routers_as_the_daemon_would() {
    let hosts = snapshot().hosts().cloned().chain([far()]).collect();
    let site = two_sites();
    let mut rig = Rig::on(&Snapshot::new(BTreeMap::new(), hosts), &site, |_| {});
    let there: &Subnet = &site.subnets[1];
    for class in Class::ALL.iter().copied() {
        for agent_info in [&[][..], &[1, 4, 0, 1, 0, 7, 2, 6, 1, 2, 3, 4, 5, 6]] {
            let with = |request: Request| {
                if agent_info.is_empty() { request } else { request.option(82, agent_info) }
            };
            let name = |what: &str| format!("{} {what}, option 82 of {}", class.name(), agent_info.len());
            let ask = || of_far(relayed(REQUEST, class, AGENT)).option(50, &FAR_ADDR.octets());
            let back = (ROUTER, AGENT, 67);
            for (what, request, answer) in [
                ("discover", with(of_far(relayed(DISCOVER, class, AGENT))), Answer::Offer),
                ("selecting", with(ask().option(54, &SERVER.octets())), Answer::Ack),
                (
                    "selecting, loud",
                    with(ask().option(54, &SERVER.octets())).with(|r| r.flags = 0x8000),
                    Answer::Ack,
                ),
                ("from the client's port", with(ask()).with(|r| r.ports.0 = 68), Answer::Ack),
            ] {
                let expected = request.reply_of(there, &far(), answer, class, back);
                rig.answers_with(&name(what), &request, &expected);
            }
            // A switch that adds option 82 and relays nothing.
            let request = with(Request::new(DISCOVER, class));
            let expected = request.reply(Answer::Offer, class, Request::HOME);
            rig.answers_with(&name("switch"), &request, &expected);
            // A relay agent on the link itself.
            let near = Ipv4Addr::new(192, 168, 90, 1);
            let request = with(relayed(DISCOVER, class, near));
            let expected = request.reply_of(&subnet(), &blade(), Answer::Offer, class, (ROUTER, near, 67));
            rig.answers_with(&name("near"), &request, &expected);
            // It renews through the router, without the agent.
            let renew = of_far(Request::new(REQUEST, class)).with(|r| {
                (r.ciaddr, r.src, r.dst) = (FAR_ADDR, FAR_ADDR, SERVER);
                (r.from, r.to) = (ROUTER, SERVER_MAC);
            });
            let expected = renew.reply_of(there, &far(), Answer::Ack, class, (ROUTER, FAR_ADDR, 68));
            rig.answers_with(&name("renew"), &renew, &expected);
        }
    }
    let table = [
        ("another subnet's agent", of_far(relayed(DISCOVER, Class::Bios, [10, 2, 0, 1].into()))),
        ("an agent by its own address", of_far(relayed(DISCOVER, Class::Bios, [192, 168, 90, 9].into()))),
        ("nobody's agent", of_far(relayed(DISCOVER, Class::Bios, [10, 9, 0, 1].into()))),
        ("a near machine by a far agent", relayed(DISCOVER, Class::Bios, AGENT)),
        (
            "a near machine by an agent of another subnet",
            relayed(DISCOVER, Class::Bios, [192, 168, 90, 9].into()),
        ),
        ("a far machine on the link", of_far(Request::new(DISCOVER, Class::Bios))),
    ];
    for (name, request) in table {
        rig.passes(name, &request.frame(), Reason::UnknownSubnet);
    }
    let elsewhere = of_far(Request::new(DISCOVER, Class::Bios)).with(|r| {
        (r.ciaddr, r.dst, r.to) = ([10, 1, 0, 99].into(), SERVER, SERVER_MAC);
    });
    rig.passes("another's address", &elsewhere.frame(), Reason::WrongAddress);
}

#[test]
fn xdp_answers_the_vlan_of_the_network_and_no_other() {
    let other_vlan = Reason::OtherVlan;
    for (tags, vlan, own, others) in [
        (
            0,
            [0, 0],
            vec![vec![], vec![0], vec![0xe000]],
            vec![vec![90], vec![0, 90], vec![90, 0], vec![100, 90]],
        ),
        (
            1,
            [90, 0],
            vec![vec![90], vec![0xe05a]],
            vec![vec![], vec![0], vec![91], vec![90, 90], vec![100, 90]],
        ),
        (
            2,
            [100, 90],
            vec![vec![100, 90], vec![0xe064, 0x205a]],
            vec![vec![], vec![90], vec![100], vec![90, 100], vec![100, 91]],
        ),
    ] {
        let mut rig = Rig::on(&snapshot(), &site(), |server| (server.tags, server.vlan) = (tags, vlan));
        for class in Class::ALL.iter().copied() {
            for padded in [0, 1200] {
                for tags in &own {
                    let request =
                        Request::new(DISCOVER, class).with(|r| (r.tags, r.padded) = (tags.clone(), padded));
                    let reply = request.reply(Answer::Offer, class, Request::HOME);
                    rig.answers(&format!("{tags:?}"), &request, Answer::Offer, class, &reply);
                }
            }
        }
        for tags in others {
            let request = Request::new(DISCOVER, Class::Bios).with(|r| r.tags = tags.clone());
            rig.passes(&format!("{tags:?} of {vlan:?}"), &request.frame(), other_vlan);
            let other = request.with(|r| r.ports.1 = 69);
            rig.passes("not DHCP", &other.frame(), Reason::NotDhcp);
        }
    }
    // Two tags of the old kind, 802.1Q in 802.1Q.
    let mut rig = Rig::on(&snapshot(), &site(), |server| (server.tags, server.vlan) = (2, [100, 90]));
    let request = Request::new(DISCOVER, Class::Bios).with(|r| r.tags = vec![100, 90]);
    let old = |mut frame: Vec<u8>, kind: [u8; 2]| {
        frame[12..14].copy_from_slice(&kind);
        frame
    };
    for kind in [[0x81, 0], [0x91, 0]] {
        let (action, out, _) = rig.counted("old tags", &old(request.frame(), kind));
        let expected = old(request.reply(Answer::Offer, Class::Bios, Request::HOME), kind);
        assert_eq!((action, hex(&out)), (XDP_TX, hex(&expected)));
    }
}

#[test]
fn xdp_drops_what_the_operator_has_limited_and_nothing_else() {
    let limits = Limits { mac_rate: 5, relay_rate: 8, burst_secs: 1, duplicate_ms: 0 };
    let mut rig = Rig::on(&snapshot(), &site(), |server| server.limits = limits);
    let discover = Request::new(DISCOVER, Class::Bios);
    let run = |rig: &mut Rig, request: &Request, times: usize| -> Vec<&'static str> {
        (0..times)
            .map(|_| {
                let (action, out, counter) = rig.counted("limited", &request.frame());
                if action == XDP_DROP {
                    assert_eq!(out, request.frame(), "what is dropped is not changed");
                }
                counter
            })
            .collect()
    };
    let met = run(&mut rig, &discover, 20);
    let answered = met.iter().filter(|name| **name == "offer").count();
    assert!((5..8).contains(&answered) && met[5..].contains(&"mac-rate"), "{met:?}");
    // Another machine has a bucket of its own, known or not.
    let stranger = |last: u8| Request::new(DISCOVER, Class::Bios).with(|r| r.chaddr[5] = last);
    assert_eq!(run(&mut rig, &stranger(99), 3), ["unknown-mac"; 3]);
    // An agent's requests are counted together, whoever they are of.
    let agent = Ipv4Addr::new(192, 168, 90, 1);
    let brought: Vec<_> = (100..120)
        .flat_map(|last| {
            let request = relayed(DISCOVER, Class::Bios, agent).with(|r| r.chaddr[5] = last);
            run(&mut rig, &request, 1)
        })
        .collect();
    let through = brought.iter().filter(|name| **name == "unknown-mac").count();
    assert!((8..12).contains(&through) && brought.contains(&"relay-rate"), "{brought:?}");
    let told = std::iter::from_fn(|| rig.event()).filter(|event| event.what == what::DROPPED).count();
    assert!(told >= 1, "the daemon hears of it");

    // The same packet again; one with another transaction is another.
    let limits = Limits { duplicate_ms: 10_000, ..Limits::default() };
    let mut rig = Rig::on(&snapshot(), &site(), |server| server.limits = limits);
    assert_eq!(run(&mut rig, &discover, 3), ["offer", "duplicate", "duplicate"]);
    let again = discover.clone().option(12, b"x");
    assert_eq!(run(&mut rig, &again, 2), ["offer", "duplicate"]);

    let mut rig = Rig::new();
    assert_eq!(run(&mut rig, &discover, 50), ["offer"; 50], "nothing is limited that nobody has limited");
}

#[test]
fn xdp_hears_another_server_and_leaves_its_words_alone() {
    let rival = Ipv4Addr::new(192, 168, 90, 66);
    let offer = |from: Ipv4Addr, giaddr: [u8; 4], op: u8| {
        let mut payload = Request::new(2, Class::Plain).payload();
        payload[0] = op;
        payload[24..28].copy_from_slice(&giaddr);
        frame(Mac::BROADCAST, ROUTER, &[], (from, 67), (Ipv4Addr::BROADCAST, 68), &payload)
    };
    let mut rig = Rig::new();
    rig.passes("another server", &offer(rival, [0; 4], 2), Reason::ForeignServer);
    let mut rig = Rig::new();
    for _ in 0..20 {
        assert_eq!(rig.counted("another server", &offer(rival, [0; 4], 2)).2, "foreign-server");
    }
    let event = rig.event().unwrap();
    assert_eq!((event.what, event.addr, event.mac), (what::FOREIGN, rival.to_bits(), ROUTER.0));
    assert!(rig.event().is_none(), "told once in a while");
    for (name, frame) in [
        ("this server's own", offer(SERVER, [0; 4], 2)),
        ("brought by a relay agent", offer(rival, [10, 0, 0, 1], 2)),
        ("no reply", offer(rival, [0; 4], 1)),
        ("cut", offer(rival, [0; 4], 2)[..200].to_vec()),
    ] {
        rig.passes(name, &frame, Reason::NotDhcp);
    }
    assert!(rig.event().is_none());
}

#[test]
fn xdp_tells_of_passes_once_in_a_while() {
    let mut rig = Rig::new();
    let other = Request::new(REQUEST, Class::Plain).option(50, &[192, 168, 90, 99]);
    for _ in 0..50 {
        assert_eq!(rig.counted("other address", &other.frame()).2, "wrong-address");
    }
    let event = rig.event().unwrap();
    assert_eq!((event.what, event.detail, event.mac), (what::PASSED, Reason::WrongAddress as u8, BLADE.0));
    assert_eq!(event.xid, 0xdead_beef);
    assert!(rig.event().is_none(), "once in a second and CPU");
    // Strangers are told by the daemon, which answers them.
    rig.passes(
        "unknown",
        &Request::new(DISCOVER, Class::Bios).with(|r| r.chaddr[5] = 9).frame(),
        Reason::Unknown,
    );
    assert!(rig.event().is_none());
}

#[test]
fn xdp_copies_what_it_answers_for_who_wants_to_see() {
    let mut rig = Rig::new();
    let request = Request::new(DISCOVER, Class::Efi64).with(|r| r.padded = 1200);
    rig.counted("nobody looks", &request.frame());
    assert!(rig.captured().is_none());
    rig.capture_for(std::time::Duration::from_mins(1));
    let (_, out, _) = rig.counted("somebody looks", &request.frame());
    for (sent, frame) in [(0, &request.frame()), (1, &out)] {
        let (captured, bytes) = rig.captured().unwrap();
        assert_eq!((captured.sent, hex(&bytes)), (sent, hex(frame)));
    }
    rig.counted("passed", &Request::new(DISCOVER, Class::Bios).with(|r| r.chaddr[5] = 9).frame());
    assert!(rig.captured().is_none(), "what is passed up others see");
    // Nobody reads: it is counted, and answered all the same.
    let mut lost = 0;
    for _ in 0..2000 {
        assert_eq!(rig.run(&request.frame()).0, XDP_TX);
        lost = netboot::fastpath::loader::count(&rig.counters, netboot_ebpf::abi::CAPTURED_LOST).unwrap();
        if lost > 0 {
            break;
        }
    }
    assert!(lost > 0);
}
