//! The store in a file, `leases.redb` in the state directory.
//!
//! redb keeps a file whole through a crash. What it cannot read any more is put aside, never deleted: a blade that
//! cannot boot because of a torn file is worse than one that gets a new address. A second process is refused.

use std::fs::{self, File};
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
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::{Change, FILE, Redb, Store};
    use crate::store::Error;

    fn put(key: &str, value: &str) -> Change {
        Change::Put { key: key.into(), value: value.into() }
    }

    fn content(store: &Redb) -> Vec<(String, String)> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        store.list().unwrap().into_iter().map(|(key, value)| (key, text(value))).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn what_was_committed_is_there_after_a_crash() {
        let state = tempfile::tempdir().unwrap();
        let deep = state.path().join("a/b");
        let mut store = Redb::open(&deep).unwrap();
        store.commit(&[put("one", "1"), put("two", "2")]).unwrap();
        store.commit(&[Change::Delete { key: "one".into() }, put("three", "3"), put("two", "II")]).unwrap();
        // What a SIGKILL leaves: the bytes of the file as they are, nothing closed.
        let copy = tempfile::tempdir().unwrap();
        fs::copy(deep.join(FILE), copy.path().join(FILE)).unwrap();

        let crashed = Redb::open(copy.path()).unwrap();
        assert_eq!(content(&crashed), [pair("three", "3"), pair("two", "II")]);
        drop(store);
        assert_eq!(content(&Redb::open(&deep).unwrap()), [pair("three", "3"), pair("two", "II")]);
    }

    #[test]
    fn a_second_one_is_refused_and_does_no_harm() {
        let state = tempfile::tempdir().unwrap();
        let mut store = Redb::open(state.path()).unwrap();
        let error = Redb::open(state.path()).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        assert!(error.to_string().contains("--state"), "{error}");
        store.commit(&[put("one", "1")]).unwrap();
        drop(store);
        assert_eq!(content(&Redb::open(state.path()).unwrap()), [pair("one", "1")]);
    }

    #[test]
    fn after_a_failed_commit_the_file_is_opened_again() {
        let state = tempfile::tempdir().unwrap();
        let mut store = Redb::open(state.path()).unwrap();
        store.commit(&[put("one", "1")]).unwrap();
        // What a failed commit leaves behind, and a file that cannot be opened at the moment.
        store.replace(None);
        let (path, away) = (state.path().join(FILE), state.path().join("away"));
        fs::rename(&path, &away).unwrap();
        assert!(store.commit(&[put("two", "2")]).is_err());
        fs::rename(&away, &path).unwrap();
        store.commit(&[put("three", "3")]).unwrap();
        assert_eq!(content(&store), [pair("one", "1"), pair("three", "3")]);
    }

    #[test]
    fn a_reader_sees_what_is_written_until_the_store_is_closed() {
        let state = tempfile::tempdir().unwrap();
        let mut store = Redb::open(state.path()).unwrap();
        let reader = store.reader();
        assert_eq!(reader.list().unwrap(), []);
        let other = tempfile::tempdir().unwrap();
        assert_eq!(
            (super::identity(state.path()), super::identity(other.path())),
            (Some(reader.identity()), None)
        );
        assert_ne!(Redb::open(other.path()).unwrap().reader().identity(), reader.identity());
        store.commit(&[put("one", "1")]).unwrap();
        assert_eq!(reader.list().unwrap(), [("one".to_owned(), b"1".to_vec())]);
        drop(store);
        assert!(reader.list().unwrap_err().to_string().contains("closed"));
        // The reader does not keep the file from the next one.
        assert_eq!(content(&Redb::open(state.path()).unwrap()), [pair("one", "1")]);
    }

    #[test]
    fn only_looking_makes_nothing_and_moves_nothing() {
        let state = tempfile::tempdir().unwrap();
        assert!(Redb::existing(&state.path().join("none")).unwrap().is_none());
        assert!(Redb::existing(state.path()).unwrap().is_none());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);

        let mut store = Redb::open(state.path()).unwrap();
        store.commit(&[put("one", "1")]).unwrap();
        assert!(matches!(Redb::existing(state.path()), Err(Error::InUse { .. })));
        drop(store);
        assert_eq!(content(&Redb::existing(state.path()).unwrap().unwrap()), [pair("one", "1")]);

        let path = state.path().join(FILE);
        for garbage in [&[0x5a; 9000][..], b"not a database", b""] {
            fs::write(&path, garbage).unwrap();
            let error = Redb::existing(state.path()).unwrap_err();
            assert!(matches!(error, Error::Database { .. } | Error::File { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), garbage);
        }
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_put_aside_each_time_under_a_name_of_its_own() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(FILE);
        for (number, garbage) in [vec![0x5a; 9000], b"not a database".to_vec()].into_iter().enumerate() {
            fs::write(&path, &garbage).unwrap();
            let mut store = Redb::open(state.path()).unwrap();
            assert_eq!(content(&store), []);
            store.commit(&[put("one", "1")]).unwrap();
            let aside = state.path().join(format!("leases.redb.damaged-{}", number + 1));
            assert_eq!(fs::read(aside).unwrap(), garbage, "it is kept as it was");
        }
    }

    #[test]
    fn damage_in_any_place_ends_in_a_working_store() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(FILE);
        let mut store = Redb::open(state.path()).unwrap();
        let many: Vec<Change> =
            (0..200).map(|number| put(&format!("key {number}"), &"v".repeat(100))).collect();
        store.commit(&many).unwrap();
        drop(store);
        let good = fs::read(&path).unwrap();

        let torn = good.len() / 2;
        let holes = (0..good.len()).step_by(good.len() / 40).chain(0..16);
        for hole in holes {
            fs::write(&path, &good).unwrap();
            let open = fs::File::options().write(true).open(&path).unwrap();
            open.write_all_at(&[0xa5; 24], hole as u64).unwrap();
            let mut store =
                Redb::open(state.path()).unwrap_or_else(|error| panic!("hole at {hole}: {error}"));
            store.commit(&[put("new", "1")]).unwrap_or_else(|error| panic!("hole at {hole}: {error}"));
            let read = store.list().unwrap();
            assert!(
                read.len() == 1 || read.len() == 201,
                "hole at {hole}: {} entries, neither all nor none",
                read.len()
            );
        }
        fs::write(&path, &good[..torn]).unwrap();
        assert_eq!(content(&Redb::open(state.path()).unwrap()), []);
    }
}
