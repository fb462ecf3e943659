//! The running fast path: program, thread, and what the map holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use super::attach::{Attached, attach};
use super::entries::{self, Entries, LeftOut};
use super::heartbeat::Heartbeat;
use super::loader::Loaded;
use super::place::Place;
use super::{Changed, Error, GRACE, Mode, Trunk, sync};
use crate::config::{Vlan, Xdp};
use crate::dhcp::options::Subnet;
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
    Loaded::load(Ipv4Addr::UNSPECIFIED, Mac([0; 6]), GRACE, false).map(drop)
}

/// The program, attached to the PXE interface. It answers from the first [`update`](Self::update) on, and until
/// this value is dropped.
pub struct Fastpath {
    /// `None` once detached.
    loaded: Option<Loaded>,
    held: Entries,
    subnet: Subnet,
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
        subnet: &Subnet,
        mode: Xdp,
        timeline: Timeline,
    ) -> Result<Self, Error> {
        if mode == Xdp::Off {
            return Err(Error::Off);
        }
        let mut loaded = Loaded::load(link.addr, link.mac, GRACE, subnet.rapid_commit)?;
        let (beat, counters, events) = (loaded.take_beat()?, loaded.take_counters()?, loaded.take_events()?);
        let place = Place::find(link, trunk)?;
        let (tags, vlan) = matched(trunk.map(|trunk| trunk.vlan));
        tracing::debug!(tags, ?vlan, "what the program matches");
        let attached = attach(&mut loaded, place, mode)?;

        Ok(Self {
            loaded: Some(loaded),
            held: Entries::new(),
            subnet: subnet.clone(),
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
        let (wanted, left_out) = entries::build(snapshot, &self.subnet);
        tell(&left_out);
        let Some(loaded) = &mut self.loaded else { return Ok(Changed::default()) };
        let result = sync::apply(loaded, &mut self.held, entries::without(wanted, taken));
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

    /// Detaches the program; from then on the daemon sees every packet. Dropping does the same.
    pub fn close(self) {}
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
