//! Packets and files that are odd, and every crash that was ever found: what becomes of each.
//!
//! The packets lie in `tests/data/packets` as text, with a table of what becomes of them; what the fuzz targets have
//! found lies in `fuzz/corpus`. `BLESS=1` writes the table anew: read the difference before it is committed.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use netboot::config::{Mode, Settings};
use netboot::dhcp::options::Subnet;
use netboot::dhcp::policy::{Addressed, Outcome, Reply};
use netboot::dhcp::wire;
use netboot::inventory::Snapshot;
use netboot_ebpf::verdict::message;
use netboot_ebpf::{Class, Reason};
use proptest::prelude::*;
use xtask::packets;

use bodies::server::Server;
use bodies::{tlv, verdict, world};

#[path = "../../fuzz/bodies/mod.rs"]
pub(crate) mod bodies;

const BLADE: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 11);
const SETTINGS: &str = r#"{ "dhcp": { "pool": "192.168.90.100-192.168.90.110",
      "subnets": [{ "prefix": "10.1.0.0/16", "pool": "10.1.0.100-10.1.0.110" }] },
    "boot": { "bios": "pxelinux.0", "efi32": "ia32.efi", "efi64": "x64.efi", "efiarm64": "arm64.efi",
      "http64": "x64.efi", "httparm64": "arm64.efi", "ipxe": "http://192.168.90.2/boot.ipxe" } }"#;
const HOSTS: &str = r#"{ "hosts": { "192.168.90.11": {
    "macaddr": "52:54:00:00:00:01", "$hostname": "blade-1", "channel": "stable" } } }"#;

pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a directory, in the order of their names; none where there is no such directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Every odd packet: its name and its bytes.
pub(crate) fn odd_packets() -> Vec<(String, Vec<u8>)> {
    let texts = files(&package().join("tests/data/packets"));
    let texts = texts.iter().filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = packets::parse(&fs::read_to_string(path).unwrap());
        (name, bytes.unwrap_or_else(|why| panic!("{}: {why}", path.display())))
    };
    let packets: Vec<_> = texts.map(read).collect();
    assert!(packets.len() > 80, "the packets are where this test looks for them");
    packets
}

/// Histories that the fuzz target of the policy has kept.
fn histories() -> Vec<Vec<u8>> {
    let kept = files(&package().join("fuzz/corpus/policy"));
    kept.iter().map(|path| fs::read(path).unwrap()).filter(|history| !history.is_empty()).collect()
}

/// The reserved machine.
pub(crate) fn reserved() -> Snapshot {
    world::with_directory(|directory| world::read_hosts(directory, HOSTS))
}

/// The settings of every test here, and what clients are told by them.
pub(crate) fn setting() -> (Settings, Subnet) {
    let settings = world::with_directory(|directory| world::read_settings(directory, SETTINGS));
    let subnet = world::subnet(&settings);
    (settings, subnet)
}

/// What the daemon answers to a packet that was sent to everybody, or by a relay agent.
///
/// # Errors
/// Why it does not.
pub(crate) fn answer(packet: &[u8], snapshot: &Snapshot) -> Result<Reply, Reason> {
    answer_of(&setting().0, packet, snapshot)
}

fn answer_of(settings: &Settings, packet: &[u8], snapshot: &Snapshot) -> Result<Reply, Reason> {
    let mut server = Server::new(settings, snapshot.clone());
    match server.decide(packet, Addressed::Broadcast)? {
        (_, _, Outcome::Ignore(reason, _)) => Err(reason),
        (_, _, Outcome::Reply(reply, _)) => Ok(reply),
    }
}

/// What the XDP program's library makes of a packet.
///
/// # Errors
/// Why the program passes it up.
pub(crate) fn kernel(packet: &[u8]) -> Result<Class, Reason> {
    let known = verdict::Known { addr: BLADE.into(), segment: 0 };
    let (_, subnet) = setting();
    let relay = |giaddr: u32| match Ipv4Addr::from(giaddr) {
        agent if subnet.prefix.contains(agent) => Some(0),
        agent if agent.octets()[..2] == [10, 1] => Some(1),
        _ => None,
    };
    verdict::verdict(packet, false, |mac| (mac == world::mac(1).0).then_some(known), relay)
}

/// An answer in words, and the boot file.
fn words(answer: Result<Reply, Reason>) -> (&'static str, String) {
    let reply = match answer {
        Ok(reply) => reply,
        Err(reason) => return (reason.name(), String::new()),
    };
    let file = reply.bytes[108..236].split(|byte| *byte == 0).next().unwrap();
    let name = match reply.message {
        message::OFFER => "OFFER",
        message::ACK => "ACK",
        message::NAK => "NAK",
        message::BOOTP => "BOOTP",
        other => panic!("a reply of type {other}"),
    };
    (name, String::from_utf8(file.to_vec()).unwrap())
}

#[test]
fn odd_packets_fare_as_the_table_says() {
    let place = package().join("tests/data/packets/expected");
    let reserved = reserved();
    let proxy = Settings { mode: Mode::Proxy, ..setting().0 };
    let mut table = "| packet | class | reserved machine | boot file | unknown machine | proxy | XDP |\n|---|---|---|---|---|---|---|\n".to_owned();
    for (name, packet) in odd_packets() {
        let class = wire::decode(&packet).map_or("", |request| request.class.name());
        let (known, file) = words(answer(&packet, &reserved));
        let (unknown, _) = words(answer(&packet, &Snapshot::default()));
        let (proxy, _) = words(answer_of(&proxy, &packet, &reserved));
        let xdp = match kernel(&packet) {
            // Where XDP answers it sees the class that the daemon sees.
            Ok(seen) => {
                assert_eq!(seen.name(), class, "{name}");
                "answers"
            }
            Err(reason) => reason.name(),
        };
        writeln!(table, "| {name} | {class} | {known} | {file} | {unknown} | {proxy} | {xdp} |").unwrap();
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(&place, &table).unwrap();
    }
    let expected = fs::read_to_string(&place).unwrap_or_default();
    let changed: Vec<_> =
        table.lines().filter(|line| !expected.lines().any(|other| other == *line)).collect();
    assert_eq!(table, expected, "\nthese lines are new (BLESS=1 writes them):\n{}", changed.join("\n"));
}

#[test]
fn what_broke_once_never_breaks_again() {
    let package = package();
    let mut replayed = 0;
    for (name, run) in bodies::ALL {
        for path in files(&package.join("fuzz/corpus").join(name)) {
            eprintln!("{}", path.display());
            run(&fs::read(&path).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed > 30, "the corpus is where this test looks for it");
    for (name, packet) in odd_packets() {
        eprintln!("{name}");
        for run in [bodies::wire::run, bodies::verdict::run, bodies::policy::run, bodies::tftp::run] {
            run(&packet);
        }
    }
    let data = fs::read_dir(package.join("tests/data")).unwrap().map(|entry| entry.unwrap().path());
    for path in data.chain([package.join("../data.sample")]).flat_map(|directory| files(&directory)) {
        eprintln!("{}", path.display());
        let text = fs::read(&path).unwrap();
        bodies::files::run(&text);
        bodies::imports::run(&text);
    }
}

#[test]
fn a_file_of_a_million_brackets_is_refused() {
    // A reader that goes down with every bracket ends without its stack.
    for what in ["[", "{\"a\":", "/*", "\"", "{\"hosts\":{\"192.168.90.11\":["] {
        bodies::files::run(what.repeat(200_000).as_bytes());
    }
    for what in ["[", "{\"a\":", "{", "host a {", "(", "\"", "dhcp-host="] {
        bodies::imports::run(what.repeat(200_000).as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Several clients that ask anything, a disk that fails, hosts that change, restarts: see the body. Changed from
    /// histories that reach far; bytes at random seldom do.
    #[test]
    fn any_history_keeps_the_invariants(
        history in prop::sample::select(histories()),
        other in prop::sample::select(histories()),
        cut in 0_usize..1000,
        places in prop::collection::vec((0_usize..1500, any::<u8>()), 0..10),
    ) {
        let cut = cut.min(history.len()).min(other.len());
        let mut history = [&history[..cut], &other[cut..]].concat();
        for (at, byte) in places {
            let at = at % history.len().max(1);
            history[at] = byte;
        }
        bodies::policy::run(&history);
    }

    /// CVE-2017-14491 to 14496: see `account` for what is looked at.
    #[test]
    fn any_settings_make_replies_that_clients_can_use(
        packet in prop::sample::select(odd_packets()),
        (routers, servers) in (0_u8..9, 0_u8..9),
        (domain, names) in (0_usize..64, 1_usize..64),
        (file, url, http) in (1_usize..128, 1_usize..110, 1_usize..94),
        lease_secs in prop_oneof![Just(60_u32), Just(31_536_000), 60_u32..31_536_000],
        proxy in any::<bool>(),
    ) {
        let addrs = |count: u8| (1..=count).map(|last| format!("10.0.0.{last}")).collect::<Vec<_>>();
        let file = "f".repeat(file);
        let settings = serde_json::json!({
            "mode": if proxy { "proxy" } else { "full" },
            "dhcp": { "pool": "192.168.90.100-192.168.90.110", "lease_secs": lease_secs, "router": addrs(routers),
                "dns": addrs(servers), "domain": vec!["d"; domain + 1].join(".") },
            "boot": { "bios": file, "efi32": file, "efi64": file, "efiarm64": file, "rpi": file,
                "ipxe": format!("http://192.0.2.1/{}", "u".repeat(url)), "http64": "h".repeat(http) },
        });
        let hosts = serde_json::json!({ "hosts": { "192.168.90.11": {
            "macaddr": "52:54:00:00:00:01", "$hostname": "n".repeat(names), "channel": "c".repeat(names) } } });
        let (settings, hosts) = world::with_directory(|directory| {
            (
                world::read_settings(directory, &settings.to_string()),
                world::read_hosts(directory, &hosts.to_string()),
            )
        });
        for snapshot in [hosts, Snapshot::default()] {
            // Every reply is looked at there.
            let _ = answer_of(&settings, &packet.1, &snapshot);
        }
    }

    /// Packets, and whole transfers over networks that lose and double: see the body.
    #[test]
    fn any_bytes_are_a_tftp_transfer_that_ends_well(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::tftp::run(&bytes);
    }

    #[test]
    fn any_bytes_fare_alike_in_the_kernel_and_in_the_daemon(
        packet in prop::sample::select(odd_packets()),
        places in prop::collection::vec((0_usize..400, any::<u8>()), 0..6),
    ) {
        let mut bytes = packet.1;
        for (at, byte) in places {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bodies::wire::run(&bytes);
        bodies::verdict::run(&bytes);
    }

    /// CVE-2017-14494: whatever lies in memory beside a request, no reply has it.
    #[test]
    fn no_reply_has_a_byte_that_is_nobodys(
        packet in prop::sample::select(odd_packets()),
        poison in 0x80_u8..0xff,
    ) {
        for snapshot in [Snapshot::default(), reserved()] {
            prop_assert_eq!(answer(&tlv::poison(&packet.1, poison), &snapshot), answer(&packet.1, &snapshot));
        }
    }
}
