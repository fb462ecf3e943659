use std::collections::BTreeMap;

use super::{Cards, MOST, Record, whose};
use crate::config::Boot;
use crate::inventory::{Host, Marks, Snapshot};
use crate::mac::Mac;
use crate::store::{Change, Memory, Store};
use crate::uuid::Uuid;

const NOW: u64 = 1_800_000_000;

const fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

/// Differs from itself in the other order.
const fn uuid(last: u8) -> Uuid {
    Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, last])
}

/// As it comes in option 97, in the order of RFC 4578.
fn says(last: u8) -> [Uuid; 2] {
    [uuid(last), uuid(last).swapped()]
}

/// These machines: the last bytes of MAC and address, and of the UUID if there is one.
fn snapshot(machines: &[(u8, Option<u8>)]) -> Snapshot {
    let host = |(last, id): &(u8, Option<u8>)| Host {
        mac: mac(*last),
        addr: [10, 0, 0, *last].into(),
        hostname: format!("b{last}"),
        channel: "stable".to_owned(),
        template: None,
        marks: id.map(|id| Box::new(Marks { uuid: Some(uuid(id)), ..Marks::default() })),
        boot: Boot::default(),
        variables: BTreeMap::new(),
        ignition: None,
    };
    Snapshot::new(BTreeMap::new(), machines.iter().map(host).collect())
}

/// A card says whose it is, and what is to be written of it is.
fn said(cards: &mut Cards, card: u8, id: u8, snapshot: &Snapshot, store: &mut Memory, now: u64) {
    let (card, says) = (mac(card), says(id));
    let host = whose(card, Some(says), cards, snapshot);
    let changes = cards.says(card, says, host, snapshot, now);
    if !changes.is_empty() {
        store.commit(&changes).unwrap();
        cards.written(card, true);
    }
}

#[test]
fn whose_a_card_is() {
    let machines = snapshot(&[(1, None), (2, Some(2)), (3, Some(3))]);
    let mut cards = Cards::default();
    said(&mut cards, 90, 2, &machines, &mut Memory::default(), NOW);
    // A card that has become another machine's own since, and one of a machine that is gone.
    let entries = [(91, 3), (1, 3), (92, 8)].map(|(card, id)| {
        let value = serde_json::json!({ "uuid": uuid(id), "since": NOW });
        (format!("card/{}", mac(card)), value.to_string().into_bytes())
    });
    for (mac, card) in Cards::read(&entries, |key| panic!("{key}")).by_mac {
        cards.insert(mac, card);
    }
    let network_order = Some([uuid(3).swapped(), uuid(3)]);
    let table = [
        ("a machine's own card", 1, Some(says(2)), None),
        ("a machine's own card, with its own identifier", 2, Some(says(2)), None),
        ("its own MAC outweighs what was remembered", 1, None, None),
        ("a strange card", 99, Some(says(2)), Some(2)),
        ("a strange card, the other way round", 99, network_order, Some(3)),
        ("a strange card that says nothing", 99, None, None),
        ("a strange machine", 99, Some(says(9)), None),
        ("a card that is remembered", 90, None, Some(2)),
        ("one that is in another machine now", 90, Some(says(3)), Some(3)),
        ("one that is in a strange machine now", 90, Some(says(9)), None),
        ("one of a machine that is gone", 92, None, None),
    ];
    for (what, card, says, expected) in table {
        let found = whose(mac(card), says, &cards, &machines).map(|host| host.mac);
        assert_eq!(found, expected.map(mac), "{what}");
    }
    assert_eq!(whose(mac(90), None, &cards, &snapshot(&[(1, None)])), None, "no machine has a `uuid`");
}

#[test]
fn cards_come_back_from_the_store() {
    let machines = snapshot(&[(1, Some(1)), (2, Some(2))]);
    let (mut cards, mut store) = (Cards::default(), Memory::default());
    said(&mut cards, 90, 1, &machines, &mut store, NOW);
    said(&mut cards, 91, 2, &machines, &mut store, NOW);
    let mut entries = store.list().unwrap();
    assert_eq!(entries[0].0, "card/02:00:00:00:00:5a");
    assert_eq!(entries[0].1, br#"{"since":1800000000,"uuid":"01020304-0506-0708-0900-000000000001"}"#);
    for (key, value) in [
        ("card/x", "{}"),
        ("card/02:00:00:00:00:01", r#"{"since":1,"uuid":"1"}"#),
        ("card/02:00:00:00:00:02", "{"),
        ("lease/10.0.0.1", "{}"),
    ] {
        entries.push((key.to_owned(), value.into()));
    }
    let mut odd = Vec::new();
    let again = Cards::read(&entries, |key| odd.push(key.to_owned()));
    assert_eq!(odd, ["card/x", "card/02:00:00:00:00:01", "card/02:00:00:00:00:02"]);
    for (card, machine) in [(90, 1), (91, 2)] {
        assert_eq!(whose(mac(card), None, &again, &machines).unwrap().mac, mac(machine));
    }

    // Put into another machine: that one's, or nobody's.
    said(&mut cards, 90, 2, &machines, &mut store, NOW);
    said(&mut cards, 91, 9, &machines, &mut store, NOW);
    assert_eq!(whose(mac(90), None, &cards, &machines).unwrap().mac, mac(2));
    assert_eq!(whose(mac(91), None, &cards, &machines), None);
    let entries = store.list().unwrap();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(cards.by_uuid.len(), 1, "{cards:?}");
}

#[test]
fn what_is_on_disk_is_not_written_again_and_what_is_not_is() {
    let machines = snapshot(&[(1, Some(1))]);
    let host = machines.by_mac(mac(1));
    let mut cards = Cards::default();
    let say = |cards: &mut Cards, card| cards.says(mac(card), says(1), host, &machines, NOW);
    let first = say(&mut cards, 90);
    assert_eq!(first.len(), 1);
    assert_eq!(say(&mut cards, 90), [], "it is on its way");
    assert_eq!(say(&mut cards, 91), [], "one at a time");
    assert_eq!(cards.written(mac(90), false), None);
    assert_eq!(whose(mac(90), None, &cards, &machines), host, "a full disk makes it no stranger");
    assert_eq!(say(&mut cards, 90), first);
    assert_eq!(cards.written(mac(90), true), Some(uuid(1)));
    assert_eq!(cards.written(mac(90), true), None, "told once");
    assert_eq!(say(&mut cards, 90), []);
    assert_eq!(say(&mut cards, 91).len(), 1);
}

#[test]
fn a_flood_of_made_up_cards_is_bounded() {
    let mut machines = snapshot(&[(1, Some(1)), (2, Some(2))]);
    let (mut cards, mut store) = (Cards::default(), Memory::default());
    said(&mut cards, 250, 2, &machines, &mut store, NOW);
    for card in 10..240 {
        said(&mut cards, card, 1, &machines, &mut store, NOW + u64::from(card));
    }
    assert_eq!((cards.by_mac.len(), store.list().unwrap().len()), (MOST + 1, MOST + 1));
    let of = |cards: &Cards, card, machines: &Snapshot| {
        whose(mac(card), None, cards, machines).map(|host| host.mac)
    };
    assert_eq!(of(&cards, 231, &machines), None, "the oldest have gone");
    assert_eq!(of(&cards, 232, &machines), Some(mac(1)));
    assert_eq!(of(&cards, 250, &machines), Some(mac(2)), "and nobody else's");
    let again = Cards::read(&store.list().unwrap(), |key| panic!("{key}"));
    let first = again.by_uuid.get(&uuid(1)).and_then(|cards| cards.first());
    assert_eq!(first, Some(&mac(232)), "in the order of their age");

    // What machines that are gone have left makes room, when there is none.
    machines = snapshot(&[(3, Some(3))]);
    said(&mut cards, 90, 3, &machines, &mut store, NOW);
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(cards.by_mac.values().all(|card| card.uuid == uuid(3) && card.record == Record::Written));
}

#[test]
fn the_change_of_one_that_goes_comes_with_the_one_that_comes() {
    let machines = snapshot(&[(1, Some(1))]);
    let (mut cards, mut store) = (Cards::default(), Memory::default());
    for card in 10..10 + u8::try_from(MOST).unwrap() {
        said(&mut cards, card, 1, &machines, &mut store, NOW);
    }
    let changes = cards.says(mac(90), says(1), machines.by_mac(mac(1)), &machines, NOW);
    let keys = changes.iter().map(|change| match change {
        Change::Put { key, .. } => ("put", key.as_str()),
        Change::Delete { key } => ("delete", key.as_str()),
    });
    let expected = [("delete", "card/02:00:00:00:00:0a"), ("put", "card/02:00:00:00:00:5a")];
    assert_eq!(keys.collect::<Vec<_>>(), expected);
}
