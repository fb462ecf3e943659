//! `POST /api/v1/hosts/<mac>`: what a machine boots next, or until told otherwise.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::api::STORE;
use super::app::Shared;
use super::client::Client;
use crate::inventory::Order;
use crate::inventory::orders::When;
use crate::inventory::profile::LOCAL_DISK;
use crate::mac::Mac;
use crate::orders::Error;

/// What can be written.
const HELP: &str = "write {\"next_boot\": \"<profile>\"}, {\"local_disk\": true} or {\"clear\": true}";

/// The body.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// This profile, once.
    #[serde(default)]
    next_boot: Option<String>,
    /// Its disk, until told otherwise.
    #[serde(default)]
    local_disk: bool,
    /// What its profile says.
    #[serde(default)]
    clear: bool,
}

impl Wanted {
    fn order(self) -> Result<Option<Order>, &'static str> {
        match self {
            Self { next_boot: Some(profile), local_disk: false, clear: false } => {
                Ok(Some(Order { profile, when: When::Once }))
            }
            Self { next_boot: None, local_disk: true, clear: false } => {
                Ok(Some(Order { profile: LOCAL_DISK.to_owned(), when: When::Always }))
            }
            Self { next_boot: None, local_disk: false, clear: true } => Ok(None),
            _ => Err(HELP),
        }
    }
}

/// Takes an order. A page of somebody's browser cannot give one: it may not send JSON elsewhere.
pub(super) async fn serve(
    Extract(state): Extract<Shared>,
    client: Client,
    Path(mac): Path<String>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Response {
    if !client.may_order(&state) {
        let Client { addr, .. } = client;
        tracing::warn!(%addr, "HTTP: {addr} may not say what machines boot (http.override_from)");
        return (StatusCode::FORBIDDEN, "not for this address\n").into_response();
    }
    let Ok(mac) = mac.parse::<Mac>() else {
        return (StatusCode::NOT_FOUND, "that is no MAC\n").into_response();
    };
    let order = match wanted {
        Ok(Json(wanted)) => wanted.order(),
        Err(error) => return (error.status(), format!("{}; {HELP}\n", error.body_text())).into_response(),
    };
    let order = match order {
        Ok(order) => order,
        Err(help) => return (StatusCode::BAD_REQUEST, format!("{help}\n")).into_response(),
    };
    let answer = json!({ "mac": mac, "order": &order });
    let (orders, identity) = (Arc::clone(&state.orders), state.leases.identity());
    match tokio::task::spawn_blocking(move || orders.set(mac, order)).await {
        Ok(Ok(())) => ([(STORE, identity)], Json(answer)).into_response(),
        Ok(Err(error)) => {
            let status = match error {
                Error::NoMachine(_) => StatusCode::NOT_FOUND,
                Error::NoProfile(_) => StatusCode::UNPROCESSABLE_ENTITY,
                Error::Store(_) | Error::NoStore => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, format!("{}\n", error.told())).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
