//! TFTP against real clients and hand-written bad ones, on loopback. Every test runs over both engines.
//!
//! Tests that count packets agree on a long `timeout`: on a busy machine a client may be slow, and be sent to again.
#![allow(clippy::unwrap_used, reason = "it is all tests")]

mod client;
mod settings;

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use client::{Client, Server};
use netboot::config::Engine;
use netboot::inventory::Snapshot;
use netboot::tftp::files::Files;
use netboot::tftp::server::{Config, Error, start};
use netboot::tftp::transfer::Rollover;
use netboot::tftp::wire::{self, Packet};
use netboot::timeline::Timeline;
use tokio_util::sync::CancellationToken;
use xtask::lab::{Child, wait_for};

use crate::names::Answer;

const WITHIN: Duration = Duration::from_secs(20);
/// Keeps the server from sending again while a test looks at what it sent.
const PATIENT: (&str, &str) = ("timeout", "20");

/// Bytes that show where they stand in the file.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at ^ (at >> 8) ^ (at >> 16)) & 0xff).unwrap()).collect()
}

fn run(program: &str, arguments: &[&str], dir: &Path) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir);
    let mut child = Child::spawn(command).unwrap();
    let status = child.wait(WITHIN).unwrap();
    // What it printed last may still be on its way.
    while child.next_line(WITHIN).is_some() {}
    (status.success(), child.output())
}

fn both(test: impl Fn(Engine)) {
    for engine in [Engine::Uring, Engine::Plain] {
        eprintln!("engine {engine:?}");
        test(engine);
    }
}

#[test]
fn real_clients_read_whole_files() {
    both(|engine| {
        let server = Server::new(engine);
        let out = tempfile::tempdir().unwrap();
        let sizes = [0, 1, 511, 512, 513, 1428 * 16, 1428 * 64 + 1, 1_000_000];
        for size in sizes {
            let content = pattern(size);
            server.file("file", &content);
            let (host, port) = (server.host(), server.port());
            let url = format!("tftp://{host}:{port}/file");
            let atftp = |options: &[&str]| {
                let tail = ["-g", "-r", "file", "-l", "got", &host, &port];
                (
                    "atftp",
                    options
                        .iter()
                        .flat_map(|option| ["--option", option])
                        .chain(tail)
                        .map(String::from)
                        .collect(),
                )
            };
            let own = |program: &'static str, arguments: &[&str]| {
                (program, arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
            };
            let clients: [(&str, Vec<String>); 7] = [
                own("tftp", &["-m", "binary", &host, &port, "-c", "get", "file", "got"]),
                own("curl", &["-sS", "-o", "got", &url]),
                own("curl", &["-sS", "--tftp-blksize", "1468", "-o", "got", &url]),
                own("curl", &["-sS", "--tftp-no-options", "-o", "got", &url]),
                atftp(&[]),
                atftp(&["tsize", "blksize 1428", "timeout 2"]),
                atftp(&["windowsize 16", "blksize 1428"]),
            ];
            for (program, arguments) in clients {
                // curl takes `tsize` 0 in an OACK for an illegal value.
                if program == "curl" && size == 0 && arguments[1] != "--tftp-no-options" {
                    continue;
                }
                let _ = std::fs::remove_file(out.path().join("got"));
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                let (good, output) = run(program, &arguments, out.path());
                assert!(good, "{program} {arguments:?}: {output}");
                let got = std::fs::read(out.path().join("got")).unwrap();
                assert!(got == content, "{program} {arguments:?}: {} of {size} bytes", got.len());
            }
        }
        server.wait_count("done", 7 * sizes.len() as u64 - 2);
        assert_eq!(server.count("failed"), 0);
    });
}

#[test]
fn real_clients_see_why_not() {
    both(|engine| {
        let server = Server::new(engine);
        server.file("file", b"text\n");
        let out = tempfile::tempdir().unwrap();
        let (host, port) = (server.host(), server.port());
        let (_, output) =
            run("tftp", &["-m", "binary", &host, &port, "-c", "get", "absent", "got"], out.path());
        assert!(output.contains("not found"), "{output}");
        std::fs::write(out.path().join("mine"), "x").unwrap();
        let (_, output) =
            run("tftp", &["-m", "binary", &host, &port, "-c", "put", "mine", "new"], out.path());
        assert!(output.contains("read-only"), "{output}");
        assert!(!server.dir.path().join("tftp/new").exists());
        server.wait_count("failed", 2);
    });
}

#[test]
fn generated_files_are_served_like_others() {
    both(|engine| {
        let server = Server::new(engine);
        let text = Client::new(server.addr()).read("/pxelinux.cfg/stable", &[("tsize", "0")]);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("cloud-config-url=http://127.0.0.1:8080\n"), "{text}");
    });
}

#[test]
fn more_than_65535_blocks() {
    both(|engine| {
        let server = Server::new(engine);
        let content = pattern(70_000 * 8 + 3);
        server.file("small-blocks", &content);
        let got = Client::new(server.addr()).read("small-blocks", &[("blksize", "8"), ("windowsize", "64")]);
        assert!(got == content, "{} bytes", got.len());
        server.wait_count("done", 1);
    });
}

#[test]
fn many_at_once() {
    both(|engine| {
        let server = Server::new(engine);
        let content = pattern(200_000);
        server.file("kernel", &content);
        std::thread::scope(|scope| {
            for number in 0..64 {
                let (server, content) = (&server, &content);
                scope.spawn(move || {
                    let blksize = (512 + number).to_string();
                    let got = Client::new(server.addr()).read("kernel", &[("blksize", &blksize)]);
                    assert!(got == *content, "client {number}");
                });
            }
        });
        server.wait_count("done", 64);
        assert_eq!(server.count("failed"), 0);
    });
}

#[test]
fn a_lost_packet_is_sent_again() {
    both(|engine| {
        let server = Server::new(engine);
        let content = pattern(512 * 6 + 9);
        server.file("file", &content);
        let client = server.ask("file", &[]);
        let (mut got, mut copies) = (Vec::new(), 0);
        for expected in 1..=7_u16 {
            // Of the third block the first two ACKs are lost.
            let wanted = if expected == 3 { 3 } else { 1 };
            for number in 1..=wanted {
                let (bytes, from) = loop {
                    let (block, bytes, from) = client.data();
                    copies += 1;
                    if block == expected {
                        break (bytes, from);
                    }
                };
                if number == wanted {
                    got.extend_from_slice(&bytes);
                    client.send(&Packet::Ack(expected), from);
                }
            }
        }
        assert!(got == content);
        assert!(copies >= 9);
        server.wait_count("done", 1);
    });
}

#[test]
fn a_double_ack_is_not_answered() {
    both(|engine| {
        let server = Server::new(engine);
        server.file("file", &pattern(512 * 6 + 9));
        let client = server.ask("file", &[PATIENT]);
        let (_, from) = client.oack();
        client.send(&Packet::Ack(0), from);
        for expected in 1..=7_u16 {
            client.send(&Packet::Ack(0), from);
            let (block, ..) = client.data();
            assert_eq!(block, expected);
            client.send(&Packet::Ack(block), from);
            client.send(&Packet::Ack(block), from);
            client.send(&Packet::Ack(block.wrapping_sub(1)), from);
        }
        server.wait_count("done", 1);
        assert!(client.is_silent(Duration::from_millis(200)));
    });
}

#[test]
fn a_window_goes_on_after_what_arrived() {
    both(|engine| {
        let server = Server::new(engine);
        let content = pattern(512 * 20);
        server.file("file", &content);
        let client = server.ask("file", &[("windowsize", "8"), PATIENT]);
        let (options, from) = client.oack();
        assert_eq!(options, "windowsize=8 timeout=20");
        client.send(&Packet::Ack(0), from);
        let blocks = |number: usize| -> Vec<u16> { (0..number).map(|_| client.data().0).collect() };
        assert_eq!(blocks(8), (1..=8).collect::<Vec<_>>());
        client.send(&Packet::Ack(5), from);
        assert_eq!(blocks(8), (6..=13).collect::<Vec<_>>());
        client.send(&Packet::Ack(13), from);
        let (block, bytes, _) = client.data();
        assert_eq!((block, bytes.as_slice()), (14, &content[13 * 512..14 * 512]));
        assert_eq!(blocks(7), (15..=21).collect::<Vec<_>>());
        client.send(&Packet::Ack(21), from);
        server.wait_count("done", 1);
    });
}

#[test]
fn strangers_get_error_5_and_change_nothing() {
    both(|engine| {
        let server = Server::new(engine);
        let content = pattern(1000);
        server.file("file", &content);
        let (client, stranger) = (server.ask("file", &[PATIENT]), Client::new(server.addr()));
        client.send(&Packet::Ack(0), client.oack().1);
        let (block, first, from) = client.data();
        stranger.send(&Packet::Ack(block), from);
        assert_eq!(stranger.error().0, 5);
        stranger.send(&Packet::Error { code: 0, text: "end it".to_owned() }, from);
        stranger.socket.send_to(b"\0\x09nonsense", from).unwrap();
        assert_eq!(stranger.error().0, 5);
        client.socket.send_to(b"\0", from).unwrap();
        client.send(&Packet::Ack(block), from);
        let (block, second, _) = client.data();
        client.send(&Packet::Ack(block), from);
        assert_eq!([first, second].concat(), content);
        server.wait_count("done", 1);
        assert_eq!((server.count("wrong-port"), server.count("malformed-short")), (3, 1));
    });
}

#[test]
fn a_request_sent_twice_is_one_transfer() {
    both(|engine| {
        let server = Server::new(engine);
        server.file("file", &pattern(600));
        server.file("other", b"other");
        let client = server.ask("file", &[PATIENT]);
        client.request("file", &[PATIENT]);
        client.send(&Packet::Ack(0), client.oack().1);
        let (block, _, from) = client.data();
        client.send(&Packet::Ack(block), from);
        let (block, _, again) = client.data();
        assert_eq!((block, again), (2, from));
        server.wait_count("repeated-request", 1);
        // Another file from the same port is another transfer, and the end of this one.
        client.request("other", &[]);
        let mut packets = [client.receive(), client.receive()];
        packets.sort();
        let texts = packets.each_ref().map(|(packet, _)| packet.as_slice());
        assert_eq!(
            texts,
            [b"\0\x03\0\x01other".as_slice(), b"\0\x05\0\0the client began anew from the same port\0"]
        );
        client.send(&Packet::Ack(1), packets[0].1);
        server.wait_count("done", 1);
        assert_eq!((server.count("repeated-request"), server.count("failed")), (1, 1));
    });
}

#[test]
fn a_size_probe_is_no_failure() {
    both(|engine| {
        let server = Server::new(engine);
        server.file("file", &pattern(123_456));
        let client = server.ask("file", &[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")]);
        let (options, from) = client.oack();
        assert_eq!(options, "tsize=123456 blksize=1468 windowsize=4");
        client.send(&Packet::Error { code: 8, text: "User aborted the transfer".to_owned() }, from);
        server.wait_count("size-probe", 1);
        assert_eq!(server.count("failed"), 0);
    });
}

#[test]
fn what_must_not_be_served_is_refused_at_once() {
    both(|engine| {
        let server = Server::new(engine);
        let cases = crate::names::lay(server.dir.path(), "tftp");
        let began = Instant::now();
        for (name, expected) in &cases {
            let code = if *expected == Answer::NotFound { 1 } else { 2 };
            assert_eq!(server.ask(name, &[("tsize", "0")]).error().0, code, "{name:?}");
        }
        // pxelinux asks for ten names before it finds one.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        server.wait_count("failed", cases.len() as u64);
    });
}

#[test]
fn broken_requests_do_no_harm() {
    both(|engine| {
        let server = Server::new(engine);
        server.file("file", b"content");
        let client = Client::new(server.addr());
        let whole = b"\0\x01file\0octet\0blksize\x00512\0";
        for length in 0..whole.len() {
            client.socket.send_to(&whole[..length], server.addr()).unwrap();
        }
        for junk in [
            b"\0\x03\0\x01x".as_slice(),
            b"\0\x04\0\x01",
            b"\0\x05\0\x01x\0",
            b"\0\x06a\0b\0",
            b"\xff\xff",
            &[0; 1400],
        ] {
            client.socket.send_to(junk, server.addr()).unwrap();
        }
        assert_eq!(Client::new(server.addr()).read("file", &[]), b"content");
        server.wait_count("stray", 4);
        assert_eq!(server.count("malformed-short"), 2);
    });
}

#[test]
fn a_file_that_is_replaced_ends_with_its_old_content() {
    both(|engine| {
        let server = Server::new(engine);
        let content = pattern(300_000);
        server.file("image", &content);
        let client = server.ask("image", &[]);
        let got = client.read_on(&[], |block| {
            if block == 3 {
                server.file("new", b"new");
                let root = server.dir.path().join("tftp");
                std::fs::rename(root.join("new"), root.join("image")).unwrap();
            }
        });
        assert!(got == content);
        assert_eq!(Client::new(server.addr()).read("image", &[]), b"new");
    });
}

#[test]
fn a_file_cut_short_in_place_is_an_error() {
    both(|engine| {
        let server = Server::new(engine);
        server.file("image", &pattern(300_000));
        let client = server.ask("image", &[("blksize", "1000")]);
        client.send(&Packet::Ack(0), client.oack().1);
        server.file("image", b"");
        let (code, text) = loop {
            let (packet, from) = client.receive();
            match wire::parse(&packet).unwrap() {
                Packet::Data { block, .. } => client.send(&Packet::Ack(block), from),
                Packet::Error { code, text } => break (code, text),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((code, text.as_str()), (0, "cannot read: the file became shorter"));
        server.wait_count("failed", 1);
    });
}

#[test]
fn beyond_the_cap_it_says_so() {
    both(|engine| {
        let server = Server::with(engine, |config| config.max_transfers = 2);
        server.file("file", &pattern(2000));
        let clients = [server.ask("file", &[]), server.ask("file", &[])];
        let froms = clients.each_ref().map(|client| client.data().2);
        assert_eq!(server.ask("file", &[]).error(), (0, "too many transfers at once: try again".to_owned()));
        assert_eq!(server.count("too-many-transfers"), 1);
        // A place that becomes free is used again.
        clients[0].send(&Packet::Error { code: 0, text: "enough".to_owned() }, froms[0]);
        server.wait_count("failed", 2);
        assert_eq!(Client::new(server.addr()).read("file", &[]).len(), 2000);
    });
}

#[test]
fn an_address_cannot_take_every_place() {
    both(|engine| {
        let server = Server::new(engine);
        server.file("file", &pattern(2000));
        // What has ended takes no place.
        for _ in 0..200 {
            assert_eq!(server.ask("absent", &[]).error().0, 1);
        }
        let clients: Vec<_> = (0..128).map(|_| server.ask("file", &[])).collect();
        for client in &clients {
            assert_eq!(client.data().0, 1);
        }
        assert_eq!(
            server.ask("file", &[]).error(),
            (0, "too many transfers to your address: try again".to_owned())
        );
        let neighbour = Client { socket: UdpSocket::bind("127.0.0.2:0").unwrap(), server: server.addr() };
        neighbour.socket.set_read_timeout(Some(WITHIN)).unwrap();
        assert_eq!(neighbour.read("file", &[]).len(), 2000);
    });
}

#[test]
fn who_never_answers_gets_few_packets() {
    // Twelve seconds until it is given up: both engines at once.
    std::thread::scope(|scope| {
        for engine in [Engine::Uring, Engine::Plain] {
            scope.spawn(move || {
                let server = Server::new(engine);
                server.file("file", &pattern(100_000));
                let client = server.ask("file", &[("windowsize", "64")]);
                let packets: Vec<_> = (0..4).map(|_| client.oack()).collect();
                assert!(packets.iter().all(|packet| packet == &packets[0] && packet.0 == "windowsize=64"));
                server.wait_count("failed", 1);
                // The transfer's port is free at once, though a receive was waiting on it.
                assert!(
                    wait_for(WITHIN, || UdpSocket::bind(packets[0].1).is_ok()),
                    "the port is still taken"
                );
                assert!(client.is_silent(Duration::from_millis(100)));
            });
        }
    });
}

#[tokio::test]
async fn stopping_tells_the_clients_and_frees_the_port() {
    for engine in [Engine::Uring, Engine::Plain] {
        let mut server = Server::new(engine);
        server.file("file", &pattern(5000));
        let client = server.ask("file", &[]);
        assert_eq!(client.data().0, 1);
        let addr = server.addr();
        assert_eq!(server.count("failed"), 0);
        server.stop.cancel();
        tokio::time::timeout(WITHIN, server.handle.ended()).await.unwrap().unwrap();
        assert_eq!(client.error(), (0, "the server is stopping".to_owned()));
        assert_eq!(server.count("failed"), 1);
        server.handle.ended().await.unwrap();
        assert!(UdpSocket::bind(addr).is_ok(), "the port is free");
    }
}

#[test]
fn a_taken_port_is_named() {
    both(|engine| {
        let server = Server::new(engine);
        let addr = server.addr();
        let inventory = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let files = Files::new(server.dir.path(), inventory, Ipv4Addr::LOCALHOST, 8080);
        let clients = vec!["127.0.0.0/8".parse().unwrap()];
        let config = Config {
            bind: addr,
            clients,
            files,
            max_transfers: 1,
            max_window: 1,
            mtu: 1500,
            engine,
            rollover: Rollover::Zero,
            single_port: false,
            threads: 1,
            cache_bytes: 1 << 24,
            in_flight_bytes: 16 << 20,
            client_in_flight_bytes: 4 << 20,
        };
        let error = start(config, Timeline::default(), CancellationToken::new()).unwrap_err();
        assert!(matches!(error, Error::Bind { addr: named, .. } if named == addr), "{error}");
        assert_eq!(error.to_string(), format!("bind UDP {addr} for TFTP"));
    });
}
