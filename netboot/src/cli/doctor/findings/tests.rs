use std::net::Ipv4Addr;

use super::super::facts::{Clock, Data, Disk, Facts, Heard, Interface, Port, PortState, Usable, Wire};
use super::{Finding, State, all};
use crate::config::{Engine, Mode, Xdp};
use crate::net::offload::Rxvlan;

mod attach;

/// A network card on a machine on which nothing is wrong.
fn usable() -> Usable {
    Usable {
        name: "eth1".to_owned(),
        addr: [192, 168, 90, 2].into(),
        prefix: 24,
        mtu: 1500,
        kind: None,
        master: None,
        carrier: true,
        vlans: Vec::new(),
        xdp: false,
        left: false,
        rxvlan: Some(Rxvlan { on: true, fixed: false }),
    }
}

fn healthy() -> Facts {
    Facts {
        mode: Mode::Full,
        xdp: Xdp::Auto,
        engine: Engine::Auto,
        relays: false,
        interface: Interface::Usable(usable()),
        trunk: None,
        lacking: Vec::new(),
        running: false,
        running_xdp: None,
        heard: Vec::new(),
        kernel: "6.18.0".to_owned(),
        program: Ok(()),
        pinning: Ok(true),
        ports: vec![port(PortState::Free)],
        wire: Wire::Heard(Vec::new(), 5),
        rp_filter: Some(1),
        rmem_max: Some(212_992),
        gc_thresh3: Some(1024),
        hosts: 30,
        bridge_filtered: Some(1),
        no_uring: None,
        clock: Clock { now: 1_800_000_000, leases_written: Some(1_799_999_999), synchronised: Some(true) },
        disk: Ok(disk()),
        data: Data { directory: "./data".to_owned(), errors: 0, warnings: 0, unseen: 0 },
    }
}

fn port(state: PortState) -> Port {
    Port { name: "67/udp".to_owned(), purpose: "DHCP", state }
}

fn disk() -> Disk {
    Disk { place: "/srv".to_owned(), free_bytes: 1 << 30, free_inodes: None, read_only: false }
}

/// What is found when one thing differs.
fn found(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = healthy();
    change(&mut facts);
    all(&facts)
}

fn on(change: impl FnOnce(&mut Usable)) -> impl FnOnce(&mut Facts) {
    |facts| {
        let mut usable = usable();
        change(&mut usable);
        facts.interface = Interface::Usable(usable);
    }
}

#[test]
fn nothing_is_wrong_with_a_healthy_machine() {
    let findings = all(&healthy());
    assert!(
        findings.iter().all(|finding| finding.state == State::Ok && finding.fix.is_none()),
        "{findings:#?}"
    );
    let wanted = [
        "data",
        "interface",
        "capabilities",
        "kernel",
        "xdp",
        "bpffs",
        "rxvlan",
        "mtu",
        "port",
        "other-dhcp",
        "rp_filter",
        "buffers",
        "gc_thresh",
        "io_uring",
        "clock",
        "disk",
    ];
    assert_eq!(findings.iter().map(|finding| finding.check).collect::<Vec<_>>(), wanted);
    assert!(findings[4].message.contains("native is tried"));
}

/// One thing that differs, and the line that it makes.
type Row = (&'static str, State, &'static str, &'static str, Vec<Finding>);

fn hold(rows: Vec<Row>) {
    for (check, state, message, fix, findings) in rows {
        let fits = |finding: &&Finding| {
            let fixed = finding.fix.as_deref().unwrap_or_default();
            finding.check == check
                && finding.state == state
                && finding.message.contains(message)
                && if fix.is_empty() { fixed.is_empty() } else { fixed.contains(fix) }
        };
        assert!(findings.iter().any(|finding| fits(&finding)), "{check} {message}: {findings:#?}");
        let others = findings.iter().filter(|finding| finding.check != check && finding.state > state);
        assert_eq!(others.count(), 0, "{check} {message}: {findings:#?}");
    }
}

#[test]
fn what_is_wrong_is_said_with_the_command_that_mends_it() {
    let them = || vec![Ipv4Addr::new(192, 168, 90, 3)];
    let rows: Vec<Row> = vec![
        ("data", State::Wrong, "errors in ./data: 2", "netboot check ./data", found(|f| f.data.errors = 2)),
        (
            "interface",
            State::Wrong,
            "no interface is named",
            "--interface",
            found(|f| f.interface = Interface::Unnamed),
        ),
        (
            "interface",
            State::Wrong,
            "eth1 is down",
            "ip link set eth1 up",
            found(|f| {
                f.interface = Interface::Missing("interface eth1 is down: ip link set eth1 up".to_owned());
            }),
        ),
        (
            "interface",
            State::Wrong,
            "end of its cable",
            "ip -s link show eth1",
            found(on(|u| u.carrier = false)),
        ),
        (
            "master",
            State::Wrong,
            "a part of br0 (bridge)",
            "--interface br0",
            found(on(|u| {
                u.master = Some(("br0".to_owned(), "bridge".to_owned()));
            })),
        ),
        (
            "xdp",
            State::Wrong,
            "its replies are lost",
            "auto",
            found(|f| {
                f.xdp = Xdp::Native;
                on(|u| u.kind = Some("veth".to_owned()))(f);
            }),
        ),
        ("mtu", State::Wrong, "MTU of 500", "mtu 1500", found(on(|u| u.mtu = 500))),
        (
            "port",
            State::Wrong,
            "67/udp (DHCP) is taken by dnsmasq (pid 7)",
            "systemctl stop dnsmasq, or kill 7",
            found(|f| {
                f.ports = vec![port(PortState::Taken("dnsmasq".to_owned(), 7))];
            }),
        ),
        (
            "port",
            State::Wrong,
            "cannot be seen",
            "ss -lnp",
            found(|f| f.ports = vec![port(PortState::TakenUnseen)]),
        ),
        ("other-dhcp", State::Wrong, "192.168.90.3", "proxy", found(|f| f.wire = Wire::Heard(them(), 5))),
        (
            "io_uring",
            State::Wrong,
            "EPERM",
            "kernel.io_uring_disabled=0",
            found(|f| {
                (f.no_uring, f.engine) = (Some("EPERM".to_owned()), Engine::Uring);
            }),
        ),
        ("clock", State::Wrong, "years behind", "set-ntp", found(|f| f.clock.now = 1_000_000)),
    ];
    hold(rows);
}

#[test]
fn leases_need_a_place_that_can_be_written() {
    let rows: Vec<Row> = vec![
        (
            "disk",
            State::Wrong,
            "/srv has 15 MiB free",
            "df -h /srv",
            found(|f| {
                f.disk = Ok(Disk { free_bytes: (16 << 20) - 1, ..disk() });
            }),
        ),
        (
            "disk",
            State::Wrong,
            "room for 3 more files",
            "df -i /srv",
            found(|f| {
                f.disk = Ok(Disk { free_inodes: Some(3), ..disk() });
            }),
        ),
        (
            "disk",
            State::Wrong,
            "read-only",
            "remount,rw",
            found(|f| f.disk = Ok(Disk { read_only: true, ..disk() })),
        ),
        ("disk", State::Wrong, "EIO", "", found(|f| f.disk = Err("EIO".to_owned()))),
    ];
    hold(rows);
}

#[test]
fn what_may_go_wrong_is_a_warning() {
    let rows: Vec<Row> = vec![
        ("data", State::Warning, "warnings about ./data: 1", "netboot check", found(|f| f.data.warnings = 1)),
        (
            "kernel",
            State::Warning,
            "refused; the daemon answers",
            "5.18",
            found(|f| f.program = Err("refused".to_owned())),
        ),
        (
            "xdp",
            State::Warning,
            "another XDP program",
            "ip link set dev eth1 xdp off",
            found(on(|u| u.xdp = true)),
        ),
        (
            "bpffs",
            State::Warning,
            "no BPF file system; a replacement",
            "mount -t bpf bpf /sys/fs/bpf",
            found(|f| f.pinning = Err("no BPF file system: mount -t bpf bpf /sys/fs/bpf".to_owned())),
        ),
        (
            "xdp",
            State::Warning,
            "off (no rights)",
            "",
            found(|f| f.running_xdp = Some("off (no rights)".to_owned())),
        ),
        ("mtu", State::Warning, "1400", "mtu 1500", found(on(|u| u.mtu = 1400))),
        (
            "other-dhcp",
            State::Warning,
            "it is the one that has the addresses",
            "full",
            found(|f| f.mode = Mode::Proxy),
        ),
        (
            "rp_filter",
            State::Warning,
            "relay agents",
            "net.ipv4.conf.eth1.rp_filter=2",
            found(|f| f.relays = true),
        ),
        (
            "rp_filter",
            State::Warning,
            "relay agents",
            "net.ipv4.conf.eth1/90.rp_filter=2",
            found(|f| {
                f.relays = true;
                on(|u| u.name = "eth1.90".to_owned())(f);
            }),
        ),
        ("gc_thresh", State::Warning, "1024 neighbours", "gc_thresh3=4096", found(|f| f.hosts = 1024)),
        (
            "bridge-nf",
            State::Warning,
            "iptables",
            "bridge-nf-call-iptables=0",
            found(on(|u| {
                u.kind = Some("bridge".to_owned());
            })),
        ),
        (
            "io_uring",
            State::Warning,
            "more CPU",
            "io_uring_disabled",
            found(|f| f.no_uring = Some("EPERM".to_owned())),
        ),
        (
            "clock",
            State::Warning,
            "3600 s from now",
            "set-ntp",
            found(|f| f.clock.leases_written = Some(f.clock.now + 3600)),
        ),
        ("clock", State::Warning, "nothing sets", "set-ntp", found(|f| f.clock.synchronised = Some(false))),
        (
            "disk",
            State::Warning,
            "255 MiB",
            "df -h",
            found(|f| f.disk = Ok(Disk { free_bytes: (256 << 20) - 1, ..disk() })),
        ),
        (
            "buffers",
            State::Warning,
            "208 KiB",
            "net.core.rmem_max=4194304",
            found(|f| f.lacking = vec!["CAP_NET_ADMIN"]),
        ),
    ];
    hold(rows);
}

#[test]
fn what_is_as_it_should_be_is_said_with_its_reason() {
    let rows: Vec<Row> = vec![
        (
            "xdp",
            State::Ok,
            "generic: eth1 is a veth interface",
            "",
            found(on(|u| u.kind = Some("veth".to_owned()))),
        ),
        ("xdp", State::Ok, "the next one takes it over", "", found(on(|u| (u.xdp, u.left) = (true, true)))),
        ("bpffs", State::Ok, "serve mounts it", "", found(|f| f.pinning = Ok(false))),
        ("xdp", State::Ok, "generic: the setting", "", found(|f| f.xdp = Xdp::Generic)),
        ("xdp", State::Ok, "off by the setting", "", found(|f| f.xdp = Xdp::Off)),
        (
            "xdp",
            State::Ok,
            "the running netboot says: native",
            "",
            found(|f| {
                (f.running, f.running_xdp) = (true, Some("native".to_owned()));
            }),
        ),
        (
            "port",
            State::Ok,
            "belongs to the running netboot",
            "",
            found(|f| f.ports = vec![port(PortState::Ours)]),
        ),
        (
            "other-dhcp",
            State::Ok,
            "the addresses come from 192.168.90.3",
            "",
            found(|f| {
                (f.mode, f.wire) = (Mode::Proxy, Wire::Heard(vec![[192, 168, 90, 3].into()], 5));
            }),
        ),
        (
            "io_uring",
            State::Ok,
            "not used",
            "",
            found(|f| {
                (f.no_uring, f.engine) = (Some("EPERM".to_owned()), Engine::Plain);
            }),
        ),
    ];
    hold(rows);
}

#[test]
fn what_a_running_netboot_has_heard_lately_counts() {
    let line = |ago: u64, mode, wire: fn() -> Wire| {
        let findings = found(|facts| {
            let last_seen = facts.clock.now - ago;
            let mac = "02:00:00:00:00:66".to_owned();
            facts.heard = vec![Heard { addr: [192, 168, 90, 66].into(), mac, last_seen }];
            (facts.mode, facts.wire) = (mode, wire());
        });
        findings.into_iter().find(|finding| finding.check == "other-dhcp").unwrap()
    };
    let quiet = || Wire::Unasked("--quiet-wire".to_owned());
    let silent = || Wire::Heard(Vec::new(), 5);
    for wire in [quiet, silent] {
        let found = line(60, Mode::Full, wire);
        assert!(found.message.contains("has heard another DHCP server: 192.168.90.66 at 02:"), "{found:?}");
        assert_eq!((found.state, found.fix.is_some()), (State::Wrong, true));
    }
    assert_eq!(line(7200, Mode::Full, silent).state, State::Ok, "long ago");
    assert_eq!(line(60, Mode::Proxy, quiet).state, State::Skipped, "as it should be");
    let found = line(60, Mode::Full, || Wire::Heard(vec![[192, 168, 90, 3].into()], 5));
    assert!(found.message.contains("answers here: 192.168.90.3"), "{found:?}");
}

#[test]
fn who_wants_a_quiet_wire_is_not_sent_for_root() {
    let findings = found(|facts| {
        facts.lacking = vec!["CAP_NET_RAW"];
        facts.wire = Wire::Unasked("--quiet-wire".to_owned());
    });
    let line = findings.iter().find(|finding| finding.check == "other-dhcp").unwrap();
    assert_eq!((line.state, line.fix.as_deref()), (State::Skipped, None));
}

#[test]
fn who_is_not_root_is_told_so_and_nothing_is_wrong_for_that_alone() {
    let findings = found(|facts| {
        facts.lacking =
            vec!["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_BPF", "CAP_PERFMON"];
        facts.program = Err("not permitted".to_owned());
        facts.pinning = Err("/sys/fs/bpf cannot be written: run as root".to_owned());
        facts.ports =
            vec![port(PortState::Unknown("Permission denied".to_owned())), port(PortState::TakenUnseen)];
        facts.wire = Wire::Unasked("Operation not permitted".to_owned());
        (facts.rmem_max, facts.gc_thresh3, facts.data.unseen) = (None, None, 1);
    });
    assert!(findings.iter().all(|finding| finding.state < State::Wrong), "{findings:#?}");
    for check in ["data", "capabilities", "kernel", "bpffs", "port", "other-dhcp"] {
        let line = findings.iter().find(|finding| finding.check == check).unwrap();
        assert!(line.state > State::Ok, "{line:?}");
        assert_eq!(line.fix.as_deref(), Some("sudo netboot doctor"), "{line:?}");
    }
}
