//! A site at random: settings as an operator would write them, machines, what lies in `tftp/`, VLANs; and what the XDP
//! program is given of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use netboot::config::{self, Boot, Identity, Settings, Unknown};
use netboot::dhcp::lease::Lease;
use netboot::dhcp::options::Subnet;
use netboot::fastpath::entries::{self, Entries, Leased, Site};
use netboot::inventory::{Host, Loaders, Snapshot};
use netboot::mac::Mac;
use netboot_ebpf::Class;
use netboot_ebpf::guard::Limits;

use super::dice::{Dice, expand};
use super::server::Server;
use super::world::{SERVER, mac, read_settings, with_directory};

/// Whom no address is reserved for.
pub(crate) const STRANGER: Mac = Mac([0x52, 0x54, 0, 0, 0, 200]);

/// Subnets behind relay agents: none; by the agent's own address; by an address of the link; two that name one agent.
const SUBNETS: [&[(&str, &str)]; 4] = [
    &[],
    &[("10.1.0.0/16", ""), ("10.3.0.0/16", "10.3.0.1")],
    &[("10.1.0.0/16", "10.1.0.1"), ("10.2.0.0/24", "192.168.90.9")],
    &[("10.1.0.0/25", "10.9.9.9"), ("10.2.0.0/28", "10.9.9.9"), ("10.4.0.0/30", "")],
];
/// Addresses of pools, of which some machines have a lease. The last is an agent's, too.
const POOL: [[u8; 4]; 5] =
    [[192, 168, 90, 101], [10, 1, 0, 102], [192, 168, 90, 103], [10, 2, 0, 3], [192, 168, 90, 1]];
/// What a machine's address can be: first such that it boots from.
const ADDRS: [[u8; 4]; 8] = [
    [10, 1, 0, 21],
    [10, 2, 0, 9],
    [192, 168, 90, 250],
    [10, 3, 0, 250],
    [10, 4, 0, 2],
    [192, 168, 90, 2],
    [10, 99, 0, 1],
    [192, 168, 90, 11],
];
/// Options by number, as they are written.
const OPTIONS: [(u8, &str); 12] = [
    (42, r#"["192.168.90.1", "192.168.90.3"]"#),
    (119, r#"["blades.example", "example"]"#),
    (26, "1400"),
    (43, r#""01:02:03""#),
    (100, r#""CET-1CEST""#),
    (150, r#""192.168.90.7""#),
    (209, r#""own.cfg""#),
    (211, "60"),
    (224, r#"{"type": "hex", "value": "00:ff:01"}"#),
    (114, r#""http://192.168.90.2/a/longer/address/than/most/of/them""#),
    (121, r#"["10.0.0.0/8 via 192.168.90.1", "default via 192.168.90.1"]"#),
    (252, "LONG"),
];
/// Options that stand in the place of the server's own, where that is allowed.
const NARROWER: [(u8, &str); 4] =
    [(3, r#""192.168.90.1""#), (6, "null"), (15, r#""narrower.example""#), (42, "null")];

/// More than all packets of a test together.
const LIMITS: Limits = Limits { mac_rate: 0xf_ffff, relay_rate: 0xf_ffff, burst_secs: 255, duplicate_ms: 0 };

/// Settings, machines, and what else is as it is while requests come.
pub(crate) struct Place {
    /// By which it was made.
    pub(crate) number: u16,
    /// `netboot.json`.
    written: String,
    /// The operator's word.
    pub(crate) settings: Settings,
    /// What the clients on the link are told.
    pub(crate) own: Subnet,
    /// The machines.
    pub(crate) snapshot: Snapshot,
    /// The subnets.
    pub(crate) site: Site,
    /// What the program has of the machines.
    pub(crate) entries: Entries,
    /// How many VLAN tags the network has, and which.
    pub(crate) tags: u8,
    /// See there.
    pub(crate) vlan: [u16; 2],
    /// Limits that nobody comes near to, where there are any.
    pub(crate) limits: Limits,
    /// Who has a lease: some of an address that is reserved for another machine.
    pub(crate) leased: Vec<(Ipv4Addr, Mac)>,
    /// What machines were offered a moment ago, before they had their reservations.
    pub(crate) offered: Vec<(Mac, Ipv4Addr)>,
}

impl Place {
    /// The place of this number.
    pub(crate) fn new(number: u16) -> Self {
        let bytes = expand(number.into(), 600);
        let dice = &mut Dice::new(&bytes);
        let subnets = *dice.pick(&SUBNETS);
        let text = written(dice, subnets);
        let settings = with_directory(|directory| read_settings(directory, &text));
        let mtu = *dice.pick(&[1500, 1500, 1500, 1500, 1500, 1500, 9000, 9000, 1400, 1400, 576, 500]);
        let own = Subnet::at(SERVER, "192.168.90.0/24".parse().expect("a prefix"), mtu, &settings);
        let hosts = hosts(dice, &settings.dhcp.subnets);
        let (mut leased, mut offered) = (Vec::new(), Vec::new());
        for host in &hosts {
            if dice.once_in(16) {
                leased.push((host.addr, mac(100)));
            } else if dice.once_in(8) {
                offered.push((host.mac, *dice.pick(&[host.addr, Ipv4Addr::new(192, 168, 90, 100)])));
            }
        }
        let snapshot = Snapshot::new(BTreeMap::new(), hosts).with_loaders(loaders(dice.byte()));
        let site = Site::new(&own, &settings.dhcp);
        let (mut entries, _) = entries::build(&snapshot, &site);
        let taken: BTreeSet<_> = leased.iter().map(|(addr, _)| *addr).collect();
        let pool = pool(dice, &settings);
        leased.extend(pool.iter().map(|(client, leased)| (leased.addr, *client)));
        // As `Server::follow_leases` and `Fastpath::update` do.
        if settings.dhcp.identity == Identity::Mac && settings.dhcp.unknown == Unknown::Pool {
            entries::add_leases(&mut entries, &snapshot, &site, pool.iter());
        }
        let entries = entries.without(&taken);
        let (tags, vlan) =
            *dice.pick(&[(0, [0, 0]), (0, [0, 0]), (1, [90, 0]), (1, [4094, 0]), (2, [100, 90])]);
        // Not a choice of its own, for each would be a program of its own.
        let limits = if vlan[0] == 4094 { LIMITS } else { Limits::default() };
        Self {
            number,
            written: text,
            settings,
            own,
            snapshot,
            site,
            entries,
            tags,
            vlan,
            limits,
            leased,
            offered,
        }
    }

    /// For a person who looks for what went wrong.
    pub(crate) fn text(&self) -> String {
        let Self { number, written, own, snapshot, tags, vlan, leased, offered, .. } = self;
        format!(
            "place {number}\n{written}\nMTU {}, tags {tags} {vlan:?}, leased {leased:?}, offered {offered:?}\n{:#?}\n{:?}",
            own.mtu,
            snapshot.hosts().collect::<Vec<_>>(),
            snapshot.loaders()
        )
    }

    /// The daemon at this place.
    pub(crate) fn server(&self) -> Server {
        let mut server = Server::at(&self.own, &self.settings, self.snapshot.clone());
        for (addr, owner) in &self.leased {
            server.has_lease(Lease::new(*addr, *owner, u64::MAX));
        }
        for (client, addr) in &self.offered {
            server.has_offered(*client, *addr);
        }
        server
    }
}

/// Now and then something, else nothing.
fn maybe(dice: &mut Dice<'_>, times: u8, text: impl FnOnce(&mut Dice<'_>) -> String) -> String {
    if dice.once_in(times) { text(dice) } else { String::new() }
}

/// Addresses of routers or name servers.
fn addresses(dice: &mut Dice<'_>, net: u8) -> String {
    let addrs: Vec<_> = (0..dice.below(9)).map(|last| format!("\"10.0.{net}.{}\"", last + 1)).collect();
    format!("[{}]", addrs.join(", "))
}

/// `netboot.json`.
fn written(dice: &mut Dice<'_>, subnets: &[(&str, &str)]) -> String {
    let mut text =
        r#"{ "dhcp": { "pool": ["192.168.90.100-192.168.90.110", "192.168.90.1-192.168.90.1"]"#.to_owned();
    let lease = *dice.pick(&[3600, 60, 31_536_000, 86_401]);
    let _ = write!(text, ", \"lease_secs\": {lease}, \"authoritative\": {}", !dice.once_in(4));
    text += &maybe(dice, 4, |dice| format!(", \"router\": {}", addresses(dice, 1)));
    text += &maybe(dice, 2, |dice| format!(", \"dns\": {}", addresses(dice, 2)));
    let domains = ["example.net".to_owned(), vec!["d"; 30].join("."), vec!["d"; 64].join(".")];
    text += &maybe(dice, 2, |dice| format!(", \"domain\": \"{}\"", dice.pick(&domains)));
    let long = format!("\"local\", \"{}\", \"{}\"", "s".repeat(40), "t".repeat(40));
    let items = ["\"local\", \"stable\"", "\"stable\", \"local\", \"beta\"", long.as_str()];
    text += &maybe(dice, 4, |dice| format!(", \"menu\": {{ \"items\": [{}] }}", dice.pick(&items)));
    text += &maybe(dice, 3, |_| ", \"rapid_commit\": true".to_owned());
    text += &maybe(dice, 4, |_| ", \"identity\": \"client-id\"".to_owned());
    text += &maybe(dice, 4, |dice| format!(", \"unknown\": \"{}\"", dice.pick(&["hold", "deny"])));
    text += &maybe(dice, 4, |_| ", \"probe\": false".to_owned());
    text += &maybe(dice, 2, |dice| format!(", \"options\": {}", options(dice, false, 100)));
    text += &maybe(dice, 2, |dice| {
        let (options, boot) = (options(dice, true, 20), boot_files(dice));
        format!(", \"profiles\": {{ \"beta\": {{ \"options\": {options}, \"boot\": {boot} }} }}")
    });
    text += &maybe(dice, 2, |dice| {
        let keys = ["192.168.90.11", "10.1.0.21", "52:54:00:00:00:01", "52:54:00:00:00:03"];
        let (key, other) = (dice.pick(&keys[..2]), dice.pick(&keys[2..]));
        let (one, two) = (options(dice, true, 10), options(dice, true, 10));
        format!(
            ", \"hosts\": {{ \"{key}\": {{ \"options\": {one} }}, \"{other}\": {{ \"options\": {two} }} }}"
        )
    });
    let list: Vec<_> = subnets
        .iter()
        .map(|(prefix, relay)| {
            let mut text = format!("{{ \"prefix\": \"{prefix}\"");
            // Where there is room for them.
            text += match *prefix {
                "10.1.0.0/16" | "10.1.0.0/25" => ", \"pool\": \"10.1.0.100-10.1.0.110\"",
                "10.2.0.0/24" | "10.2.0.0/28" => ", \"pool\": \"10.2.0.3-10.2.0.4\"",
                _ => "",
            };
            if !relay.is_empty() {
                let _ = write!(text, ", \"relay\": \"{relay}\"");
            }
            text += &maybe(dice, 2, |_| ", \"lease_secs\": 300".to_owned());
            text += &maybe(dice, 3, |dice| format!(", \"router\": {}", addresses(dice, 3)));
            text += &maybe(dice, 3, |dice| format!(", \"dns\": {}", addresses(dice, 4)));
            text += &maybe(dice, 3, |_| ", \"domain\": \"far.example\"".to_owned());
            text += &maybe(dice, 3, |dice| format!(", \"options\": {}", options(dice, true, 20)));
            text + " }"
        })
        .collect();
    let _ = write!(text, ", \"subnets\": [{}] }}, \"boot\": {} }}", list.join(", "), boot_files(dice));
    text
}

/// Some options by number; one in so many of them is on request alone.
fn options(dice: &mut Dice<'_>, narrower: bool, seldom: u8) -> String {
    let mut chosen = BTreeMap::new();
    for _ in 0..dice.below(4) {
        let (code, value) =
            if narrower && dice.once_in(3) { dice.pick(&NARROWER) } else { dice.pick(&OPTIONS) };
        let value = value.replace("LONG", &format!("\"{}\"", "w".repeat(1 + usize::from(dice.byte()) / 2)));
        let on_request = !value.starts_with('{') && value != "null" && dice.once_in(seldom);
        let value = if on_request { format!("{{\"value\": {value}, \"on_request\": true}}") } else { value };
        chosen.insert(*code, value);
    }
    let chosen: Vec<_> = chosen.iter().map(|(code, value)| format!("\"{code}\": {value}")).collect();
    format!("{{ {} }}", chosen.join(", "))
}

/// Boot files by class, as they are written.
fn boot_files(dice: &mut Dice<'_>) -> String {
    let files: Vec<_> =
        boot(dice).iter().map(|(class, file)| format!("\"{}\": \"{file}\"", class.name())).collect();
    format!("{{ {} }}", files.join(", "))
}

fn boot(dice: &mut Dice<'_>) -> Boot {
    let mut boot = Boot::default();
    for class in Class::ALL.iter().copied().filter(|class| !matches!(class, Class::Plain | Class::Other)) {
        if !dice.once_in(3) {
            continue;
        }
        let longest: u8 = if class.is_http() { 93 } else { 127 };
        let url = (class.is_http() || class == Class::Ipxe) && dice.once_in(3);
        let file = match dice.below(6) {
            0 => String::new(),
            1 => "f".repeat(longest.into()),
            2 => "g".repeat(usize::from(1 + dice.below(longest))),
            _ if url => format!("http://192.168.90.2/{}", "u".repeat(dice.below(100).into())),
            _ => format!("boot/{}.file", class.name()),
        };
        boot.set(class, file);
    }
    boot
}

/// Machines: the first as the packets of `tests/data` know it, the others of all kinds.
fn hosts(dice: &mut Dice<'_>, subnets: &[config::Subnet]) -> Vec<Host> {
    let host = |dice: &mut Dice<'_>, mac: Mac, addr: Ipv4Addr| {
        let hostname = match dice.below(8) {
            0 => String::new(),
            1 => "n".repeat(63),
            // The longest that the program takes, and one more.
            2 => format!("{}.x", "n".repeat(67 + usize::from(dice.below(3)))),
            3 => "m".repeat(usize::from(1 + dice.below(63))),
            _ => format!("blade-{}", mac.0[5]),
        };
        let channel = dice.pick(&["stable", "beta", &"c".repeat(64)]).to_string();
        let boot = if dice.once_in(4) { boot(dice) } else { Boot::default() };
        Host {
            mac,
            addr,
            hostname,
            channel,
            template: None,
            boot,
            variables: BTreeMap::new(),
            ignition: None,
        }
    };
    let mut hosts = vec![host(dice, mac(1), Ipv4Addr::new(192, 168, 90, 11))];
    // One in each subnet, so that there is somebody behind each agent.
    for (number, subnet) in (2..).zip(subnets) {
        let addr = ADDRS.iter().map(|addr| Ipv4Addr::from(*addr)).find(|addr| subnet.prefix.contains(*addr));
        hosts.push(host(dice, mac(number), addr.expect("one of each subnet")));
    }
    for number in 10..10 + dice.below(6) {
        let addr = if dice.once_in(4) {
            Ipv4Addr::from(*dice.pick(&ADDRS))
        } else {
            Ipv4Addr::new(192, 168, 90, number + 10)
        };
        let mac = if dice.once_in(16) { mac(1) } else { mac(number) };
        hosts.push(host(dice, mac, addr));
    }
    hosts
}

/// Leases that are on disk, a few of which have ended.
fn pool(dice: &mut Dice<'_>, settings: &Settings) -> BTreeMap<Mac, Leased> {
    let pools = settings.dhcp.subnets.iter().map(|subnet| &subnet.pool);
    let pools: Vec<_> = std::iter::once(&settings.dhcp.pool).chain(pools).collect();
    let mut leases = BTreeMap::new();
    for client in 150..150 + dice.below(5) {
        let addr = Ipv4Addr::from(*dice.pick(&POOL));
        let inside = |(_, pool): &(u16, &&Vec<config::Range>)| pool.iter().any(|range| range.contains(addr));
        let taken = leases.values().any(|leased: &Leased| leased.addr == addr);
        if let Some((segment, _)) = (0..).zip(&pools).find(inside).filter(|_| !taken) {
            let valid_until_ns = if dice.once_in(16) { 1 } else { u64::MAX };
            leases.insert(mac(client), Leased { addr, segment, valid_until_ns });
        }
    }
    leases
}

/// What lies in `tftp/`: nothing, one loader for each class, or some.
fn loaders(which: u8) -> Loaders {
    thread_local! {
        static FOUND: RefCell<Option<[Loaders; 3]>> = const { RefCell::new(None) };
    }
    let find = || {
        [
            &[][..],
            &[
                "pxelinux.0",
                "boot.ipxe",
                "shimia32.efi",
                "shimx64.efi",
                "shimarm.efi",
                "shimaa64.efi",
                "bootcode.bin",
            ],
            &["undionly.kpxe", "ipxe.efi", "grubaa64.efi"],
        ]
        .map(|names| {
            let data = tempfile::tempdir().expect("make a directory");
            let tftp = data.path().join("tftp");
            std::fs::create_dir(&tftp).expect("make a directory");
            for name in names {
                std::fs::write(tftp.join(name), "x").expect("write a file");
            }
            Loaders::find(data.path())
        })
    };
    FOUND.with_borrow_mut(|found| found.get_or_insert_with(find)[usize::from(which % 3)].clone())
}
