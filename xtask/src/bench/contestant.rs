//! The servers under test: how each is set up for the same machines and the same network, and started.
//!
//! Each has a namespace of its own, with a wire to a namespace from which the blades ask.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xtask::lab::{Child, Namespace};

use super::blades::Plan;
use super::peers::Peers;
use super::process;
use super::socket::Socket;
use crate::steps::quiet;

/// The server, on every network of this benchmark.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
/// The length of the network's prefix, and the first reserved address.
const SITE: (u8, Ipv4Addr) = (16, Ipv4Addr::new(10, 90, 16, 0));
/// The same for more machines than a /16 has room for.
const LARGE_SITE: (u8, Ipv4Addr) = (14, Ipv4Addr::new(10, 88, 1, 0));
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 90, 128, 0), Ipv4Addr::new(10, 90, 191, 255));
/// The pool of a server whose store has leases already: behind ten thousand reservations all that is left.
const LARGE_POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 90, 56, 0), Ipv4Addr::new(10, 90, 255, 254));
/// The first machine that has a lease from before; no reservation is for it.
const FIRST_LEASE: u32 = 1 << 24;
/// The most machines for which reservations stay below the pool and the pool is large enough.
pub(super) const MOST_HOSTS: u32 = 16_000;
/// The most machines of a large site, whose reservations stay below the server's address.
pub(super) const MOST_OF_ALL: u32 = 130_000;
const LEASE_SECS: u32 = 3600;

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// netboot, with the XDP program or without.
    Netboot { xdp: bool },
    /// dnsmasq.
    Dnsmasq,
    /// Kea with its leases in a file.
    Kea,
}

/// A server and whether the machines have reservations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contestant {
    pub(super) name: &'static str,
    pub(super) program: Program,
    pub(super) reserved: bool,
}

/// All that are measured.
pub(super) const ALL: [Contestant; 7] = [
    Contestant { name: "netboot --xdp off", program: Program::Netboot { xdp: false }, reserved: true },
    Contestant { name: "netboot with XDP", program: Program::Netboot { xdp: true }, reserved: true },
    Contestant { name: "Kea memfile", program: Program::Kea, reserved: true },
    Contestant { name: "dnsmasq", program: Program::Dnsmasq, reserved: true },
    Contestant { name: "netboot --xdp off", program: Program::Netboot { xdp: false }, reserved: false },
    Contestant { name: "Kea memfile", program: Program::Kea, reserved: false },
    Contestant { name: "dnsmasq", program: Program::Dnsmasq, reserved: false },
];

/// What every contestant is set up from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    pub(super) netboot: &'a str,
    pub(super) peers: &'a Peers,
    pub(super) hosts: u32,
    /// Leases of other machines that are in netboot's store when it starts.
    pub(super) leases: u32,
    /// Each logs what it logs as it ships, into a file; else warnings alone.
    pub(super) logs: bool,
}

/// A server that runs. The process ends before its namespaces do.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pub(super) started: Instant,
    pub(super) plan: Plan,
    pub(super) wire: Socket,
    log: std::path::PathBuf,
    namespaces: (Namespace, Namespace),
}

/// The prefix length and the first reserved address of a network for so many machines.
fn site(hosts: u32) -> (u8, Ipv4Addr) {
    if hosts <= MOST_HOSTS { SITE } else { LARGE_SITE }
}

/// The server's namespace with `pxe0`, and the blades' with `eth0`, joined by a wire.
///
/// # Errors
/// When the kernel or a tool refuses.
pub(super) fn wire(peers: &Peers) -> Result<(Namespace, Namespace)> {
    let (server, client) = (Namespace::new("server")?, Namespace::new("blades")?);
    for namespace in [&server, &client] {
        namespace.shell("for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $file; done")?;
    }
    server.veth("pxe0", &client, "eth0")?;
    // A veth hands on frames with unfinished checksums, as no wire does.
    let ethtool = peers.program("ethtool")?;
    for (namespace, interface) in [(&server, "pxe0"), (&client, "eth0")] {
        let off = format!("{ethtool} -K {interface} tx off rx off gso off gro off tso off");
        namespace.shell(&format!("LD_LIBRARY_PATH={} {off}", peers.libraries()?))?;
    }
    Ok((server, client))
}

fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or_default())
}

impl Contestant {
    /// Where its addresses come from.
    pub(super) const fn kind(&self) -> &'static str {
        if self.reserved { "reserved" } else { "pool" }
    }

    /// Whether it is the one that is measured against the others.
    pub(super) const fn is_netboot(&self) -> bool {
        matches!(self.program, Program::Netboot { .. })
    }

    /// Starts it with its files in `home`, which is made. It may not be ready to answer yet.
    ///
    /// # Errors
    /// When a namespace, a file or the process cannot be had.
    pub(super) fn start(&self, setting: &Setting<'_>, home: &Path) -> Result<Running> {
        let (server, client) = wire(setting.peers)?;
        let (prefix, first) = site(setting.hosts);
        server.ip(&format!("addr add {SERVER}/{prefix} dev pxe0"))?;
        let plan = Plan {
            hosts: setting.hosts,
            server: SERVER,
            reserved: self.reserved.then_some(first),
            pool: if setting.leases == 0 { POOL } else { LARGE_POOL },
        };
        std::fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
        let place = home.to_str().context("the path of the repository is not UTF-8")?;
        let command = match self.program {
            Program::Netboot { xdp } => netboot(setting, &plan, home, place, xdp)?,
            Program::Dnsmasq => dnsmasq(setting, &plan, home, place)?,
            Program::Kea => kea(setting, &plan, home, place)?,
        };
        let log = home.join("log");
        // Into a file: reading a pipe would cost the blades' process time.
        let line = format!("exec {command} > {place}/log 2>&1");
        let wire = client.inside(|| Socket::open("eth0"))?.context("open the blades' socket")?;
        let started = Instant::now();
        let child = server.spawn("sh", &["-c", &line])?;
        Ok(Running { child, started, plan, wire, log, namespaces: (server, client) })
    }
}

impl Running {
    /// Processor time that it has used: user and system, all its threads.
    ///
    /// # Errors
    /// When it has ended; the error has its log.
    pub(super) fn cpu(&self) -> Result<Duration> {
        process::cpu(self.child.pid()).with_context(|| format!("it has ended; its log:\n{}", self.log()))
    }

    /// Frames that the kernel has handed up to IPv4 in the server's namespace: what no XDP program has taken.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel does not count.
    pub(super) fn passed(&self) -> Result<u64> {
        // /proc/net is that of the process, which is in another namespace than this thread.
        let text = self.inside(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
        received(&text.context("read /proc/thread-self/net/snmp")?)
            .context("the kernel has no Ip: InReceives")
    }

    /// Memory of it, KiB, as /proc/PID/status has it: `VmRSS` is in use, `VmHWM` the most that ever was.
    pub(super) fn memory_kib(&self, what: &str) -> Option<u64> {
        process::memory_kib(self.child.pid(), what)
    }

    /// The number of the XDP program on the server's interface, and whether it is attached in generic mode.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn xdp_program(&self) -> Result<(u32, bool)> {
        let text = self.namespaces.0.ip("-j link show dev pxe0")?;
        let links: Value = serde_json::from_str(&text).with_context(|| format!("read {text}"))?;
        let xdp = links.pointer("/0/xdp");
        let number = |path: &str| xdp?.pointer(path)?.as_u64();
        let id = number("/prog/id").and_then(|id| u32::try_from(id).ok());
        let id = id.with_context(|| format!("no XDP program on pxe0: {text}; its log:\n{}", self.log()))?;
        // XDP_ATTACHED_SKB
        Ok((id, number("/mode") == Some(2)))
    }

    /// Where it runs.
    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespaces.0
    }

    /// Does something in the server's namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespaces.0.inside(work)
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// `InReceives` of `/proc/net/snmp`: a line of names, then a line of numbers.
fn received(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|name| name == "InReceives")?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}

fn write(home: &Path, name: &str, text: &str) -> Result<()> {
    let path = home.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

fn mac(host: u32) -> String {
    Plan::mac(host).map(|byte| format!("{byte:02x}")).join(":")
}

/// The reservations: number, Ethernet address, address.
fn reservations(plan: &Plan) -> impl Iterator<Item = (u32, String, Ipv4Addr)> {
    (0..plan.hosts).filter_map(|host| Some((host, mac(host), plan.reservation(host)?)))
}

fn netboot(setting: &Setting<'_>, plan: &Plan, home: &Path, place: &str, xdp: bool) -> Result<String> {
    let host = |(number, mac, addr): (u32, String, Ipv4Addr)| {
        (
            addr.to_string(),
            json!({ "macaddr": mac, "$hostname": format!("blade{number}"), "channel": "stable" }),
        )
    };
    let hosts: serde_json::Map<String, Value> = reservations(plan).map(host).collect();
    write(home, "pxe_hosts.json", &json!({ "common": {}, "hosts": hosts }).to_string())?;
    write(home, "default.yaml", "#cloud-config\n")?;
    // No look on the wire before an offer: neither of the others has one.
    write(home, "netboot.json", &json!({ "dhcp": { "probe": false } }).to_string())?;
    write(home, "tftp/pxelinux.0", "")?;
    if setting.leases > 0 {
        leases(setting, plan, home)?;
    }
    let mode = if xdp { "auto" } else { "off" };
    let log = if setting.logs { "info" } else { "warn" };
    let (first, last) = plan.pool;
    Ok(format!(
        "env NETBOOT_LOG={log} {} serve --interface pxe0 --data {place} --xdp {mode} --pool {first}-{last}",
        setting.netboot
    ))
}

/// Brings leases of other machines into netboot's store, from a lease file of dnsmasq.
fn leases(setting: &Setting<'_>, plan: &Plan, home: &Path) -> Result<()> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut text = String::new();
    for number in 0..setting.leases {
        let addr = Ipv4Addr::from(u32::from(plan.pool.0) + number);
        writeln!(text, "{} {} {addr} * *", since_1970 + 86_400, mac(FIRST_LEASE + number))?;
    }
    write(home, "dnsmasq.leases", &text)?;
    let mut import = Command::new(setting.netboot);
    import.args(["import", "dnsmasq-leases"]).arg(home.join("dnsmasq.leases")).arg("--data").arg(home);
    let said = quiet(&mut import)?;
    anyhow::ensure!(said.contains(&format!("{} leases imported", setting.leases)), "{said}");
    Ok(())
}

fn dnsmasq(setting: &Setting<'_>, plan: &Plan, home: &Path, place: &str) -> Result<String> {
    let (first, last) = plan.pool;
    let mask = mask(site(plan.hosts).0);
    // No ping before an offer: neither of the others has one.
    let mut text = format!(
        "port=0\ninterface=pxe0\nbind-interfaces\nuser=root\ngroup=root\nno-ping\nno-hosts\nno-resolv\n\
         dhcp-authoritative\ndhcp-lease-max=100000\ndhcp-leasefile={place}/leases\ndhcp-boot=pxelinux.0\n\
         dhcp-option-force=tag:stable,209,pxelinux.cfg/stable\n\
         dhcp-range={first},{last},{mask},{LEASE_SECS}\nlog-facility=-\n"
    );
    if !setting.logs {
        text.push_str("quiet-dhcp\n");
    }
    for (number, mac, addr) in reservations(plan) {
        writeln!(text, "dhcp-host={mac},set:stable,{addr},blade{number}")?;
    }
    write(home, "dnsmasq.conf", &text)?;
    let (libraries, program) = (setting.peers.libraries()?, setting.peers.program("dnsmasq")?);
    Ok(format!(
        "env LD_LIBRARY_PATH={libraries} {program} --keep-in-foreground --pid-file --conf-file={place}/dnsmasq.conf"
    ))
}

fn kea(setting: &Setting<'_>, plan: &Plan, home: &Path, place: &str) -> Result<String> {
    let (first, last) = plan.pool;
    let host = |(number, mac, addr): (u32, String, Ipv4Addr)| json!({ "hw-address": mac, "ip-address": addr.to_string(), "hostname": format!("blade{number}") });
    let reservations: Vec<Value> = reservations(plan).map(host).collect();
    let prefix = site(plan.hosts).0;
    let subnet = format!("{}/{prefix}", SERVER & mask(prefix));
    let severity = if setting.logs { "INFO" } else { "WARN" };
    let config = json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": ["pxe0"], "dhcp-socket-type": "raw" },
        // Its file is written without fsync; it is not cleaned up during the run.
        "lease-database": { "type": "memfile", "persist": true, "name": format!("{place}/leases.csv"), "lfc-interval": 0 },
        "valid-lifetime": LEASE_SECS,
        "authoritative": true,
        // As few look-ups as the set-up allows.
        "host-reservation-identifiers": ["hw-address"],
        "reservations-global": false,
        "reservations-in-subnet": plan.reserved.is_some(),
        "reservations-out-of-pool": plan.reserved.is_some(),
        "next-server": SERVER.to_string(),
        "boot-file-name": "pxelinux.0",
        "subnet4": [{
            "id": 1,
            "subnet": subnet,
            "pools": [{ "pool": format!("{first} - {last}") }],
            "reservations": reservations,
        }],
        "loggers": [{ "name": "kea-dhcp4", "severity": severity, "output_options": [{ "output": "stdout" }] }],
    }});
    write(home, "kea.json", &config.to_string())?;
    let (libraries, program) = (setting.peers.libraries()?, setting.peers.program("kea-dhcp4")?);
    let own = format!("KEA_PIDFILE_DIR={place} KEA_LOCKFILE_DIR={place}");
    Ok(format!("env LD_LIBRARY_PATH={libraries} {own} {program} -c {place}/kea.json"))
}

#[cfg(test)]
mod tests {
    use super::{MOST_HOSTS, MOST_OF_ALL, POOL, SERVER, mask, received, site};

    #[test]
    fn every_site_has_room_for_its_machines() {
        for hosts in [MOST_HOSTS, MOST_OF_ALL] {
            let (prefix, first) = site(hosts);
            let last = first.to_bits() + hosts - 1;
            assert!(last < POOL.0.to_bits(), "below the pool");
            assert!(!(first.to_bits()..=last).contains(&SERVER.to_bits()), "not the server's");
            let network = SERVER & mask(prefix);
            for addr in [first.to_bits(), last, POOL.1.to_bits()] {
                assert_eq!(addr & mask(prefix).to_bits(), network.to_bits());
            }
        }
    }

    #[test]
    fn what_ip_has_received() {
        let text =
            "Ip: Forwarding DefaultTTL InReceives InHdrErrors\nIp: 1 64 4711 0\nUdp: InDatagrams\nUdp: 7\n";
        assert_eq!(received(text), Some(4711));
        assert_eq!(received("Ip: InReceives\n"), None);
    }
}
