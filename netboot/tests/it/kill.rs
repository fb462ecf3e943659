//! SIGKILL at random moments under load: no acknowledged lease is lost, and no address has two owners.
//!
//! Virtual machines come, renew, restart and go all the time. After each kill every machine that had an ACK asks for its
//! address, and strangers ask for the newest of these addresses first: a lease that was acknowledged and not written
//! would be theirs. A machine that has given back its address is replaced by another, so that no memory of it helps.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use netboot::mac::Mac;
use xtask::lab::{SERVER_ADDR, Server};

use crate::daemon::{BLADE, NETBOOT, SOON, data, lab};
use crate::wire::{ACK, Ask, DISCOVER, NAK, OFFER, RELEASE, REQUEST, Reply, Wire};

const ROUNDS: u32 = 100;
const MACHINES: usize = 100;
/// How many of the newest leases strangers ask for.
const WANTED: usize = 8;
/// The time from ready to SIGKILL, milliseconds.
const LONGEST_LIFE: u64 = 300;
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Random enough, and the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// What a machine is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Nothing,
    Offer,
    /// An ACK for what it was offered.
    Lease,
    /// An ACK for what it has.
    Again,
}

#[derive(Clone, Debug)]
struct Machine {
    mac: Mac,
    xid: u32,
    wait: Wait,
    since: Instant,
    /// What it has an ACK for.
    own: Option<Ipv4Addr>,
    /// The server has been killed since then, and has not acknowledged it again.
    unsure: bool,
}

/// All machines, and what they were promised.
struct Rack {
    wire: Wire,
    dice: Dice,
    machines: Vec<Machine>,
    /// The place of each machine that there is.
    places: HashMap<Mac, usize>,
    owners: HashMap<Ipv4Addr, Mac>,
    /// Addresses in the order of their ACKs, the newest last.
    acked: Vec<Ipv4Addr>,
    made: u32,
    asked: u32,
    /// New leases, repeated ACKs of them, refusals of strangers.
    seen: [u64; 3],
}

impl Rack {
    fn new(wire: Wire, dice: Dice) -> Self {
        let mut rack = Self {
            wire,
            dice,
            machines: Vec::new(),
            places: HashMap::new(),
            owners: HashMap::new(),
            acked: Vec::new(),
            made: 0,
            asked: 0,
            seen: [0; 3],
        };
        for place in 0..MACHINES {
            let machine = rack.machine(place);
            rack.machines.push(machine);
        }
        rack
    }

    fn mac(&mut self, kind: u8) -> Mac {
        self.made += 1;
        let [_, a, b, c] = self.made.to_be_bytes();
        Mac([0x52, 0x54, kind, a, b, c])
    }

    /// A new machine for this place.
    fn machine(&mut self, place: usize) -> Machine {
        let mac = self.mac(1);
        self.places.insert(mac, place);
        Machine { mac, xid: 0, wait: Wait::Nothing, since: Instant::now(), own: None, unsure: false }
    }

    fn ask(&mut self, mac: Mac, message: u8) -> Ask {
        self.asked += 1;
        Ask::new(mac, self.asked, message)
    }

    /// The server is new: nobody waits any more, and everybody who has something must get it again.
    fn after_a_kill(&mut self) {
        for machine in &mut self.machines {
            machine.wait = Wait::Nothing;
            machine.unsure = machine.own.is_some();
        }
        let newest: Vec<_> = self.acked.iter().rev().copied().take(WANTED).collect();
        for addr in newest {
            let mac = self.mac(2);
            let (restart, discover) = (self.ask(mac, REQUEST), self.ask(mac, DISCOVER));
            self.wire.send(&restart.requested(addr));
            self.wire.send(&discover.requested(addr));
        }
        self.acked.clear();
    }

    /// Lets the machines do something until then.
    fn live(&mut self, until: Instant) {
        while Instant::now() < until {
            for place in 0..self.machines.len() {
                self.act(place);
            }
            self.listen(Duration::from_millis(1));
        }
    }

    /// Takes what has come within this time, and all that is there.
    fn listen(&mut self, within: Duration) {
        let mut within = within;
        while let Some(reply) = self.wire.hear(within) {
            self.take(&reply);
            within = Duration::ZERO;
        }
    }

    /// One machine's next step, if it does not wait.
    fn act(&mut self, place: usize) {
        let Machine { mac, wait, since, own, unsure, .. } = self.machines[place];
        if wait != Wait::Nothing && since.elapsed() < PATIENCE {
            return;
        }
        let ask = match own {
            None => self.ask(mac, DISCOVER),
            Some(addr) => match self.dice.below(if unsure { 2 } else { 40 }) {
                0 => self.ask(mac, REQUEST).ciaddr(addr),
                1 => self.ask(mac, REQUEST).requested(addr),
                2..4 => return self.leave(place, addr),
                // It has what it wants.
                _ => return,
            },
        };
        let machine = &mut self.machines[place];
        machine.xid = ask.xid;
        machine.wait = if own.is_some() { Wait::Again } else { Wait::Offer };
        machine.since = Instant::now();
        self.wire.send(&ask);
    }

    /// Gives back the address, and is replaced by another machine.
    fn leave(&mut self, place: usize, addr: Ipv4Addr) {
        let mac = self.machines[place].mac;
        let release = self.ask(mac, RELEASE).ciaddr(addr).server(SERVER_ADDR);
        self.owners.remove(&addr);
        self.acked.retain(|other| *other != addr);
        self.places.remove(&mac);
        self.wire.send(&release);
        self.machines[place] = self.machine(place);
    }

    fn take(&mut self, reply: &Reply) {
        let Reply { mac, xid, message, yiaddr, .. } = *reply;
        if message != NAK {
            let owner = self.owners.get(&yiaddr).copied().unwrap_or(mac);
            assert_eq!(owner, mac, "{yiaddr} has an owner, and is promised to another: {reply:?}");
        }
        let Some(place) = self.places.get(&mac).copied() else {
            self.seen[2] += u64::from(message == NAK);
            return;
        };
        let machine = &mut self.machines[place];
        if machine.xid != xid {
            return;
        }
        let (wait, own) = (std::mem::replace(&mut machine.wait, Wait::Nothing), machine.own);
        match (wait, message) {
            (Wait::Offer, OFFER) => {
                let request = self.ask(mac, REQUEST).requested(yiaddr).server(SERVER_ADDR);
                let machine = &mut self.machines[place];
                (machine.xid, machine.wait, machine.since) = (request.xid, Wait::Lease, Instant::now());
                self.wire.send(&request);
            }
            (Wait::Lease, ACK) => {
                (machine.own, machine.unsure) = (Some(yiaddr), false);
                self.owners.insert(yiaddr, mac);
                self.acked.push(yiaddr);
                self.seen[0] += 1;
            }
            (Wait::Again, ACK) => {
                assert_eq!(own, Some(yiaddr), "{mac} has another address than it was promised: {reply:?}");
                machine.unsure = false;
                self.seen[1] += 1;
            }
            (Wait::Again, NAK) => panic!("{mac} has lost {own:?}, which it had an ACK for: {reply:?}"),
            // An offer that came too late, or a refusal of one that a kill made the server forget.
            _ => {}
        }
    }

    fn all_sure(&self) -> bool {
        self.machines.iter().all(|machine| !machine.unsure)
    }
}

#[test]
fn a_hundred_kills_under_load_lose_no_acknowledged_lease() {
    let seed = RandomState::new().hash_one("kill") | 1;
    // Shown by the test runner when the test fails.
    println!("seed: {seed:#x}");
    let (lab, data) = (lab(), data(BLADE));
    // No pause before an offer: the more leases are on their way to the disk at a kill the better.
    std::fs::write(data.path().join("netboot.json"), r#"{ "dhcp": { "probe": false } }"#).unwrap();
    // A large pool: what a machine gave back while the server was dead is not free again for an hour.
    lab.server.ip("addr flush dev pxe0").unwrap();
    lab.server.ip(&format!("addr add {SERVER_ADDR}/20 dev pxe0")).unwrap();
    let client = lab.client("rack").unwrap();
    client.ip("link set eth0 up").unwrap();
    let mut rack = Rack::new(Wire::open(&lab, &client), Dice(seed));
    let start = || Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    for round in 0..ROUNDS {
        let server = start();
        let ready = Instant::now();
        rack.after_a_kill();
        let life = Duration::from_millis(rack.dice.below(LONGEST_LIFE));
        let before = rack.seen[0];
        rack.live(ready + life);
        // Every fourth lives until somebody new was served, so that it has something to lose.
        while round % 4 == 0 && rack.seen[0] == before {
            assert!(ready.elapsed() < SOON, "nobody new is served; {}", server.child().output());
            rack.live(Instant::now() + Duration::from_millis(5));
        }
        server.child().signal("KILL").unwrap();
        // Gone when this returns; what it has sent is on the wire.
        drop(server);
        rack.listen(Duration::ZERO);
    }
    let server = start();
    rack.after_a_kill();
    let deadline = Instant::now() + SOON;
    while !rack.all_sure() && Instant::now() < deadline {
        rack.live(Instant::now() + Duration::from_millis(20));
    }
    let lost: Vec<_> = rack.machines.iter().filter(|machine| machine.unsure).collect();
    assert!(lost.is_empty(), "not acknowledged again: {lost:?}\n{}", server.child().output());
    let [new, again, refused] = rack.seen;
    println!("{new} leases, {again} acknowledged again, {refused} strangers refused");
    assert!(new > 500 && again > 2000 && refused > 200, "the load was no load: {:?}", rack.seen);
    server.stop().unwrap();
}
