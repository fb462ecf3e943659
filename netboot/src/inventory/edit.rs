//! Adds machines to `pxe_hosts.json` and leaves every other byte of it as the operator wrote it: comments, order,
//! indentation, line ends.
//!
//! The new text is read like any other before it takes the old one's place, and takes it at once, by rename.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;

use super::load::{self, Loaded};
use super::{HOSTS_FILE, Networks, read};
use crate::config::json::Source;
use crate::config::problem::{Problem, Problems, Severity};
use crate::mac::Mac;

/// Indentation where the file shows none.
const STEP: &str = "  ";

/// A machine to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its address.
    pub addr: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// `$hostname`; see [`is_hostname`].
    pub hostname: String,
    /// `channel`; see [`is_channel`].
    pub channel: String,
}

/// Whether a text can be a machine's `$hostname`.
pub fn is_hostname(text: &str) -> bool {
    read::hostname(text).is_ok()
}

/// Whether a text can be a machine's `channel`.
pub fn is_channel(text: &str) -> bool {
    read::channel(text).is_ok()
}

/// An error of somebody who asks for what a machine of the hosts file has already: it points to that machine.
pub fn problem(data: &Path, addr: Ipv4Addr, message: String, help: &str) -> Problem {
    let path = data.join(HOSTS_FILE);
    let source = Source::read(&path).ok().flatten();
    let place = source.as_ref().and_then(|source| {
        let file = source.object().ok()?;
        let Value::Object(hosts) = &file.get("hosts")?.value else { return None };
        let name = &hosts.get(&addr.to_string())?.name;
        Some((source, name.start(), name.end()))
    });
    match place {
        Some((source, start, end)) => source.problem(Severity::Error, start, end, message, help),
        None => Problem::of_file(Severity::Error, &path, message, help),
    }
}

/// Why machines could not be added. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file has errors, or would have.
    #[error(transparent)]
    Wrong(#[from] Problems),
    /// Somebody saved the file meanwhile.
    #[error("{0} has just been changed by somebody else; try again")]
    Changed(PathBuf),
    /// It could not be read or written.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Adds machines to the hosts file of a data directory; makes it if there is none. Returns the problems that are new.
///
/// # Errors
/// When the file has errors before or after, when somebody else writes it, or the system refuses.
pub fn add(data: &Path, entries: &[Entry], networks: &Networks) -> Result<Vec<Problem>, Error> {
    let Loaded { snapshot, problems: before, missing } = load::load(data, networks);
    let Some(snapshot) = snapshot else { return Err(Problems(before).into()) };
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let path = data.join(HOSTS_FILE);
    // Where it is a link, the file that it leads to is the operator's.
    let file = if missing { path.clone() } else { fs::canonicalize(&path).map_err(failed("find", &path))? };
    let old = if missing { None } else { Some(fs::read_to_string(&file).map_err(failed("read", &file))?) };
    let new = match &old {
        Some(text) => insert(text, entries).ok_or_else(|| Error::Changed(file.clone()))?,
        None => fresh(entries),
    };
    let after = load::examine(data, &Source::new(&path, &new), networks, &mut None);
    let complete = snapshot.hosts().len() + entries.len();
    match after.snapshot {
        Some(snapshot) if snapshot.hosts().len() == complete => {}
        _ => return Err(Problems(after.problems).into()),
    }
    replace(&file, old.as_deref(), &new)?;
    let known = |problem: &Problem| before.iter().any(|old| old.message == problem.message);
    Ok(after.problems.into_iter().filter(|problem| !known(problem)).collect())
}

/// A whole hosts file with these machines.
pub fn fresh(entries: &[Entry]) -> String {
    insert("{\n  \"hosts\": {\n  }\n}\n", entries).unwrap_or_default()
}

/// The text of a hosts file with machines added at the end of `hosts`. `None` when it has no `hosts`.
fn insert(text: &str, entries: &[Entry]) -> Option<String> {
    // A byte order mark is not part of the JSON, but of the file.
    let (mark, text) = text.strip_prefix('\u{feff}').map_or(("", text), |rest| ("\u{feff}", rest));
    if entries.is_empty() {
        return Some(format!("{mark}{text}"));
    }
    let source = Source::new(Path::new(HOSTS_FILE), text);
    let file = source.object().ok()?;
    let Value::Object(hosts) = &file.get("hosts")?.value else { return None };
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let brace = hosts.range.end.checked_sub(1)?;
    let margin = margin_of(text, brace)?;
    let last = hosts.properties.last();
    let indent = last
        .and_then(|member| own_line(text, member.start()))
        .map_or_else(|| format!("{margin}{STEP}"), str::to_owned);
    let step = indent.strip_prefix(margin).filter(|step| !step.is_empty()).unwrap_or(STEP);
    let one_line = last.is_some_and(|member| {
        text.get(member.start()..member.end()).is_some_and(|text| !text.contains('\n'))
    });
    let comma = last.is_some_and(|member| comma_follows(text.get(member.end()..brace).unwrap_or_default()));

    let each = entries.iter().map(|entry| shown(entry, &indent, step, newline, one_line));
    let mut added = each.collect::<Vec<_>>().join(&format!(",{newline}"));
    if comma {
        added.push(',');
    }
    added.push_str(newline);

    let mut whole = String::with_capacity(mark.len() + text.len() + added.len() + 16);
    whole.push_str(mark);
    // Where the last one ends, and whether a comma has to follow it now.
    let end = last.map_or(hosts.range.start + 1, Ranged::end);
    whole.push_str(text.get(..end)?);
    if last.is_some() && !comma {
        whole.push(',');
    }
    let between = text.get(end..brace)?;
    if own_line(text, brace).is_some() {
        // The brace has a line of its own: the machines go before that line.
        whole.push_str(between.strip_suffix(margin).unwrap_or(between));
        whole.push_str(&added);
    } else {
        whole.push_str(between.trim_end());
        whole.push_str(newline);
        whole.push_str(&added);
    }
    whole.push_str(margin);
    whole.push_str(text.get(brace..)?);
    Some(whole)
}

/// The blanks at the beginning of the line in which a byte is.
fn margin_of(text: &str, at: usize) -> Option<&str> {
    let line = text.get(..at)?.rsplit('\n').next()?;
    let length = line.len() - line.trim_start_matches([' ', '\t']).len();
    line.get(..length)
}

/// The same, if the byte is the first in its line that is no blank.
fn own_line(text: &str, at: usize) -> Option<&str> {
    let line = text.get(..at)?.rsplit_once('\n')?.1;
    line.bytes().all(|byte| byte == b' ' || byte == b'\t').then_some(line)
}

/// Whether a comma follows, after blanks and comments.
fn comma_follows(text: &str) -> bool {
    let mut rest = text.trim_start();
    loop {
        rest = if let Some(comment) = rest.strip_prefix("//") {
            comment.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            return rest.starts_with(',');
        }
        .trim_start();
    }
}

fn shown(entry: &Entry, indent: &str, step: &str, newline: &str, one_line: bool) -> String {
    let Entry { addr, mac, hostname, channel } = entry;
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let members = [
        format!("\"macaddr\": \"{mac}\""),
        format!("\"$hostname\": {}", text(hostname)),
        format!("\"channel\": {}", text(channel)),
    ];
    if one_line {
        return format!("{indent}\"{addr}\": {{ {} }}", members.join(", "));
    }
    let members = members.join(&format!(",{newline}{indent}{step}"));
    format!("{indent}\"{addr}\": {{{newline}{indent}{step}{members}{newline}{indent}}}")
}

/// Puts the new text in the place of the file, with its mode and owner.
fn replace(file: &Path, old: Option<&str>, new: &str) -> Result<(), Error> {
    let directory = file.parent().unwrap_or(Path::new("."));
    let beside = directory.join(format!(".{HOSTS_FILE}.{}", std::process::id()));
    let written = write(&beside, file, old.is_some(), new).map_err(failed("write", &beside)).and_then(|()| {
        // An editor that saved in between must not lose its work.
        let now = fs::read_to_string(file);
        let same = match old {
            Some(old) => now.is_ok_and(|now| now == old),
            None => now.is_err_and(|error| error.kind() == io::ErrorKind::NotFound),
        };
        if !same {
            return Err(Error::Changed(file.to_owned()));
        }
        fs::rename(&beside, file).map_err(failed("replace", file))
    });
    if written.is_err() {
        // What remains of it is nobody's.
        let _ = fs::remove_file(&beside);
        return written;
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", directory))
}

fn write(beside: &Path, like: &Path, exists: bool, text: &str) -> io::Result<()> {
    let mut new = OpenOptions::new().write(true).create_new(true).open(beside)?;
    if exists {
        let old = fs::metadata(like)?;
        // Only root may give a file away; anybody else owns what he may edit, or his group does.
        let _ = fchown(&new, Some(old.uid()), Some(old.gid()));
        new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    }
    new.write_all(text.as_bytes())?;
    new.sync_all()
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { what, path, source }
}

#[cfg(test)]
mod tests;
