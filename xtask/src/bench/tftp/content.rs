//! The file that is fetched: each of its 64-bit words follows from its place, so that a block can be in one place alone.

/// A word at its place (the last steps of `SplitMix64`): no two places below 2^64 have the same.
fn word(place: u64) -> u64 {
    let mixed = place.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The first so many bytes of the file.
pub(in crate::bench) fn content(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length.next_multiple_of(8));
    bytes.extend((0..length.div_ceil(8) as u64).flat_map(|place| word(place).to_le_bytes()));
    bytes.truncate(length);
    bytes
}

/// What a client holds the blocks against.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// This, from its first byte to its last.
    File(&'a [u8]),
    /// Full blocks without end, whatever is in them.
    Endless,
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Length,
    Content,
}

impl Source<'_> {
    /// Looks at the block that begins at this byte; tells whether it is the last one.
    ///
    /// # Errors
    /// When the block is not what is there.
    pub(super) fn check(&self, offset: usize, block: &[u8], blksize: usize) -> Result<bool, Wrong> {
        let Self::File(bytes) = self else {
            return if block.len() == blksize { Ok(false) } else { Err(Wrong::Length) };
        };
        let rest = bytes.get(offset..).ok_or(Wrong::Length)?;
        let wanted = rest.get(..blksize).unwrap_or(rest);
        match block {
            _ if block.len() != wanted.len() => Err(Wrong::Length),
            _ if block != wanted => Err(Wrong::Content),
            _ => Ok(block.len() < blksize),
        }
    }

    /// Bytes of the whole, if there is an end.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::File(bytes) => Some(bytes.len() as u64),
            Self::Endless => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Source, Wrong, content};

    #[test]
    fn no_block_is_like_another() {
        let bytes = content(512 * 100);
        let mut blocks: Vec<&[u8]> = bytes.chunks(512).collect();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), 100);
        assert_eq!(content(13), content(16)[..13]);
        assert!(content(0).is_empty());
    }

    #[test]
    fn a_block_is_right_in_its_place_alone() {
        let bytes = content(1000);
        let source = Source::File(&bytes);
        assert_eq!(source.check(0, &bytes[..400], 400), Ok(false));
        assert_eq!(source.check(800, &bytes[800..], 400), Ok(true));
        assert_eq!(source.check(400, &bytes[..400], 400), Err(Wrong::Content));
        assert_eq!(source.check(400, &bytes[400..799], 400), Err(Wrong::Length), "cut short");
        assert_eq!(source.check(1200, &[], 400), Err(Wrong::Length), "beyond the end");
        let mut flipped = bytes[400..800].to_vec();
        flipped[399] ^= 1;
        assert_eq!(source.check(400, &flipped, 400), Err(Wrong::Content));
        // The size is a multiple of the block's: an empty one ends it.
        assert_eq!(source.check(500, &bytes[500..], 500), Ok(false));
        assert_eq!(source.check(1000, &[], 500), Ok(true));
    }

    #[test]
    fn without_an_end_all_blocks_are_full() {
        assert_eq!(Source::Endless.check(4000, &[0; 400], 400), Ok(false));
        assert_eq!(Source::Endless.check(4000, &[0; 399], 400), Err(Wrong::Length));
        assert_eq!((Source::Endless.size(), Source::File(&[1, 2]).size()), (None, Some(2)));
    }
}
