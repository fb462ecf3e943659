//! Reads `pxe_hosts.json` again after an edit: of a hundred thousand machines only those that the edit touched, the others are
//! the same as before.
//!
//! What a whole reading would find, or nothing at all: as soon as something is not as usual the file is read whole.

use std::collections::BTreeMap;
use std::ops;
use std::sync::Arc;

use jsonc_parser::ast::ObjectProp;
use jsonc_parser::common::{Range, Ranged};

use super::read::{self, Hosts, Members, Named};
use super::{Host, Networks, Snapshot};
use crate::config::json::{Reader, Source};

/// A file with nothing wrong in it, and what was read from it.
pub(super) struct Kept {
    source: Source,
    networks: Networks,
    hosts: Hosts,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("hosts", &self.hosts.places.len()).finish_non_exhaustive()
    }
}

impl Kept {
    pub(super) fn new(source: Source, networks: Networks, hosts: Hosts) -> Self {
        Self { source, networks, hosts }
    }

    /// What the file says now, if the edit lies between the braces of `hosts` and nothing is wrong with what it touched.
    pub(super) fn again(&self, source: &Source, networks: &Networks) -> Option<Hosts> {
        if *networks != self.networks {
            return None;
        }
        let Hosts { snapshot, inside, places, named } = &self.hosts;
        if source.text() == self.source.text() {
            return Some(self.hosts.clone());
        }
        let touched = Touched::of(self.source.text(), source.text(), *inside, places)?;
        let new = read(source, networks, &touched)?;
        let named = Named {
            templates: touched.named(&named.templates, new.named.templates)?,
            boot_files: touched.named(&named.boot_files, new.named.boot_files)?,
            profiles: touched.named(&named.profiles, new.named.profiles)?,
        };
        let moved = |place: &Range| touched.moved(*place);
        let inside = Range::new(inside.start, touched.moved(*inside).end);
        let places = spliced(places, &touched.members, new.places, moved)?;
        let hosts: Vec<Arc<Host>> =
            spliced(&snapshot.machines.hosts, &touched.members, new.hosts, Arc::clone)?;
        let snapshot = Snapshot::of(snapshot.common().clone(), hosts);
        // Who is wrong then, a whole reading says.
        let unambiguous = snapshot.is_unambiguous() && !snapshot.has_twin_uuids();
        unambiguous.then_some(Hosts { snapshot, inside, places, named })
    }
}

/// Reads what is there now. Nothing if something is wrong with it.
fn read(source: &Source, networks: &Networks, touched: &Touched) -> Option<Members> {
    let begin = touched.new.start;
    let text = format!("{{{}}}", source.text().get(touched.new.clone())?);
    let part = Source::new(source.path(), &text);
    let object = part.object().ok()?;
    let mut reader = Reader::new(&part);
    let mut members = read::members(&mut reader, &object, networks);
    // Comments may end beyond this text: the one that hides its last brace, and behind a member that it does not end with.
    let ends = |last: &ObjectProp<'_>| last.value.end() + 1 == text.len();
    let complete =
        object.end() == text.len() && (!touched.by_member || object.properties.last().is_some_and(ends));
    if !complete || !reader.problems.is_empty() {
        return None;
    }
    let to_file = |place: &mut Range| *place = Range::new(place.start + begin - 1, place.end + begin - 1);
    members.places.iter_mut().for_each(to_file);
    members.named.templates.values_mut().for_each(to_file);
    members.named.boot_files.values_mut().for_each(to_file);
    members.named.profiles.values_mut().for_each(to_file);
    Some(members)
}

/// The members that an edit has touched, with the whole text from the first to the last of them.
struct Touched {
    /// The numbers of those that were there.
    members: ops::Range<usize>,
    /// The bytes that these were.
    old: ops::Range<usize>,
    /// The bytes that are there now.
    new: ops::Range<usize>,
    /// The last byte is a member's, else the last before the brace.
    by_member: bool,
}

impl Touched {
    /// From the last member that begins before the edit, or the first brace, to the first member that ends behind it, or the
    /// last brace. Nothing, if the edit goes beyond the braces.
    fn of(old: &str, new: &str, inside: Range, places: &[Range]) -> Option<Self> {
        let shorter = old.len().min(new.len());
        let (old, new) = (old.as_bytes(), new.as_bytes());
        let same = same_at_beginning(old, new);
        let behind = same_at_end(old, new).min(shorter - same);
        let edit = same..old.len() - behind;
        if edit.start < inside.start || edit.end > inside.end {
            return None;
        }
        let first = places.partition_point(|place| place.start <= edit.start).checked_sub(1);
        let start = first.and_then(|first| places.get(first)).map_or(inside.start, |place| place.start);
        let last = places.partition_point(|place| place.end <= edit.end);
        let end = places.get(last).map_or(inside.end, |place| place.end);
        let new_end = (end + new.len()).checked_sub(old.len())?;
        let by_member = last < places.len();
        let members = first.unwrap_or(0)..(last + 1).min(places.len());
        Some(Self { members, old: start..end, new: start..new_end, by_member })
    }

    /// Where a place outside of what was touched is now.
    fn moved(&self, place: Range) -> Range {
        let moved = |at: usize| if at < self.old.end { at } else { at - self.old.end + self.new.end };
        Range::new(moved(place.start), moved(place.end))
    }

    /// The first places that name files. Nothing, if one was touched: where its file is named next is not known.
    fn named(
        &self,
        before: &BTreeMap<String, Range>,
        new: BTreeMap<String, Range>,
    ) -> Option<BTreeMap<String, Range>> {
        if before.values().any(|place| self.old.contains(&place.start)) {
            return None;
        }
        let mut named: BTreeMap<_, _> =
            before.iter().map(|(name, place)| (name.clone(), self.moved(*place))).collect();
        for (name, place) in new {
            let first = named.entry(name).or_insert(place);
            if place.start < first.start {
                *first = place;
            }
        }
        Some(named)
    }
}

/// Bytes are compared by so many at once, as far as these are the same.
const BLOCK: usize = 4096;

fn same_at_beginning(one: &[u8], other: &[u8]) -> usize {
    let blocks = one.chunks_exact(BLOCK).zip(other.chunks_exact(BLOCK));
    let whole = blocks.take_while(|(one, other)| one == other).count() * BLOCK;
    let rest = one.iter().zip(other).skip(whole);
    whole + rest.take_while(|(one, other)| one == other).count()
}

fn same_at_end(one: &[u8], other: &[u8]) -> usize {
    let blocks = one.rchunks_exact(BLOCK).zip(other.rchunks_exact(BLOCK));
    let whole = blocks.take_while(|(one, other)| one == other).count() * BLOCK;
    let rest = one.iter().rev().zip(other.iter().rev()).skip(whole);
    whole + rest.take_while(|(one, other)| one == other).count()
}

/// A list with others in the place of these members.
fn spliced<T>(
    before: &[T],
    members: &ops::Range<usize>,
    new: Vec<T>,
    keep: impl Fn(&T) -> T,
) -> Option<Vec<T>> {
    let (head, tail) = (before.get(..members.start)?, before.get(members.end..)?);
    let mut all = Vec::with_capacity(head.len() + new.len() + tail.len());
    all.extend(head.iter().map(&keep));
    all.extend(new);
    all.extend(tail.iter().map(&keep));
    Some(all)
}

#[cfg(test)]
mod tests;
