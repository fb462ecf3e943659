//! Brings the program's maps from what they hold to what they should hold, with as few writes as can be.
//!
//! Pure but for the [`Table`]. At no moment is there half an entry: a template is written into a slot that no machine
//! names, and then the machines are pointed to it; a slot is used again by a later update at the earliest. At no moment
//! do two machines hold one address: what goes or changes its address is taken out before anything is put in; in
//! between, those machines are the daemon's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use netboot_ebpf::abi::{Host, NO_SLOT, TEMPLATES_CAPACITY};

use super::entries::{Entries, Group, Machine};
use crate::mac::Mac;

/// What an update did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Machines that were not there.
    pub added: usize,
    /// Machines that were there with another reply.
    pub replaced: usize,
    /// Machines that are gone.
    pub removed: usize,
    /// Templates that were written.
    pub templates: usize,
    /// Templates for which there was no slot: their classes are left to the daemon.
    pub no_slot: usize,
    /// How long it took to make what is wanted from the snapshot.
    pub build: Duration,
    /// How long it took to find the difference and write it.
    pub write: Duration,
}

/// The maps.
pub trait Table {
    /// Why they could not be written.
    type Error;

    /// Writes a template into a slot that no machine names.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, slot: u16, template: &[u8]) -> Result<(), Self::Error>;

    /// Puts a machine in, whole, in the place of one with the same Ethernet address.
    ///
    /// # Errors
    /// When it cannot be written; the old entry, if any, is still there.
    fn put(&mut self, mac: Mac, host: &Host) -> Result<(), Self::Error>;

    /// Takes a machine out; fine if there is none.
    ///
    /// # Errors
    /// When it cannot be taken out.
    fn take(&mut self, mac: Mac) -> Result<(), Self::Error>;
}

/// What the maps hold.
#[derive(Debug, Default)]
pub struct Held {
    /// The machines, without stamps.
    machines: BTreeMap<Mac, Host>,
    /// The slots that are in use, by what is in them.
    slots: HashMap<Arc<[u8]>, u16>,
    /// Slots that are free again.
    free: Vec<u16>,
    /// Slots from this one on were never used.
    fresh: u16,
    /// The slots for those who have a lease, by segment: they are kept though nobody may have one.
    pool: Vec<Option<[u16; 16]>>,
}

impl Held {
    /// How many machines there are.
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// The slots of a group's templates, by class; what is new is written. No slot is left for some: those are the daemon's.
    fn claim<T: Table>(
        &mut self,
        table: &mut T,
        group: &Group,
        changed: &mut Changed,
    ) -> Result<[u16; 16], T::Error> {
        let mut slots = [NO_SLOT; 16];
        for (place, template) in slots.iter_mut().zip(&group.templates) {
            let Some(template) = template else { continue };
            if let Some(slot) = self.slots.get(template) {
                *place = *slot;
                continue;
            }
            let never = (u32::from(self.fresh) < TEMPLATES_CAPACITY).then_some(self.fresh);
            let Some(slot) = self.free.pop().or(never) else {
                changed.no_slot += 1;
                continue;
            };
            self.fresh = self.fresh.max(slot + 1);
            if let Err(error) = table.write(slot, template) {
                self.free.push(slot);
                return Err(error);
            }
            changed.templates += 1;
            self.slots.insert(Arc::clone(template), slot);
            *place = slot;
        }
        Ok(slots)
    }

    /// Frees the slots that no machine names any more.
    fn sweep(&mut self) {
        let mut used = vec![false; usize::from(self.fresh)];
        let mut last = [NO_SLOT; 16];
        let machines = self.machines.values().map(|host| host.slots);
        for slots in machines.chain(self.pool.iter().flatten().copied()) {
            if slots == std::mem::replace(&mut last, slots) {
                continue;
            }
            for slot in slots {
                if let Some(used) = used.get_mut(usize::from(slot)) {
                    *used = true;
                }
            }
        }
        let free = &mut self.free;
        self.slots.retain(|_, slot| {
            let stays = used.get(usize::from(*slot)).copied().unwrap_or_default();
            if !stays {
                free.push(*slot);
            }
            stays
        });
    }
}

/// Writes the difference. `held` is kept as the maps are, also when something fails; a machine that cannot be put in
/// is taken out, for the daemon answers better than an old entry.
///
/// # Errors
/// The first failure, after everything else was tried.
pub fn apply<T: Table>(table: &mut T, held: &mut Held, wanted: &Entries) -> Result<Changed, T::Error> {
    let mut changed = Changed::default();
    let mut failure = None;
    let mut slots = Vec::with_capacity(wanted.groups.len());
    for group in &wanted.groups {
        let claimed = held.claim(table, group, &mut changed);
        slots.push(claimed.unwrap_or_else(|error| {
            failure.get_or_insert(error);
            [NO_SLOT; 16]
        }));
    }
    let pool = wanted.pool.iter().map(|group| slots.get((*group)?).copied());
    held.pool = pool.collect();
    let of = |machine: &Machine| {
        let segment = wanted.groups.get(machine.group).map_or(0, |group| group.segment);
        (segment, slots.get(machine.group).unwrap_or(&[NO_SLOT; 16]))
    };
    let (mut gone, mut moved, mut put) = (Vec::new(), Vec::new(), Vec::new());
    // Whether a slot may be free: most edits change nothing but a machine's own part.
    let mut freed = changed.templates > 0;
    let mut old = held.machines.iter().peekable();
    for machine in &wanted.machines {
        while let Some((mac, _)) = old.next_if(|(mac, _)| **mac < machine.mac) {
            gone.push(*mac);
        }
        let (segment, slots) = of(machine);
        match old.next_if(|(mac, _)| **mac == machine.mac) {
            Some((_, held)) if is_of(held, machine, segment, slots) => {}
            known => {
                let new = host(machine, segment, *slots);
                if known.is_some_and(|(_, held)| held.addr != new.addr) {
                    moved.push(machine.mac);
                }
                freed |= known.is_some_and(|(_, held)| held.slots != new.slots);
                put.push((machine.mac, new, known.is_some()));
            }
        }
    }
    gone.extend(old.map(|(mac, _)| *mac));
    if gone.is_empty() && put.is_empty() && changed.templates == 0 {
        return failure.map_or(Ok(changed), Err);
    }
    for mac in gone.iter().chain(&moved) {
        // If it stays it still holds its address, so nothing may be put in that could have the same.
        table.take(*mac)?;
        held.machines.remove(mac);
    }
    changed.removed = gone.len();
    for (mac, host, known) in put {
        if let Err(error) = table.put(mac, &host) {
            failure.get_or_insert(error);
            if held.machines.contains_key(&mac) && table.take(mac).is_ok() {
                held.machines.remove(&mac);
            }
            continue;
        }
        held.machines.insert(mac, host);
        changed.replaced += usize::from(known);
        changed.added += usize::from(!known);
    }
    if freed || changed.removed > 0 || failure.is_some() {
        held.sweep();
    }
    failure.map_or(Ok(changed), Err)
}

/// Puts one machine with a lease in, or in the place of what it had before.
///
/// # Errors
/// When it cannot be written; then it is taken out.
pub fn put_leased<T: Table>(
    table: &mut T,
    held: &mut Held,
    machine: &Machine,
    segment: u16,
) -> Result<(), T::Error> {
    let Some(slots) = held.pool.get(usize::from(segment)).copied().flatten() else { return Ok(()) };
    let host = host(machine, segment, slots);
    let result = table.put(machine.mac, &host);
    match &result {
        Ok(()) => drop(held.machines.insert(machine.mac, host)),
        Err(_) => take_leased(table, held, machine.mac)?,
    }
    result
}

/// Takes a machine out whose lease has ended; one with a reservation stays.
///
/// # Errors
/// When it cannot be taken out.
pub fn take_leased<T: Table>(table: &mut T, held: &mut Held, mac: Mac) -> Result<(), T::Error> {
    if held.machines.get(&mac).is_some_and(|host| host.valid_until_ns != 0) {
        table.take(mac)?;
        held.machines.remove(&mac);
    }
    Ok(())
}

/// Whether it is the map's value of a machine: what [`host`] makes, which is not made only to be compared.
fn is_of(held: &Host, machine: &Machine, segment: u16, slots: &[u16; 16]) -> bool {
    held.addr == machine.addr.to_bits()
        && held.segment == segment
        && held.name_len == machine.name.len
        && held.valid_until_ns == machine.valid_until_ns
        && held.slots == *slots
        && held.name == machine.name.bytes
}

/// The map's value of a machine, its stamp still 0.
fn host(machine: &Machine, segment: u16, slots: [u16; 16]) -> Host {
    Host {
        stamp: 0,
        valid_until_ns: machine.valid_until_ns,
        addr: machine.addr.to_bits(),
        segment,
        name_len: machine.name.len,
        pad: 0,
        slots,
        name: machine.name.bytes,
    }
}

#[cfg(test)]
mod tests;
