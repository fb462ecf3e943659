//! The running fast path: program, thread, and what the map holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Once;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use super::entries::{self, Entries, LeftOut};
use super::heartbeat::{End, Heartbeat};
use super::loader::Loaded;
use super::pins::{self, Found, Pins};
use super::place::{Placed, place};
use super::predecessor::Predecessor;
use super::{Changed, Error, GRACE, Mode, sync};
use crate::config::Xdp;
use crate::dhcp::options::Subnet;
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::net::link::Link;
use crate::timeline::Timeline;

/// Machines that are named in one line of the log.
const MOST_TOLD: usize = 5;

/// Whether a netboot that was killed, or ended for a successor, has left its program on the interface.
pub fn is_left(link: &Link) -> bool {
    Pins::look(link).is_some_and(|pins| pins.find().is_some())
}

/// Takes off what a netboot before has left on the interface, where there is to be no program.
pub fn clear(link: &Link) {
    if let Some(pins) = Pins::look(link) {
        pins::sweep();
        if let Some(Found { link, place, .. }) = pins.find() {
            pins.take_off(Some(link), Some(&place));
            tracing::info!("removed the XDP program of the netboot before");
        }
    }
}

/// Whether the kernel takes the program: it is loaded, attached to nothing, and gone again.
///
/// # Errors
/// Why it does not.
pub fn probe() -> Result<(), Error> {
    Loaded::load(Ipv4Addr::UNSPECIFIED, Mac([0; 6]), GRACE, false).map(drop)
}

/// The program on the PXE interface. It answers from the first [`update`](Self::update) on, and until this value is dropped
/// or, after [`leave`](Self::leave), until a successor takes its place.
pub struct Fastpath {
    /// `None` once detached, or when it could not be attached.
    loaded: Option<Loaded>,
    held: Entries,
    subnet: Subnet,
    /// Taken by the first update.
    start: Option<Start>,
    placed: Option<Placed>,
    beating: Option<(Sender<End>, JoinHandle<()>)>,
}

/// What the first update needs beside.
struct Start {
    link: Link,
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
    pub fn start(link: &Link, subnet: &Subnet, mode: Xdp, timeline: Timeline) -> Result<Self, Error> {
        if mode == Xdp::Off {
            clear(link);
            return Err(Error::Off);
        }
        let pins = Pins::open(link);
        if pins.is_ok() {
            pins::sweep();
        }
        let before = pins.as_ref().ok().and_then(Predecessor::find);
        let load = || -> Result<_, Error> {
            let mut loaded = Loaded::load(link.addr, link.mac, GRACE, subnet.rapid_commit)?;
            let (beat, counters, events) =
                (loaded.take_beat()?, loaded.take_counters()?, loaded.take_events()?);
            Ok((loaded, Heartbeat { beat, counters, events, before: None, timeline }))
        };
        let (loaded, heartbeat) = load().inspect_err(|_| clear(link))?;
        Ok(Self {
            loaded: Some(loaded),
            held: Entries::new(),
            subnet: subnet.clone(),
            start: Some(Start { link: link.clone(), setting: mode, heartbeat, pins, before }),
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
        let (wanted, left_out) = entries::build(snapshot, &self.subnet);
        tell(&left_out);
        let Some(loaded) = &mut self.loaded else { return Ok(Changed::default()) };
        let result = sync::apply(loaded, &mut self.held, entries::without(wanted, taken));
        if let Some(start) = self.start.take() {
            self.begin(start).inspect_err(|_| self.end(End::Gone))?;
        }
        result
    }

    /// Lets the program answer: now it has something to say.
    fn begin(&mut self, start: Start) -> Result<(), Error> {
        let Start { link, setting, mut heartbeat, pins, before } = start;
        let Some(loaded) = &mut self.loaded else { return Ok(()) };
        heartbeat.beat();
        let placed = place(loaded, &link, setting, &mut heartbeat, pins, before)?;
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

    /// Leaves the program to answer for a grace time, in which a successor can take its place. Afterwards it passes everything.
    ///
    /// # Errors
    /// Why it could not stay: it was detached, as by [`close`](Self::close).
    pub fn leave(mut self) -> Result<(), String> {
        match self.placed.take() {
            Some(Placed { pinned: Ok(_pins), .. }) => {
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
