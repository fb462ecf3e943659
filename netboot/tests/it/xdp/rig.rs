//! The loaded program with machines in its maps, run on one packet at a time (`BPF_PROG_TEST_RUN`).

use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions};
use netboot::dhcp::options::Subnet;
use netboot::fastpath::entries::{self, Site};
use netboot::fastpath::loader::{self, Beat, Counters, Events, Loaded};
use netboot::fastpath::server;
use netboot::fastpath::sync::{Held, apply};
use netboot::inventory::Snapshot;
use netboot_ebpf::abi::{self, Captured, Event, Server};
use rustix::time::{ClockId, clock_gettime};

use super::packets::SERVER_MAC;
use super::{SERVER, snapshot, subnet};

pub(super) const XDP_DROP: u32 = 1;
pub(super) const XDP_PASS: u32 = 2;
pub(super) const XDP_TX: u32 = 3;
pub(super) const GRACE: Duration = netboot::fastpath::GRACE;

/// The loaded program, beating.
pub(super) struct Rig {
    pub(super) loaded: Loaded,
    pub(super) held: Held,
    beat: Beat,
    capture: Beat,
    captured: Events,
    pub(super) counters: Counters,
    events: Events,
}

impl Rig {
    /// With the sample machines.
    pub(super) fn new() -> Self {
        Self::with(&snapshot(), &subnet())
    }

    /// With these machines on the interface's own subnet.
    pub(super) fn with(snapshot: &Snapshot, subnet: &Subnet) -> Self {
        let relays = vec![(subnet.prefix, 0)];
        Self::on(snapshot, &Site { subnets: vec![subnet.clone()], relays }, |_| {})
    }

    /// With these machines at a site; `change` sees what the program is told of the server.
    pub(super) fn on(snapshot: &Snapshot, site: &Site, change: impl FnOnce(&mut Server)) -> Self {
        let mut server = server(SERVER, SERVER_MAC, site.subnets[0].rapid_commit);
        change(&mut server);
        let loaded = Loaded::load(server, &site.relays);
        let mut loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
        let (beat, counters, events) =
            (loaded.take_beat().unwrap(), loaded.take_counters().unwrap(), loaded.take_events().unwrap());
        let (capture, captured) = loaded.take_capture().unwrap();
        let (wanted, left_out) = entries::build(snapshot, site);
        assert_eq!(left_out, []);
        let mut held = Held::default();
        apply(&mut loaded, &mut held, &wanted).unwrap();
        let mut rig = Self { loaded, held, beat, capture, captured, counters, events };
        rig.beat(monotonic());
        rig
    }

    pub(super) fn beat(&mut self, at: Duration) {
        self.beat.set(0, u64::try_from(at.as_nanos()).unwrap(), 0).unwrap();
    }

    /// From now on, what is answered is copied.
    pub(super) fn capture_for(&mut self, time: Duration) {
        self.capture.set(0, u64::try_from((monotonic() + time).as_nanos()).unwrap(), 0).unwrap();
    }

    /// The next copy.
    pub(super) fn captured(&mut self) -> Option<(Captured, Vec<u8>)> {
        let record = self.captured.next()?;
        let (captured, frame) = Captured::from_bytes(&record).unwrap();
        Some((captured, frame.to_vec()))
    }

    /// Runs the program once; returns what it did, and the packet.
    pub(super) fn run(&mut self, packet: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0xee; 4096];
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.loaded.program().unwrap().test_run(options).unwrap();
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        (result.return_value, out)
    }

    fn counts(&self) -> Vec<u64> {
        (0..abi::COUNTERS).map(|index| loader::count(&self.counters, index).unwrap()).collect()
    }

    /// Runs the program once; returns the packet and the one counter that went up, by one.
    pub(super) fn counted(&mut self, name: &str, packet: &[u8]) -> (u32, Vec<u8>, &'static str) {
        let before = self.counts();
        let (action, out) = self.run(packet);
        let after = self.counts();
        let mut up = (0..).zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
        let (index, (before, after)) = up.next().unwrap_or_else(|| panic!("{name}: nothing was counted"));
        assert_eq!(*after, before + 1, "{name}");
        assert_eq!(up.next(), None, "{name}: counted twice");
        (action, out, abi::counter_name(index).unwrap())
    }

    /// The next event that was told, if there is one.
    pub(super) fn event(&mut self) -> Option<Event> {
        self.events.next().map(|record| Event::from_bytes(&record).unwrap())
    }
}

pub(super) fn monotonic() -> Duration {
    clock_gettime(ClockId::Monotonic).try_into().unwrap()
}

/// Sixteen bytes a line, so that a difference can be found.
pub(super) fn hex(bytes: &[u8]) -> Vec<String> {
    bytes
        .chunks(16)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "))
        .collect()
}
