//! A machine's cloud-config: its template with every known `$name` replaced by text.
//!
//! What a machine gets depends on its source address. Every answer is text that cloud-init can read: where there is
//! no configuration, it is a comment that says what is missing.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Query, State as Extract};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::app::{State, canonical};
use crate::inventory::variables::render;
use crate::inventory::{HOSTS_FILE, template};

/// `GET` and `HEAD` of any path that is nothing else.
pub(super) async fn serve(
    Extract(state): Extract<State>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
) -> Response {
    let query = Query::<BTreeMap<String, String>>::try_from_uri(&uri).unwrap_or_default();
    let whose = state.whose(canonical(peer).ip(), query.get("override_ipv4").map(String::as_str));
    let answer = tokio::task::spawn_blocking(move || answer(&state, whose)).await;
    let (status, text) = answer.unwrap_or_else(|error| {
        tracing::error!("HTTP: cloud-config for {whose} failed: {error}");
        (StatusCode::INTERNAL_SERVER_ERROR, comment("this server failed, its log says how"))
    });
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, text).into_response()
}

/// Status and text. Reads the template, so an edit counts at once.
fn answer(state: &State, whose: IpAddr) -> (StatusCode, String) {
    let snapshot = state.inventory.snapshot();
    let host = match whose {
        IpAddr::V4(addr) => snapshot.by_addr(addr),
        IpAddr::V6(_) => None,
    };
    let Some(host) = host else {
        let why = if state.inventory.missing() {
            format!("{HOSTS_FILE} is missing in the data directory; add it, with a host {whose}")
        } else {
            format!("no configuration for {whose}; add this address to `hosts` in {HOSTS_FILE}")
        };
        return (StatusCode::NOT_FOUND, comment(&why));
    };
    let name = snapshot.template(host);
    match template::open(state.inventory.data(), name) {
        Ok(text) => (StatusCode::OK, render(&text, &snapshot.variables(host))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::error!("HTTP: template {name} of host {whose} is missing");
            (StatusCode::NOT_FOUND, comment(&format!("template {name} is missing in the data directory")))
        }
        Err(error) => {
            tracing::error!("HTTP: template {name} of host {whose}: {error}");
            let why = format!("template {name} in the data directory cannot be read");
            (StatusCode::INTERNAL_SERVER_ERROR, comment(&why))
        }
    }
}

/// A cloud-config that configures nothing and says why.
fn comment(why: &str) -> String {
    format!("#cloud-config\n# {why}\n")
}
