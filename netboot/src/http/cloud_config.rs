//! A machine's cloud-config, on every path that is nothing else.
//!
//! Every answer is text that cloud-init can read: where there is no configuration, it is a comment that says what is
//! missing.

use axum::extract::{Query, State as Extract};
use axum::http::Uri;
use axum::response::Response;

use super::app::Shared;
use super::client::Client;
use super::text;
use super::whose::Asked;

/// `GET` and `HEAD` of any path that is nothing else.
pub(super) async fn serve(Extract(state): Extract<Shared>, client: Client, uri: Uri) -> Response {
    let asked = asked(&uri);
    let at_hand = uri.query().is_none() && state.is_at_hand(client.addr);
    text::send(state, at_hand, client, asked, text::PLAIN, |making| {
        making.rendered(making.snapshot.template(making.subject.host))
    })
    .await
}

/// What the query says of the machine that is meant.
pub(super) fn asked(uri: &Uri) -> Asked {
    Query::try_from_uri(uri).map(|Query(asked)| asked).unwrap_or_default()
}
