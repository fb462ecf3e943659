//! The machines and what they boot: `pxe_hosts.json` and `profiles/` read into an immutable snapshot that is swapped whole.

mod again;
pub mod edit;
pub mod ignition;
pub mod jinja;
mod live;
mod load;
pub mod loaders;
pub mod marks;
mod networks;
mod once;
pub mod orders;
mod own_boot;
pub mod profile;
mod read;
pub mod rendering;
pub mod secrets;
pub mod template;
pub mod user_data;
pub mod variables;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::config::Boot;
use crate::mac::Mac;
use crate::uuid::Uuid;

pub use live::Inventory;
pub use load::{Loaded, load};
pub use loaders::Loaders;
pub use marks::Marks;
pub use networks::Networks;
pub use orders::{Order, Orders};
pub use profile::{Profile, Profiles};
pub(crate) use read::channel as channel_rule;
pub use template::Templates;

/// Name of the hosts file in the data directory.
pub const HOSTS_FILE: &str = "pxe_hosts.json";
/// The template of hosts that name none.
pub const DEFAULT_TEMPLATE: &str = "default.yaml";
/// The variable that everybody has: the host's address.
pub const PRIVATE_IPV4: &str = "$private_ipv4";

/// A reserved machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its Ethernet address, by which DHCP knows it; by its `uuid` too, if it has one.
    pub mac: Mac,
    /// Its address on the PXE network, by which HTTP knows it.
    pub addr: Ipv4Addr,
    /// `$hostname`.
    pub hostname: String,
    /// `channel`: names the pxelinux configuration.
    pub channel: String,
    /// `template`, if it has its own; a file name in the data directory.
    pub template: Option<String>,
    /// `boot`: its own boot files, by class.
    pub boot: Boot,
    /// Every `$variable` of the host, names with their `$`, `$hostname` included.
    pub variables: BTreeMap<String, String>,
    /// What few have: `profile`, `labels`, `uuid` and `serial`.
    pub marks: Option<Box<Marks>>,
    /// `ignition`, if it has its own; a file name in the data directory.
    pub ignition: Option<String>,
}

impl Host {
    /// `profile`, if it names one.
    pub fn profile(&self) -> Option<&str> {
        self.marks.as_ref()?.profile.as_deref()
    }

    /// `uuid`, if it has one.
    pub fn uuid(&self) -> Option<Uuid> {
        self.marks.as_ref()?.uuid
    }
}

/// The inventory at one moment. A request is answered from one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    machines: Arc<Machines>,
    loaders: Loaders,
    profiles: Arc<Profiles>,
    orders: Arc<Orders>,
}

/// What the hosts file says. Two readings share the hosts that are the same in both, so that they are compared at once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Machines {
    hosts: Vec<Arc<Host>>,
    common: BTreeMap<String, String>,
    // The keys are the operator's, so nobody chooses them to collide.
    by_mac: HashMap<Mac, usize, RandomState>,
    by_addr: HashMap<Ipv4Addr, usize, RandomState>,
    by_uuid: HashMap<Uuid, usize, RandomState>,
    /// Two hosts have one.
    twin_uuids: bool,
}

impl Snapshot {
    /// Indexes the hosts; of two with one MAC, address or UUID the first counts (loading refuses such a file).
    pub fn new(common: BTreeMap<String, String>, hosts: Vec<Host>) -> Self {
        Self::of(common, hosts.into_iter().map(Arc::new).collect())
    }

    fn of(common: BTreeMap<String, String>, hosts: Vec<Arc<Host>>) -> Self {
        let mut by_mac = HashMap::with_capacity_and_hasher(hosts.len(), RandomState::default());
        let mut by_addr = HashMap::with_capacity_and_hasher(hosts.len(), RandomState::default());
        // Few have one.
        let (mut by_uuid, mut twin_uuids) = (HashMap::with_hasher(RandomState::default()), false);
        for (number, host) in hosts.iter().enumerate() {
            by_mac.entry(host.mac).or_insert(number);
            by_addr.entry(host.addr).or_insert(number);
            if let Some(uuid) = host.uuid() {
                twin_uuids |= *by_uuid.entry(uuid).or_insert(number) != number;
            }
        }
        let machines = Arc::new(Machines { hosts, common, by_mac, by_addr, by_uuid, twin_uuids });
        Self { machines, ..Self::default() }
    }

    /// Whether no two hosts have the same MAC or the same address.
    pub(crate) fn is_unambiguous(&self) -> bool {
        let Machines { hosts, by_mac, by_addr, .. } = &*self.machines;
        by_mac.len() == hosts.len() && by_addr.len() == hosts.len()
    }

    /// Whether two hosts have the same UUID.
    pub(crate) fn has_twin_uuids(&self) -> bool {
        self.machines.twin_uuids
    }

    /// The same machines, with what was found in `tftp/`.
    #[must_use]
    pub fn with_loaders(self, loaders: Loaders) -> Self {
        Self { loaders, ..self }
    }

    /// The same machines, with these profiles.
    #[must_use]
    pub fn with_profiles(self, profiles: Profiles) -> Self {
        Self { profiles: Arc::new(profiles), ..self }
    }

    /// The same machines, with these orders.
    #[must_use]
    pub fn with_orders(self, orders: Arc<Orders>) -> Self {
        Self { orders, ..self }
    }

    /// The profiles.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// The boot loaders that were found in `tftp/`.
    pub fn loaders(&self) -> &Loaders {
        &self.loaders
    }

    /// The template of a host's Ignition configuration, by its name.
    pub fn ignition_of<'s>(&self, host: &'s Host) -> &'s str {
        host.ignition.as_deref().unwrap_or(ignition::TEMPLATE)
    }

    /// Every host, in the order of the file.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &Host> + Clone {
        self.machines.hosts.iter().map(|host| &**host)
    }

    /// The variables of `common`, names with their `$`.
    pub fn common(&self) -> &BTreeMap<String, String> {
        &self.machines.common
    }

    /// The variables of a host: its own over those of `common` over `$private_ipv4`.
    pub fn variables<'s>(&'s self, host: &'s Host) -> BTreeMap<&'s str, Cow<'s, str>> {
        let given = self.common().iter().chain(&host.variables);
        std::iter::once((PRIVATE_IPV4, Cow::Owned(host.addr.to_string())))
            .chain(given.map(|(name, value)| (name.as_str(), Cow::Borrowed(value.as_str()))))
            .collect()
    }

    /// The name of a host's template: its own, else its profile's.
    pub fn template<'s>(&'s self, host: &'s Host) -> &'s str {
        let template = |profile: &str| self.profiles.file(profile)?.template.as_deref();
        // What a machine was told to boot, and boots now, comes with its own.
        let ordered = self.order(host).and_then(|order| template(&order.profile));
        let profile = || template(self.profile_name(Some(host))?);
        ordered.or(host.template.as_deref()).or_else(profile).unwrap_or(DEFAULT_TEMPLATE)
    }

    /// The host with this Ethernet address.
    pub fn by_mac(&self, mac: Mac) -> Option<&Host> {
        self.host(self.machines.by_mac.get(&mac))
    }

    /// The host with this address.
    pub fn by_addr(&self, addr: Ipv4Addr) -> Option<&Host> {
        self.host(self.machines.by_addr.get(&addr))
    }

    /// The host with this UUID.
    pub fn by_uuid(&self, uuid: Uuid) -> Option<&Host> {
        self.host(self.machines.by_uuid.get(&uuid))
    }

    /// Whether a host may have a card with this MAC: its own, or one that is nobody's where it is known by its UUID.
    pub fn may_have(&self, host: &Host, mac: Mac) -> bool {
        host.mac == mac || (host.uuid().is_some() && self.by_mac(mac).is_none())
    }

    /// How many hosts have a UUID, by which DHCP knows them with any card.
    pub fn uuids(&self) -> usize {
        self.machines.by_uuid.len()
    }

    fn host(&self, number: Option<&usize>) -> Option<&Host> {
        self.machines.hosts.get(*number?).map(|host| &**host)
    }
}
