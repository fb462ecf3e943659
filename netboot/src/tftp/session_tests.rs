//! A session with a real socket, on a clock that the test reads.

use std::cell::Cell;

use super::*;
use crate::tftp::files::Content;
use crate::tftp::flight::Room;
use crate::tftp::options::{Limits, negotiate};
use crate::tftp::pages::Store;
use crate::tftp::transfer::Rollover;

/// A session of a client that asks for windows of 16 blocks, and what its thread has.
struct Stage {
    shared: Shared,
    flight: RefCell<Flight>,
    heard: Cell<u32>,
    client: UdpSocket,
}

impl Stage {
    fn new(in_flight: u64) -> Self {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_nonblocking(true).unwrap();
        let shared = Shared { timeline: Timeline::default(), segmenting: AtomicBool::new(true) };
        Self {
            shared,
            flight: RefCell::new(Flight::new(Arc::new(Room::new(in_flight)))),
            heard: Cell::new(0),
            client,
        }
    }

    fn ways<T>(&self, work: impl FnOnce(&Ways<'_>) -> T) -> T {
        let heard = |_| self.heard.set(self.heard.get() + 1);
        let (spawn, call) = (|work: Call| work(), |_| -> Call { Box::new(|| ()) });
        work(&Ways { shared: &self.shared, spawn: &spawn, call: &call, heard: &heard, flight: &self.flight })
    }

    fn begin(&self, id: u64) -> Session {
        let bytes = Arc::new(Store::new(0)).bytes(Content::Generated(vec![7; 512 * 200])).unwrap();
        let limits = Limits { mtu: 1500, max_window: 64, rollover: Rollover::Zero, in_flight: u64::MAX };
        let agreed = negotiate(&[("windowsize", "16")], bytes.size(), limits);
        let claim = Arc::new(Claim::new(b"request"));
        let first = claim.begin(&agreed, bytes.size());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let (peer, file) = (self.client.local_addr().unwrap(), "file".to_owned());
        let job = Job {
            id,
            claim,
            mac: None,
            peer,
            socket: Arc::new(socket),
            own_socket: true,
            file,
            agreed,
            bytes,
            first,
        };
        let session = self.ways(|ways| Session::begin(job, ways)).unwrap();
        let oack = self.arrived();
        assert_eq!(oack.len(), 1);
        assert_eq!(oack[0][1], 6, "an OACK");
        session
    }

    fn ack(&self, session: &mut Session, block: u16) {
        let packet = Packet::Ack(block).encode();
        let from = session.job.peer;
        assert!(self.ways(|ways| session.packet(from, &packet, ways)));
    }

    /// What has arrived at the client: loopback delivers before the send is over.
    fn arrived(&self) -> Vec<Vec<u8>> {
        let mut packet = [0; 600];
        std::iter::from_fn(|| self.client.recv(&mut packet).ok().map(|length| packet[..length].to_vec()))
            .collect()
    }

    /// The numbers of the blocks that have arrived.
    fn blocks(&self) -> Vec<u16> {
        self.arrived().iter().map(|packet| u16::from_be_bytes([packet[2], packet[3]])).collect()
    }
}

#[test]
fn after_a_loss_a_window_leaves_in_two_parts_with_a_pause_between_them() {
    let stage = Stage::new(u64::MAX);
    let mut session = stage.begin(1);
    stage.ack(&mut session, 0);
    assert_eq!((stage.blocks(), stage.heard.get()), ((1..=16).collect(), 1));
    // The fifth block was lost.
    let before = Instant::now();
    stage.ack(&mut session, 4);
    assert_eq!(stage.blocks(), (5..=12).collect::<Vec<_>>(), "half of it at once");
    let (at, ..) = session.rest.clone().expect("the rest waits");
    let pause = session.job.claim.ask(Transfer::pause);
    assert!(!pause.is_zero() && at >= before + pause && at <= Instant::now() + pause);
    assert_eq!(session.deadline(), at, "its thread comes back for it");
    assert!(stage.ways(|ways| session.time(ways)));
    assert_eq!(stage.blocks(), (13..=20).collect::<Vec<_>>(), "then the other");
    assert!(session.rest.is_none() && session.deadline() > Instant::now() + Duration::from_millis(100));
    // An ACK meanwhile makes the rest superfluous.
    stage.ack(&mut session, 8);
    assert_eq!(stage.blocks(), (9..=12).collect::<Vec<_>>());
    stage.ack(&mut session, 12);
    assert_eq!(stage.blocks()[0], 13);
    assert_eq!(session.rest.as_ref().map(|(_, rest)| rest.end), Some(29));
    assert_eq!(stage.heard.get(), 1, "told once");
}

#[test]
fn a_window_waits_until_others_have_arrived_and_its_time_begins_then() {
    // Room for one and a half.
    let stage = Stage::new(512 * 24);
    let (mut one, mut other) = (stage.begin(1), stage.begin(2));
    stage.ack(&mut one, 0);
    assert_eq!(stage.blocks().len(), 16);
    stage.ack(&mut other, 0);
    assert_eq!((stage.blocks().len(), other.held()), (0, Some(512 * 16)));
    assert!(other.deadline() > Instant::now(), "it is not to blame");
    let next = |of: &Session| stage.flight.borrow_mut().next(|id| (id == 2).then(|| of.held())?);
    assert_eq!(next(&other), None, "no room yet");
    // The first one's next window comes behind the other's.
    stage.ack(&mut one, 16);
    assert_eq!((stage.blocks().len(), one.held()), (0, Some(512 * 16)));
    let before = other.job.claim.ask(Transfer::deadline);
    assert_eq!(next(&other), Some(2));
    assert!(stage.ways(|ways| other.leave(ways)));
    assert_eq!((stage.blocks().len(), other.held()), (16, None));
    assert!(other.job.claim.ask(Transfer::deadline) > before, "its client has the whole time");
    // Who ends makes room.
    stage.ways(|ways| other.land(ways));
    assert_eq!(stage.flight.borrow_mut().next(|_| one.held()), Some(1));
}
