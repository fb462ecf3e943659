//! Which clients' ports are being served, and by which worker. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::session::Claim;

/// A client's port that is being served.
#[derive(Clone, Debug)]
pub(super) struct Served {
    /// The transfer's number, which no other ever had.
    pub(super) id: u64,
    pub(super) claim: Arc<Claim>,
    /// The number of the worker that has it, when one has it.
    pub(super) worker: Option<usize>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Running {
    next: u64,
    served: HashMap<SocketAddr, Served>,
    peers: HashMap<u64, SocketAddr>,
    /// Transfers of each address.
    addresses: HashMap<IpAddr, usize>,
    /// Transfers of each worker.
    load: Vec<usize>,
    /// In the order in which they began; those that have ended, or whose client was heard, go when they are first.
    young: VecDeque<u64>,
    /// Those that had to give way and hold their sockets still.
    leaving: HashSet<u64>,
}

impl Running {
    /// None, for so many workers.
    pub(super) fn new(workers: usize) -> Self {
        let load = vec![0; workers];
        Self {
            next: 0,
            served: HashMap::new(),
            peers: HashMap::new(),
            addresses: HashMap::new(),
            load,
            young: VecDeque::new(),
            leaving: HashSet::new(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.served.len()
    }

    /// How many of one address.
    pub(super) fn of(&self, addr: IpAddr) -> usize {
        self.addresses.get(&addr).copied().unwrap_or_default()
    }

    /// The one of this port.
    pub(super) fn get(&self, peer: SocketAddr) -> Option<&Served> {
        self.served.get(&peer)
    }

    /// Adds one of a port that has none; returns its number.
    pub(super) fn begin(&mut self, peer: SocketAddr, claim: Arc<Claim>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.served.insert(peer, Served { id, claim, worker: None });
        self.peers.insert(id, peer);
        *self.addresses.entry(peer.ip()).or_default() += 1;
        self.unheard();
        self.young.push_back(id);
        id
    }

    /// Gives it to the worker that has the fewest, if it has not ended meanwhile.
    pub(super) fn assign(&mut self, id: u64) -> Option<usize> {
        let served = self.peers.get(&id).and_then(|peer| self.served.get_mut(peer))?;
        let (worker, load) = self.load.iter_mut().enumerate().min_by_key(|(_, load)| **load)?;
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

    /// Takes one out.
    fn end(&mut self, id: u64) -> Option<Served> {
        let peer = self.peers.remove(&id)?;
        let served = self.served.remove(&peer)?;
        if let Some(number) = self.addresses.get_mut(&peer.ip()) {
            *number -= 1;
            if *number == 0 {
                self.addresses.remove(&peer.ip());
            }
        }
        if let Some(load) = served.worker.and_then(|worker| self.load.get_mut(worker)) {
            *load -= 1;
        }
        Some(served)
    }

    /// The oldest whose client was never heard, and since when it is there: whoever asks in the name of others fills no places.
    pub(super) fn unheard(&mut self) -> Option<(u64, Instant)> {
        while let Some(id) = self.young.front().copied() {
            let served = self.peers.get(&id).and_then(|peer| self.served.get(peer));
            if let Some(served) = served.filter(|served| !served.claim.heard()) {
                return Some((id, served.claim.heard_at()));
            }
            self.young.pop_front();
        }
        None
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

    use super::{Claim, Running};

    #[test]
    fn each_goes_to_the_worker_that_has_the_fewest_and_leaves_nothing_behind() {
        let mut running = Running::new(2);
        let claim = || Arc::new(Claim::new(b"request"));
        let ids: Vec<u64> =
            (1..=5).map(|port| running.begin(([10, 0, 0, 1], port).into(), claim())).collect();
        let workers: Vec<_> = ids.iter().map(|id| running.assign(*id)).collect();
        assert_eq!(workers, [Some(0), Some(1), Some(0), Some(1), Some(0)]);
        assert_eq!(
            (running.len(), running.of([10, 0, 0, 1].into()), running.of([10, 0, 0, 2].into())),
            (5, 5, 0)
        );
        for id in [0, 2, 4] {
            assert_eq!(running.end(id).map(|served| served.worker), Some(Some(0)));
        }
        assert!(running.end(0).is_none(), "it has ended");
        assert_eq!(running.assign(0), None);
        let other = running.begin(([10, 0, 0, 2], 1).into(), claim());
        assert_eq!(running.assign(other), Some(0));
        assert_eq!(running.idlest().map(|(id, _)| id), Some(1), "the oldest of those that are left");
        assert_eq!(running.unheard().map(|(id, _)| id), Some(1), "nobody was heard");
        for id in [1, 3, other] {
            running.end(id);
        }
        assert!(running.unheard().is_none() && running.young.is_empty());
        let last = running.begin(([10, 0, 0, 2], 2).into(), claim());
        assert!(running.give_way(last).is_some() && running.give_way(last).is_none());
        assert_eq!((running.len(), running.leaving()), (0, 1));
        running.over(last);
        assert_eq!(running.leaving(), 0);
        assert_eq!((running.len(), running.addresses.len(), running.peers.len()), (0, 0, 0));
        assert_eq!(running.load, [0, 0]);
    }
}
