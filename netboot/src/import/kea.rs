//! Kea: the reservations of a `kea-dhcp4` configuration, global, of subnets and of subnets in shared networks ("Kea
//! Administrator Reference Manual", 8.3 and 8.6).
//!
//! Its JSON has `//`, `/* */` and `#` comments; `<?include …?>` is not followed, and says so.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged;

use super::{Found, Host, Leftovers};
use crate::config::json::{Source, kind};
use crate::config::problem::Severity;
use crate::mac::Mac;

/// What identifies a machine otherwise than by its Ethernet address.
const OTHER_IDENTIFIERS: [&str; 4] = ["duid", "client-id", "circuit-id", "flex-id"];

/// Reads a configuration.
pub fn hosts(path: &Path, text: &str) -> Found {
    let text = Source::new(path, text);
    let mut found = Found::default();
    let plain = match without_hashes(text.text()) {
        Ok(plain) => plain,
        Err(at) => {
            let help = "import a file that has the reservations in it";
            found.error(&text, &at, "`<?include` is not followed", help);
            return found;
        }
    };
    let source = Source::new(path, &plain);
    match source.object() {
        Ok(object) => {
            let mut reading = Reading { source: &source, found, leftovers: Leftovers::default() };
            reading.file(&object);
            found = reading.found;
            reading.leftovers.tell(&source, &mut found);
        }
        Err(problem) => found.problems.push(problem),
    }
    found
}

struct Reading<'s> {
    source: &'s Source,
    found: Found,
    leftovers: Leftovers,
}

impl Reading<'_> {
    fn file(&mut self, file: &Object<'_>) {
        let Some(member) = file.get("Dhcp4") else {
            let help = "give the configuration of kea-dhcp4, which has \"Dhcp4\": { }";
            self.error(&file.range, "`Dhcp4` is missing", help);
            return;
        };
        let Some(server) = self.object("Dhcp4", &member.value) else { return };
        for name in ["hosts-database", "hosts-databases"] {
            if let Some(member) = server.get(name) {
                let message = "reservations in a database are not read";
                let help = "write them into the file, or add them by hand";
                let (start, end) = (member.name.start(), member.name.end());
                let warning = self.source.problem(Severity::Warning, start, end, message, help);
                self.found.problems.push(warning);
            }
        }
        self.reservations(server);
        self.subnets(server);
        for network in self.list(server, "shared-networks") {
            self.subnets(network);
        }
    }

    fn subnets(&mut self, within: &Object<'_>) {
        for subnet in self.list(within, "subnet4") {
            self.reservations(subnet);
        }
    }

    fn reservations(&mut self, within: &Object<'_>) {
        for reservation in self.list(within, "reservations") {
            self.reservation(reservation);
        }
    }

    fn reservation(&mut self, object: &Object<'_>) {
        let at = span(object);
        let help = "add it by hand if it is to be reserved";
        for member in &object.properties {
            let name = member.name.as_str();
            let known = ["hw-address", "ip-address", "hostname", "user-context", "comment"];
            if !known.contains(&name) && !OTHER_IDENTIFIERS.contains(&name) && !is_empty(&member.value) {
                self.leftovers.note(name, &span(&member.name));
            }
        }
        let Some(member) = object.get("hw-address") else {
            return self.found.skip(self.source, &at, "it has no `hw-address`", help);
        };
        let Some(text) = self.text(member) else { return };
        let Some(mac) = ethernet(text) else {
            let message = format!("`{text}` is not a MAC address");
            return self.error(
                &member.value,
                message,
                "write six hexadecimal pairs, as in 52:54:00:12:34:56",
            );
        };
        let Some(member) = object.get("ip-address") else {
            return self.found.skip(self.source, &at, "it has no `ip-address`", help);
        };
        let Some(text) = self.text(member) else { return };
        let Ok(addr) = text.parse::<Ipv4Addr>() else {
            let message = format!("`{text}` is not an IPv4 address");
            return self.error(&member.value, message, "write one as in 192.168.90.11");
        };
        let hostname = match object.get("hostname") {
            Some(member) => match self.text(member) {
                Some(text) => Some(text).filter(|text| !text.is_empty()),
                None => return,
            },
            None => None,
        };
        self.found.hosts.push(Host { at, mac, addr, hostname: hostname.map(str::to_owned) });
    }

    fn error(&mut self, at: &impl Ranged, message: impl Into<String>, help: &str) {
        self.found.error(self.source, &span(at), message, help);
    }

    /// The objects of a list that may be there.
    fn list<'v, 'a>(&mut self, within: &'v Object<'a>, name: &str) -> Vec<&'v Object<'a>> {
        let Some(member) = within.get(name) else { return Vec::new() };
        let Value::Array(list) = &member.value else {
            let message = format!("`{name}` is {}, not a list", kind(&member.value));
            self.error(&member.value, message, "write a list, as in [ { } ]");
            return Vec::new();
        };
        list.elements.iter().filter_map(|value| self.object(name, value)).collect()
    }

    fn object<'v, 'a>(&mut self, name: &str, value: &'v Value<'a>) -> Option<&'v Object<'a>> {
        if let Value::Object(object) = value {
            return Some(object);
        }
        let message = format!("this in `{name}` is {}, not an object", kind(value));
        self.error(value, message, "write an object, as in { }");
        None
    }

    fn text<'v>(&mut self, member: &'v ObjectProp<'_>) -> Option<&'v str> {
        if let Value::StringLit(text) = &member.value {
            return Some(&text.value);
        }
        let message = format!("`{}` is {}, not a string", member.name.as_str(), kind(&member.value));
        self.error(&member.value, message, "write it in double quotes");
        None
    }
}

fn span(at: &impl Ranged) -> Range<usize> {
    at.start()..at.end()
}

/// Kea writes out what is not set: `""`, `[ ]`, `{ }` and the address 0.0.0.0.
fn is_empty(value: &Value<'_>) -> bool {
    match value {
        Value::StringLit(text) => text.value.is_empty() || text.value == "0.0.0.0",
        Value::Array(list) => list.elements.is_empty(),
        Value::Object(object) => object.properties.is_empty(),
        _ => false,
    }
}

/// An Ethernet address as Kea takes it: with `:` or `-`, or twelve digits without anything.
fn ethernet(text: &str) -> Option<Mac> {
    if let Ok(mac) = text.parse() {
        return Some(mac);
    }
    if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = u64::from_str_radix(text, 16).ok()?;
    let [_, _, mac @ ..] = number.to_be_bytes();
    Some(Mac(mac))
}

/// The same text with blanks in place of `#` comments, so that every other byte stays where it is.
///
/// # Errors
/// The place of an `<?include`.
fn without_hashes(text: &str) -> Result<String, Range<usize>> {
    let (mut plain, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let length = if rest.starts_with('"') {
            string(rest)
        } else if rest.starts_with("//") {
            line(rest)
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("<?") {
            return Err(at..at + line(rest));
        } else if rest.starts_with('#') {
            let length = line(rest);
            plain.extend(std::iter::repeat_n(' ', length));
            at += length;
            continue;
        } else {
            // Up to what may begin one of those.
            let first = rest.chars().next().map_or(1, char::len_utf8);
            let more = rest.get(first..).unwrap_or_default();
            first + more.find(['"', '/', '<', '#']).unwrap_or(more.len())
        };
        plain.push_str(rest.get(..length).unwrap_or_default());
        at += length;
    }
    Ok(plain)
}

/// Length of the line that begins the text, without its end.
fn line(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// Length of the string that begins the text.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests;
