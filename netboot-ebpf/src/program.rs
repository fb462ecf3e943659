//! The XDP program: glue between the kernel and the pure decisions of the library.
//!
//! It answers a request of a reserved machine, or passes the untouched packet up with a counted reason. It drops
//! nothing and changes nothing before all is decided: the reply is put together in memory of its own and
//! written over the request by one store.

use core::ffi::{c_long, c_void};
use core::mem::{align_of, offset_of, size_of};

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_TX};
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_RB_NO_WAKEUP, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_ktime_get_ns, bpf_loop, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
    bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::XdpContext;
use netboot_ebpf::abi::{self, Event, Reply, ReplyKey, Server};
use netboot_ebpf::bootp::{self, Header, LARGEST, SMALLEST};
use netboot_ebpf::options::{Area, Echo, Facts, LONGEST, Notes, STEPS};
use netboot_ebpf::packet::{self, ETHERNET, ETHERNET_TAGGED, IP_UDP};
use netboot_ebpf::{Answer, Host, Reason, Verdict, csum, decide};

#[map]
static REPLIES: HashMap<ReplyKey, Reply> =
    HashMap::with_max_entries(abi::REPLIES_CAPACITY, BPF_F_NO_PREALLOC);
#[map]
static SERVER: Array<Server> = Array::with_max_entries(1, 0);
#[map]
static BEAT: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(abi::COUNTERS, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(abi::EVENTS_BYTES, 0);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Memory for one packet; a program does not interrupt itself on its CPU.
#[repr(C)]
struct Scratch {
    area: Area,
    frame: Frame,
    hidden: u8,
}

/// The reply under construction. Its headers stand before it as they will in the frame.
#[repr(C, align(8))]
struct Frame {
    ethernet: [u8; 20],
    ip: [u8; 20],
    udp: [u8; 8],
    payload: [u8; bootp::ROOM],
}

/// What the checksum covers: UDP header and the largest reply, in two halves, for older kernels sum 512 bytes at most.
const HALF: usize = (8 + LARGEST).next_multiple_of(8) / 2;

#[xdp]
pub(crate) fn netboot(ctx: XdpContext) -> u32 {
    let (counter, action) = match run(&ctx) {
        Ok(Answer::Offer) => (abi::OFFERS, XDP_TX),
        Ok(Answer::Ack) => (abi::ACKS, XDP_TX),
        Err(reason) => (reason as u32, XDP_PASS),
    };
    count(counter);
    action
}

#[inline(always)]
fn count(counter: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: a value of this CPU's own, aligned by the map.
        unsafe { *value = (*value).wrapping_add(1) };
    }
}

#[inline(always)]
fn run(ctx: &XdpContext) -> Result<Answer, Reason> {
    let ethernet: &[u8; ETHERNET] = part(ctx, 0).ok_or(Reason::NotDhcp)?;
    match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
        packet::IPV4 => answer::<ETHERNET>(ctx, ethernet, None),
        packet::TAGGED => {
            let tag: &[u8; 4] = part(ctx, ETHERNET).ok_or(Reason::NotDhcp)?;
            if u16::from_be_bytes([tag[2], tag[3]]) != packet::IPV4 {
                return Err(Reason::NotDhcp);
            }
            answer::<ETHERNET_TAGGED>(ctx, ethernet, Some([tag[0], tag[1]]))
        }
        _ => Err(Reason::NotDhcp),
    }
}

/// Answers the request whose IPv4 header begins at `L2`.
#[inline(always)]
fn answer<const L2: usize>(
    ctx: &XdpContext,
    ethernet: &[u8; ETHERNET],
    tag: Option<[u8; 2]>,
) -> Result<Answer, Reason> {
    let server = SERVER.get(0).ok_or(Reason::NoEntry)?;
    let headers: &[u8; IP_UDP] = part(ctx, L2).ok_or(Reason::NotDhcp)?;
    // SAFETY: the context is the kernel's own.
    let length = unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) } as usize;
    let data = packet::request(headers, length.saturating_sub(L2), server.addr)?;
    if !packet::for_us(ethernet, &server.mac) {
        return Err(Reason::NotForUs);
    }
    let now = alive(server)?;
    let bytes: &[u8; bootp::HEADER] = part(ctx, L2 + IP_UDP).ok_or(Reason::Truncated)?;
    if data < bootp::HEADER {
        return Err(Reason::Truncated);
    }
    let header = Header::read(bytes)?;

    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Reason::NoEntry)?;
    // SAFETY: a value of this CPU's own, aligned by the map, all integers; nothing else refers to it now.
    let Scratch { area, frame, hidden } = unsafe { &mut *scratch };
    read_options::<L2>(ctx, area, data - bootp::HEADER)?;
    let mut facts = area.facts(&header)?;
    facts.request.rapid_commit &= server.rapid_commit != 0;
    if !facts.request.class.in_kernel() {
        return Err(Reason::OtherClass);
    }

    let key = ReplyKey { mac: header.mac(), class: unknown(hidden, facts.request.class as u8), pad: 0 };
    // SAFETY: if the daemon replaces the value while it is read, the second look below sees it.
    let reply = unsafe { REPLIES.get(&key) }.ok_or(Reason::Unknown)?;
    let (stamp, addr) = (reply.stamp, reply.addr);
    let answer = match decide(&facts.request, &Host { addr, server: server.addr }) {
        Verdict::Answer(answer) => unknown(hidden, answer as u8),
        Verdict::Pass(reason) => return Err(reason),
    };
    let answer = if answer == Answer::Offer as u8 { Answer::Offer } else { Answer::Ack };
    let size = build::<L2>(ctx, frame, reply, &header, &facts, answer)?;
    // SAFETY: as above; only the stamp is read.
    if unsafe { REPLIES.get(&key) }.map(|reply| reply.stamp) != Some(stamp) {
        return Err(Reason::NoEntry);
    }

    let to = header.destination(addr);
    packet::ethernet(&mut frame.ethernet, to.mac, server.mac, tag);
    let udp = (8 + size) as u16;
    frame.ip = packet::ipv4(server.addr, to.addr, udp);
    frame.udp = packet::udp(udp);
    let checksum = csum::udp(sum(frame), server.addr.to_be_bytes(), to.addr.to_be_bytes(), udp).to_ne_bytes();
    frame.udp[6] = checksum[0];
    frame.udp[7] = checksum[1];

    send::<L2>(ctx, frame, length, L2 + IP_UDP + size)?;
    let [x0, x1, x2, x3] = header.xid;
    tell(Event {
        at_ns: now,
        addr,
        xid: u32::from_be_bytes([x0, x1, x2, x3]),
        mac: key.mac,
        class: key.class,
        answer: answer as u8,
    });
    Ok(answer)
}

/// The same number, of which the verifier knows nothing: it would go on once for each value that it knows.
#[inline(always)]
fn unknown(hidden: &mut u8, number: u8) -> u8 {
    let hidden: *mut u8 = hidden;
    // SAFETY: comes from a reference.
    unsafe {
        hidden.write_volatile(number);
        hidden.read_volatile()
    }
}

/// The time, if the daemon was alive within the grace time.
#[inline(always)]
fn alive(server: &Server) -> Result<u64, Reason> {
    let beat = BEAT.get_ptr(0).ok_or(Reason::NoEntry)?;
    // SAFETY: aligned by the map. Volatile: read before the clock is, so that the beat is the older one.
    let beat = unsafe { beat.read_volatile() };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if beat == 0 || now.saturating_sub(beat) > server.grace_ns { Err(Reason::Stale) } else { Ok(now) }
}

/// Copies the options out of the packet and walks over them.
#[inline(always)]
fn read_options<const L2: usize>(ctx: &XdpContext, area: &mut Area, length: usize) -> Result<(), Reason> {
    if length == 0 {
        return Err(Reason::BadOptions);
    }
    if length > LONGEST {
        return Err(Reason::LongRequest);
    }
    let from = (L2 + IP_UDP + bootp::HEADER) as u32;
    // SAFETY: the area is larger than LONGEST.
    if unsafe { load(ctx, from, area.bytes.as_mut_ptr(), length as u32) } != 0 {
        return Err(Reason::BadLength);
    }
    // SAFETY: zero bytes are good notes.
    unsafe { wipe((&raw mut area.notes).cast(), size_of::<Notes>() / 8) };
    area.begin(length as u32);
    let mut walker: *mut Area = area;
    // SAFETY: the callback gets the address of `walker`, which outlives the call.
    unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut walker).cast(), 0) };
    Ok(())
}

/// One turn of the walk; 1 ends it.
unsafe extern "C" fn step(_turn: u64, walker: *mut *mut Area) -> c_long {
    // SAFETY: `read_options` passes a pointer to its area, which nobody else uses meanwhile.
    c_long::from(unsafe { &mut **walker }.step())
}

/// Puts the reply together by the rule at the top of `dhcp/options.rs` in the daemon; returns its length.
#[inline(always)]
fn build<const L2: usize>(
    ctx: &XdpContext,
    frame: &mut Frame,
    reply: &Reply,
    header: &Header,
    facts: &Facts,
    answer: Answer,
) -> Result<usize, Reason> {
    // The mask is TEMPLATE_MAX: a multiple of 4 below 512.
    let guid_at = reply.len as usize & abi::TEMPLATE_MAX;
    let client_id_at = guid_at + facts.guid.len;
    let end = client_id_at + facts.client_id.len;
    if end >= LARGEST {
        return Err(Reason::LongEcho);
    }
    let size = if end < SMALLEST { SMALLEST } else { end + 1 };
    if facts.request.max_size != 0 && usize::from(facts.request.max_size) < IP_UDP + size {
        return Err(Reason::TooSmall);
    }
    copy(&mut frame.payload, reply);
    let payload = &mut frame.payload;
    header.finish(payload, answer);
    repeat::<L2>(ctx, payload, guid_at, facts.guid)?;
    repeat::<L2>(ctx, payload, client_id_at, facts.client_id)?;
    payload[end & (bootp::ROOM - 1)] = 255;
    Ok(size)
}

/// Copies the template and clears what the largest reply and its checksum reach behind it. Word by word: bytes would
/// be a loop, which costs more than all the rest.
#[inline(always)]
fn copy(payload: &mut [u8; bootp::ROOM], reply: &Reply) {
    const WORDS: usize = 512 / 8;
    let to: *mut u64 = payload.as_mut_ptr().cast();
    // SAFETY: all of it lies within the payload; it and the template stand at multiples of 8, as asserted below.
    unsafe {
        core::ptr::copy_nonoverlapping(reply.bytes.as_ptr().cast(), to, WORDS);
        wipe(to.add(WORDS), (2 * HALF).div_ceil(8) - WORDS);
    }
}

/// Zeros, volatile: else the compiler would call a loop over bytes.
///
/// # Safety
/// So many words at `to` must be writable, and good as zeros.
#[inline(always)]
unsafe fn wipe(to: *mut u64, words: usize) {
    for word in 0..words {
        // SAFETY: see above.
        unsafe { to.add(word).write_volatile(0) };
    }
}

/// Copies an option of the request, with code and length, into the reply, and the byte behind it: there is one, END
/// at the latest, and what comes next in the reply is written over it. So an option that is not there is no
/// case of its own.
#[inline(always)]
fn repeat<const L2: usize>(
    ctx: &XdpContext,
    payload: &mut [u8; bootp::ROOM],
    at: usize,
    option: Echo,
) -> Result<(), Reason> {
    let from = (L2 + IP_UDP + bootp::HEADER + option.at) as u32;
    let Some(place) = payload.get_mut(at) else { return Err(Reason::LongEcho) };
    // SAFETY: `build` has seen to it that both options fit.
    if unsafe { load(ctx, from, place, option.len as u32 + 1) } != 0 {
        return Err(Reason::BadLength);
    }
    Ok(())
}

/// The sum of UDP header and data. What is behind the data is zero.
#[inline(always)]
fn sum(frame: &mut Frame) -> u64 {
    let udp: *mut u8 = (&raw mut frame.udp).cast();
    // SAFETY: both halves lie within header and payload.
    unsafe {
        let first = bpf_csum_diff(core::ptr::null_mut(), 0, udp.cast(), HALF as u32, 0);
        bpf_csum_diff(core::ptr::null_mut(), 0, udp.add(HALF).cast(), HALF as u32, first as u32) as u64
    }
}

/// Gives the packet its new length and writes the reply over it.
#[inline(always)]
fn send<const L2: usize>(ctx: &XdpContext, frame: &mut Frame, old: usize, new: usize) -> Result<(), Reason> {
    let grows = new as i32 - old as i32;
    // SAFETY: helpers of the kernel, which check the context and the lengths themselves. The frame's bytes from
    // the beginning of the Ethernet header on are `new` at most.
    unsafe {
        let md: *mut xdp_md = ctx.ctx;
        // Some drivers leave no room behind a packet, but all leave some before it.
        if grows > 0 && bpf_xdp_adjust_tail(md, grows) != 0 && bpf_xdp_adjust_head(md, -grows) != 0 {
            return Err(Reason::NoRoom);
        }
        let bytes: *mut u8 = (&raw mut frame.ethernet).cast::<u8>().add(20 - L2);
        // It fails only outside of the packet, and before it has written.
        if bpf_xdp_store_bytes(md, 0, bytes.cast(), new as u32) != 0 {
            return Err(Reason::NoRoom);
        }
        if grows < 0 {
            bpf_xdp_adjust_tail(md, grows);
        }
    }
    Ok(())
}

#[inline(always)]
fn tell(event: Event) {
    match EVENTS.reserve::<Event>(0) {
        Some(mut place) => {
            place.write(event);
            // The daemon looks by itself; to wake it for each answer would cost more than the answer.
            place.submit(u64::from(BPF_RB_NO_WAKEUP));
        }
        None => count(abi::EVENTS_LOST),
    }
}

/// A part of the packet, if it is there.
#[inline(always)]
fn part<const N: usize>(ctx: &XdpContext, at: usize) -> Option<&[u8; N]> {
    let start = ctx.data() + at;
    if start + N > ctx.data_end() {
        return None;
    }
    // SAFETY: within the packet, as the verifier sees too; bytes have no alignment.
    Some(unsafe { &*(start as *const [u8; N]) })
}

/// Copies bytes of the packet.
///
/// # Safety
/// `length` bytes at `to` must be writable.
#[inline(always)]
unsafe fn load(ctx: &XdpContext, from: u32, to: *mut u8, length: u32) -> i64 {
    // SAFETY: the kernel checks the packet's side, the caller the other.
    unsafe { bpf_xdp_load_bytes(ctx.ctx, from, to.cast(), length) }
}

const _: () = {
    assert!(size_of::<Frame>() == 48 + bootp::ROOM);
    assert!(align_of::<Notes>() == 8 && size_of::<Notes>().is_multiple_of(8));
    assert!(offset_of!(Frame, payload).is_multiple_of(8) && align_of::<Frame>() == 8);
    assert!(offset_of!(Reply, bytes).is_multiple_of(8) && align_of::<Reply>() == 8);
    assert!(8 + LARGEST <= 2 * HALF && HALF.is_multiple_of(4) && HALF <= 512);
    // The longest template and two of the longest options, by their masks.
    assert!(abi::TEMPLATE_MAX + 2 * 511 < bootp::ROOM);
};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
