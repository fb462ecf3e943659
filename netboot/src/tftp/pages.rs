//! The bytes of files, shared by all who read them: a file is mapped once, however many blades want it, and the kernel takes
//! the bytes out of its page cache itself when a window is sent. Nothing is copied in this program.
//!
//! A thread that moves packets must not wait for a disk, so pages are made present by others, a chunk at a time and one ahead.
//! Whether they are is never a question of right or wrong: a page that is gone again costs the time to get it back.
//! Nobody here looks at the bytes: another process may change them, and what it cuts off the kernel refuses to send.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::files::Content;

/// What is made present at once.
const CHUNK: u64 = 2 << 20;

/// How a chunk of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Nobody has asked for it.
    Absent,
    /// Somebody is about to make it present.
    Asked,
    /// It is in memory, or was a moment ago.
    Present,
    /// It cannot be read: the disk failed, or the file became shorter.
    Failed,
}

/// Whether bytes can be sent without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// They can.
    Here,
    /// Whoever asked will be called.
    Later,
    /// They cannot be read.
    Failed,
}

/// A file in the address space. It is what it was when it was opened, whoever puts another in its place.
pub(super) struct Mapped {
    start: NonNull<u8>,
    size: u64,
    length: usize,
    file: File,
    changed: (i64, i64),
    chunks: Box<[Chunk]>,
    waiting: Mutex<Vec<Call>>,
    store: Arc<Store>,
}

struct Chunk {
    state: AtomicU8,
    /// When it was wanted last, by the store's count of such wishes.
    wanted: AtomicU64,
}

/// Something to be done by another thread, or for one.
pub(super) type Call = Box<dyn FnOnce() + Send>;

// SAFETY: the mapping is never read or written here, only named to the kernel, which any thread may do.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Drop for Mapped {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            if chunk.state.load(Ordering::Acquire) == State::Present as u8 {
                self.store.present.fetch_sub(CHUNK, Ordering::AcqRel);
            }
        }
        // SAFETY: it was mapped with this length, and nobody has a slice of it any more.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapped").field("size", &self.size).finish_non_exhaustive()
    }
}

/// What makes a file the same as another.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// All files that are mapped.
#[derive(Default)]
pub(super) struct Store {
    files: Mutex<HashMap<Identity, Weak<Mapped>>>,
    /// Bytes that are present, and as many as should be.
    present: AtomicU64,
    most: u64,
    wishes: AtomicU64,
}

impl Store {
    /// Keeps about so many bytes mapped; what is more the kernel keeps in its cache as it likes.
    pub(super) fn new(most: u64) -> Self {
        Self { most, ..Self::default() }
    }

    /// The bytes of what was opened.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub(super) fn bytes(self: &Arc<Self>, content: Content) -> io::Result<Bytes> {
        match content {
            Content::Generated(bytes) => Ok(Bytes::Own(bytes.into())),
            // Nothing cannot be mapped.
            Content::Disk(opened) if opened.size == 0 => Ok(Bytes::Own(Arc::default())),
            Content::Disk(opened) => self.map(opened.file, opened.size).map(Bytes::Mapped),
        }
    }

    fn map(self: &Arc<Self>, file: File, size: u64) -> io::Result<Arc<Mapped>> {
        let facts = file.metadata()?;
        let changed = (facts.mtime(), facts.mtime_nsec());
        let identity = Identity { device: facts.dev(), inode: facts.ino(), size, changed };
        let mut files = locked(&self.files);
        if let Some(mapped) = files.get(&identity).and_then(Weak::upgrade) {
            return Ok(mapped);
        }
        let length = usize::try_from(size).map_err(io::Error::other)?;
        // Private, which file systems can that cannot share. Read alone it is the page cache all the same.
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, &file, 0)
        }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        let chunk = |_| Chunk { state: AtomicU8::new(State::Absent as u8), wanted: AtomicU64::new(0) };
        let chunks = (0..size.div_ceil(CHUNK)).map(chunk).collect();
        let waiting = Mutex::default();
        let store = Arc::clone(self);
        let mapped = Arc::new(Mapped { start, size, length, file, changed, chunks, waiting, store });
        files.retain(|_, file| file.strong_count() > 0);
        files.insert(identity, Arc::downgrade(&mapped));
        Ok(mapped)
    }

    /// Lets go of the chunks that were wanted longest ago, until no more are present than should be.
    fn trim(&self) {
        let files: Vec<_> = locked(&self.files).values().filter_map(Weak::upgrade).collect();
        let mut chunks: Vec<_> = files
            .iter()
            .flat_map(|file| file.chunks.iter().enumerate().map(move |(number, chunk)| (file, number, chunk)))
            .filter(|(.., chunk)| chunk.state.load(Ordering::Acquire) == State::Present as u8)
            .collect();
        chunks.sort_by_key(|(.., chunk)| chunk.wanted.load(Ordering::Relaxed));
        for (file, number, chunk) in chunks {
            if self.present.load(Ordering::Acquire) <= self.most {
                break;
            }
            if chunk.set(State::Present, State::Absent) {
                self.present.fetch_sub(CHUNK, Ordering::AcqRel);
                let _ = file.advise(number, Advice::LinuxDontNeed);
            }
        }
    }
}

impl Chunk {
    fn set(&self, from: State, to: State) -> bool {
        self.state.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Mapped {
    fn advise(&self, chunk: usize, advice: Advice) -> Result<(), Errno> {
        let at = chunk * usize::try_from(CHUNK).unwrap_or_default();
        let length = self.length.saturating_sub(at).min(usize::try_from(CHUNK).unwrap_or_default());
        // SAFETY: a part of the mapping; neither piece of advice changes what is in it.
        unsafe { rustix::mm::madvise(self.start.as_ptr().add(at).cast(), length, advice) }
    }

    /// Makes a chunk present (blocking), and calls those who wait.
    fn fetch(&self, number: usize) {
        let Some(chunk) = self.chunks.get(number) else { return };
        let to = match self.advise(number, Advice::LinuxPopulateRead) {
            // Linux 5.14 is the first that can: before it the sends wait for the disk.
            Ok(()) | Err(Errno::INVAL | Errno::AGAIN | Errno::INTR) => State::Present,
            Err(_) => State::Failed,
        };
        if chunk.set(State::Asked, to) && to == State::Present {
            let before = self.store.present.fetch_add(CHUNK, Ordering::AcqRel);
            if before + CHUNK > self.store.most {
                self.store.trim();
            }
        }
        let waiting = std::mem::take(&mut *locked(&self.waiting));
        for call in waiting {
            call();
        }
    }
}

/// What a transfer sends.
#[derive(Clone, Debug)]
pub(super) enum Bytes {
    /// A file's.
    Mapped(Arc<Mapped>),
    /// Made for the request.
    Own(Arc<[u8]>),
}

impl Bytes {
    /// How many there are.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Mapped(mapped) => mapped.size,
            Self::Own(bytes) => bytes.len() as u64,
        }
    }

    /// Why what is there now is not what was opened, if it is not: somebody wrote into the file.
    pub(super) fn changed(&self) -> Option<&'static str> {
        let Self::Mapped(mapped) = self else { return None };
        match mapped.file.metadata() {
            Ok(facts) if facts.len() < mapped.size => Some("the file became shorter"),
            Ok(facts)
                if facts.len() != mapped.size || (facts.mtime(), facts.mtime_nsec()) != mapped.changed =>
            {
                Some("the file was written to")
            }
            Ok(_) => None,
            Err(_) => Some("its disk failed"),
        }
    }

    /// Where these bytes lie, for the kernel to read; `None` beyond the end.
    pub(super) fn place(&self, at: u64, length: usize) -> Option<*const u8> {
        let from = usize::try_from(at).ok()?;
        let end = from.checked_add(length)?;
        match self {
            Self::Mapped(mapped) if end > mapped.length => None,
            // SAFETY: within the mapping.
            Self::Mapped(mapped) => Some(unsafe { mapped.start.as_ptr().add(from) }.cast_const()),
            Self::Own(bytes) => bytes.get(from..end).map(<[u8]>::as_ptr),
        }
    }

    /// Whether the bytes from `at` to `end` can be sent without waiting. They and what follows are fetched by `spawn`, which
    /// runs something that waits for a disk; whoever has to wait is called by what `call` makes.
    pub(super) fn presence(
        &self,
        at: u64,
        end: u64,
        spawn: &dyn Fn(Call),
        call: impl FnOnce() -> Call,
    ) -> Presence {
        let Self::Mapped(mapped) = self else { return Presence::Here };
        let number = |at: u64| usize::try_from(at / CHUNK).unwrap_or(usize::MAX);
        let (first, last) = (number(at), number(end.saturating_sub(1).max(at)));
        let wish = mapped.store.wishes.fetch_add(1, Ordering::Relaxed);
        let mut presence = Presence::Here;
        // With the next one, which is not waited for.
        for number in first..=last + 1 {
            let Some(chunk) = mapped.chunks.get(number) else { break };
            chunk.wanted.store(wish, Ordering::Relaxed);
            if chunk.set(State::Absent, State::Asked) {
                let mapped = Arc::clone(mapped);
                spawn(Box::new(move || mapped.fetch(number)));
            }
            if number <= last {
                match chunk.state.load(Ordering::Acquire) {
                    state if state == State::Present as u8 => {}
                    state if state == State::Failed as u8 => return Presence::Failed,
                    _ => presence = Presence::Later,
                }
            }
        }
        if presence == Presence::Later {
            locked(&mapped.waiting).push(call());
            // It may have come while the call was put there.
            let here = |number: usize| {
                let state = mapped.chunks.get(number).map(|chunk| chunk.state.load(Ordering::Acquire));
                state.is_none_or(|state| state == State::Present as u8)
            };
            if (first..=last).all(here) {
                return Presence::Here;
            }
        }
        presence
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use super::{Bytes, CHUNK, Call, Presence, Store};
    use crate::beneath;
    use crate::tftp::files::Content;

    /// Work that waits for its turn.
    #[derive(Default)]
    struct Disk(Mutex<Vec<Call>>);

    impl Disk {
        fn turn(&self) {
            let work = std::mem::take(&mut *self.0.lock().unwrap());
            for work in work {
                work();
            }
        }

        fn presence(
            &self,
            bytes: &Bytes,
            chunks: std::ops::Range<u64>,
            called: &Arc<Mutex<u32>>,
        ) -> Presence {
            let spawn = |work| self.0.lock().unwrap().push(work);
            let called = Arc::clone(called);
            bytes.presence(chunks.start * CHUNK, chunks.end * CHUNK, &spawn, || {
                Box::new(move || *called.lock().unwrap() += 1)
            })
        }
    }

    fn open(store: &Arc<Store>, dir: &Path) -> Bytes {
        store.bytes(Content::Disk(beneath::open(dir, "file").unwrap())).unwrap()
    }

    fn file(chunks: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("file")).unwrap();
        file.set_len(chunks * CHUNK).unwrap();
        dir
    }

    #[test]
    fn who_reads_the_same_file_shares_it_and_a_new_one_is_another() {
        let (store, dir) = (Arc::new(Store::new(1 << 30)), file(1));
        let same = |one: &Bytes, other: &Bytes| match (one, other) {
            (Bytes::Mapped(one), Bytes::Mapped(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        let (one, other) = (open(&store, dir.path()), open(&store, dir.path()));
        assert!(same(&one, &other));
        std::fs::rename(dir.path().join("file"), dir.path().join("old")).unwrap();
        std::fs::write(dir.path().join("file"), "new").unwrap();
        assert!(!same(&one, &open(&store, dir.path())));
        assert_eq!(one.changed(), None, "it is still what it was");
    }

    #[test]
    fn a_chunk_is_fetched_once_with_the_next_one_and_all_who_wait_are_called() {
        let (store, dir, disk, called) =
            (Arc::new(Store::new(1 << 30)), file(9), Disk::default(), Arc::default());
        let bytes = open(&store, dir.path());
        assert_eq!(disk.presence(&bytes, 0..1, &called), Presence::Later);
        assert_eq!(disk.presence(&bytes, 0..1, &called), Presence::Later);
        assert_eq!(disk.0.lock().unwrap().len(), 2, "the chunk and the one behind it");
        disk.turn();
        assert_eq!(*called.lock().unwrap(), 2);
        assert_eq!(disk.presence(&bytes, 0..2, &called), Presence::Here);
        disk.turn();
        assert_eq!(disk.presence(&bytes, 2..3, &called), Presence::Here, "it came with the one before");
    }

    #[test]
    fn no_more_is_kept_than_should_be() {
        let (store, dir, disk, called) =
            (Arc::new(Store::new(3 * CHUNK)), file(9), Disk::default(), Arc::default());
        let bytes = open(&store, dir.path());
        for chunk in 0..9 {
            let _ = disk.presence(&bytes, chunk..chunk + 1, &called);
            disk.turn();
            assert!(store.present.load(super::Ordering::Acquire) <= 3 * CHUNK);
        }
        assert_eq!(disk.presence(&bytes, 8..9, &called), Presence::Here);
        assert_eq!(disk.presence(&bytes, 0..1, &called), Presence::Later, "it is fetched again");
        drop(bytes);
        disk.turn();
        assert_eq!(store.present.load(super::Ordering::Acquire), 0);
    }

    #[test]
    fn what_was_cut_off_or_written_to_is_found_out() {
        let (store, dir, disk, called) =
            (Arc::new(Store::new(1 << 30)), file(3), Disk::default(), Arc::default());
        let bytes = open(&store, dir.path());
        assert_eq!(bytes.changed(), None);
        let path = dir.path().join("file");
        std::fs::File::options().write(true).open(&path).unwrap().set_len(CHUNK).unwrap();
        assert_eq!(bytes.changed(), Some("the file became shorter"));
        let _ = disk.presence(&bytes, 2..3, &called);
        disk.turn();
        assert_eq!(disk.presence(&bytes, 2..3, &called), Presence::Failed);
        std::fs::File::options().write(true).open(&path).unwrap().set_len(3 * CHUNK).unwrap();
        assert_eq!(bytes.changed(), Some("the file was written to"));
    }

    #[test]
    fn an_empty_file_and_what_is_generated_need_no_mapping() {
        let (store, dir, disk, called) =
            (Arc::new(Store::new(1 << 30)), file(0), Disk::default(), Arc::default());
        let generated = store.bytes(Content::Generated(b"text".to_vec())).unwrap();
        for (bytes, size) in [(open(&store, dir.path()), 0), (generated, 4)] {
            assert_eq!(bytes.size(), size);
            assert_eq!(disk.presence(&bytes, 0..1, &called), Presence::Here);
            assert!(bytes.place(0, usize::try_from(size).unwrap()).is_some());
            assert!(bytes.place(0, usize::try_from(size + 1).unwrap()).is_none());
            assert_eq!(bytes.changed(), None);
        }
    }
}
