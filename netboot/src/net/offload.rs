//! VLAN receive offload (`rxvlan`): whether a driver takes the tag off received frames, and how it is made to leave it.
//!
//! By ethtool's ioctl (linux/ethtool.h), in the network namespace of the thread that opens the card. The one thing in
//! `net` that changes an interface, and only until the value is dropped.

use std::io;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use socket2::{Domain, Socket, Type};

const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const GET_FEATURES: u32 = 0x3a;
/// `ETH_FLAG_RXVLAN`, and the kernel's own bit for the same in the features that 6.18 has and all before it.
const RXVLAN: u32 = 1 << 8;
/// Words of 32 features; the kernel has two, and says how many it would have filled.
const WORDS: usize = 8;

/// What a driver does with the VLAN tag of received frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rxvlan {
    /// It takes the tag off.
    pub on: bool,
    /// And that cannot be changed.
    pub fixed: bool,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_gfeatures` with room for [`WORDS`].
#[repr(C)]
struct Features {
    command: u32,
    size: u32,
    words: [Word; WORDS],
}

/// `struct ethtool_get_features_block`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Word {
    /// Those that can be changed.
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

/// `struct ifreq` of linux/if.h: the name, and a union of 24 bytes whose pointer is used here.
#[repr(C)]
struct Request<T> {
    name: [u8; 16],
    value: *mut T,
    rest: [u8; 16],
}

/// A structure that begins with the command it is for, and is all that the kernel reads and writes for it.
///
/// # Safety
/// `repr(C)`, integers only, laid out as the kernel's structure for every command that is ever in it.
unsafe trait Command {}
// SAFETY: as the trait wants; made here with GET_FLAGS and SET_FLAGS alone.
unsafe impl Command for Value {}
// SAFETY: as the trait wants; made here with GET_FEATURES alone, and `size` is the number of its words.
unsafe impl Command for Features {}

/// An interface, as its driver is asked about it.
#[derive(Debug)]
pub struct Card {
    socket: Socket,
    name: [u8; 16],
}

impl Card {
    /// The interface of this name in this thread's network namespace. Whether there is one shows when it is asked.
    ///
    /// # Errors
    /// When the name is too long, or there are no more sockets.
    pub fn open(interface: &str) -> io::Result<Self> {
        let mut name = [0; 16];
        // The last byte stays 0.
        let place = name.get_mut(..interface.len()).filter(|place| place.len() < 16);
        place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(interface.as_bytes());
        Ok(Self { socket: Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?, name })
    }

    /// What it does with VLAN tags now.
    ///
    /// # Errors
    /// When there is no such interface, or it has no such things.
    pub fn rxvlan(&self) -> io::Result<Rxvlan> {
        let on = self.flags()? & RXVLAN != 0;
        let mut features = Features { command: GET_FEATURES, size: 8, words: [Word::default(); WORDS] };
        let asked = self.ask(&mut features);
        let [word, ..] = features.words;
        // Where the bit has another meaning than the flag nothing is known, and it is tried.
        let known = asked.is_ok() && (word.active & RXVLAN != 0) == on;
        Ok(Rxvlan { on, fixed: known && word.available & RXVLAN == 0 })
    }

    /// Turns it on or off.
    ///
    /// # Errors
    /// When the driver cannot, or this process may not (`CAP_NET_ADMIN`).
    pub fn set_rxvlan(&self, on: bool) -> io::Result<()> {
        let flags = self.flags()? & !RXVLAN | if on { RXVLAN } else { 0 };
        self.ask(&mut Value { command: SET_FLAGS, data: flags })?;
        // Some drivers say yes and do as they like.
        if (self.flags()? & RXVLAN != 0) == on { Ok(()) } else { Err(Errno::OPNOTSUPP.into()) }
    }

    fn flags(&self) -> io::Result<u32> {
        let mut value = Value { command: GET_FLAGS, data: 0 };
        self.ask(&mut value)?;
        Ok(value.data)
    }

    fn ask<T: Command>(&self, value: &mut T) -> io::Result<()> {
        const SIOCETHTOOL: Opcode = 0x8946;
        let mut request = Request { name: self.name, value: std::ptr::from_mut(value), rest: [0; 16] };
        // SAFETY: SIOCETHTOOL takes a `struct ifreq` with the name of an interface and a pointer to a command's own
        // structure; by `Command` this is one, and it lives until the call has returned.
        Ok(unsafe { ioctl(&self.socket, Updater::<'_, SIOCETHTOOL, Request<T>>::new(&mut request)) }?)
    }
}

/// As long as it lives the driver leaves the tags on; then it is told to do as before.
#[derive(Debug)]
pub struct Untouched(Card);

impl Untouched {
    /// Turns the offload off; `None` if it is.
    ///
    /// # Errors
    /// When that is not possible; then nothing has changed.
    pub fn new(interface: &str) -> io::Result<Option<Self>> {
        let card = Card::open(interface)?;
        if !card.rxvlan()?.on {
            return Ok(None);
        }
        card.set_rxvlan(false)?;
        Ok(Some(Self(card)))
    }

    /// One that somebody has turned off and left to this process.
    ///
    /// # Errors
    /// When there are no more sockets.
    pub fn adopt(interface: &str) -> io::Result<Self> {
        Card::open(interface).map(Self)
    }

    /// Leaves it off for whoever comes.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Untouched {
    fn drop(&mut self) {
        let name = String::from_utf8_lossy(&self.0.name);
        let name = name.trim_end_matches('\0');
        match self.0.set_rxvlan(true) {
            // The interface went away, and what it was told with it.
            Err(_) if self.0.flags().is_err() => {}
            Ok(()) => tracing::info!(interface = name, "rxvlan is on again"),
            Err(error) => {
                tracing::warn!(interface = name, "rxvlan stays off: {error}; ethtool -K {name} rxvlan on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Card, Untouched};

    #[test]
    fn the_loopback_has_none_and_gets_none() {
        let card = Card::open("lo").unwrap();
        let found = card.rxvlan().unwrap();
        assert!(!found.on && found.fixed, "{found:?}");
        assert!(Untouched::new("lo").unwrap().is_none());
        let error = card.set_rxvlan(true).unwrap_err();
        // EPERM for who is not root.
        assert!(
            ["not supported", "not permitted"].iter().any(|why| error.to_string().contains(why)),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert!(Card::open("nosuchif0").unwrap().rxvlan().is_err());
        assert!(Untouched::new("nosuchif0").is_err());
        assert!(Card::open("a-name-that-is-too-long").is_err());
    }
}
