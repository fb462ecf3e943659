//! `/ignition`: a machine's Ignition configuration, whole and right, or nothing.

use axum::extract::State as Extract;
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::app::Shared;
use super::client::Client;
use super::cloud_config::asked;
use super::text::{self, Refused};
use crate::inventory::ignition;

/// `GET /ignition`
pub(super) async fn serve(Extract(state): Extract<Shared>, client: Client, uri: Uri) -> Response {
    let content_type = "application/vnd.coreos.ignition+json";
    text::send(state, false, client, asked(&uri), content_type, |making| {
        let host = making.subject.host;
        let name = making.snapshot.ignition_of(host);
        let text = making.rendered(name)?;
        let Err(mistake) = ignition::check(&text) else { return Ok(text) };
        // What it says of the text is no part of it, so no secret.
        let why = format!("template {name}, line {} of the text: {}", mistake.line, mistake.why);
        tracing::error!("HTTP: host {}: {why}", host.addr);
        Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, why))
    })
    .await
}
