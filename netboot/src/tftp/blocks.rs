//! A file's blocks as packets: read in chunks, ahead of the blocks that are asked for, and handed out with their headers.

use std::io;
use std::ops::Range;

use super::engine::Socket;
use super::files::Content;
use super::transfer::low16;
use super::wire::data_header;

/// What is read at once: some windows of a usual client, and little enough for thousands of transfers.
const CHUNK: usize = 64 * 1024;
/// The most the kernel cuts into packets in one send: segments and bytes.
const SEGMENTS: u64 = 64;
const SEND_BYTES: u64 = 65_000;

/// The blocks of a file.
pub(super) struct Blocks<S: Socket> {
    /// `None`: all of it is in the chunk.
    file: Option<S::File>,
    size: u64,
    blksize: u16,
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl<S: Socket> Blocks<S> {
    /// The blocks of `blksize` bytes of what was opened.
    pub(super) fn new(content: Content, blksize: u16) -> Self {
        let size = content.size();
        let (file, chunk) = match content {
            Content::Disk(opened) => (Some(S::file(opened.file)), Vec::new()),
            Content::Generated(bytes) => (None, bytes),
        };
        Self { file, size, blksize, chunk, chunk_at: 0 }
    }

    /// A packet's length, header included; the last may be shorter.
    pub(super) fn packet_len(&self) -> u16 {
        self.blksize.saturating_add(4)
    }

    /// How many packets one send takes.
    pub(super) fn per_send(&self) -> u64 {
        (SEND_BYTES / u64::from(self.packet_len())).clamp(1, SEGMENTS)
    }

    /// These blocks' packets one after the other; the first block of a file is 1.
    pub(super) async fn packets(&mut self, blocks: Range<u64>) -> io::Result<Vec<u8>> {
        let count = usize::try_from(blocks.end.saturating_sub(blocks.start)).unwrap_or_default();
        let mut packets = Vec::with_capacity(count.saturating_mul(self.packet_len().into()));
        for block in blocks {
            let at = block.saturating_sub(1).saturating_mul(self.blksize.into()).min(self.size);
            let length = self.size.saturating_sub(at).min(self.blksize.into());
            packets.extend(data_header(low16(block)));
            packets.extend_from_slice(self.bytes(at, usize::try_from(length).unwrap_or_default()).await?);
        }
        Ok(packets)
    }

    async fn bytes(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        if self.in_chunk(at, length).is_none() {
            self.load(at, length).await?;
        }
        // Shorter than it was when it was opened: somebody wrote over it in place.
        let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter");
        self.in_chunk(at, length).ok_or_else(short)
    }

    fn in_chunk(&self, at: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.chunk_at)?).ok()?;
        self.chunk.get(from..from.checked_add(length)?)
    }

    async fn load(&mut self, at: u64, length: usize) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let rest = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut buffer = std::mem::take(&mut self.chunk);
        buffer.clear();
        buffer.reserve_exact(rest.min(CHUNK.max(self.blksize.into())));
        let (mut result, mut buffer) = S::read(file, buffer, at).await;
        // A read may give less than it was asked for before the end of the file.
        while result.is_ok() && buffer.len() < length {
            let more;
            let next = at.saturating_add(buffer.len() as u64);
            (result, more) = S::read(file, Vec::with_capacity(length - buffer.len()), next).await;
            if more.is_empty() {
                break;
            }
            buffer.extend(more);
        }
        (self.chunk, self.chunk_at) = (buffer, at);
        result
    }
}
