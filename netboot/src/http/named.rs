//! `/t/<name>`: any template of `templates/`, rendered for the machine that asks: preseed, kickstart, autoinstall, scripts.

use axum::extract::{Path, State as Extract};
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::app::Shared;
use super::client::Client;
use super::cloud_config::asked;
use super::text::{self, Refused};
use crate::inventory::template::{self, DIRECTORY};

/// `GET /t/<name>`
pub(super) async fn serve(
    Extract(state): Extract<Shared>,
    client: Client,
    Path(name): Path<String>,
    uri: Uri,
) -> Response {
    text::send(state, false, client, asked(&uri), text::PLAIN, move |making| {
        if !template::is_legal(&name) {
            return Err(Refused(StatusCode::FORBIDDEN, "this is no name of a template".to_owned()));
        }
        making.rendered(&format!("{DIRECTORY}/{name}"))
    })
    .await
}
