//! Clients that do what no client should, while others are served as ever.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use xtask::lab::wait_for;

use super::client::{Client, Said};
use super::{ENGINES, PATIENT, Site, address, engine, pattern};
use crate::daemon::SOON;

const FILE: usize = 1428 * 40 + 9;
/// The last block of such a file.
const LAST: u16 = 41;
/// How long nothing must come where nothing is to come.
const SILENCE: Duration = Duration::from_millis(300);
/// A server gives a client up after half a minute.
const GIVEN_UP: Duration = Duration::from_mins(1);
const WINDOW: [(&str, &str); 2] = [("blksize", "1428"), ("windowsize", "4")];

/// A client that has asked for the file and agreed on a window of 4, and where its transfer comes from. A place that is just
/// becoming free is waited for.
fn begin(site: &Site, last: u8, more: &[(&str, &str)]) -> (Client, SocketAddr) {
    let client = site.at(address(last));
    let deadline = Instant::now() + SOON;
    loop {
        client.ask("image", &[&WINDOW, more].concat());
        match client.hear(SOON).unwrap() {
            (Said::Oack(_), tid) => return (client, tid),
            (Said::Error(_, text), _) if text.contains("try again") && Instant::now() < deadline => {
                client.hear(Duration::from_millis(50));
            }
            (said, _) => panic!("{said:?}"),
        }
    }
}

/// Runs a test over both engines at once, with a file `image` and addresses from 101 to 104.
fn both(tftp: &str, test: impl Fn(&Site, &[u8]) + Sync) {
    std::thread::scope(|scope| {
        for name in ENGINES {
            let test = &test;
            scope.spawn(move || {
                let further = [101, 102, 103, 104].map(address);
                let site = Site::new(&[engine(name).as_str(), tftp].join(", "), &further);
                let content = pattern(FILE);
                site.file("image", &content);
                test(&site, &content);
                site.server.stop().unwrap();
            });
        }
    });
}

fn is_silent(client: &Client) {
    let heard = client.hear(SILENCE).map(|(said, _)| match said {
        Said::Data(block, bytes) => format!("block {block}, {} bytes", bytes.len()),
        other => format!("{other:?}"),
    });
    assert_eq!(heard, None);
}

/// Reads on in windows of 4 from after `block`, which is not acknowledged yet.
fn go_on(client: &Client, tid: SocketAddr, mut block: u16, content: &[u8]) {
    while block < LAST {
        client.ack(block, tid);
        let number = (LAST - block).min(4);
        let (bytes, from) = client.blocks(block + 1, number, SOON);
        assert_eq!(from, tid);
        let at = usize::from(block) * 1428;
        assert!(bytes == content[at..(at + usize::from(number) * 1428).min(FILE)], "after block {block}");
        block += number;
    }
    client.ack(LAST, tid);
}

#[test]
fn a_client_that_vanishes_is_given_up_and_its_place_is_free() {
    both("\"max_transfers\": 2", |site, content| {
        let (gone, tid) = begin(site, 101, &[]);
        gone.ack(0, tid);
        gone.blocks(1, 4, SOON);
        gone.ack(4, tid);
        gone.blocks(5, 4, SOON);
        // From here on it says nothing. The other place is for the others …
        for _ in 0..3 {
            site.serves(address(102), "image", content);
        }
        site.wait_ends(address(102), 3, SOON);
        // … one at a time.
        let (sitting, its) = begin(site, 103, &[]);
        let refused = site.at(address(104)).fetch("image", 4, &[], SOON).unwrap_err();
        assert!(refused.contains("too many transfers"), "{refused}");
        sitting.error(0, its);
        site.wait_ends(address(103), 1, SOON);

        let ends = site.wait_ends(address(101), 1, GIVEN_UP);
        assert_eq!(ends[0].name(), "tftp-failed");
        assert!(ends[0].text("why").contains("no ACK of block 5 "), "{:?}", ends[0]);
        let (sitting, its) = begin(site, 103, &[]);
        site.serves(address(104), "image", content);
        sitting.error(0, its);
        // It was sent its window again some times, and told of the end.
        let heard: Vec<_> = std::iter::from_fn(|| gone.hear(SILENCE)).take(1000).collect();
        let (end, again) = heard.split_last().unwrap();
        assert!(matches!(end.0, Said::Error(0, _)), "{end:?}");
        assert!(again.iter().all(|(said, _)| matches!(said, Said::Data(5..=8, _))));
        println!("{} blocks sent again: {}", again.len(), ends[0].message());
        assert!(again.len() <= 4 * 16, "{} blocks", again.len());
    });
}

#[test]
fn an_ack_of_the_future_or_the_past_is_not_answered() {
    both("\"max_transfers\": 2", |site, content| {
        let (client, tid) = begin(site, 101, &[PATIENT]);
        for wrong in [1, 4, LAST, u16::MAX] {
            client.ack(wrong, tid);
        }
        is_silent(&client);
        client.ack(0, tid);
        client.blocks(1, 4, SOON);
        for wrong in [5, 6, 8, LAST, LAST + 1, 1000, 0x7fff, 0x8000, 0x8004, u16::MAX, 0] {
            client.ack(wrong, tid);
        }
        is_silent(&client);
        site.serves(address(102), "image", content);
        client.ack(4, tid);
        client.blocks(5, 4, SOON);
        for wrong in [4, 3, 0, u16::MAX, 9, LAST] {
            client.ack(wrong, tid);
        }
        is_silent(&client);
        // In the middle of the window: it goes on from there, and what was before is past from now on.
        client.ack(6, tid);
        client.blocks(7, 4, SOON);
        for wrong in [5, 6] {
            client.ack(wrong, tid);
        }
        is_silent(&client);
        site.serves(address(102), "image", content);
        go_on(&client, tid, 10, content);
        assert_eq!(site.wait_ends(address(101), 1, SOON)[0].name(), "tftp-done");
        is_silent(&client);
    });
}

#[test]
fn a_client_that_changes_its_port_gets_error_5_there_and_goes_on_from_the_old_one() {
    both("\"max_transfers\": 2", |site, content| {
        let (client, tid) = begin(site, 101, &[PATIENT]);
        client.ack(0, tid);
        client.blocks(1, 4, SOON);
        let moved = site.at(address(101));
        for block in [4, 4, 0, 9] {
            moved.ack(block, tid);
            let (said, from) = moved.hear(SOON).unwrap();
            assert!(matches!(said, Said::Error(5, _)), "{said:?}");
            assert_eq!(from, tid);
        }
        // An ERROR is not answered, and ends nothing.
        moved.error(0, tid);
        is_silent(&moved);
        is_silent(&client);
        site.serves(address(102), "image", content);
        go_on(&client, tid, 4, content);
        assert_eq!(site.wait_ends(address(101), 1, SOON)[0].name(), "tftp-done");
        is_silent(&moved);
    });
}

/// Clients that take a window and do not say so keep no more on its way than there is room for; the others wait for their
/// turn, and get it in the order in which they came.
#[test]
fn no_more_is_on_its_way_than_there_is_room_for() {
    const WINDOW: u16 = 64;
    // Windows of 64 blocks in a megabyte.
    const ROOM: usize = 11;
    both(r#""in_flight_bytes": 1048576, "threads": 1"#, |site, _| {
        let content = pattern(1428 * 130);
        site.file("image", &content);
        let options = [("blksize", "1428"), ("windowsize", "64"), PATIENT];
        let clients: Vec<_> = (0..ROOM + 4)
            .map(|number| {
                let client = site.at(address(101 + u8::try_from(number % 4).unwrap()));
                client.ask("image", &options);
                let (said, tid) = client.hear(SOON).unwrap();
                assert!(matches!(said, Said::Oack(_)), "{said:?}");
                client.ack(0, tid);
                if number < ROOM {
                    client.blocks(1, WINDOW, SOON);
                }
                (client, tid)
            })
            .collect();
        for (client, _) in &clients {
            is_silent(client);
        }
        // Who has arrived makes room for the first of those that wait, and comes behind the last of them.
        let (there, waiting) = clients.split_at(ROOM);
        for (number, (client, tid)) in there.iter().take(5).enumerate() {
            client.ack(WINDOW, *tid);
            match waiting.get(number) {
                Some((next, _)) => {
                    next.blocks(1, WINDOW, SOON);
                    is_silent(client);
                }
                None => {
                    assert_eq!(there[0].0.blocks(WINDOW + 1, WINDOW, SOON).0, content[1428 * 64..1428 * 128]);
                }
            }
        }
        // Who gives up makes room as well.
        let (client, tid) = &there[ROOM - 1];
        client.error(0, *tid);
        there[1].0.blocks(WINDOW + 1, WINDOW, SOON);
    });
}

/// What was sent to whom, and what became of it, is one line whatever it was.
#[test]
fn each_transfer_leaves_one_line_that_says_all_about_it() {
    let site = Site::new(&engine(ENGINES[0]), &[address(101)]);
    let content = pattern(FILE);
    site.file("image", &content);
    let hosts = r#"{ "hosts": { "192.168.90.101": { "macaddr": "52:54:00:00:00:01", "$hostname": "b1", "channel": "stable" } } }"#;
    std::fs::write(site.data.path().join("pxe_hosts.json"), hosts).unwrap();
    assert!(wait_for(SOON, || site.server.child().output().contains("new snapshot")));
    site.serves(address(101), "image", &content);
    // Two windows of a third transfer, then it gives up.
    let (client, tid) = begin(&site, 101, &[]);
    client.ack(0, tid);
    client.blocks(1, 4, SOON);
    client.ack(4, tid);
    client.blocks(5, 4, SOON);
    client.error(3, tid);
    let ends = site.wait_ends(address(101), 2, SOON);
    assert_eq!((ends[0].name(), ends[0].text("mac")), ("tftp-done", "52:54:00:00:00:01"));
    let numbers = |step: &xtask::lab::Step, names: &[&str]| {
        names.iter().map(|name| step.number(name)).collect::<Vec<_>>()
    };
    let all = numbers(&ends[0], &["bytes", "blksize", "windowsize", "resent"]);
    assert_eq!(all, [u64::try_from(FILE).unwrap(), 1428, 4, 0]);
    assert_eq!((ends[1].name(), ends[1].text("mac")), ("tftp-failed", "52:54:00:00:00:01"));
    assert_eq!(numbers(&ends[1], &["bytes", "resent"]), [1428 * 4, 0]);
    assert!(ends[1].text("why").contains("error 3"), "{:?}", ends[1]);
    site.server.stop().unwrap();
}

/// The windows of one address get smaller together.
#[test]
fn one_address_has_no_more_on_its_way_than_there_is_room_for() {
    both(r#""client_in_flight_bytes": 65536"#, |site, _| {
        let grant = |last: u8, wanted: &str| {
            let client = site.at(address(last));
            client.ask("image", &[("windowsize", wanted), ("blksize", "1428")]);
            let (said, tid) = client.hear(SOON).unwrap();
            let Said::Oack(options) = said else { panic!("{said:?}") };
            (options, client, tid)
        };
        let first = grant(101, "64");
        assert_eq!(first.0, "windowsize=45 blksize=1428");
        let second = grant(101, "64");
        assert_eq!(second.0, "windowsize=1 blksize=1428", "one block always");
        assert_eq!(grant(102, "20").0, "windowsize=20 blksize=1428", "another address");
        assert_eq!(grant(102, "64").0, "windowsize=25 blksize=1428", "what is left");
        first.1.error(0, first.2);
        let mut granted = String::new();
        let grown = wait_for(SOON, || {
            let (options, client, tid) = grant(101, "64");
            granted = options;
            let grown = granted == "windowsize=44 blksize=1428";
            if !grown {
                client.error(0, tid);
                is_silent(&client);
            }
            grown
        });
        assert!(grown, "{granted}");
    });
}
