//! `/tftp/…`: the files that TFTP serves; `/files/…`: those of `files/` in the data directory. Read-only, with ranges for
//! loaders that resume, and with no redirect ever: UEFI HTTP Boot fails on one.
//!
//! Which names are legal is the opener's to say, so that all roads have one rule.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Path, State as Extract};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::app::Shared;
use super::conditions::{Version, Wanted, wanted};
use super::handover::Handover;
use super::{body, date, media};
use crate::beneath::{self, Opened, Refused};
use crate::loader::Road;
use crate::tftp::{Caller, Content};

/// The folder of the data directory that is served over HTTP alone.
const OWN: &str = "files";

/// What of a request a file's answer depends on.
pub(super) struct Asked {
    method: Method,
    headers: HeaderMap,
    /// Where the connection can send files itself.
    handover: Option<Handover>,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let handover = parts.extensions.remove();
        Ok(Self { method: parts.method.clone(), headers: std::mem::take(&mut parts.headers), handover })
    }
}

/// `GET` and `HEAD` of `/tftp/…`.
pub(super) async fn tftp(
    Extract(state): Extract<Shared>,
    Path(name): Path<String>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    asked: Asked,
) -> Response {
    let caller = Caller::new(peer.ip(), Road::Http);
    serve(name, asked, move |name| state.files.open(name, caller)).await
}

/// `GET` and `HEAD` of `/files/…`.
pub(super) async fn own(Extract(state): Extract<Shared>, Path(name): Path<String>, asked: Asked) -> Response {
    let root = state.inventory.data().join(OWN);
    serve(name, asked, move |name| beneath::open(&root, &beneath::normal(name)?).map(Content::Disk)).await
}

async fn serve(
    name: String,
    Asked { method, headers, handover }: Asked,
    open: impl FnOnce(&str) -> Result<Content, Refused> + Send + 'static,
) -> Response {
    let opened = tokio::task::spawn_blocking(move || open(&name).map(|content| (media::of(&name), content)));
    let (media, content) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(refused)) => return refusal(&refused),
        Err(error) => return refusal(&Refused::Io(io::Error::other(error))),
    };
    let (version, media) = match &content {
        Content::Disk(opened) => (version(opened), media),
        Content::Generated(_) => (Version::default(), media::TEXT),
    };
    let size = content.size();
    let mut response = match wanted(&method, &headers, size, &version) {
        Wanted::All => with_body(StatusCode::OK, content, 0..size, &method, handover),
        Wanted::Part(part) => {
            let range = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
            let mut response = with_body(StatusCode::PARTIAL_CONTENT, content, part, &method, handover);
            insert(&mut response, header::CONTENT_RANGE, &range);
            response
        }
        Wanted::Nothing => {
            let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
            insert(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            response
        }
        Wanted::Unchanged => StatusCode::NOT_MODIFIED.into_response(),
        Wanted::Another => StatusCode::PRECONDITION_FAILED.into_response(),
    };
    if response.status().is_success() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    }
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let validators = [(header::ETAG, version.etag), (header::LAST_MODIFIED, version.modified)];
    for (name, value) in validators {
        if let Some(value) = value {
            insert(&mut response, name, &value);
        }
    }
    response
}

/// A file with another number, size or time, to the nanosecond, is another.
fn version(opened: &Opened) -> Version {
    let nanos = opened.modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Version {
        etag: Some(format!("\"{:x}-{:x}-{nanos:x}\"", opened.inode, opened.size)),
        modified: Some(date::write(opened.modified)),
    }
}

fn refusal(refused: &Refused) -> Response {
    match refused {
        Refused::NotFound => (StatusCode::NOT_FOUND, "not found\n"),
        Refused::Io(error) => {
            tracing::error!("HTTP: file cannot be opened: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "cannot be read\n")
        }
        _ => (StatusCode::FORBIDDEN, "not allowed\n"),
    }
    .into_response()
}

fn insert(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// A response with these bytes of the content; `HEAD` reads none of them.
fn with_body(
    status: StatusCode,
    content: Content,
    part: Range<u64>,
    method: &Method,
    handover: Option<Handover>,
) -> Response {
    let length = part.end - part.start;
    let body = match content {
        _ if *method == Method::HEAD => Body::empty(),
        Content::Disk(opened) => body::of(opened, part, handover),
        Content::Generated(mut bytes) => {
            let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let (start, end) = (at(part.start), at(part.end));
            bytes.truncate(end);
            bytes.drain(..start);
            Body::from(bytes)
        }
    };
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}
