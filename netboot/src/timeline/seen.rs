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
        if reserved {
            self.others.remove(&mac);
            self.reserved.put(mac, seen);
        } else {
            self.reserved.remove(&mac);
            self.others.put(mac, seen);
        }
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
        Seen { at, addr, reply: "ack", class: Class::Bios, by: By::Xdp, relay: None }
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
    fn scripts_see_names() {
        let value = serde_json::to_value(seen(5)).unwrap();
        let expected = serde_json::json!({
            "at": 5, "addr": "192.168.90.11", "reply": "ack", "class": "bios", "by": "xdp", "relay": null
        });
        assert_eq!(value, expected);
    }
}
