//! The store in a file, `leases.redb` in the state directory.
//!
//! redb keeps a file whole through a crash. What it cannot read any more is put aside, never deleted: a blade that
//! cannot boot because of a torn file is worse than one that gets a new address. A second process is refused.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::{Change, Error, Store};

const TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("netboot");

/// The name of the file.
const FILE: &str = "leases.redb";

/// Memory for pages of the file; it is read once and is small.
const CACHE: usize = 4 << 20;

/// `None` after a failed commit: redb wants the file closed and opened again. And when the store is closed.
type Shared = Arc<RwLock<Option<Database>>>;

/// Tells the file in this directory from every other one of this machine; `None` when there is none.
pub fn identity(state: &Path) -> Option<String> {
    let found = fs::metadata(state.join(FILE)).ok()?;
    Some(format!("{:x}-{:x}", found.dev(), found.ino()))
}

/// The file in this directory.
pub fn path_in(state: &Path) -> PathBuf {
    state.join(FILE)
}

/// What is wrong with the file of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is there and cannot be read; why.
    Unreadable(String),
    /// It is something else than a store, or its beginning is gone.
    Damaged,
}

/// What is wrong with the file in this directory, as far as that can be seen while another process has it, and its path.
pub fn fault(state: &Path) -> Option<(PathBuf, Fault)> {
    // The beginning of every file of redb.
    const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
    let path = state.join(FILE);
    let beginning = || -> io::Result<Vec<u8>> {
        // A FIFO of that name would block the open for ever.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(&path)?.take(MAGIC.len() as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let fault = match beginning() {
        // A file without a byte is a new one.
        Ok(bytes) if bytes.is_empty() || bytes == MAGIC => return None,
        Ok(_) => Fault::Damaged,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => Fault::Unreadable(error.to_string()),
    };
    Some((path, fault))
}

/// Keys and values in a file. Dropped, it closes the file, whoever has a [`Reader`] of it.
#[derive(Debug)]
pub struct Redb {
    path: PathBuf,
    database: Shared,
}

/// Sees what the store has on disk, from any thread, while somebody else writes it.
#[derive(Clone, Debug)]
pub struct Reader {
    path: PathBuf,
    database: Shared,
}

impl Reader {
    /// Tells this store's file from every other, as [`identity`] does from outside; empty when the file is gone.
    pub fn identity(&self) -> String {
        self.path.parent().and_then(identity).unwrap_or_default()
    }

    /// Everything that is there, in the order of the keys.
    ///
    /// # Errors
    /// When it cannot be read, or the store is closed.
    pub fn list(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.with(read)
    }

    /// The value of one key, if it is there.
    ///
    /// # Errors
    /// When it cannot be read, or the store is closed.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.with(|database| value(database, key))
    }

    fn with<T>(&self, read: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Error> {
        let error = |why: &dyn std::fmt::Display| Error::Database {
            what: "read",
            path: self.path.clone(),
            why: why.to_string(),
        };
        // Held while reading, so that a store that closes is closed when its drop returns.
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        read(database.as_ref().ok_or_else(|| error(&"it is closed"))?).map_err(|why| error(&why))
    }
}

/// Writes to the store now and then, as long as its owner has it open.
#[derive(Clone, Debug)]
pub struct Beside(Reader);

impl Beside {
    /// Makes all the changes, or none; they are on stable storage when this returns.
    ///
    /// # Errors
    /// When they could not be written, or the store is closed.
    pub fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        let error = |why: &dyn std::fmt::Display| Error::Database {
            what: "write to",
            path: self.0.path.clone(),
            why: why.to_string(),
        };
        let database = self.0.database.read().unwrap_or_else(PoisonError::into_inner);
        write(database.as_ref().ok_or_else(|| error(&"it is closed"))?, changes).map_err(|why| error(&why))
    }
}

impl Redb {
    /// Opens the file in this directory; both are made if they are not there. A damaged file is renamed to
    /// `leases.redb.damaged-<n>`, with an error in the log, and a new one begun.
    ///
    /// # Errors
    /// When another process has the file, or the directory cannot be used.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let path = state.join(FILE);
        fs::create_dir_all(state).map_err(file("create", state))?;
        let database = match checked(&path, true) {
            Ok(database) => database,
            Err(Trouble::Other(error)) => return Err(error),
            Err(Trouble::Damaged(why)) => {
                let aside = put_aside(&path)?;
                tracing::error!(
                    "{} is damaged ({why}); it is kept as {} and a new one begun: the addresses leased so far are forgotten",
                    path.display(),
                    aside.display(),
                );
                checked(&path, true).map_err(|trouble| trouble.error("create", &path))?
            }
        };
        // The name of a new file is as durable as its content.
        File::open(state).and_then(|directory| directory.sync_all()).map_err(file("sync", state))?;
        Ok(Self { path, database: Arc::new(RwLock::new(Some(database))) })
    }

    /// Opens the file in this directory if it is there. Nothing is made, and a damaged file is left as it is.
    ///
    /// # Errors
    /// When another process has the file, or it cannot be read.
    pub fn existing(state: &Path) -> Result<Option<Self>, Error> {
        let path = state.join(FILE);
        if !path.try_exists().map_err(file("look for", &path))? {
            return Ok(None);
        }
        let database = checked(&path, false).map_err(|trouble| trouble.error("read", &path))?;
        Ok(Some(Self { path, database: Arc::new(RwLock::new(Some(database))) }))
    }

    /// Reads the same file.
    pub fn reader(&self) -> Reader {
        Reader { path: self.path.clone(), database: Arc::clone(&self.database) }
    }

    /// Writes the same file, beside this one's owner; the file takes one of them after the other.
    pub fn beside(&self) -> Beside {
        Beside(self.reader())
    }

    /// Takes the database out, or puts one in; waits for readers.
    fn replace(&self, database: Option<Database>) -> Option<Database> {
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, database)
    }

    fn error(&self, what: &'static str, why: &impl ToString) -> Error {
        Error::Database { what, path: self.path.clone(), why: why.to_string() }
    }
}

impl Store for Redb {
    fn list(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.reader().list()
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.replace(Some(plain(&self.path).map_err(|error| self.error("open again", &error))?));
        }
        let place = self.database.read().unwrap_or_else(PoisonError::into_inner);
        // Readers go on reading meanwhile.
        let written = place.as_ref().map(|database| write(database, changes));
        drop(place);
        match written {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                self.replace(None);
                Err(self.error("write", &error))
            }
            None => Err(self.error("write", &"it is closed")),
        }
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        self.replace(None);
    }
}

/// Why a file could not be opened.
enum Trouble {
    /// What is in it cannot be read.
    Damaged(String),
    /// Anything else; the file is not to blame.
    Other(Error),
}

impl Trouble {
    /// The same as an error, where nothing is done about damage.
    fn error(self, what: &'static str, path: &Path) -> Error {
        match self {
            Self::Other(error) => error,
            Self::Damaged(why) => Error::Database { what, path: path.to_owned(), why },
        }
    }
}

/// Opens the file and reads all of it once. If it is not there, makes it where that is wanted.
fn checked(path: &Path, make: bool) -> Result<Database, Trouble> {
    // redb may panic over bytes that it did not write.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let database = if make { builder.create(path)? } else { builder.open(path)? };
        write(&database, &[])?;
        read(&database)?;
        Ok::<_, redb::Error>(database)
    }));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch)) => {
            Err(Trouble::Other(Error::InUse { path: path.to_owned() }))
        }
        Ok(Err(redb::Error::Io(source))) if !is_damage(source.kind()) => {
            Err(Trouble::Other(Error::File { what: "open", path: path.to_owned(), source }))
        }
        Ok(Err(error)) => Err(Trouble::Damaged(error.to_string())),
        Err(_) => Err(Trouble::Damaged("it makes no sense".into())),
    }
}

fn is_damage(kind: std::io::ErrorKind) -> bool {
    matches!(kind, std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

/// Opens the file again after a failed commit; nothing is put aside while the server runs.
fn plain(path: &Path) -> Result<Database, DatabaseError> {
    catch_unwind(|| Database::builder().set_cache_size(CACHE).open(path))
        .unwrap_or_else(|_| Err(DatabaseError::Storage(StorageError::Corrupted("it makes no sense".into()))))
}

fn read(database: &Database) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let table = database.begin_read()?.open_table(TABLE)?;
    let mut content = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        content.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(content)
}

fn value(database: &Database, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let found = database.begin_read()?.open_table(TABLE)?.get(key)?;
    Ok(found.map(|value| value.value().to_vec()))
}

/// One durable commit (redb's default durability: flushed to the disk when it returns).
fn write(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for change in changes {
            match change {
                Change::Put { key, value } => table.insert(key.as_str(), value.as_slice())?,
                Change::Delete { key } => table.remove(key.as_str())?,
            };
        }
    }
    Ok(transaction.commit()?)
}

/// Renames the file to the first `….damaged-<n>` that is not taken.
fn put_aside(path: &Path) -> Result<PathBuf, Error> {
    let mut number = 1_u32;
    loop {
        let aside = path.with_extension(format!("redb.damaged-{number}"));
        if aside.exists() {
            number += 1;
            continue;
        }
        fs::rename(path, &aside).map_err(file("rename", path))?;
        return Ok(aside);
    }
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { what, path, source }
}

#[cfg(test)]
mod tests;
