//! Updates against a table that checks each moment, refuses what it is told to, and counts.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use netboot_ebpf::abi::{Host, NO_SLOT, TEMPLATES_CAPACITY};
use proptest::prelude::*;

use super::{Changed, Held, Table, apply, host, is_of, put_leased, take_leased};
use crate::fastpath::entries::{Entries, Group, Leased, Machine, Name, leased};
use crate::mac::Mac;

#[derive(Default)]
struct Fake {
    templates: BTreeMap<u16, Vec<u8>>,
    machines: BTreeMap<Mac, Host>,
    refuse: Option<Mac>,
    refuse_templates: bool,
    writes: usize,
}

impl Fake {
    /// What a machine is told in a class.
    fn told(&self, number: u8, class: usize) -> Option<&[u8]> {
        let slot = self.machines.get(&mac(number))?.slots[class];
        (slot != NO_SLOT).then(|| self.templates[&slot].as_slice())
    }
}

impl Table for Fake {
    type Error = String;

    fn write(&mut self, slot: u16, template: &[u8]) -> Result<(), String> {
        if self.refuse_templates {
            return Err("template".to_owned());
        }
        assert!(u32::from(slot) < TEMPLATES_CAPACITY);
        let named = self.machines.values().any(|host| host.slots.contains(&slot));
        assert!(!named, "slot {slot} is written while a machine names it");
        self.templates.insert(slot, template.to_vec());
        self.writes += 1;
        Ok(())
    }

    fn put(&mut self, mac: Mac, host: &Host) -> Result<(), String> {
        if self.refuse == Some(mac) {
            return Err(mac.to_string());
        }
        let owner = self.machines.iter().find(|(other, held)| **other != mac && held.addr == host.addr);
        assert_eq!(owner, None, "two owners of {}", Ipv4Addr::from_bits(host.addr));
        for slot in host.slots.iter().filter(|slot| **slot != NO_SLOT) {
            assert!(self.templates.contains_key(slot), "a template that was not written yet");
        }
        self.writes += 1;
        self.machines.insert(mac, *host);
        Ok(())
    }

    fn take(&mut self, mac: Mac) -> Result<(), String> {
        self.writes += 1;
        self.machines.remove(&mac);
        Ok(())
    }
}

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

/// Machines as (number, last byte of the address, group), and groups as what they say in two classes.
fn entries(machines: &[(u8, u8, usize)], groups: &[[&str; 2]]) -> Entries {
    let template = |text: &&str| (!text.is_empty()).then(|| text.as_bytes().into());
    let groups =
        groups.iter().map(|texts| Group { segment: 0, templates: texts.iter().map(template).collect() });
    let machine = |(number, addr, group): &(u8, u8, usize)| Machine {
        mac: mac(*number),
        addr: Ipv4Addr::new(192, 168, 90, *addr),
        group: *group,
        name: Name { len: 0, bytes: [0; 72] },
        valid_until_ns: 0,
    };
    Entries { groups: groups.collect(), machines: machines.iter().map(machine).collect(), pool: vec![] }
}

fn update(
    table: &mut Fake,
    held: &mut Held,
    machines: &[(u8, u8, usize)],
    groups: &[[&str; 2]],
) -> Result<Changed, String> {
    let result = apply(table, held, &entries(machines, groups));
    assert_eq!(table.machines, held.machines, "what is remembered is what is there");
    for (content, slot) in &held.slots {
        assert_eq!(table.templates[slot][..], content[..], "what is remembered is what is there");
    }
    result
}

const STABLE: [&str; 2] = ["stable", "stable bios"];
const BETA: [&str; 2] = ["beta", "stable bios"];

#[test]
fn writes_the_difference_alone() {
    let (mut table, mut held) = (Fake::default(), Held::default());
    let first = [(1, 11, 0), (2, 12, 0), (3, 13, 1)];
    let changed = update(&mut table, &mut held, &first, &[STABLE, BETA]);
    assert_eq!(changed, Ok(Changed { added: 3, templates: 3, ..Changed::default() }));
    assert_eq!(update(&mut table, &mut held, &first, &[STABLE, BETA]), Ok(Changed::default()));
    assert_eq!(table.writes, 6);
    // The groups in another order are the same groups.
    let turned = [(1, 11, 1), (2, 12, 1), (3, 13, 0)];
    assert_eq!(update(&mut table, &mut held, &turned, &[BETA, STABLE]), Ok(Changed::default()));
    let second = [(1, 11, 0), (2, 12, 1), (4, 14, 0)];
    let changed = update(&mut table, &mut held, &second, &[STABLE, BETA]);
    assert_eq!(changed, Ok(Changed { added: 1, replaced: 1, removed: 1, ..Changed::default() }));
    assert_eq!(table.writes, 9);
    assert_eq!((table.told(1, 0), table.told(2, 0)), (Some(&b"stable"[..]), Some(&b"beta"[..])));
    assert_eq!((table.told(2, 1), table.told(2, 2)), (Some(&b"stable bios"[..]), None));
}

#[test]
fn a_new_template_is_written_before_machines_point_to_it_and_old_slots_are_used_again() {
    let (mut table, mut held) = (Fake::default(), Held::default());
    let machines = [(1, 11, 0), (2, 12, 0)];
    for number in 0..200 {
        let text = format!("template {number}");
        let changed = update(&mut table, &mut held, &machines, &[[&text, "same"]]).unwrap();
        assert_eq!(changed.templates, if number == 0 { 2 } else { 1 });
        assert_eq!(table.told(2, 0), Some(text.as_bytes()));
    }
    assert!(held.fresh <= 3, "two hundred templates, of which two are in use at a time: {}", held.fresh);
}

#[test]
fn two_machines_change_places_without_sharing_an_address() {
    let (mut table, mut held) = (Fake::default(), Held::default());
    update(&mut table, &mut held, &[(1, 11, 0), (2, 12, 0)], &[STABLE]).expect("put in");
    let changed = update(&mut table, &mut held, &[(1, 12, 0), (2, 11, 0)], &[STABLE]);
    assert_eq!(changed, Ok(Changed { replaced: 2, ..Changed::default() }));
}

#[test]
fn what_cannot_be_put_in_is_taken_out() {
    let (mut table, mut held) = (Fake::default(), Held::default());
    update(&mut table, &mut held, &[(1, 11, 0), (2, 12, 0)], &[STABLE]).expect("put in");
    table.refuse = Some(mac(1));
    let two = [(1, 11, 0), (2, 12, 0)];
    assert_eq!(update(&mut table, &mut held, &two, &[BETA]), Err(mac(1).to_string()));
    assert_eq!(table.machines.keys().collect::<Vec<_>>(), [&mac(2)]);
    table.refuse = None;
    let changed = update(&mut table, &mut held, &two, &[BETA]);
    assert_eq!(changed, Ok(Changed { added: 1, ..Changed::default() }), "the next update tries again");
}

#[test]
fn a_template_that_cannot_be_written_leaves_its_class_to_the_daemon() {
    let (mut table, mut held) = (Fake::default(), Held::default());
    update(&mut table, &mut held, &[(1, 11, 0)], &[STABLE]).expect("put in");
    table.refuse_templates = true;
    assert!(update(&mut table, &mut held, &[(1, 11, 0)], &[BETA]).is_err());
    assert_eq!(table.told(1, 0), None, "not the old one");
    table.refuse_templates = false;
    update(&mut table, &mut held, &[(1, 11, 0)], &[BETA]).expect("put in");
    assert_eq!(table.told(1, 0), Some(&b"beta"[..]));
}

#[test]
fn more_templates_than_there_are_slots_are_the_daemons() {
    let (mut table, mut held) = (Fake::default(), Held::default());
    let texts: Vec<String> = (0..TEMPLATES_CAPACITY + 5).map(|number| number.to_string()).collect();
    let groups: Vec<[&str; 2]> = texts.iter().map(|text| [text.as_str(), ""]).collect();
    let last = groups.len() - 1;
    let changed = update(&mut table, &mut held, &[(1, 11, 0), (2, 12, last)], &groups).unwrap();
    assert_eq!((changed.no_slot, changed.added), (5, 2));
    assert_eq!((table.told(1, 0), table.told(2, 0)), (Some(&b"0"[..]), None));
    // The slots that nobody names are free for the next.
    update(&mut table, &mut held, &[(2, 12, 0)], &[[&texts[last], ""]]).unwrap();
    assert_eq!(table.told(2, 0), Some(texts[last].as_bytes()));
}

#[test]
fn leases_come_and_go_one_by_one_and_outlast_updates() {
    let (mut table, mut held) = (Fake::default(), Held::default());
    let wanted = |machines: &[(u8, u8, usize)], leases: &[(u8, Leased)]| {
        let mut wanted = entries(machines, &[STABLE, ["pool", ""]]);
        wanted.pool = vec![Some(1), None];
        wanted.machines.extend(leases.iter().map(|(number, lease)| leased(mac(*number), lease, 1)));
        wanted
    };
    let lease =
        |last, segment| Leased { addr: Ipv4Addr::new(192, 168, 90, last), segment, valid_until_ns: 7 };
    apply(&mut table, &mut held, &wanted(&[(1, 11, 0)], &[])).unwrap();
    let put = |table: &mut Fake, held: &mut Held, number, lease: Leased| {
        put_leased(table, held, &leased(mac(number), &lease, 0), lease.segment)
    };
    put(&mut table, &mut held, 2, lease(99, 0)).unwrap();
    assert_eq!(table.told(2, 0), Some(&b"pool"[..]), "its slot was kept, though nobody named it");
    assert_eq!(table.machines[&mac(2)].valid_until_ns, 7);
    put(&mut table, &mut held, 3, lease(98, 1)).unwrap();
    assert_eq!(table.told(3, 0), None, "a segment whose leases are the daemon's");
    let changed = apply(&mut table, &mut held, &wanted(&[(1, 11, 0)], &[(2, lease(99, 0))]));
    assert_eq!(changed, Ok(Changed::default()), "the update knows of it");
    take_leased(&mut table, &mut held, mac(1)).unwrap();
    assert_eq!(table.told(1, 0), Some(&b"stable"[..]), "a reservation is no lease");
    table.refuse = Some(mac(2));
    assert!(put(&mut table, &mut held, 2, lease(97, 0)).is_err());
    assert_eq!((table.told(2, 0), held.len()), (None, 1), "not the old one");
    table.refuse = None;
    put(&mut table, &mut held, 2, lease(97, 0)).unwrap();
    take_leased(&mut table, &mut held, mac(2)).unwrap();
    assert_eq!((table.told(2, 0), held.len()), (None, 1));
}

proptest! {
    /// Any updates, some of which fail: the table checks each moment.
    #[test]
    fn at_no_moment_is_there_half_an_entry(
        updates in prop::collection::vec(
            (prop::collection::btree_map(0_u8..8, (0_usize..4, any::<prop::sample::Index>()), 0..8),
             prop::collection::vec(("[ab]{0,2}", "[ab]{0,2}"), 4), prop::option::of(0_u8..8)),
            1..12,
        )
    ) {
        let (mut table, mut held) = (Fake::default(), Held::default());
        for (machines, groups, refuse) in updates {
            table.refuse = refuse.map(mac);
            let mut free: Vec<u8> = (10..30).collect();
            let machines: Vec<_> = machines
                .into_iter()
                .map(|(number, (group, addr))| (number, free.remove(addr.index(free.len())), group))
                .collect();
            let groups: Vec<[&str; 2]> = groups.iter().map(|(one, two)| [one.as_str(), two.as_str()]).collect();
            let result = update(&mut table, &mut held, &machines, &groups);
            for (number, _, group) in machines {
                if result.is_ok() {
                    for (class, text) in groups[group].iter().enumerate() {
                        prop_assert_eq!(table.told(number, class).unwrap_or_default(), text.as_bytes());
                    }
                }
            }
        }
    }
}

#[test]
fn whatever_differs_of_a_machine_it_is_another() {
    let machine =
        leased(mac(1), &Leased { addr: Ipv4Addr::new(10, 0, 0, 1), segment: 3, valid_until_ns: 7 }, 0);
    let held = host(&machine, 3, [5; 16]);
    assert!(is_of(&held, &machine, 3, &[5; 16]));
    let mut slots = [5; 16];
    slots[15] = 6;
    let mut name = machine.name;
    name.bytes[71] = 1;
    for (other, segment, slots) in [
        (machine.clone(), 4, [5; 16]),
        (machine.clone(), 3, slots),
        (Machine { addr: Ipv4Addr::new(10, 0, 0, 2), ..machine.clone() }, 3, [5; 16]),
        (Machine { valid_until_ns: 8, ..machine.clone() }, 3, [5; 16]),
        (Machine { name, ..machine.clone() }, 3, [5; 16]),
        (Machine { name: Name { len: 1, ..machine.name }, ..machine.clone() }, 3, [5; 16]),
    ] {
        assert!(!is_of(&held, &other, segment, &slots), "{other:?}");
    }
}
