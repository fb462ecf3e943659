//! What settings change, and what a client may ask for besides.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use netboot::tftp::transfer::Rollover;
use netboot::tftp::wire::{self, Packet};
use xtask::lab::wait_for;

use super::client::{Client, Server, request};
use super::{PATIENT, WITHIN, both, pattern, run};

#[test]
fn all_transfers_use_one_port_where_that_is_set() {
    both(|engine| {
        let server = Server::with(engine, |config| config.single_port = true);
        let content = pattern(200_000);
        server.file("file", &content);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (server, content) = (&server, &content);
                scope.spawn(move || {
                    let options: &[(&str, &str)] =
                        if number % 2 == 0 { &[PATIENT, ("windowsize", "8")] } else { &[PATIENT] };
                    let client = Client::new(server.addr());
                    // It takes nothing that comes from another port.
                    client.socket.connect(server.addr()).unwrap();
                    client.socket.send(&request("file", options)).unwrap();
                    assert!(client.read_on(options, |_| {}) == *content);
                });
            }
        });
        server.wait_count("done", 8);
        assert_eq!(server.count("stray"), 0);
    });
}

#[test]
fn blocks_roll_over_to_1_where_that_is_set() {
    both(|engine| {
        let server = Server::with(engine, |config| config.rollover = Rollover::One);
        let content = pattern(8 * 65_540 + 3);
        server.file("file", &content);
        let client = server.ask("file", &[PATIENT, ("blksize", "8"), ("windowsize", "64")]);
        let (_, from) = client.oack();
        client.send(&Packet::Ack(0), from);
        let mut got = Vec::new();
        for block in 1_u64..=65_541 {
            let (number, bytes, from) = client.data();
            assert_eq!(u64::from(number), (block - 1) % 65_535 + 1);
            got.extend(bytes);
            if block % 64 == 0 || block == 65_541 {
                client.send(&Packet::Ack(number), from);
            }
        }
        assert!(got == content);
        server.wait_count("done", 1);
    });
}

#[test]
fn who_was_silent_for_long_makes_room_for_another() {
    both(|engine| {
        let server = Server::with(engine, |config| config.max_transfers = 1);
        server.file("file", &pattern(300));
        let silent = server.ask("file", &[PATIENT]);
        silent.send(&Packet::Ack(0), silent.oack().1);
        silent.data();
        let begun = Instant::now();
        let got_data = || {
            let (packet, _) = server.ask("file", &[]).receive();
            matches!(wire::parse(&packet), Ok(Packet::Data { .. }))
        };
        assert!(!got_data(), "there is no place yet");
        assert!(wait_for(WITHIN, got_data));
        assert!(begun.elapsed() > Duration::from_secs(4), "it had its time");
        assert_eq!(silent.error().1, "the client was silent, and others need the place");
    });
}

#[test]
fn a_text_is_converted_for_who_asks_for_netascii() {
    both(|engine| {
        let server = Server::new(engine);
        let out = tempfile::tempdir().unwrap();
        let text = "first\nsecond\r\n\rthird é\n".repeat(100);
        server.file("text", text.as_bytes());
        server.file("long", &pattern((1 << 20) + 1));
        let (host, port) = (server.host(), server.port());
        let (done, said) =
            run("tftp", &["-m", "ascii", &host, &port, "-c", "get", "text", "got"], out.path());
        assert!(done, "{said}");
        assert_eq!(std::fs::read_to_string(out.path().join("got")).unwrap(), text);
        let client = Client::new(server.addr());
        let netascii = |name, options| {
            client.send(
                &Packet::Read(wire::Request { name, mode: wire::Mode::Netascii, options }),
                server.addr(),
            );
        };
        netascii("text", vec![("tsize", "0")]);
        assert_eq!(client.oack().0, format!("tsize={}", text.len() + 5 * 100), "as it is sent");
        let client = Client::new(server.addr());
        let request = wire::Request { name: "long", mode: wire::Mode::Netascii, options: vec![] };
        client.send(&Packet::Read(request), server.addr());
        assert_eq!(client.error(), (4, "too long for netascii: use octet (binary) mode".to_owned()));
    });
}

#[test]
fn who_never_answered_makes_room_at_once_and_hears_nothing_of_it() {
    both(|engine| {
        let server = Server::with(engine, |config| config.max_transfers = 2);
        server.file("file", &pattern(3000));
        let named = [server.ask("file", &[PATIENT]), server.ask("file", &[PATIENT])];
        for client in &named {
            client.oack();
        }
        let begun = Instant::now();
        let good = Client::new(server.addr());
        let got_data = || {
            good.request("file", &[]);
            matches!(wire::parse(&good.receive().0), Ok(Packet::Data { block: 1, .. }))
        };
        assert!(wait_for(WITHIN, got_data));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert!(named.iter().all(|client| client.is_silent(Duration::from_millis(50))));
    });
}

#[test]
fn a_block_fits_the_route_to_its_client() {
    let lab = xtask::lab::Namespace::new("tftp").unwrap();
    lab.ip("link set lo up").unwrap();
    // The client's address is another than the server's, and the way to it a tunnel's.
    lab.ip("addr add 127.2.0.1/32 dev lo").unwrap();
    lab.ip("route replace table local local 127.2.0.1 dev lo proto kernel scope host src 127.2.0.1 mtu 1300")
        .unwrap();
    lab.inside(|| {
        both(|engine| {
            let server = Server::new(engine);
            server.file("file", &pattern(5000));
            for (addr, blksize) in [("127.2.0.1", 1268), ("127.0.0.1", 1468)] {
                let socket = UdpSocket::bind((addr, 0)).unwrap();
                socket.set_read_timeout(Some(WITHIN)).unwrap();
                let client = Client { socket, ..Client::new(server.addr()) };
                client.request("file", &[("blksize", "8192")]);
                assert_eq!(client.oack().0, format!("blksize={blksize}"), "{addr}");
            }
        });
    })
    .unwrap();
}
