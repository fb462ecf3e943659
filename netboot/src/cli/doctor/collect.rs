//! Looks at the machine for `doctor`: /proc, rtnetlink, ports, the wire, the disk. Changes nothing and judges nothing.
//!
//! What a user may not see is a `None` or a reason, never a failure.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use super::super::{ask, check, leases};
use super::facts::{Clock, Data, Disk, Facts, Heard, Interface, Port, PortState, Seen, Trunk, Usable, Wire};
use crate::config::{Mode, Settings, Xdp};
use crate::dhcp::rival;
use crate::net::hear;
use crate::net::link::{Link, State};
use crate::net::look::{Look, look};
use crate::net::ports::{self, Proto};
use crate::{fastpath, store, tftp};

/// How long others may take to answer: dnsmasq and ISC dhcpd ping the address for some seconds before they offer it.
const WAIT: Duration = Duration::from_secs(5);
/// After the first other server this much for more of them.
const MORE: Duration = Duration::from_millis(500);
/// What `serve` wants.
const WANTED: [(CapabilitySet, &str); 5] = [
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    (CapabilitySet::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"),
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
];

/// Looks at everything.
pub(super) fn facts(settings: Settings, quiet_wire: bool) -> Facts {
    let lacking = lacking();
    let (interface, link) = interface(&settings.interface);
    let trunk = settings.trunk.as_deref().zip(settings.vlan);
    let trunk = trunk.map(|(name, vlan)| trunk_of(&settings.interface, fastpath::Trunk { name, vlan }));
    let told = told(&settings);
    let ports = ports(&settings, link.as_ref(), told.is_some());
    let running = told.is_some() || ports.iter().any(|port| matches!(port.state, PortState::Ours));
    let program = if settings.mode == Mode::Full && settings.xdp != Xdp::Off {
        fastpath::probe().map_err(|error| format!("{error:#}"))
    } else {
        Ok(())
    };
    let wire = match &link {
        _ if quiet_wire => Wire::Unasked("--quiet-wire".to_owned()),
        None => Wire::Unasked("there is no interface to ask on".to_owned()),
        Some(link) => wire(link),
    };
    let name = link.as_ref().map_or("", |link| link.name.as_str());
    let (clock, disk) = (clock(&settings.state), disk(&settings.state));
    let relays = !settings.dhcp.subnets.is_empty();
    let (mode, xdp, engine) = (settings.mode, settings.xdp, settings.tftp.engine);
    let (data, hosts) = data(settings, &lacking);
    Facts {
        mode,
        xdp,
        engine,
        relays,
        interface,
        trunk,
        running,
        running_xdp: told.as_ref().map(|told| told.xdp.clone()).filter(|xdp| !xdp.is_empty()),
        heard: told.map(|told| told.foreign_servers).unwrap_or_default(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        program,
        pinning: pinning(),
        ports,
        wire,
        rp_filter: number(&format!("net/ipv4/conf/{name}/rp_filter"))
            .map(|own| own.max(number("net/ipv4/conf/all/rp_filter").unwrap_or_default())),
        rmem_max: number("net/core/rmem_max"),
        gc_thresh3: number("net/ipv4/neigh/default/gc_thresh3"),
        hosts,
        bridge_filtered: number("net/bridge/bridge-nf-call-iptables"),
        no_uring: tftp::io_uring().err().map(|error| error.to_string()),
        clock,
        disk,
        data,
        lacking,
    }
}

/// The number in a file of /proc/sys.
fn number(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().parse().ok()
}

/// Whether a program can outlive its daemon here.
fn pinning() -> Result<bool, String> {
    let may_mount = || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    match fastpath::pinnable() {
        Ok(()) => Ok(true),
        Err(_) if may_mount() => Ok(false),
        Err(why) => Err(why),
    }
}

fn lacking() -> Vec<&'static str> {
    let have = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    WANTED.iter().filter(|(one, _)| !have.contains(*one)).map(|(_, name)| *name).collect()
}

fn data(settings: Settings, lacking: &[&str]) -> (Data, usize) {
    let directory = settings.data.clone();
    let (problems, snapshot) = check::examine(&directory, &Ok(settings));
    let closed = |message: &str| !lacking.is_empty() && message.to_lowercase().contains("permission denied");
    let (mut errors, mut warnings, mut unseen) = (0, 0, 0);
    for problem in &problems {
        match problem {
            problem if closed(&problem.message) => unseen += 1,
            problem if problem.is_error() => errors += 1,
            _ => warnings += 1,
        }
    }
    let directory = directory.display().to_string();
    (Data { directory, errors, warnings, unseen }, snapshot.map_or(0, |snapshot| snapshot.hosts().len()))
}

fn interface(name: &str) -> (Interface, Option<Link>) {
    if name.is_empty() {
        return (Interface::Unnamed, None);
    }
    let Look { state, kind, master, carrier, vlans, xdp, rxvlan, .. } = match look(name) {
        Ok(look) => look,
        Err(error) => return (Interface::Missing(format!("{:#}", anyhow::Error::from(error))), None),
    };
    match state {
        State::Missing(why) => (Interface::Missing(why), None),
        State::Up(link) => {
            let usable = Usable {
                name: link.name.clone(),
                addr: link.addr,
                prefix: link.prefix.prefix(),
                mtu: link.mtu,
                kind,
                master,
                carrier,
                vlans,
                xdp,
                left: xdp && fastpath::is_left(&link.name, link.index),
                rxvlan,
            };
            (Interface::Usable(usable), Some(link))
        }
    }
}

fn trunk_of(interface: &str, trunk: fastpath::Trunk<'_>) -> Trunk {
    let seen = look(trunk.name).ok().filter(|seen| seen.index.is_some());
    let own = look(interface).ok();
    Trunk {
        name: trunk.name.to_owned(),
        vlan: trunk.vlan.to_string(),
        mismatch: own.and_then(|own| trunk.mismatch(interface, &own)),
        seen: seen.map(|Look { kind, carrier, xdp, rxvlan, index, .. }| {
            let left = xdp && index.is_some_and(|index| fastpath::is_left(trunk.name, index));
            Seen { kind, carrier, xdp, left, rxvlan }
        }),
    }
}

/// What the netboot that has this state directory says.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Told {
    /// Of its XDP program.
    xdp: String,
    foreign_servers: Vec<Heard>,
}

fn told(settings: &Settings) -> Option<Told> {
    let store = store::identity(&settings.state)?;
    let status = ask::get(settings.http.port, "/api/v1/status", &store).ok()?;
    serde_json::from_slice(&status).ok()
}

/// Tries the ports as `serve` takes them. Those of an address that is not there yet are left out.
fn ports(settings: &Settings, link: Option<&Link>, running: bool) -> Vec<Port> {
    let any = Ipv4Addr::UNSPECIFIED;
    let lease_file = store::path_in(&settings.state);
    let mut wanted = Vec::new();
    if let Some(link) = link {
        let device = Some(link.name.as_str());
        // DHCP binds two addresses, and both must be free.
        wanted.push((Proto::Udp, 67, "DHCP", vec![Ipv4Addr::BROADCAST, link.addr], device));
        wanted.push((Proto::Udp, tftp::PORT, "TFTP", vec![link.addr], None));
        wanted.push((Proto::Udp, 4011, "boot service", vec![link.addr], device));
    }
    wanted.push((Proto::Tcp, settings.http.port, "HTTP", vec![any], None));
    let tls = settings.http.tls.iter();
    wanted.extend(tls.map(|tls| (Proto::Tcp, tls.port, "HTTPS", vec![any], None)));
    let state = |proto, port, addrs: &[Ipv4Addr], device| {
        let failed = addrs.iter().find_map(|addr| {
            ports::attempt(proto, SocketAddrV4::new(*addr, port), device).err().map(|error| (*addr, error))
        });
        let Some((addr, error)) = failed else { return PortState::Free };
        if error.raw_os_error() != Some(Errno::ADDRINUSE.raw_os_error()) {
            return PortState::Unknown(error.to_string());
        }
        match ports::holder(proto, SocketAddrV4::new(addr, port)) {
            Some(process) if ports::has_open(process.pid, &lease_file) => PortState::Ours,
            Some(process) => PortState::Taken(process.name, process.pid),
            None if running => PortState::Ours,
            None => PortState::TakenUnseen,
        }
    };
    let port = |(proto, port, purpose, addrs, device): (_, u16, _, Vec<_>, _)| Port {
        name: format!("{port}/{proto}"),
        purpose,
        state: state(proto, port, &addrs, device),
    };
    wanted.into_iter().map(port).collect()
}

/// Asks for other DHCP servers.
fn wire(link: &Link) -> Wire {
    let random = RandomState::new();
    let mac = rival::nobody(random.hash_one(0));
    let [a, b, c, d, ..] = random.hash_one(1).to_be_bytes();
    let xid = u32::from_be_bytes([a, b, c, d]);
    let mut servers = BTreeSet::new();
    let heard = hear::ask(link, &rival::discover(mac, xid), WAIT, MORE, |from, packet| {
        // What answers by our own address is a netboot on this machine.
        let server = rival::offered(packet, mac, xid, from).filter(|server| *server != link.addr);
        servers.extend(server);
        server.is_some()
    });
    match heard {
        Ok(()) => Wire::Heard(servers.into_iter().collect(), WAIT.as_secs()),
        Err(error) => Wire::Unasked(error.to_string()),
    }
}

fn clock(state: &Path) -> Clock {
    let written = fs::metadata(store::path_in(state)).and_then(|found| found.modified()).ok();
    let written = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs());
    Clock { now: leases::now(), leases_written: written, synchronised: synchronised() }
}

/// What systemd says, where there is one.
fn synchronised() -> Option<bool> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let mut command = Command::new("timedatectl");
    let output = command.args(["show", "--property=NTPSynchronized", "--value"]).output().ok()?;
    match output.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

/// The file system of the state directory, or of what it will be made in.
fn disk(state: &Path) -> Result<Disk, String> {
    let state = std::path::absolute(state).map_err(|error| error.to_string())?;
    let mut error = Errno::NOENT;
    for place in state.ancestors() {
        let found = match statvfs(place) {
            Ok(found) => found,
            Err(why) => {
                error = why;
                continue;
            }
        };
        return Ok(Disk {
            place: place.display().to_string(),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            free_inodes: (found.f_files > 0).then_some(found.f_favail),
            read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
        });
    }
    Err(error.to_string())
}
