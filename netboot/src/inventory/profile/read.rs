//! `profiles/<name>.json` → a profile by itself, and the places of what it names elsewhere.

use std::collections::BTreeMap;

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::{Range, Ranged};

use super::{Kind, Menu, Profile, Script};
use crate::config::json::{Reader, kind};
use crate::config::{boot, options};
use crate::inventory::{marks, own_boot, read};

/// Every member, for a message.
const MEMBERS: &str =
    "parent, kind, kernel, initrd, cmdline, script, url, boot, options, template, menu, match";
/// Longest command line: twice what a kernel takes, as its variables may be shorter than their names.
const LONGEST_CMDLINE: usize = 4096;
/// Longest path or URL.
const LONGEST_PATH: usize = 1024;
/// Longest script of text lines, and most initrds and entries.
const LONGEST_SCRIPT: usize = 64 << 10;
const MOST: usize = 64;
/// When a menu that says nothing of it takes its first entry.
const TIMEOUT_SECS: u16 = 10;

/// Where a file names something that is elsewhere.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) parent: Option<Range>,
    pub(super) labels: Option<Range>,
    pub(super) template: Option<Range>,
    /// Other profiles in its menu.
    pub(super) entries: Vec<(String, Range)>,
    /// Files below `tftp/`, with the member that names each.
    pub(super) files: Vec<(&'static str, String, Range)>,
}

/// Reads the whole file; what is wrong is left in `reader`.
pub(super) fn profile(reader: &mut Reader<'_>, file: &Object<'_>) -> (Profile, Places) {
    let (mut profile, mut places) = (Profile::default(), Places::default());
    reader.unique(file);
    for member in &file.properties {
        let (name, value) = (member.name.as_str(), &member.value);
        match name {
            "parent" => {
                profile.parent = self::name(reader, name, value);
                places.parent = Some(value.range());
            }
            "kind" => profile.kind = self::kind_of(reader, value),
            "kernel" => profile.kernel = path(reader, "kernel", value, &mut places),
            "initrd" => {
                profile.initrd =
                    list(reader, name, value, |reader, value| path(reader, "initrd", value, &mut places));
            }
            "cmdline" => profile.cmdline = cmdline(reader, value),
            "script" => profile.script = script(reader, value, &mut places),
            "url" => profile.url = path(reader, "url", value, &mut places),
            "boot" => {
                let mut named = BTreeMap::new();
                profile.dhcp.boot = own_boot::read(reader, file, &mut named);
                places.files.extend(named.into_iter().map(|(file, place)| ("boot", file, place)));
            }
            "options" => {
                profile.dhcp.options = options::read(reader, name, value, options::Place::Narrower);
            }
            "template" => profile.template = template(reader, value, &mut places),
            "menu" => profile.menu = menu(reader, value, &mut places),
            "match" => {
                profile.labels = marks::labels(reader, name, value);
                places.labels = Some(value.range());
            }
            _ => {
                let message = format!("`{name}` is not known here and is ignored");
                reader.warning(&member.name, message, format!("use one of: {MEMBERS}"));
            }
        }
    }
    (profile, places)
}

/// The name of another profile.
fn name(reader: &mut Reader<'_>, member: &str, value: &Value<'_>) -> Option<String> {
    let help = "write the name of a profile, at most 64 characters, as in \"debian\"";
    let text = reader.text(member, value, help)?;
    if !read::is_profile(text) {
        reader.error(value, format!("`{member}` is \"{text}\""), help);
        return None;
    }
    Some(text.to_owned())
}

fn kind_of(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Kind> {
    let help = "write one of: linux, ipxe, chain, local-disk";
    let text = reader.text("kind", value, help)?;
    let kind = match text {
        "linux" => Kind::Linux,
        "ipxe" => Kind::Ipxe,
        "chain" => Kind::Chain,
        "local-disk" => Kind::LocalDisk,
        _ => {
            reader.error(value, format!("`kind` is \"{text}\""), help);
            return None;
        }
    };
    Some(kind)
}

/// Whether a boot loader can be told to load it: a path below `tftp/` or a URL.
pub(crate) fn is_path(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"'`\\;|<>".contains(&byte);
    let path = || !text.contains(['&', ',']) && !text.split('/').any(|part| part == "..");
    (1..=LONGEST_PATH).contains(&text.len()) && text.bytes().all(legal) && (boot::is_url(text) || path())
}

fn path(
    reader: &mut Reader<'_>,
    name: &'static str,
    value: &Value<'_>,
    places: &mut Places,
) -> Option<String> {
    let help = "write a path below tftp/ or a URL, without spaces and quotes, as in \"debian/linux\"";
    let text = reader.text(name, value, help)?;
    if !is_path(text) {
        reader.error(value, format!("`{name}` is \"{text}\""), help);
        return None;
    }
    if !boot::is_url(text) && !text.contains('$') {
        places.files.push((name, text.to_owned(), value.range()));
    }
    Some(text.to_owned())
}

/// One string, or a list of them; an empty list is none, whatever a parent says.
fn list<T>(
    reader: &mut Reader<'_>,
    name: &str,
    value: &Value<'_>,
    mut each: impl FnMut(&mut Reader<'_>, &Value<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    match value {
        Value::Array(array) if array.elements.len() <= MOST => {
            Some(array.elements.iter().filter_map(|element| each(reader, element)).collect())
        }
        Value::Array(array) => {
            let message = format!("`{name}` has {} values", array.elements.len());
            reader.error(value, message, format!("write at most {MOST}"));
            None
        }
        one => Some(each(reader, one).into_iter().collect()),
    }
}

fn cmdline(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<String> {
    let help = "write it in one line of at most 4096 characters";
    let text = reader.text("cmdline", value, help)?;
    if text.len() > LONGEST_CMDLINE || text.chars().any(char::is_control) {
        reader.error(value, "`cmdline` is no command line", help);
        return None;
    }
    Some(text.to_owned())
}

/// A file below `tftp/`, or lines: a list, or one string with line breaks.
fn script(reader: &mut Reader<'_>, value: &Value<'_>, places: &mut Places) -> Option<Script> {
    let help = "write a path below tftp/, or the lines of the script: [\"#!ipxe\", …]";
    let lines: Vec<String> = match value {
        Value::StringLit(text) if !text.value.contains('\n') => {
            return path(reader, "script", value, places).map(Script::File);
        }
        Value::StringLit(text) => text.value.lines().map(str::to_owned).collect(),
        Value::Array(array) => {
            let lines = array.elements.iter();
            lines.filter_map(|line| reader.text("script", line, help)).map(str::to_owned).collect()
        }
        other => {
            reader.error(other, format!("`script` is {}", kind(other)), help);
            return None;
        }
    };
    let control = |line: &String| line.chars().any(|c| c.is_control() && c != '\t');
    if lines.iter().map(String::len).sum::<usize>() > LONGEST_SCRIPT || lines.iter().any(control) {
        let help = "write each line by itself, at most 64 KiB in all, or put it into a file";
        reader.error(value, "`script` is no script", help);
        return None;
    }
    Some(Script::Lines(lines))
}

fn template(reader: &mut Reader<'_>, value: &Value<'_>, places: &mut Places) -> Option<String> {
    let help = "write the name of a file beside pxe_hosts.json, as in \"etcd2.yaml\"";
    let text = reader.text("template", value, help)?;
    if !read::is_template(text) {
        reader.error(value, format!("template `{text}` is not a plain file name"), help);
        return None;
    }
    places.template = Some(value.range());
    Some(text.to_owned())
}

fn menu(reader: &mut Reader<'_>, value: &Value<'_>, places: &mut Places) -> Option<Menu> {
    let Value::Object(object) = value else {
        let message = format!("`menu` is {}, not an object", kind(value));
        reader.error(value, message, "write \"menu\": { \"entries\": [\"debian\"] }");
        return None;
    };
    reader.unique(object);
    let mut menu = Menu { timeout_secs: TIMEOUT_SECS, ..Menu::default() };
    for member in &object.properties {
        let (key, value) = (member.name.as_str(), &member.value);
        let full = format!("menu.{key}");
        match key {
            "title" => {
                let help = "write a line of at most 64 characters";
                menu.title = reader.text(&full, value, help).map(str::to_owned);
                if menu
                    .title
                    .as_ref()
                    .is_some_and(|title| title.len() > 64 || title.chars().any(char::is_control))
                {
                    reader.error(value, format!("`{full}` is no title"), help);
                }
            }
            "timeout_secs" => match value {
                Value::NumberLit(number) if number.value.parse::<u16>().is_ok_and(|secs| secs <= 3600) => {
                    menu.timeout_secs = number.value.parse().unwrap_or(TIMEOUT_SECS);
                }
                _ => reader.error(
                    value,
                    format!("`{full}` is no time"),
                    "write seconds, 0 to 3600; 0: wait for ever",
                ),
            },
            "entries" => {
                let entries = list(reader, &full, value, |reader, value| {
                    let entry = name(reader, &full, value)?;
                    places.entries.push((entry.clone(), value.range()));
                    Some(entry)
                });
                menu.entries = entries.unwrap_or_default();
            }
            _ => {
                let message = format!("`{full}` is not known here and is ignored");
                reader.warning(&member.name, message, "use one of: title, timeout_secs, entries");
            }
        }
    }
    Some(menu)
}
