//! `/tftp/…`: the files that TFTP serves, read-only, with ranges (RFC 9110 14) for loaders that resume.
//!
//! Which names are legal is the opener's to say, so that both roads have one rule.

use std::io::{self, Seek, SeekFrom};
use std::net::SocketAddr;
use std::ops::Range;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State as Extract};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::app::State;
use super::date;
use crate::beneath::Refused;
use crate::loader::Road;
use crate::tftp::{Caller, Content};

/// Bytes read from disk at once: images are large, and each read is a trip to another thread.
const CHUNK: usize = 256 << 10;

/// `GET` and `HEAD` of `/tftp/…`.
pub(super) async fn serve(
    Extract(state): Extract<State>,
    Path(name): Path<String>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::new(peer.ip(), Road::Http);
    let opened = tokio::task::spawn_blocking(move || state.files.open(&name, caller)).await;
    let content = match opened {
        Ok(Ok(content)) => content,
        Ok(Err(refused)) => return refusal(&refused),
        Err(error) => return refusal(&Refused::Io(io::Error::other(error))),
    };
    let (size, modified) = match &content {
        Content::Disk(opened) => (opened.size, Some(date::write(opened.modified))),
        Content::Generated(bytes) => (bytes.len() as u64, None),
    };
    // RFC 9110 14.2: ranges are for GET alone.
    let part = if method == Method::GET { wanted(&headers, size, modified.as_deref()) } else { Wanted::All };
    let mut response = match part {
        Wanted::All => with_body(StatusCode::OK, content, 0..size, &method),
        Wanted::Part(part) => {
            let range = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
            let mut response = with_body(StatusCode::PARTIAL_CONTENT, content, part, &method);
            insert(&mut response, header::CONTENT_RANGE, &range);
            response
        }
        Wanted::Nothing => {
            let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
            insert(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            response
        }
    };
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(modified) = modified {
        insert(&mut response, header::LAST_MODIFIED, &modified);
    }
    response
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

fn insert(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Which bytes a client wants.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<u64>),
    /// A range that begins behind the end.
    Nothing,
}

/// Reads `Range` and `If-Range`. What is malformed, in other units or several ranges counts as the whole file, as
/// RFC 9110 14.2 allows.
fn wanted(headers: &HeaderMap, size: u64, modified: Option<&str>) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|seen| modified != Some(seen)) {
        return Wanted::All;
    }
    let Some((first, last)) = text(header::RANGE)
        .and_then(|range| range.strip_prefix("bytes="))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Wanted::All;
    };
    let number = |digits: &str| -> Option<u64> {
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let part = match (first, last) {
        ("", last) => match number(last) {
            Some(length) => size.saturating_sub(length)..size,
            None => return Wanted::All,
        },
        (first, "") => match number(first) {
            Some(first) => first..size,
            None => return Wanted::All,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
            _ => return Wanted::All,
        },
    };
    if part.start < part.end { Wanted::Part(part) } else { Wanted::Nothing }
}

/// A response with these bytes of the content; `HEAD` reads none of them.
fn with_body(status: StatusCode, content: Content, part: Range<u64>, method: &Method) -> Response {
    let length = part.end - part.start;
    let body = match content {
        _ if *method == Method::HEAD => Body::empty(),
        Content::Disk(mut opened) => match opened.file.seek(SeekFrom::Start(part.start)) {
            Ok(_) => {
                let reader = tokio::fs::File::from_std(opened.file).take(length);
                Body::from_stream(ReaderStream::with_capacity(reader, CHUNK))
            }
            Err(error) => return refusal(&Refused::Io(error)),
        },
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
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use super::{Wanted, wanted};

    #[test]
    fn ranges() {
        let table = [
            ("bytes=0-", Wanted::Part(0..100)),
            ("bytes=10-19", Wanted::Part(10..20)),
            ("bytes=99-99", Wanted::Part(99..100)),
            ("bytes=90-1000", Wanted::Part(90..100)),
            ("bytes=-10", Wanted::Part(90..100)),
            ("bytes=-1000", Wanted::Part(0..100)),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=0-18446744073709551615", Wanted::Part(0..100)),
            ("bytes=20-10", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=99999999999999999999-", Wanted::All),
            ("bytes=", Wanted::All),
            ("bytes=-", Wanted::All),
            ("lines=0-1", Wanted::All),
        ];
        for (range, expected) in table {
            let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(range))]);
            assert_eq!(wanted(&headers, 100, None), expected, "{range}");
        }
        assert_eq!(wanted(&HeaderMap::new(), 100, None), Wanted::All);
        let empty = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=0-"))]);
        assert_eq!(wanted(&empty, 0, None), Wanted::Nothing);
    }

    #[test]
    fn a_range_of_an_older_file_is_the_whole_new_one() {
        let mut headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=5-"))]);
        headers.insert(header::IF_RANGE, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(wanted(&headers, 100, Some("Thu, 01 Jan 1970 00:00:01 GMT")), Wanted::All);
        assert_eq!(wanted(&headers, 100, Some("Thu, 01 Jan 1970 00:00:00 GMT")), Wanted::Part(5..100));
        assert_eq!(wanted(&headers, 100, None), Wanted::All);
    }
}
