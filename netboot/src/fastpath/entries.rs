//! What the XDP program is to answer: from a snapshot of the machines to what it is given, a template for all that are alike
//! and a small part of each machine's own.
//!
//! Pure. The templates come from the builder of the daemon's own replies. Whatever is left out here is answered by
//! the daemon, so leaving out is always right.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnetwork::Ipv4Network;
use netboot_ebpf::Class;
use netboot_ebpf::abi::{NAME_MAX, TEMPLATE_MAX};

use crate::config;
use crate::config::options::HostKey;
use crate::dhcp::options::{Client, Subnet, template};
use crate::inventory::{Host, Snapshot};
use crate::mac::Mac;

/// The smallest MTU with which a reply may have the size that every client takes (RFC 2132 9.10).
const SMALLEST_MTU: u32 = 576;

/// The subnets that machines boot in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// What their clients are told: the interface's own, then those behind relay agents. The place in the list is the
    /// number of the segment.
    pub subnets: Vec<Subnet>,
    /// By which prefix a relay agent's address tells its segment; the longest that fits counts.
    pub relays: Vec<(Ipv4Network, u32)>,
}

impl Site {
    /// The interface's own subnet and those that are set.
    pub fn new(own: &Subnet, settings: &config::Dhcp) -> Self {
        let behind = settings.subnets.iter().map(|subnet| own.behind_relay(subnet));
        let subnets: Vec<_> = std::iter::once(own.clone()).chain(behind).collect();
        let mut relays: Vec<(Ipv4Network, u32)> = Vec::new();
        let agents = settings.subnets.iter().map(|subnet| subnet.relay.map(Ipv4Network::from));
        for (segment, agent) in (1..).zip(agents) {
            // Of two subnets that name one agent the first has it, as in `dhcp::select`.
            relays.extend(
                agent
                    .filter(|agent| !relays.iter().any(|(other, _)| other == agent))
                    .map(|agent| (agent, segment)),
            );
        }
        for (segment, subnet) in (0..).zip(&subnets) {
            if !relays.iter().any(|(other, _)| *other == subnet.prefix) {
                relays.push((subnet.prefix, segment));
            }
        }
        Self { subnets, relays }
    }

    /// The subnet that an address is of.
    fn of(&self, addr: Ipv4Addr) -> Option<(u16, &Subnet)> {
        (0..).zip(&self.subnets).find(|(_, subnet)| subnet.prefix.contains(addr))
    }
}

/// What machines that are alike are told, but for `yiaddr` and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The number of their segment.
    pub segment: u16,
    /// The template of each class, by its number; `None`: the daemon answers that class.
    pub templates: Vec<Option<Arc<[u8]>>>,
}

/// A machine's name as option 12, with code and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its length; 0: it has none.
    pub len: u8,
    /// It, then zeros.
    pub bytes: [u8; NAME_MAX],
}

impl Name {
    /// The name as it stands in a template; `None`: it is too long for the program.
    fn of(hostname: &str) -> Option<Self> {
        let mut name = Self { len: 0, bytes: [0; NAME_MAX] };
        if !hostname.is_empty() {
            let length = u8::try_from(hostname.len()).ok()?;
            let (head, value) = name.bytes.split_first_chunk_mut()?;
            *head = [12, length];
            value.get_mut(..hostname.len())?.copy_from_slice(hostname.as_bytes());
            name.len = length + 2;
        }
        Some(name)
    }
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its address.
    pub addr: Ipv4Addr,
    /// The place of its group in the list.
    pub group: usize,
    /// Its name.
    pub name: Name,
    /// When its lease ends, in nanoseconds of the monotonic clock; 0: it has a reservation.
    pub valid_until_ns: u64,
}

/// A lease of the pool that is on disk. The program offers its address and leaves the rest to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The address.
    pub addr: Ipv4Addr,
    /// The number of its segment.
    pub segment: u16,
    /// When it ends, in nanoseconds of the monotonic clock.
    pub valid_until_ns: u64,
}

/// Everything that the program is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// What is said to many.
    pub groups: Vec<Group>,
    /// The machines, in the order of their Ethernet addresses.
    pub machines: Vec<Machine>,
    /// The place of the group of those who have a lease of the pool, by segment; `None`: the daemon answers them.
    pub pool: Vec<Option<usize>>,
}

/// A machine that the program leaves to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Why.
    pub why: &'static str,
}

const TOO_LONG: &str = "its reply is too long for the XDP program";

/// What makes machines alike.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Alike<'a> {
    segment: u16,
    channel: &'a str,
    profile: Option<&'a str>,
    /// It was ordered: a script is made for it, whatever there is for machines that always boot it.
    ordered: bool,
    boot: Vec<(Class, &'a str)>,
    /// It has options of its own, and so is like no other.
    alone: Option<Mac>,
}

/// Builds what the program is given for all machines of a snapshot.
pub fn build(snapshot: &Snapshot, site: &Site) -> (Entries, Vec<LeftOut>) {
    let machines = Vec::with_capacity(snapshot.hosts().len());
    let mut entries = Entries { machines, ..Entries::default() };
    let mut left_out = Vec::new();
    let ambiguous = !snapshot.is_unambiguous();
    let mut known: HashMap<Alike<'_>, Result<usize, &'static str>> = HashMap::new();
    // Of most machines the one before is alike, which is sooner found out than looked up.
    let mut before: Option<(Alike<'_>, Result<usize, &'static str>)> = None;
    for host in snapshot.hosts() {
        let mut leave = |why| left_out.push(LeftOut { mac: host.mac, why });
        if ambiguous && !(is(snapshot.by_mac(host.mac), host) && is(snapshot.by_addr(host.addr), host)) {
            leave("another machine has its MAC or its address");
            continue;
        }
        let Some((segment, subnet)) = site.of(host.addr).filter(|(_, subnet)| host.addr != subnet.server)
        else {
            leave("its address is none of a subnet's clients");
            continue;
        };
        let own = |key| subnet.custom.hosts.contains_key(&key);
        let alone = own(HostKey::Addr(host.addr)) || own(HostKey::Mac(host.mac));
        let alike = Alike {
            segment,
            channel: &host.channel,
            profile: snapshot.profile_name(Some(host)),
            ordered: snapshot.ordered(host).is_some(),
            boot: host.boot.iter().collect(),
            alone: alone.then_some(host.mac),
        };
        let group = match &before {
            Some((before, group)) if *before == alike => *group,
            _ => {
                let group = *known.entry(alike.clone()).or_insert_with(|| {
                    let group = group(snapshot, segment, subnet, Some(host))?;
                    entries.groups.push(group);
                    Ok(entries.groups.len() - 1)
                });
                before = Some((alike, group));
                group
            }
        };
        match group.and_then(|group| machine(host, group, &mut entries.groups)) {
            Ok(machine) => entries.machines.push(machine),
            Err(why) => leave(why),
        }
    }
    entries.machines.sort_unstable_by_key(|machine| machine.mac);
    (entries, left_out)
}

/// Whether the program may offer a machine the address of its lease: the daemon would, unless the machine or the address is
/// reserved by now. Where machines are known by their UUID the daemon looks first: the program cannot see that this is another
/// card of one of them.
pub fn may_offer(snapshot: &Snapshot, site: &Site, mac: Mac, leased: &Leased) -> bool {
    let subnet = site.subnets.get(usize::from(leased.segment));
    let fits = subnet.is_some_and(|Subnet { server, prefix, routers, dns, .. }| {
        let addr = &leased.addr;
        prefix.contains(*addr) && addr != server && !routers.contains(addr) && !dns.contains(addr)
    });
    fits && snapshot.uuids() == 0 && snapshot.by_mac(mac).is_none() && snapshot.by_addr(leased.addr).is_none()
}

/// Adds those who have a lease of the pool.
pub fn add_leases<'a>(
    entries: &mut Entries,
    snapshot: &Snapshot,
    site: &Site,
    leases: impl Iterator<Item = (&'a Mac, &'a Leased)>,
) {
    for (segment, subnet) in (0..).zip(&site.subnets) {
        let group = group(snapshot, segment, subnet, None).ok().map(|group| {
            entries.groups.push(group);
            entries.groups.len() - 1
        });
        entries.pool.push(group);
    }
    let may = leases.filter(|(mac, leased)| may_offer(snapshot, site, **mac, leased));
    let pool = &entries.pool;
    let machines = may.filter_map(|(mac, leased)| {
        let group = pool.get(usize::from(leased.segment)).copied().flatten()?;
        Some(self::leased(*mac, leased, group))
    });
    entries.machines.extend(machines);
    entries.machines.sort_unstable_by_key(|machine| machine.mac);
}

/// The part of a machine with a lease.
pub fn leased(mac: Mac, leased: &Leased, group: usize) -> Machine {
    let name = Name { len: 0, bytes: [0; NAME_MAX] };
    Machine { mac, addr: leased.addr, group, name, valid_until_ns: leased.valid_until_ns }
}

/// The templates of all machines that are like this one; of all without a reservation where there is none.
fn group(
    snapshot: &Snapshot,
    segment: u16,
    subnet: &Subnet,
    host: Option<&Host>,
) -> Result<Group, &'static str> {
    if subnet.mtu < SMALLEST_MTU {
        return Err("the interface's MTU is smaller than what every client takes");
    }
    if subnet.custom.of(snapshot, host).on_request() {
        return Err("it has options that are sent on request only, which the XDP program does not look at");
    }
    let templates = Class::ALL.iter().map(|class| {
        let client = Client::new(subnet, snapshot, Ipv4Addr::UNSPECIFIED, host, *class);
        let template = template(subnet, &Client { hostname: None, ..client });
        // The daemon leaves nothing out for clients that take more.
        template.left_out().is_empty().then(|| template.before_name().into())
    });
    Ok(Group { segment, templates: templates.collect() })
}

/// The machine's own part. Where its name makes some of its group's templates too long it has a group of its own.
fn machine(host: &Host, mut group: usize, groups: &mut Vec<Group>) -> Result<Machine, &'static str> {
    let name = Name::of(&host.hostname).ok_or(TOO_LONG)?;
    let templates = groups.get(group).map(|group| group.templates.as_slice()).unwrap_or_default();
    let fits = |template: &Arc<[u8]>| template.len() + usize::from(name.len) <= TEMPLATE_MAX;
    if templates.iter().flatten().any(|template| !fits(template)) {
        let segment = groups.get(group).map_or(0, |group| group.segment);
        let templates: Vec<_> = templates
            .iter()
            .map(|template| template.as_ref().filter(|template| fits(template)).cloned())
            .collect();
        groups.push(Group { segment, templates });
        group = groups.len() - 1;
    }
    if groups.get(group).is_none_or(|group| group.templates.iter().flatten().next().is_none()) {
        return Err(TOO_LONG);
    }
    Ok(Machine { mac: host.mac, addr: host.addr, group, name, valid_until_ns: 0 })
}

impl Entries {
    /// Leaves out machines with one of these addresses: somebody else still has it.
    #[must_use]
    pub fn without(mut self, taken: &BTreeSet<Ipv4Addr>) -> Self {
        if !taken.is_empty() {
            self.machines.retain(|machine| !taken.contains(&machine.addr));
        }
        self
    }
}

/// Is it this very machine?
fn is(found: Option<&Host>, host: &Host) -> bool {
    found.is_some_and(|found| std::ptr::eq(found, host))
}

#[cfg(test)]
mod tests;
