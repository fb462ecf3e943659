//! Options, profiles and machines as they are written in `netboot.json`.

use std::collections::BTreeMap;

use jsonc_parser::ast::{Object, Value as Json};

use super::codes::{Place, kind, refused};
use super::value::{Kind, NAMES, shown};
use super::{HostKey, Options, Profiles, Value};
use crate::config::boot;
use crate::config::json::{Reader, kind as json_kind};
use crate::config::written::section;
use crate::inventory;

/// The longest value: one option's (RFC 2132 2); a reply has hardly more room for it.
const LONGEST: usize = 255;
const WRITTEN: &str = "write { \"type\": …, \"value\": … } with one of these types";

/// Reads options by number: `{ "42": ["192.168.90.1"], "199": { "type": "text", "value": "x", "on_request": true } }`.
pub fn read(reader: &mut Reader<'_>, name: &str, value: &Json<'_>, place: Place) -> Options {
    let mut options = Options::default();
    let Some(object) = object(reader, name, value) else { return options };
    for member in &object.properties {
        let key = member.name.as_str();
        let full = format!("{name}.{key}");
        let Some(code) = key.parse::<u8>().ok().filter(|code| code.to_string() == key) else {
            let message = format!("`{full}` is no option");
            reader.error(&member.name, message, "write the number of a DHCP option, as in \"42\"");
            continue;
        };
        if let Some(help) = refused(code, place) {
            reader.error(&member.name, format!("`{full}` cannot be set here"), help);
            continue;
        }
        if let Ok(value) = option(reader, &full, code, &member.value) {
            options.0.insert(code, value);
        }
    }
    options
}

/// The value, or none where what a wider place says does not count. `Err`: it is wrong, and said so.
fn option(reader: &mut Reader<'_>, name: &str, code: u8, value: &Json<'_>) -> Result<Option<Value>, ()> {
    let (mut kind, mut on_request, mut inner) = (kind(code), false, Some(value));
    if let Json::Object(object) = value {
        let before = reader.problems.len();
        reader.unique(object);
        inner = None;
        for member in &object.properties {
            let key = member.name.as_str();
            let full = format!("{name}.{key}");
            match key {
                "type" => {
                    let help = format!("write one of: {NAMES}");
                    let Some(text) = reader.text(&full, &member.value, &help) else { continue };
                    kind = Kind::from_name(text).map(|kind| (kind, kind.repeats()));
                    if kind.is_none() {
                        reader.error(&member.value, format!("`{full}` is \"{text}\""), help);
                    }
                }
                "value" => inner = Some(&member.value),
                "on_request" => match &member.value {
                    Json::BooleanLit(literal) => on_request = literal.value,
                    other => {
                        let message = format!("`{full}` is {}", json_kind(other));
                        reader.error(other, message, "write true or false, without quotes");
                    }
                },
                _ => {
                    let message = format!("`{full}` is not a setting");
                    reader.error(&member.name, message, "use one of: type, value, on_request");
                }
            }
        }
        if reader.problems.len() > before {
            return Err(());
        }
    }
    let Some(inner) = inner else {
        reader.error(value, format!("`{name}` has no value"), "write \"value\": …, or null for none");
        return Err(());
    };
    let values = match inner {
        Json::NullKeyword(_) => return Ok(None),
        Json::StringLit(text) if text.value.is_empty() => return Ok(None),
        Json::Array(array) if array.elements.is_empty() => return Ok(None),
        Json::Array(array) => array.elements.as_slice(),
        single => std::slice::from_ref(single),
    };
    let Some((kind, many)) = kind else {
        reader.error(
            inner,
            format!("the type of option {code} is not built in"),
            format!("{WRITTEN}: {NAMES}"),
        );
        return Err(());
    };
    if values.len() > 1 && !many {
        reader.error(inner, format!("`{name}` has {} values", values.len()), "write one");
        return Err(());
    }
    let before = reader.problems.len();
    let mut bytes = Vec::new();
    for value in values {
        if kind.encode(value, &mut bytes).is_none() {
            reader.error(value, format!("`{name}` has {}", what(value)), kind.help());
        }
    }
    if bytes.len() > LONGEST {
        let message = format!("`{name}` has {} bytes", bytes.len());
        reader.error(inner, message, format!("write at most {LONGEST}: an option has room for no more"));
    }
    let shown = values.iter().map(shown).collect();
    if reader.problems.len() > before {
        return Err(());
    }
    Ok(Some(Value { kind, shown, bytes, on_request }))
}

fn what(value: &Json<'_>) -> String {
    match value {
        Json::StringLit(text) => format!("\"{}\"", text.value),
        Json::NumberLit(number) => number.value.to_owned(),
        other => json_kind(other).to_owned(),
    }
}

/// Reads `dhcp.profiles`: options and boot files by channel.
pub(in crate::config) fn profiles(reader: &mut Reader<'_>, name: &str, value: &Json<'_>) -> Profiles {
    let mut profiles = Profiles::new();
    let Some(all) = object(reader, name, value) else { return profiles };
    for member in &all.properties {
        let channel = member.name.as_str();
        let full = format!("{name}.{channel}");
        if let Err(help) = inventory::channel_rule(channel) {
            reader.error(&member.name, format!("`{full}` names no channel"), help);
        }
        let profile = profiles.entry(channel.to_owned()).or_default();
        section(reader, &full, &member.value, |reader, name, key, value| {
            match key {
                "options" => profile.options = read(reader, name, value, Place::Narrower),
                "boot" => section(reader, name, value, |reader, name, key, value| {
                    boot::read(reader, name, key, value, &mut profile.boot)
                }),
                _ => return Err("options, boot"),
            }
            Ok(())
        });
    }
    profiles
}

/// Reads `dhcp.hosts`: options of machines by MAC or address.
pub(in crate::config) fn hosts(
    reader: &mut Reader<'_>,
    name: &str,
    value: &Json<'_>,
) -> BTreeMap<HostKey, Options> {
    let mut hosts = BTreeMap::new();
    let Some(all) = object(reader, name, value) else { return hosts };
    for member in &all.properties {
        let text = member.name.as_str();
        let full = format!("{name}.{text}");
        let key = text.parse().map(HostKey::Addr).or_else(|_| text.parse().map(HostKey::Mac));
        let Ok(key) = key else {
            let help = "write the MAC or the address of a machine, as in \"52:54:00:12:34:56\"";
            reader.error(&member.name, format!("`{full}` names no machine"), help);
            continue;
        };
        let mut options = Options::default();
        section(reader, &full, &member.value, |reader, name, key, value| {
            if key != "options" {
                return Err("options");
            }
            options = read(reader, name, value, Place::Narrower);
            Ok(())
        });
        // One MAC can be written in several ways.
        if hosts.insert(key, options).is_some() {
            reader.error(&member.name, format!("`{name}` has {key} a second time"), "keep one of the two");
        }
    }
    hosts
}

fn object<'v, 'a>(reader: &mut Reader<'_>, name: &str, value: &'v Json<'a>) -> Option<&'v Object<'a>> {
    let Json::Object(object) = value else {
        let message = format!("`{name}` is {}, not an object", json_kind(value));
        reader.error(value, message, format!("write \"{name}\": {{ … }}"));
        return None;
    };
    reader.unique(object);
    Some(object)
}
