//! Asks the running netboot over HTTP on loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::http;

/// How long the running netboot may say nothing.
const SILENCE: Duration = Duration::from_secs(10);
/// More than the answer with a full pool, or with a hundred thousand machines.
const LARGEST_ANSWER: u64 = 64 << 20;

/// What the running netboot that has this store says to `GET path`.
pub(super) fn get(port: u16, path: &str, store: &str) -> Result<Vec<u8>> {
    exchange(port, &format!("GET {path}"), "", store)
}

/// The same to `POST path` with this JSON.
pub(super) fn post(port: u16, path: &str, json: &str, store: &str) -> Result<Vec<u8>> {
    exchange(port, &format!("POST {path}"), json, store)
}

fn exchange(port: u16, what: &str, json: &str, store: &str) -> Result<Vec<u8>> {
    let mut connection = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SILENCE)?;
    connection.set_read_timeout(Some(SILENCE))?;
    connection.set_write_timeout(Some(SILENCE))?;
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    let more = match json.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    write!(connection, "{what} HTTP/1.0\r\nHost: localhost\r\n{more}\r\n{json}")?;
    let mut answer = Vec::new();
    connection.take(LARGEST_ANSWER).read_to_end(&mut answer)?;
    body(answer, store)
}

/// The body of an HTTP answer. Two netboots on one machine must not be taken for one another.
fn body(mut answer: Vec<u8>, store: &str) -> Result<Vec<u8>> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("that is no HTTP")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer);
    let mut status = head.lines().next().unwrap_or_default().splitn(2, ' ');
    if !status.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        bail!("that is no HTTP");
    }
    let status = status.next().unwrap_or_default();
    if !status.starts_with("200 ") {
        bail!("it says {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    if !headers.any(|(name, value)| name.eq_ignore_ascii_case(http::STORE) && value.trim() == store) {
        bail!("there is a netboot with other leases");
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::body;

    #[test]
    fn understands_the_answer_and_nothing_else() {
        let good = b"HTTP/1.0 200 OK\r\nNetboot-Store: 1-2\r\n\r\n[]\r\n\r\n".to_vec();
        assert_eq!(body(good, "1-2").unwrap(), b"[]\r\n\r\n");
        let table = [
            ("", "no HTTP"),
            ("SSH-2.0\r\n\r\n", "no HTTP"),
            ("HTTP/1.1 403 Forbidden\r\n\r\nnot for you\n", "403 Forbidden: not for you"),
            ("HTTP/1.1 200 OK\r\n\r\n[]", "other leases"),
            ("HTTP/1.1 200 OK\r\nnetboot-store: 1-3\r\n\r\n[]", "other leases"),
        ];
        for (answer, expected) in table {
            let error = format!("{:#}", body(answer.into(), "1-2").unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
