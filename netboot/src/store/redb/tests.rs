use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::os::unix::fs::FileExt;

use super::{Change, FILE, Fault, Redb, Store, fault};
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
    let many: Vec<Change> = (0..200).map(|number| put(&format!("key {number}"), &"v".repeat(100))).collect();
    store.commit(&many).unwrap();
    drop(store);
    let good = fs::read(&path).unwrap();

    let holes = (0..good.len()).step_by(good.len() / 40).chain(0..16);
    for hole in holes {
        fs::write(&path, &good).unwrap();
        let open = fs::File::options().write(true).open(&path).unwrap();
        open.write_all_at(&[0xa5; 24], hole as u64).unwrap();
        let mut store = Redb::open(state.path()).unwrap_or_else(|error| panic!("hole at {hole}: {error}"));
        store.commit(&[put("new", "1")]).unwrap_or_else(|error| panic!("hole at {hole}: {error}"));
        let read = store.list().unwrap();
        assert!(
            read.len() == 1 || read.len() == 201,
            "hole at {hole}: {} entries, neither all nor none",
            read.len()
        );
    }
}

/// A disk that was full, a copy that was broken off: the file ends anywhere.
#[test]
fn a_file_that_ends_anywhere_is_whole_or_put_aside() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join(FILE);
    let mut store = Redb::open(state.path()).unwrap();
    let many: Vec<Change> = (0..200).map(|number| put(&format!("key {number}"), &"v".repeat(100))).collect();
    store.commit(&many).unwrap();
    drop(store);
    let good = fs::read(&path).unwrap();
    let mut places: Vec<usize> = vec![0, 1, 8, 9, 63, 64, 319, 320, 4095, 4096, good.len() - 1, good.len()];
    let random = RandomState::new();
    places.extend(
        (0..60)
            .map(|number| usize::try_from(random.hash_one(number) % good.len() as u64).unwrap_or_default()),
    );
    let mut aside = 0;
    for place in places {
        fs::write(&path, &good[..place]).unwrap();
        let mut store = Redb::open(state.path()).unwrap_or_else(|error| panic!("cut at {place}: {error}"));
        let kept = store.list().unwrap().len();
        let damaged = state.path().join(format!("{FILE}.damaged-{}", aside + 1));
        if damaged.exists() {
            aside += 1;
            assert_eq!(kept, 0, "cut at {place}");
            assert!(fs::read(&damaged).unwrap() == good[..place], "cut at {place}: it is kept as it was");
        } else {
            // An empty file is a new one.
            assert!(kept == 200 || place == 0, "cut at {place}: {kept} entries, and nothing put aside");
        }
        store.commit(&[put("new", "1")]).unwrap_or_else(|error| panic!("cut at {place}: {error}"));
        assert_eq!(store.list().unwrap().len(), kept + 1, "cut at {place}");
    }
    assert!(aside > 20, "{aside} of them put aside");
}

#[test]
fn what_is_wrong_with_the_file_is_seen_while_another_has_it() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join(FILE);
    assert_eq!(fault(state.path()), None, "there is none");
    fs::write(&path, "").unwrap();
    assert_eq!(fault(state.path()), None, "a new one");
    fs::remove_file(&path).unwrap();
    let store = Redb::open(state.path()).unwrap();
    assert_eq!(fault(state.path()), None);
    drop(store);
    fs::write(&path, "{}").unwrap();
    assert_eq!(fault(state.path()), Some((path.clone(), Fault::Damaged)));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let (_, found) = fault(state.path()).unwrap();
    assert_eq!(found, Fault::Unreadable("it is not a regular file".to_owned()));
}
