//! Templates: reading them from the data directory and nowhere else, and what is wrong with them.

use std::io::{self, Read};
use std::path::Path;

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
