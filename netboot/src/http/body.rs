//! The bytes of a file for one answer, a piece at a time: handed over to the kernel where the connection can, else read. Where
//! a disk must be waited for another thread does it.
//!
//! The length is promised before the first byte. Who cuts the file short, or writes into it, ends the connection before the last
//! byte: no client believes that it has a file that never was.

use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures_util::stream;
use rustix::io::ReadWriteFlags;

use super::handover::{self, Handover};
use crate::beneath::Opened;

/// Bytes read at once; a file's last ones always are, so that it is looked at after all others have gone.
const READ: u64 = 256 << 10;
/// Bytes that are read to have them in memory, at once.
const ROOM: usize = 64 << 10;

/// A body of these bytes of a file.
pub(super) fn of(opened: Opened, part: Range<u64>, handover: Option<Handover>) -> Body {
    let (opened, end) = (Arc::new(opened), part.end);
    Body::from_stream(stream::try_unfold(part.start, move |at| {
        let (opened, handover) = (Arc::clone(&opened), handover.clone());
        async move {
            if at == end {
                return Ok(None);
            }
            // What is left behind a piece is never nothing: that is read.
            let most = (end - at).saturating_sub(READ).min(handover::PIECE);
            let bytes = match handover {
                Some(handover) if most > 0 => {
                    if !is_there(&opened, at) || !is_there(&opened, at + most - 1) {
                        blocking(&opened, move |opened| fetch(opened, at..at + most)).await?;
                    }
                    handover.put(&opened, at, most)
                }
                _ => {
                    let piece = at..end.min(at + READ);
                    match read(&opened, piece.clone(), end, ReadWriteFlags::NOWAIT) {
                        Ok(bytes) => bytes,
                        Err(_) => {
                            blocking(&opened, move |opened| read(opened, piece, end, ReadWriteFlags::empty()))
                                .await?
                        }
                    }
                }
            };
            let next = at + bytes.len() as u64;
            Ok::<_, io::Error>(Some((bytes, next)))
        }
    }))
}

/// Does what may wait for a disk.
async fn blocking<T: Send + 'static>(
    opened: &Arc<Opened>,
    work: impl FnOnce(&Opened) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let opened = Arc::clone(opened);
    tokio::task::spawn_blocking(move || work(&opened)).await.map_err(io::Error::other).flatten()
}

/// Whether a byte can be read without waiting.
fn is_there(opened: &Opened, at: u64) -> bool {
    let mut byte = [0];
    let room = &mut [IoSliceMut::new(&mut byte)];
    rustix::io::preadv2(&opened.file, room, at, ReadWriteFlags::NOWAIT).is_ok_and(|length| length == 1)
}

/// Brings bytes into memory. That there are fewer shows when they are sent.
fn fetch(opened: &Opened, mut piece: Range<u64>) -> io::Result<()> {
    let mut room = vec![0; ROOM];
    while piece.start < piece.end {
        let length = opened.file.read_at(&mut room, piece.start)?;
        if length == 0 {
            break;
        }
        piece.start += length as u64;
    }
    Ok(())
}

/// Reads a piece. `end`: where the last one ends; before that is sent the file must be what was opened.
fn read(opened: &Opened, piece: Range<u64>, end: u64, flags: ReadWriteFlags) -> io::Result<Bytes> {
    let length = usize::try_from(piece.end - piece.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let mut got = 0;
    while let Some(rest) = bytes.get_mut(got..).filter(|rest| !rest.is_empty()) {
        let room = &mut [IoSliceMut::new(rest)];
        match rustix::io::preadv2(&opened.file, room, piece.start + got as u64, flags)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter")),
            more => got += more,
        }
    }
    if piece.end == end && !opened.is_unchanged() {
        tracing::warn!("HTTP: a file was written into while it was sent; put a new one in its place instead");
        return Err(io::Error::other("the file has changed"));
    }
    Ok(bytes.into())
}
