//! The bytes of a file for one answer: read where a disk may be waited for, a piece at a time.
//!
//! The length is promised before the first byte. Who cuts the file short, or writes into it, ends the connection before the last
//! byte: no client believes that it has a file that never was.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures_util::stream;

use crate::beneath::Opened;

/// Bytes read at once: images are large, and each read is a trip to another thread.
const PIECE: u64 = 256 << 10;

/// A body of these bytes of a file.
pub(super) fn of(opened: Opened, part: Range<u64>) -> Body {
    let opened = Arc::new(opened);
    Body::from_stream(stream::try_unfold(part, move |rest| {
        let opened = Arc::clone(&opened);
        async move {
            if rest.is_empty() {
                return Ok(None);
            }
            let piece = rest.start..rest.end.min(rest.start + PIECE);
            let left = piece.end..rest.end;
            let read = tokio::task::spawn_blocking(move || read(&opened, piece, rest.end)).await;
            let bytes = read.map_err(io::Error::other).flatten()?;
            Ok::<_, io::Error>(Some((bytes, left)))
        }
    }))
}

/// Reads a piece. `end`: where the last one ends.
fn read(opened: &Opened, piece: Range<u64>, end: u64) -> io::Result<Bytes> {
    let length = usize::try_from(piece.end - piece.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    opened.file.read_exact_at(&mut bytes, piece.start)?;
    if piece.end == end {
        unchanged(opened)?;
    }
    Ok(bytes.into())
}

/// Before the last byte is sent the file must be what was opened.
fn unchanged(opened: &Opened) -> io::Result<()> {
    if opened.is_unchanged() {
        return Ok(());
    }
    tracing::warn!("HTTP: a file was written into while it was sent; put a new one in its place instead");
    Err(io::Error::other("the file has changed"))
}
