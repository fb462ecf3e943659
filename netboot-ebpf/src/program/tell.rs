//! What the daemon hears of: counters, events, and copies of answered packets.
//!
//! Nothing here waits for anybody: what finds its ring buffer full is counted and gone.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use netboot_ebpf::Reason;
use netboot_ebpf::abi::{self, CAPTURE_MAX, Captured, Event};

use super::load;
use super::maps::{CAPTURE, CAPTURED, COUNTERS, EVENTS, SCRATCH, Shot, TOLD};
use super::reply::wipe;

/// What may be told without end is told so often on each CPU, by its reason, nanoseconds.
const SELDOM_NS: u64 = 1_000_000_000;

#[inline(always)]
pub(super) fn count(counter: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: a value of this CPU's own, aligned by the map.
        unsafe { *value = (*value).wrapping_add(1) };
    }
}

/// Tells of every answer.
#[inline(always)]
pub(super) fn tell(event: &Event) {
    // The daemon looks by itself; to wake it for each answer would cost more than the answer.
    if EVENTS.output::<Event>(event, u64::from(BPF_RB_NO_WAKEUP)).is_err() {
        count(abi::EVENTS_LOST);
    }
}

/// Tells of one packet of many.
#[inline(always)]
pub(super) fn tell_seldom(reason: Reason, event: &Event) {
    let Some(last) = TOLD.get_ptr_mut(reason as u32) else { return };
    // SAFETY: a value of this CPU's own, aligned by the map.
    let last = unsafe { &mut *last };
    if event.at_ns.wrapping_sub(*last) > SELDOM_NS {
        *last = event.at_ns;
        tell(event);
    }
}

/// Says in words what should hardly ever happen, no more often than it is told. A function of its own, for the stack of the
/// logger is not to be that of each answer.
#[cold]
#[inline(never)]
pub(super) fn rare(reason: u32) {
    // Of one length, so that they are one text to the verifier.
    const NO_ROOM: &str = "the frame has no room";
    const NO_ENTRY: &str = "its entry was changed";
    const _: () = assert!(NO_ROOM.len() == NO_ENTRY.len());
    let (Some(scratch), Some(last)) = (SCRATCH.get_ptr_mut(0), TOLD.get_ptr_mut(reason)) else { return };
    // SAFETY: values of this CPU's own, aligned by the map, all integers; nothing else refers to them now.
    let (mac, at_ns, last) = unsafe { ((*scratch).event.mac, (*scratch).event.at_ns, *last) };
    if last == at_ns {
        let why = if reason == Reason::NoRoom as u32 { NO_ROOM } else { NO_ENTRY };
        warn!((), "{:mac} is left to the daemon: {}", mac, why);
    }
}

/// Somebody wants copies of answered packets.
#[inline(always)]
pub(super) fn captures(now: u64) -> bool {
    CAPTURE.get(0).is_some_and(|until| *until > now)
}

/// Copies the packet as it is now, a request.
#[inline(always)]
pub(super) fn capture_packet(ctx: &XdpContext, shot: &mut Shot, length: usize, now: u64) {
    capture(ctx, shot, length, now, 0);
}

/// Copies the packet as it is now, a reply.
#[inline(always)]
pub(super) fn capture_reply(ctx: &XdpContext, shot: &mut Shot, length: usize, now: u64) {
    capture(ctx, shot, length, now, 1);
}

#[inline(always)]
fn capture(ctx: &XdpContext, shot: &mut Shot, length: usize, now: u64, sent: u8) {
    let length = if length > CAPTURE_MAX { CAPTURE_MAX } else { length };
    let head: *mut u64 = (&raw mut shot.head).cast();
    // SAFETY: the head is two words, of which zeros are good ones.
    unsafe { wipe(head, 2) };
    (shot.head.at_ns, shot.head.length, shot.head.sent) = (now, length as u16, sent);
    // Read back: the verifier must not know less of it than the compiler does, which would leave out the look for 0.
    // SAFETY: comes from a reference.
    let length = usize::from(unsafe { (&raw const shot.head.length).read_volatile() }) & 2047;
    // SAFETY: the room is larger than that.
    if length == 0 || unsafe { load(ctx, 0, shot.bytes.as_mut_ptr(), length) } != 0 {
        return count(abi::CAPTURED_LOST);
    }
    let record: *const u8 = (&raw const *shot).cast();
    // SAFETY: the head and so many bytes behind it.
    let record = unsafe { core::slice::from_raw_parts(record, size_of::<Captured>() + length) };
    if CAPTURED.output::<[u8]>(record, u64::from(BPF_RB_NO_WAKEUP)).is_err() {
        count(abi::CAPTURED_LOST);
    }
}
