//! Which subnet a request is from.
//!
//! RFC 2131 4.3.1 (the relay agent's address), RFC 3527 (link selection), RFC 3011 (subnet selection). Pure.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use netboot_ebpf::Reason;

use super::policy::Addressed;
use super::wire::Request;

/// By what a subnet is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its addresses.
    pub prefix: Ipv4Network,
    /// The relay agent that serves it, where that is not one of its own addresses.
    pub relay: Option<Ipv4Addr>,
}

/// Finds the subnet of a request by its place in the list, of which the first is the interface's own: what the relay
/// agent says (option 82, sub-option 5), what the client says (option 118), the relay agent's address, the address of a
/// client that renews through a router, the interface.
///
/// # Errors
/// When it names a subnet that is not in the list.
pub fn select(request: &Request, addressed: Addressed, places: &[Place]) -> Result<usize, Reason> {
    let with = |addr: Ipv4Addr| places.iter().position(|place| place.prefix.contains(addr));
    let relayed = !request.giaddr.is_unspecified();
    let named = if relayed { request.link_selection() } else { None };
    let named = named.or(Some(request.subnet_selection).filter(|addr| !addr.is_unspecified()));
    if let Some(named) = named {
        return with(named).ok_or(Reason::UnknownSubnet);
    }
    if relayed {
        let by_agent = places.iter().position(|place| place.relay == Some(request.giaddr));
        return by_agent.or_else(|| with(request.giaddr)).ok_or(Reason::UnknownSubnet);
    }
    let own = match addressed {
        Addressed::Broadcast => Ipv4Addr::UNSPECIFIED,
        Addressed::BootService(from) if !from.ip().is_unspecified() => *from.ip(),
        Addressed::Server | Addressed::BootService(_) => request.ciaddr,
    };
    Ok(if own.is_unspecified() { 0 } else { with(own).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use netboot_ebpf::Reason;

    use super::{Place, select};
    use crate::dhcp::packets::Packet;
    use crate::dhcp::policy::Addressed::{self, Broadcast, Server};
    use crate::dhcp::wire;
    use crate::mac::Mac;

    #[test]
    fn whose_word_counts() {
        let place = |prefix: &str, relay: Option<[u8; 4]>| Place {
            prefix: prefix.parse().unwrap(),
            relay: relay.map(Ipv4Addr::from),
        };
        let places = [
            place("192.168.90.0/24", None),
            place("10.1.0.0/16", Some([10, 1, 0, 1])),
            place("10.2.0.0/16", Some([172, 16, 0, 2])),
        ];
        let plain = || Packet::new(Mac([2, 0, 0, 0, 0, 1]));
        let via = |relay: [u8; 4]| plain().at(24, &relay);
        let link = |addr: [u8; 4]| [&[5, 4][..], &addr].concat();
        let boots = |from: &str| Addressed::BootService(from.parse().unwrap());
        let table: [(&str, Packet, Addressed, Result<usize, Reason>); 17] = [
            ("on the link", plain(), Broadcast, Ok(0)),
            ("a relay agent within the subnet", via([10, 1, 0, 1]), Server, Ok(1)),
            ("another one there", via([10, 1, 9, 9]), Server, Ok(1)),
            ("a relay agent elsewhere", via([172, 16, 0, 2]), Server, Ok(2)),
            ("a relay agent on the link", via([192, 168, 90, 1]), Server, Ok(0)),
            ("nobody's relay agent", via([172, 16, 0, 3]), Server, Err(Reason::UnknownSubnet)),
            ("link selection", via([10, 1, 0, 1]).with(82, link([10, 2, 0, 0])), Server, Ok(2)),
            (
                "link selection of none",
                via([10, 1, 0, 1]).with(82, link([10, 9, 0, 0])),
                Server,
                Err(Reason::UnknownSubnet),
            ),
            ("link selection without a relay agent", plain().with(82, link([10, 2, 0, 0])), Broadcast, Ok(0)),
            ("subnet selection", plain().with(118, [10, 1, 0, 0]), Broadcast, Ok(1)),
            (
                "link selection before subnet selection",
                via([10, 1, 0, 1]).with(118, [10, 1, 0, 0]).with(82, link([10, 2, 0, 0])),
                Server,
                Ok(2),
            ),
            ("a renewal through a router", plain().ciaddr([10, 2, 3, 4].into()), Server, Ok(2)),
            ("at the boot service", plain(), boots("10.2.3.4:4011"), Ok(2)),
            ("at the boot service from nowhere", plain(), boots("10.9.3.4:4011"), Ok(0)),
            (
                "at the boot service, without a source",
                plain().ciaddr([10, 2, 3, 4].into()),
                boots("0.0.0.0:68"),
                Ok(2),
            ),
            ("a renewal from nowhere", plain().ciaddr([10, 9, 3, 4].into()), Server, Ok(0)),
            (
                "to everybody, with an address from elsewhere",
                plain().ciaddr([10, 2, 3, 4].into()),
                Broadcast,
                Ok(0),
            ),
        ];
        for (name, packet, addressed, want) in table {
            let request = wire::decode(&packet.bytes()).unwrap();
            assert_eq!(select(&request, addressed, &places), want, "{name}");
        }
    }
}
