//! The loaded program, on one frame at a time (`BPF_PROG_TEST_RUN`). Needs root and the feature `fastpath`.

use aya::programs::{TestRun, TestRunOptions};
use netboot::fastpath::entries::Site;
use netboot::fastpath::loader::{self, Counters, Events, Loaded};
use netboot::fastpath::server;
use netboot::fastpath::sync::{Held, apply};
use netboot_ebpf::abi::{self, Event};

use super::equal::{Program, Ran};
use super::requests::SERVER_MAC;
use super::site::Place;
use super::world::SERVER;

/// So many programs are kept loaded, one for each kind of server that `Place` makes: loading takes longer than many packets.
const KEPT: usize = 40;

/// A program for one server and its relay agents.
struct Rig {
    server: abi::Server,
    site: Site,
    loaded: Loaded,
    held: Held,
    counters: Counters,
    events: Events,
}

/// Programs, the one in use first.
#[derive(Default)]
pub(crate) struct Kernel(Vec<Rig>);

impl Rig {
    fn load(server: abi::Server, site: &Site) -> Self {
        let loaded = Loaded::load(server, &site.relays);
        let mut loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
        let mut beat = loaded.take_beat().expect("a map");
        // The last moment that there is, so that it never gets old.
        beat.set(0, u64::MAX, 0).expect("a heartbeat");
        let (counters, events) =
            (loaded.take_counters().expect("a map"), loaded.take_events().expect("a map"));
        Self { server, site: site.clone(), loaded, held: Held::default(), counters, events }
    }
}

impl Kernel {
    fn rig(&self) -> &Rig {
        self.0.first().expect("it is settled")
    }

    fn rig_mut(&mut self) -> &mut Rig {
        self.0.first_mut().expect("it is settled")
    }
}

impl Program for Kernel {
    fn settle(&mut self, place: &Place) {
        let mut server = server(SERVER, SERVER_MAC, place.own.rapid_commit);
        (server.tags, server.vlan, server.limits) = (place.tags, place.vlan, place.limits);
        let is = |rig: &Rig| rig.server == server && rig.site.relays == place.site.relays;
        let rig = match self.0.iter().position(is) {
            Some(at) => self.0.remove(at),
            None => Rig::load(server, &place.site),
        };
        self.0.insert(0, rig);
        self.0.truncate(KEPT);
        let rig = self.rig_mut();
        apply(&mut rig.loaded, &mut rig.held, &place.entries).expect("the maps take it");
    }

    fn run(&mut self, frame: &[u8]) -> Ran {
        let rig = self.rig_mut();
        let mut out = vec![0xee; frame.len() + 1024];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = rig.loaded.program().expect("it is loaded").test_run(options).expect("it runs");
        out.truncate(usize::try_from(result.data_size_out).expect("a length"));
        let mut events = Vec::new();
        while let Some(record) = rig.events.next() {
            events.push(Event::from_bytes(&record).expect("an event"));
        }
        Ran { action: result.return_value, out, events }
    }

    fn count(&self, counter: u32) -> u64 {
        loader::count(&self.rig().counters, counter).expect("a counter")
    }
}
