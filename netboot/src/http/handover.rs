//! Files that go from the page cache to a plain socket by sendfile(2), past hyper and the memory of this program.
//!
//! hyper frames an answer and has its connection write it. Here the body of a large file is made of slices of one memory that
//! nobody writes to or reads, the blank: the connection knows them by their address, and sends as many bytes of the file in
//! their place. Which file that is both sides have in a queue, in the order in which bodies and thus writes go.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::body::Bytes;

use crate::beneath::Opened;

/// The most bytes of one slice.
pub(super) const PIECE: u64 = 1 << 20;

/// Bytes of zero that the kernel never had to give a page for.
fn blank() -> &'static [u8] {
    static BLANK: OnceLock<&[u8]> = OnceLock::new();
    BLANK.get_or_init(|| vec![0; 1 << 20].leak())
}

/// Whether a slice is one of the blank, and stands for a file's bytes.
pub(super) fn is_blank(slice: &[u8]) -> bool {
    !slice.is_empty() && blank().as_ptr_range().contains(&slice.as_ptr())
}

/// What a connection is told by those who answer its requests, which carry it: what it has to send in place of blanks, and
/// whether this answer is the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Handover(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    pieces: Mutex<VecDeque<Piece>>,
    is_last: AtomicBool,
}

#[derive(Debug)]
struct Piece {
    opened: Arc<Opened>,
    at: u64,
    left: u64,
}

impl Handover {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Piece>> {
        self.0.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection will be closed behind the answer.
    pub(super) fn set_last(&self) {
        self.0.is_last.store(true, Ordering::Relaxed);
    }

    /// Whether it will.
    pub(super) fn is_last(&self) -> bool {
        self.0.is_last.load(Ordering::Relaxed)
    }

    /// Has so many bytes sent, at most [`PIECE`], when what is returned is written.
    pub(super) fn put(&self, opened: &Arc<Opened>, at: u64, length: u64) -> Bytes {
        let slice = usize::try_from(length).ok().and_then(|length| blank().get(..length));
        let slice = slice.unwrap_or_default();
        self.lock().push_back(Piece { opened: Arc::clone(opened), at, left: slice.len() as u64 });
        Bytes::from_static(slice)
    }

    /// Sends as much as the socket takes of what stands behind so many blank bytes.
    ///
    /// # Errors
    /// When the file has become shorter, cannot be read, or the client has gone.
    pub(super) fn send(&self, socket: impl AsFd, length: usize) -> io::Result<usize> {
        let mut queue = self.lock();
        let piece = queue.front_mut().filter(|piece| piece.left >= length as u64);
        let piece = piece.ok_or_else(|| io::Error::other("a blank that stands for nothing"))?;
        let sent = rustix::fs::sendfile(socket, &piece.opened.file, Some(&mut piece.at), length)?;
        if sent == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
        }
        piece.left -= sent as u64;
        if piece.left == 0 {
            queue.pop_front();
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::{Handover, PIECE, is_blank};
    use crate::beneath;

    #[test]
    fn files_are_sent_in_the_order_of_their_blanks() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str, content: &str| {
            fs::write(dir.path().join(name), content).unwrap();
            Arc::new(beneath::open(dir.path(), name).unwrap())
        };
        let (one, other) = (open("one", "0123456789"), open("other", "abcdef"));
        let handover = Handover::default();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(handover.send(&ours, 1).is_err(), "nothing is there");
        let first = handover.put(&one, 2, 5);
        let second = handover.put(&other, 0, 3);
        assert!(is_blank(&first) && is_blank(&first[4..]) && !is_blank(b"01234") && !is_blank(&[]));
        assert_eq!((first.len(), second.len()), (5, 3));
        assert_eq!(handover.send(&ours, 3).unwrap(), 3);
        assert!(handover.send(&ours, 3).is_err(), "two are left");
        assert_eq!(handover.send(&ours, 2).unwrap() + handover.send(&ours, 3).unwrap(), 5);
        let mut got = [0; 8];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"23456abc");

        fs::File::options().write(true).open(dir.path().join("other")).unwrap().set_len(2).unwrap();
        handover.put(&other, 1, 5);
        assert_eq!(handover.send(&ours, 5).unwrap(), 1);
        assert_eq!(handover.send(&ours, 4).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!(handover.put(&one, 0, PIECE).len() as u64, PIECE);
    }
}
