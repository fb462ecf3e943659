//! Tells when a file was sent whole, or from somewhere to its end.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::Response;
use futures_util::TryStreamExt;

use crate::orders::Orders;

/// The response to a `GET` of a file: its last byte is told of, if somebody waits for it.
pub(super) fn told(response: Response, orders: &Arc<Orders>, to: IpAddr, file: String) -> Response {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let ends = match response.status() {
        StatusCode::OK => true,
        StatusCode::PARTIAL_CONTENT => text(header::CONTENT_RANGE).is_some_and(ends),
        _ => false,
    };
    // A body without its length would be sent in another way when it is looked at.
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    let Some(mut left) = length.filter(|_| ends && orders.concern(to)) else { return response };
    let orders = Arc::clone(orders);
    let look = move |bytes: &axum::body::Bytes| {
        let before = left;
        left = left.saturating_sub(bytes.len());
        if before > 0 && left == 0 {
            orders.sent(to, &file);
        }
    };
    response.map(|body| Body::from_stream(body.into_data_stream().inspect_ok(look)))
}

/// Whether a range (RFC 9110 14.4, `bytes 5-9/10`) goes to the end.
fn ends(range: &str) -> bool {
    let parts = range.strip_prefix("bytes ").and_then(|range| range.split_once('/'));
    let last = parts.and_then(|(range, size)| Some((range.split_once('-')?.1.parse::<u64>().ok()?, size)));
    last.is_some_and(|(last, size)| last.checked_add(1) == size.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::ends;

    #[test]
    fn ranges_that_go_to_the_end() {
        for range in ["bytes 5-9/10", "bytes 0-0/1"] {
            assert!(ends(range), "{range}");
        }
        for range in [
            "bytes 5-8/10",
            "bytes */10",
            "bytes 5-9/*",
            "lines 5-9/10",
            "",
            "bytes 0-18446744073709551615/0",
        ] {
            assert!(!ends(range), "{range}");
        }
    }
}
