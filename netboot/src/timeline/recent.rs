//! A bounded memory: what was put in last stays, what was put in longest ago goes. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most so many values, each under its key.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    values: HashMap<K, (V, Turn)>,
    /// The one that was put in longest ago first.
    order: BTreeMap<Turn, K>,
    turn: Turn,
    most: usize,
}

/// Counts what is put in: an order that no clock disturbs.
type Turn = u64;

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { values: HashMap::new(), order: BTreeMap::new(), turn: 0, most }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(value, _)| value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key).map(|(value, _)| value)
    }

    /// Puts a value in, as the newest, in the place of one with this key; else the oldest goes where there is no room.
    pub(super) fn put(&mut self, key: K, value: V) {
        self.remove(&key);
        if self.values.len() >= self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.values.remove(&oldest);
        }
        self.turn += 1;
        self.values.insert(key, (value, self.turn));
        self.order.insert(self.turn, key);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (value, turn) = self.values.remove(key)?;
        self.order.remove(&turn);
        Some(value)
    }

    /// All of them, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = (&K, &V)> {
        self.order.values().rev().filter_map(|key| Some((key, self.get(key)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn the_oldest_goes_and_what_is_put_in_again_is_new() {
        let mut recent = Recent::new(3);
        for key in 1..=3 {
            recent.put(key, key * 10);
        }
        recent.put(1, 11);
        recent.put(4, 40);
        assert_eq!(recent.get(&2), None, "the oldest");
        let all: Vec<(i32, i32)> = recent.newest_first().map(|(key, value)| (*key, *value)).collect();
        assert_eq!(all, [(4, 40), (1, 11), (3, 30)]);
        assert_eq!((recent.remove(&1), recent.remove(&1)), (Some(11), None));
        for key in 100..10_000 {
            recent.put(key, 0);
        }
        assert_eq!((recent.values.len(), recent.order.len()), (3, 3));
    }
}
