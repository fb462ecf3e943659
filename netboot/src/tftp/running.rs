//! Which clients' ports are being served, and by which worker. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::session::Claim;

/// A worker with so many transfers is full: the next one gets some, if there is one. One thread fills a link of 5 Gbit/s with
/// them.
const FULL: usize = 32;

/// A client's port that is being served.
#[derive(Clone, Debug)]
pub(super) struct Served {
    /// The transfer's number, which no other ever had.
    pub(super) id: u64,
    pub(super) claim: Arc<Claim>,
    /// The number of the worker that has it, when one has it.
    pub(super) worker: Option<usize>,
    /// The bytes of its window.
    granted: u64,
}

/// Transfers of an address.
#[derive(Debug, Default)]
struct Client {
    transfers: usize,
    /// The bytes of their windows.
    granted: u64,
    /// Those of them that nobody has answered yet.
    unheard: BTreeSet<u64>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Running {
    next: u64,
    served: HashMap<SocketAddr, Served>,
    peers: HashMap<u64, SocketAddr>,
    clients: HashMap<IpAddr, Client>,
    /// Transfers of each worker.
    load: Vec<usize>,
    /// Those that nobody has answered yet, the oldest first: whoever asks in the name of others fills no places.
    unheard: BTreeSet<u64>,
    /// Those that had to give way and hold their sockets still.
    leaving: HashSet<u64>,
}

impl Running {
    /// None, for so many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            next: 0,
            served: HashMap::new(),
            peers: HashMap::new(),
            clients: HashMap::new(),
            load: vec![0; workers],
            unheard: BTreeSet::new(),
            leaving: HashSet::new(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.served.len()
    }

    /// How many of one address.
    pub(super) fn of(&self, addr: IpAddr) -> usize {
        self.clients.get(&addr).map_or(0, |client| client.transfers)
    }

    /// The one of this port.
    pub(super) fn get(&self, peer: SocketAddr) -> Option<&Served> {
        self.served.get(&peer)
    }

    /// Adds one of a port that has none; returns its number.
    pub(super) fn begin(&mut self, peer: SocketAddr, claim: Arc<Claim>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.served.insert(peer, Served { id, claim, worker: None, granted: 0 });
        self.peers.insert(id, peer);
        let client = self.clients.entry(peer.ip()).or_default();
        client.transfers += 1;
        client.unheard.insert(id);
        self.unheard.insert(id);
        id
    }

    /// The bytes of all windows of an address.
    pub(super) fn granted(&self, addr: IpAddr) -> u64 {
        self.clients.get(&addr).map_or(0, |client| client.granted)
    }

    /// A transfer's window has so many bytes.
    pub(super) fn grant(&mut self, id: u64, bytes: u64) {
        let Some(peer) = self.peers.get(&id) else { return };
        let Some(served) = self.served.get_mut(peer) else { return };
        let Some(client) = self.clients.get_mut(&peer.ip()) else { return };
        client.granted = client.granted - served.granted + bytes;
        served.granted = bytes;
    }

    /// Gives it to a worker, if it has not ended meanwhile: to the first that is not full, and when all are to the one that
    /// has the fewest. What arrives for one worker is taken together, so two of them that are half busy cost more than one.
    pub(super) fn assign(&mut self, id: u64) -> Option<usize> {
        let served = self.peers.get(&id).and_then(|peer| self.served.get_mut(peer))?;
        let place = |(worker, load): &(usize, &mut usize)| ((**load).max(FULL - 1), *worker);
        let (worker, load) = self.load.iter_mut().enumerate().min_by_key(place)?;
        *load += 1;
        served.worker = Some(worker);
        Some(worker)
    }

    /// How many had to give way and are not gone yet.
    pub(super) fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// Takes one out for another; [`over`](Self::over) says when it is gone.
    pub(super) fn give_way(&mut self, id: u64) -> Option<Served> {
        let served = self.end(id)?;
        self.leaving.insert(id);
        Some(served)
    }

    /// It is gone.
    pub(super) fn over(&mut self, id: u64) {
        if self.end(id).is_none() {
            self.leaving.remove(&id);
        }
    }

    /// Its client has answered.
    pub(super) fn heard(&mut self, id: u64) {
        self.unheard.remove(&id);
        let client = self.peers.get(&id).and_then(|peer| self.clients.get_mut(&peer.ip()));
        client.map(|client| client.unheard.remove(&id));
    }

    /// Takes one out.
    fn end(&mut self, id: u64) -> Option<Served> {
        self.heard(id);
        let peer = self.peers.remove(&id)?;
        let served = self.served.remove(&peer)?;
        if let Some(client) = self.clients.get_mut(&peer.ip()) {
            client.transfers -= 1;
            client.granted -= served.granted;
            if client.transfers == 0 {
                self.clients.remove(&peer.ip());
            }
        }
        if let Some(load) = served.worker.and_then(|worker| self.load.get_mut(worker)) {
            *load -= 1;
        }
        Some(served)
    }

    /// How many nobody has answered yet, in all and of one address.
    pub(super) fn unheard(&self, addr: IpAddr) -> (usize, usize) {
        (self.unheard.len(), self.clients.get(&addr).map_or(0, |client| client.unheard.len()))
    }

    /// The oldest that nobody has answered, and since when it is there.
    pub(super) fn oldest_unheard(&self) -> Option<(u64, Instant)> {
        let id = *self.unheard.first()?;
        let served = self.peers.get(&id).and_then(|peer| self.served.get(peer))?;
        Some((id, served.claim.heard_at()))
    }

    /// The oldest that nobody has answered of the address that has the most of these, if it has more than `others`.
    pub(super) fn crowded_out(&self, others: usize) -> Option<u64> {
        let client = self.clients.values().max_by_key(|client| client.unheard.len())?;
        client.unheard.first().copied().filter(|_| client.unheard.len() > others)
    }

    /// The one whose client has been silent for longest, and since when.
    pub(super) fn idlest(&self) -> Option<(u64, Instant)> {
        let heard = self.served.values().map(|served| (served.id, served.claim.heard_at()));
        heard.min_by_key(|(_, heard_at)| *heard_at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Claim, FULL, Running};

    #[test]
    fn workers_are_filled_in_turn_and_nothing_is_left_behind() {
        let mut running = Running::new(2);
        let claim = || Arc::new(Claim::new(b"request"));
        let many = u16::try_from(2 * FULL + 3).unwrap();
        let ids: Vec<u64> =
            (1..=many).map(|port| running.begin(([10, 0, 0, 1], port).into(), claim())).collect();
        let workers: Vec<_> = ids.iter().map(|id| running.assign(*id).unwrap()).collect();
        let expected = [vec![0; FULL], vec![1; FULL], vec![0, 1, 0]].concat();
        assert_eq!(workers, expected);
        assert_eq!(
            (running.len(), running.of([10, 0, 0, 1].into()), running.of([10, 0, 0, 2].into())),
            (ids.len(), ids.len(), 0)
        );
        for (id, worker) in ids.iter().zip(workers).skip(2) {
            assert_eq!(running.end(*id).map(|served| served.worker), Some(Some(worker)));
        }
        assert!(running.end(2).is_none(), "it has ended");
        assert_eq!(running.assign(2), None);
        let other = running.begin(([10, 0, 0, 2], 1).into(), claim());
        assert_eq!(running.assign(other), Some(0));
        assert_eq!(running.idlest().map(|(id, _)| id), Some(0), "the oldest of those that are left");
        for id in [0, 1, other] {
            running.end(id);
        }
        let last = running.begin(([10, 0, 0, 2], 2).into(), claim());
        let another = running.begin(([10, 0, 0, 2], 3).into(), claim());
        for (id, bytes) in [(last, 5), (another, 7), (last, 3), (other, 9)] {
            running.grant(id, bytes);
        }
        assert_eq!(running.granted([10, 0, 0, 2].into()), 10);
        running.over(another);
        assert_eq!(running.granted([10, 0, 0, 2].into()), 3);
        assert!(running.give_way(last).is_some() && running.give_way(last).is_none());
        assert_eq!((running.len(), running.leaving()), (0, 1));
        running.over(last);
        assert_eq!(running.leaving(), 0);
        assert_eq!((running.len(), running.clients.len(), running.peers.len()), (0, 0, 0));
        assert_eq!(running.load, [0, 0]);
    }

    #[test]
    fn who_was_not_heard_is_known_by_age_and_address() {
        let mut running = Running::new(1);
        let mut begin =
            |addr: u8, port| running.begin(([10, 0, 0, addr], port).into(), Arc::new(Claim::new(b"request")));
        let ids = [begin(1, 1), begin(2, 1), begin(2, 2), begin(2, 3)];
        assert_eq!(running.unheard([10, 0, 0, 2].into()), (4, 3));
        assert_eq!(running.oldest_unheard().map(|(id, _)| id), Some(ids[0]));
        assert_eq!(running.crowded_out(2), Some(ids[1]), "the oldest of who has most");
        assert_eq!(running.crowded_out(3), None);
        running.heard(ids[0]);
        running.heard(ids[1]);
        assert_eq!(running.unheard([10, 0, 0, 1].into()), (2, 0));
        assert_eq!(running.oldest_unheard().map(|(id, _)| id), Some(ids[2]));
        assert_eq!(running.crowded_out(1), Some(ids[2]));
        running.give_way(ids[2]);
        running.over(ids[3]);
        running.heard(ids[3]);
        assert_eq!((running.unheard([10, 0, 0, 2].into()), running.of([10, 0, 0, 2].into())), ((0, 0), 1));
        assert!(running.oldest_unheard().is_none() && running.crowded_out(0).is_none());
    }
}
