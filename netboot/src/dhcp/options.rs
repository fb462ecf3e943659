//! What a reply says: the one builder of replies for the daemon and for the XDP program.
//!
//! A reply has two parts. The *template* is all that does not depend on the request: the BOOTP header and the
//! options of one client in one class. *Finishing* puts in what the request decides: message type, the echoed
//! header fields and the echoed options. The XDP program is given templates and finishes them by the same rule
//! in the kernel, so that both send the same bytes:
//!
//! 1. the template: 236 bytes of header, cookie, option 53 first, the others, one option 0 behind option 67, and the
//!    machine's name (option 12) last: what is before it many machines have in common, but for `yiaddr`;
//! 2. `xid secs flags ciaddr giaddr chaddr` and the value of option 53 written over it; `hops` is 0;
//! 3. option 97, then option 61, as the client sent them (RFC 4578 2.3, RFC 6842), each if it was there;
//! 4. option 118 if its subnet was chosen by it (RFC 3011 2), option 80 in an ACK to a DISCOVER (RFC 4039 3.1): XDP
//!    passes requests for which they are due;
//! 5. option 82 verbatim and last (RFC 3046 2.2), END, zeros up to 300 bytes (old BOOTP, RFC 1542 2.1).
//!
//! A BOOTP reply has no option 53; its template is made to the size of the old vendor area.
//!
//! What does not fit is left out whole: first the options that people set for those who ask, then the others that they
//! set, each from the highest code down, then what a client can do without (`SPARE`), at last what people set in the place
//! of the server's own: a machine without it is better off than one without an answer.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use netboot_ebpf::Class;
use netboot_ebpf::abi::TEMPLATE_MAX;
use netboot_ebpf::verdict::message::BOOTP;

pub use self::bootp::bootp;
pub use self::client::Client;
use self::custom::add_custom;
pub use self::echo::Echo;
use super::{boot, menu};
use crate::config::options::Custom;
use crate::config::{self, Boot, Menu, Settings};
use crate::net::link::Link;

/// Length of the BOOTP header without the options' cookie.
pub const HEADER: usize = 236;
/// Where the value of option 53 stands in every template.
pub const MESSAGE_AT: usize = HEADER + 4 + 2;
/// Where the value of option 54 stands in every template.
const SERVER_ID_AT: usize = MESSAGE_AT + 1 + 2;
/// The smallest reply: a BOOTP message with its 64-byte vendor area.
pub const SMALLEST: usize = 300;
/// The largest reply to a client that says nothing of it: what every client must take (RFC 2132 9.10: 576 bytes with
/// IP and UDP headers).
pub const LARGEST: usize = 576 - HEADERS;
/// IP and UDP headers, which option 57 and the MTU count.
const HEADERS: usize = 28;
/// Length of the header field `file`.
const FILE: usize = 128;
/// The DHCP magic cookie.
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// What a subnet tells its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// This server's address: `siaddr`, `sname`, options 54 and 66.
    pub server: Ipv4Addr,
    /// The subnet: options 1 and 28.
    pub prefix: Ipv4Network,
    /// Length of a lease of which nothing else is said, seconds.
    pub lease_secs: u32,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<String>,
    /// The boot files that are set.
    pub boot: Boot,
    /// Where this server's HTTP listens: UEFI HTTP boot is told a whole URL.
    pub http_port: u16,
    /// The boot menu that PXE firmware shows.
    pub menu: Option<Menu>,
    /// The options that are set by number, and the profiles.
    pub custom: Custom,
    /// A DISCOVER with option 80 is answered by an ACK.
    pub rapid_commit: bool,
    /// The largest IP packet that the interface takes, bytes.
    pub mtu: u32,
}

impl Subnet {
    /// What the clients on this interface are told.
    pub fn new(link: &Link, settings: &Settings) -> Self {
        Self::at(link.addr, link.prefix, link.mtu, settings)
    }

    /// What the clients of an interface with this address, prefix and MTU are told.
    pub fn at(server: Ipv4Addr, prefix: Ipv4Network, mtu: u32, settings: &Settings) -> Self {
        Self {
            server,
            prefix,
            lease_secs: settings.dhcp.lease_secs,
            routers: settings.dhcp.router.clone().unwrap_or_else(|| vec![server]),
            dns: settings.dhcp.dns.clone(),
            domain: settings.dhcp.domain.clone(),
            boot: settings.boot.clone(),
            http_port: settings.http.port,
            menu: settings.dhcp.menu.clone(),
            custom: settings.dhcp.custom.clone(),
            rapid_commit: settings.dhcp.rapid_commit,
            mtu,
        }
    }

    /// The largest reply to a client whose option 57 says this; 0: it has none. Never larger than the MTU, for clients in
    /// their firmware do not put fragments together.
    pub fn room(&self, max_size: u16) -> usize {
        let mtu = usize::try_from(self.mtu).unwrap_or(usize::MAX);
        let said = if max_size == 0 { LARGEST + HEADERS } else { usize::from(max_size) };
        said.min(mtu).saturating_sub(HEADERS)
    }

    /// What the clients of a subnet behind a relay agent are told, by the same server.
    #[must_use]
    pub fn behind_relay(&self, subnet: &config::Subnet) -> Self {
        let config::Subnet { prefix, relay, lease_secs, router, dns, domain, options, .. } = subnet;
        let by_relay = || relay.filter(|relay| prefix.contains(*relay)).into_iter().collect();
        Self {
            prefix: *prefix,
            lease_secs: lease_secs.unwrap_or(self.lease_secs),
            routers: router.clone().unwrap_or_else(by_relay),
            dns: dns.clone().unwrap_or_else(|| self.dns.clone()),
            domain: domain.clone().or_else(|| self.domain.clone()),
            custom: Custom { options: self.custom.options.with(options), ..self.custom.clone() },
            ..self.clone()
        }
    }
}

/// The part of a reply that does not depend on the request; no END.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where the machine's name begins.
    name_at: usize,
    left_out: Vec<u8>,
}

impl Template {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes before the machine's name.
    pub fn before_name(&self) -> &[u8] {
        self.bytes.get(..self.name_at).unwrap_or_default()
    }

    /// The machine's name as option 12, with code and length; empty when it has none.
    pub fn name(&self) -> &[u8] {
        self.bytes.get(self.name_at..).unwrap_or_default()
    }

    /// The codes of the options that did not fit, in the order in which they went.
    pub fn left_out(&self) -> &[u8] {
        &self.left_out
    }

    /// The same with another server identifier, which is always the second option: a relay agent can ask for its own
    /// address there (RFC 5107).
    #[must_use]
    pub fn from_server(mut self, id: Ipv4Addr) -> Self {
        put(&mut self.bytes, SERVER_ID_AT, &id.octets());
        self
    }
}

/// The options of a reply under construction.
struct Builder(Vec<u8>);

impl Builder {
    /// Adds an option; an empty one is left out, a longer one than 255 bytes is split (RFC 3396).
    fn option(&mut self, code: u8, value: &[u8]) {
        for part in value.chunks(255) {
            self.0.push(code);
            // chunks(255) never gives more
            self.0.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            self.0.extend_from_slice(part);
        }
    }
}

/// Builds the template of a client's OFFER and ACK, as the XDP program takes it.
pub fn template(subnet: &Subnet, client: &Client<'_>) -> Template {
    template_within(subnet, client, TEMPLATE_MAX)
}

/// Builds the template of a client's OFFER and ACK. So that it has no more than `longest` bytes, what a client can do
/// without is left out, what the header says too first.
pub fn template_within(subnet: &Subnet, client: &Client<'_>, longest: usize) -> Template {
    build(subnet, client, Kind::Lease(client.lease_secs), longest)
}

/// Builds the template of the ACK to an INFORM: the same settings, no address and no lease (RFC 2131 4.3.5).
pub fn inform(subnet: &Subnet, client: &Client<'_>, longest: usize) -> Template {
    build(subnet, &Client { addr: Ipv4Addr::UNSPECIFIED, ..*client }, Kind::Inform, longest)
}

/// Builds the template of the boot service's OFFER and ACK: what to boot, and no address or anything that goes with one
/// (PXE 2.1, 2.2). `choice` is what the client chose from the menu.
pub fn boot_service(
    subnet: &Subnet,
    client: &Client<'_>,
    choice: Option<menu::Choice>,
    longest: usize,
) -> Template {
    let client = Client { addr: Ipv4Addr::UNSPECIFIED, hostname: None, ..*client };
    build(subnet, &client, Kind::BootService(choice), longest)
}

/// What a template is for.
#[derive(Clone, Copy)]
enum Kind {
    /// An address for so many seconds.
    Lease(u32),
    /// Settings for an address that the client has.
    Inform,
    /// What to boot.
    BootService(Option<menu::Choice>),
}

/// Builds the template of a NAK: who refuses and why, nothing that could be taken for a lease (RFC 2131 table 3).
/// `why` is for the client's log, at most 255 bytes.
pub fn refusal(server: Ipv4Addr, why: &str) -> Template {
    let mut reply = Builder(vec![0; HEADER]);
    header(&mut reply.0, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, "", "");
    reply.0.extend_from_slice(&COOKIE);
    reply.option(53, &[0]);
    reply.option(54, &server.octets());
    reply.option(56, why.as_bytes());
    Template { name_at: reply.0.len(), bytes: reply.0, left_out: Vec::new() }
}

/// Options that a client can do without, in the order in which they go: 66 and 67 are in the header too, 28 follows from
/// the mask, 59 and 58 are what a client takes by itself (RFC 2131 4.4.5), and a host name is good without its domain.
const SPARE: [u8; 6] = [66, 67, 28, 59, 58, 15];
/// What goes besides so that firmware sees its menu: it resolves no names, and its channel follows from what is chosen.
const SPARE_WITH_MENU: [u8; 3] = [12, 209, 6];

fn build(subnet: &Subnet, client: &Client<'_>, kind: Kind, longest: usize) -> Template {
    let file = client.file.map_or_else(String::new, |file| boot::whole(subnet, client.class, file));
    // A Raspberry Pi knows its files by itself.
    let boots = !file.is_empty() || client.class == Class::Rpi;
    let server_name = if boots { subnet.server.to_string() } else { String::new() };
    let mut options: Vec<(u8, Vec<u8>)> = vec![(53, vec![0]), (54, addresses(&[subnet.server]))];
    if let Kind::Lease(lease) = kind {
        let times = [(51, lease), (58, lease / 2), (59, lease - lease / 8)];
        options.extend(times.map(|(code, secs)| (code, secs.to_be_bytes().to_vec())));
    }
    if !matches!(kind, Kind::BootService(_)) {
        options.push((1, addresses(&[subnet.prefix.mask()])));
        options.push((28, addresses(&[subnet.prefix.broadcast()])));
        options.push((3, addresses(&subnet.routers)));
        options.push((6, addresses(&subnet.dns)));
        options.push((12, client.hostname.unwrap_or_default().into()));
        options.push((15, subnet.domain.as_deref().unwrap_or_default().into()));
    }
    options.push((66, server_name.clone().into()));
    options.push((67, file.clone().into()));
    if boots {
        options.extend(boot::options(subnet, client.class, client.channel));
    }
    if let Kind::BootService(choice) = kind {
        // Without it iPXE does not take this for a boot service's reply.
        if client.class == Class::Ipxe {
            options.push((60, b"PXEClient".to_vec()));
        }
        if let Some(choice) = choice {
            options.retain(|(code, _)| *code != 43);
            options.push((43, choice.answered()));
        }
    }

    let takes = |code| custom::belongs(code, client.class, kind);
    let (custom, replaced) = add_custom(&mut options, client, takes);
    // Where one was chosen, the channel stays.
    let shows_menu = subnet.menu.is_some()
        && client.class.is_pxe()
        && client.class != Class::Rpi
        && !matches!(kind, Kind::BootService(Some(_)));
    let menu: &[u8] = if shows_menu { &SPARE_WITH_MENU } else { &[] };
    let spare = SPARE.iter().chain(menu).copied().filter(|code| *code != 67 || file.len() < FILE);
    let mut spare = custom.into_iter().chain(spare).chain(replaced);
    let mut left_out = Vec::new();
    // EDK II ends the name with a NUL in its copy of the packet, over the code of the next option, and then takes the copy
    // for an offer without PXE options. Early boot ROMs of the Raspberry Pi 4 ignore a reply with padding between its options.
    let ends_file = client.class != Class::Rpi;
    let length = |options: &[(u8, Vec<u8>)]| -> usize {
        let values = options.iter().filter(|(_, value)| !value.is_empty());
        let length = |(code, value): &(u8, Vec<u8>)| {
            value.len() + 2 * value.len().div_ceil(255) + usize::from(ends_file && *code == 67)
        };
        HEADER + COOKIE.len() + values.map(length).sum::<usize>()
    };
    while length(&options) > longest
        && let Some(code) = spare.next()
    {
        let before = options.len();
        options.retain(|(other, value)| *other != code || value.is_empty());
        if options.len() < before {
            left_out.push(code);
        }
    }

    let mut reply = Builder(vec![0; HEADER]);
    header(&mut reply.0, client.addr, subnet.server, &server_name, &file);
    reply.0.extend_from_slice(&COOKIE);
    for (code, value) in options.iter().filter(|(code, _)| *code != 12) {
        reply.option(*code, value);
        if ends_file && *code == 67 && !value.is_empty() {
            reply.0.push(0);
        }
    }
    let name_at = reply.0.len();
    for (code, value) in options.iter().filter(|(code, _)| *code == 12) {
        reply.option(*code, value);
    }
    Template { bytes: reply.0, name_at, left_out }
}

fn addresses(addresses: &[Ipv4Addr]) -> Vec<u8> {
    addresses.iter().flat_map(Ipv4Addr::octets).collect()
}

/// Writes the header fields that the template fixes. Names that do not fit their field with a closing NUL are
/// left to the options.
fn header(bytes: &mut [u8], yiaddr: Ipv4Addr, siaddr: Ipv4Addr, sname: &str, file: &str) {
    put(bytes, 0, &[2, 1, 6, 0]);
    put(bytes, 16, &yiaddr.octets());
    put(bytes, 20, &siaddr.octets());
    if sname.len() < 64 {
        put(bytes, 44, sname.as_bytes());
    }
    if file.len() < FILE {
        put(bytes, 108, file.as_bytes());
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// Makes the reply from its template: the rule at the top of this file.
pub fn finish(template: &Template, message: u8, echo: &Echo<'_>) -> Vec<u8> {
    let mut reply = Builder(template.bytes.clone());
    put(&mut reply.0, 4, &echo.xid);
    put(&mut reply.0, 8, &echo.secs);
    put(&mut reply.0, 10, &echo.flags);
    put(&mut reply.0, 12, &echo.ciaddr);
    put(&mut reply.0, 24, &echo.giaddr);
    put(&mut reply.0, 28, &echo.chaddr);
    if message != BOOTP {
        put(&mut reply.0, MESSAGE_AT, &[message]);
    }
    // To a BOOTP client that reads no options there are none.
    if reply.0.len() > HEADER {
        echo.add_to(&mut reply);
        reply.0.push(255);
    }
    if reply.0.len() < SMALLEST {
        reply.0.resize(SMALLEST, 0);
    }
    reply.0
}

mod bootp;
mod client;
mod custom;
#[cfg(test)]
mod custom_tests;
mod echo;
#[cfg(test)]
mod tests;
