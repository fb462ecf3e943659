//! Requests as clients send them, and replies as the daemon would, as whole frames.

use std::net::Ipv4Addr;

use netboot::dhcp::options::{Client, Echo, Subnet, finish, template_within};
use netboot::inventory::Host;
use netboot::mac::Mac;
use netboot_ebpf::{Answer, Class};

use super::{BLADE, BLADE_ADDR, SERVER, blade, snapshot, subnet};

/// The server's interface.
pub(super) const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const GUID: [u8; 17] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const CLIENT_ID: [u8; 7] = [1, 0x52, 0x54, 0, 0, 0, 11];

/// A request, field by field.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) to: Mac,
    pub(super) from: Mac,
    /// What the VLAN tags say behind their type: priority and VLAN, the outer first.
    pub(super) tags: Vec<u16>,
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) ports: (u16, u16),
    /// `op htype hlen hops`
    pub(super) begin: [u8; 4],
    pub(super) flags: u16,
    pub(super) ciaddr: Ipv4Addr,
    pub(super) giaddr: Ipv4Addr,
    pub(super) chaddr: [u8; 16],
    pub(super) cookie: [u8; 4],
    /// Without END.
    pub(super) options: Vec<u8>,
    /// Zeros behind END up to this length of the UDP data.
    pub(super) padded: usize,
}

impl Request {
    /// A request of the reserved machine, as its class sends it.
    pub(super) fn new(message: u8, class: Class) -> Self {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&BLADE.0);
        let mut request = Self {
            to: Mac::BROADCAST,
            from: BLADE,
            tags: Vec::new(),
            src: Ipv4Addr::UNSPECIFIED,
            dst: Ipv4Addr::BROADCAST,
            ports: (68, 67),
            begin: [1, 1, 6, 0],
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            cookie: [99, 130, 83, 99],
            options: Vec::new(),
            padded: 0,
        };
        request = request.option(53, &[message]).option(55, &[1, 3, 6, 15, 66, 67]);
        match class {
            Class::Plain => request.option(61, &CLIENT_ID),
            Class::Bios => request
                .option(57, &1260u16.to_be_bytes())
                .option(93, &[0, 0])
                .option(94, &[1, 2, 1])
                .option(60, b"PXEClient:Arch:00000:UNDI:002001")
                .option(97, &GUID)
                .padded(548),
            Class::Ipxe => request
                .option(57, &1472u16.to_be_bytes())
                .option(93, &[0, 0])
                .option(60, b"PXEClient:Arch:00000:UNDI:002001")
                .option(77, b"iPXE")
                .option(175, &[177, 5, 1, 0x80, 0x86, 0x10, 0x0e, 33, 1, 1])
                .option(61, &CLIENT_ID)
                .option(97, &GUID),
            class => request.option(60, vendor_class(class)).option(93, &[0, arch(class)]),
        }
    }

    pub(super) fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push(code);
        self.options.push(u8::try_from(value.len()).unwrap());
        self.options.extend_from_slice(value);
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn padded(mut self, length: usize) -> Self {
        self.padded = length;
        self
    }

    /// The UDP data.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut data = self.begin.to_vec();
        data.extend_from_slice(&[0xde, 0xad, 0xbe, 0xef, 0, 4]);
        data.extend_from_slice(&self.flags.to_be_bytes());
        data.extend_from_slice(&self.ciaddr.octets());
        data.extend_from_slice(&[0; 8]);
        data.extend_from_slice(&self.giaddr.octets());
        data.extend_from_slice(&self.chaddr);
        data.extend_from_slice(&[0; 192]);
        data.extend_from_slice(&self.cookie);
        data.extend_from_slice(&self.options);
        data.push(255);
        if data.len() < self.padded {
            data.resize(self.padded, 0);
        }
        data
    }

    /// The frame.
    pub(super) fn frame(&self) -> Vec<u8> {
        self.frame_of(&self.payload())
    }

    /// The frame with other UDP data.
    pub(super) fn frame_of(&self, data: &[u8]) -> Vec<u8> {
        frame(self.to, self.from, &self.tags, (self.src, self.ports.0), (self.dst, self.ports.1), data)
    }

    /// The frame of the daemon's answer to the reserved machine. The options are found in the plain way.
    pub(super) fn reply(&self, answer: Answer, class: Class, to: (Mac, Ipv4Addr)) -> Vec<u8> {
        self.reply_of(&subnet(), &blade(), answer, class, (to.0, to.1, 68))
    }

    /// The same for another machine of another subnet, to some port.
    pub(super) fn reply_of(
        &self,
        subnet: &Subnet,
        blade: &Host,
        answer: Answer,
        class: Class,
        to: (Mac, Ipv4Addr, u16),
    ) -> Vec<u8> {
        let asks = self.find(55);
        let snapshot = snapshot();
        let client = Client::new(subnet, &snapshot, blade.addr, Some(blade), class).asking(asks);
        let ciaddr = if answer == Answer::Ack { self.ciaddr.octets() } else { [0; 4] };
        let echo = Echo {
            xid: [0xde, 0xad, 0xbe, 0xef],
            secs: [0, 4],
            flags: self.flags.to_be_bytes(),
            ciaddr,
            giaddr: self.giaddr.octets(),
            chaddr: self.chaddr,
            guid: self.find(97),
            client_id: self.find(61),
            relay_info: self.find(82),
            ..Echo::default()
        };
        let takes = self.find(57).map_or(0, |size| u16::from_be_bytes(size.try_into().unwrap()));
        let template = template_within(subnet, &client, echo.leaves(subnet.room(takes)));
        let data = finish(&template, answer as u8, &echo);
        frame(to.0, SERVER_MAC, &self.tags, (SERVER, 67), (to.1, to.2), &data)
    }

    fn find(&self, wanted: u8) -> Option<&[u8]> {
        let mut options = self.options.as_slice();
        while let [code, rest @ ..] = options {
            if *code == 0 {
                options = rest;
                continue;
            }
            let (value, rest) = rest[1..].split_at(usize::from(rest[0]));
            if *code == wanted {
                return Some(value);
            }
            options = rest;
        }
        None
    }

    /// Where the reply goes when nothing special is said.
    pub(super) const HOME: (Mac, Ipv4Addr) = (BLADE, BLADE_ADDR);
}

/// Option 60 of other firmware.
const fn vendor_class(class: Class) -> &'static [u8] {
    if class.is_http() { b"HTTPClient:Arch:00016:UNDI:003001" } else { b"PXEClient:Arch:00007:UNDI:003000" }
}

/// Option 93 of other firmware.
fn arch(class: Class) -> u8 {
    (0..=u8::MAX).find(|arch| Class::of_arch(u16::from(*arch)) == class).unwrap()
}

/// A frame with right lengths and checksums.
pub(super) fn frame(
    to: Mac,
    from: Mac,
    tags: &[u16],
    src: (Ipv4Addr, u16),
    dst: (Ipv4Addr, u16),
    data: &[u8],
) -> Vec<u8> {
    let mut udp = [src.1.to_be_bytes(), dst.1.to_be_bytes(), length(8 + data.len()), [0, 0]].concat();
    udp.extend_from_slice(data);
    let pseudo = [&src.0.octets()[..], &dst.0.octets(), &[0, 17], &length(udp.len()), &udp].concat();
    udp[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());

    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&length(20 + udp.len()));
    ip.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend_from_slice(&src.0.octets());
    ip.extend_from_slice(&dst.0.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut frame = [to.0, from.0].concat();
    for (number, tag) in tags.iter().enumerate() {
        // IEEE 802.1ad: the outer of two has a type of its own.
        let kind = if number + 1 < tags.len() { [0x88, 0xa8] } else { [0x81, 0] };
        frame.extend_from_slice(&kind);
        frame.extend_from_slice(&tag.to_be_bytes());
    }
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(&ip);
    frame.extend_from_slice(&udp);
    frame
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap().to_be_bytes()
}

/// RFC 1071, written down plainly; not the code under test.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    !u16::try_from(sum).unwrap()
}
