//! By which way a request came, and so where its reply goes (RFC 2131 4.1) and which subnet it belongs to.
//!
//! Pure. The daemon's own words for this are `dhcp/select.rs` and the routes of `dhcp/policy/reply.rs`; where the two could
//! differ this one says that the daemon has to look.

use crate::bootp::Header;
use crate::packet::Destination;
use crate::verdict::Reason;

/// DHCP servers and relay agents listen here.
pub const SERVER_PORT: u16 = 67;
/// DHCP clients listen here.
pub const CLIENT_PORT: u16 = 68;

/// What the frame of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Ethernet source: the client, or the router or relay agent on this link.
    pub from: [u8; 6],
    /// It was sent to this server's address, not to everybody.
    pub unicast: bool,
}

/// Whether a request belongs to the subnet that its machine has its address in. `relay` is the subnet of the relay
/// agent, if the agent is known.
///
/// # Errors
/// When it does not, or the daemon has to find out.
#[inline(always)]
pub fn belongs(
    header: &Header,
    unicast: bool,
    relay: Option<u32>,
    segment: u16,
    addr: u32,
) -> Result<(), Reason> {
    let (ciaddr, giaddr) = (u32::from_be_bytes(header.ciaddr), u32::from_be_bytes(header.giaddr));
    let own = if giaddr != 0 {
        // An agent's own address is its clients' only by a reservation.
        relay == Some(u32::from(segment)) && giaddr != addr
    } else if unicast && ciaddr != 0 {
        // A client that renews is where its address is.
        if ciaddr != addr {
            return Err(Reason::WrongAddress);
        }
        true
    } else {
        segment == 0
    };
    if own { Ok(()) } else { Err(Reason::UnknownSubnet) }
}

/// Where the reply goes: to the relay agent; to the address in use, through the router it came from where that is
/// of another network; to everybody if the client says so; else to the new address. On this link at the client's own
/// Ethernet address, for it may not answer ARP yet.
#[inline(always)]
pub fn back(header: &Header, arrival: &Arrival, segment: u16, yiaddr: u32) -> Destination {
    let (ciaddr, giaddr) = (u32::from_be_bytes(header.ciaddr), u32::from_be_bytes(header.giaddr));
    if giaddr != 0 {
        Destination { mac: arrival.from, addr: giaddr, port: SERVER_PORT }
    } else if ciaddr != 0 {
        let mac = if segment == 0 { header.mac() } else { arrival.from };
        Destination { mac, addr: ciaddr, port: CLIENT_PORT }
    } else if header.flags[0] & 0x80 != 0 {
        Destination { mac: [0xff; 6], addr: u32::MAX, port: CLIENT_PORT }
    } else {
        Destination { mac: header.mac(), addr: yiaddr, port: CLIENT_PORT }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, CLIENT_PORT, SERVER_PORT, back, belongs};
    use crate::bootp::Header;
    use crate::packet::Destination;
    use crate::verdict::Reason;

    const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const ME: u32 = 77;

    fn header() -> Header {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        Header { xid: [0; 4], secs: [0; 2], flags: [0; 2], ciaddr: [0; 4], giaddr: [0; 4], chaddr }
    }

    #[test]
    fn where_a_reply_goes() {
        let (plain, arrival) = (header(), Arrival { from: ROUTER, unicast: false });
        let to = |mac, addr, port| Destination { mac, addr, port };
        assert_eq!(back(&plain, &arrival, 0, ME), to(plain.mac(), ME, CLIENT_PORT));
        let loud = Header { flags: [0x80, 0], ..plain };
        assert_eq!(back(&loud, &arrival, 0, ME), to([0xff; 6], u32::MAX, CLIENT_PORT));
        let bound = Header { ciaddr: [0, 0, 0, 5], ..loud };
        assert_eq!(back(&bound, &arrival, 0, ME), to(plain.mac(), 5, CLIENT_PORT));
        assert_eq!(back(&bound, &arrival, 3, ME), to(ROUTER, 5, CLIENT_PORT), "through the router");
        let relayed = Header { giaddr: [0, 0, 0, 6], ..bound };
        for segment in [0, 3] {
            assert_eq!(back(&relayed, &arrival, segment, ME), to(ROUTER, 6, SERVER_PORT));
        }
    }

    #[test]
    fn which_subnet_a_request_belongs_to() {
        let plain = header();
        let relayed = Header { giaddr: [0, 0, 0, 6], ..plain };
        let bound = Header { ciaddr: ME.to_be_bytes(), ..plain };
        let other = Err(Reason::UnknownSubnet);
        let table = [
            ("on the link", plain, false, None, 0, Ok(())),
            ("a machine of elsewhere on the link", plain, false, None, 1, other),
            ("sent to the server, without an address", plain, true, None, 1, other),
            ("its relay agent", relayed, true, Some(1), 1, Ok(())),
            ("a relay agent on the link", relayed, true, Some(0), 0, Ok(())),
            ("its own address", Header { giaddr: ME.to_be_bytes(), ..plain }, true, Some(1), 1, other),
            ("another relay agent", relayed, true, Some(2), 1, other),
            ("nobody's relay agent", relayed, true, None, 0, other),
            ("renews on the link", bound, true, None, 0, Ok(())),
            ("renews through a router", bound, true, None, 1, Ok(())),
            ("rebinds on the link", bound, false, None, 0, Ok(())),
            ("rebinds here, being of elsewhere", bound, false, None, 1, other),
        ];
        for (name, header, unicast, relay, segment, want) in table {
            assert_eq!(belongs(&header, unicast, relay, segment, ME), want, "{name}");
        }
        assert_eq!(belongs(&bound, true, None, 0, 5), Err(Reason::WrongAddress));
    }
}
