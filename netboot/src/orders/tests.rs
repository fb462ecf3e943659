use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Error, Orders};
use crate::inventory::orders::When;
use crate::inventory::{Inventory, Networks, Order};
use crate::mac::Mac;
use crate::store::{Redb, Store};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A data directory with one machine and one profile.
fn directory() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let hosts = r#"{ "hosts": { "10.0.0.1": { "macaddr": "02:00:00:00:00:01", "$hostname": "b1", "channel": "stable", "template": "own.yaml" } } }"#;
    std::fs::write(data.path().join("pxe_hosts.json"), hosts).unwrap();
    std::fs::create_dir(data.path().join("profiles")).unwrap();
    let lab = r#"{ "kernel": "k", "initrd": ["a", "b"], "template": "lab.yaml" }"#;
    std::fs::write(data.path().join("profiles/lab.json"), lab).unwrap();
    data
}

/// A daemon's part of it, with the store that it keeps them in.
fn started(data: &Path) -> (Arc<Inventory>, Arc<Orders>, Redb) {
    let inventory = Arc::new(Inventory::open(data.to_owned(), Networks::default()).unwrap());
    let orders = Orders::start(Arc::clone(&inventory)).unwrap();
    let store = Redb::open(&data.join("state")).unwrap();
    orders.keep_in(store.beside(), &store.list().unwrap());
    (inventory, orders, store)
}

fn order(profile: &str, when: When) -> Order {
    Order { profile: profile.to_owned(), when }
}

/// The profile and the template of the machine.
fn told(inventory: &Inventory) -> (String, String) {
    let snapshot = inventory.snapshot();
    let host = snapshot.by_mac(MAC).unwrap();
    (snapshot.profile_name(Some(host)).unwrap().to_owned(), snapshot.template(host).to_owned())
}

fn is(inventory: &Inventory, profile: &str, template: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    let expected = (profile.to_owned(), template.to_owned());
    while told(inventory) != expected && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(told(inventory), expected);
}

#[test]
fn an_order_is_done_with_when_the_last_file_was_sent_and_not_before() {
    let data = directory();
    let (inventory, orders, _store) = started(data.path());
    is(&inventory, "stable", "own.yaml");
    orders.set(MAC, Some(order("lab", When::Once))).unwrap();
    is(&inventory, "lab", "lab.yaml");
    let (own, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    for (addr, file) in [(own, "pxelinux.cfg/stable"), (own, "k"), (own, "a"), (own, "c/b"), (other, "b")] {
        orders.carried_out(addr, file);
        is(&inventory, "lab", "lab.yaml");
    }
    orders.sent(own.into(), "//b");
    is(&inventory, "stable", "lab.yaml");
    // What runs now has the template of what was ordered, and the next boot has nothing of it.
    orders.sent(own.into(), "boot.ipxe");
    is(&inventory, "stable", "own.yaml");
}

#[test]
fn an_order_is_kept_until_it_is_taken_back() {
    let data = directory();
    let (inventory, orders, store) = started(data.path());
    orders.set(MAC, Some(order("local-disk", When::Always))).unwrap();
    for file in ["boot.ipxe", "pxelinux.cfg/default", "b"] {
        orders.carried_out([10, 0, 0, 1].into(), file);
    }
    is(&inventory, "local-disk", "own.yaml");
    assert!(inventory.reload(), "the files say nothing of it");
    is(&inventory, "local-disk", "own.yaml");
    drop((inventory, orders, store));
    let (inventory, orders, store) = started(data.path());
    is(&inventory, "local-disk", "own.yaml");
    orders.set(MAC, None).unwrap();
    is(&inventory, "stable", "own.yaml");
    assert_eq!(store.list().unwrap(), []);
}

#[test]
fn what_is_no_order_changes_nothing() {
    let data = directory();
    let (inventory, orders, store) = started(data.path());
    let no_machine = orders.set(Mac([2, 0, 0, 0, 0, 9]), Some(order("lab", When::Once)));
    assert!(matches!(no_machine, Err(Error::NoMachine(_))), "{no_machine:?}");
    let no_profile = orders.set(MAC, Some(order("gone", When::Once)));
    assert!(matches!(&no_profile, Err(Error::NoProfile(name)) if name == "gone"), "{no_profile:?}");
    drop(store);
    let closed = orders.set(MAC, Some(order("lab", When::Once))).unwrap_err();
    assert!(
        closed.told().contains("it cannot be kept: write to") && closed.told().contains("closed"),
        "{closed:?}"
    );
    is(&inventory, "stable", "own.yaml");
    let bad = ("order/02:00:00:00:00:01".to_owned(), b"{".to_vec());
    orders.keep_in(
        Redb::open(&data.path().join("state")).unwrap().beside(),
        &[bad, ("lease/x".into(), vec![])],
    );
    is(&inventory, "stable", "own.yaml");
}
