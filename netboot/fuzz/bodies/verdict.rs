//! Any bytes before the XDP program's library: it reads them or names a reason, and where it would answer, the daemon
//! reads the same.

use netboot::dhcp::wire::decode;
use netboot_ebpf::abi::{COUNTERS, Event, counter_name};
use netboot_ebpf::bootp::{self, Header};
use netboot_ebpf::options::{Area, Facts, LONGEST, STEPS};
use netboot_ebpf::packet::{self, ETHERNET, ETHERNET_MOST, IP_UDP, IPV4, Kind, TAG};
use netboot_ebpf::route;
use netboot_ebpf::verdict::{self, message};
use netboot_ebpf::{Class, Host, Reason, Verdict, decide};

use super::tlv;

const SERVER: u32 = 0xc0a8_5a02;

/// Reads the bytes as a frame, as a payload and as an event.
pub(crate) fn run(data: &[u8]) {
    if let Some(payload) = payload(data) {
        held_against_the_daemon(payload);
    }
    held_against_the_daemon(data);
    if let Some(event) = Event::from_bytes(data) {
        let _ = (Class::from_number(event.class), counter_name(event.xid % COUNTERS));
    }
}

/// What the program takes for the payload of a request, by the steps that it takes itself.
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let ethernet: &[u8; ETHERNET] = frame.first_chunk()?;
    let _ = packet::for_us(ethernet, &[2, 0, 0, 0, 0, 2]);
    let kind = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    let mut at = ETHERNET;
    while packet::is_tag(kind(at - 2)?) && at < ETHERNET_MOST {
        at += TAG;
    }
    if kind(at - 2)? != IPV4 {
        return None;
    }
    let headers: &[u8; IP_UDP] = frame.get(at..)?.first_chunk()?;
    if packet::kind(headers) != Ok(Kind::ToServer) {
        return None;
    }
    let datagram = packet::request(headers, frame.len() - at, SERVER).ok()?;
    let payload = frame.get(at + IP_UDP..)?.get(..datagram.length);
    assert!(payload.is_some(), "a length that the frame does not have");
    payload
}

/// The header and the options of a payload, as the program sees them.
///
/// # Errors
/// Why it passes the packet up.
pub(crate) fn facts(payload: &[u8]) -> Result<(Header, Facts), Reason> {
    let (bytes, options) = payload.split_first_chunk::<{ bootp::HEADER }>().ok_or(Reason::Truncated)?;
    let header = Header::read(bytes)?;
    if options.is_empty() {
        return Err(Reason::BadOptions);
    }
    if options.len() > LONGEST {
        return Err(Reason::LongRequest);
    }
    let mut area = Area::default();
    // What an earlier packet has left there.
    area.bytes.fill(0xa5);
    area.bytes[..options.len()].copy_from_slice(options);
    area.begin(u32::try_from(options.len()).unwrap_or(u32::MAX));
    let mut steps = 0;
    while !area.step() {
        steps += 1;
        assert!(steps < STEPS, "a walk has its end");
    }
    area.facts(&header).map(|facts| (header, facts))
}

/// A machine that the program knows.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    /// Its address.
    pub(crate) addr: u32,
    /// The number of its subnet.
    pub(crate) segment: u16,
}

/// What the program does with a request that was sent to everybody or to this server alone. `known` tells of a machine that it
/// knows, `relay` the subnet of a relay agent.
///
/// # Errors
/// Why it passes the packet up. Whether the reply has room is not looked at here.
pub(crate) fn verdict(
    payload: &[u8],
    unicast: bool,
    known: impl Fn([u8; 6]) -> Option<Known>,
    relay: impl Fn(u32) -> Option<u32>,
) -> Result<Class, Reason> {
    let bytes = payload.first_chunk().ok_or(Reason::Truncated)?;
    let header = Header::read(bytes)?;
    let known = known(header.mac()).ok_or(Reason::Unknown)?;
    let (header, mut facts) = facts(payload)?;
    // As the program does where the daemon would make nothing of it.
    facts.request.rapid_commit = false;
    let giaddr = u32::from_be_bytes(header.giaddr);
    let relay = if giaddr == 0 { None } else { relay(giaddr) };
    route::belongs(&header, unicast, relay, known.segment, known.addr)?;
    match decide(&facts.request, &Host { addr: known.addr, leased: false, server: SERVER }) {
        Verdict::Answer(_) => Ok(facts.request.class),
        Verdict::Pass(reason) => Err(reason),
    }
}

/// Where the program would answer, the daemon would read the same from the packet.
fn held_against_the_daemon(payload: &[u8]) {
    let Ok((header, mut facts)) = facts(payload) else { return };
    facts.request.rapid_commit = false;
    let options = payload.get(bootp::HEADER..).unwrap_or_default();
    for (code, echo) in [(97, facts.guid), (61, facts.client_id), (82, facts.relay_info)] {
        let option = options.get(echo.at..echo.at + echo.len).map(<[u8]>::to_vec);
        assert!(option.is_some(), "an option that lies outside of the packet");
        if echo.len > 0 {
            let value = tlv::value(payload, code).unwrap_or_default();
            let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
            assert_eq!(option, Some([&[code, length][..], value.as_slice()].concat()), "option {code}");
        }
    }
    let addr = if facts.request.ciaddr == 0 { facts.request.requested } else { facts.request.ciaddr };
    // No file has a reservation for a group or for nobody.
    let reserved = |mac: [u8; 6]| (mac[0] & 1 == 0 && mac != [0; 6]).then_some(Known { addr, segment: 0 });
    if verdict(payload, false, reserved, |_| Some(0)).is_err() {
        return;
    }
    let request = decode(payload).unwrap_or_else(|reason| panic!("the daemon says {reason:?}"));
    // A wish for a lease time is nothing for a machine with a reservation.
    assert_eq!(request.facts(), verdict::Request { lease_time: false, ..facts.request });
    let echo = request.echo(message::ACK);
    assert_eq!((echo.xid, echo.secs, echo.flags), (header.xid, header.secs, header.flags));
    assert_eq!((echo.ciaddr, echo.giaddr, echo.chaddr), (header.ciaddr, header.giaddr, header.chaddr));
    assert_eq!(echo.guid.is_some(), facts.guid.len > 0);
    assert_eq!(echo.client_id.is_some(), facts.client_id.len > 0);
    assert_eq!(echo.relay_info.is_some(), facts.relay_info.len > 0);
}
