//! Any bytes before the XDP program's library: it reads them or names a reason, and where it would answer, the daemon
//! reads the same.

use netboot::dhcp::wire::decode;
use netboot_ebpf::abi::{COUNTERS, Event, counter_name};
use netboot_ebpf::bootp::{self, Header};
use netboot_ebpf::options::{Area, Facts, LONGEST, STEPS};
use netboot_ebpf::packet::{self, ETHERNET, ETHERNET_TAGGED, IP_UDP, IPV4, TAGGED};
use netboot_ebpf::verdict::message;
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
    let at = match kind(12)? {
        IPV4 => ETHERNET,
        TAGGED if kind(16)? == IPV4 => ETHERNET_TAGGED,
        _ => return None,
    };
    let headers: &[u8; IP_UDP] = frame.get(at..)?.first_chunk()?;
    let length = packet::request(headers, frame.len() - at, SERVER).ok()?;
    let payload = frame.get(at + IP_UDP..)?.get(..length);
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
    area.facts(&header).map(|mut facts| {
        // As the program does where the daemon would make nothing of it.
        facts.request.rapid_commit = false;
        (header, facts)
    })
}

/// What the program does with a request; `reservation` tells the address of a machine that has one.
///
/// # Errors
/// Why it passes the packet up.
pub(crate) fn verdict(payload: &[u8], reservation: impl Fn([u8; 6]) -> Option<u32>) -> Result<Class, Reason> {
    let (header, facts) = facts(payload)?;
    if !facts.request.class.in_kernel() {
        return Err(Reason::OtherClass);
    }
    let addr = reservation(header.mac()).ok_or(Reason::Unknown)?;
    match decide(&facts.request, &Host { addr, server: SERVER }) {
        Verdict::Answer(_) => Ok(facts.request.class),
        Verdict::Pass(reason) => Err(reason),
    }
}

/// Where the program would answer, the daemon would read the same from the packet.
fn held_against_the_daemon(payload: &[u8]) {
    let Ok((header, facts)) = facts(payload) else { return };
    let options = payload.get(bootp::HEADER..).unwrap_or_default();
    for (code, echo) in [(97, facts.guid), (61, facts.client_id)] {
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
    let reserved = |mac: [u8; 6]| (mac[0] & 1 == 0 && mac != [0; 6]).then_some(addr);
    if verdict(payload, reserved).is_err() {
        return;
    }
    let request = decode(payload).unwrap_or_else(|reason| panic!("the daemon says {reason:?}"));
    assert_eq!(request.facts(), facts.request);
    let echo = request.echo(message::ACK);
    assert_eq!((echo.xid, echo.secs, echo.flags), (header.xid, header.secs, header.flags));
    assert_eq!((echo.ciaddr, echo.giaddr, echo.chaddr), (header.ciaddr, header.giaddr, header.chaddr));
    assert_eq!(echo.guid.is_some(), facts.guid.len > 0);
    assert_eq!(echo.client_id.is_some(), facts.client_id.len > 0);
    assert_eq!(echo.relay_info, None);
}
