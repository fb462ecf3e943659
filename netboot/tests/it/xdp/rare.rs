//! What should hardly ever happen, provoked: an entry that is changed while the program reads it. It is said in words.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData, MapInfo};
use log::{Level, Log, Metadata, Record};
use netboot_ebpf::abi::{self, map};
use netboot_ebpf::verdict::message::DISCOVER;
use netboot_ebpf::{Class, Reason};

use super::BLADE;
use super::packets::Request;
use super::rig::{Rig, XDP_PASS, hex, monotonic};

/// How long it may take until it happens; once in some ten runs is usual where two processors are free.
const PATIENCE: Duration = Duration::from_mins(1);

/// Keeps what is said.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(Level, String)>>>);

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push((record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}

/// The map of machines, a second time.
fn hosts(rig: &mut Rig) -> HashMap<MapData, [u8; 8], [u8; size_of::<abi::Host>()]> {
    let ids = rig.loaded.program().unwrap().info().unwrap().map_ids().unwrap().unwrap();
    let named = |id: &u32| MapInfo::from_id(*id).unwrap().name_as_str() == Some(map::HOSTS);
    let id = ids.into_iter().find(named).unwrap();
    Map::HashMap(MapData::from_id(id).unwrap()).try_into().unwrap()
}

#[test]
fn xdp_says_in_words_what_hardly_ever_happens() {
    let mut rig = Rig::new();
    let kept = Kept::default();
    let mut words = rig.loaded.take_words(kept.clone()).unwrap();
    let mut hosts = hosts(&mut rig);
    let mut key = [0; 8];
    key[..6].copy_from_slice(&BLADE.0);
    let mut value = hosts.get(&key, 0).unwrap();
    let request = Request::new(DISCOVER, Class::Bios).frame();
    let over = AtomicBool::new(false);
    let passed = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stamp = 1_000_000_u64;
            while !over.load(Ordering::Relaxed) {
                stamp += 1;
                value[..8].copy_from_slice(&stamp.to_ne_bytes());
                hosts.insert(key, value, 0).unwrap();
            }
        });
        let begun = Instant::now();
        let mut passed = None;
        while passed.is_none() && begun.elapsed() < PATIENCE {
            rig.beat(monotonic());
            passed = Some(rig.run(&request)).filter(|(action, _)| *action == XDP_PASS);
        }
        over.store(true, Ordering::Relaxed);
        passed
    });
    let (_, out) = passed.expect("an entry that is changed while it is read is not answered from");
    assert_eq!(hex(&out), hex(&request), "untouched");
    let count = |rig: &Rig, index| netboot::fastpath::loader::count(&rig.counters, index).unwrap();
    assert_eq!(count(&rig, Reason::NoEntry as u32), 1);
    words.flush();
    let said = format!("{BLADE} is left to the daemon: its entry was changed");
    assert_eq!(*kept.0.lock().unwrap(), [(Level::Warn, said)]);
}
