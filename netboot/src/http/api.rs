//! `/api/v1/…` as JSON: what the appliance is doing, which holds no configuration of any machine, and the leases, which
//! are not for the machines themselves.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{ConnectInfo, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::State;
use super::app::canonical;
use crate::dhcp::record;

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
    let client = canonical(peer).ip();
    if !state.may_see_others(client) {
        tracing::warn!(addr = %client, "HTTP: {client} may not see the leases (http.override_from)");
        return (StatusCode::FORBIDDEN, "not for this address\n").into_response();
    }
    let identity = state.leases.identity();
    let read = move || state.leases.list().map(|entries| record::read_all(&entries));
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(mut leases)) => {
            leases.sort_by_key(|lease| lease.addr);
            ([(STORE, identity)], Json(leases)).into_response()
        }
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
