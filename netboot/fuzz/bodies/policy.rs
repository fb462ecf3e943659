//! Bytes as a history: what clients ask, how the disk and the wire do, what the operator changes, when the clock is set
//! and when the server is killed. No address has two owners, nothing is acknowledged that is not on disk, and every reply
//! is one that a client can use.

use std::net::SocketAddrV4;

use netboot_ebpf::verdict::message::{DECLINE, DISCOVER, INFORM, RELEASE, REQUEST};

use netboot::dhcp::policy::Addressed;

use super::server::Server;
use super::{tlv, world};

/// Clients there are.
const CLIENTS: u8 = 6;

/// The bytes, one after the other; zeros when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn below(&mut self, end: u8) -> u8 {
        self.next() % end
    }

    fn take(&mut self, most: u8) -> Vec<u8> {
        let length = usize::from(self.below(most)).min(self.0.len());
        self.0.split_off(..length).unwrap_or_default().to_vec()
    }
}

/// Plays the history.
pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let settings = world::setting(bytes.next());
    let mut server = Server::new(&settings, world::snapshot(bytes.next()));
    for _ in 0..400 {
        if bytes.0.is_empty() {
            break;
        }
        match bytes.below(20) {
            0..10 => {
                let addressed = match bytes.below(8) {
                    0..4 => Addressed::Broadcast,
                    4..7 => Addressed::Server,
                    _ => Addressed::BootService(SocketAddrV4::new([192, 168, 90, bytes.next()].into(), 4011)),
                };
                let packet = packet(&mut bytes);
                server.handle(&packet, addressed);
            }
            10 | 11 => server.written(true),
            12 => server.written(false),
            13 => server.probed(false),
            14 => server.probed(true),
            15 | 16 => server.later(u64::from(bytes.next()) * 16),
            17 => server.edited(world::snapshot(bytes.next())),
            18 => server.clock(i64::from(bytes.next()) * 97 - 6000),
            _ => server.restart(),
        }
    }
    server.ended();
}

/// A request, mostly well-formed, of one of the clients.
fn packet(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut packet = vec![0; tlv::HEADER - 4];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[4..8].copy_from_slice(b"xid!");
    packet[10] = bytes.next() & 0x80;
    packet[28..34].copy_from_slice(&world::mac(bytes.below(CLIENTS)).0);
    packet.extend(tlv::COOKIE);
    let kinds = [DISCOVER, DISCOVER, REQUEST, REQUEST, REQUEST, RELEASE, DECLINE, INFORM, 9];
    option(&mut packet, 53, &[kinds[usize::from(bytes.below(9))]]);
    let addr = |last| [192, 168, 90, last];
    match bytes.below(28) {
        0..4 => {}
        place @ 4..24 => option(&mut packet, 50, &addr(place)),
        place => option(&mut packet, 50, &[10, 1, 0, place]),
    }
    match bytes.below(28) {
        0..8 => {}
        place @ 8..24 => packet[12..16].copy_from_slice(&addr(place)),
        place => packet[12..16].copy_from_slice(&[10, 1, 0, place]),
    }
    match bytes.below(4) {
        0 => {}
        1 => option(&mut packet, 54, &addr(3)),
        _ => option(&mut packet, 54, &world::SERVER.octets()),
    }
    let has = bytes.next();
    if has & 1 != 0 {
        class(&mut packet, bytes);
    }
    if has & 2 != 0 {
        option(&mut packet, 57, &[bytes.below(6), bytes.next()]);
    }
    for (bit, code) in [(4, 61), (8, 97), (16, 82)] {
        if has & bit != 0 {
            option(&mut packet, code, &bytes.take(255));
        }
    }
    if has & 32 != 0 {
        // In the middle of it anything.
        packet.extend(bytes.take(64));
    }
    if has & 64 != 0 {
        option(&mut packet, 52, &[bytes.below(5)]);
        let value = bytes.take(20);
        let mut spilled = Vec::new();
        option(&mut spilled, 61, &value);
        spilled.push(255);
        packet[44..44 + spilled.len()].copy_from_slice(&spilled);
        packet[108] = 255;
    }
    if has & 128 != 0 {
        match bytes.below(6) {
            0 => packet[24..28].copy_from_slice(&[10, 1, 0, 1]),
            1 => packet[24..28].copy_from_slice(&addr(bytes.next())),
            // Link selection and an override, as a relay agent says them (RFC 3527, RFC 5107).
            2 => {
                packet[24..28].copy_from_slice(&[10, 9, 0, 1]);
                option(&mut packet, 82, &[5, 4, 10, 1, 0, 0, 11, 4, 10, 1, 0, 1]);
            }
            3 => option(&mut packet, 118, &[10, 1, 0, 0]),
            4 => option(&mut packet, 51, &[0, 0, bytes.next(), bytes.next()]),
            // What was chosen from a menu.
            _ => option(&mut packet, 43, &[71, 4, bytes.next(), bytes.next(), 0, 0, 255]),
        }
    }
    packet.push(255);
    packet
}

/// The options that tell a client's class.
fn class(packet: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let vendors: [&[u8]; 4] =
        [b"PXEClient:Arch:00000:UNDI:002001", b"PXEClient", b"HTTPClient:Arch:00016", b"udhcp"];
    option(packet, 60, vendors[usize::from(bytes.below(4))]);
    match bytes.below(6) {
        0 => option(packet, 77, b"iPXE"),
        1 => option(packet, 175, &[1, 1, 1]),
        2 => {}
        _ => option(packet, 93, &[0, bytes.below(44)]),
    }
}

fn option(packet: &mut Vec<u8>, code: u8, value: &[u8]) {
    if let Ok(length) = u8::try_from(value.len()) {
        packet.extend([code, length]);
        packet.extend(value);
    }
}
