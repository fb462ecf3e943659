//! Templates: reading them from the data directory and nowhere else, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    text(opened(data, name)?)
}

fn opened(data: &Path, name: &str) -> io::Result<Opened> {
    beneath::open(data, name).map_err(|refused| match refused {
        Refused::NotFound => io::ErrorKind::NotFound.into(),
        Refused::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidInput, other),
    })
}

fn text(opened: Opened) -> io::Result<String> {
    if opened.size > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "larger than 1 MiB"));
    }
    let mut text = String::new();
    let read = opened.file.take(LARGEST).read_to_string(&mut text);
    read.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    Ok(text)
}

/// A larger text is read each time, bytes.
const LARGEST_KEPT: usize = 64 << 10;
/// Texts that are kept.
const MOST_KEPT: usize = 256;
/// A file that was changed less long ago may be changed again within one step of the file system's clock, and look the same.
const SETTLED: Duration = Duration::from_secs(3);

/// Texts of templates. An edit counts at the next request: each asks whether the file is still the one that was read, which a
/// file of another number, size or time is not.
#[derive(Debug, Default)]
pub struct Templates(RwLock<HashMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    stamp: Stamp,
    text: Arc<str>,
}

/// What a file has that was not changed: device and inode, size, times of its content and of anything.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamp(facts: &Metadata) -> Stamp {
    let times = ((facts.mtime(), facts.mtime_nsec()), (facts.ctime(), facts.ctime_nsec()));
    (facts.dev(), facts.ino(), facts.size(), times.0, times.1)
}

impl Templates {
    /// Whether this template was read before: then the next reading will hardly wait for a disk.
    pub fn holds(&self, name: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// The text of a template, as [`open`] reads it.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(&self, data: &Path, name: &str) -> io::Result<Arc<str>> {
        // A link that leads out may lead to a file that was read through another name, and to no other: all others are opened.
        let now = std::fs::metadata(data.join(name)).map(|facts| stamp(&facts));
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let (Ok(now), Some(kept)) = (now, kept.get(name))
            && kept.stamp == now
        {
            return Ok(Arc::clone(&kept.text));
        }
        drop(kept);
        let read = read(data, name);
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        kept.remove(name);
        let (text, stamp) = read?;
        if let Some(stamp) = stamp
            && text.len() <= LARGEST_KEPT
            && kept.len() < MOST_KEPT
        {
            kept.insert(name.to_owned(), Kept { stamp, text: Arc::clone(&text) });
        }
        Ok(text)
    }
}

/// Reads a template, and what tells its file from others, if it has not just been changed.
fn read(data: &Path, name: &str) -> io::Result<(Arc<str>, Option<Stamp>)> {
    let opened = opened(data, name)?;
    let facts = opened.file.metadata()?;
    let changed = UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(facts.ctime()).unwrap_or(0)));
    let settled = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
    let stamp = settled.is_some_and(|since| since > SETTLED).then(|| stamp(&facts));
    Ok((text(opened)?.into(), stamp))
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

/// Checks the templates that the hosts of a snapshot use. `named` has the place that names each in the hosts file.
pub(super) fn check(
    data: &Path,
    snapshot: &Snapshot,
    named: &BTreeMap<String, jsonc_parser::common::Range>,
    reader: &mut Reader<'_>,
) {
    let mut users: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    for host in snapshot.hosts() {
        users.entry(host.template()).or_default().push(host);
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
                } else {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{Kept, Templates, stamp};

    /// Reads it, and has it kept as if it had been changed long ago.
    fn settle(templates: &Templates, data: &Path, name: &str) {
        let text = templates.open(data, name).unwrap();
        let stamp = stamp(&fs::metadata(data.join(name)).unwrap());
        templates.0.write().unwrap().insert(name.to_owned(), Kept { stamp, text });
    }

    #[test]
    fn an_edit_counts_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (data, file) = (dir.path(), dir.path().join("a.yaml"));
        let templates = Templates::default();
        let open = || templates.open(data, "a.yaml").map(|text| text.to_string());
        assert!(open().is_err());
        fs::write(&file, "one").unwrap();
        assert_eq!(open().unwrap(), "one");
        assert!(!templates.holds("a.yaml"), "it was changed a moment ago");
        settle(&templates, data, "a.yaml");
        assert_eq!(open().unwrap(), "one");
        assert!(templates.holds("a.yaml"));

        // As long, and with the time that it had.
        let time = SystemTime::now() - Duration::from_secs(100);
        let dated = |text: &str, file: &Path| {
            fs::write(file, text).unwrap();
            fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
        };
        dated("two", &file);
        assert_eq!(open().unwrap(), "two");
        settle(&templates, data, "a.yaml");
        let aside = data.join("aside");
        dated("six", &aside);
        fs::rename(&aside, &file).unwrap();
        assert_eq!(open().unwrap(), "six");
        settle(&templates, data, "a.yaml");
        fs::remove_file(&file).unwrap();
        assert_eq!(open().unwrap_err().kind(), std::io::ErrorKind::NotFound);
        assert!(!templates.holds("a.yaml"));
    }

    #[test]
    fn a_kept_text_is_the_one_that_is_given_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "text").unwrap();
        let templates = Templates::default();
        settle(&templates, dir.path(), "a.yaml");
        templates.0.write().unwrap().get_mut("a.yaml").unwrap().text = "kept".into();
        assert_eq!(&*templates.open(dir.path(), "a.yaml").unwrap(), "kept");
    }

    #[test]
    fn a_link_that_leads_out_is_no_way_round() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        fs::write(outside.path(), "secret").unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "text").unwrap();
        let templates = Templates::default();
        settle(&templates, dir.path(), "a.yaml");
        fs::remove_file(&file).unwrap();
        symlink(outside.path(), &file).unwrap();
        for _ in 0..2 {
            let refused = templates.open(dir.path(), "a.yaml").unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
        }
    }
}
