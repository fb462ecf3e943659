//! Bytes to [`Request`]: the only user of dhcproto, and the only file that knows how a request is laid out.
//!
//! RFC 2131 2 (header), RFC 2132 9.3 (option 52), RFC 3396 (options in several parts), RFC 951 and 1497 (BOOTP). Nothing here decides
//! about an answer. A packet that cannot be read is a [`Reason`], never a panic: dhcproto slices the hardware
//! address by `hlen`, does not check the cookie, stops without a word at a malformed option and does not follow
//! option 52, so all of that is done here before it is asked.

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::{DhcpOptionIterator, Message};
use dhcproto::v4::{HType, Opcode, OptionCode};
use netboot_ebpf::class::{Class, Marks, classify};
use netboot_ebpf::{Reason, verdict};

use self::agent::sub_option;
use super::options::{COOKIE, Echo, HEADER};
use crate::mac::Mac;
use crate::uuid::Uuid;

mod agent;

/// What a client asks, as far as an answer needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Option 53, one of [`verdict::message`] or a number that nobody knows.
    pub message: u8,
    /// It begins its options with the cookie, and so reads those of a reply; a BOOTP client may not (RFC 1497).
    pub reads_options: bool,
    /// By which its machine is known: the client's Ethernet address, from `chaddr`, until the server finds that this is another
    /// card of a machine.
    pub mac: Mac,
    /// Header field `ciaddr`.
    pub ciaddr: Ipv4Addr,
    /// Header field `giaddr`.
    pub giaddr: Ipv4Addr,
    /// Option 50, unspecified when absent.
    pub requested: Ipv4Addr,
    /// Option 54, unspecified when absent.
    pub server_id: Ipv4Addr,
    /// Option 57, 0 when absent.
    pub max_size: u16,
    /// Option 51, the lease that the client would like, in seconds; 0 when absent.
    pub lease_secs: u32,
    /// Option 118, the subnet that the client asks to be in (RFC 3011); unspecified when absent.
    pub subnet_selection: Ipv4Addr,
    /// Option 80: the client takes an ACK in answer to its DISCOVER (RFC 4039).
    pub rapid_commit: bool,
    /// Option 93, the first architecture, whether it is known here or not.
    pub arch: Option<u16>,
    /// The kind of client.
    pub class: Class,
    /// Option 12, the name that the client calls itself; empty when absent.
    pub hostname: Vec<u8>,
    xid: [u8; 4],
    secs: [u8; 2],
    flags: [u8; 2],
    chaddr: [u8; 16],
    card: Mac,
    parameters: Option<Vec<u8>>,
    vendor_class: Option<Vec<u8>>,
    vendor_options: Option<Vec<u8>>,
    guid: Option<Vec<u8>>,
    client_id: Option<Vec<u8>>,
    relay_info: Option<Vec<u8>>,
}

impl Request {
    /// The client cannot be reached by unicast yet (RFC 2131 4.1).
    pub fn broadcast(&self) -> bool {
        self.flags[0] & 0x80 != 0
    }

    /// Option 55: the codes that the client asks for, in its order; `None` when it sent no list.
    pub fn parameters(&self) -> Option<&[u8]> {
        self.parameters.as_deref()
    }

    /// Option 60 as text, for people; what is not UTF-8 is replaced.
    pub fn vendor_class(&self) -> Option<std::borrow::Cow<'_, str>> {
        self.vendor_class.as_deref().map(String::from_utf8_lossy)
    }

    /// Option 43 as it came.
    pub fn vendor_options(&self) -> Option<&[u8]> {
        self.vendor_options.as_deref()
    }

    /// The client's Ethernet address, from `chaddr`.
    pub fn card(&self) -> Mac {
        self.card
    }

    /// Option 97, the machine's identifier: its first three fields are little-endian (RFC 4578 2.3), but for some firmware, so the
    /// second is what it is then. `None` when it cannot be read, and where firmware has none and says so by zeros or ones.
    pub fn machine(&self) -> Option<[Uuid; 2]> {
        let (0, bytes) = self.guid.as_deref()?.split_first()? else { return None };
        let as_written = Uuid(bytes.try_into().ok()?);
        as_written.is_somebodys().then(|| [as_written.swapped(), as_written])
    }

    /// Option 61 as it came.
    pub fn client_id(&self) -> Option<&[u8]> {
        self.client_id.as_deref()
    }

    /// The circuit that the request came in by, as the relay agent names it (RFC 3046 3.1).
    pub fn circuit_id(&self) -> Option<&[u8]> {
        sub_option(self.relay_info.as_deref()?, agent::CIRCUIT_ID)
    }

    /// The remote end of that circuit, as the relay agent names it (RFC 3046 3.2).
    pub fn remote_id(&self) -> Option<&[u8]> {
        sub_option(self.relay_info.as_deref()?, agent::REMOTE_ID)
    }

    /// The subnet that the client is in, if the relay agent says another than its own address (RFC 3527).
    pub fn link_selection(&self) -> Option<Ipv4Addr> {
        agent::address(self.relay_info.as_deref()?, agent::LINK_SELECTION)
    }

    /// The address that the relay agent wants to see in option 54, so that it gets the renewals too (RFC 5107).
    pub fn server_id_override(&self) -> Option<Ipv4Addr> {
        agent::address(self.relay_info.as_deref()?, agent::SERVER_ID_OVERRIDE)
    }

    /// What a reply repeats; of DHCP, `ciaddr` is filled in for an ACK alone (RFC 2131 table 3). A BOOTP client has no
    /// use for options that are longer than its vendor area.
    pub fn echo(&self, message: u8) -> Echo<'_> {
        let bootp = message == verdict::message::BOOTP;
        let ack = message == verdict::message::ACK || bootp;
        let asked_by_dhcp = !bootp && message != verdict::message::NAK;
        Echo {
            xid: self.xid,
            secs: self.secs,
            flags: self.flags,
            ciaddr: if ack { self.ciaddr.octets() } else { [0; 4] },
            giaddr: self.giaddr.octets(),
            chaddr: self.chaddr,
            guid: self.guid.as_deref().filter(|_| !bootp),
            client_id: self.client_id.as_deref().filter(|_| !bootp),
            subnet_selection: Some(self.subnet_selection)
                .filter(|addr| asked_by_dhcp && !addr.is_unspecified()),
            rapid_commit: false,
            relay_info: self.relay_info.as_deref(),
        }
    }

    /// The request as the decision shared with the XDP program wants it. Where a relay agent decides about an answer, and
    /// what options 51, 80 and 118 ask for, is passed up by the XDP program; here it is answered like any other.
    pub fn facts(&self) -> verdict::Request {
        verdict::Request {
            message: self.message,
            ciaddr: self.ciaddr.into(),
            requested: self.requested.into(),
            server_id: self.server_id.into(),
            max_size: self.max_size,
            agent_decides: false,
            subnet_selection: false,
            lease_time: false,
            rapid_commit: false,
            class: self.class,
        }
    }
}

/// Reads a request: the UDP payload of a packet to port 67.
///
/// # Errors
/// The reason for which the packet gets no answer.
pub fn decode(bytes: &[u8]) -> Result<Request, Reason> {
    // dhcproto reads the fields below without looking again at the length.
    let header = Message::new(bytes).map_err(|_| Reason::Truncated)?;
    if header.opcode() != Opcode::BootRequest {
        return Err(Reason::NotRequest);
    }
    let (chaddr, mac) = hardware(&header, bytes).ok_or(Reason::BadHardware)?;
    let vendor_area = bytes.get(HEADER..).unwrap_or_default();
    let reads_options = vendor_area.starts_with(&COOKIE);
    let options = if reads_options {
        Options::read(bytes)?
    } else if vendor_area.iter().all(|byte| *byte == 0) {
        Options(Vec::new())
    } else {
        return Err(Reason::BadCookie);
    };
    let message = match options.fixed(OptionCode::MessageType)? {
        None => verdict::message::BOOTP,
        Some([0]) => return Err(Reason::MessageType),
        Some([message]) => message,
    };
    Ok(Request {
        message,
        reads_options,
        mac,
        ciaddr: header.ciaddr(),
        giaddr: header.giaddr(),
        requested: options.addr(OptionCode::RequestedIpAddress)?,
        server_id: options.addr(OptionCode::ServerIdentifier)?,
        max_size: options.fixed(OptionCode::MaxMessageSize)?.map_or(0, u16::from_be_bytes),
        lease_secs: options.wish(OptionCode::AddressLeaseTime).map_or(0, u32::from_be_bytes),
        subnet_selection: options
            .wish::<4>(OptionCode::SubnetSelection)
            .map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from),
        rapid_commit: options.is_there(OptionCode::RapidCommit),
        arch: options.archs().next(),
        class: classify(&options.marks()),
        hostname: options.owned(OptionCode::Hostname).unwrap_or_default(),
        xid: header.xid().to_be_bytes(),
        secs: header.secs().to_be_bytes(),
        flags: u16::from(header.flags()).to_be_bytes(),
        chaddr,
        card: mac,
        parameters: options.owned(OptionCode::ParameterRequestList),
        vendor_class: options.owned(OptionCode::ClassIdentifier),
        vendor_options: options.owned(OptionCode::VendorExtensions),
        guid: options.owned(OptionCode::ClientMachineIdentifier),
        client_id: options.owned(OptionCode::ClientIdentifier),
        relay_info: options.owned(OptionCode::RelayAgentInformation),
    })
}

/// Whose packet this is, if it is long enough to say, whatever else is wrong with it.
pub fn sender(bytes: &[u8]) -> Option<Mac> {
    hardware(&Message::new(bytes).ok()?, bytes).map(|(_, mac)| mac)
}

/// `chaddr`, whole and as an Ethernet address of one station.
fn hardware(header: &Message<'_>, bytes: &[u8]) -> Option<([u8; 16], Mac)> {
    let chaddr: [u8; 16] = bytes.get(28..44)?.try_into().ok()?;
    let mac: [u8; 6] = chaddr.first_chunk().copied()?;
    let station = mac[0] & 1 == 0 && mac != [0; 6];
    (header.htype() == HType::Eth && header.hlen() == 6 && station).then_some((chaddr, Mac(mac)))
}

/// The options of a packet, in the order of the first part of each, the parts joined (RFC 3396 5 to 7).
struct Options(Vec<(OptionCode, Vec<u8>)>);

impl Options {
    /// Collects from the options field, then from `file`, then from `sname`, as option 52 says.
    fn read(bytes: &[u8]) -> Result<Self, Reason> {
        let mut options = Self(Vec::new());
        options.area(bytes.get(HEADER + COOKIE.len()..).unwrap_or_default())?;
        let more: &[std::ops::Range<usize>] = match options.fixed(OptionCode::OptionOverload)? {
            None => &[],
            Some([1]) => &[FILE],
            Some([2]) => &[SNAME],
            Some([3]) => &[FILE, SNAME],
            Some(_) => return Err(Reason::Overload),
        };
        for area in more {
            options.area(bytes.get(area.clone()).unwrap_or_default())?;
        }
        Ok(options)
    }

    fn area(&mut self, area: &[u8]) -> Result<(), Reason> {
        for option in DhcpOptionIterator::new(framed(area)?) {
            match self.0.iter_mut().find(|(code, _)| *code == option.code()) {
                Some((_, value)) => value.extend_from_slice(option.data()),
                None => self.0.push((option.code(), option.data().to_vec())),
            }
        }
        Ok(())
    }

    /// An option's value; one without any bytes says nothing and counts as absent.
    fn value(&self, code: OptionCode) -> Option<&[u8]> {
        let (_, value) = self.0.iter().find(|(other, _)| *other == code)?;
        (!value.is_empty()).then_some(value.as_slice())
    }

    fn owned(&self, code: OptionCode) -> Option<Vec<u8>> {
        self.value(code).map(<[u8]>::to_vec)
    }

    /// It is there, with or without a value.
    fn is_there(&self, code: OptionCode) -> bool {
        self.0.iter().any(|(other, _)| *other == code)
    }

    /// The value of an option that one can do without: with another length than it should have it counts as absent.
    fn wish<const N: usize>(&self, code: OptionCode) -> Option<[u8; N]> {
        self.value(code)?.try_into().ok()
    }

    /// The value of an option that has one length only.
    fn fixed<const N: usize>(&self, code: OptionCode) -> Result<Option<[u8; N]>, Reason> {
        let Some((_, value)) = self.0.iter().find(|(other, _)| *other == code) else { return Ok(None) };
        <[u8; N]>::try_from(value.as_slice()).map(Some).map_err(|_| Reason::BadOptionLength)
    }

    fn addr(&self, code: OptionCode) -> Result<Ipv4Addr, Reason> {
        Ok(self.fixed::<4>(code)?.map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from))
    }

    fn marks(&self) -> Marks {
        let vendor = self.value(OptionCode::ClassIdentifier).unwrap_or_default();
        let user = self.value(OptionCode::UserClass).unwrap_or_default();
        Marks {
            ipxe_user_class: user == b"iPXE" || user == b"\x04iPXE",
            ipxe_options: self.is_there(OptionCode::from(175)),
            pxe_client: vendor.starts_with(b"PXEClient"),
            http_client: vendor.starts_with(b"HTTPClient"),
            arch: self.arch(),
            arch_text: vendor
                .strip_prefix(b"PXEClient:Arch:")
                .or_else(|| vendor.strip_prefix(b"HTTPClient:Arch:"))
                .and_then(|text| text.get(..5))
                .filter(|digits| digits.iter().all(u8::is_ascii_digit))
                .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()),
        }
    }

    /// Option 93 is a list (RFC 4578 2.1), of which dhcproto would keep the first: the first that is known counts.
    fn arch(&self) -> Option<u16> {
        self.archs().find(|arch| Class::of_arch(*arch) != Class::Other).or_else(|| self.archs().next())
    }

    fn archs(&self) -> impl Iterator<Item = u16> {
        let list = self.value(OptionCode::ClientSystemArchitecture).unwrap_or_default();
        list.chunks_exact(2).filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?)))
    }
}

/// The header fields that option 52 turns into room for options.
const SNAME: std::ops::Range<usize> = 44..108;
/// See [`SNAME`].
const FILE: std::ops::Range<usize> = 108..236;

/// The part of an area before END. An option that runs past the end, or no END, is an error.
fn framed(area: &[u8]) -> Result<&[u8], Reason> {
    let mut at = 0;
    loop {
        at += match area.get(at).ok_or(Reason::BadOptions)? {
            0 => 1,
            255 => return area.get(..at).ok_or(Reason::BadOptions),
            _ => 2 + usize::from(*area.get(at + 1).ok_or(Reason::BadOptions)?),
        };
    }
}

#[cfg(test)]
mod tests;
