//! Which network cards are whose, for machines that the operator knows by their `uuid`: a second card or a new one is still
//! the machine.
//!
//! RFC 4578 2.3 (option 97). Firmware says it, operating systems do not: so what a card has said once is remembered, in the
//! store as `card/<mac>`. Pure: the snapshot and the time come in, and what is to be written comes back as a value.
//!
//! Bounded: a few cards for each machine with a `uuid`, of which the oldest goes, and one record of each on its way to the
//! disk. Nobody who makes up cards can have more than that.

use std::collections::HashMap;

use crate::inventory::{Host, Snapshot};
use crate::mac::Mac;
use crate::store::Change;
use crate::uuid::Uuid;

const PREFIX: &str = "card/";
/// The most cards that are remembered of one machine.
const MOST: usize = 8;

/// The cards that have said whose they are.
#[derive(Debug, Default)]
pub struct Cards {
    by_mac: HashMap<Mac, Card>,
    /// Those of each machine, the oldest first.
    by_uuid: HashMap<Uuid, Vec<Mac>>,
}

#[derive(Clone, Copy, Debug)]
struct Card {
    uuid: Uuid,
    /// When it was first seen, seconds since 1970.
    since: u64,
    record: Record,
}

/// Where a card's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    /// Not on disk: it is tried again when the card says it again.
    Missing,
    /// On its way.
    Underway,
    /// On disk.
    Written,
}

#[derive(serde::Deserialize)]
struct Value {
    uuid: String,
    since: u64,
}

/// The machine that a card belongs to, if that is not the one with its MAC: the card's own MAC is the operator's word. `says`
/// is what the request has in option 97; the first that is a machine's counts.
pub fn whose<'s>(
    card: Mac,
    says: Option<[Uuid; 2]>,
    cards: &Cards,
    snapshot: &'s Snapshot,
) -> Option<&'s Host> {
    if snapshot.uuids() == 0 || snapshot.by_mac(card).is_some() {
        return None;
    }
    match says {
        Some(says) => says.into_iter().find_map(|uuid| snapshot.by_uuid(uuid)),
        None => snapshot.by_uuid(cards.by_mac.get(&card)?.uuid),
    }
}

impl Cards {
    /// The cards among the entries of a store; `odd` hears of records that cannot be read.
    pub fn read(entries: &[(String, Vec<u8>)], mut odd: impl FnMut(&str)) -> Self {
        let mut found = Vec::new();
        for (key, value) in entries {
            let Some(mac) = key.strip_prefix(PREFIX) else { continue };
            match mac.parse().ok().zip(read_one(value)) {
                Some(card) => found.push(card),
                None => odd(key),
            }
        }
        found.sort_by_key(|(_, card)| card.since);
        let mut cards = Self::default();
        for (mac, card) in found {
            cards.insert(mac, card);
        }
        cards
    }

    /// A card says whose it is, and `host` is the machine that it belongs to, if there is one. Returns what is to be written;
    /// then [`Self::written`] wants to hear what became of it.
    pub fn says(
        &mut self,
        mac: Mac,
        says: [Uuid; 2],
        host: Option<&Host>,
        snapshot: &Snapshot,
        now: u64,
    ) -> Vec<Change> {
        let known = self.by_mac.get_mut(&mac);
        let Some(uuid) = host.and_then(Host::uuid) else {
            // It was put into another machine.
            let elsewhere = known.is_some_and(|known| !says.contains(&known.uuid));
            return if elsewhere { self.remove(mac).into_iter().collect() } else { Vec::new() };
        };
        if let Some(known) = known
            && known.uuid == uuid
        {
            if known.record != Record::Missing {
                return Vec::new();
            }
            known.record = Record::Underway;
            return vec![put(mac, known)];
        }
        let underway = |mac: &Mac| self.by_mac.get(mac).is_some_and(|card| card.record == Record::Underway);
        if self.by_uuid.get(&uuid).is_some_and(|cards| cards.iter().any(underway)) {
            // It says so again within the same boot.
            return Vec::new();
        }
        let mut changes = Vec::new();
        if self.by_mac.len() >= MOST * snapshot.uuids() {
            let gone = self.by_mac.iter().filter(|(_, card)| snapshot.by_uuid(card.uuid).is_none());
            let gone: Vec<Mac> = gone.map(|(mac, _)| *mac).collect();
            changes.extend(gone.into_iter().filter_map(|mac| self.remove(mac)));
        }
        let card = Card { uuid, since: now, record: Record::Underway };
        changes.extend(self.insert(mac, card));
        changes.push(put(mac, &card));
        changes
    }

    /// What was to be written of a card is on disk, or is not. Returns whose it is when it is.
    pub fn written(&mut self, mac: Mac, stored: bool) -> Option<Uuid> {
        let card = self.by_mac.get_mut(&mac).filter(|card| card.record == Record::Underway)?;
        card.record = if stored { Record::Written } else { Record::Missing };
        stored.then_some(card.uuid)
    }

    /// Takes a card in the place of what was known of it. Returns what is to be written of the one that had to go for it.
    fn insert(&mut self, mac: Mac, card: Card) -> Option<Change> {
        self.remove(mac);
        self.by_mac.insert(mac, card);
        let cards = self.by_uuid.entry(card.uuid).or_default();
        cards.push(mac);
        let oldest = cards.first().copied().filter(|_| cards.len() > MOST);
        oldest.and_then(|oldest| self.remove(oldest))
    }

    fn remove(&mut self, mac: Mac) -> Option<Change> {
        let Card { uuid, .. } = self.by_mac.remove(&mac)?;
        if let Some(cards) = self.by_uuid.get_mut(&uuid) {
            cards.retain(|other| *other != mac);
            if cards.is_empty() {
                self.by_uuid.remove(&uuid);
            }
        }
        Some(Change::Delete { key: format!("{PREFIX}{mac}") })
    }
}

fn put(mac: Mac, card: &Card) -> Change {
    let value = serde_json::json!({ "uuid": card.uuid, "since": card.since });
    Change::Put { key: format!("{PREFIX}{mac}"), value: value.to_string().into_bytes() }
}

fn read_one(value: &[u8]) -> Option<Card> {
    let Value { uuid, since } = serde_json::from_slice(value).ok()?;
    Some(Card { uuid: uuid.parse().ok()?, since, record: Record::Written })
}

#[cfg(test)]
mod tests;
