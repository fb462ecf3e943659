//! The decision about a request: a reply, or silence and the reason, and what changes in the leases.
//!
//! RFC 2131 4.3 (what each message means) and 4.1 (where a reply goes), RFC 1534 (BOOTP), RFC 4039 (rapid commit). Pure and synchronous: the snapshot, the
//! leases and the time are arguments, and what is to change comes back as a value. Reserved machines are decided by
//! [`netboot_ebpf::decide`], so the XDP program and the daemon cannot differ; machines without a reservation go
//! through the same decision with the address that the pool has for them.

use std::net::Ipv4Addr;

use netboot_ebpf::verdict::{self, Verdict, message};
use netboot_ebpf::{Answer, Reason};

use super::leases::Leases;
use super::options::{Client, Subnet, Template, bootp, finish, inform, refusal, template_within};
use super::wire::Request;
use crate::inventory::{Host, Snapshot};
use crate::mac::Mac;

/// What a decision looks at besides the request.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What the clients of this network are told.
    pub subnet: &'a Subnet,
    /// The reserved machines.
    pub snapshot: &'a Snapshot,
    /// Everybody else.
    pub leases: &'a Leases,
    /// This is the only server: what nobody gave, it refuses.
    pub authoritative: bool,
    /// Seconds since 1970.
    pub now: u64,
}

/// How a packet was addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressed {
    /// To everybody.
    Broadcast,
    /// To this server's address: the client means this server.
    Server,
}

/// Where a reply goes (RFC 2131 4.1), always to port 68.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this address at this Ethernet address. The client may have no address to answer ARP with yet.
    Unicast {
        /// Destination of the frame.
        mac: Mac,
        /// Destination of the packet.
        addr: Ipv4Addr,
    },
    /// To everybody on the link.
    Broadcast,
}

/// What a client is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// OFFER, ACK or NAK; or BOOTP.
    pub message: u8,
    /// The address that the client is given, keeps or is refused.
    pub addr: Ipv4Addr,
    /// Where to.
    pub route: Route,
    /// The DHCP message.
    pub bytes: Vec<u8>,
}

/// What a decision changes in the leases; the client's own entries are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Keep this address for a moment: it is being offered.
    Offer(Ipv4Addr),
    /// Give back what was offered.
    Forget,
    /// Lease this address. It must be on disk before the reply is sent.
    Lease(Ipv4Addr),
    /// The client has ended its lease of this address.
    Release(Ipv4Addr),
    /// The client found somebody else at this address.
    Decline(Ipv4Addr),
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is answered.
    Reply(Reply, Change),
    /// It is not.
    Ignore(Reason, Change),
}

impl From<Reason> for Outcome {
    fn from(reason: Reason) -> Self {
        Self::Ignore(reason, Change::None)
    }
}

/// Decides about a request.
pub fn decide(request: &Request, addressed: Addressed, view: &View<'_>) -> Outcome {
    let chosen = u32::from(request.server_id) != 0;
    let ours = request.server_id == view.subnet.server;
    if !request.giaddr.is_unspecified() {
        return Reason::Relayed.into();
    }
    match request.message {
        message::DISCOVER | message::REQUEST | message::BOOTP => {}
        message::INFORM => return answer_inform(request, view),
        message::RELEASE | message::DECLINE if !ours => return Reason::OtherServer.into(),
        message::RELEASE => return give_up(request, request.ciaddr, Change::Release(request.ciaddr), view),
        message::DECLINE
            if view.snapshot.by_mac(request.mac).is_some_and(|host| host.addr == request.requested) =>
        {
            return Reason::AddressInUse.into();
        }
        message::DECLINE => {
            return give_up(request, request.requested, Change::Decline(request.requested), view);
        }
        _ => return Reason::MessageType.into(),
    }
    // This server's own address is nobody's, whatever the file says: the machine is one without a reservation.
    let reserved = view.snapshot.by_mac(request.mac).filter(|host| host.addr != view.subnet.server);
    if request.message == message::BOOTP {
        return answer_bootp(request, reserved, view);
    }
    // Who gets its address by the first message needs no second (RFC 4039 3.1).
    let rapid = view.subnet.rapid_commit && request.rapid_commit && request.message == message::DISCOVER;
    let binding = request.message != message::DISCOVER || rapid;
    if reserved.is_none() && binding && view.leases.is_writing(request.mac) {
        // It asks again before the disk has answered; one answer is on its way.
        return Reason::QueueFull.into();
    }
    let client = match reserved {
        Some(host) => Known::Reserved(host),
        None if request.message == message::DISCOVER => match choose(request, view) {
            Some(addr) => Known::Pool(addr),
            None => return Reason::PoolExhausted.into(),
        },
        None => Known::Pool(may_have(request, addressed, view).unwrap_or(Ipv4Addr::UNSPECIFIED)),
    };
    let addr = client.addr();
    let host = verdict::Host { addr: addr.into(), server: view.subnet.server.into() };
    match netboot_ebpf::decide(&request.facts(), &host) {
        Verdict::Answer(answer) => {
            let answer = if rapid { Answer::Ack } else { answer };
            let change = match (client, answer) {
                (Known::Reserved(_), _) => Change::None,
                (Known::Pool(_), Answer::Offer) => Change::Offer(addr),
                (Known::Pool(_), Answer::Ack) => Change::Lease(addr),
            };
            let client = Client::new(view.subnet, view.snapshot, addr, client.host(), request.class)
                .asking(request.parameters());
            let template = |longest| template_within(view.subnet, &client, longest);
            finished(request, view.subnet, answer as u8, addr, template, change)
        }
        // The client has an address from somebody else now (RFC 2131 3.1, step 4).
        Verdict::Pass(Reason::OtherServer) => Outcome::Ignore(Reason::OtherServer, Change::Forget),
        Verdict::Pass(Reason::WrongAddress) => {
            let known = matches!(client, Known::Reserved(_)) || view.leases.of(request.mac).is_some();
            let to_us = chosen || addressed == Addressed::Server;
            if view.authoritative || to_us {
                refuse(request, view)
            } else if known {
                Reason::WrongAddress.into()
            } else {
                Reason::NoLease.into()
            }
        }
        Verdict::Pass(reason) => reason.into(),
    }
}

/// A client that is asking for an address.
#[derive(Clone, Copy)]
enum Known<'a> {
    /// It has a reservation.
    Reserved(&'a Host),
    /// It has none, and may have this address of the pool; unspecified when it may not have the one it asks for.
    Pool(Ipv4Addr),
}

impl<'a> Known<'a> {
    const fn addr(self) -> Ipv4Addr {
        match self {
            Self::Reserved(host) => host.addr,
            Self::Pool(addr) => addr,
        }
    }

    const fn host(self) -> Option<&'a Host> {
        match self {
            Self::Reserved(host) => Some(host),
            Self::Pool(_) => None,
        }
    }
}

/// The address to offer, in the order of RFC 2131 4.3.1: the one it has or had, the one it was offered, the one it
/// would like, a new one.
fn choose(request: &Request, view: &View<'_>) -> Option<Ipv4Addr> {
    let mac = request.mac;
    let had = view.leases.of(mac).map(|lease| lease.addr);
    let known = [had, view.leases.held_for(mac), Some(request.requested)].into_iter().flatten();
    known
        .filter(|addr| view.leases.available(*addr, mac, view.now))
        .chain(view.leases.candidates(mac, view.now))
        .find(|addr| leasable(*addr, view))
}

/// The address that a REQUEST of a client without reservation names, if the client may have it.
fn may_have(request: &Request, addressed: Addressed, view: &View<'_>) -> Option<Ipv4Addr> {
    let claimed = if request.requested.is_unspecified() { request.ciaddr } else { request.requested };
    if !leasable(claimed, view) || !view.leases.available(claimed, request.mac, view.now) {
        return None;
    }
    let lease = view.leases.of(request.mac).filter(|lease| leasable(lease.addr, view));
    let recorded = lease.map(|lease| lease.addr) == Some(claimed);
    let offered = view.leases.held_for(request.mac) == Some(claimed);
    // It chose our offer, though the offer may have been forgotten by a restart.
    let selecting = request.server_id == view.subnet.server;
    // No record of it at all: the records were lost, or it comes from elsewhere. The only server, or the one that it
    // turns to by name, may say yes; another stays silent (RFC 2131 4.3.2).
    let adopted = lease.is_none() && (view.authoritative || addressed == Addressed::Server);
    (recorded || offered || selecting || adopted).then_some(claimed)
}

/// Not somebody's by the operator's word: reserved, this server's, a router's or a name server's.
fn leasable(addr: Ipv4Addr, view: &View<'_>) -> bool {
    let Subnet { server, prefix, routers, dns, .. } = view.subnet;
    addr != *server
        && prefix.contains(addr)
        && addr != prefix.network()
        && addr != prefix.broadcast()
        && !routers.contains(&addr)
        && !dns.contains(&addr)
        && view.snapshot.by_addr(addr).is_none()
}

/// RELEASE and DECLINE get no answer, and count only from the client that has the address (RFC 2131 4.3.3, 4.3.4).
fn give_up(request: &Request, addr: Ipv4Addr, change: Change, view: &View<'_>) -> Outcome {
    let leased = view.leases.of(request.mac).is_some_and(|lease| lease.addr == addr);
    if view.leases.is_writing(request.mac) {
        Reason::QueueFull.into()
    } else if leased && view.leases.available(addr, request.mac, view.now) {
        Outcome::Ignore(Reason::MessageType, change)
    } else {
        Reason::NoLease.into()
    }
}

/// INFORM: settings for a client that has an address by other means, which is left as it is (RFC 2131 4.3.5).
fn answer_inform(request: &Request, view: &View<'_>) -> Outcome {
    let addr = request.ciaddr;
    if addr.is_unspecified() {
        return Reason::OddRequest.into();
    }
    // Whoever is elsewhere would get a subnet mask that is not its own.
    if !view.subnet.prefix.contains(addr) {
        return Reason::WrongAddress.into();
    }
    let host = view.snapshot.by_mac(request.mac);
    let client =
        Client::new(view.subnet, view.snapshot, addr, host, request.class).asking(request.parameters());
    let template = |longest| inform(view.subnet, &client, longest);
    finished(request, view.subnet, message::ACK, addr, template, Change::None)
}

/// BOOTP: a reserved machine gets its address without a lease. Others would keep theirs for ever.
fn answer_bootp(request: &Request, reserved: Option<&Host>, view: &View<'_>) -> Outcome {
    let Some(host) = reserved else { return Reason::BootpUnknown.into() };
    if !request.ciaddr.is_unspecified() && request.ciaddr != host.addr {
        return Reason::WrongAddress.into();
    }
    let client = Client::new(view.subnet, view.snapshot, host.addr, Some(host), request.class);
    let template = |_| bootp(view.subnet, &client, request.reads_options);
    finished(request, view.subnet, message::BOOTP, host.addr, template, Change::None)
}

/// The NAK, always to everybody: the client's address is not to be trusted (RFC 2131 4.1).
fn refuse(request: &Request, view: &View<'_>) -> Outcome {
    let claimed = if request.requested.is_unspecified() { request.ciaddr } else { request.requested };
    let template = |_| refusal(view.subnet.server, "this address is not yours here");
    finished(request, view.subnet, message::NAK, claimed, template, Change::Forget)
}

/// Finishes the template that fits what the client takes; a reply that is too long for it all the same is not sent.
fn finished(
    request: &Request,
    subnet: &Subnet,
    message: u8,
    addr: Ipv4Addr,
    template: impl FnOnce(usize) -> Template,
    change: Change,
) -> Outcome {
    let refused = message == message::NAK;
    let mut echo = request.echo(message);
    if refused {
        echo.guid = None;
    }
    echo.rapid_commit = message == message::ACK && request.message == message::DISCOVER;
    let room = subnet.room(request.max_size);
    let bytes = finish(&template(echo.leaves(room)), message, &echo);
    if bytes.len() > room {
        return Reason::TooSmall.into();
    }
    let mac = request.mac;
    let route = if refused {
        Route::Broadcast
    } else if !request.ciaddr.is_unspecified() {
        Route::Unicast { mac, addr: request.ciaddr }
    } else if request.broadcast() {
        Route::Broadcast
    } else {
        Route::Unicast { mac, addr }
    };
    Outcome::Reply(Reply { message, addr, route, bytes }, change)
}

#[cfg(test)]
mod tests;
