//! The maps of the program, and its memory for one packet.

use core::mem::{align_of, offset_of, size_of};

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use netboot_ebpf::abi::{self, Captured, Event, GuardKey, Host, HostKey, Server, Template};
use netboot_ebpf::bootp::{self, Header, LARGEST};
use netboot_ebpf::guard::Bucket;
use netboot_ebpf::options::{Area, Notes};
use netboot_ebpf::packet::{Destination, ETHERNET_ROOM, IP_UDP};

#[map]
pub(super) static HOSTS: HashMap<HostKey, Host> =
    HashMap::with_max_entries(abi::HOSTS_CAPACITY, BPF_F_NO_PREALLOC);
#[map]
pub(super) static TEMPLATES: Array<Template> = Array::with_max_entries(abi::TEMPLATES_CAPACITY, 0);
#[map]
pub(super) static RELAYS: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(abi::RELAYS_CAPACITY, 0);
#[map]
pub(super) static SERVER: Array<Server> = Array::with_max_entries(1, 0);
#[map]
pub(super) static BEAT: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub(super) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(abi::COUNTERS, 0);
/// When something was told last, by the number of its reason.
#[map]
pub(super) static TOLD: PerCpuArray<u64> = PerCpuArray::with_max_entries(abi::OFFERS, 0);
#[map]
pub(super) static EVENTS: RingBuf = RingBuf::with_byte_size(abi::EVENTS_BYTES, 0);
#[map]
pub(super) static GUARD: LruHashMap<GuardKey, Bucket> = LruHashMap::with_max_entries(abi::GUARD_CAPACITY, 0);
#[map]
pub(super) static CAPTURE: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub(super) static CAPTURED: RingBuf = RingBuf::with_byte_size(abi::CAPTURED_BYTES, 0);
#[map]
pub(super) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Length of the IPv4, UDP and BOOTP headers with the cookie.
pub(super) const HEAD: usize = IP_UDP + bootp::HEADER;

/// Memory for one packet; a program does not interrupt itself on its CPU.
#[repr(C)]
pub(super) struct Scratch {
    pub(super) area: Area,
    pub(super) frame: Frame,
    pub(super) event: Event,
    pub(super) shot: Shot,
    /// The IPv4, UDP and BOOTP headers of the request.
    pub(super) head: [u8; HEAD],
    pub(super) header: Header,
    pub(super) to: Destination,
    pub(super) hidden: u8,
    pub(super) hidden_size: u16,
}

/// The reply under construction. Its headers stand before it as they will in the frame.
#[repr(C, align(8))]
pub(super) struct Frame {
    pub(super) ethernet: [u8; ETHERNET_ROOM],
    pub(super) ip: [u8; 20],
    pub(super) udp: [u8; 8],
    pub(super) payload: [u8; bootp::ROOM],
}

/// A captured frame; its room is twice what is used, for the verifier.
#[repr(C, align(8))]
pub(super) struct Shot {
    pub(super) head: Captured,
    pub(super) bytes: [u8; 2048],
}

/// What the checksum covers of most replies, UDP header included.
pub(super) const AT_ONCE: usize = 448;
/// What it covers of the others: UDP header and the largest reply, in two halves, for older kernels sum 512 bytes at most.
pub(super) const HALF: usize = (8 + LARGEST).next_multiple_of(8) / 2;

const _: () = {
    assert!(size_of::<Frame>() == ETHERNET_ROOM + IP_UDP + bootp::ROOM);
    assert!(align_of::<Notes>() == 8 && size_of::<Notes>().is_multiple_of(8));
    assert!(offset_of!(Frame, payload).is_multiple_of(8) && align_of::<Frame>() == 8);
    assert!(offset_of!(Template, bytes).is_multiple_of(8));
    assert!(8 + LARGEST <= 2 * HALF && HALF.is_multiple_of(4) && HALF <= 512);
    // The longest template and name, and three of the longest options, by their masks.
    assert!(511 + abi::NAME_MAX + 3 * 512 < bootp::ROOM);
    assert!(abi::CAPTURE_MAX < 2047);
};
