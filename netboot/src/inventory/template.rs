//! Templates: reading them from the data directory and nowhere else, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

use super::{DEFAULT_TEMPLATE, HOSTS_FILE, Host, Snapshot};
use crate::beneath::{self, Opened, Refused};
use crate::config::json::{Reader, Source};
use crate::config::problem::{Problem, Severity};

/// Largest template, bytes.
const LARGEST: u64 = 1 << 20;

/// Reads a template. Symbolic links may lead elsewhere in the data directory, never out of it.
///
/// # Errors
/// As the file system says; `InvalidInput` when the name is not that of a regular file with UTF-8 text of at most 1 MiB.
pub fn open(data: &Path, name: &str) -> io::Result<String> {
    let Opened { file, size, .. } = beneath::open(data, name).map_err(|refused| match refused {
        Refused::NotFound => io::ErrorKind::NotFound.into(),
        Refused::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidInput, other),
    })?;
    if size > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "larger than 1 MiB"));
    }
    let mut text = String::new();
    file.take(LARGEST)
        .read_to_string(&mut text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    Ok(text)
}

/// Names in a template: each `$` with the letters, digits and underscores after it.
fn names(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('$').filter_map(|(at, _)| {
        let rest = text.get(at..)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = rest.char_indices().skip(1).find(|(_, c)| !legal(*c)).map_or(rest.len(), |(end, _)| end);
        let name = rest.get(..length)?;
        // `$1` and `$$` are a shell's own.
        name.as_bytes().get(1).is_some_and(|first| !first.is_ascii_digit()).then_some((at, name))
    })
}

/// Checks the templates that the hosts of a snapshot use. `named` has the place that names each in the hosts file;
/// `told`: that it is missing is said elsewhere.
pub(super) fn check(
    data: &Path,
    snapshot: &Snapshot,
    named: &BTreeMap<String, jsonc_parser::common::Range>,
    told: impl Fn(&str) -> bool,
    reader: &mut Reader<'_>,
) {
    let mut users: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    for host in snapshot.hosts() {
        users.entry(snapshot.template(host)).or_default().push(host);
    }
    for (name, hosts) in users {
        let path = data.join(name);
        let whole = |message: String, help: String| Problem::of_file(Severity::Error, &path, message, help);
        match open(data, name) {
            Ok(text) => undefined(&Source::new(&path, &text), snapshot, &hosts, &mut reader.problems),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let help = format!("make it a text file in the directory of {HOSTS_FILE}");
                reader.problems.push(whole(format!("cannot be read: {error}"), help));
            }
            Err(_) => {
                if let Some(place) = named.get(name) {
                    let help =
                        format!("write {}, or remove `template` to use {DEFAULT_TEMPLATE}", path.display());
                    reader.error(place, format!("the template `{name}` does not exist"), help);
                } else if !told(name) {
                    let help = "write a cloud-config there, or give each host its own `template`".to_owned();
                    reader.problems.push(whole(format!("is missing, used by {}", count(&hosts)), help));
                }
            }
        }
    }
}

/// Warns of each name that some host of the template does not define. Units in a cloud-config may hold shell
/// variables, so that is no error.
fn undefined(template: &Source, snapshot: &Snapshot, hosts: &[&Host], problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    let mut found: Vec<(usize, &str, Vec<&Host>, Option<String>)> = names(template.text())
        .filter(|(_, name)| seen.insert(*name))
        .map(|(at, name)| (at, name, Vec::new(), None))
        .collect();
    // Most hosts define the same names as the one before, and fare as it does.
    let mut before: Option<&Host> = None;
    for host in hosts {
        let alike = before.filter(|before| before.variables.keys().eq(host.variables.keys()));
        let defined = if alike.is_some() { BTreeMap::new() } else { snapshot.variables(host) };
        for (at, name, missing, shorter) in &mut found {
            let lacks = if let Some(alike) = alike {
                missing.last().is_some_and(|last| std::ptr::eq(*last, alike))
            } else {
                let rest = template.text().get(*at..).unwrap_or_default();
                let best =
                    defined.keys().filter(|known| rest.starts_with(**known)).max_by_key(|known| known.len());
                let lacks = best.is_none_or(|known| known.len() < name.len());
                if lacks {
                    *shorter = best.map(|known| (*known).to_owned());
                }
                lacks
            };
            if lacks {
                missing.push(host);
            }
        }
        before = Some(host);
    }
    for (at, name, missing, shorter) in found.into_iter().filter(|(_, _, missing, _)| !missing.is_empty()) {
        let left = match shorter {
            Some(known) => format!("only its beginning `{known}` is replaced"),
            None => "it stays in the text as it is".to_owned(),
        };
        let message = format!("`{name}` is not defined for {}: {left}", count(&missing));
        let help = format!(
            "define it in `common` or in the host; a shell's own variable may be written `${{{}}}`",
            &name[1..]
        );
        problems.push(template.problem(Severity::Warning, at, at + name.len(), message, help));
    }
}

/// How many hosts, and the first of them.
fn count(hosts: &[&Host]) -> String {
    match hosts {
        [] => "no host".to_owned(),
        [one] => format!("host {}", one.addr),
        [one, ..] => format!("{} hosts ({}, …)", hosts.len(), one.addr),
    }
}
