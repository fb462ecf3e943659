//! The reply: put together from template, name and request, and written over the packet.
//!
//! By the rule at the top of `dhcp/options.rs` in the daemon. Nothing here decides whether there is one.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::XdpContext;
use netboot_ebpf::abi::{self, Host, Server, Template};
use netboot_ebpf::bootp::{self, Header, LARGEST, SMALLEST};
use netboot_ebpf::options::{Area, Echo, Facts, LONGEST};
use netboot_ebpf::packet::{self, Destination, ETHERNET_ROOM, IP_UDP};
use netboot_ebpf::{Answer, Reason, csum};

use super::maps::{AT_ONCE, Frame, HALF};
use super::{load, part};

/// The same for words at each of these places. Not a loop, of which the compiler would make a call.
macro_rules! words {
    ($what:ident $places:tt $($at:literal)+) => { $($what::<$at> $places;)+ };
}

/// Puts the reply together; returns its length.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "what a reply is made of")]
pub(super) fn build(
    ctx: &XdpContext,
    at: usize,
    frame: &mut Frame,
    template: &Template,
    host: &Host,
    header: &Header,
    area: &Area,
    facts: &Facts,
    answer: Answer,
) -> Result<usize, Reason> {
    let name_at = template.len as usize & 511;
    let guid_at = name_at + (host.name_len as usize & 127);
    let client_id_at = guid_at + facts.guid.len;
    let relay_info_at = client_id_at + facts.client_id.len;
    let end = relay_info_at + facts.relay_info.len;
    if end >= LARGEST {
        return Err(Reason::LongEcho);
    }
    let size = if end < SMALLEST { SMALLEST } else { end + 1 };
    if facts.request.max_size != 0 && usize::from(facts.request.max_size) < IP_UDP + size {
        return Err(Reason::TooSmall);
    }
    copy(&mut frame.payload, template);
    let payload = &mut frame.payload;
    header.finish(payload, host.addr, answer);
    name(payload, name_at, host);
    let long = facts.guid.len > SHORT || facts.client_id.len > SHORT || facts.relay_info.len > SHORT;
    if long {
        repeat_long(ctx, at, payload, guid_at, facts.guid)?;
        repeat_long(ctx, at, payload, client_id_at, facts.client_id)?;
        repeat_long(ctx, at, payload, relay_info_at, facts.relay_info)?;
    } else {
        repeat_short(area, payload, guid_at, facts.guid);
        repeat_short(area, payload, client_id_at, facts.client_id);
        repeat_short(area, payload, relay_info_at, facts.relay_info);
    }
    finish(payload, end);
    Ok(size)
}

/// Copies the template and clears what the largest reply and its checksum reach behind it. Word by word: bytes would
/// be a loop, which costs more than all the rest.
#[inline(always)]
fn copy(payload: &mut [u8; bootp::ROOM], template: &Template) {
    const WORDS: usize = 512 / 8;
    let to: *mut u64 = payload.as_mut_ptr().cast();
    // SAFETY: all of it lies within the payload; it and the template stand at multiples of 8, as asserted in `maps`.
    unsafe {
        core::ptr::copy_nonoverlapping(template.bytes.as_ptr().cast(), to, WORDS);
        wipe(to.add(WORDS), (2 * HALF).div_ceil(8) - WORDS);
    }
}

/// Copies the machine's name behind the template, and the zeros behind the name.
#[inline(always)]
fn name(payload: &mut [u8; bootp::ROOM], at: usize, host: &Host) {
    const _: () = assert!(abi::NAME_MAX == 9 * 8);
    let (from, to): (*const u8, *mut u8) = (host.name.as_ptr(), &raw mut payload[at]);
    // SAFETY: nine words are the name, and the payload has room for it behind every template.
    unsafe {
        words!(copy_word(from, to) 0 8 16 24 32 40 48 56 64);
    }
}

/// Zeros, volatile: else the compiler would call a loop over bytes.
///
/// # Safety
/// So many words at `to` must be writable, and good as zeros.
#[inline(always)]
pub(super) unsafe fn wipe(to: *mut u64, words: usize) {
    for word in 0..words {
        // SAFETY: see above.
        unsafe { to.add(word).write_volatile(0) };
    }
}

/// Options of so many bytes, with code and length, are copied word by word.
const SHORT: usize = 64;

/// Copies an option of the request, with code and length, and what is behind it up to [`SHORT`] bytes, which what comes next
/// in the reply is written over. So an option that is not there is no case of its own.
#[inline(always)]
fn repeat_short(area: &Area, payload: &mut [u8; bootp::ROOM], to: usize, option: Echo) {
    let from: *const u8 = area.bytes.as_ptr();
    let to: *mut u8 = &raw mut payload[to & (bootp::ROOM / 2 - 1)];
    // SAFETY: the masked places and so many bytes behind them are within area and payload.
    unsafe {
        let from = from.add(option.at & (LONGEST - 1));
        words!(copy_word(from, to) 0 8 16 24 32 40 48 56);
    }
}

/// Copies eight bytes, wherever they stand.
///
/// # Safety
/// They must be readable and writable.
#[inline(always)]
unsafe fn copy_word<const AT: i16>(from: *const u8, to: *mut u8) {
    // SAFETY: see above. In words of the machine, which bears what does not stand at a multiple of 8, as the compiler
    // does not know: it would copy byte by byte.
    unsafe {
        core::arch::asm!(
            "{word} = *(u64 *)({from} + {at})",
            "*(u64 *)({to} + {at}) = {word}",
            word = out(reg) _,
            from = in(reg) from,
            to = in(reg) to,
            at = const AT,
        );
    }
}

/// The same for an option of any length, out of the packet, and the byte behind it: there is one, END at the latest.
#[inline(always)]
fn repeat_long(
    ctx: &XdpContext,
    at: usize,
    payload: &mut [u8; bootp::ROOM],
    to: usize,
    option: Echo,
) -> Result<(), Reason> {
    let from = at + IP_UDP + bootp::HEADER + option.at;
    let Some(place) = payload.get_mut(to) else { return Err(Reason::LongEcho) };
    // SAFETY: `build` has seen to it that all options fit.
    if unsafe { load(ctx, from, place, option.len + 1) } != 0 {
        return Err(Reason::BadLength);
    }
    Ok(())
}

/// Writes END, and zeros over what was copied too far.
#[inline(always)]
fn finish(payload: &mut [u8; bootp::ROOM], end: usize) {
    let end: *mut u8 = &raw mut payload[end & (bootp::ROOM / 2 - 1)];
    // SAFETY: the masked place and so many bytes behind it are within the payload.
    unsafe {
        end.write_volatile(255);
        let behind = end.add(1);
        words!(zero_word(behind) 0 8 16 24 32 40 48 56);
    }
}

/// Writes eight zeros.
///
/// # Safety
/// They must be writable.
#[inline(always)]
unsafe fn zero_word<const AT: i16>(to: *mut u8) {
    // SAFETY: see above; in words as in `copy_word`.
    unsafe {
        core::arch::asm!("*(u64 *)({to} + {at}) = {zero}", to = in(reg) to, at = const AT, zero = in(reg) 0u64);
    }
}

/// Puts the headers before the reply. The Ethernet header is the request's, with its tags, to another address.
#[inline(always)]
pub(super) fn envelope(
    ctx: &XdpContext,
    at: usize,
    frame: &mut Frame,
    server: &Server,
    to: &Destination,
    size: usize,
) -> Result<(), Reason> {
    let start = (ETHERNET_ROOM - at) & 15;
    let sent: &[u8; packet::ETHERNET_MOST] = part(ctx, 0).ok_or(Reason::NoRoom)?;
    // As much as the longest has: what is too much lies where the IPv4 header comes.
    for (number, byte) in sent.iter().enumerate().skip(12) {
        let place: *mut u8 = frame.ethernet.as_mut_ptr().wrapping_add(start + number);
        // SAFETY: 15 and so many bytes are less than Ethernet and IPv4 headers have room. Volatile: else the compiler
        // would call a loop.
        unsafe { place.write_volatile(*byte) };
    }
    for (number, (to, from)) in to.mac.iter().zip(&server.mac).enumerate() {
        frame.ethernet[start + number] = *to;
        frame.ethernet[start + 6 + number] = *from;
    }
    let udp = (8 + size) as u16;
    frame.ip = packet::ipv4(server.addr, to.addr, udp);
    frame.udp = packet::udp(to.port, udp);
    let checksum =
        csum::udp(sum(frame, size), server.addr.to_be_bytes(), to.addr.to_be_bytes(), udp).to_ne_bytes();
    frame.udp[6] = checksum[0];
    frame.udp[7] = checksum[1];
    Ok(())
}

/// The sum of UDP header and data. What is behind the data is zero.
#[inline(always)]
fn sum(frame: &mut Frame, size: usize) -> u64 {
    let udp: *mut u8 = (&raw mut frame.udp).cast();
    // SAFETY: all of it lies within header and payload.
    unsafe {
        if 8 + size <= AT_ONCE {
            return bpf_csum_diff(core::ptr::null_mut(), 0, udp.cast(), AT_ONCE as u32, 0) as u64;
        }
        let first = bpf_csum_diff(core::ptr::null_mut(), 0, udp.cast(), HALF as u32, 0);
        bpf_csum_diff(core::ptr::null_mut(), 0, udp.add(HALF).cast(), HALF as u32, first as u32) as u64
    }
}

/// Gives the packet its new length and writes the reply over it. `at` is where IPv4 begins, in the request and in the
/// reply.
#[inline(always)]
pub(super) fn send(
    ctx: &XdpContext,
    frame: &mut Frame,
    at: usize,
    old: usize,
    new: usize,
) -> Result<(), Reason> {
    let grows = new as i32 - old as i32;
    // SAFETY: helpers of the kernel, which check the context and the lengths themselves. The frame's bytes from
    // the beginning of the Ethernet header on are `new` at most.
    unsafe {
        let md: *mut xdp_md = ctx.ctx;
        // Some drivers leave no room behind a packet, but all leave some before it.
        if grows > 0 && bpf_xdp_adjust_tail(md, grows) != 0 && bpf_xdp_adjust_head(md, -grows) != 0 {
            return Err(Reason::NoRoom);
        }
        let bytes: *mut u8 = (&raw mut frame.ethernet).cast::<u8>().add((ETHERNET_ROOM - at) & 15);
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

const _: () = {
    assert!(packet::ETHERNET_MOST + IP_UDP + LARGEST < 1024);
    assert!(abi::NAME_MAX < 127);
};
