//! Requests at random, as whole frames: of every class and message, by every road, well-formed or not quite.

use std::net::Ipv4Addr;

use netboot::mac::Mac;
use netboot_ebpf::Class;
use netboot_ebpf::bootp::{LARGEST, SMALLEST};
use netboot_ebpf::verdict::message::{DISCOVER, REQUEST};

use super::dice::Dice;
use super::frames::{self, Envelope};
use super::site::{Place, STRANGER};
use super::tlv::COOKIE;
use super::world::SERVER;

/// The server's interface.
pub(crate) const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// A router or relay agent on the link.
const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 9]);
/// The first choice: the UDP data comes as it is, behind two bytes that say how much there is.
pub(crate) const RAW: u8 = 255;

/// Who asks.
struct Client {
    mac: Mac,
    addr: Ipv4Addr,
    /// Its subnet by number, if it has a place in one.
    segment: Option<usize>,
}

/// By which way.
struct Road {
    envelope: Envelope,
    giaddr: Ipv4Addr,
    /// The client uses its address already, and says so.
    bound: bool,
}

/// A frame.
pub(crate) fn frame(dice: &mut Dice<'_>, place: &Place) -> Vec<u8> {
    let raw = (dice.byte() == RAW).then(|| {
        let length = dice.number();
        dice.bytes(length.into()).to_vec()
    });
    let client = client(dice, place);
    let mut road = road(dice, place, &client);
    let mut payload = match raw {
        Some(mut payload) => {
            if let Some(field) = payload.get_mut(28..34).filter(|_| dice.once_in(2)) {
                field.copy_from_slice(&client.mac.0);
            }
            if let Some(field) = payload.get_mut(24..28).filter(|_| dice.once_in(2)) {
                field.copy_from_slice(&road.giaddr.octets());
            }
            payload
        }
        None => payload(dice, place, &client, &road),
    };
    if dice.once_in(6) {
        for _ in 0..=dice.below(3) {
            let at = usize::from(dice.number()) % payload.len().max(1);
            if let Some(byte) = payload.get_mut(at) {
                *byte = dice.byte();
            }
        }
    }
    if dice.once_in(24) {
        payload.truncate(usize::from(dice.number()) % (payload.len() + 1));
    }
    if dice.once_in(64) {
        // The words of a server.
        (road.envelope.src, road.envelope.dst.1) =
            ((*dice.pick(&[Ipv4Addr::new(192, 168, 90, 3), SERVER]), 67), 68);
        payload.get_mut(..1).unwrap_or_default().fill(2);
    }
    let mut frame = frames::frame(&road.envelope, &payload);
    if dice.once_in(12) {
        odd(dice, &mut frame);
    }
    frame
}

/// Damages the frame outside of the UDP data, or not: some networks do odd things that mean nothing.
fn odd(dice: &mut Dice<'_>, frame: &mut Vec<u8>) {
    match dice.below(6) {
        // What Ethernet pads with, and what a card may leave.
        0 => frame.extend(vec![0xaa; dice.byte().into()]),
        1 => frame.extend(vec![0xbb; 8 * usize::from(dice.number() % 700)]),
        2 => frame.truncate((usize::from(dice.number()) % frame.len()).max(14)),
        _ => {
            let at = usize::from(dice.byte()) % 64.min(frame.len());
            frame[at] = dice.byte();
            if dice.once_in(2) {
                frames::correct(frame);
            }
        }
    }
}

fn client(dice: &mut Dice<'_>, place: &Place) -> Client {
    let chosen = dice.below(32);
    let (mut hosts, machines) = (place.snapshot.hosts(), &place.entries.machines);
    let chosen_host = usize::from(chosen) % hosts.len();
    let host = hosts.nth(chosen_host).unwrap();
    let (mac, addr) = match chosen {
        // Mostly one that the program knows, if there is one.
        0..26 if !machines.is_empty() => {
            let machine = &machines[usize::from(chosen) % machines.len()];
            (machine.mac, machine.addr)
        }
        30 => (STRANGER, host.addr),
        31 => (Mac([0x53, 0x54, 0, 0, 0, 1]), host.addr),
        _ => (host.mac, host.addr),
    };
    let segment = place.site.subnets.iter().position(|subnet| subnet.prefix.contains(addr));
    Client { mac, addr, segment }
}

/// The tags of the network, or others.
fn tags(dice: &mut Dice<'_>, place: &Place) -> Vec<[u8; 4]> {
    let mut tags: Vec<_> = place.vlan.iter().take(place.tags.into()).copied().collect();
    if dice.once_in(32) {
        tags = vec![*dice.pick(&[0, 90, 100, 1]); dice.below(4).into()];
    } else if place.tags == 0 && dice.once_in(8) {
        tags.push(0);
    }
    let priority = u16::from(dice.below(16)) << 12;
    let outer = [[0x81, 0], [0x88, 0xa8], [0x91, 0]];
    let last = tags.len();
    (1..)
        .zip(tags)
        .map(|(number, vid)| {
            let kind = if number < last { *dice.pick(&outer) } else { [0x81, 0] };
            let [high, low] = (priority | vid).to_be_bytes();
            [kind[0], kind[1], high, low]
        })
        .collect()
}

fn road(dice: &mut Dice<'_>, place: &Place, client: &Client) -> Road {
    let tags = tags(dice, place);
    let link = |bound| Road {
        envelope: Envelope {
            to: Mac::BROADCAST,
            from: client.mac,
            tags: tags.clone(),
            src: (Ipv4Addr::UNSPECIFIED, 68),
            dst: (Ipv4Addr::BROADCAST, 67),
        },
        giaddr: Ipv4Addr::UNSPECIFIED,
        bound,
    };
    let unicast = |from, src| {
        let mut road = link(true);
        (road.envelope.to, road.envelope.from) = (SERVER_MAC, from);
        (road.envelope.src.0, road.envelope.dst.0) = (src, SERVER);
        road
    };
    let relayed = |agent, everybody| {
        let mut road = if everybody { link(false) } else { unicast(ROUTER, agent) };
        road.envelope.from = ROUTER;
        road.envelope.src = (agent, 67);
        (road.giaddr, road.bound) = (agent, false);
        road
    };
    let far = client.segment.is_some_and(|segment| segment != 0);
    match (far, dice.below(16)) {
        (false, 0..10) => link(false),
        (true, 0..10) => {
            // The agent of the client's subnet, by the name that it has or by an address of that subnet.
            let subnet = client.segment.unwrap_or_default();
            let named = place.settings.dhcp.subnets.get(subnet.wrapping_sub(1)).and_then(|of| of.relay);
            let inside = Ipv4Addr::from_bits(place.site.subnets[subnet].prefix.network().to_bits() + 1);
            let agent = if dice.once_in(2) { inside } else { named.unwrap_or(inside) };
            relayed(agent, dice.once_in(8))
        }
        (_, 10) => unicast(client.mac, client.addr),
        (_, 11) => unicast(ROUTER, client.addr),
        (_, 12) => link(true),
        (_, 13) if !far => {
            let mut road = unicast(client.mac, Ipv4Addr::UNSPECIFIED);
            road.bound = false;
            road
        }
        (_, _) => {
            let agents: [[u8; 4]; 6] = [
                [192, 168, 90, 1],
                [10, 1, 0, 1],
                [192, 168, 90, 9],
                [10, 9, 9, 9],
                [10, 77, 0, 1],
                [10, 2, 0, 1],
            ];
            relayed(Ipv4Addr::from(*dice.pick(&agents)), dice.once_in(4))
        }
    }
}

/// The UDP data of a request.
fn payload(dice: &mut Dice<'_>, place: &Place, client: &Client, road: &Road) -> Vec<u8> {
    let addr = client.addr.octets();
    let addr = if dice.once_in(16) { [10, 1, 0, dice.byte()] } else { addr };
    let (mut options, mut ciaddr) = (Vec::new(), if road.bound { addr } else { [0; 4] });
    let kind = dice.below(16);
    let message = match kind {
        0..=6 => DISCOVER,
        7..=14 => REQUEST,
        _ => dice.below(12),
    };
    options.push((53, vec![message]));
    if message == REQUEST && !road.bound {
        match kind {
            7..=10 => options.extend([(50, addr.to_vec()), (54, SERVER.octets().to_vec())]),
            11 | 12 => options.push((50, addr.to_vec())),
            13 => ciaddr = addr,
            _ => {
                ciaddr = *dice.pick(&[[0; 4], addr, [192, 168, 90, 99]]);
                options.push((50, dice.pick(&[addr, [0; 4], [192, 168, 90, 77]]).to_vec()));
                options.push((54, dice.pick(&[SERVER.octets(), [192, 168, 90, 3], [0; 4]]).to_vec()));
            }
        }
    }
    let class = class(dice, &mut options);
    extras(dice, &mut options);
    if dice.once_in(6) {
        tight(dice, place, client, class, &mut options);
    }
    if dice.once_in(3) {
        let by = usize::from(dice.byte()) % options.len();
        options.rotate_left(by);
    }

    let mut data = vec![1, 1, 6, dice.below(2)];
    data.extend([dice.byte(), 2, 3, dice.byte(), 0, dice.byte()]);
    data.extend(dice.pick(&[[0, 0], [0x80, 0], [0x80, 0], [0x12, 0x34]]));
    data.extend(ciaddr);
    data.extend([dice.byte(); 8]);
    data.extend(road.giaddr.octets());
    data.extend(client.mac.0);
    data.extend([dice.byte(); 10]);
    data.extend([dice.byte(); 192]);
    data.extend(COOKIE);
    for (code, value) in options {
        data.extend(vec![0; usize::from(dice.byte() / 250)]);
        data.push(code);
        data.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        data.extend(value);
    }
    if !dice.once_in(32) {
        data.push(255);
    }
    let padded = *dice.pick(&[0, 300, 548, 301, 1200, 1264, 590]);
    let with = dice.byte();
    if data.len() < padded {
        data.resize(padded, with);
    }
    data
}

/// Options by which a client of some class is known; the class that was meant.
fn class(dice: &mut Dice<'_>, options: &mut Vec<(u8, Vec<u8>)>) -> Class {
    let class = *dice.pick(Class::ALL);
    let text: &[u8] = match class {
        Class::Plain => return class,
        class if class.is_http() => b"HTTPClient:Arch:",
        _ => b"PXEClient:Arch:",
    };
    let archs: Vec<u16> = (0..64).filter(|arch| Class::of_arch(*arch) == class).collect();
    let arch = match class {
        Class::Ipxe => *dice.pick(&[0, 7, 16]),
        Class::Bios => 0,
        Class::Other => *dice.pick(&[99, 1, 17, 60000]),
        _ => *dice.pick(&archs),
    };
    if class == Class::Ipxe {
        match dice.below(4) {
            0 => options.push((77, b"iPXE".to_vec())),
            1 => options.push((77, b"\x04iPXE".to_vec())),
            2 => options.push((175, vec![177, 5, 1, 0x80, 0x86, 0x10, 0x0e, 33, 1, 1])),
            _ => options.extend([(77, b"iPXE".to_vec()), (175, vec![])]),
        }
    }
    let begin = text.strip_suffix(b":Arch:").unwrap_or(text);
    let mut archs = arch.to_be_bytes().to_vec();
    if dice.once_in(16) {
        archs.extend([0, dice.byte()]);
    }
    let spelt = [text, format!("{arch:05}").as_bytes()].concat();
    match dice.below(8) {
        0..=3 => options.extend([(93, archs), (60, [&spelt[..], b":UNDI:003016"].concat())]),
        4 => options.extend([(60, spelt)]),
        5 => options.extend([(60, begin.to_vec()), (93, archs)]),
        6 => options.extend([(60, begin.to_vec())]),
        _ => options.extend([(
            60,
            dice.pick(&[
                &b"PXEClient:Arch:0000x:UNDI"[..],
                b"PXEClien",
                b"MSFT 5.0",
                b"PXEClient:Arch:99999",
            ])
            .to_vec(),
        )]),
    }
    class
}

/// Options that any client may send, most of them such that it is answered.
fn extras(dice: &mut Dice<'_>, options: &mut Vec<(u8, Vec<u8>)>) {
    for _ in 0..dice.below(8) {
        let filler = dice.byte();
        let some = |dice: &mut Dice<'_>, lengths: &[u8]| vec![filler; (*dice.pick(lengths)).into()];
        let option = match dice.below(24) {
            0..=3 => (97, some(dice, &[17, 17, 17, 17, 17, 17, 1, 5, 100, 255])),
            4..=7 => (61, some(dice, &[7, 7, 7, 7, 19, 1, 19, 70, 120, 255])),
            8..=10 => (
                57,
                dice.pick(&[1500u16, 1472, 1260, 576, 576, 548, 350, 328, 300, 0, 65535])
                    .to_be_bytes()
                    .to_vec(),
            ),
            11..=12 => (55, vec![1, 3, 6, 15, 66, 67, filler, 43, 209]),
            13..=15 => (82, agent(dice, filler)),
            16 => (51, dice.pick(&[&[0, 0, 14, 16][..], &[0, 0, 0, 60], &[1]]).to_vec()),
            17 => (12, b"what-it-calls-itself".to_vec()),
            18 => (94, vec![1, 2, 1]),
            19 => (80, vec![]),
            20 => (224, some(dice, &[0, 1, 8, 64, 255])),
            21 => (filler, some(dice, &[0, 1, 4, 4])),
            _ => (116, vec![1]),
        };
        // Most are there once; what is twice is the daemon's.
        if options.iter().all(|(code, _)| *code != option.0) || dice.once_in(32) {
            options.push(option);
        }
    }
    if dice.once_in(24) {
        options.push(match dice.below(4) {
            0 => (118, vec![192, 168, 90, 0]),
            1 => (52, vec![1 + dice.below(3)]),
            2 => (dice.byte(), vec![]),
            _ => (50, vec![1, 2, 3]),
        });
    }
}

/// What a relay agent says.
fn agent(dice: &mut Dice<'_>, filler: u8) -> Vec<u8> {
    match dice.below(16) {
        13 => vec![5, 4, 10, 1, 0, 0],
        14 => vec![1, 2, 0, 1, 11, 4, 10, 1, 0, 1],
        15 => vec![1, 9, filler],
        length => {
            [&[1, 4, 0, 1, 0, filler, 2, 2 + length][..], &[filler; 2], &vec![7; length.into()]].concat()
        }
    }
}

/// Options that bring the reply to a length where something changes, or to the next: the most that there is room for, the least that is
/// sent, what the client takes.
fn tight(
    dice: &mut Dice<'_>,
    place: &Place,
    client: &Client,
    class: Class,
    options: &mut Vec<(u8, Vec<u8>)>,
) {
    let Some(machine) = place.entries.machines.iter().find(|machine| machine.mac == client.mac) else {
        return;
    };
    let Some(template) = &place.entries.groups[machine.group].templates[class as usize] else { return };
    options.retain(|(code, _)| *code != 61);
    let echoed = options.iter().filter(|(code, _)| [97, 82].contains(code)).map(|(_, value)| 2 + value.len());
    let before = template.len() + usize::from(machine.name.len) + echoed.sum::<usize>();
    let end = *dice.pick(&[LARGEST, SMALLEST]) + 2 - usize::from(dice.below(5));
    let mut reply = before + 1;
    if let Some(length @ 1..=255) = end.checked_sub(reply + 2) {
        options.push((61, vec![0x61; length]));
        reply = end;
    }
    if dice.once_in(2) {
        let takes = reply.max(SMALLEST) + 28 + 2 - usize::from(dice.below(4));
        options.retain(|(code, _)| *code != 57);
        options.push((57, u16::try_from(takes).unwrap_or(u16::MAX).to_be_bytes().to_vec()));
    }
}
