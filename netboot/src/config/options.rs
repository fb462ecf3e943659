//! DHCP options that people set by number (RFC 2132): for everybody, for a subnet, a profile or one machine.
//!
//! Here is what was written and how the narrower place wins. Which client gets what, and in which order, is decided in
//! [`crate::dhcp::options`]; what a code may hold is in `codes`, how a value becomes bytes in `value`.

mod codes;
mod read;
mod value;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::Boot;
use crate::inventory::{Host, Snapshot};
use crate::mac::Mac;

pub use codes::Place;
pub use read::read;
pub(super) use read::{hosts, profiles};
pub use value::{Kind, NAMES};

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    kind: Kind,
    /// As it was written, part by part.
    shown: Vec<String>,
    bytes: Vec<u8>,
    on_request: bool,
}

impl Value {
    /// What is sent, 1 to 255 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Only a client that lists the option in its option 55 gets it.
    pub fn on_request(&self) -> bool {
        self.on_request
    }

    /// Of routes (RFC 3442): one of them is for everywhere.
    pub fn has_default_route(&self) -> bool {
        let mut rest = self.bytes.as_slice();
        while let [width, after @ ..] = rest {
            if *width == 0 {
                return true;
            }
            rest = after.get(usize::from(width.div_ceil(8)) + 4..).unwrap_or_default();
        }
        false
    }
}

/// What one place says, by code. `None`: what a wider place says does not count here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<u8, Option<Value>>);

impl Options {
    /// Nothing is said at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is said of a code.
    pub fn get(&self, code: u8) -> Option<Option<&Value>> {
        self.0.get(&code).map(Option::as_ref)
    }

    /// These options with those of a narrower place over them.
    #[must_use]
    pub fn with(&self, narrower: &Self) -> Self {
        let both = self.0.iter().chain(&narrower.0);
        Self(both.map(|(code, value)| (*code, value.clone())).collect())
    }
}

/// What is set for the machines of one profile, in the settings or in its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Profile {
    /// Its options.
    pub options: Options,
    /// Its boot files, by class.
    pub boot: Boot,
}

/// Profiles of the settings by name; a channel names one, too.
pub type Profiles = BTreeMap<String, Profile>;

/// What names one machine of `pxe_hosts.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostKey {
    /// Its reserved address.
    Addr(Ipv4Addr),
    /// Its Ethernet address.
    Mac(Mac),
}

impl HostKey {
    /// Whether it names this machine.
    pub fn names(self, host: &Host) -> bool {
        self == Self::Addr(host.addr) || self == Self::Mac(host.mac)
    }
}

impl std::fmt::Display for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}

/// Everything that is set by number, and what else profiles have.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Custom {
    /// For everybody; in a subnet, those of the subnet over them.
    pub options: Options,
    /// For the machines of a profile.
    pub profiles: Profiles,
    /// For one machine.
    pub hosts: BTreeMap<HostKey, Options>,
}

impl Custom {
    /// What counts for a machine; `None`: one without reservation.
    pub fn of<'a>(&'a self, snapshot: &'a Snapshot, host: Option<&'a Host>) -> Layers<'a> {
        let [file, settings] = self.profile(snapshot, host);
        let own = |key| self.hosts.get(&key);
        Layers([
            Some(&self.options),
            settings.map(|profile| &profile.options),
            file.map(|profile| &profile.options),
            host.and_then(|host| own(HostKey::Addr(host.addr))),
            host.and_then(|host| own(HostKey::Mac(host.mac))),
        ])
    }

    /// What is set for a machine's profile: in its file, which counts first, and in the settings.
    pub fn profile<'a>(&'a self, snapshot: &'a Snapshot, host: Option<&'a Host>) -> [Option<&'a Profile>; 2] {
        let file = snapshot.profile_file(host).map(|profile| &profile.dhcp);
        // In the settings nothing is for machines that nobody knows.
        let name = host.and_then(|host| snapshot.profile_name(Some(host)));
        [file, name.and_then(|name| self.profiles.get(name))]
    }
}

/// The options of one machine: the places that say something of it, the narrowest last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers<'a>([Option<&'a Options>; 5]);

impl<'a> Layers<'a> {
    /// What the narrowest place that speaks of it says of every code, by code.
    pub fn settled(&self) -> BTreeMap<u8, Option<&'a Value>> {
        let said = self.0.iter().flatten().flat_map(|options| &options.0);
        said.map(|(code, value)| (*code, value.as_ref())).collect()
    }

    /// Some option is for those alone who ask for it.
    pub fn on_request(&self) -> bool {
        self.settled().values().flatten().any(|value| value.on_request)
    }

    /// The same as one set, for people to read.
    pub fn resolved(&self) -> Options {
        Options(self.settled().into_iter().map(|(code, value)| (code, value.cloned())).collect())
    }
}

impl serde::Serialize for Options {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(&self.0)
    }
}

impl serde::Serialize for HostKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let hex: Vec<String> = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut value = serializer.serialize_struct("Value", 4)?;
        value.serialize_field("type", self.kind.name())?;
        value.serialize_field("value", &self.shown)?;
        value.serialize_field("bytes", &hex.join(":"))?;
        value.serialize_field("on_request", &self.on_request)?;
        value.end()
    }
}

#[cfg(test)]
mod tests;
