//! What the XDP program will do with a frame, by its own library on this side: step by step what `program.rs` does in the
//! kernel, without the kernel.
//!
//! The steps and their order are written down here once more on purpose; what each of them decides is not.

use std::ops::Range;

use netboot::fastpath::entries::Machine;
use netboot::mac::Mac;
use netboot_ebpf::bootp::{self, Header, LARGEST, SMALLEST};
use netboot_ebpf::packet::{self, ETHERNET, IP_UDP, IPV4, Kind, TAG, TAGGED, Tags};
use netboot_ebpf::{Answer, Class, Host, Reason, Verdict, decide, route};

use super::requests::SERVER_MAC;
use super::site::Place;
use super::verdict;
use super::world::SERVER;

/// An answer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// OFFER or ACK.
    pub(crate) answer: Answer,
    /// The class of client.
    pub(crate) class: Class,
    /// The machine's address.
    pub(crate) addr: u32,
    /// The header of the request.
    pub(crate) header: Header,
}

/// A datagram that may be a client's: where its IPv4 header begins, and its tags.
struct Found {
    at: usize,
    tags: Tags,
    kind: Kind,
}

/// What the program does with a frame at a place, while the daemon is alive and nothing is limited.
///
/// # Errors
/// Why it passes it up.
pub(crate) fn predict(frame: &[u8], place: &Place) -> Result<Answered, Reason> {
    let found = find(frame)?;
    if !found.tags.are(place.tags, place.vlan) {
        return Err(Reason::OtherVlan);
    }
    match found.kind {
        Kind::ToServer => answer(frame, found.at, place),
        Kind::ToClient => Err(overheard(frame, found.at)),
    }
}

/// The UDP data of a request that the program has answered, and whether it was sent to this server alone; `None` if it is no
/// such datagram.
pub(crate) fn payload(frame: &[u8]) -> Option<(Range<usize>, bool)> {
    let found = find(frame).ok()?;
    let headers: &[u8; IP_UDP] = part(frame, found.at)?;
    let datagram = packet::request(headers, frame.len() - found.at, SERVER.to_bits()).ok()?;
    let begin = found.at + IP_UDP;
    Some((begin..begin + datagram.length, datagram.unicast))
}

fn part<const N: usize>(frame: &[u8], at: usize) -> Option<&[u8; N]> {
    frame.get(at..)?.first_chunk()
}

fn find(frame: &[u8]) -> Result<Found, Reason> {
    let four = |at| part::<4>(frame, at).copied().ok_or(Reason::NotDhcp);
    let kind_at = |at: usize| Ok(u16::from_be_bytes(*part(frame, at).ok_or(Reason::NotDhcp)?));
    let mut tags = Tags::default();
    let mut at = ETHERNET;
    let outer = kind_at(ETHERNET - 2)?;
    if outer != IPV4 {
        if !packet::is_tag(outer) {
            return Err(Reason::NotDhcp);
        }
        tags = Tags { count: 1, first: four(ETHERNET - 2)?, second: [0; 4] };
        at += TAG;
        let inner = kind_at(at - 2)?;
        if inner != IPV4 {
            if inner != TAGGED || kind_at(at + TAG - 2)? != IPV4 {
                return Err(Reason::NotDhcp);
            }
            tags = Tags { count: 2, second: four(at - 2)?, ..tags };
            at += TAG;
        }
    }
    let headers = part(frame, at).ok_or(Reason::NotDhcp)?;
    Ok(Found { at, tags, kind: packet::kind(headers)? })
}

/// Another server speaks to a client.
fn overheard(frame: &[u8], at: usize) -> Reason {
    let Some(head) = part::<{ IP_UDP + bootp::HEADER }>(frame, at) else { return Reason::NotDhcp };
    let (from, reply) = (&head[12..16], &head[IP_UDP..]);
    let foreign = reply[0] == 2 && reply[24..28] == [0; 4] && from != SERVER.octets();
    if foreign { Reason::ForeignServer } else { Reason::NotDhcp }
}

fn answer(frame: &[u8], at: usize, place: &Place) -> Result<Answered, Reason> {
    let ethernet = part(frame, 0).ok_or(Reason::NotDhcp)?;
    if !packet::for_us(ethernet, &SERVER_MAC.0) {
        return Err(Reason::NotForUs);
    }
    let headers = part(frame, at).ok_or(Reason::NotDhcp)?;
    let datagram = packet::request(headers, frame.len() - at, SERVER.to_bits())?;
    let payload = &frame[at + IP_UDP..at + IP_UDP + datagram.length];
    let header = Header::read(payload.first_chunk().ok_or(Reason::Truncated)?)?;
    let machine = machine(place, &header).ok_or(Reason::Unknown)?;
    let leased = machine.valid_until_ns != 0;
    // The others end in the far future.
    if machine.valid_until_ns == 1 {
        return Err(Reason::LeaseEnded);
    }
    let (header, mut facts) = verdict::facts(payload)?;
    facts.request.rapid_commit &= place.own.rapid_commit;
    let group = &place.entries.groups[machine.group];
    let addr = machine.addr.to_bits();
    route::belongs(&header, datagram.unicast, relay(place, &header), group.segment, addr)?;
    let class = facts.request.class;
    let answer = match decide(&facts.request, &Host { addr, leased, server: SERVER.to_bits() }) {
        Verdict::Answer(answer) => answer,
        Verdict::Pass(reason) => return Err(reason),
    };
    let template = group.templates[class as usize].as_ref().ok_or(Reason::OtherClass)?;
    let echoed = facts.guid.len + facts.client_id.len + facts.relay_info.len;
    let size = template.len() + usize::from(machine.name.len) + echoed + 1;
    if size > LARGEST {
        return Err(Reason::LongEcho);
    }
    let takes = usize::from(facts.request.max_size);
    if takes != 0 && takes < IP_UDP + size.max(SMALLEST) {
        return Err(Reason::TooSmall);
    }
    Ok(Answered { answer, class, addr, header })
}

/// The machine of this request, if the program knows it.
fn machine<'p>(place: &'p Place, header: &Header) -> Option<&'p Machine> {
    place.entries.machines.iter().find(|machine| machine.mac == Mac(header.mac()))
}

/// The segment of the relay agent: the longest prefix that has it.
fn relay(place: &Place, header: &Header) -> Option<u32> {
    if header.giaddr == [0; 4] {
        return None;
    }
    let has = place.site.relays.iter().filter(|(prefix, _)| prefix.contains(header.giaddr.into()));
    has.max_by_key(|(prefix, _)| prefix.prefix()).map(|(_, segment)| *segment)
}
