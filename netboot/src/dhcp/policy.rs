//! The decision about a request: a reply, or silence and the reason, and what changes in the leases.
//!
//! RFC 2131 4.3 (what each message means) and 4.1 (where a reply goes), RFC 1534 (BOOTP), RFC 4039 (rapid commit).
//! Pure and synchronous: the snapshot, the leases and the time are arguments, and what is to change comes back as a value. Reserved machines are decided by
//! [`netboot_ebpf::decide`], so the XDP program and the daemon cannot differ; machines without a reservation go
//! through the same decision with the address that the pool has for them.

use std::net::{Ipv4Addr, SocketAddrV4};

use netboot_ebpf::verdict::{self, Verdict, message};
use netboot_ebpf::{Answer, Reason};

use super::lease::{Lease, Owner};
use super::leases::{Leases, MOST_DECLINES};
use super::options::{Client, Subnet, template_within};
use super::wire::Request;
use crate::config::{self, Identity, Unknown};
use crate::inventory::{Host, Snapshot};
use crate::mac::Mac;

mod reply;

use reply::{answer_bootp, answer_inform, finished, refuse};

/// What a decision looks at besides the request.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What the clients of this request's subnet are told.
    pub subnet: &'a Subnet,
    /// It is the subnet of the interface, whose clients are reached without a router.
    pub on_link: bool,
    /// The reserved machines.
    pub snapshot: &'a Snapshot,
    /// Everybody else of the subnet.
    pub leases: &'a Leases,
    /// The operator's word.
    pub settings: &'a config::Dhcp,
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
    /// To port 4011 of this server's address, from here: the client means the boot service.
    BootService(SocketAddrV4),
}

/// Where a reply goes (RFC 2131 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this address at this Ethernet address, port 68. The client may have no address to answer ARP with yet.
    Unicast {
        /// Destination of the frame.
        mac: Mac,
        /// Destination of the packet.
        addr: Ipv4Addr,
    },
    /// To everybody on the link, port 68.
    Broadcast,
    /// To a relay agent, port 67.
    Relay(Ipv4Addr),
    /// To a client behind a router, port 68.
    Routed(Ipv4Addr),
    /// From port 4011 to where the request came from (PXE 2.1, 2.2.3): the client has an address and answers ARP.
    BootService(SocketAddrV4),
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
    Lease {
        /// The address.
        addr: Ipv4Addr,
        /// For how long.
        secs: u32,
    },
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

/// Who asks, as leases know it.
pub fn owner(request: &Request, identity: Identity) -> Owner {
    let id = match identity {
        Identity::Mac => None,
        Identity::ClientId => request.client_id().map(Into::into),
    };
    Owner { mac: request.mac, id }
}

/// Decides about a request.
pub fn decide(request: &Request, addressed: Addressed, view: &View<'_>) -> Outcome {
    if let Some(reason) = unanswered(request, view) {
        return reason.into();
    }
    let owner = owner(request, view.settings.identity);
    let chosen = !request.server_id.is_unspecified();
    let ours = request.server_id == server_id(request, view);
    match request.message {
        message::DISCOVER | message::REQUEST | message::BOOTP => {}
        message::INFORM => return answer_inform(request, view),
        // systemd-networkd names no server in its RELEASE, though RFC 2131 4.4.1 wants it. Sent to this one alone it is clear.
        message::RELEASE if ours || (!chosen && addressed == Addressed::Server) => {
            return give_up(&owner, request.ciaddr, Change::Release(request.ciaddr), view);
        }
        message::RELEASE | message::DECLINE if !ours => return Reason::OtherServer.into(),
        message::DECLINE
            if view.snapshot.by_mac(request.mac).is_some_and(|host| host.addr == request.requested) =>
        {
            return Reason::AddressInUse.into();
        }
        message::DECLINE => {
            return give_up(&owner, request.requested, Change::Decline(request.requested), view);
        }
        _ => return Reason::MessageType.into(),
    }
    let discover = request.message == message::DISCOVER;
    let host = view.snapshot.by_mac(request.mac);
    if request.message == message::BOOTP {
        return answer_bootp(request, host.filter(|host| may_use(host, view)), view);
    }
    // Offered another address of the pool a moment ago, it gets that one: a refusal now would end a boot that has begun.
    let offered = |host: &Host| {
        !discover && host.addr != claimed(request) && view.leases.held_for(&owner) == Some(claimed(request))
    };
    let reserved = host.filter(|host| !offered(host) && may_use(host, view)).map(|host| host.addr);
    // Who gets its address by the first message needs no second (RFC 4039 3.1).
    let rapid = discover && view.subnet.rapid_commit && request.rapid_commit;
    let probing = discover && view.leases.is_probing(&owner);
    let writing =
        (!discover || rapid) && (view.leases.is_writing(&owner) || view.leases.is_unsettled(&owner));
    if reserved.is_none() && (probing || writing) {
        // It asks again before the wire or the disk has answered; one answer is on its way. Or the disk has yet to say
        // whether the address that it had is another's now.
        return Reason::Pending.into();
    }
    let addr = match reserved {
        Some(addr) => addr,
        None if discover => match choose(request, &owner, view) {
            Some(addr) => addr,
            None => return Reason::PoolExhausted.into(),
        },
        None => may_have(request, addressed, &owner, view).unwrap_or(Ipv4Addr::UNSPECIFIED),
    };
    let server = verdict::Host { addr: addr.into(), leased: false, server: server_id(request, view).into() };
    match netboot_ebpf::decide(&request.facts(), &server) {
        Verdict::Answer(answer) => {
            let secs = if reserved.is_some() { view.subnet.lease_secs } else { lease_secs(request, view) };
            // An address that is to be looked for on the wire first is offered, not given.
            let unseen =
                view.settings.probe && view.on_link && view.leases.wants_probe(addr, &owner, view.now);
            let answer = if rapid && (reserved.is_some() || !unseen) { Answer::Ack } else { answer };
            let change = match answer {
                _ if reserved.is_some() => Change::None,
                Answer::Offer => Change::Offer(addr),
                Answer::Ack => Change::Lease { addr, secs },
            };
            let client = Client::new(view.subnet, view.snapshot, addr, host, request.class);
            let client = Client { lease_secs: secs, ..client }.asking(request.parameters());
            let template = |longest| template_within(view.subnet, &client, longest);
            finished(request, answer as u8, addr, template, change, view)
        }
        // The client has an address from somebody else now (RFC 2131 3.1, step 4).
        Verdict::Pass(Reason::OtherServer) => Outcome::Ignore(Reason::OtherServer, Change::Forget),
        Verdict::Pass(Reason::WrongAddress) => {
            let known = reserved.is_some() || view.leases.of(&owner).is_some();
            let to_us = chosen || means_this_one(request, addressed);
            if view.settings.authoritative || to_us {
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

/// Why nothing is said to a machine without a reservation, if so. Not even a NAK: a lease from before ends by itself, and
/// a system that runs keeps its address until then; firmware that is refused would end its boot.
pub(super) fn unanswered(request: &Request, view: &View<'_>) -> Option<Reason> {
    let asks = matches!(request.message, message::DISCOVER | message::REQUEST | message::INFORM);
    match view.settings.unknown {
        _ if !asks || view.snapshot.by_mac(request.mac).is_some() => None,
        Unknown::Pool => None,
        Unknown::Hold => Some(Reason::Held),
        Unknown::Deny => Some(Reason::Denied),
    }
}

/// This server's name in option 54: the one that the relay agent wants to see (RFC 5107), else its address. Whoever has
/// chosen it by its address, as another relay agent brought that, hears the address again.
fn server_id(request: &Request, view: &View<'_>) -> Ipv4Addr {
    let own = view.subnet.server;
    let named = !request.giaddr.is_unspecified() && request.server_id != own;
    named.then(|| request.server_id_override()).flatten().unwrap_or(own)
}

/// Whether the client turns to this server alone. A relay agent sends what was said to everybody to each server that it
/// knows.
fn means_this_one(request: &Request, addressed: Addressed) -> bool {
    addressed == Addressed::Server && request.giaddr.is_unspecified()
}

/// Whether a machine can have its reserved address here and now: it is of the subnet that the machine is in, this
/// server does not have it itself, and nobody else has a lease of it that has not ended. A machine that cannot has an
/// address of the pool until then, and its own boot file, name and channel.
fn may_use(host: &Host, view: &View<'_>) -> bool {
    host.addr != view.subnet.server
        && view.subnet.prefix.contains(host.addr)
        && anothers(host, view.leases, view.now).is_none()
}

/// The lease that keeps a machine from its reserved address: it is another's, and has not ended.
pub fn anothers<'l>(host: &Host, leases: &'l Leases, now: u64) -> Option<&'l Lease> {
    leases.live(host.addr, now).filter(|lease| lease.owner.mac != host.mac)
}

/// Whether a lease must not be acknowledged any more, though it is on disk: its address has been reserved for another
/// machine since it was decided.
pub fn is_void(lease: &Lease, snapshot: &Snapshot) -> bool {
    snapshot.by_addr(lease.addr).is_some_and(|host| host.mac != lease.owner.mac)
}

/// The length of a lease of the pool: what the client asks for, within the limits.
fn lease_secs(request: &Request, view: &View<'_>) -> u32 {
    match request.lease_secs {
        0 => view.subnet.lease_secs,
        wish => wish
            .min(view.settings.max_lease_secs.max(view.subnet.lease_secs))
            .max(view.settings.min_lease_secs),
    }
}

/// The address to offer, in the order of RFC 2131 4.3.1: the one it has or had, the one it was offered, the one it
/// would like, a new one.
fn choose(request: &Request, owner: &Owner, view: &View<'_>) -> Option<Ipv4Addr> {
    let had = view.leases.of(owner).map(|lease| lease.addr);
    let known = [had, view.leases.held_for(owner), Some(request.requested)].into_iter().flatten();
    known
        .filter(|addr| view.leases.available(*addr, owner, view.now))
        .chain(view.leases.candidates(owner, view.now))
        .find(|addr| leasable(*addr, request, view))
}

/// The address that a REQUEST of a client without reservation names, if the client may have it.
fn may_have(request: &Request, addressed: Addressed, owner: &Owner, view: &View<'_>) -> Option<Ipv4Addr> {
    let claimed = claimed(request);
    if !leasable(claimed, request, view) || !view.leases.available(claimed, owner, view.now) {
        return None;
    }
    let lease = view.leases.of(owner).filter(|lease| leasable(lease.addr, request, view));
    let recorded = lease.map(|lease| lease.addr) == Some(claimed);
    let offered = view.leases.held_for(owner) == Some(claimed);
    // It chose our offer, though the offer may have been forgotten by a restart.
    let selecting = request.server_id == server_id(request, view);
    // No record of it at all: the records were lost, or it comes from elsewhere. The only server, or the one that it
    // turns to by name, may say yes; another stays silent (RFC 2131 4.3.2).
    let adopted = lease.is_none() && (view.settings.authoritative || means_this_one(request, addressed));
    (recorded || offered || selecting || adopted).then_some(claimed)
}

/// The address that a REQUEST names.
fn claimed(request: &Request) -> Ipv4Addr {
    if request.requested.is_unspecified() { request.ciaddr } else { request.requested }
}

/// Not somebody's already, by the operator's word or by the request itself: reserved, this server's, a router's, a name
/// server's or the relay agent's.
fn leasable(addr: Ipv4Addr, request: &Request, view: &View<'_>) -> bool {
    let Subnet { server, prefix, routers, dns, .. } = view.subnet;
    addr != *server
        && addr != request.giaddr
        && prefix.contains(addr)
        && addr != prefix.network()
        && addr != prefix.broadcast()
        && !routers.contains(&addr)
        && !dns.contains(&addr)
        && view.snapshot.by_addr(addr).is_none()
}

/// RELEASE and DECLINE get no answer, and count only from the client that has the address (RFC 2131 4.3.3, 4.3.4).
fn give_up(owner: &Owner, addr: Ipv4Addr, change: Change, view: &View<'_>) -> Outcome {
    let leased = view.leases.of(owner).is_some_and(|lease| lease.addr == addr);
    let declines = matches!(change, Change::Decline(_)) && view.leases.declines(owner) >= MOST_DECLINES;
    if view.leases.is_writing(owner) {
        Reason::Pending.into()
    } else if !leased || !view.leases.available(addr, owner, view.now) {
        Reason::NoLease.into()
    } else if declines {
        Reason::DeclineLimit.into()
    } else {
        Outcome::Ignore(Reason::MessageType, change)
    }
}

#[cfg(test)]
mod tests;
