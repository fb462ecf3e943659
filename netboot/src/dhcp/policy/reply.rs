//! The replies of the policy: what is said, and where to.
//!
//! RFC 2131 4.1, 4.3.5 (INFORM), RFC 1534 (BOOTP). Pure: decides nothing about leases.

use std::net::Ipv4Addr;

use netboot_ebpf::Reason;
use netboot_ebpf::verdict::message;

use super::{Change, Outcome, Reply, Route, View, claimed, server_id};
use crate::dhcp::options::{Client, Template, bootp, finish, inform, refusal};
use crate::dhcp::wire::Request;
use crate::inventory::Host;

/// INFORM: settings for a client that has an address by other means, which is left as it is (RFC 2131 4.3.5).
pub(super) fn answer_inform(request: &Request, view: &View<'_>) -> Outcome {
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
    finished(request, message::ACK, addr, template, Change::None, view)
}

/// BOOTP: a reserved machine gets its address without a lease. Others would keep theirs for ever.
pub(super) fn answer_bootp(request: &Request, reserved: Option<&Host>, view: &View<'_>) -> Outcome {
    let Some(host) = reserved else { return Reason::BootpUnknown.into() };
    if !request.ciaddr.is_unspecified() && request.ciaddr != host.addr {
        return Reason::WrongAddress.into();
    }
    let client = Client::new(view.subnet, view.snapshot, host.addr, Some(host), request.class);
    let template = |_| bootp(view.subnet, &client, request.reads_options);
    finished(request, message::BOOTP, host.addr, template, Change::None, view)
}

/// The NAK. A lease that the client has stays its own until it takes another address or the lease ends: it may not hear
/// this, and would go on with an address that somebody else has.
pub(super) fn refuse(request: &Request, view: &View<'_>) -> Outcome {
    let template = |_| refusal(view.subnet.server, "this address is not yours here");
    finished(request, message::NAK, claimed(request), template, Change::Forget, view)
}

/// Finishes the template that fits what the client takes; a reply that is too long for it all the same is not sent.
pub(super) fn finished(
    request: &Request,
    message: u8,
    addr: Ipv4Addr,
    template: impl FnOnce(usize) -> Template,
    change: Change,
    view: &View<'_>,
) -> Outcome {
    let refused = message == message::NAK;
    let relayed = !request.giaddr.is_unspecified();
    let mut echo = request.echo(message);
    if refused {
        echo.guid = None;
        if relayed {
            // The relay agent is to tell everybody: the client's address is not to be trusted (RFC 2131 4.3.2).
            echo.flags[0] |= 0x80;
        }
    }
    echo.rapid_commit = message == message::ACK && request.message == message::DISCOVER;
    let room = view.subnet.room(request.max_size);
    let mut template = template(echo.leaves(room));
    if message != message::BOOTP {
        template = template.from_server(server_id(request, view));
    }
    let bytes = finish(&template, message, &echo);
    if bytes.len() > room {
        return Reason::TooSmall.into();
    }
    Outcome::Reply(Reply { message, addr, route: route(request, refused, addr, view), bytes }, change)
}

/// Where the reply goes (RFC 2131 4.1).
fn route(request: &Request, refused: bool, addr: Ipv4Addr, view: &View<'_>) -> Route {
    let Request { ciaddr, giaddr, .. } = *request;
    // Of its machine's cards the one that asks.
    let mac = request.card();
    if !giaddr.is_unspecified() {
        Route::Relay(giaddr)
    } else if !view.on_link && !ciaddr.is_unspecified() {
        Route::Routed(ciaddr)
    } else if refused {
        Route::Broadcast
    } else if !ciaddr.is_unspecified() {
        Route::Unicast { mac, addr: ciaddr }
    } else if request.broadcast() {
        Route::Broadcast
    } else {
        Route::Unicast { mac, addr }
    }
}
