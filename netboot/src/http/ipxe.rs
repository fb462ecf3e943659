//! `/ipxe`: the script of the caller's own machine, the same as `boot.ipxe` of the files.

use std::io::{self, Read};

use axum::extract::State as Extract;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::app::Shared;
use super::client::Client;
use super::cloud_config::asked;
use super::whose::whose;
use crate::beneath::Refused;
use crate::loader::{Road, names};
use crate::tftp::{Caller, Content};

/// Largest script, bytes.
const LARGEST: u64 = 1 << 20;

/// `GET` and `HEAD`; `override_ipv4` shows another machine's to who may see it.
pub(super) async fn serve(Extract(state): Extract<Shared>, client: Client, uri: Uri) -> Response {
    let (addr, asked) = (client.addr, asked(&uri));
    let read = move || {
        let snapshot = state.inventory.snapshot();
        // Who has no reservation is told what is for such.
        let whose = whose(&state, &snapshot, client, &asked).map_or(addr, |subject| subject.host.addr.into());
        text(state.files.open(names::SCRIPT, Caller::new(whose, Road::Http))?)
    };
    let script = tokio::task::spawn_blocking(read).await;
    let (status, text) = match script.unwrap_or_else(|error| Err(Refused::Io(io::Error::other(error)))) {
        Ok(text) => (StatusCode::OK, text),
        Err(Refused::NotFound) => {
            (StatusCode::NOT_FOUND, format!("no profile says what {addr} is to boot\n").into_bytes())
        }
        Err(error) => {
            tracing::error!("HTTP: script of {addr}: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, b"cannot be read\n".to_vec())
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::CONTENT_LENGTH, text.len().to_string()),
    ];
    (status, headers, text).into_response()
}

fn text(content: Content) -> Result<Vec<u8>, Refused> {
    match content {
        Content::Generated(bytes) => Ok(bytes),
        Content::Disk(opened) => {
            let mut text = Vec::new();
            opened.file.take(LARGEST).read_to_end(&mut text).map_err(Refused::Io)?;
            Ok(text)
        }
    }
}
