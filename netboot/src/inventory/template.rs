//! Templates: reading them from the data directory and nowhere else, and what is wrong with them.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{jinja, secrets};
use crate::beneath::{self, Opened, Refused};

mod check;
mod trace;

pub use check::DIRECTORY;
pub(super) use check::check;

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

/// Reads a template, or where it is not there the one in Jinja: `<name>.j2`. `open` has the text of a name. Returns the name
/// that it has.
///
/// # Errors
/// As `open`.
pub fn find<T>(name: &str, open: impl Fn(&str) -> io::Result<T>) -> io::Result<(String, T)> {
    match open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !name.ends_with(jinja::SUFFIX) => {
            let jinja = format!("{name}{}", jinja::SUFFIX);
            open(&jinja).map(|text| (jinja, text))
        }
        found => found.map(|text| (name.to_owned(), text)),
    }
}

/// Whether a name is that of a template below the data directory, and of nothing that is not for machines.
pub fn is_legal(name: &str) -> bool {
    let part = |part: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@".contains(&byte);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(legal)
    };
    let first = name.split('/').next().unwrap_or_default();
    name.len() <= 255 && name.split('/').all(part) && ![secrets::DIRECTORY, "state"].contains(&first)
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
