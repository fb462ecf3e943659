//! Through a bad cable every transfer ends with the right bytes.
//!
//! The seed is fixed, so that a run is like the one before it; `NETBOOT_FAULTS_SEED=7 cargo test -p netboot --test it -- lossy`
//! tries another. Frames can still meet differently from run to run: clients, server and cable have their own clocks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use xtask::lab::wait_for;

use super::cable::Faults;
use super::client::{BLKSIZE, low16};
use super::{ENGINES, PATIENT, Site, address, engine, pattern};

/// Window, and the address of the client that asks for it.
const CLIENTS: [(u16, u8); 4] = [(1, 101), (4, 104), (16, 116), (64, 164)];
/// Longer than any of these transfers should take on a busy machine.
const WITHIN: Duration = Duration::from_mins(2);

fn seed() -> u64 {
    std::env::var("NETBOOT_FAULTS_SEED")
        .map_or(1, |seed| seed.parse().expect("NETBOOT_FAULTS_SEED: a number"))
}

/// Fetches a file of so many blocks for each window, all four at once.
fn fetch(with: &str, faults: Faults, blocks: [usize; 4]) {
    fetch_with(with, faults, blocks, &[]);
}

/// The same with further options; returns how many frames came from the server.
fn fetch_with(with: &str, faults: Faults, blocks: [usize; 4], more: &[(&str, &str)]) -> u64 {
    let seed = seed();
    println!("NETBOOT_FAULTS_SEED={seed} {faults:?} engine {with}");
    let addresses = CLIENTS.map(|(_, last)| address(last));
    let site = Site::through(&engine(with), &addresses, faults, seed);
    let clients = addresses.map(|addr| (site.at(addr), AtomicBool::new(false)));
    // The last block of the first two is full, that of the others short.
    let contents: [_; 4] =
        std::array::from_fn(|number| pattern(blocks[number] * BLKSIZE + if number < 2 { 0 } else { 7 }));
    for ((window, _), content) in CLIENTS.iter().zip(&contents) {
        site.file(&format!("file-{window}"), content);
    }
    std::thread::scope(|scope| {
        for (((window, _), (client, ended)), content) in CLIENTS.iter().zip(&clients).zip(&contents) {
            scope.spawn(move || {
                let got = client.fetch(&format!("file-{window}"), *window, more, WITHIN);
                let got = got.unwrap_or_else(|why| panic!("seed {seed}, window {window}: {why}"));
                assert!(
                    got == *content,
                    "seed {seed}, window {window}: {} of {} bytes",
                    got.len(),
                    content.len()
                );
                let last = low16(u64::try_from(got.len() / BLKSIZE + 1).unwrap());
                client.dally(last, || ended.load(Ordering::Acquire));
            });
        }
        let mut left = vec![0, 1, 2, 3];
        wait_for(WITHIN, || {
            left.retain(|number| {
                let ends = site.ends(addresses[*number]);
                let Some(end) = ends.first() else { return true };
                let window = CLIENTS[*number].0;
                println!("window {window}: {}, {} sent again", end.message(), end.number("resent"));
                clients[*number].1.store(true, Ordering::Release);
                false
            });
            left.is_empty()
        });
        // Nobody waits for what does not come.
        for (_, ended) in &clients {
            ended.store(true, Ordering::Release);
        }
    });
    for ((window, _), addr) in CLIENTS.iter().zip(addresses) {
        let ends = site.ends(addr);
        let done = !ends.is_empty() && ends.iter().all(|end| end.name() == "tftp-done");
        assert!(done, "seed {seed}, window {window}: {ends:?}");
    }
    let counts = &site.cable.as_ref().unwrap().counts;
    for (counts, way) in counts.iter().zip(["to the server", "from it"]) {
        let [frames, harmed, too_long] =
            [&counts.frames, &counts.harmed, &counts.too_long].map(|count| count.load(Ordering::Relaxed));
        println!("{way}: {frames} frames, {harmed} harmed");
        assert_eq!(too_long, 0, "frames longer than a wire takes {way}");
        let expected = [faults.lost, faults.doubled, faults.overtaken, faults.late].iter().any(|of| *of > 0);
        assert_eq!(harmed > 0, expected, "{harmed} of {frames} {way}");
    }
    counts[1].frames.load(Ordering::Relaxed)
}

/// That the server sends each block and each OACK once, to clients that ask it to wait for long.
fn fetch_once(with: &str, faults: Faults, blocks: [usize; 4]) {
    let frames = fetch_with(with, faults, blocks, &[PATIENT]);
    let needed = blocks.iter().map(|blocks| blocks + 2).sum::<usize>();
    assert_eq!(frames, u64::try_from(needed).unwrap(), "frames from the server");
}

#[test]
fn without_faults_nothing_is_sent_again() {
    for with in ENGINES {
        fetch_once(with, Faults::default(), [300, 700, 1400, 2800]);
    }
}

#[test]
fn a_cable_that_loses_one_in_a_hundred() {
    fetch(ENGINES[0], Faults { lost: 10, ..Faults::default() }, [300, 700, 1400, 2800]);
}

#[test]
fn a_cable_that_loses_one_in_twenty() {
    fetch(ENGINES[0], Faults { lost: 50, ..Faults::default() }, [200, 500, 700, 1400]);
}

#[test]
fn a_cable_that_loses_one_in_five() {
    fetch(ENGINES[0], Faults { lost: 200, ..Faults::default() }, [70, 150, 210, 210]);
}

#[test]
fn a_cable_that_doubles() {
    fetch(ENGINES[0], Faults { doubled: 200, ..Faults::default() }, [300, 700, 1400, 2800]);
}

/// An ACK that comes twice is no reason to send twice (RFC 1123 section 4.2.3.1), whatever the window.
#[test]
fn where_everything_comes_twice_nothing_is_sent_again() {
    for with in ENGINES {
        let faults = Faults { doubled: 1000, ..Faults::default() };
        fetch_once(with, faults, [100, 200, 700, 1400]);
    }
}

#[test]
fn a_cable_that_reorders() {
    fetch(ENGINES[0], Faults { overtaken: 50, ..Faults::default() }, [300, 700, 1400, 2800]);
}

#[test]
fn a_cable_that_is_late_at_times() {
    fetch(ENGINES[0], Faults { late: 50, ..Faults::default() }, [300, 700, 1400, 1400]);
}

#[test]
fn a_long_cable() {
    fetch(ENGINES[0], Faults { late: 1000, ..Faults::default() }, [70, 200, 700, 2800]);
}

#[test]
fn a_cable_with_every_fault() {
    for with in ENGINES {
        let faults = Faults { lost: 50, doubled: 50, overtaken: 50, late: 20 };
        fetch(with, faults, [150, 300, 500, 700]);
    }
}
