//! `/api/v1/…` as JSON: what the appliance is doing, which holds no configuration of any machine; the machines and the
//! leases, which are not for the machines themselves.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::State;
use super::app::Shared;
use super::client::Client;
use crate::config::Unknown;
use crate::dhcp::lease::Lease;
use crate::dhcp::record;
use crate::dhcp::vacant::Network;
use crate::dhcp::waiting::Machine;
use crate::inventory::Order;
use crate::inventory::orders::When;
use crate::mac::Mac;
use crate::timeline::Seen;
use crate::uuid::Uuid;

/// More problems than this are only counted.
const MOST_PROBLEMS: usize = 100;

/// `GET /api/v1/status`
pub(super) async fn status(Extract(state): Extract<Shared>, client: Client) -> Response {
    let problems = state.inventory.problems();
    let trusted = client.may_see_others(&state);
    // They name machines.
    let most = if trusted { MOST_PROBLEMS } else { 0 };
    let shown: Vec<_> = problems.iter().take(most).collect();
    let status = Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": state.ready.load(Ordering::Acquire),
        "xdp": **state.xdp.load(),
        "inventory": {
            "generation": *state.inventory.changes().borrow(),
            "hosts": state.inventory.snapshot().hosts().len(),
            "problem_count": problems.len(),
            "problems": shown,
        },
        "counters": state.timeline.counters(),
        "foreign_servers": state.timeline.rivals(),
    }));
    if trusted {
        ([(STORE, state.leases.identity())], status).into_response()
    } else {
        status.into_response()
    }
}

/// The header that says whose leases these are: [`crate::store::identity`].
pub const STORE: &str = "netboot-store";

/// `GET /api/v1/leases`: every lease that is on disk, ended ones too, in the order of their addresses.
pub(super) async fn leases(Extract(state): Extract<Shared>, client: Client) -> Response {
    listed(state, client, "the leases", |_, mut leases| {
        leases.sort_by_key(|lease| lease.addr);
        Json(leases).into_response()
    })
    .await
}

/// `GET /api/v1/hosts`: the machines with a reservation in the order of the file, those without one that have asked, the one
/// that asked last first, and what a new reservation has to fit.
pub(super) async fn hosts(Extract(state): Extract<Shared>, client: Client) -> Response {
    listed(state, client, "the machines", machines).await
}

/// A list for those who may see what concerns other machines, made from the leases on disk. Nobody waits for it meanwhile.
async fn listed(
    state: Shared,
    client: Client,
    what: &str,
    make: impl FnOnce(&State, Vec<Lease>) -> Response + Send + 'static,
) -> Response {
    if !client.may_see_others(&state) {
        let Client { addr, .. } = client;
        tracing::warn!(%addr, "HTTP: {addr} may not see {what} (http.override_from)");
        return (StatusCode::FORBIDDEN, "not for this address\n").into_response();
    }
    let identity = state.leases.identity();
    let work = move || state.leases.list().map(|entries| make(&state, record::read_all(&entries)));
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(response)) => ([(STORE, identity)], response).into_response(),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn machines(state: &State, mut live: Vec<Lease>) -> Response {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    live.retain(|lease| lease.expires > now);
    let snapshot = state.inventory.snapshot();
    let by_addr: HashMap<_, _> = live.iter().map(|lease| (lease.addr, lease)).collect();
    let reserved = snapshot.hosts().map(|host| Reserved {
        mac: host.mac,
        addr: host.addr,
        hostname: &host.hostname,
        channel: &host.channel,
        profile: snapshot.profile_name(Some(host)),
        order: snapshot.order(host).filter(|order| order.when != When::Used),
        leased_to: by_addr.get(&host.addr).copied().filter(|lease| lease.owner.mac != host.mac),
        seen: state.timeline.seen(host.mac),
    });
    let by_mac: HashMap<_, _> = live.iter().map(|lease| (lease.owner.mac, lease.addr)).collect();
    let mut asked = state.waiting.lock().unwrap_or_else(PoisonError::into_inner).machines();
    let known = |uuid: Uuid| [uuid, uuid.swapped()].into_iter().any(|uuid| snapshot.by_uuid(uuid).is_some());
    asked.retain(|machine| snapshot.by_mac(machine.mac).is_none() && !machine.guid.is_some_and(known));
    let waiting = asked.into_iter().map(|machine| Asked {
        state: if state.unknown == Unknown::Pool { "pool" } else { "held" },
        addr: by_mac.get(&machine.mac).copied(),
        seen: state.timeline.seen(machine.mac),
        machine,
    });
    let (unknown, network) = (state.unknown, &*state.network);
    Json(Machines { unknown, network, hosts: reserved.collect(), waiting: waiting.collect() }).into_response()
}

/// What `/api/v1/hosts` says.
#[derive(serde::Serialize)]
struct Machines<'a> {
    unknown: Unknown,
    network: &'a Network,
    hosts: Vec<Reserved<'a>>,
    waiting: Vec<Asked>,
}

/// A machine with a reservation.
#[derive(serde::Serialize)]
struct Reserved<'a> {
    mac: Mac,
    addr: Ipv4Addr,
    hostname: &'a str,
    channel: &'a str,
    /// What it boots.
    profile: Option<&'a str>,
    /// What was ordered for its next boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<&'a Order>,
    /// Somebody else who has its address still.
    #[serde(skip_serializing_if = "Option::is_none")]
    leased_to: Option<&'a Lease>,
    /// The last answer to it; none since netboot was started: `null`.
    seen: Option<Seen>,
}

/// A machine without a reservation.
#[derive(serde::Serialize)]
struct Asked {
    /// `held`: it gets no answer; `pool`: it gets an address of the pool.
    state: &'static str,
    /// The address that it has a lease of.
    addr: Option<Ipv4Addr>,
    /// The last answer to it.
    seen: Option<Seen>,
    #[serde(flatten)]
    machine: Machine,
}
