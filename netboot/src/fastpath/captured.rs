//! What the XDP program has answered, packet by packet: the records of its ring buffer `CAPTURED`, and why there are none.
//!
//! Bytes and words only; `capturing` opens the ring.

use std::path::PathBuf;

use netboot_ebpf::abi::Captured;

/// A packet that the program has received and answered, or the answer that it has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When, in nanoseconds.
    pub at_ns: u64,
    /// Whether it is the answer.
    pub sent: bool,
    /// The frame.
    pub bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record, whose time is of the monotonic clock. `None` when it is shorter than it says.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, frame) = Captured::from_bytes(bytes)?;
        Some(Self { at_ns: head.at_ns, sent: head.sent != 0, bytes: frame })
    }
}

/// Why what the program answers cannot be captured. All else can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The program is not in this binary.
    #[error("this netboot was built without the fast path (cargo feature `fastpath`)")]
    Absent,
    /// No BPF file system.
    #[error(
        "there is no BPF file system at {0}: `netboot serve` mounts one where it may; in a namespace entered by `ip netns exec` there is \
         none, but `nsenter --net=/run/netns/NAME` keeps the machine's"
    )]
    NoFileSystem(PathBuf),
    /// Nothing is pinned for the interface.
    #[error("no netboot answers on {0} with XDP now")]
    NoProgram(String),
    /// What is pinned has no such map.
    #[error(
        "the netboot that answers on {0} is of another version, which cannot be captured: use that one's `capture`"
    )]
    OtherVersion(String),
    /// Its user may not.
    #[error("{0} may not be opened: run this as root")]
    Denied(PathBuf),
    /// Somebody else reads the ring buffer, and each record is read once.
    #[error("another `netboot capture` on {0} takes it")]
    Taken(String),
    /// Anything else.
    #[error("{what}: {why}")]
    Failed {
        /// What was tried.
        what: String,
        /// What the kernel said.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn a_record_is_read_field_by_field() {
        for (direction, sent) in [(0, false), (1, true)] {
            let head = [&5u64.to_ne_bytes()[..], &3u16.to_ne_bytes(), &[direction], &[9; 5]].concat();
            // The ring buffer's records are padded.
            let bytes = [&head[..], b"abc", &[0; 5]].concat();
            assert_eq!(Record::parse(&bytes), Some(Record { at_ns: 5, sent, bytes: b"abc" }));
            for length in 0..19 {
                assert_eq!(Record::parse(&bytes[..length]), None, "{length}");
            }
        }
    }
}
