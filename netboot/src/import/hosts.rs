//! Machines of another server → entries of `pxe_hosts.json`, held against those that are there already.

use std::collections::HashMap;

use super::Host;
use crate::config::json::Source;
use crate::config::problem::{Problem, Severity};
use crate::inventory::edit::{Entry, is_hostname};
use crate::inventory::{HOSTS_FILE, Snapshot};

/// What is to be added.
#[derive(Clone, Debug, Default)]
pub struct Added {
    /// The machines that are not there yet.
    pub entries: Vec<Entry>,
    /// Errors: a MAC or an address that two machines would have. Warnings: what is there already, and names made up.
    pub problems: Vec<Problem>,
}

/// Makes entries of this channel. Of two machines with one MAC or one address neither is guessed to be right.
pub fn added(source: &Source, hosts: &[Host], there: &Snapshot, channel: &str) -> Added {
    let mut added = Added::default();
    let (mut macs, mut addrs) = (HashMap::new(), HashMap::new());
    for host in hosts {
        let Host { at, mac, addr, hostname } = host;
        let tell = |severity, message, help: &str| source.problem(severity, at.start, at.end, message, help);
        let by_mac = there.by_mac(*mac);
        if by_mac.is_some_and(|known| known.addr == *addr) {
            let message = format!("{mac} with {addr} is in {HOSTS_FILE} already");
            added.problems.push(tell(Severity::Warning, message, "nothing to do: that entry stays as it is"));
            continue;
        }
        let line = |start: usize| source.text().get(..start).unwrap_or_default().matches('\n').count() + 1;
        let place = |start: &usize| format!("in line {}", line(*start));
        let mac_of = by_mac
            .map(|known| format!("{} in {HOSTS_FILE}", known.addr))
            .or_else(|| macs.get(mac).map(place).map(|place| format!("a machine {place}")));
        let addr_of = there
            .by_addr(*addr)
            .map(|known| format!("{} in {HOSTS_FILE}", known.mac))
            .or_else(|| addrs.get(addr).map(place).map(|place| format!("a machine {place}")));
        macs.entry(*mac).or_insert(at.start);
        addrs.entry(*addr).or_insert(at.start);
        let help = "remove one of the two, or give each its own";
        if let Some(other) = &mac_of {
            added.problems.push(tell(Severity::Error, format!("{mac} is the MAC of {other} too"), help));
        }
        if let Some(other) = &addr_of {
            added.problems.push(tell(Severity::Error, format!("{addr} is the address of {other} too"), help));
        }
        if mac_of.is_some() || addr_of.is_some() {
            continue;
        }
        // A name with dots is a name in a domain; its first label is the machine's.
        let label = hostname.as_deref().and_then(|name| name.split('.').next()).unwrap_or_default();
        let hostname = if is_hostname(label) {
            label.to_owned()
        } else {
            let made = format!("host-{}", addr.to_string().replace('.', "-"));
            let message = match hostname {
                Some(name) => format!("`{name}` cannot be a host name; {addr} becomes `{made}`"),
                None => format!("{addr} has no name; it becomes `{made}`"),
            };
            let help = format!("change `$hostname` in {HOSTS_FILE} if it is to have another");
            added.problems.push(tell(Severity::Warning, message, &help));
            made
        };
        added.entries.push(Entry { addr: *addr, mac: *mac, hostname, channel: channel.to_owned() });
    }
    added
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Host, added};
    use crate::config::json::Source;
    use crate::inventory::Snapshot;
    use crate::mac::Mac;

    fn host(line: usize, mac: u8, addr: u8, hostname: &str) -> Host {
        let hostname = Some(hostname.to_owned()).filter(|name| !name.is_empty());
        let at = 2 * (line - 1)..2 * line - 1;
        Host { at, mac: Mac([2, 0, 0, 0, 0, mac]), addr: [10, 0, 0, addr].into(), hostname }
    }

    fn there() -> Snapshot {
        let host = crate::inventory::Host {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addr: [10, 0, 0, 1].into(),
            hostname: "one".to_owned(),
            channel: "beta".to_owned(),
            template: None,
            variables: std::collections::BTreeMap::default(),
            ignition: None,
            boot: crate::config::Boot::default(),
        };
        Snapshot::new(std::collections::BTreeMap::default(), vec![host])
    }

    fn check(hosts: &[Host], names: &[&str], problems: &[&str]) {
        let source = Source::new(Path::new("f"), "a\nb\nc\nd\n");
        let found = added(&source, hosts, &there(), "stable");
        let entries: Vec<_> = found.entries.iter().map(|e| format!("{} {}", e.addr, e.hostname)).collect();
        assert_eq!(entries, names);
        let said: Vec<_> = found.problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), problems.len(), "{said:#?}");
        for (said, part) in said.iter().zip(problems) {
            assert!(said.starts_with(part), "{said}\nis not\n{part}");
        }
    }

    #[test]
    fn names_are_one_label_or_made_up() {
        let hosts = [
            host(1, 2, 2, "blade2"),
            host(2, 3, 3, "blade3.rack.example"),
            host(3, 4, 4, ""),
            host(4, 5, 5, "no good"),
        ];
        check(
            &hosts,
            &["10.0.0.2 blade2", "10.0.0.3 blade3", "10.0.0.4 host-10-0-0-4", "10.0.0.5 host-10-0-0-5"],
            &[
                "f:3:1: warning: 10.0.0.4 has no name; it becomes `host-10-0-0-4`;",
                "f:4:1: warning: `no good` cannot be a host name;",
            ],
        );
    }

    #[test]
    fn the_same_again_is_fine_and_a_clash_is_not() {
        check(
            &[host(1, 1, 1, "other")],
            &[],
            &["f:1:1: warning: 02:00:00:00:00:01 with 10.0.0.1 is in pxe_hosts.json already;"],
        );
        check(
            &[host(1, 1, 9, "x"), host(2, 9, 1, "y")],
            &[],
            &[
                "f:1:1: 02:00:00:00:00:01 is the MAC of 10.0.0.1 in pxe_hosts.json too;",
                "f:2:1: 10.0.0.1 is the address of 02:00:00:00:00:01 in pxe_hosts.json too;",
            ],
        );
        check(
            &[host(1, 7, 7, "x"), host(2, 7, 8, "y"), host(3, 8, 7, "z")],
            &["10.0.0.7 x"],
            &[
                "f:2:1: 02:00:00:00:00:07 is the MAC of a machine in line 1 too;",
                "f:3:1: 10.0.0.7 is the address of a machine in line 1 too;",
            ],
        );
    }
}
