//! Requests in the name of others, who never answer: they get little, and the server keeps its memory and its clients.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use netboot::mac::Mac;
use netboot::net::frames::{Datagram, frame};
use socket2::Socket;
use xtask::lab::SERVER_ADDR;

use super::client::{Said, read, request};
use super::{ENGINES, Site, address, engine, pattern};
use crate::daemon::SOON;
use crate::wire::{listen, mac_of, uninterrupted};

/// Retransmissions to a client that was never heard: `FIRST_RETRIES` of the server.
const RETRIES: usize = 3;
/// Requests of a flood, and how long it takes at least.
const FLOOD: u32 = 100_000;
const FLOOD_TIME: Duration = Duration::from_secs(5);
/// Transfers that nobody has answered, at once.
const UNHEARD: u64 = 1024;
/// Sent at once in a flood.
const BURST: u32 = 100;
/// Who is named in a flood.
const NAMED: std::ops::Range<u8> = 120..250;
/// The client that asks for itself in a flood.
const GOOD: Ipv4Addr = address(101);
/// The headers of a frame: Ethernet, IPv4, UDP.
const ENVELOPE: usize = 14 + 20 + 8;

/// Sends as anybody, and hears what the server sends to those.
struct Spoofer {
    socket: Socket,
    mac: Mac,
    server_mac: Mac,
}

impl Spoofer {
    /// On the client's wire. The server knows where these addresses are; nobody has them.
    fn new(site: &Site, named: impl Iterator<Item = u8>) -> Self {
        let (mac, server_mac) = (mac_of(&site.client, "eth0"), mac_of(&site.lab.server, "pxe0"));
        let lines: Vec<_> = named
            .map(|last| format!("neigh replace {} lladdr {mac} dev pxe0 nud permanent\n", address(last)))
            .collect();
        let directory = tempfile::tempdir().unwrap();
        let batch = directory.path().join("batch");
        std::fs::write(&batch, lines.concat()).unwrap();
        site.lab.server.ip(&format!("-batch {}", batch.display())).unwrap();
        Self { socket: listen(&site.client, "eth0"), mac, server_mac }
    }

    fn send(&self, from: SocketAddrV4, payload: &[u8]) -> usize {
        let to = SocketAddrV4::new(SERVER_ADDR, 69);
        let datagram = Datagram { from_mac: self.mac, to_mac: self.server_mac, from, to, payload };
        let frame = frame(&datagram).unwrap();
        // What the kernel does not take is lost.
        let _ = self.socket.send(&frame);
        frame.len()
    }

    /// The next packet from the server: for whom, its bytes with all headers, and what it says, as long as it is one frame.
    fn hear(&self, within: Duration) -> Option<(Ipv4Addr, usize, Option<Said>)> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 2048];
        let length = uninterrupted(|| (&self.socket).read(&mut buffer)).ok()?;
        let to = Ipv4Addr::new(buffer[30], buffer[31], buffer[32], buffer[33]);
        assert_eq!((buffer[23], &buffer[26..30]), (17, &SERVER_ADDR.octets()[..]));
        // Ethernet may have padded the frame.
        let payload = usize::from(u16::from_be_bytes([buffer[38], buffer[39]])) - 8;
        Some((to, length, buffer.get(ENVELOPE..ENVELOPE + payload).map(read)))
    }
}

/// The memory that a process has now, KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Who is named, what is asked for, and what may be said to that.
type Case<'a> = (u8, &'a [(&'a str, &'a str)], Said);

/// Nobody can make the server send more to another than one packet and its few repetitions: not a window, however large a
/// window was asked for, and however often.
#[test]
fn one_request_in_the_name_of_another_is_worth_four_packets() {
    std::thread::scope(|scope| {
        for name in ENGINES {
            scope.spawn(move || {
                let site = Site::new(&engine(name), &[]);
                site.file("image", &pattern(1_000_000));
                let spoofer = Spoofer::new(&site, [200, 201, 202].into_iter());
                let window = [("blksize", "1428"), ("windowsize", "65535")];
                let cases: [Case; 3] = [
                    (200, &window, Said::Oack("blksize=1428 windowsize=64".to_owned())),
                    (201, &[], Said::Data(1, pattern(512))),
                    (
                        202,
                        &[("tsize", "0"), ("blksize", "1428")],
                        Said::Oack("tsize=1000000 blksize=1428".into()),
                    ),
                ];
                let asked = cases.each_ref().map(|(last, options, _)| {
                    let from = SocketAddrV4::new(address(*last), 2000);
                    (0..20).map(|_| spoofer.send(from, &request("image", options))).sum::<usize>()
                });
                for (last, ..) in &cases {
                    let ends = site.wait_ends(address(*last), 1, SOON);
                    assert_eq!(ends[0].name(), "tftp-failed");
                }
                let heard: Vec<_> =
                    std::iter::from_fn(|| spoofer.hear(Duration::from_secs(1))).take(100_000).collect();
                for ((last, _, expected), asked) in cases.iter().zip(asked) {
                    let of: Vec<_> = heard.iter().filter(|(to, ..)| *to == address(*last)).collect();
                    let bytes: usize = of.iter().map(|(_, length, _)| length).sum();
                    println!(
                        "{name}: {last} was sent {} packets, {bytes} bytes, for {} in 20",
                        of.len(),
                        asked
                    );
                    assert!(of.len() <= 1 + RETRIES, "{} packets", of.len());
                    assert!(of.iter().all(|(_, _, said)| said.as_ref() == Some(expected)), "{of:?}");
                }
                assert_eq!(site.ends(address(200)).len(), 1, "a request that comes again is one transfer");
                site.server.stop().unwrap();
            });
        }
    });
}

/// However many ports of one address are named, it gets the few packets of as many transfers as one address may have, and
/// for each request beyond them one ERROR. Others are served meanwhile.
#[test]
fn many_requests_in_the_name_of_one_address_are_worth_its_places() {
    const REQUESTS: u16 = 5000;
    const PLACES: usize = 128;
    std::thread::scope(|scope| {
        for name in ENGINES {
            scope.spawn(move || {
                let site = Site::new(&engine(name), &[GOOD]);
                let content = pattern(1428 * 100 + 5);
                site.file("image", &content);
                let spoofer = Spoofer::new(&site, 200..201);
                let packet = request("image", &[("blksize", "1428"), ("windowsize", "65535")]);
                let asked: usize = (0..REQUESTS)
                    .map(|number| spoofer.send(SocketAddrV4::new(address(200), 2000 + number), &packet))
                    .sum();
                for _ in 0..10 {
                    site.serves(GOOD, "image", &content);
                }
                site.wait_ends(address(200), REQUESTS.into(), SOON);
                let heard: Vec<_> = std::iter::from_fn(|| spoofer.hear(Duration::from_secs(1)))
                    .take(100_000)
                    .filter(|(to, ..)| *to == address(200))
                    .collect();
                let refused = heard.iter().filter(|(.., said)| matches!(said, Some(Said::Error(..)))).count();
                let bytes: usize = heard.iter().map(|(_, length, _)| length).sum();
                let packets = heard.len();
                println!("{name}: {packets} packets, {refused} of them ERRORs, {bytes} bytes, for {asked}");
                assert!(packets - refused <= PLACES * (1 + RETRIES), "{packets} packets, {refused} ERRORs");
                // 256 a second, while the requests came.
                assert!((256..=1024).contains(&refused), "{refused} ERRORs");
                assert!(bytes <= asked / 2, "{bytes} bytes for {asked}");
                site.server.stop().unwrap();
            });
        }
    });
}

/// What a flood did.
struct Flooded {
    asked: usize,
    answered: usize,
    took: Duration,
    /// Transfers of the good client meanwhile, and how often it was refused.
    good: u32,
    refused: u32,
    /// What the server grew by at most, KiB.
    grown: u64,
}

/// 100,000 requests with these options, each from a port of its own, and a good client that goes on asking until it is served.
fn flood(name: &str, options: &[(&str, &str)]) -> Flooded {
    let site = Site::new(&engine(name), &[GOOD]);
    let content = pattern(1428 * 100 + 5);
    site.file("image", &content);
    let spoofer = Spoofer::new(&site, NAMED);
    site.serves(GOOD, "image", &content);
    let (pid, packet) = (site.server.child().pid(), request("image", options));
    let before = resident(pid);

    let flooded = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let (begun, mut asked, mut answered, mut most) = (Instant::now(), 0, 0, before);
            for number in 0..FLOOD {
                let named = NAMED.start + u8::try_from(number % u32::try_from(NAMED.len()).unwrap()).unwrap();
                let port = u16::try_from(1024 + number / 2).unwrap();
                asked += spoofer.send(SocketAddrV4::new(address(named), port), &packet);
                if number % BURST == BURST - 1 {
                    most = most.max(resident(pid));
                    let next = begun + FLOOD_TIME * (number + 1) / FLOOD;
                    while let Some(left) = next.checked_duration_since(Instant::now()) {
                        // Packets for the good client pass here as well.
                        let heard = spoofer.hear(left).filter(|(to, ..)| *to != GOOD);
                        answered += heard.map_or(0, |(_, length, _)| length);
                    }
                }
            }
            (asked, answered, begun.elapsed(), most)
        });
        // `inside` wakes this thread up: a pause is a socket on which nothing comes.
        let (mut good, mut refused, pause) = (0, 0, site.at(GOOD));
        while !flooding.is_finished() {
            match site.at(GOOD).fetch("image", 16, &[], SOON) {
                // What ends after the flood says nothing.
                Ok(got) if !flooding.is_finished() => {
                    assert!(got == content);
                    good += 1;
                }
                Ok(_) => {}
                Err(why) => {
                    assert!(why.contains("try again"), "{why}");
                    refused += 1;
                    // As a ROM does, though sooner.
                    pause.hear(Duration::from_millis(50));
                }
            }
        }
        let (asked, answered, took, most) = flooding.join().unwrap();
        Flooded { asked, answered, took, good, refused, grown: most.saturating_sub(before) }
    });
    let Flooded { asked, answered, took, good, refused, grown } = &flooded;
    println!(
        "{name} {options:?}: {FLOOD} requests, {asked} bytes, in {took:?}; {answered} bytes in answer; the good client was \
         served {good} times and refused {refused} times; the server grew from {before} by {grown} KiB"
    );

    // Afterwards all is as before, at once or when the last of the named is given up.
    let calm = Instant::now();
    let mut last = Ok(Vec::new());
    let served = xtask::lab::wait_for(SOON, || {
        last = site.at(GOOD).fetch("image", 16, &[], SOON);
        last.as_ref().is_ok_and(|got| *got == content)
    });
    assert!(served, "{last:?}");
    println!("served again {:?} after the flood; then {} KiB", calm.elapsed(), resident(pid));
    site.server.stop().unwrap();
    flooded
}

/// Runs both engines' floods at once, and looks at what they did.
fn floods(options: &[(&str, &str)], look: impl Fn(&Flooded) + Sync) {
    std::thread::scope(|scope| {
        for name in ENGINES {
            let look = &look;
            scope.spawn(move || look(&flood(name, options)));
        }
    });
}

/// What a flood must not do, whatever is asked for.
fn is_harmless(flooded: &Flooded) {
    // A socket, a buffer for ACKs and a state for each, some of which make room for others. Measured: 3 to 4 MiB.
    assert!(flooded.grown < UNHEARD * 16, "grown by {} KiB", flooded.grown);
    // Measured: 1,900 to 3,400 times in five seconds.
    assert!(
        flooded.good >= 50 && flooded.refused == 0,
        "served {} times, refused {}",
        flooded.good,
        flooded.refused
    );
}

/// At most 1,024 wait for an answer, and who asks for itself finds a place at once.
#[test]
fn in_a_flood_of_requests_with_options_a_good_client_is_served() {
    floods(&[("blksize", "1428"), ("windowsize", "64")], |flooded| {
        is_harmless(flooded);
        // Four OACKs of 71 bytes for a request of 83, if it is taken at all.
        assert!(flooded.answered < flooded.asked / 8, "{} bytes for {}", flooded.answered, flooded.asked);
    });
}

/// Without options the first block is sent at once.
#[test]
fn in_a_flood_of_requests_without_options_a_good_client_is_served() {
    floods(&[], |flooded| {
        is_harmless(flooded);
        // Four first blocks of 558 bytes for a request of 56, if it is taken at all.
        assert!(flooded.answered < flooded.asked, "{} bytes for {}", flooded.answered, flooded.asked);
    });
}
