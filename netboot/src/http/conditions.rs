//! What of a file a request wants: conditions (RFC 9110 13) and ranges (RFC 9110 14), decided from headers alone.
//!
//! A date counts only if it is the very one that was sent: a file that was put back is older than what a client has, and another.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderName, Method, header};

/// By what one content of a file is told from another. Made for the request: neither.
#[derive(Debug, Default)]
pub(super) struct Version {
    /// A strong one, in its quotes.
    pub(super) etag: Option<String>,
    /// As HTTP writes dates.
    pub(super) modified: Option<String>,
}

/// What to answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    All,
    /// These bytes.
    Part(Range<u64>),
    /// A range that begins behind the end: 416.
    Nothing,
    /// The client has it: 304.
    Unchanged,
    /// The client wants another than this: 412.
    Another,
}

/// Reads the conditions in the order of RFC 9110 13.2.2. What is malformed counts as not there.
pub(super) fn wanted(method: &Method, headers: &HeaderMap, size: u64, version: &Version) -> Wanted {
    let is_date = |name| text(headers, &name).is_some_and(|date| version.modified.as_deref() == Some(date));
    if headers.contains_key(header::IF_MATCH) {
        if !names(headers, header::IF_MATCH, version, false) {
            return Wanted::Another;
        }
    } else if headers.contains_key(header::IF_UNMODIFIED_SINCE) && !is_date(header::IF_UNMODIFIED_SINCE) {
        return Wanted::Another;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if names(headers, header::IF_NONE_MATCH, version, true) {
            return Wanted::Unchanged;
        }
    } else if is_date(header::IF_MODIFIED_SINCE) {
        return Wanted::Unchanged;
    }
    // RFC 9110 14.2: ranges are for GET alone.
    if *method != Method::GET {
        return Wanted::All;
    }
    let same = |seen| [&version.etag, &version.modified].into_iter().any(|own| own.as_deref() == Some(seen));
    if headers.contains_key(header::IF_RANGE) && !text(headers, &header::IF_RANGE).is_some_and(same) {
        return Wanted::All;
    }
    text(headers, &header::RANGE).map_or(Wanted::All, |range| part(range, size))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether a list of tags names this version. A comma within somebody else's tag does no harm: ours has none, and no quote.
fn names(headers: &HeaderMap, name: HeaderName, version: &Version, weak: bool) -> bool {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|tag| {
        let tag = if weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
        tag == "*" || version.etag.as_deref() == Some(tag)
    })
}

/// Reads `Range`. Other units and several ranges count as the whole file, as RFC 9110 14.2 allows.
fn part(range: &str, size: u64) -> Wanted {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
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

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

    use super::{Version, Wanted, wanted};

    const DATE: &str = "Thu, 01 Jan 1970 00:00:01 GMT";
    const OTHER_DATE: &str = "Thu, 01 Jan 1970 00:00:02 GMT";

    fn of(method: &Method, size: u64, headers: &[(HeaderName, &'static str)]) -> Wanted {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        let version = Version { etag: Some("\"a-1\"".into()), modified: Some(DATE.into()) };
        wanted(method, &map, size, &version)
    }

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
            assert_eq!(of(&Method::GET, 100, &[(header::RANGE, range)]), expected, "{range}");
        }
        assert_eq!(of(&Method::GET, 100, &[]), Wanted::All);
        assert_eq!(of(&Method::GET, 0, &[(header::RANGE, "bytes=0-")]), Wanted::Nothing);
        assert_eq!(of(&Method::HEAD, 100, &[(header::RANGE, "bytes=100-")]), Wanted::All);
    }

    #[test]
    fn a_range_of_another_file_is_the_whole_new_one() {
        let range = (header::RANGE, "bytes=5-");
        for (seen, expected) in [
            (DATE, Wanted::Part(5..100)),
            ("\"a-1\"", Wanted::Part(5..100)),
            (OTHER_DATE, Wanted::All),
            ("\"a-2\"", Wanted::All),
            ("W/\"a-1\"", Wanted::All),
            ("", Wanted::All),
        ] {
            assert_eq!(of(&Method::GET, 100, &[range.clone(), (header::IF_RANGE, seen)]), expected, "{seen}");
        }
    }

    #[test]
    fn conditions_in_their_order() {
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
        let table = [
            (vec![(IF_NONE_MATCH, "\"a-1\"")], Wanted::Unchanged),
            (vec![(IF_NONE_MATCH, "\"x,y\" , W/\"a-1\"")], Wanted::Unchanged),
            (vec![(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a-1\"")], Wanted::Unchanged),
            (vec![(IF_NONE_MATCH, "*")], Wanted::Unchanged),
            (vec![(IF_NONE_MATCH, "\"a-2\"")], Wanted::All),
            (vec![(IF_NONE_MATCH, "a-1")], Wanted::All),
            (vec![(IF_NONE_MATCH, "\"a-2\""), (IF_MODIFIED_SINCE, DATE)], Wanted::All),
            (vec![(IF_MODIFIED_SINCE, DATE)], Wanted::Unchanged),
            (vec![(IF_MODIFIED_SINCE, OTHER_DATE)], Wanted::All),
            (vec![(IF_MATCH, "\"a-1\"")], Wanted::All),
            (vec![(IF_MATCH, "*")], Wanted::All),
            (vec![(IF_MATCH, "W/\"a-1\"")], Wanted::Another),
            (vec![(IF_MATCH, "\"a-2\""), (IF_NONE_MATCH, "\"a-1\"")], Wanted::Another),
            (vec![(IF_MATCH, "\"a-1\""), (IF_UNMODIFIED_SINCE, OTHER_DATE)], Wanted::All),
            (vec![(IF_UNMODIFIED_SINCE, DATE)], Wanted::All),
            (vec![(IF_UNMODIFIED_SINCE, OTHER_DATE)], Wanted::Another),
        ];
        for (headers, expected) in table {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(of(&method, 100, &headers), expected, "{method} {headers:?}");
            }
        }
    }

    #[test]
    fn a_generated_file_has_no_version() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"a-1\""));
        headers.insert(header::IF_RANGE, HeaderValue::from_static(DATE));
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=1-2"));
        assert_eq!(wanted(&Method::GET, &headers, 100, &Version::default()), Wanted::All);
    }
}
