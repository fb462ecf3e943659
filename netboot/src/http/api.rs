//! `/api/v1/…` as JSON: what the appliance is doing, which holds no configuration of any machine; the machines and the
//! leases, which are not for the machines themselves.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{ConnectInfo, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::State;
use super::app::canonical;
use crate::config::Unknown;
use crate::dhcp::leases::Lease;
use crate::dhcp::record;
use crate::dhcp::waiting::Machine;
use crate::mac::Mac;

/// More problems than this are only counted.
const MOST_PROBLEMS: usize = 100;

/// `GET /api/v1/status`
pub(super) async fn status(
    Extract(state): Extract<State>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Json<Value> {
    let problems = state.inventory.problems();
    // They name machines.
    let most = if state.may_see_others(canonical(peer).ip()) { MOST_PROBLEMS } else { 0 };
    let shown: Vec<_> = problems.iter().take(most).collect();
    Json(json!({
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
    }))
}

/// The header that says whose leases these are: [`crate::store::identity`].
pub const STORE: &str = "netboot-store";

/// `GET /api/v1/leases`: every lease that is on disk, ended ones too, in the order of their addresses.
pub(super) async fn leases(
    Extract(state): Extract<State>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Response {
    if let Some(refusal) = refused(&state, canonical(peer).ip(), "the leases") {
        return refusal;
    }
    let identity = state.leases.identity();
    match stored(&state).await {
        Ok(mut leases) => {
            leases.sort_by_key(|lease| lease.addr);
            ([(STORE, identity)], Json(leases)).into_response()
        }
        Err(response) => response,
    }
}

/// `GET /api/v1/hosts`: the machines with a reservation in the order of the file, those without one that have asked, the one
/// that asked last first, and what a new reservation has to fit.
pub(super) async fn hosts(
    Extract(state): Extract<State>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Response {
    if let Some(refusal) = refused(&state, canonical(peer).ip(), "the machines") {
        return refusal;
    }
    let identity = state.leases.identity();
    let mut live = match stored(&state).await {
        Ok(leases) => leases,
        Err(response) => return response,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    live.retain(|lease| lease.expires > now);
    let snapshot = state.inventory.snapshot();
    let by_addr: HashMap<_, _> = live.iter().map(|lease| (lease.addr, lease)).collect();
    let reserved = snapshot.hosts().iter().map(|host| Reserved {
        mac: host.mac,
        addr: host.addr,
        hostname: &host.hostname,
        channel: &host.channel,
        leased_to: by_addr.get(&host.addr).copied().filter(|lease| lease.mac != host.mac),
    });
    let by_mac: HashMap<_, _> = live.iter().map(|lease| (lease.mac, lease.addr)).collect();
    let mut asked = state.waiting.lock().unwrap_or_else(PoisonError::into_inner).machines();
    asked.retain(|machine| snapshot.by_mac(machine.mac).is_none());
    let waiting = asked.into_iter().map(|machine| Asked {
        state: if state.unknown == Unknown::Pool { "pool" } else { "held" },
        addr: by_mac.get(&machine.mac).copied(),
        machine,
    });
    let body = json!({
        "unknown": state.unknown,
        "network": *state.network,
        "hosts": reserved.collect::<Vec<_>>(),
        "waiting": waiting.collect::<Vec<_>>(),
    });
    ([(STORE, identity)], Json(body)).into_response()
}

/// A machine with a reservation.
#[derive(serde::Serialize)]
struct Reserved<'a> {
    mac: Mac,
    addr: Ipv4Addr,
    hostname: &'a str,
    channel: &'a str,
    /// Somebody else who has its address still.
    #[serde(skip_serializing_if = "Option::is_none")]
    leased_to: Option<&'a Lease>,
}

/// A machine without a reservation.
#[derive(serde::Serialize)]
struct Asked {
    /// `held`: it gets no answer; `pool`: it gets an address of the pool.
    state: &'static str,
    /// The address that it has a lease of.
    addr: Option<Ipv4Addr>,
    #[serde(flatten)]
    machine: Machine,
}

/// The answer to those who may not see what concerns other machines.
fn refused(state: &State, client: IpAddr, what: &str) -> Option<Response> {
    if state.may_see_others(client) {
        return None;
    }
    tracing::warn!(addr = %client, "HTTP: {client} may not see {what} (http.override_from)");
    Some((StatusCode::FORBIDDEN, "not for this address\n").into_response())
}

/// The leases that are on disk.
async fn stored(state: &State) -> Result<Vec<Lease>, Response> {
    let reader = state.leases.clone();
    let read = move || reader.list().map(|entries| record::read_all(&entries));
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(leases)) => Ok(leases),
        Ok(Err(error)) => Err((StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()),
    }
}
