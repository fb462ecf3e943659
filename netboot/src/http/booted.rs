//! A machine says that it is up: `POST /api/v1/booted`, or `/phone_home` as cloud-init's module of that name does.
//!
//! Who it is is seen by its address; what it says of itself is not read.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::app::{Shared, canonical};
use super::whose::own;
use crate::timeline::Step;

/// Largest body, bytes: host keys are a few hundred each.
pub(super) const LARGEST: usize = 16 << 10;

/// `POST /api/v1/booted`, `POST /phone_home…`
pub(super) async fn serve(
    Extract(state): Extract<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    _: Bytes,
) -> Response {
    let client = canonical(peer).ip();
    let done = tokio::task::spawn_blocking(move || {
        let snapshot = state.inventory.snapshot();
        let host = own(&state, &snapshot, client)?;
        state.timeline.record(&Step::Booted { mac: host.mac, addr: client, hostname: host.hostname.clone() });
        Some(())
    });
    match done.await {
        Ok(Some(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "no machine of this address\n").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
