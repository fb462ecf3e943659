//! Which machine asks, and for which: by the lease of its source address, else by the reservation of it.
//!
//! A machine sees what is its own. Who may see what concerns others can name one; what is secret it does not see.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::app::State;
use super::client::Client;
use crate::dhcp::record;
use crate::inventory::{Host, Snapshot};
use crate::mac::Mac;
use crate::uuid::Uuid;

/// What a request may say about the machine that it is for. What cannot be read counts as not said.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// The address of a machine.
    override_ipv4: Option<String>,
    /// The Ethernet address of a machine.
    mac: Option<String>,
    /// The UUID of a machine's firmware.
    uuid: Option<String>,
    /// Its serial number.
    serial: Option<String>,
}

impl Asked {
    /// For the machine with this Ethernet address.
    pub(super) fn of(mac: Mac) -> Self {
        Self { mac: Some(mac.to_string()), ..Self::default() }
    }
}

/// The machine that a request is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'s> {
    pub(super) host: &'s Host,
    /// It is the one that asks.
    pub(super) itself: bool,
}

/// Whose configuration this client gets: that of the machine it names, if it may, else its own. Else the address or MAC for
/// which there is none.
pub(super) fn whose<'s>(
    state: &State,
    snapshot: &'s Snapshot,
    client: Client,
    asked: &Asked,
) -> Result<Subject<'s>, String> {
    let Client { addr: source, .. } = client;
    let own = own(state, snapshot, source);
    let addr = asked.override_ipv4.as_deref().and_then(|text| text.parse::<Ipv4Addr>().ok());
    let mac = asked.mac.as_deref().and_then(|text| text.parse::<Mac>().ok());
    let mark = Mark::of(asked);
    let (named, who) = match (addr, mac, mark) {
        (Some(addr), ..) => (snapshot.by_addr(addr), addr.to_string()),
        (None, Some(mac), _) => {
            // Its own machine may ask by another card.
            let other_card = || own.filter(|own| snapshot.may_have(own, mac));
            (snapshot.by_mac(mac).or_else(other_card), mac.to_string())
        }
        (None, None, Some(mark)) => {
            let is = |host: &&Host| mark.is_of(host);
            // A machine that names another is not worth a look at all of them.
            let others = || if client.may_see_others(state) { mark.machine(snapshot) } else { None };
            (own.filter(is).or_else(others), mark.shown())
        }
        (None, None, None) => {
            return own.map(|host| Subject { host, itself: true }).ok_or_else(|| source.to_string());
        }
    };
    let itself = named.is_some_and(|named| own.is_some_and(|own| own.mac == named.mac));
    if itself || client.may_see_others(state) {
        return named.map(|host| Subject { host, itself }).ok_or(who);
    }
    tracing::warn!(addr = %source, asked = %who, "HTTP: {source} may not see the configuration of {who} (http.override_from)");
    own.map(|host| Subject { host, itself: true }).ok_or_else(|| source.to_string())
}

/// What firmware knows of a machine.
#[derive(Clone, Copy)]
enum Mark<'a> {
    Uuid(Uuid),
    Serial(&'a str),
}

impl<'a> Mark<'a> {
    fn of(asked: &'a Asked) -> Option<Self> {
        let uuid = asked.uuid.as_deref().and_then(|text| text.parse().ok());
        // Firmware pads its texts.
        let serial = asked.serial.as_deref().map(str::trim).filter(|text| !text.is_empty());
        uuid.map(Self::Uuid).or_else(|| serial.map(Self::Serial))
    }

    fn is_of(self, host: &Host) -> bool {
        match self {
            Self::Uuid(uuid) => host.uuid() == Some(uuid),
            Self::Serial(asked) => {
                let own = host.marks.as_ref().and_then(|marks| marks.serial.as_deref());
                own.is_some_and(|own| own.eq_ignore_ascii_case(asked))
            }
        }
    }

    fn machine(self, snapshot: &Snapshot) -> Option<&Host> {
        match self {
            Self::Uuid(uuid) => snapshot.by_uuid(uuid),
            Self::Serial(_) => snapshot.hosts().find(|host| self.is_of(host)),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Uuid(uuid) => uuid.to_string(),
            Self::Serial(text) => text.escape_debug().to_string(),
        }
    }
}

/// The machine with this source address. Whoever has a lease of it is the one; a reservation of an address that is leased to
/// another waits.
pub(super) fn own<'s>(state: &State, snapshot: &'s Snapshot, client: IpAddr) -> Option<&'s Host> {
    let IpAddr::V4(addr) = client else { return None };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Where the leases cannot be read, reservations are what there is.
    let lease = state.leases.get(&record::key(addr)).ok().flatten();
    let lease = lease.and_then(|value| record::read_one(addr, &value)).filter(|lease| lease.expires > now);
    match lease {
        Some(lease) => snapshot.by_mac(lease.owner.mac),
        None => snapshot.by_addr(addr),
    }
}
