//! `netboot.json` as written: each setting that is there, checked by itself. Every key is optional.
//!
//! An unknown key is an error, not a shrug: a setting with a slip in its name would silently not count.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnetwork::Ipv4Network;
use jsonc_parser::ast::{Object, Value};

use super::json::{Reader, Source, kind};
use super::options::{Custom, Place};
use super::problem::{Problem, Problems};
use super::range::Addresses;
use super::{
    Boot, Engine, Identity, Limits, Menu, Mode, Range, RouterAdvertisement, Subnet, Unknown, Vlan, Xdp, boot,
    limits, menu, options, subnet, vlan,
};

/// Most routers or name servers: with the rest of a reply they stay within 548 bytes.
const MOST_SERVERS: usize = 8;

/// What `netboot.json` says, field by field as in `Settings`; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) interface: Option<String>,
    pub(super) trunk: Option<String>,
    pub(super) vlan: Option<Vlan>,
    pub(super) state: Option<PathBuf>,
    pub(super) mode: Option<Mode>,
    pub(super) xdp: Option<Xdp>,
    pub(super) router_advertisement: Option<RouterAdvertisement>,
    pub(super) pool: Option<Vec<Range>>,
    pub(super) exclude: Option<Vec<Range>>,
    pub(super) lease_secs: Option<u32>,
    pub(super) min_lease_secs: Option<u32>,
    pub(super) max_lease_secs: Option<u32>,
    pub(super) identity: Option<Identity>,
    pub(super) probe: Option<bool>,
    pub(super) authoritative: Option<bool>,
    pub(super) router: Option<Vec<Ipv4Addr>>,
    pub(super) dns: Option<Vec<Ipv4Addr>>,
    pub(super) domain: Option<String>,
    pub(super) unknown: Option<Unknown>,
    pub(super) menu: Option<Menu>,
    pub(super) custom: Custom,
    pub(super) rapid_commit: Option<bool>,
    pub(super) limits: Limits,
    pub(super) subnets: Vec<Subnet>,
    pub(super) boot: Boot,
    pub(super) port: Option<u16>,
    pub(super) override_from: Option<Vec<Ipv4Network>>,
    pub(super) secret_reads: Option<u32>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) tls_port: Option<u16>,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) max_transfers: Option<usize>,
    pub(super) max_window: Option<u16>,
    pub(super) engine: Option<Engine>,
    pub(super) rollover: Option<u16>,
    pub(super) ignore_case: Option<bool>,
    pub(super) single_port: Option<bool>,
    pub(super) threads: Option<usize>,
    pub(super) cache_bytes: Option<u64>,
    pub(super) in_flight_bytes: Option<u64>,
    pub(super) client_in_flight_bytes: Option<u64>,
}

impl Written {
    /// Reads `netboot.json`; a missing file says nothing.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn read(path: &Path) -> Result<Self, Problems> {
        match Source::read(path) {
            Ok(None) => Ok(Self::default()),
            Ok(Some(source)) => Self::parse(&source).map_err(Problems),
            Err(problem) => Err(Problems(vec![problem])),
        }
    }

    fn parse(source: &Source) -> Result<Self, Vec<Problem>> {
        let object = source.object().map_err(|problem| vec![problem])?;
        let mut written = Self::default();
        let mut reader = Reader::new(source);
        written.top(&mut reader, &object);
        if reader.problems.is_empty() { Ok(written) } else { Err(reader.problems) }
    }

    fn top(&mut self, reader: &mut Reader<'_>, object: &Object<'_>) {
        reader.unique(object);
        for member in &object.properties {
            let (name, value) = (member.name.as_str(), &member.value);
            match name {
                "interface" => self.interface = checked(reader, name, value, interface),
                "trunk" => self.trunk = checked(reader, name, value, interface),
                "vlan" => self.vlan = vlan::read(reader, name, value),
                "state" => self.state = checked(reader, name, value, not_empty).map(PathBuf::from),
                "mode" => self.mode = choice(reader, name, value),
                "xdp" => self.xdp = choice(reader, name, value),
                "router_advertisement" => self.router_advertisement = choice(reader, name, value),
                "dhcp" => section(reader, name, value, |reader, name, key, value| {
                    self.dhcp(reader, name, key, value)
                }),
                "boot" => section(reader, name, value, |reader, name, key, value| {
                    boot::read(reader, name, key, value, &mut self.boot)
                }),
                "http" => section(reader, name, value, |reader, name, key, value| {
                    self.http(reader, name, key, value)
                }),
                "tftp" => section(reader, name, value, |reader, name, key, value| {
                    self.tftp(reader, name, key, value)
                }),
                _ => {
                    let known = "use one of: interface, trunk, vlan, state, mode, xdp, router_advertisement, dhcp, boot, http, tftp";
                    reader.error(&member.name, format!("`{name}` is not a setting"), known);
                }
            }
        }
    }

    fn dhcp(
        &mut self,
        reader: &mut Reader<'_>,
        name: &str,
        key: &str,
        value: &Value<'_>,
    ) -> Result<(), &'static str> {
        match key {
            "pool" => self.pool = ranges(reader, name, value),
            "exclude" => self.exclude = excluded(reader, name, value),
            "lease_secs" => self.lease_secs = lease_secs(reader, name, value),
            "min_lease_secs" => self.min_lease_secs = lease_secs(reader, name, value),
            "max_lease_secs" => self.max_lease_secs = lease_secs(reader, name, value),
            "identity" => self.identity = choice(reader, name, value),
            "probe" => self.probe = boolean(reader, name, value),
            "authoritative" => self.authoritative = boolean(reader, name, value),
            "router" => self.router = routers(reader, name, value),
            "dns" => self.dns = name_servers(reader, name, value),
            "domain" => self.domain = checked(reader, name, value, domain),
            "unknown" => self.unknown = choice(reader, name, value),
            "menu" => self.menu = menu::read(reader, name, value),
            "subnets" => self.subnets = subnet::list(reader, name, value),
            "options" => self.custom.options = options::read(reader, name, value, Place::Everybody),
            "profiles" => self.custom.profiles = options::profiles(reader, name, value),
            "hosts" => self.custom.hosts = options::hosts(reader, name, value),
            "rapid_commit" => self.rapid_commit = boolean(reader, name, value),
            "limits" => self.limits = limits::read(reader, name, value),
            _ => {
                return Err(
                    "pool, exclude, lease_secs, min_lease_secs, max_lease_secs, identity, probe, authoritative, router, dns, domain, unknown, menu, subnets, options, profiles, hosts, rapid_commit, limits",
                );
            }
        }
        Ok(())
    }

    fn http(
        &mut self,
        reader: &mut Reader<'_>,
        name: &str,
        key: &str,
        value: &Value<'_>,
    ) -> Result<(), &'static str> {
        match key {
            "port" => self.port = number(reader, name, value, 1..=u16::MAX),
            "override_from" => {
                self.override_from = list(reader, name, value, "a list of networks, as in [\"127.0.0.0/8\"]");
            }
            "secret_reads" => self.secret_reads = number(reader, name, value, 1..=1_000_000),
            "token_file" => self.token_file = checked(reader, name, value, not_empty).map(PathBuf::from),
            "tls_port" => self.tls_port = number(reader, name, value, 1..=u16::MAX),
            "tls_cert" => self.tls_cert = checked(reader, name, value, not_empty).map(PathBuf::from),
            "tls_key" => self.tls_key = checked(reader, name, value, not_empty).map(PathBuf::from),
            _ => return Err("port, override_from, secret_reads, token_file, tls_port, tls_cert, tls_key"),
        }
        Ok(())
    }

    fn tftp(
        &mut self,
        reader: &mut Reader<'_>,
        name: &str,
        key: &str,
        value: &Value<'_>,
    ) -> Result<(), &'static str> {
        match key {
            "max_transfers" => self.max_transfers = number(reader, name, value, 1..=50_000),
            "max_window" => self.max_window = number(reader, name, value, 1..=u16::MAX),
            "engine" => self.engine = choice(reader, name, value),
            "ignore_case" => self.ignore_case = boolean(reader, name, value),
            "rollover" => self.rollover = number(reader, name, value, 0..=1),
            "single_port" => self.single_port = boolean(reader, name, value),
            "threads" => self.threads = number(reader, name, value, 0..=64),
            "cache_bytes" => self.cache_bytes = number(reader, name, value, 16 << 20..=1 << 40),
            "in_flight_bytes" => self.in_flight_bytes = number(reader, name, value, 1 << 20..=1 << 40),
            "client_in_flight_bytes" => {
                self.client_in_flight_bytes = number(reader, name, value, 64 << 10..=1 << 40);
            }
            _ => {
                return Err(
                    "max_transfers, max_window, engine, ignore_case, rollover, single_port, threads, cache_bytes, in_flight_bytes, client_in_flight_bytes",
                );
            }
        }
        Ok(())
    }
}

/// Ranges of a pool.
pub(super) fn ranges(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<Vec<Range>> {
    let what = "a list of ranges, the lower address first, as in [\"192.168.90.10-192.168.90.250\"]";
    list(reader, name, value, what)
}

/// Addresses that are left out of pools.
pub(super) fn excluded(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<Vec<Range>> {
    let what = "a list of addresses and ranges, as in [\"192.168.90.20\", \"192.168.90.40-192.168.90.49\"]";
    let addresses: Vec<Addresses> = list(reader, name, value, what)?;
    Some(addresses.into_iter().map(|Addresses(range)| range).collect())
}

/// Length of a lease: from a minute to a year.
pub(super) fn lease_secs(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<u32> {
    number(reader, name, value, 60..=31_536_000)
}

/// Default gateways.
pub(super) fn routers(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<Vec<Ipv4Addr>> {
    servers(reader, name, value, "an address, as in \"192.168.90.1\"; \"\" for none")
}

/// Name servers.
pub(super) fn name_servers(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<Vec<Ipv4Addr>> {
    servers(reader, name, value, "a list of addresses, as in [\"192.168.90.1\"]")
}

/// Reads the members of a section; `member` answers with the known keys when it does not know one.
pub(super) fn section(
    reader: &mut Reader<'_>,
    name: &str,
    value: &Value<'_>,
    mut member: impl FnMut(&mut Reader<'_>, &str, &str, &Value<'_>) -> Result<(), &'static str>,
) {
    let Value::Object(object) = value else {
        let message = format!("`{name}` is {}, not an object", kind(value));
        return reader.error(value, message, format!("write \"{name}\": {{ … }}"));
    };
    reader.unique(object);
    for property in &object.properties {
        let key = property.name.as_str();
        let full = format!("{name}.{key}");
        if let Err(known) = member(reader, &full, key, &property.value) {
            reader.error(
                &property.name,
                format!("`{full}` is not a setting"),
                format!("use one of: {known}"),
            );
        }
    }
}

fn boolean(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<bool> {
    if let Value::BooleanLit(literal) = value {
        return Some(literal.value);
    }
    reader.error(value, format!("`{name}` is {}", kind(value)), "write true or false, without quotes");
    None
}

pub(super) fn number<T>(
    reader: &mut Reader<'_>,
    name: &str,
    value: &Value<'_>,
    range: RangeInclusive<T>,
) -> Option<T>
where
    T: FromStr + PartialOrd + Display,
{
    let (from, to) = (range.start(), range.end());
    let found = match value {
        Value::NumberLit(literal) => match literal.value.parse() {
            Ok(number) if range.contains(&number) => return Some(number),
            _ => literal.value,
        },
        other => kind(other),
    };
    reader.error(
        value,
        format!("`{name}` is {found}"),
        format!("write a whole number from {from} to {to}, without quotes"),
    );
    None
}

/// One of the words of an enumeration, the same as on the command line.
fn choice<T: clap::ValueEnum>(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<T> {
    let words: Vec<String> = T::value_variants()
        .iter()
        .filter_map(T::to_possible_value)
        .map(|word| format!("\"{}\"", word.get_name()))
        .collect();
    let help = format!("write one of: {}", words.join(", "));
    let text = reader.text(name, value, &help)?;
    let found = T::from_str(text, false).ok();
    if found.is_none() {
        reader.error(value, format!("`{name}` is \"{text}\""), help);
    }
    found
}

/// A string that a rule accepts; the rule answers with what to write instead.
pub(super) fn checked(
    reader: &mut Reader<'_>,
    name: &str,
    value: &Value<'_>,
    rule: fn(&str) -> Result<(), &'static str>,
) -> Option<String> {
    let text = reader.text(name, value, "write it in double quotes")?;
    match rule(text) {
        Ok(()) => Some(text.to_owned()),
        Err(help) => {
            reader.error(value, format!("`{name}` is \"{text}\""), help);
            None
        }
    }
}

/// Values in a list, or one alone; the empty string is an empty list.
pub(super) fn list<T: FromStr>(
    reader: &mut Reader<'_>,
    name: &str,
    value: &Value<'_>,
    what: &str,
) -> Option<Vec<T>> {
    let help = format!("write {what}");
    let values = match value {
        Value::Array(array) => array.elements.as_slice(),
        Value::StringLit(text) if text.value.is_empty() => &[],
        single => std::slice::from_ref(single),
    };
    let before = reader.problems.len();
    let mut read = Vec::with_capacity(values.len());
    for value in values {
        let Some(text) = reader.text(name, value, &help) else { continue };
        match text.parse() {
            Ok(item) => read.push(item),
            Err(_) => reader.error(value, format!("`{name}` has \"{text}\""), help.as_str()),
        }
    }
    (reader.problems.len() == before).then_some(read)
}

/// A list of addresses that every client is told.
fn servers(reader: &mut Reader<'_>, name: &str, value: &Value<'_>, what: &str) -> Option<Vec<Ipv4Addr>> {
    let servers = list(reader, name, value, what)?;
    if servers.len() <= MOST_SERVERS {
        return Some(servers);
    }
    let message = format!("`{name}` has {} values", servers.len());
    reader.error(value, message, format!("write at most {MOST_SERVERS}: a reply has room for no more"));
    None
}

fn not_empty(text: &str) -> Result<(), &'static str> {
    if text.is_empty() { Err("write a path, or leave the key out") } else { Ok(()) }
}

/// The kernel's rule for interface names (`IFNAMSIZ` with its NUL).
pub(super) fn interface(text: &str) -> Result<(), &'static str> {
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    if (1..=15).contains(&text.len()) && text != "." && text != ".." && text.bytes().all(legal) {
        Ok(())
    } else {
        Err("write the name of a network interface, at most 15 characters, as in \"eth1\"")
    }
}

pub(super) fn domain(text: &str) -> Result<(), &'static str> {
    let legal = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if text.len() <= 128 && text.split('.').all(legal) {
        Ok(())
    } else {
        Err("write a domain name of at most 128 characters, as in \"blades.example\"")
    }
}
