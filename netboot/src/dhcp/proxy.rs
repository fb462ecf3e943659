//! What a boot service answers that gives out no addresses: proxyDHCP on port 67, beside the server that has them, and
//! port 4011, where firmware asks for its boot file when it has an address.
//!
//! PXE 2.1, 2.2 and 2.4; RFC 4578; RFC 2131 4.1. Pure, like [`super::policy`], and with less to decide: nothing here
//! looks at a lease, promises an address or refuses one. Port 4011 is answered in both modes, since firmware asks there
//! once it has chosen from a menu.

use std::net::{Ipv4Addr, SocketAddrV4};

use netboot_ebpf::verdict::message;
use netboot_ebpf::{Class, Reason};

use super::menu::Meaning;
use super::options::{Client, boot_service, finish};
use super::policy::{Addressed, Change, Outcome, Reply, Route, View, unanswered};
use super::wire::Request;
use super::{boot, menu};

/// Decides about a request that came to port 67 in proxy mode, or to port 4011 in either.
pub fn decide(request: &Request, addressed: Addressed, view: &View<'_>) -> Outcome {
    match addressed {
        Addressed::BootService(from) => acknowledge(request, from, view),
        Addressed::Broadcast | Addressed::Server => offer(request, view),
    }
}

/// The boot file for a client that is looking for its address elsewhere. It takes both offers as one.
fn offer(request: &Request, view: &View<'_>) -> Outcome {
    // It has no address yet, and gets none here that could be its destination.
    let route = if request.giaddr.is_unspecified() { Route::Broadcast } else { Route::Relay(request.giaddr) };
    match request.message {
        message::DISCOVER if request.class == Class::Plain => Reason::NotBootClient.into(),
        message::DISCOVER => reply(request, message::OFFER, None, Ipv4Addr::UNSPECIFIED, route, view),
        // About addresses, which are the other server's.
        message::REQUEST | message::DECLINE | message::RELEASE | message::INFORM => {
            Reason::OtherServer.into()
        }
        _ => Reason::MessageType.into(),
    }
}

/// The boot file for a client that has its address, and may have chosen from the menu.
fn acknowledge(request: &Request, from: SocketAddrV4, view: &View<'_>) -> Outcome {
    // Who has an address needs no relay agent, and is the one that asks.
    if !request.giaddr.is_unspecified() {
        return Reason::Relayed.into();
    }
    // Some firmware says INFORM.
    if !matches!(request.message, message::REQUEST | message::INFORM) {
        return Reason::MessageType.into();
    }
    if request.class == Class::Plain {
        return Reason::NotBootClient.into();
    }
    let addr = if from.ip().is_unspecified() { request.ciaddr } else { *from.ip() };
    // A source address can be forged: nobody outside this network is sent what he has not asked for.
    if !view.subnet.prefix.contains(addr) || addr == view.subnet.server {
        return Reason::WrongAddress.into();
    }
    let route = Route::BootService(SocketAddrV4::new(addr, from.port()));
    let choice = request.vendor_options().and_then(menu::choice);
    reply(request, message::ACK, choice, addr, route, view)
}

fn reply(
    request: &Request,
    message: u8,
    choice: Option<menu::Choice>,
    addr: Ipv4Addr,
    route: Route,
    view: &View<'_>,
) -> Outcome {
    if let Some(reason) = unanswered(request, view) {
        return reason.into();
    }
    let View { subnet, snapshot, .. } = view;
    let host = snapshot.by_mac(request.mac);
    let mut client = Client::new(subnet, snapshot, Ipv4Addr::UNSPECIFIED, host, request.class)
        .asking(request.parameters());
    if !boot::boots(subnet, snapshot, host, request.class, client.file) {
        return Reason::NoBootFile.into();
    }
    if let Some(choice) = choice {
        match choice.meaning(subnet.menu.as_ref()) {
            Meaning::Own => {}
            Meaning::Profile(profile) => client.channel = Some(profile),
            Meaning::Nothing => return Reason::NoMenuItem.into(),
        }
    }
    let (mut echo, room) = (request.echo(message), subnet.room(request.max_size));
    if let Route::Relay(_) = route {
        // The relay agent has no address either to send it to.
        echo.flags[0] |= 0x80;
    }
    let bytes = finish(&boot_service(subnet, &client, choice, echo.leaves(room)), message, &echo);
    if bytes.len() > room {
        return Reason::TooSmall.into();
    }
    Outcome::Reply(Reply { message, addr, route, bytes }, Change::None)
}

#[cfg(test)]
mod tests;
