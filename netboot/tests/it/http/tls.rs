//! HTTPS with a real client: curl, which trusts one certificate alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netboot::config::Tls;
use netboot::http::server::Sockets;
use netboot::http::{Certificate, app, server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{directory, served};

/// Makes a certificate for a name, and its key.
fn make(dir: &Path, name: &str) -> Tls {
    let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '));
    openssl.args(["-subj", "/CN=netboot", "-addext", &format!("subjectAltName=DNS:{name}")]);
    let made = openssl.arg("-out").arg(&cert).arg("-keyout").arg(&key).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Tls { port: 8443, cert, key }
}

/// A server with HTTP and HTTPS: their ports, and what ends it.
async fn start(data: &Path, tls: &Tls) -> ([u16; 2], CancellationToken) {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let (plain, secure) = (bind().await.unwrap(), bind().await.unwrap());
    let ports = [&plain, &secure].map(|listener| listener.local_addr().unwrap().port());
    let certificate = Arc::new(Certificate::open(tls, data).unwrap());
    let stop = CancellationToken::new();
    let sockets = Sockets { plain, tls: Some((secure, certificate)) };
    tokio::spawn(server::run(sockets, app(served(data)), stop.clone()));
    (ports, stop)
}

/// curl, with a name for the server's address.
async fn curl(name: &str, port: u16, trusted: &Path, path: &str, more: &[&str]) -> Output {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]).arg(trusted);
    curl.arg("--resolve").arg(format!("{name}:{port}:127.0.0.1")).args(more);
    curl.arg(format!("https://{name}:{port}{path}"));
    tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn https_serves_what_http_does() {
    let dir = directory();
    let tls = make(dir.path(), "a.example");
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::create_dir(dir.path().join("files")).unwrap();
    fs::write(dir.path().join("files/large"), &large).unwrap();
    let ([plain, port], stop) = start(dir.path(), &tls).await;
    for more in [&[][..], &["--tls-max", "1.2"]] {
        let config = curl("a.example", port, &tls.cert, "/?override_ipv4=10.9.0.11", more).await;
        let text = String::from_utf8_lossy(&config.stdout);
        assert_eq!(text, "#cloud-config\nb11 10.9.0.11 10.9.0.53 host $unknown\n", "{config:?}");
        let file = curl("a.example", port, &tls.cert, "/files/large", more).await;
        assert!(file.stdout == large, "{} bytes", file.stdout.len());
    }
    let range = curl("a.example", port, &tls.cert, "/files/large", &["-r", "11999996-"]).await;
    assert_eq!(range.stdout, 2_999_999_u32.to_le_bytes());
    // Not to who speaks no TLS, and the other port not to who does.
    let plain = curl("a.example", plain, &tls.cert, "/", &[]).await;
    assert!(!plain.status.success());
    let mut talk = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut talk, b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut talk, &mut said).await;
    assert!(!said.starts_with(b"HTTP"));
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_counts_from_the_next_connection_on() {
    let dir = directory();
    let (old, new) = (make(dir.path(), "old.example"), make(dir.path(), "new.example"));
    let used = Tls { port: 8443, cert: dir.path().join("cert"), key: dir.path().join("key") };
    let put = |from: &PathBuf, to: &PathBuf| {
        let aside = dir.path().join("aside");
        fs::copy(from, &aside).unwrap();
        fs::rename(aside, to).unwrap();
    };
    put(&old.cert, &used.cert);
    put(&old.key, &used.key);
    let ([_, port], stop) = start(dir.path(), &used).await;
    let trusts =
        async |tls: &Tls, name: &str| curl(name, port, &tls.cert, "/healthz", &[]).await.status.success();
    assert!(trusts(&old, "old.example").await && !trusts(&new, "new.example").await);
    // A key of another certificate, as in the middle of a change: the old pair stays.
    put(&new.key, &used.key);
    assert!(trusts(&old, "old.example").await);
    put(&new.cert, &used.cert);
    assert!(trusts(&new, "new.example").await && !trusts(&old, "old.example").await);
    fs::write(&used.cert, "no certificate").unwrap();
    assert!(trusts(&new, "new.example").await);
    fs::remove_file(&used.key).unwrap();
    assert!(trusts(&new, "new.example").await);
    stop.cancel();
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_with_its_file() {
    let dir = directory();
    let good = make(dir.path(), "a.example");
    let other = make(dir.path(), "b.example");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let key = fs::read_to_string(&good.key).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args("pkcs8 -topk8 -v2 aes256 -passout pass:x -out".split(' ')).arg(dir.path().join("locked"));
    assert!(openssl.arg("-in").arg(&good.key).status().unwrap().success());
    fs::create_dir_all(dir.path().join("files")).unwrap();
    let table = [
        (
            dir.path().join("gone"),
            good.key.clone(),
            "gone: No such file or directory (os error 2); put the certificate there",
        ),
        (dir.path().join("tftp"), good.key.clone(), "tftp: is no file of PEM; put the certificate"),
        (file("text", "hello"), good.key.clone(), "text: has no certificate; write PEM, which begins with"),
        (
            good.cert.clone(),
            dir.path().join("gone.key"),
            "gone.key: No such file or directory (os error 2); put the certificate's private key",
        ),
        (good.cert.clone(), file("empty", ""), "empty: has no private key that can be read"),
        (good.cert.clone(), dir.path().join("locked"), "locked: has no private key that can be read"),
        (good.cert.clone(), other.key.clone(), "b.example.key: does not go with the certificate"),
        (
            good.cert.clone(),
            file("files/key", &key),
            "files/key: anybody can fetch this private key; move it out",
        ),
    ];
    for (cert, key, expected) in table {
        let problem = Certificate::open(&Tls { port: 1, cert, key }, dir.path()).unwrap_err().to_string();
        let problem = problem.replace(&format!("{}/", dir.path().display()), "");
        assert!(problem.starts_with(expected), "{problem}");
    }
    assert!(Certificate::open(&good, dir.path()).is_ok());

    let netboot = |command: &str| {
        let mut netboot = Command::new(env!("CARGO_BIN_EXE_netboot"));
        netboot.arg(command).args(["--interface", "lo", "--tls-cert", "/gone.pem", "--tls-key", "/gone.key"]);
        let data = dir.path().as_os_str();
        if command == "serve" { netboot.arg("--data") } else { &mut netboot }.arg(data);
        let output = netboot.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for command in ["check", "serve"] {
        let (code, said) = netboot(command);
        assert_eq!(code, Some(2), "{command}: {said}");
        assert!(said.contains("/gone.pem: No such file"), "{command}: {said}");
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_holds_nobody() {
    let dir = directory();
    let tls = make(dir.path(), "a.example");
    let ([_, port], stop) = start(dir.path(), &tls).await;
    let mut silent = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // The beginning of a handshake.
    tokio::io::AsyncWriteExt::write_all(&mut silent, &[22, 3, 1]).await.unwrap();
    let began = Instant::now();
    assert!(curl("a.example", port, &tls.cert, "/healthz", &[]).await.status.success());
    assert!(began.elapsed() < Duration::from_secs(20));
    stop.cancel();
    drop(silent);
}
