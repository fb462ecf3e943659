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
use netboot_ebpf::options::{Echo, Facts};
use netboot_ebpf::packet::{self, Destination, ETHERNET_ROOM, IP_UDP};
use netboot_ebpf::{Answer, Reason, csum};

use super::load;
use super::maps::{Frame, HALF};

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
    repeat(ctx, at, payload, guid_at, facts.guid)?;
    repeat(ctx, at, payload, client_id_at, facts.client_id)?;
    repeat(ctx, at, payload, relay_info_at, facts.relay_info)?;
    payload[end & (bootp::ROOM - 1)] = 255;
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
    for (number, byte) in host.name.iter().enumerate() {
        let place: *mut u8 = &raw mut payload[at + number];
        // SAFETY: comes from an index within the payload. Volatile: else the compiler would call a loop.
        unsafe { place.write_volatile(*byte) };
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

/// Copies an option of the request, with code and length, into the reply, and the byte behind it: there is one, END
/// at the latest, and what comes next in the reply is written over it. So an option that is not there is no
/// case of its own.
#[inline(always)]
fn repeat(
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
    // As much as the longest has: what is too much lies where the IPv4 header comes.
    // SAFETY: 15 and so many bytes are less than Ethernet and IPv4 headers have room.
    if unsafe { load(ctx, 0, frame.ethernet.as_mut_ptr().add(start), packet::ETHERNET_MOST) } != 0 {
        return Err(Reason::NoRoom);
    }
    for (number, (to, from)) in to.mac.iter().zip(&server.mac).enumerate() {
        frame.ethernet[start + number] = *to;
        frame.ethernet[start + 6 + number] = *from;
    }
    let udp = (8 + size) as u16;
    frame.ip = packet::ipv4(server.addr, to.addr, udp);
    frame.udp = packet::udp(to.port, udp);
    let checksum = csum::udp(sum(frame), server.addr.to_be_bytes(), to.addr.to_be_bytes(), udp).to_ne_bytes();
    frame.udp[6] = checksum[0];
    frame.udp[7] = checksum[1];
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
