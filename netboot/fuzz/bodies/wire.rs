//! Any bytes as a request: they are read or refused, and what was read is what stands there.

use netboot::dhcp::wire::{decode, sender};
use netboot::mac::Mac;
use netboot_ebpf::verdict::message;

use super::tlv;

/// Reads the bytes as the payload of a packet to port 67.
pub(crate) fn run(data: &[u8]) {
    let read = decode(data);
    let from = sender(data);
    let poisoned = tlv::poison(data, 0xa5);
    assert_eq!(decode(&poisoned), read, "nobody looks at these bytes");
    let Ok(request) = read else { return };

    assert_eq!(data.get(..3), Some(&[1, 1, 6][..]), "a request of an Ethernet machine");
    assert_eq!(from, Some(request.mac));
    assert_eq!(data.get(28..34), Some(&request.mac.0[..]));
    assert!(request.mac != Mac([0; 6]) && request.mac.0[0] & 1 == 0, "of one station");

    let echo = request.echo(message::ACK);
    let fields: [(usize, &[u8]); 6] = [
        (4, &echo.xid),
        (8, &echo.secs),
        (10, &echo.flags),
        (12, &echo.ciaddr),
        (24, &echo.giaddr),
        (28, &echo.chaddr),
    ];
    for (at, field) in fields {
        assert_eq!(data.get(at..at + field.len()), Some(field), "header byte {at}");
    }
    assert_eq!(request.echo(message::OFFER).ciaddr, [0; 4]);
    if data.get(236..240) != Some(&tlv::COOKIE) {
        return;
    }
    for (code, value) in [(97, echo.guid), (61, echo.client_id), (82, echo.relay_info)] {
        let stands = tlv::value(data, code).filter(|value| !value.is_empty());
        assert_eq!(value.map(<[u8]>::to_vec), stands, "option {code}");
    }
    for (code, addr) in [(50, request.requested), (54, request.server_id)] {
        let stands = tlv::value(data, code).unwrap_or_else(|| vec![0; 4]);
        assert_eq!(addr.octets().as_slice(), stands, "option {code}");
    }
}
