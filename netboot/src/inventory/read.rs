//! `pxe_hosts.json` → hosts. Finds everything that is wrong with the file in one go.
//!
//! Top level `common` (variables for all) and `hosts`, keyed by address; each host has `macaddr`, `$hostname`,
//! `channel`, optionally `template`, `boot`, `profile`, `labels`, `uuid` and `serial`, and any further `$variables`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::{Range, Ranged};

use super::once::Once;
use super::{Host, Networks, Snapshot, marks, own_boot};
use crate::config::json::{Reader, kind};
use crate::mac::Mac;
use crate::uuid::Uuid;

/// Longest channel: with `pxelinux.cfg/` before it, option 209 stays small.
const LONGEST_CHANNEL: usize = 64;
/// Longest host name, its domain included: with the other options it must leave a reply small enough.
const LONGEST_HOSTNAME: usize = 128;
/// Longest template name: what a file system takes.
const LONGEST_TEMPLATE: usize = 255;

/// What the file says, as far as it is right.
#[derive(Clone)]
pub(super) struct Hosts {
    pub(super) snapshot: Snapshot,
    /// What is between the braces of `hosts`.
    pub(super) inside: Range,
    /// Where each host of the snapshot stands.
    pub(super) places: Vec<Range>,
    pub(super) named: Named,
}

/// The files that hosts name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Named {
    /// The first place that names each template.
    pub(super) templates: BTreeMap<String, Range>,
    /// The first place that names each boot file below `tftp/`.
    pub(super) boot_files: BTreeMap<String, Range>,
    /// The first place that names each profile.
    pub(super) profiles: BTreeMap<String, Range>,
}

/// Some members of `hosts`.
#[derive(Default)]
pub(super) struct Members {
    pub(super) hosts: Vec<Arc<Host>>,
    pub(super) places: Vec<Range>,
    pub(super) named: Named,
}

/// Reads the whole file; what is wrong is left in `reader`.
pub(super) fn hosts(reader: &mut Reader<'_>, file: &Object<'_>, networks: &Networks) -> Hosts {
    reader.unique(file);
    for member in &file.properties {
        let name = member.name.as_str();
        if name != "common" && name != "hosts" {
            let message = format!("`{name}` is not known here and is ignored");
            reader.warning(&member.name, message, "use `common` and `hosts`");
        }
    }
    let mut common = BTreeMap::new();
    if let Some(members) = section(reader, file, "common") {
        reader.unique(members);
        for member in &members.properties {
            if !variable(reader, member, &mut common) {
                let name = member.name.as_str();
                let message = format!("`{name}` is not the name of a variable and is ignored");
                reader.warning(&member.name, message, format!("write `${name}`"));
            }
        }
    }
    if file.get("hosts").is_none() {
        reader.error(
            &file.range,
            "`hosts` is missing",
            "write \"hosts\": { }, with a member for each machine",
        );
    }
    let object = section(reader, file, "hosts");
    let inside = object.map_or(Range::new(0, 0), |object| Range::new(object.start() + 1, object.end() - 1));
    let found = object.map(|object| members(reader, object, networks));
    let Members { hosts, places, named } = found.unwrap_or_default();
    Hosts { snapshot: Snapshot::of(common, hosts), inside, places, named }
}

/// Reads the members of `hosts`, or of an object like it.
pub(super) fn members(reader: &mut Reader<'_>, object: &Object<'_>, networks: &Networks) -> Members {
    reader.unique(object);
    let mut all = All { networks, macs: Once::default(), uuids: Once::default(), found: Members::default() };
    for member in &object.properties {
        all.host(reader, member);
    }
    all.found
}

/// An object at top level.
fn section<'v, 'a>(reader: &mut Reader<'_>, file: &'v Object<'a>, name: &str) -> Option<&'v Object<'a>> {
    match &file.get(name)?.value {
        Value::Object(object) => Some(object),
        other => {
            let message = format!("`{name}` is {}, not an object", kind(other));
            reader.error(other, message, format!("write \"{name}\": {{ }}"));
            None
        }
    }
}

/// Takes a member as a variable; `false` when its name does not begin with `$`.
fn variable(reader: &mut Reader<'_>, member: &ObjectProp<'_>, into: &mut BTreeMap<String, String>) -> bool {
    let name = member.name.as_str();
    if !name.starts_with('$') {
        return false;
    }
    if name.len() == 1 {
        reader.error(&member.name, "`$` alone is not a name", "write a name after it, as in `$public_ipv4`");
    }
    let value = match &member.value {
        Value::StringLit(text) => text.value.as_ref(),
        // As text it is what is written, so nothing can go wrong.
        Value::NumberLit(number) => number.value,
        other => {
            reader.error(other, format!("`{name}` is {}", kind(other)), "write its text in double quotes");
            return true;
        }
    };
    into.insert(name.to_owned(), value.to_owned());
    true
}

/// The hosts read so far.
struct All<'n> {
    networks: &'n Networks,
    macs: Once<Mac>,
    uuids: Once<Uuid>,
    found: Members,
}

impl All<'_> {
    fn host(&mut self, reader: &mut Reader<'_>, member: &ObjectProp<'_>) {
        let key = member.name.as_str();
        let addr = self.addr(reader, member);
        let Value::Object(object) = &member.value else {
            let message = format!("host `{key}` is {}, not an object", kind(&member.value));
            reader.error(
                &member.value,
                message,
                "write { \"macaddr\": …, \"$hostname\": …, \"channel\": … }",
            );
            return;
        };
        reader.unique(object);
        let (mut variables, mut marked) = (BTreeMap::new(), false);
        for member in &object.properties {
            let name = member.name.as_str();
            if variable(reader, member, &mut variables)
                || ["macaddr", "channel", "template", "ignition", "boot"].contains(&name)
            {
                continue;
            }
            if marks::MEMBERS.contains(&name) {
                marked = true;
            } else {
                let message = format!("`{name}` is not known here and is ignored");
                reader.warning(
                    &member.name,
                    message,
                    "use `macaddr`, `channel`, `template`, `ignition`, `boot`, `profile`, `labels`, `uuid`, `serial` and names that begin with `$`",
                );
            }
        }
        let mac = self.mac(reader, object, member, addr);
        let hostname = required(reader, object, member, "$hostname", "\"$hostname\": \"blade1\"", hostname);
        if let (Some(text), Some(value)) = (&hostname, last(object, "$hostname"))
            && text.contains(['.', '_'])
        {
            let message = format!("`$hostname` is \"{text}\", with a dot or an underscore");
            reader.warning(
                value,
                message,
                "some clients take letters, digits and hyphens alone; it is handed out as it is",
            );
        }
        let channel = required(reader, object, member, "channel", "\"channel\": \"stable\"", channel);
        let template = self.template(reader, object, "template", "etcd2.yaml");
        let ignition = self.template(reader, object, "ignition", "worker.ign");
        let boot = own_boot::read(reader, object, &mut self.found.named.boot_files);
        let named = &mut self.found.named.profiles;
        let marks = if marked { marks::read(reader, object, named) } else { None };
        let uuid = marks.as_ref().and_then(|marks| marks.uuid);
        if let Some(uuid) = uuid
            && let Some(value) = last(object, "uuid")
        {
            self.uuids.take(reader, uuid, "`uuid`", value, addr);
        }
        if let (Some(addr), Some(mac), Some(hostname), Some(channel), Ok(template), Ok(ignition)) =
            (addr, mac, hostname, channel, template, ignition)
        {
            self.found.places.push(Range::new(member.name.start(), member.value.end()));
            let host = Host { mac, addr, hostname, channel, template, boot, variables, marks, ignition };
            self.found.hosts.push(Arc::new(host));
        }
    }

    fn addr(&mut self, reader: &mut Reader<'_>, member: &ObjectProp<'_>) -> Option<Ipv4Addr> {
        let key = member.name.as_str();
        let Ok(addr) = key.parse::<Ipv4Addr>() else {
            let message = format!("`{key}` is not an IPv4 address");
            reader.error(&member.name, message, "name the host by its address, as in \"192.168.90.11\"");
            return None;
        };
        let relayed = self.networks.relayed.iter().find(|subnet| subnet.contains(addr));
        if let Some(subnet) = relayed.copied().or(self.networks.own) {
            if !subnet.contains(addr) {
                let subnet = format!("{}/{}", subnet.network(), subnet.prefix());
                let (message, help) = if self.networks.relayed.is_empty() {
                    (
                        format!("{addr} is outside the subnet {subnet}"),
                        "give the host an address of the PXE interface's subnet",
                    )
                } else {
                    (
                        format!("{addr} is outside the subnet {subnet}, and outside those of `dhcp.subnets`"),
                        "give the host an address of one of them",
                    )
                };
                reader.error(&member.name, message, help);
            } else if subnet.prefix() < 31 && (addr == subnet.network() || addr == subnet.broadcast()) {
                let message = format!("{addr} is the network or broadcast address of its subnet");
                reader.error(&member.name, message, "give the host another address");
            } else if addr == subnet.ip() && addr != subnet.network() {
                let message = format!("{addr} is this server's own address, which it gives to nobody");
                reader.warning(
                    &member.name,
                    message,
                    "give the host another address, unless it is this machine",
                );
            }
        } else if addr.is_unspecified() || addr.is_broadcast() || addr.is_multicast() || addr.is_loopback() {
            reader.error(
                &member.name,
                format!("{addr} is not an address of a host"),
                "give the host another address",
            );
        }
        if let Some(pool) = self.networks.pool_of(addr) {
            let message =
                format!("{addr} is in the pool {pool}, which is for machines without a reservation");
            let help = format!(
                "give the host another address, or take this one out of the pool: \"exclude\": [\"{addr}\"] beside `pool` in netboot.json"
            );
            reader.error(&member.name, message, help);
        }
        Some(addr)
    }

    fn mac(
        &mut self,
        reader: &mut Reader<'_>,
        object: &Object<'_>,
        member: &ObjectProp<'_>,
        addr: Option<Ipv4Addr>,
    ) -> Option<Mac> {
        let example = "\"macaddr\": \"52:54:00:12:34:56\"";
        let (value, text) = string(reader, object, member, "macaddr", example)?;
        let Ok(mac) = text.parse::<Mac>() else {
            let message = format!("`{text}` is not a MAC address");
            reader.error(value, message, "write six hexadecimal pairs, as in 52:54:00:12:34:56");
            return None;
        };
        if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
            reader.error(
                value,
                format!("{mac} is not the address of one machine"),
                "write the MAC of its network card",
            );
        } else {
            self.macs.take(reader, mac, "MAC", value, addr);
        }
        Some(mac)
    }

    /// The host's own template of a kind; `Err` when it is named wrongly.
    fn template(
        &mut self,
        reader: &mut Reader<'_>,
        object: &Object<'_>,
        kind: &str,
        example: &str,
    ) -> Result<Option<String>, ()> {
        let Some(member) = object.get(kind) else { return Ok(None) };
        let help = format!("write the name of a file beside pxe_hosts.json, as in \"{example}\"");
        let Some(text) = reader.text(kind, &member.value, &help) else { return Err(()) };
        if !is_template(text) {
            reader.error(&member.value, format!("{kind} `{text}` is not a plain file name"), help);
            return Err(());
        }
        if let Value::StringLit(literal) = &member.value {
            self.found.named.templates.entry(text.to_owned()).or_insert(literal.range);
        }
        Ok(Some(text.to_owned()))
    }
}

/// A member that every host must have, as a string.
fn string<'v, 'a>(
    reader: &mut Reader<'_>,
    object: &'v Object<'a>,
    host: &ObjectProp<'_>,
    name: &str,
    example: &str,
) -> Option<(&'v Value<'a>, &'v str)> {
    let Some(value) = last(object, name) else {
        let message = format!("host `{}` has no `{name}`", host.name.as_str());
        reader.error(&host.name, message, format!("add {example}"));
        return None;
    };
    let text = reader.text(name, value, &format!("write {example}"))?;
    Some((value, text))
}

/// The value of a member; of two the last, as everywhere where JSON is read.
fn last<'v, 'a>(object: &'v Object<'a>, name: &str) -> Option<&'v Value<'a>> {
    object.properties.iter().rev().find(|member| member.name.as_str() == name).map(|member| &member.value)
}

/// A member that every host must have, by its rule.
fn required(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    host: &ObjectProp<'_>,
    name: &str,
    example: &str,
    rule: fn(&str) -> Result<(), &'static str>,
) -> Option<String> {
    let (value, text) = string(reader, object, host, name, example)?;
    match rule(text) {
        Ok(()) => Some(text.to_owned()),
        Err(help) => {
            reader.error(value, format!("`{name}` is \"{text}\""), help);
            None
        }
    }
}

/// What DHCP can hand out as the host's name: labels of RFC 1123 2.1, and the underscores and domains that operators'
/// files have besides, as dnsmasq took them.
pub(super) fn hostname(text: &str) -> Result<(), &'static str> {
    let label = |label: &str| {
        label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && (1..=63).contains(&label.len())
            && !label.starts_with(['-', '_'])
            && !label.ends_with('-')
    };
    if text.len() <= LONGEST_HOSTNAME && text.split('.').all(label) {
        Ok(())
    } else {
        Err("write 1 to 63 letters, digits and hyphens, no hyphen first or last")
    }
}

/// The rule for the name of a channel.
pub(crate) fn channel(text: &str) -> Result<(), &'static str> {
    if file_name(text, LONGEST_CHANNEL) {
        Ok(())
    } else {
        Err("write the name of a file in pxelinux.cfg/, at most 64 characters, as in \"stable\"")
    }
}

/// Whether a text can be the name of a profile, and of its file.
pub(super) fn is_profile(text: &str) -> bool {
    file_name(text, LONGEST_CHANNEL)
}

/// Whether a text can be the name of a template.
pub(super) fn is_template(text: &str) -> bool {
    file_name(text, LONGEST_TEMPLATE)
}

/// Whether a text names a file in a directory and nothing elsewhere.
fn file_name(text: &str, longest: usize) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@".contains(&byte);
    (1..=longest).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(legal)
}
