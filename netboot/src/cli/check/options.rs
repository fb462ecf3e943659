//! What `netboot check` says of the options that are set by number: those that reach nobody, do not fit, or say less
//! than it seems.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use netboot_ebpf::Class;

use crate::config::options::Layers;
use crate::config::problem::{Problem, Severity};
use crate::config::{self, Settings};
use crate::dhcp::options::{Client, LARGEST, Subnet, template_within};
use crate::inventory::{Host, Snapshot};

/// Options 97 and 61 of a PXE ROM, 17 bytes each, and END.
const ECHO: usize = 2 * (2 + 17) + 1;

pub(super) fn problems(settings: &Settings, snapshot: Option<&Snapshot>) -> Vec<Problem> {
    let file = settings.data.join(config::FILE);
    let mut found = routes(settings);
    if let Some(snapshot) = snapshot {
        found.extend(nobody(settings, snapshot));
        found.extend(too_long(settings, snapshot));
    }
    let warning = |(message, help): (String, &str)| Problem::of_file(Severity::Warning, &file, message, help);
    found.into_iter().map(warning).collect()
}

/// Routes without a default: who takes them takes no router (RFC 3442, page 5).
fn routes(settings: &Settings) -> Vec<(String, &'static str)> {
    let dhcp = &settings.dhcp;
    let profiles =
        dhcp.custom.profiles.iter().map(|(name, profile)| (format!("profiles.{name}."), &profile.options));
    let hosts = dhcp.custom.hosts.iter().map(|(key, options)| (format!("hosts.{key}."), options));
    let everybody = std::iter::once((String::new(), &dhcp.custom.options));
    let has_router = dhcp.router.as_ref().is_none_or(|router| !router.is_empty());
    everybody
        .chain(profiles)
        .chain(hosts)
        .filter(|(_, options)| {
            let router = options.get(3).map_or(has_router, |value| value.is_some());
            router && options.get(121).flatten().is_some_and(|routes| !routes.has_default_route())
        })
        .map(|(place, _)| {
            let message = format!(
                "`dhcp.{place}options.121` has no default route, and clients that take it ignore the router of option 3"
            );
            (message, "add \"default via …\", or set the router to \"\" if there is to be none")
        })
        .collect()
}

/// Profiles and machines that there are none of.
fn nobody(settings: &Settings, snapshot: &Snapshot) -> Vec<(String, &'static str)> {
    let custom = &settings.dhcp.custom;
    let used = |name: &str| snapshot.hosts().any(|host| snapshot.profile_name(Some(host)) == Some(name));
    let channels = custom.profiles.keys().filter(|name| !used(name));
    let hosts = custom.hosts.keys().filter(|key| !snapshot.hosts().any(|host| key.names(host)));
    let channels = channels.map(|name| {
        let message =
            format!("`dhcp.profiles.{name}` is for nobody: no machine has the profile or channel \"{name}\"");
        (message, "write the `profile` or the `channel` of machines in pxe_hosts.json")
    });
    let hosts = hosts.map(|key| {
        let message =
            format!("`dhcp.hosts.{key}` is for nobody: no machine of pxe_hosts.json has that MAC or address");
        (message, "write the `macaddr` or the address of one")
    });
    channels.chain(hosts).collect()
}

/// Options that do not fit into what every client takes. One sentence for all machines that lose the same.
fn too_long(settings: &Settings, snapshot: &Snapshot) -> Vec<(String, &'static str)> {
    // The longest texts that an address makes.
    let addr = Ipv4Addr::new(192, 168, 100, 100);
    let subnet = Subnet::at(addr, Ipv4Network::from(addr), 1500, settings);
    let mut losers: BTreeMap<Vec<u8>, (String, usize)> = BTreeMap::new();
    for host in std::iter::once(None).chain(snapshot.hosts().map(Some)) {
        let lost = lost(&subnet, snapshot, host);
        if !lost.is_empty() {
            let name = |host: &Host| format!("{} ({})", host.addr, host.hostname);
            let first = || (host.map_or_else(|| "a machine without reservation".to_owned(), name), 0);
            losers.entry(lost).or_insert_with(first).1 += 1;
        }
    }
    let sentence = |(lost, (first, count)): (Vec<u8>, (String, usize))| {
        let lost: Vec<String> = lost.iter().map(u8::to_string).collect();
        let lost = lost.join(", ");
        let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        let message = format!(
            "the reply to {first}{others} has more than {LARGEST} bytes: without option 57 it loses {lost}"
        );
        (message, "set less, or only where it is needed")
    };
    losers.into_iter().map(sentence).collect()
}

/// The codes that people have set and that one of the machine's classes loses.
fn lost(subnet: &Subnet, snapshot: &Snapshot, host: Option<&Host>) -> Vec<u8> {
    let custom: Layers<'_> = subnet.custom.of(snapshot, host);
    let set: Vec<u8> = custom.settled().into_keys().collect();
    if set.is_empty() {
        return set;
    }
    let mut lost: Vec<u8> = Vec::new();
    for class in Class::ALL {
        let client = Client::new(subnet, snapshot, subnet.server, host, *class).asking(Some(&set));
        let template = template_within(subnet, &client, LARGEST - ECHO);
        lost.extend(template.left_out().iter().filter(|code| set.contains(code)));
    }
    lost.sort_unstable();
    lost.dedup();
    lost
}
