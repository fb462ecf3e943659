//! When each machine was answered last, and what: one record a machine, whoever answered. Pure.
//!
//! Bounded: machines with a reservation and all others have their own room, so that a flood of made-up machines
//! pushes out itself alone; the record goes that was not renewed for longest.

use std::net::Ipv4Addr;

use netboot_ebpf::Class;
use netboot_ebpf::abi::HOSTS_CAPACITY;

use super::By;
use super::recent::Recent;
use crate::mac::Mac;

/// Records of machines with a reservation: as many as XDP answers.
const MOST_RESERVED: usize = HOSTS_CAPACITY as usize;
/// Records of all others.
const MOST_OTHERS: usize = 4096;

/// The last answer to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Seen {
    /// When, in seconds since 1970.
    pub at: u64,
    /// The address of the reply, 0.0.0.0 if it gave none.
    pub addr: Ipv4Addr,
    /// `offer`, `ack`, or what else the reply was.
    pub reply: &'static str,
    /// The name of the machine's class.
    #[serde(serialize_with = "class")]
    pub class: Class,
    /// Who answered.
    #[serde(serialize_with = "by")]
    pub by: By,
    /// The relay agent through which it asked.
    pub relay: Option<Ipv4Addr>,
    /// When it first was answered in this boot: the offer, in seconds since 1970. Later ones of the same boot begin it anew.
    pub began: Option<u64>,
    /// When it said that its system is up, in this boot.
    pub booted: Option<u64>,
    /// How many boots began.
    #[serde(skip)]
    pub boots: u64,
}

impl Seen {
    /// An answer.
    pub(super) fn new(
        at: u64,
        addr: Ipv4Addr,
        reply: &'static str,
        class: Class,
        by: By,
        relay: Option<Ipv4Addr>,
    ) -> Self {
        Self { at, addr, reply, class, by, relay, began: None, booted: None, boots: 0 }
    }

    /// What of this boot goes on with another answer; an offer begins a boot.
    fn after(self, before: Option<Self>) -> Self {
        let boots = before.map_or(0, |before| before.boots);
        if ["offer", "boot-offer", "bootp"].contains(&self.reply) {
            return Self { began: Some(self.at), booted: None, boots: boots + 1, ..self };
        }
        let (began, booted) = before.map_or((None, None), |before| (before.began, before.booted));
        Self { began, booted, boots, ..self }
    }
}

/// The records.
#[derive(Debug)]
pub(super) struct Book {
    reserved: Recent<Mac, Seen>,
    others: Recent<Mac, Seen>,
}

impl Default for Book {
    fn default() -> Self {
        Self { reserved: Recent::new(MOST_RESERVED), others: Recent::new(MOST_OTHERS) }
    }
}

impl Book {
    /// A machine was answered.
    pub(super) fn note(&mut self, mac: Mac, reserved: bool, seen: Seen) {
        let seen = seen.after(self.of(mac));
        if reserved {
            self.others.remove(&mac);
            self.reserved.put(mac, seen);
        } else {
            self.reserved.remove(&mac);
            self.others.put(mac, seen);
        }
    }

    /// A machine says that it is up. Returns the seconds since its boot began, if that was seen and is news.
    pub(super) fn booted(&mut self, mac: Mac, now: u64) -> Option<u64> {
        let book = if self.reserved.get(&mac).is_some() { &mut self.reserved } else { &mut self.others };
        let seen = book.get_mut(&mac)?;
        let news = seen.booted.replace(now).is_none();
        seen.began.filter(|_| news).map(|began| now.saturating_sub(began))
    }

    /// What is known of a machine.
    pub(super) fn of(&self, mac: Mac) -> Option<Seen> {
        self.reserved.get(&mac).or_else(|| self.others.get(&mac)).copied()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn class<S: serde::Serializer>(class: &Class, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(class.name())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn by<S: serde::Serializer>(by: &By, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(by.name())
}

#[cfg(test)]
mod tests {
    use netboot_ebpf::Class;

    use super::{Book, By, MOST_OTHERS, Seen};
    use crate::mac::Mac;

    fn mac(number: u32) -> Mac {
        let [a, b, c, d] = number.to_be_bytes();
        Mac([0x52, 0x54, a, b, c, d])
    }

    fn seen(at: u64) -> Seen {
        let addr = [192, 168, 90, 11].into();
        Seen::new(at, addr, "ack", Class::Bios, By::Xdp, None)
    }

    #[test]
    fn the_last_answer_is_kept_and_a_flood_of_strangers_pushes_out_strangers_alone() {
        let mut book = Book::default();
        book.note(mac(1), true, seen(5));
        book.note(mac(1), true, seen(7));
        book.note(mac(2), false, seen(8));
        assert_eq!((book.of(mac(1)), book.of(mac(2)), book.of(mac(3))), (Some(seen(7)), Some(seen(8)), None));
        for number in 0..100_000 {
            book.note(mac(1000 + number), false, seen(9));
        }
        assert_eq!((book.of(mac(1)), book.of(mac(2))), (Some(seen(7)), None));
        assert_eq!(book.others.newest_first().count(), MOST_OTHERS);
        // It got a reservation: one record, not two.
        book.note(mac(100_999), true, seen(10));
        assert_eq!(book.others.newest_first().count(), MOST_OTHERS - 1);
        assert_eq!(book.of(mac(100_999)), Some(seen(10)));
    }

    #[test]
    fn an_offer_begins_a_boot_and_the_machine_ends_it() {
        let mut book = Book::default();
        let answered = |book: &mut Book, at, reply| {
            book.note(mac(1), true, Seen { reply, ..seen(at) });
            let seen = book.of(mac(1)).unwrap();
            (seen.began, seen.booted, seen.boots)
        };
        assert_eq!(answered(&mut book, 5, "ack"), (None, None, 0), "netboot was started in the middle of it");
        assert_eq!(book.booted(mac(1), 6), None);
        assert_eq!(answered(&mut book, 10, "offer"), (Some(10), None, 1));
        assert_eq!(answered(&mut book, 12, "ack"), (Some(10), None, 1));
        assert_eq!((book.booted(mac(1), 50), book.booted(mac(1), 60)), (Some(40), None), "told once");
        assert_eq!(answered(&mut book, 70, "ack"), (Some(10), Some(60), 1), "it renews its lease");
        assert_eq!(answered(&mut book, 90, "offer"), (Some(90), None, 2));
        assert_eq!(book.booted(mac(2), 90), None, "nobody knows it");
    }

    #[test]
    fn scripts_see_names() {
        let value = serde_json::to_value(seen(5)).unwrap();
        let expected = serde_json::json!({
            "at": 5, "addr": "192.168.90.11", "reply": "ack", "class": "bios", "by": "xdp", "relay": null,
            "began": null, "booted": null
        });
        assert_eq!(value, expected);
    }
}
