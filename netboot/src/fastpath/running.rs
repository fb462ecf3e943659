//! The running fast path: program, thread, and what the map holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Once;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use netboot_ebpf::abi::Server;
use netboot_ebpf::guard;

use super::entries::{self, Leased, LeftOut, Site};
use super::heartbeat::{End, Heartbeat, monotonic_ns};
use super::loader::Loaded;
use super::pins::{self, Found, Pins};
use super::place::Place;
use super::predecessor::Predecessor;
use super::sync::Held;
use super::takeover::{self, Placed};
use super::words::Lines;
use super::{Changed, Error, GRACE, Mode, Trunk, sync};
use crate::config::{Limits, Vlan, Xdp};
use crate::dhcp::lease::News;
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::net::link::Link;
use crate::net::offload::Untouched;
use crate::timeline::Timeline;

/// Machines that are named in one line of the log.
const MOST_TOLD: usize = 5;

/// Whether a netboot that was killed, or ended for a successor, has left its program on the interface.
pub fn is_left(interface: &str, index: u32) -> bool {
    Pins::look(interface, index).is_some_and(|pins| pins.find().is_some())
}

/// Takes off what a netboot before has left on the interface or trunk, where there is to be no program.
pub fn clear(link: &Link, trunk: Option<Trunk<'_>>) {
    let Some((name, index)) = Place::named(link, trunk) else { return };
    if let Some(pins) = Pins::look(name, index) {
        pins::sweep();
        if let Some(Found { link, place, hides_tags, .. }) = pins.find() {
            pins.take_off(Some(link), Some(&place));
            // Dropped at once: the driver does with tags as before.
            drop(hides_tags.then(|| Untouched::adopt(name)));
            tracing::info!("removed the XDP program of the netboot before");
        }
    }
}

/// Whether the kernel takes the program: it is loaded, attached to nothing, and gone again.
///
/// # Errors
/// Why it does not.
pub fn probe() -> Result<(), Error> {
    Loaded::load(server(Ipv4Addr::UNSPECIFIED, Mac([0; 6]), false), &[]).map(drop)
}

/// The program on the PXE interface. It answers from the first [`update`](Self::update) on, and until this value is dropped
/// or, after [`leave`](Self::leave), until a successor takes its place.
pub struct Fastpath {
    /// `None` once detached, or when it could not be attached.
    loaded: Option<Loaded>,
    held: Held,
    site: Site,
    /// The leases of the pool that are on disk.
    leases: BTreeMap<Mac, Leased>,
    /// Taken by the first update.
    start: Option<Start>,
    placed: Option<Placed>,
    beating: Option<(Sender<End>, JoinHandle<()>)>,
}

/// What the first update needs beside.
struct Start {
    place: Place,
    setting: Xdp,
    heartbeat: Heartbeat,
    /// Or why nothing can be pinned.
    pins: Result<Pins, String>,
    before: Option<Predecessor>,
}

impl Fastpath {
    /// Loads the program. It is attached, or takes the place of the one that a netboot before has left, at the end of the first
    /// [`update`](Self::update); until then that one is kept alive.
    ///
    /// # Errors
    /// When it is switched off, not permitted, or not taken by the kernel. The daemon then serves alone.
    pub fn start(
        link: &Link,
        trunk: Option<Trunk<'_>>,
        site: Site,
        mode: Xdp,
        limits: Limits,
        timeline: Timeline,
    ) -> Result<Self, Error> {
        if mode == Xdp::Off {
            clear(link, trunk);
            return Err(Error::Off);
        }
        let mut place = Place::find(link, trunk)?;
        let pins = Pins::open(&place.name, place.index);
        if pins.is_ok() {
            pins::sweep();
        }
        let before = pins.as_ref().ok().and_then(Predecessor::find);
        if before.as_ref().is_some_and(|before| before.hides_tags) {
            place.adopt();
        }
        let rapid_commit = site.subnets.first().is_some_and(|own| own.rapid_commit);
        let (tags, vlan) = matched(trunk.map(|trunk| trunk.vlan));
        let server =
            Server { limits: limits.into(), tags, vlan, ..server(link.addr, link.mac, rapid_commit) };
        let load = || -> Result<_, Error> {
            let mut loaded = Loaded::load(server, &site.relays)?;
            let (beat, counters, events) =
                (loaded.take_beat()?, loaded.take_counters()?, loaded.take_events()?);
            let words = loaded.take_words(Lines)?;
            Ok((loaded, Heartbeat { beat, counters, events, before: None, words, timeline }))
        };
        let (loaded, heartbeat) = load().inspect_err(|_| clear(link, trunk))?;
        Ok(Self {
            loaded: Some(loaded),
            held: Held::default(),
            site,
            leases: BTreeMap::new(),
            start: Some(Start { place, setting: mode, heartbeat, pins, before }),
            placed: None,
            beating: None,
        })
    }

    /// How the program is attached; `None` before the first update, and if that could not attach it.
    pub fn mode(&self) -> Option<Mode> {
        self.placed.as_ref().map(|placed| placed.attached.mode)
    }

    /// Why it is attached so and not natively.
    pub fn note(&self) -> Option<&str> {
        self.placed.as_ref()?.attached.note.as_deref()
    }

    /// Takes a new snapshot into the program's map, but for reserved addresses that others still have a lease of; lets the
    /// program answer if it is the first.
    ///
    /// # Errors
    /// When the map cannot be written; the machines concerned are then answered by the daemon. At the first update also when
    /// the interface does not take the program; then it has no [`mode`](Self::mode).
    pub fn update(&mut self, snapshot: &Snapshot, taken: &BTreeSet<Ipv4Addr>) -> Result<Changed, Error> {
        let begun = Instant::now();
        let (mut wanted, left_out) = entries::build(snapshot, &self.site);
        tell(&left_out);
        let now_ns = monotonic_ns();
        self.leases.retain(|_, leased| leased.valid_until_ns > now_ns);
        entries::add_leases(&mut wanted, snapshot, &self.site, self.leases.iter());
        let wanted = wanted.without(taken);
        let Some(loaded) = &mut self.loaded else { return Ok(Changed::default()) };
        let built = Instant::now();
        let result = sync::apply(loaded, &mut self.held, &wanted);
        let result =
            result.map(|changed| Changed { build: built - begun, write: built.elapsed(), ..changed });
        if let Some(start) = self.start.take() {
            self.begin(start).inspect_err(|_| self.end(End::Gone))?;
        }
        result
    }

    /// Lets the program answer: now it has something to say.
    fn begin(&mut self, start: Start) -> Result<(), Error> {
        let Start { place, setting, mut heartbeat, pins, before } = start;
        let Some(loaded) = &mut self.loaded else { return Ok(()) };
        heartbeat.beat();
        let placed = takeover::put(loaded, place, setting, &mut heartbeat, pins, before)?;
        if let Err(why) = &placed.pinned {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                tracing::warn!(
                    "the XDP program is not pinned, and so SIGUSR1 stops it as SIGTERM does: {why}"
                );
            });
        }
        let (sender, end) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("xdp-heartbeat".to_owned())
            .spawn(move || heartbeat.run(&end))
            .map_err(Error::Thread)?;
        self.beating = Some((sender, thread));
        self.placed = Some(placed);
        Ok(())
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

    /// Leaves the program to answer for a grace time, in which a successor can take its place. Afterwards it passes everything.
    ///
    /// # Errors
    /// Why it could not stay: it was detached, as by [`close`](Self::close).
    pub fn leave(mut self) -> Result<(), String> {
        match self.placed.take() {
            Some(Placed { pinned: Ok(_pins), place, .. }) => {
                place.leave();
                self.end(End::Stays);
                Ok(())
            }
            Some(Placed { pinned: Err(why), .. }) => Err(why),
            None => Err("it is not attached".to_owned()),
        }
    }

    /// Detaches the program; from then on the daemon sees every packet. Dropping does the same.
    pub fn close(self) {}

    fn end(&mut self, end: End) {
        // First no more answers, then the last events and counts.
        if let Some(Placed { pinned: Ok(pinned), .. }) = self.placed.take() {
            pinned.release();
        }
        drop(self.loaded.take());
        if let Some((sender, thread)) = self.beating.take() {
            // It may have ended by a panic.
            let _ = sender.send(end);
            let _ = thread.join();
        }
    }
}

/// Seconds since 1970.
fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What the program has to know of the server.
pub fn server(addr: Ipv4Addr, mac: Mac, rapid_commit: bool) -> Server {
    Server {
        grace_ns: u64::try_from(GRACE.as_nanos()).unwrap_or(u64::MAX),
        limits: guard::Limits::default(),
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
        self.end(End::Gone);
    }
}

impl fmt::Debug for Fastpath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fastpath")
            .field("placed", &self.placed)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}
