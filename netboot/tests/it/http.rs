//! HTTP: the application without sockets, and once over a real one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use netboot::config::Unknown;
use netboot::dhcp::vacant::Network;
use netboot::http::{Reads, State, app, server};
use netboot::inventory::rendering::Server;
use netboot::inventory::{Inventory, Networks};
use netboot::orders::Orders;
use netboot::store::{Change, Redb, Store};
use netboot::tftp::Files;
use netboot::timeline::Timeline;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

mod files;
mod tls;

const HOSTS: &str = r#"{
  "common": { "$dns": "10.9.0.53", "$who": "common" },
  "hosts": {
    "10.9.0.11": { "macaddr": "52:54:00:00:00:11", "$hostname": "b11", "channel": "stable", "$who": "host" },
    "10.9.0.12": { "macaddr": "52:54:00:00:00:12", "$hostname": "b12", "channel": "stable", "template": "own.yaml" },
    "10.9.0.13": { "macaddr": "52:54:00:00:00:13", "$hostname": "b13", "channel": "stable", "template": "gone.yaml" },
  } }"#;

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The state of an application that serves a directory.
pub(crate) fn served(data: &Path) -> State {
    served_on(data, Networks::default())
}

/// The same with machines of a network.
pub(crate) fn served_on(data: &Path, networks: Networks) -> State {
    let inventory = Arc::new(Inventory::open(data.to_owned(), networks).unwrap());
    let files = Files::new(data, inventory.snapshots(), [10, 9, 0, 1].into(), 8080);
    let orders = Orders::start(Arc::clone(&inventory)).unwrap();
    State {
        inventory,
        templates: Arc::default(),
        files,
        server: Server { addr: [10, 9, 0, 1].into(), http_port: 8080 },
        reads: Arc::new(Reads::new(8)),
        subnets: Arc::new(["10.9.0.0/24".parse().unwrap()]),
        override_from: Arc::new(["127.0.0.0/8".parse().unwrap(), "10.9.0.5/32".parse().unwrap()]),
        token: None,
        leases: Redb::open(tempfile::tempdir().unwrap().path()).unwrap().reader(),
        orders,
        network: Arc::new(Network {
            prefix: "10.9.0.0/24".parse().unwrap(),
            server: [10, 9, 0, 1].into(),
            routers: vec![],
            dns: vec![],
            pool: vec![],
        }),
        unknown: Unknown::Hold,
        waiting: Arc::default(),
        timeline: Timeline::default(),
        ready: Arc::new(AtomicBool::new(true)),
        xdp: Arc::default(),
    }
}

/// A data directory with the hosts above.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pxe_hosts.json"), HOSTS).unwrap();
    fs::write(dir.path().join("default.yaml"), "#cloud-config\n$hostname $private_ipv4 $dns $who $unknown\n")
        .unwrap();
    fs::write(dir.path().join("own.yaml"), "own $hostname $who\n").unwrap();
    fs::create_dir_all(dir.path().join("tftp/images")).unwrap();
    fs::write(dir.path().join("tftp/images/a b"), (0..=255).collect::<Vec<u8>>()).unwrap();
    dir
}

async fn send(app: &Router, peer: &str, request: Request<Body>) -> Answer {
    let mut request = request;
    let peer: SocketAddr = peer.parse().unwrap_or_else(|_| SocketAddr::new(peer.parse().unwrap(), 40000));
    request.extensions_mut().insert(ConnectInfo(peer));
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// `GET path` from an address.
pub(crate) async fn get(app: &Router, peer: &str, path: &str) -> Answer {
    send(app, peer, Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn the_cloud_config_follows_the_source_address() {
    let dir = directory();
    let state = served(dir.path());
    let app = app(state.clone());
    let own = "#cloud-config\nb11 10.9.0.11 10.9.0.53 host $unknown\n";
    for path in ["/", "/any/path", "/cloud-config.yaml?x=1", "/metricsx", "/?override_ipv4=10.9.0.11"] {
        let answer = get(&app, "10.9.0.11", path).await;
        assert_eq!((answer.status, answer.text()), (200, own), "{path}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("content-length"), own.len().to_string());
    }
    assert_eq!(get(&app, "::ffff:10.9.0.11", "/").await.text(), own);
    assert_eq!(get(&app, "10.9.0.12", "/").await.text(), "own b12 common\n");
    assert_eq!(state.timeline.counters()["http"]["cloud-config"], 7);

    // Templates are read at each request.
    fs::write(dir.path().join("own.yaml"), "new $hostname\n").unwrap();
    assert_eq!(get(&app, "10.9.0.12", "/").await.text(), "new b12\n");
}

#[tokio::test]
async fn what_is_missing_is_named_in_a_comment() {
    let dir = directory();
    let app = app(served(dir.path()));
    let table = [
        (
            "10.9.0.99",
            "#cloud-config\n# no configuration for 10.9.0.99; add this address to `hosts` in pxe_hosts.json\n",
        ),
        ("10.9.0.13", "#cloud-config\n# template gone.yaml is missing in the data directory\n"),
        (
            "2001:db8::1",
            "#cloud-config\n# no configuration for 2001:db8::1; add this address to `hosts` in pxe_hosts.json\n",
        ),
    ];
    for (peer, text) in table {
        let answer = get(&app, peer, "/").await;
        assert_eq!((answer.status, answer.text()), (404, text));
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    let empty = tempfile::tempdir().unwrap();
    let answer = get(&netboot::http::app(served(empty.path())), "10.9.0.11", "/").await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().starts_with("#cloud-config\n# pxe_hosts.json is missing"), "{}", answer.text());
}

#[tokio::test]
async fn a_template_out_of_the_data_directory_is_not_read() {
    let dir = directory();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "secret").unwrap();
    let own = dir.path().join("own.yaml");
    let app = app(served(dir.path()));
    fs::remove_file(&own).unwrap();
    std::os::unix::fs::symlink(outside.path(), &own).unwrap();
    let answer = get(&app, "10.9.0.12", "/").await;
    assert_eq!(
        (answer.status, answer.text()),
        (500, "#cloud-config\n# template own.yaml in the data directory cannot be read\n")
    );
    fs::remove_file(&own).unwrap();
    std::os::unix::fs::symlink("default.yaml", &own).unwrap();
    assert!(get(&app, "10.9.0.12", "/").await.text().contains("b12 10.9.0.12"));
}

#[tokio::test]
async fn the_leases_are_not_for_the_machines() {
    let dir = directory();
    let mut store = Redb::open(&dir.path().join("state")).unwrap();
    let mut state = served(dir.path());
    state.leases = store.reader();
    let app = app(state);
    assert_eq!(get(&app, "127.0.0.1", "/api/v1/leases").await.text(), "[]");
    let put = |addr: &str, mac: &str| Change::Put {
        key: format!("lease/{addr}"),
        value: format!(r#"{{"mac":"{mac}","expires":1700000000}}"#).into_bytes(),
    };
    store.commit(&[put("10.9.0.100", "52:54:00:00:01:00"), put("10.9.0.20", "52:54:00:00:00:20")]).unwrap();
    let expected = r#"[{"addr":"10.9.0.20","mac":"52:54:00:00:00:20","expires":1700000000},{"addr":"10.9.0.100","mac":"52:54:00:00:01:00","expires":1700000000}]"#;
    for (peer, status) in [
        ("127.0.0.1", 200),
        ("::ffff:127.0.0.1", 200),
        ("192.0.2.1", 200),
        ("10.9.0.5", 200),
        ("10.9.0.20", 403),
        ("::ffff:10.9.0.20", 403),
        ("10.9.0.11", 403),
    ] {
        let answer = get(&app, peer, "/api/v1/leases").await;
        assert_eq!(answer.status, status, "{peer}");
        let text = if status == 200 { expected } else { "not for this address\n" };
        assert_eq!(answer.text(), text, "{peer}");
    }
    drop(store);
    assert_eq!(get(&app, "127.0.0.1", "/api/v1/leases").await.status, 503);
}

#[tokio::test]
async fn the_machines_are_not_for_the_machines() {
    let dir = directory();
    let mut store = Redb::open(&dir.path().join("state")).unwrap();
    let mut state = served(dir.path());
    state.leases = store.reader();
    let put = |addr: &str, mac: &str, expires: u64| Change::Put {
        key: format!("lease/{addr}"),
        value: format!(r#"{{"mac":"{mac}","expires":{expires}}}"#).into_bytes(),
    };
    let (ended, live) = (1_700_000_000, 9_700_000_000);
    store
        .commit(&[
            put("10.9.0.12", "52:54:00:00:00:99", live),
            put("10.9.0.13", "52:54:00:00:00:98", ended),
            put("10.9.0.100", "52:54:00:00:00:aa", live),
        ])
        .unwrap();
    let asks = |mac: u8, more: &[u8]| {
        let mut packet = vec![1, 1, 6, 0];
        packet.resize(236, 0);
        packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 0, mac]);
        packet.extend([&[99, 130, 83, 99, 53, 1, 1], more, &[255]].concat());
        netboot::dhcp::wire::decode(&packet).unwrap()
    };
    {
        let mut waiting = state.waiting.lock().unwrap();
        waiting.note(&asks(0x11, &[]), 5);
        waiting.note(&asks(0xaa, &[12, 4, b'a', b'"', 0x1b, b'<']), 7);
        waiting.note(&asks(0xbb, &[]), 9);
    }
    let app = app(state);
    for peer in ["10.9.0.20", "::ffff:10.9.0.20", "10.9.0.11"] {
        let answer = get(&app, peer, "/api/v1/hosts").await;
        assert_eq!((answer.status, answer.text()), (403, "not for this address\n"), "{peer}");
    }
    for peer in ["127.0.0.1", "192.0.2.1", "10.9.0.5"] {
        let answer = get(&app, peer, "/api/v1/hosts").await;
        assert_eq!(answer.status, 200, "{peer}");
        let told: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!((&told["unknown"], &told["network"]["server"]), (&"hold".into(), &"10.9.0.1".into()));
        let host = |n: usize| &told["hosts"][n];
        assert_eq!((&host(0)["addr"], &host(0)["hostname"]), (&"10.9.0.11".into(), &"b11".into()));
        let other = serde_json::json!({ "addr": "10.9.0.12", "mac": "52:54:00:00:00:99", "expires": live });
        assert_eq!(host(1)["leased_to"], other);
        assert_eq!(host(2).get("leased_to"), None, "it has ended");
        let waiting = told["waiting"].as_array().unwrap();
        let macs: Vec<_> = waiting.iter().map(|machine| machine["mac"].as_str().unwrap()).collect();
        assert_eq!(macs, ["52:54:00:00:00:bb", "52:54:00:00:00:aa"], "the last first, none that is reserved");
        assert_eq!(waiting[1]["addr"], "10.9.0.100");
        assert_eq!(waiting[1]["hostname"], r#"a\"\x1b<"#);
    }
    drop(store);
    assert_eq!(get(&app, "127.0.0.1", "/api/v1/hosts").await.status, 503);
}

#[tokio::test]
async fn another_hosts_config_is_for_those_who_may_see_it() {
    let dir = directory();
    let app = app(served(dir.path()));
    let table = [
        // allowed: loopback, a listed address, and whoever is outside the PXE subnet
        ("127.0.0.1", "10.9.0.11", 200, "b11"),
        ("10.9.0.5", "10.9.0.11", 200, "b11"),
        ("192.0.2.1", "10.9.0.12", 200, "b12"),
        ("::1", "10.9.0.11", 200, "b11"),
        ("::ffff:127.0.0.1", "10.9.0.11", 200, "b11"),
        ("127.0.0.1", "10.9.0.98", 404, "10.9.0.98"),
        // a blade sees its own and no other's
        ("10.9.0.12", "10.9.0.11", 200, "b12"),
        ("::ffff:10.9.0.12", "10.9.0.11", 200, "b12"),
        ("10.9.0.99", "10.9.0.11", 404, "10.9.0.99"),
        // an invalid value counts as none
        ("10.9.0.5", "10.9.0", 404, "10.9.0.5"),
        ("127.0.0.1", "", 404, "127.0.0.1"),
        ("127.0.0.1", "%2e%2e/x", 404, "127.0.0.1"),
    ];
    for (peer, asked, status, part) in table {
        let answer = get(&app, peer, &format!("/?override_ipv4={asked}")).await;
        assert_eq!(answer.status, status, "{peer} {asked}");
        assert!(answer.text().contains(part), "{peer} {asked}: {}", answer.text());
    }
}

#[tokio::test]
async fn head_has_the_headers_alone_and_other_methods_are_refused() {
    let dir = directory();
    let app = app(served(dir.path()));
    for (path, size) in
        [("/", Some(52)), ("/tftp/images/a%20b", Some(256)), ("/tftp/pxelinux.cfg/stable", None)]
    {
        let whole = get(&app, "10.9.0.11", path).await;
        // A generated text is as long as it is.
        let length = &size.unwrap_or(whole.body.len()).to_string();
        let head = send(
            &app,
            "10.9.0.11",
            Request::head(path).header("range", "bytes=1-2").body(Body::empty()).unwrap(),
        )
        .await;
        assert_eq!(
            (head.status, head.body.len(), head.header("content-length")),
            (200, 0, length.as_str()),
            "{path}"
        );
        assert_eq!(&whole.body.len().to_string(), length, "{path}");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            assert_eq!(send(&app, "10.9.0.11", request).await.status, 405, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn files_and_their_ranges() {
    let dir = directory();
    let state = served(dir.path());
    let app = app(state.clone());
    let whole = get(&app, "10.9.0.11", "/tftp/images/a%20b").await;
    assert_eq!((whole.status, whole.body.len(), whole.header("accept-ranges")), (200, 256, "bytes"));
    assert!(whole.header("last-modified").ends_with(" GMT"));
    let table = [
        ("bytes=250-", 206, "bytes 250-255/256", vec![250, 251, 252, 253, 254, 255]),
        ("bytes=1-2", 206, "bytes 1-2/256", vec![1, 2]),
        ("bytes=-1", 206, "bytes 255-255/256", vec![255]),
        ("bytes=256-", 416, "bytes */256", vec![]),
    ];
    for (range, status, content_range, body) in table {
        let request = Request::get("/tftp/images/a%20b").header("range", range).body(Body::empty()).unwrap();
        let answer = send(&app, "10.9.0.11", request).await;
        assert_eq!(
            (answer.status, answer.header("content-range"), &answer.body),
            (status, content_range, &body),
            "{range}"
        );
        assert_eq!(answer.header("content-length"), body.len().to_string(), "{range}");
    }
    let request =
        Request::get("/tftp/pxelinux.cfg/stable").header("range", "bytes=10-16").body(Body::empty()).unwrap();
    let part = send(&app, "10.9.0.11", request).await;
    assert_eq!((part.status, part.text()), (206, "netboot"));
    assert_eq!(state.timeline.counters()["http"]["file"], 6);
}

#[tokio::test]
async fn files_that_are_not_there_or_not_for_clients() {
    let dir = directory();
    let app = app(served(dir.path()));
    let table = [
        ("/tftp/none", 404),
        ("/tftp", 404),
        ("/tftp/", 404),
        ("/tftp/images/a%20b/x", 404),
        ("/tftp/..%2fpxe_hosts.json", 403),
        ("/tftp/%2e%2e/pxe_hosts.json", 403),
        ("/tftp/a%00b", 403),
        ("/tftp/images", 403),
        ("/api/v2/none", 404),
    ];
    for (path, status) in table {
        let answer = get(&app, "10.9.0.11", path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(!answer.text().contains("hostname"), "{path}");
    }
    let long = format!("/{}", "x".repeat(3000));
    assert_eq!(get(&app, "10.9.0.11", &long).await.status, 414);
}

#[tokio::test]
async fn health_and_status() {
    let dir = directory();
    let state = served(dir.path());
    let app = app(state.clone());
    state.xdp.store(Arc::new("generic on eth1".to_owned()));
    state.timeline.count("dhcp", "offer");
    assert_eq!(get(&app, "10.9.0.11", "/healthz").await.status, 200);
    state.ready.store(false, Ordering::Release);
    assert_eq!(get(&app, "10.9.0.11", "/healthz").await.status, 503);

    let answer = get(&app, "192.0.2.1", "/api/v1/status").await;
    let status: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!((&status["xdp"], &status["ready"]), (&"generic on eth1".into(), &false.into()));
    assert_eq!(status["counters"]["dhcp"]["offer"], 1);
    assert_eq!((&status["inventory"]["generation"], &status["inventory"]["hosts"]), (&1.into(), &3.into()));
    let problems = status["inventory"]["problems"].as_array().unwrap();
    let gone = problems.iter().find(|problem| problem["severity"] == "error").unwrap();
    assert_eq!(
        (&gone["line"], &gone["message"]),
        (&6.into(), &"the template `gone.yaml` does not exist".into())
    );
    // The machines see that there are problems, and none that names another machine.
    let answer = get(&app, "10.9.0.11", "/api/v1/status").await;
    let seen: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(seen["inventory"]["problem_count"], status["inventory"]["problem_count"]);
    assert_eq!(seen["inventory"]["problems"], serde_json::json!([]));
}

#[tokio::test]
async fn serves_a_socket_until_it_is_told_to_stop() {
    let dir = directory();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(server::run(listener, app(served(dir.path())), stop.clone()));

    let mut idle = tokio::net::TcpStream::connect(addr).await.unwrap();
    idle.write_all(b"GET / HT").await.unwrap();
    let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
    client
        .write_all(b"GET /?override_ipv4=10.9.0.11 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("b11 10.9.0.11"), "{answer}");

    let mut huge = tokio::net::TcpStream::connect(addr).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\n{}\r\n", "X-Y: 12345678\r\n".repeat(2000));
    huge.write_all(head.as_bytes()).await.unwrap();
    let mut refused = [0; 12];
    huge.read_exact(&mut refused).await.unwrap();
    assert_eq!(&refused, b"HTTP/1.1 431");
    let mut wide = tokio::net::TcpStream::connect(addr).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nX-Y: {}\r\n\r\n", "1".repeat(20_000));
    wide.write_all(head.as_bytes()).await.unwrap();
    wide.read_exact(&mut refused).await.unwrap();
    assert_eq!(&refused, b"HTTP/1.1 431");

    // A client that never finishes its request does not hold the daemon.
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap().unwrap();
    drop(idle);
}

#[tokio::test]
async fn all_threads_of_the_server_answer_and_nobody_else_gets_its_port() {
    let dir = directory();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(server::run(listener, app(served(dir.path())), stop.clone()));
    // More than enough for every one of its threads, and within the limit of one address.
    for _ in 0..60 {
        let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    }
    let taken = std::net::TcpListener::bind(addr).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(std::net::TcpListener::bind(addr).is_ok(), "it is free at once");
}
