//! `netboot check`: everything that is wrong with a data directory, at once.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;

use ipnetwork::Ipv4Network;
use netboot_ebpf::Class;

use super::{WRONG, args, report, say};
use crate::config::problem::{Problem, Problems, Severity};
use crate::config::{self, Given, Settings};
use crate::dhcp::boot;
use crate::http::{Certificate, Token};
use crate::inventory::{self, Loaders, Networks, Snapshot, loaders};
use crate::store;

mod options;

/// Checks and says what was found. Warnings alone are no failure.
pub(super) fn run(check: args::Check) -> ExitCode {
    let args::Check { data, print, settings } = check;
    let settings = config::resolve(&data, Given::from(settings));
    let (problems, snapshot) = examine(&data, &settings);
    report::problems(&problems);
    match (print, &settings) {
        (true, Ok(settings)) => say(&shown(settings, snapshot.as_ref())),
        (true, Err(_)) => {}
        (false, _) => {
            let hosts = snapshot.map(|snapshot| report::count(snapshot.hosts().len(), "host") + ", ");
            say(&format!("{}: {}{}", data.display(), hosts.unwrap_or_default(), report::summary(&problems)));
        }
    }
    if problems.iter().any(Problem::is_error) { ExitCode::from(WRONG) } else { ExitCode::SUCCESS }
}

/// Everything that is wrong with a data directory, and its machines if they can be read.
pub(super) fn examine(
    data: &Path,
    settings: &Result<Settings, Problems>,
) -> (Vec<Problem>, Option<Snapshot>) {
    let subnet = settings.as_ref().ok().and_then(|settings| subnet_of(&settings.interface));
    let networks =
        settings.as_ref().map(|settings| Networks::new(subnet, &settings.dhcp)).unwrap_or_default();
    let inventory::Loaded { mut problems, snapshot, .. } = inventory::load(data, &networks);
    match settings {
        Ok(settings) => {
            let config::Dhcp { pool, subnets, .. } = &settings.dhcp;
            problems
                .extend(subnet.into_iter().flat_map(|own| config::unfit(&settings.data, pool, subnets, own)));
            problems.extend(boot_files(settings, snapshot.as_ref()));
            problems.extend(options::problems(settings, snapshot.as_ref()));
            problems.extend(config::vlan::problem(settings));
            let tls = settings.http.tls.as_ref();
            problems.extend(tls.and_then(|tls| Certificate::open(tls, &settings.data).err()));
            let token = settings.http.token_file.as_ref();
            problems.extend(token.and_then(|file| Token::open(file, &settings.data).err()));
        }
        Err(Problems(found)) => problems.extend(found.iter().cloned()),
    }
    problems.extend(settings.as_ref().ok().and_then(lease_file));
    (problems, snapshot)
}

/// What is wrong with the file of the leases.
pub(super) fn lease_file(settings: &Settings) -> Option<Problem> {
    let (file, fault) = store::fault(&settings.state)?;
    let (severity, message, help) = match fault {
        store::Fault::Unreadable(why) => {
            let help = "make it a file that netboot may read and write, or move it away: then all leases are forgotten";
            (Severity::Error, format!("the leases cannot be read: {why}"), help)
        }
        store::Fault::Damaged => {
            let message =
                "is damaged, or no file of leases; `serve` keeps it aside and begins a new one".to_owned();
            (Severity::Warning, message, "put a copy in its place if there is one")
        }
    };
    Some(Problem::of_file(severity, &file, message, help))
}

/// Boot files that are set and not there, and machines that would get none. Of those nothing is said before there is a
/// `tftp/` at all.
fn boot_files(settings: &Settings, snapshot: Option<&Snapshot>) -> Vec<Problem> {
    let (data, file) = (&settings.data, settings.data.join(config::FILE));
    let profiles = settings.dhcp.custom.profiles.iter();
    let profiles = profiles.map(|(name, profile)| (format!("dhcp.profiles.{name}."), &profile.boot));
    let named = std::iter::once((String::new(), &settings.boot)).chain(profiles).flat_map(|(place, boot)| {
        boot.iter().map(move |(class, name)| (format!("{place}boot.{}", class.name()), name))
    });
    let named = named.filter(|(_, name)| !name.is_empty() && !config::boot::is_url(name));
    let absent = named.filter(|(_, name)| !loaders::is_there(data, name)).map(|(setting, name)| {
        let message = format!("`{setting}` is \"{name}\", which is not in tftp/");
        Problem::of_file(Severity::Warning, &file, message, "put it there, or name another")
    });
    let tftp = data.join(loaders::DIRECTORY);
    let gaps = snapshot
        .filter(|_| tftp.is_dir())
        .map(|snapshot| boot::gaps(&settings.boot, &settings.dhcp.custom, snapshot));
    let gaps = gaps.unwrap_or_default().into_iter();
    let gaps = gaps.map(|(message, help)| Problem::of_file(Severity::Warning, &tftp, message, help));
    absent.chain(gaps).collect()
}

/// The settings as JSON, with the boot file that each class gets, and the options of profiles and machines with what
/// they inherit.
fn shown(settings: &Settings, snapshot: Option<&Snapshot>) -> String {
    let nobody = Snapshot::default().with_loaders(Loaders::find(&settings.data));
    let snapshot = snapshot.unwrap_or(&nobody);
    let mut settings = settings.clone();
    let custom = settings.dhcp.custom.clone();
    for profile in settings.dhcp.custom.profiles.values_mut() {
        profile.options = custom.options.with(&profile.options);
    }
    for (key, options) in &mut settings.dhcp.custom.hosts {
        let host = snapshot.hosts().find(|host| key.names(host));
        *options = host
            .map_or_else(|| custom.options.with(options), |host| custom.of(snapshot, Some(host)).resolved());
    }
    let settings = &settings;
    let mut value = serde_json::to_value(settings).unwrap_or_default();
    let classes = Class::ALL.iter().filter(|class| config::boot::class(class.name()).is_some());
    let files = classes.map(|class| {
        let file = boot::file(&settings.boot, &custom, snapshot, None, *class);
        (class.name().to_owned(), file.into())
    });
    if let Some(boot) = value.get_mut("boot") {
        *boot = serde_json::Value::Object(files.collect());
    }
    if settings.interface.is_empty()
        && let Some(interface) = value.get_mut("interface")
    {
        *interface = serde_json::Value::Null;
    }
    format!("{value:#}")
}

/// The subnet of an interface of this machine, if it has one now: hosts can be held against it.
pub(super) fn subnet_of(interface: &str) -> Option<Ipv4Network> {
    directly_connected(&std::fs::read_to_string("/proc/net/route").ok()?, interface)
}

/// Finds the interface's own network in the kernel's routing table (`/proc/net/route`: name, destination, gateway,
/// …, the mask in the eighth column; addresses in hexadecimal, their bytes in memory order).
fn directly_connected(table: &str, interface: &str) -> Option<Ipv4Network> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<_> = line.split_ascii_whitespace().collect();
        let addr = |column: usize| {
            let number = u32::from_str_radix(columns.get(column)?, 16).ok()?;
            Some(Ipv4Addr::from(number.to_ne_bytes()))
        };
        let (destination, gateway, mask) = (addr(1)?, addr(2)?, addr(7)?);
        let own = columns.first() == Some(&interface) && gateway.is_unspecified() && !mask.is_unspecified();
        if own { Ipv4Network::with_netmask(destination, mask).ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::directly_connected;

    #[test]
    #[cfg(target_endian = "little")]
    fn finds_the_subnet_of_an_interface() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth1\t0000010A\t0100000A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            eth1\t005AA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(directly_connected(table, "eth1"), Some("192.168.90.0/24".parse().unwrap()));
        assert_eq!(directly_connected(table, "eth0"), None);
        assert_eq!(directly_connected("", "eth1"), None);
    }
}
