//! `/tftp/` and `/files/`: the same rules for both, conditions, and files that change while they are sent.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use netboot::http::{app, server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{directory, get, send, served};
use crate::names::{self, Answer};

/// More than a few pieces.
const LARGE: usize = 3 << 20;

/// A name as one part of a path, every byte that could mean something escaped.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[tokio::test]
async fn what_tftp_refuses_http_refuses_on_both_its_roads() {
    for folder in ["tftp", "files"] {
        let dir = directory();
        let names = names::lay(dir.path(), folder);
        let app = app(served(dir.path()));
        for (name, expected) in names {
            // `/tftp/` alone is a folder, which is not there.
            if ["/", "."].contains(&name.as_str()) {
                continue;
            }
            let status = if expected == Answer::NotFound { 404 } else { 403 };
            let answer = get(&app, "10.9.0.11", &format!("/{folder}/{}", escaped(&name))).await;
            assert_eq!(answer.status, status, "{folder} {name:?}");
            assert!(!answer.text().contains("secret") && !answer.headers.contains_key("location"));
        }
        for path in ["", "/", "//", "/../secret", "/directory/", "/%00", "/%FF"] {
            let answer = get(&app, "10.9.0.11", &format!("/{folder}{path}")).await;
            assert!([400, 403, 404].contains(&answer.status), "{folder}{path}: {}", answer.status);
            assert!(!answer.text().contains("secret") && !answer.headers.contains_key("location"));
        }
    }
}

#[tokio::test]
async fn files_of_the_operator_with_their_types() {
    let dir = directory();
    let own = dir.path().join("files/sub");
    fs::create_dir_all(&own).unwrap();
    let table = [
        ("grubx64.efi", "application/efi"),
        ("boot.ipxe", "text/plain; charset=utf-8"),
        ("live.iso", "application/vnd.efi-iso"),
        ("data.json", "application/json"),
        ("vmlinuz", "application/octet-stream"),
    ];
    let app = app(served(dir.path()));
    for (name, media) in table {
        fs::write(own.join(name), name).unwrap();
        let answer = get(&app, "10.9.0.11", &format!("/files/sub/{name}")).await;
        assert_eq!((answer.status, answer.text(), answer.header("content-type")), (200, name, media));
        assert_eq!(answer.header("content-length"), name.len().to_string());
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        // Another folder is another road.
        assert_eq!(get(&app, "10.9.0.11", &format!("/tftp/sub/{name}")).await.status, 404);
    }
    let generated = get(&app, "10.9.0.11", "/tftp/pxelinux.cfg/stable").await;
    assert_eq!(generated.header("content-type"), "text/plain; charset=utf-8");
}

#[tokio::test]
async fn a_client_that_has_the_file_gets_no_second_one() {
    let dir = directory();
    let app = app(served(dir.path()));
    let path = "/tftp/images/a%20b";
    let ask = async |method: &str, name: &str, value: &str| {
        let request = Request::builder().method(method).uri(path).header(name, value);
        send(&app, "10.9.0.11", request.body(Body::empty()).unwrap()).await
    };
    let first = get(&app, "10.9.0.11", path).await;
    let (etag, date) = (first.header("etag").to_owned(), first.header("last-modified").to_owned());
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 10, "{etag}");
    for (name, value) in [("if-none-match", &etag), ("if-modified-since", &date)] {
        for method in ["GET", "HEAD"] {
            let answer = ask(method, name, value).await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{method} {name}");
            assert_eq!(answer.header("etag"), etag);
        }
    }
    assert_eq!(ask("GET", "if-match", "\"other\"").await.status, 412);
    let resumed = async |value: &str| {
        let request = Request::get(path).header("range", "bytes=5-").header("if-range", value);
        send(&app, "10.9.0.11", request.body(Body::empty()).unwrap()).await.status
    };
    assert_eq!((resumed(&etag).await, resumed(&date).await), (206, 206));

    // Another file in its place: as long, and of the same second.
    let file = dir.path().join("tftp/images/a b");
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    let new = dir.path().join("tftp/images/new");
    fs::write(&new, [7; 256]).unwrap();
    fs::File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
    fs::rename(&new, &file).unwrap();
    let answer = ask("GET", "if-none-match", &etag).await;
    assert_eq!((answer.status, answer.body), (200, vec![7; 256]));
    assert_eq!(resumed(&etag).await, 200);

    // The same file, written into: as long, and of the same second.
    let etag = get(&app, "10.9.0.11", path).await.header("etag").to_owned();
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(modified + std::time::Duration::from_nanos(1))
        .unwrap();
    assert_eq!(ask("GET", "if-none-match", &etag).await.status, 200);
}

#[tokio::test]
async fn a_file_that_is_replaced_goes_on_and_one_that_is_written_into_ends() {
    let dir = directory();
    let app = app(served(dir.path()));
    let file = dir.path().join("tftp/large");
    let old: Vec<u8> = (0..LARGE).map(|at| u8::try_from(at % 251).unwrap()).collect();
    // Begins an answer, does something, and returns what came: all of it, or as much as there was before the end.
    let during = async |change: &dyn Fn()| {
        fs::write(&file, &old).unwrap();
        let mut request = Request::get("/tftp/large").body(Body::empty()).unwrap();
        let peer: std::net::SocketAddr = "10.9.0.11:4000".parse().unwrap();
        request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
        let mut body = tower::ServiceExt::oneshot(app.clone(), request).await.unwrap().into_body();
        let mut got = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
        assert!(got.len() < LARGE);
        change();
        loop {
            match body.frame().await {
                Some(Ok(frame)) => got.extend(frame.into_data().unwrap()),
                Some(Err(_)) => return (got, false),
                None => return (got, true),
            }
        }
    };
    let (got, whole) = during(&|| {
        fs::write(dir.path().join("tftp/new"), "new").unwrap();
        fs::rename(dir.path().join("tftp/new"), &file).unwrap();
    })
    .await;
    assert!(whole && got == old, "the old content to its end");

    let open = || fs::File::options().write(true).open(&file).unwrap();
    let (got, whole) = during(&|| open().set_len(1 << 20).unwrap()).await;
    assert!(!whole && got.len() <= 1 << 20 && old.starts_with(&got), "cut short");

    let (got, whole) = during(&|| open().write_all_at(b"x", 0).unwrap()).await;
    assert!(!whole && got.len() < LARGE, "written into: {}", got.len());

    let (got, whole) = during(&|| {
        fs::File::options().append(true).open(&file).unwrap().write_all(b"more").unwrap();
    })
    .await;
    assert!(!whole && got.len() < LARGE, "longer than it was");
}

/// Bytes of which each word says where it is, and in which file.
fn words(file: u32, length: u32) -> Vec<u8> {
    (0..length / 4).flat_map(|word| (word ^ (file << 28)).to_le_bytes()).collect()
}

/// A connection to a server of a directory.
async fn connected(data: &std::path::Path) -> (TcpStream, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(server::run(listener, app(served(data)), stop.clone()));
    (TcpStream::connect(addr).await.unwrap(), stop)
}

/// Reads the head of an answer; returns the length that it promises.
async fn head(client: &mut TcpStream) -> usize {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    length.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_were_asked_for_at_once_are_not_mixed_up() {
    let dir = directory();
    fs::create_dir(dir.path().join("files")).unwrap();
    // Less than a piece, a piece and its end, many.
    let files: Vec<Vec<u8>> = [200_000, 262_144, 262_148, 1 << 20, 1_310_720, 1_310_724, 5_000_000]
        .into_iter()
        .zip(0..)
        .map(|(length, file)| words(file, length))
        .collect();
    for (number, bytes) in files.iter().enumerate() {
        fs::write(dir.path().join(format!("files/{number}")), bytes).unwrap();
    }
    let (mut client, stop) = connected(dir.path()).await;
    let asked = [6, 3, 5, 0, 4, 6, 1, 2];
    let mut requests = String::new();
    for number in asked {
        let _ = write!(requests, "GET /files/{number} HTTP/1.1\r\nHost: x\r\n\r\n");
        let _ = write!(requests, "GET /?override_ipv4=10.9.0.12 HTTP/1.1\r\nHost: x\r\n\r\n");
        let _ = write!(requests, "GET /files/6 HTTP/1.1\r\nHost: x\r\nRange: bytes={number}-3000000\r\n\r\n");
    }
    client.write_all(requests.as_bytes()).await.unwrap();
    for number in asked {
        for expected in
            [&files[number], &b"own b12 common\n".to_vec(), &files[6][number..=3_000_000].to_vec()]
        {
            let length = head(&mut client).await;
            assert_eq!(length, expected.len());
            let mut body = vec![0; length];
            client.read_exact(&mut body).await.unwrap();
            assert!(body == *expected, "{number}");
        }
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_file_ends_the_connection_that_sends_it() {
    const LENGTH: u32 = 64 << 20;
    let dir = directory();
    fs::create_dir(dir.path().join("files")).unwrap();
    let file = dir.path().join("files/large");
    let bytes = words(1, LENGTH);
    let cut: &dyn Fn() = &|| fs::File::options().write(true).open(&file).unwrap().set_len(50 << 20).unwrap();
    let written: &dyn Fn() = &|| {
        fs::File::options().write(true).open(&file).unwrap().write_all_at(&[0xff; 8], 0).unwrap();
    };
    for (what, change) in [("cut", cut), ("written", written)] {
        fs::write(&file, &bytes).unwrap();
        let (mut client, stop) = connected(dir.path()).await;
        client.write_all(b"GET /files/large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(head(&mut client).await, bytes.len());
        let mut got = vec![0; 1 << 20];
        client.read_exact(&mut got).await.unwrap();
        change();
        // The rest is more than sockets have room for.
        let _ = client.read_to_end(&mut got).await;
        assert!(got.len() < bytes.len(), "{what}: it came to its end");
        assert!(bytes.starts_with(&got), "{what}: other bytes");
        stop.cancel();
    }
    // In the end what is there is served.
    let (mut client, stop) = connected(dir.path()).await;
    client.write_all(b"GET /files/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut got = vec![0; head(&mut client).await];
    client.read_exact(&mut got).await.unwrap();
    assert!(got == fs::read(&file).unwrap());
    stop.cancel();
}

#[tokio::test]
async fn an_answer_without_a_body_says_no_wrong_length() {
    let dir = directory();
    let (mut client, stop) = connected(dir.path()).await;
    let request =
        "GET /tftp/images/a%20b HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\nConnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let answer = answer.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 304 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    let length = answer.lines().find_map(|line| line.strip_prefix("content-length: "));
    assert!(length.is_none_or(|length| length == "256"), "{answer}");
    stop.cancel();
}
