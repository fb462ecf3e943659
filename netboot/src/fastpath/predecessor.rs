//! The program that an earlier netboot has left on the interface: by SIGUSR1, for its successor, or because it was killed.
//!
//! Nothing in its maps is believed but what it has counted and answered, and that only where the maps have the same
//! schema. While its daemon was alive a moment ago it is kept alive until the new program takes its place.

use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aya::maps::{Array, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::links::FdLink;
use netboot_ebpf::abi::{self, map};

use super::heartbeat::{BEAT_EVERY, monotonic_ns};
use super::loader::{Beat, Counters, Events, chain};
use super::pins::{Found, Pins};
use super::{GRACE, Mode};

/// It, as it was found.
pub(super) struct Predecessor {
    link: FdLink,
    pub(super) mode: Mode,
    /// Where it was pinned.
    pub(super) place: PathBuf,
    /// See [`Found`].
    pub(super) hides_tags: bool,
    /// What can be read of it; `None` if it is of another schema.
    maps: Option<Maps>,
    /// Ends when dropped.
    _alive: Option<Alive>,
}

struct Maps {
    counters: Counters,
    events: Events,
}

impl Predecessor {
    /// Finds it, and keeps it alive if it is.
    pub(super) fn find(pins: &Pins) -> Option<Self> {
        let Found { link, program, place, same_schema, hides_tags } = pins.find()?;
        let mode = if program.generic { Mode::Generic } else { Mode::Native };
        let open = |name: &str| -> Result<Map, String> {
            let data = MapData::from_pin(place.join(name)).map_err(|error| chain(&error))?;
            Map::from_map_data(data).map_err(|error| chain(&error))
        };
        let maps = || -> Result<(Maps, Beat), String> {
            let error = |error| chain(&error);
            let counters = PerCpuArray::try_from(open(map::COUNTERS)?).map_err(error)?;
            let events = RingBuf::try_from(open(map::EVENTS)?).map_err(error)?;
            Ok((Maps { counters, events }, Array::try_from(open(map::BEAT)?).map_err(error)?))
        };
        let read = same_schema.then(maps).and_then(|maps| {
            maps.inspect_err(|why| {
                tracing::warn!("what the XDP program of the netboot before has answered is not known: {why}");
            })
            .ok()
        });
        let (maps, beat) = read.unzip();
        Some(Self { link, mode, place, hides_tags, maps, _alive: beat.and_then(Alive::new) })
    }

    /// Whether its maps can be read.
    pub(super) fn is_known(&self) -> bool {
        self.maps.is_some()
    }

    /// Gives what it has counted to the new program, which counts on from there. It goes on counting until that has
    /// its place; those few are lost.
    pub(super) fn hand_down(&self, counters: &mut Counters) {
        let Some(maps) = &self.maps else { return };
        for index in 0..abi::COUNTERS {
            let copied = maps.counters.get(&index, 0).and_then(|values| counters.set(index, values, 0));
            if let Err(error) = copied {
                tracing::debug!(%error, "a counter of the netboot before cannot be copied");
            }
        }
    }

    /// Its link, and its answers that nobody has read: it may still be writing one.
    pub(super) fn into_parts(self) -> (FdLink, Option<Events>) {
        (self.link, self.maps.map(|maps| maps.events))
    }
}

/// A thread that beats for it.
#[derive(Debug)]
struct Alive {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Alive {
    /// `None` if it has been silent for the grace time: what it knows is old, and it must not answer again.
    fn new(mut beat: Beat) -> Option<Self> {
        let age = monotonic_ns().saturating_sub(beat.get(&0, 0).ok()?);
        if Duration::from_nanos(age) >= GRACE {
            return None;
        }
        let (stop, stopped) = mpsc::channel::<()>();
        let keep = move || {
            while beat.set(0, monotonic_ns(), 0).is_ok()
                && stopped.recv_timeout(BEAT_EVERY) == Err(mpsc::RecvTimeoutError::Timeout)
            {}
        };
        let thread = thread::Builder::new().name("xdp-predecessor".to_owned()).spawn(keep).ok()?;
        Some(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
