//! The running fast path: program, thread, and what the map holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use netboot_ebpf::abi::Server;
use netboot_ebpf::guard::Limits;

use super::attach::{Attached, attach};
use super::entries::{self, Leased, LeftOut, Site};
use super::heartbeat::{Heartbeat, monotonic_ns};
use super::loader::Loaded;
use super::place::Place;
use super::sync::Held;
use super::{Changed, Error, GRACE, Mode, Trunk, sync};
use crate::config::{Vlan, Xdp};
use crate::dhcp::lease::News;
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::net::link::Link;
use crate::timeline::Timeline;

/// Machines that are named in one line of the log.
const MOST_TOLD: usize = 5;

/// Whether the kernel takes the program: it is loaded, attached to nothing, and gone again.
///
/// # Errors
/// Why it does not.
pub fn probe() -> Result<(), Error> {
    Loaded::load(server(Ipv4Addr::UNSPECIFIED, Mac([0; 6]), false), &[]).map(drop)
}

/// The program, attached to the PXE interface. It answers from the first [`update`](Self::update) on, and until
/// this value is dropped.
pub struct Fastpath {
    /// `None` once detached.
    loaded: Option<Loaded>,
    held: Held,
    site: Site,
    /// The leases of the pool that are on disk.
    leases: BTreeMap<Mac, Leased>,
    attached: Attached,
    /// Taken by the first update.
    heartbeat: Option<Heartbeat>,
    beating: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Fastpath {
    /// Loads the program and attaches it to the trunk, or without one to the link itself. It passes every packet until the
    /// first [`update`](Self::update).
    ///
    /// # Errors
    /// When it is switched off, not permitted, or not taken by kernel or interface. The daemon then serves alone.
    pub fn start(
        link: &Link,
        trunk: Option<Trunk<'_>>,
        site: Site,
        mode: Xdp,
        timeline: Timeline,
    ) -> Result<Self, Error> {
        if mode == Xdp::Off {
            return Err(Error::Off);
        }
        let rapid_commit = site.subnets.first().is_some_and(|own| own.rapid_commit);
        let place = Place::find(link, trunk)?;
        let (tags, vlan) = matched(trunk.map(|trunk| trunk.vlan));
        let server = Server { tags, vlan, ..server(link.addr, link.mac, rapid_commit) };
        let mut loaded = Loaded::load(server, &site.relays)?;
        let (beat, counters, events) = (loaded.take_beat()?, loaded.take_counters()?, loaded.take_events()?);
        let attached = attach(&mut loaded, place, mode)?;

        Ok(Self {
            loaded: Some(loaded),
            held: Held::default(),
            site,
            leases: BTreeMap::new(),
            attached,
            heartbeat: Some(Heartbeat { beat, counters, events, timeline }),
            beating: None,
        })
    }

    /// How the program is attached.
    pub fn mode(&self) -> Mode {
        self.attached.mode
    }

    /// Why it is attached so and not natively.
    pub fn note(&self) -> Option<&str> {
        self.attached.note.as_deref()
    }

    /// Takes a new snapshot into the program's map, but for reserved addresses that others still have a lease of; lets the
    /// program answer if it is the first.
    ///
    /// # Errors
    /// When the map cannot be written; the machines concerned are then answered by the daemon.
    pub fn update(&mut self, snapshot: &Snapshot, taken: &BTreeSet<Ipv4Addr>) -> Result<Changed, Error> {
        let (mut wanted, left_out) = entries::build(snapshot, &self.site);
        tell(&left_out);
        let now_ns = monotonic_ns();
        self.leases.retain(|_, leased| leased.valid_until_ns > now_ns);
        entries::add_leases(&mut wanted, snapshot, &self.site, self.leases.iter());
        let Some(loaded) = &mut self.loaded else { return Ok(Changed::default()) };
        let result = sync::apply(loaded, &mut self.held, &wanted.without(taken));
        if let Some(heartbeat) = self.heartbeat.take() {
            let (sender, stop) = mpsc::channel();
            let thread = thread::Builder::new()
                .name("xdp-heartbeat".to_owned())
                .spawn(move || heartbeat.run(&stop))
                .map_err(Error::Thread)?;
            self.beating = Some((sender, thread));
        }
        result
    }

    /// Takes in what became of leases of the pool.
    ///
    /// # Errors
    /// When the map cannot be written; the machines concerned are then answered by the daemon. The first failure, after
    /// everything else was tried.
    pub fn follow_leases(&mut self, news: &[News], snapshot: &Snapshot) -> Result<(), Error> {
        let Some(loaded) = &mut self.loaded else { return Ok(()) };
        let (now_ns, now) = (monotonic_ns(), wall());
        let mut result = Ok(());
        for news in news {
            let (mac, leased) = match news {
                News::Ended(mac) => (*mac, None),
                News::Bound { segment, lease } => {
                    // The wall clock goes by seconds here, and an address may be another's in the second in which it is free.
                    let left_ns = lease.expires.saturating_sub(now + 1).saturating_mul(1_000_000_000);
                    let valid_until_ns = now_ns.saturating_add(left_ns);
                    (lease.owner.mac, Some(Leased { addr: lease.addr, segment: *segment, valid_until_ns }))
                }
            };
            match leased {
                Some(leased) => self.leases.insert(mac, leased),
                None => self.leases.remove(&mac),
            };
            let offers = leased.filter(|leased| entries::may_offer(snapshot, &self.site, mac, leased));
            let written = match offers {
                Some(leased) => {
                    let machine = entries::leased(mac, &leased, 0);
                    sync::put_leased(loaded, &mut self.held, &machine, leased.segment)
                }
                None => sync::take_leased(loaded, &mut self.held, mac),
            };
            result = result.and(written);
        }
        result
    }

    /// Detaches the program; from then on the daemon sees every packet. Dropping does the same.
    pub fn close(self) {}
}

/// Seconds since 1970.
fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What the program has to know of the server.
pub fn server(addr: Ipv4Addr, mac: Mac, rapid_commit: bool) -> Server {
    Server {
        grace_ns: u64::try_from(GRACE.as_nanos()).unwrap_or(u64::MAX),
        limits: Limits::default(),
        addr: addr.to_bits(),
        mac: mac.0,
        rapid_commit: rapid_commit.into(),
        tags: 0,
        vlan: [0; 2],
        watch: 1,
        pad: [0; 7],
    }
}

/// What the program is told of tags: the fields `tags` and `vlan` of `abi::Server`. The one place where they are made.
fn matched(vlan: Option<Vlan>) -> (u8, [u16; 2]) {
    vlan.map_or((0, [0; 2]), |vlan| (vlan.tags(), vlan.ids()))
}

/// Says which machines are left to the daemon: a setting for everybody can be the reason of thousands.
fn tell(left_out: &[LeftOut]) {
    let mut by_reason: BTreeMap<&str, Vec<Mac>> = BTreeMap::new();
    for left in left_out {
        let machines = by_reason.entry(left.why).or_default();
        if machines.last() != Some(&left.mac) {
            machines.push(left.mac);
        }
    }
    for (why, machines) in by_reason {
        let some: Vec<String> = machines.iter().take(MOST_TOLD).map(Mac::to_string).collect();
        let more = machines.len().saturating_sub(MOST_TOLD);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        tracing::warn!(
            machines = machines.len(),
            why,
            "left to the daemon: {}{more}: {why}",
            some.join(", ")
        );
    }
}

impl Drop for Fastpath {
    fn drop(&mut self) {
        // First no more answers, then the last events and counts; the place after it, with the fields.
        drop(self.loaded.take());
        if let Some((sender, thread)) = self.beating.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Fastpath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fastpath")
            .field("attached", &self.attached)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}
