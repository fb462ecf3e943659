//! The XDP program: glue between the kernel and the pure decisions of the library.
//!
//! It answers a request of a machine that it knows, or passes the untouched packet up with a counted reason. It drops
//! nothing but what a limit of the operator forbids, and changes nothing before all is decided: the reply is put together in
//! memory of its own and written over the request by one store.

mod maps;
mod reply;
mod tell;

use core::ffi::{c_long, c_void};
use core::mem::size_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_coarse_ns, bpf_loop, bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
};
use aya_ebpf::macros::xdp;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::XdpContext;
use netboot_ebpf::abi::{self, Event, GuardKey, HostKey, Server, what};
use netboot_ebpf::bootp::{self, Header};
use netboot_ebpf::guard::{self, Bucket};
use netboot_ebpf::options::{Area, LONGEST, Notes, STEPS};
use netboot_ebpf::packet::{self, ETHERNET, IP_UDP, Kind, TAG, Tags};
use netboot_ebpf::route::{self, Arrival};
use netboot_ebpf::{Answer, Host, Reason, Verdict, decide};

use maps::{BEAT, GUARD, HEAD, HOSTS, RELAYS, SCRATCH, SERVER, Scratch, TEMPLATES};
use tell::{count, tell, tell_seldom};

#[xdp(frags)]
pub(crate) fn netboot(ctx: XdpContext) -> u32 {
    let (counter, action) = match run(&ctx) {
        Ok(Answer::Offer) => (abi::OFFERS, XDP_TX),
        Ok(Answer::Ack) => (abi::ACKS, XDP_TX),
        Err(reason) if reason.drops() => (reason as u32, XDP_DROP),
        Err(reason) => (reason as u32, XDP_PASS),
    };
    count(counter);
    if counter == Reason::NoRoom as u32 || counter == Reason::NoEntry as u32 {
        tell::rare(counter);
    }
    action
}

/// A frame that may be a DHCP packet.
struct Found {
    /// Where its IPv4 header begins.
    at: usize,
    /// Its VLAN tags.
    tags: Tags,
    /// Who speaks to whom.
    kind: Kind,
}

#[inline(always)]
fn run(ctx: &XdpContext) -> Result<Answer, Reason> {
    let found = find(ctx)?;
    let server = SERVER.get(0).ok_or(Reason::NoEntry)?;
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Reason::NoEntry)?;
    // SAFETY: a value of this CPU's own, aligned by the map, all integers; nothing else refers to it now.
    let scratch = unsafe { &mut *scratch };
    let found = found.seen_anew(&mut scratch.hidden);
    if !found.tags.are(server.tags, server.vlan) {
        return Err(Reason::OtherVlan);
    }
    match found.kind {
        Kind::ToServer => answer(ctx, &found, server, scratch),
        Kind::ToClient => Err(overheard(ctx, &found, server, scratch)),
    }
}

impl Found {
    /// The same, of which the verifier knows nothing: else it would go through all that follows once for each number of
    /// tags.
    #[inline(always)]
    fn seen_anew(mut self, hidden: &mut u8) -> Self {
        self.at = usize::from(unknown(hidden, self.at as u8)) & 31;
        self.tags.count = unknown(hidden, self.tags.count);
        self
    }
}

/// Looks for a DHCP packet behind the Ethernet header and at most two tags. Most packets are none, and end here.
#[inline(always)]
fn find(ctx: &XdpContext) -> Result<Found, Reason> {
    let ethernet: &[u8; ETHERNET] = part(ctx, 0).ok_or(Reason::NotDhcp)?;
    let outer = u16::from_be_bytes([ethernet[12], ethernet[13]]);
    if outer == packet::IPV4 {
        return Ok(Found { at: ETHERNET, tags: Tags::default(), kind: kind::<ETHERNET>(ctx)? });
    }
    if !packet::is_tag(outer) {
        return Err(Reason::NotDhcp);
    }
    let [t0, t1, k0, k1] = *part(ctx, ETHERNET).ok_or(Reason::NotDhcp)?;
    let first = [ethernet[12], ethernet[13], t0, t1];
    let inner = u16::from_be_bytes([k0, k1]);
    if inner == packet::IPV4 {
        let tags = Tags { count: 1, first, second: [0; 4] };
        return Ok(Found { at: ETHERNET + TAG, tags, kind: kind::<{ ETHERNET + TAG }>(ctx)? });
    }
    let [t2, t3, k2, k3] = *part(ctx, ETHERNET + TAG).ok_or(Reason::NotDhcp)?;
    if inner != packet::TAGGED || u16::from_be_bytes([k2, k3]) != packet::IPV4 {
        return Err(Reason::NotDhcp);
    }
    let tags = Tags { count: 2, first, second: [k0, k1, t2, t3] };
    Ok(Found { at: ETHERNET + 2 * TAG, tags, kind: kind::<{ ETHERNET + 2 * TAG }>(ctx)? })
}

#[inline(always)]
fn kind<const AT: usize>(ctx: &XdpContext) -> Result<Kind, Reason> {
    packet::kind(part(ctx, AT).ok_or(Reason::NotDhcp)?)
}

/// Another server speaks to a client, for this one's own words do not come in here.
#[cold]
#[inline(always)]
fn overheard(ctx: &XdpContext, found: &Found, server: &Server, scratch: &mut Scratch) -> Reason {
    let Scratch { head, event, .. } = scratch;
    // SAFETY: the place has so many bytes.
    if server.watch == 0 || unsafe { load(ctx, found.at, head.as_mut_ptr(), head.len()) } != 0 {
        return Reason::NotDhcp;
    }
    let from = u32::from_be_bytes(packet::field(head, 12));
    let Some(bootp) = head.last_chunk::<{ bootp::HEADER }>() else { return Reason::NotDhcp };
    let relayed = packet::field(bootp, 24) != [0u8; 4];
    // What a relay agent brings may be this server's own reply.
    if bootp[0] != 2 || relayed || from == server.addr {
        return Reason::NotDhcp;
    }
    let mac = part(ctx, 6).copied().unwrap_or_default();
    *event = Event {
        at_ns: now(),
        addr: from,
        xid: u32::from_be_bytes(packet::field(bootp, 4)),
        giaddr: 0,
        mac,
        class: 0,
        what: what::FOREIGN,
        detail: Reason::ForeignServer as u8,
        pad: [0; 3],
    };
    tell_seldom(Reason::ForeignServer, event);
    Reason::ForeignServer
}

/// Answers a request to this server.
#[inline(always)]
fn answer(ctx: &XdpContext, found: &Found, server: &Server, scratch: &mut Scratch) -> Result<Answer, Reason> {
    let ethernet: &[u8; ETHERNET] = part(ctx, 0).ok_or(Reason::NotDhcp)?;
    if !packet::for_us(ethernet, &server.mac) {
        return Err(Reason::NotForUs);
    }
    let from = packet::field(ethernet, 6);
    let Scratch { area, frame, head, header, event, shot, to, hidden, hidden_size } = scratch;
    // SAFETY: the context is the kernel's own.
    let length = unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) } as usize;
    let headers: &[u8; IP_UDP] = part_at(ctx, found.at).ok_or(Reason::NotDhcp)?;
    let datagram = packet::request(headers, length.saturating_sub(found.at), server.addr)?;
    let now = alive(server)?;
    let whole: &[u8; HEAD] = part_at(ctx, found.at).ok_or(Reason::Truncated)?;
    if datagram.length < bootp::HEADER {
        return Err(Reason::Truncated);
    }
    let bytes: &[u8; bootp::HEADER] = whole.last_chunk().ok_or(Reason::Truncated)?;
    Header::check(bytes)?;
    let key = HostKey { mac: Header::sender(bytes), pad: [0; 2] };
    // SAFETY: if the daemon replaces the value while it is read, the second look below sees it.
    let host = unsafe { HOSTS.get(&key) };
    // As soon as can be: most that ask are unknown when a flood comes, and nothing of theirs is wanted any more.
    if host.is_none() && server.limits.are_off() {
        return Err(Reason::Unknown);
    }
    // Kept there and not on the stack, for it is wanted until the end.
    *header = Header::read(bytes)?;
    let header: &Header = header;
    *event = Event {
        at_ns: now,
        addr: 0,
        xid: u32::from_be_bytes(header.xid),
        giaddr: u32::from_be_bytes(header.giaddr),
        mac: header.mac(),
        class: 0,
        what: what::PASSED,
        detail: 0,
        pad: [0; 3],
    };
    let outcome = (|| {
        if !server.limits.are_off() {
            // SAFETY: the place has so many bytes.
            if unsafe { load(ctx, found.at, head.as_mut_ptr(), head.len()) } != 0 {
                return Err(Reason::Truncated);
            }
            match admit(server, head, now) {
                0 => {}
                1 => return Err(Reason::Duplicate),
                2 => return Err(Reason::MacRate),
                _ => return Err(Reason::RelayRate),
            }
        }
        let host = host.ok_or(Reason::Unknown)?;
        let (stamp, addr, segment) = (host.stamp, host.addr, host.segment);
        let leased = host.valid_until_ns != 0;
        if leased && now >= host.valid_until_ns {
            return Err(Reason::LeaseEnded);
        }
        read_options(ctx, found.at, area, datagram.length - bootp::HEADER)?;
        let mut facts = area.facts(header)?;
        facts.request.rapid_commit &= server.rapid_commit != 0;
        let relay = relay_segment(header);
        route::belongs(header, datagram.unicast, relay, segment, addr)?;
        let answer = match decide(&facts.request, &Host { addr, leased, server: server.addr }) {
            Verdict::Answer(answer) => unknown(hidden, answer as u8),
            Verdict::Pass(reason) => return Err(reason),
        };
        let answer = if answer == Answer::Offer as u8 { Answer::Offer } else { Answer::Ack };
        let class = unknown(hidden, facts.request.class as u8);
        let slot = host.slots[class as usize & 15];
        let template = TEMPLATES.get(slot as u32).ok_or(Reason::OtherClass)?;

        let size = reply::build(ctx, found.at, frame, template, host, header, area, &facts, answer)?;
        // SAFETY: as above; only the stamp is read.
        if unsafe { HOSTS.get(&key) }.map(|host| host.stamp) != Some(stamp) {
            return Err(Reason::NoEntry);
        }
        let size = usize::from(unknown(hidden_size, size as u16)) & 1023;
        let to =
            unknown(to, route::back(header, &Arrival { from, unicast: datagram.unicast }, segment, addr));
        reply::envelope(ctx, found.at, frame, server, &to, size)?;
        let captures = tell::captures(now);
        if captures {
            tell::capture_packet(ctx, shot, length, now);
        }
        let new = found.at + IP_UDP + size;
        reply::send(ctx, frame, found.at, length, new)?;
        if captures {
            tell::capture_reply(ctx, shot, new, now);
        }
        (event.addr, event.class) = (addr, class);
        (event.what, event.detail) = (what::ANSWERED, answer as u8);
        tell(event);
        Ok(answer)
    })();
    if let Err(reason) = outcome {
        let what = if reason.drops() { what::DROPPED } else { what::PASSED };
        // Unknown machines are the daemon's, and told by it.
        if reason as u8 != Reason::Unknown as u8 {
            (event.what, event.detail) = (what, reason as u8);
            tell_seldom(reason, event);
        }
    }
    outcome
}

/// Holds a request against the operator's limits: 0 admits it. A function of its own, for what the
/// verifier has seen here it forgets behind it.
#[inline(never)]
fn admit(server: &Server, head: &[u8; HEAD], now: u64) -> u32 {
    let limits = &server.limits;
    let giaddr: [u8; 4] = packet::field(head, IP_UDP + 24);
    let who = packet::field(head, IP_UDP + 28);
    let Some(client) = bucket(&GuardKey { who, relay: 0, pad: 0 }, limits.mac_rate, server, now) else {
        // No memory for it: a limit is no reason that a machine does not boot.
        return 0;
    };
    let [g0, g1, g2, g3] = giaddr;
    let relay = if limits.relay_rate != 0 && giaddr != [0; 4] {
        bucket(&GuardKey { who: [g0, g1, g2, g3, 0, 0], relay: 1, pad: 0 }, limits.relay_rate, server, now)
    } else {
        None
    };
    let Some(headers) = head.first_chunk() else { return 0 };
    let (checksum, unfinished, length) = packet::checksums(headers);
    let xid = u32::from_be_bytes(packet::field(head, IP_UDP + 4));
    match guard::admit(limits, client, relay, guard::packet(xid, checksum, unfinished, length), now) {
        Ok(()) => 0,
        Err(Reason::Duplicate) => 1,
        Err(Reason::MacRate) => 2,
        Err(_) => 3,
    }
}

/// The bucket of a client or relay agent, made if there is none.
#[inline(always)]
fn bucket(key: &GuardKey, rate: u32, server: &Server, now: u64) -> Option<&'static mut Bucket> {
    if let Some(bucket) = GUARD.get_ptr_mut(key) {
        // SAFETY: aligned by the map. Two CPUs may look at one bucket at a time: then one of two requests is not
        // counted, which a limit can bear.
        return Some(unsafe { &mut *bucket });
    }
    let _ = GUARD.insert(key, Bucket::full(rate, server.limits.burst_secs, now), 0);
    // SAFETY: as above.
    GUARD.get_ptr_mut(key).map(|bucket| unsafe { &mut *bucket })
}

/// The subnet of the relay agent.
#[inline(always)]
fn relay_segment(header: &Header) -> Option<u32> {
    if header.giaddr == [0; 4] {
        return None;
    }
    RELAYS.get(Key::new(32, header.giaddr)).copied()
}

/// The same value, of which the verifier knows nothing: it would go on once for each value that it knows.
#[inline(always)]
fn unknown<T: Copy>(hidden: &mut T, number: T) -> T {
    let hidden: *mut T = hidden;
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
    let now = now();
    if beat == 0 || now.saturating_sub(beat) > server.grace_ns { Err(Reason::Stale) } else { Ok(now) }
}

/// Nanoseconds of the monotonic clock at its last tick, some milliseconds ago: to read the clock itself takes longer than
/// to find out that a machine is unknown.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Copies the options out of the packet and walks over them.
#[inline(always)]
fn read_options(ctx: &XdpContext, at: usize, area: &mut Area, length: usize) -> Result<(), Reason> {
    if length == 0 {
        return Err(Reason::BadOptions);
    }
    if length > LONGEST {
        return Err(Reason::LongRequest);
    }
    // SAFETY: the area is larger than LONGEST.
    if unsafe { load(ctx, at + IP_UDP + bootp::HEADER, area.bytes.as_mut_ptr(), length) } != 0 {
        return Err(Reason::BadLength);
    }
    // SAFETY: zero bytes are good notes.
    unsafe { reply::wipe((&raw mut area.notes).cast(), size_of::<Notes>() / 8) };
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

/// The same at a place of which the verifier knows only that it is below 32.
#[inline(always)]
fn part_at<const N: usize>(ctx: &XdpContext, at: usize) -> Option<&[u8; N]> {
    let mut start = ctx.data() + (at & 31);
    // SAFETY: does nothing. What is compared must be what is used, and no copy: each sum is another pointer to the verifier.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) start) };
    if start + N > ctx.data_end() {
        return None;
    }
    // SAFETY: as above.
    Some(unsafe { &*(start as *const [u8; N]) })
}

/// Copies bytes of the packet; 0: they were there.
///
/// # Safety
/// `length` bytes at `to` must be writable.
#[inline(always)]
unsafe fn load(ctx: &XdpContext, from: usize, to: *mut u8, length: usize) -> i64 {
    // SAFETY: the kernel checks the packet's side, the caller the other.
    unsafe { bpf_xdp_load_bytes(ctx.ctx, from as u32, to.cast(), length as u32) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
