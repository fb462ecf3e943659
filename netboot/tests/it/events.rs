//! What the daemon makes of the events of XDP: who was seen last, lines of the log, other servers, limits. The whole program in
//! a lab.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use netboot::mac::Mac;
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::lab::{Lab, Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, client, data, lab, status, udhcpc, value};
use crate::overload::resident;
use crate::proxy::Foreign;
use crate::relay::{Relay, packet};
use crate::wire::{Ask, DISCOVER, OFFER, Wire};

/// The machine of [`BLADE`].
const RESERVED: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x77]);
const HOME: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 77);
/// Two machines, so that one can be limited and the other not.
const TWO: &str = r#"{ "hosts": {
    "192.168.90.77": { "macaddr": "52:54:00:00:00:77", "$hostname": "blade77", "channel": "beta" },
    "192.168.90.78": { "macaddr": "52:54:00:00:00:78", "$hostname": "blade78", "channel": "beta" } } }"#;

/// DISCOVERs of one machine, as fast as they can be sent.
const STORM: u32 = 200_000;
/// What the daemon may grow by meanwhile, KiB.
const GROWTH: u64 = 8 << 10;

fn start(lab: &Lab, data: &TempDir, settings: &Value, xdp: &str) -> Server {
    fs::write(data.path().join("netboot.json"), settings.to_string()).unwrap();
    Server::start(lab, Path::new(NETBOOT), data.path(), &["--xdp", xdp]).unwrap()
}

/// What `netboot hosts` prints.
fn hosts(lab: &Lab, data: &TempDir, arguments: &[&str]) -> String {
    let mut command = lab.server.command(NETBOOT);
    let output = command.arg("hosts").args(arguments).arg("--data").arg(data.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A counter of the status, 0 if it is not there.
fn counter(lab: &Lab, component: &str, name: &str) -> u64 {
    status(lab)["counters"][component][name].as_u64().unwrap_or(0)
}

#[test]
fn who_was_seen_last_is_shown_whoever_answered() {
    for xdp in ["generic", "off"] {
        let (lab, data) = (lab(), data(BLADE));
        let server = start(&lab, &data, &json!({}), xdp);
        let by = if xdp == "off" { "daemon" } else { "xdp" };
        let list = || -> Value { serde_json::from_str(&hosts(&lab, &data, &["--json"])).unwrap() };
        assert_eq!(list()["hosts"][0]["seen"], Value::Null, "not yet");
        assert!(hosts(&lab, &data, &[]).contains("blade77  beta     -"), "{}", hosts(&lab, &data, &[]));
        assert_eq!(value(&udhcpc(&client(&lab, "52:54:00:00:00:77"), 5, &[]), "ip"), "192.168.90.77");
        let acknowledged = wait_for(SOON, || list()["hosts"][0]["seen"]["reply"] == "ack");
        let seen = list()["hosts"][0]["seen"].clone();
        assert!(acknowledged && seen["at"].as_u64() > Some(1_700_000_000), "{seen}");
        for (field, expected) in [("addr", "192.168.90.77"), ("class", "plain"), ("by", by)] {
            assert_eq!(seen[field], expected, "{seen}");
        }
        assert_eq!(seen["relay"], Value::Null);
        let table = hosts(&lab, &data, &[]);
        assert!(table.contains(&format!("s ago, ack, plain, by {by}")), "{table}");

        // One without a reservation, and one behind a relay agent.
        udhcpc(&client(&lab, "52:54:00:00:0a:01"), 5, &[]);
        let relay = Relay::new(&lab, [192, 168, 90, 5].into());
        relay.send(&packet(0x77, [192, 168, 90, 5], DISCOVER, &[]));
        let both = || {
            let list = list();
            list["waiting"][0]["seen"]["by"] == "daemon"
                && list["hosts"][0]["seen"]["relay"] == "192.168.90.5"
        };
        assert!(wait_for(SOON, both), "{}\n{}", list(), server.child().output());
        let table = hosts(&lab, &data, &[]);
        assert!(table.contains(&format!("offer, plain, by {by}, via 192.168.90.5")), "{table}");
        server.stop().unwrap();
    }
}

#[test]
fn a_machine_that_xdp_answers_and_that_lacks_a_file_is_told_of_once() {
    let (lab, data) = (lab(), data(BLADE));
    let server = start(&lab, &data, &json!({}), "generic");
    let machine = client(&lab, "52:54:00:00:00:77");
    for _ in 0..2 {
        let told = udhcpc(&machine, 5, &["-V", "PXEClient:Arch:00007", "-x", "0x5d:0007"]);
        assert_eq!(value(&told, "ip"), "192.168.90.77");
    }
    assert!(wait_for(SOON, || counter(&lab, "dhcp", "ack") >= 2));
    let log = server.stop().unwrap();
    let step = |line: &&str| line.contains("\"by\":\"xdp\"") && line.contains("\"class\":\"efi64\"");
    assert!(log.lines().filter(step).count() >= 4, "{log}");
    let warnings: Vec<&str> =
        log.lines().filter(|line| line.contains("no boot file for this machine")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(
        warnings[0].contains("52:54:00:00:00:77") && warnings[0].contains("put one of shimx64.efi"),
        "{log}"
    );
}

#[test]
fn what_xdp_passes_is_told_with_its_reason() {
    let (lab, data) = (lab(), data(BLADE));
    let server = start(&lab, &data, &json!({}), "generic");
    let wire = Wire::open(&lab, &lab.client("blade").unwrap());
    let other = Ask::new(RESERVED, 7, crate::wire::REQUEST).requested([192, 168, 90, 99].into());
    wire.send(&other);
    let passed = || {
        let steps = server.steps();
        let passed = |step: &&xtask::lab::Step| step.name() == "xdp-passed";
        steps.iter().filter(passed).any(|step| {
            step.message() == "XDP passed 52:54:00:00:00:77 to the daemon: wrong-address"
                && step.text("reason") == "wrong-address"
        })
    };
    assert!(wait_for(SOON, passed), "{}", server.child().output());
    server.stop().unwrap();
}

#[test]
fn another_server_on_the_network_is_named_in_log_and_status() {
    let (lab, data) = (lab(), data(BLADE));
    let foreign = Foreign::start(&lab, &[]);
    let server = start(&lab, &data, &json!({}), "generic");
    assert_eq!(status(&lab)["foreign_servers"], json!([]));
    let wire = Wire::open(&lab, &lab.client("newcomer").unwrap());
    let newcomer = Mac([0x52, 0x54, 0, 0, 0x0a, 1]);
    let heard = wait_for(SOON, || {
        // Each is a new question, with a broadcast for an answer.
        wire.send(&Ask::new(newcomer, 9, DISCOVER));
        wire.hear(Duration::from_millis(200));
        status(&lab)["foreign_servers"][0]["addr"] == "192.168.90.3"
    });
    let found = status(&lab);
    assert!(heard, "{found}\n{}\n{}", server.child().output(), foreign.log());
    let them = &found["foreign_servers"][0];
    let mac: Mac = them["mac"].as_str().unwrap().parse().unwrap();
    assert!(them["last_seen"].as_u64() > Some(1_700_000_000), "{them}");
    assert_eq!(found["foreign_servers"].as_array().unwrap().len(), 1, "{found}");
    assert!(wait_for(SOON, || counter(&lab, "xdp", "foreign-server") > 0));
    // The running netboot knows, so nobody has to be asked.
    let doctor = lab
        .server
        .command(NETBOOT)
        .args(["doctor", "--interface", "pxe0", "--quiet-wire", "--data"])
        .arg(data.path())
        .output();
    let doctor = String::from_utf8(doctor.unwrap().stdout).unwrap();
    assert!(doctor.contains("WRONG    other-dhcp") && doctor.contains("192.168.90.3"), "{doctor}");
    let log = server.stop().unwrap();
    let line = format!("another DHCP server answers on this network: 192.168.90.3 at {mac}");
    assert_eq!(log.matches(&line).count(), 1, "{log}");
}

#[test]
fn a_machine_that_asks_too_often_is_limited_and_others_are_not() {
    let (lab, data) = (lab(), data(TWO));
    let limits = json!({ "dhcp": { "limits": { "per_machine": 5, "burst_secs": 1 } } });
    let server = start(&lab, &data, &limits, "generic");
    let wire = Wire::open(&lab, &lab.client("blades").unwrap());
    let flood = 500;
    let begun = Instant::now();
    for xid in 0..flood {
        wire.send(&Ask::new(RESERVED, xid, DISCOVER));
    }
    let most = 5 + 5 * (begun.elapsed().as_secs() + 1);
    // The other machine is none the worse.
    let other = Mac([0x52, 0x54, 0, 0, 0, 0x78]);
    assert_eq!(wire.obtain(other, 10_000, SOON), Some([192, 168, 90, 78].into()));
    let counted = || (counter(&lab, "xdp", "mac-rate"), counter(&lab, "xdp", "offer"));
    assert!(wait_for(SOON, || counted().0 + counted().1 > u64::from(flood)), "{}", status(&lab));
    let (dropped, offers) = counted();
    assert_eq!(dropped + offers, u64::from(flood) + 1, "{}", status(&lab));
    assert!(offers <= most + 1, "{offers} offers, {most} and one may be");
    // A while later it boots like any other.
    assert_eq!(wire.obtain(RESERVED, 20_000, SOON), Some(HOME));
    let log = server.stop().unwrap();
    let line = "XDP drops requests (mac-rate): 52:54:00:00:00:77 asks more often in a second than dhcp.limits.per_machine lets it";
    assert!(log.contains(line), "{log}");
}

#[test]
fn a_packet_that_comes_twice_is_answered_once() {
    let (lab, data) = (lab(), data(BLADE));
    let limits = json!({ "dhcp": { "limits": { "duplicate_ms": 5000 } } });
    let server = start(&lab, &data, &limits, "generic");
    // Two ways through the network bring one packet.
    let ways = ["one", "other"].map(|name| Wire::open(&lab, &lab.client(name).unwrap()));
    for way in &ways {
        way.send(&Ask::new(RESERVED, 7, DISCOVER));
    }
    assert_eq!(ways[0].hear(SOON).map(|reply| (reply.message, reply.yiaddr)), Some((OFFER, HOME)));
    assert!(wait_for(SOON, || counter(&lab, "xdp", "duplicate") == 1), "{}", status(&lab));
    assert_eq!(counter(&lab, "xdp", "offer"), 1);
    // What it asks next is another packet.
    assert_eq!(ways[0].obtain(RESERVED, 8, SOON), Some(HOME));
    let log = server.stop().unwrap();
    assert!(
        log.contains("a packet of 52:54:00:00:00:77 came again within dhcp.limits.duplicate_ms"),
        "{log}"
    );
}

#[test]
fn limits_without_xdp_are_said_to_do_nothing() {
    let (lab, data) = (lab(), data(BLADE));
    let limits = json!({ "dhcp": { "limits": { "per_machine": 1 } } });
    let server = start(&lab, &data, &limits, "off");
    let log = server.stop().unwrap();
    assert!(log.contains("dhcp.limits act in XDP alone, which is off: nothing is limited"), "{log}");
}

/// What the log says of answers by XDP: lines of their own, and how many have none.
fn told(log: &str) -> (u64, u64) {
    let lines =
        log.lines().filter(|line| line.contains("\"step\":\"dhcp\"") && line.contains("\"by\":\"xdp\""));
    let more = log.lines().filter(|line| line.contains("more answers of XDP have no line of their own"));
    let value = |line: &str| serde_json::from_str::<Value>(line).unwrap()["answers"].as_u64().unwrap();
    (lines.count() as u64, more.map(value).sum())
}

#[test]
fn in_a_storm_of_answers_all_are_counted_and_the_log_can_be_read() {
    let (lab, data) = (lab(), data(TWO));
    let server = start(&lab, &data, &json!({}), "generic");
    let (stormy, calm) = (lab.client("stormy").unwrap(), lab.client("calm").unwrap());
    let (stormy, calm) = (Wire::open(&lab, &stormy), Wire::open(&lab, &calm));
    let before = resident(server.child().pid());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for xid in 0..STORM {
                stormy.send(&Ask::new(RESERVED, xid, DISCOVER));
            }
        });
        let other = Mac([0x52, 0x54, 0, 0, 0, 0x78]);
        assert_eq!(calm.obtain(other, STORM, SOON), Some([192, 168, 90, 78].into()));
    });
    let sent = begun.elapsed();
    let counted = || {
        (counter(&lab, "xdp", "offer"), counter(&lab, "xdp", "event-lost"), counter(&lab, "dhcp", "offer"))
    };
    let all = || {
        let (offers, lost, heard) = counted();
        offers > u64::from(STORM) && lost + heard >= offers
    };
    assert!(wait_for(SOON, all), "{}", status(&lab));
    let (took, (offers, lost, heard)) = (begun.elapsed(), counted());
    let grown = resident(server.child().pid()).saturating_sub(before);
    println!(
        "{STORM} DISCOVERs in {sent:?}, {heard} answers heard after {took:?}, {lost} lost; grown by {grown} KiB"
    );
    assert!(grown < GROWTH, "grown by {grown} KiB");
    // What is over is told in the next second.
    let acks = counter(&lab, "dhcp", "ack");
    let complete = || {
        let (lines, more) = told(&server.child().output());
        lines + more == heard + acks
    };
    assert!(wait_for(SOON, complete), "{offers} {heard} {:?}", told(&server.child().output()));
    let (lines, more) = told(&server.stop().unwrap());
    println!("{lines} lines, and {more} answers without one");
    assert!(more > 0 && lines <= 4096 * (took.as_secs() + 3), "{lines} lines in {took:?}");
}

#[test]
fn answers_that_the_daemon_could_not_read_are_counted_and_told() {
    let (lab, data) = (lab(), data(BLADE));
    let server = start(&lab, &data, &json!({}), "generic");
    let wire = Wire::open(&lab, &lab.client("blade").unwrap());
    // Within the grace time the program answers for a daemon that does not look.
    server.child().signal("STOP").unwrap();
    let sent = 20_000;
    for xid in 0..sent {
        wire.send(&Ask::new(RESERVED, xid, DISCOVER));
    }
    server.child().signal("CONT").unwrap();
    let counted = || {
        (counter(&lab, "xdp", "offer"), counter(&lab, "xdp", "event-lost"), counter(&lab, "dhcp", "offer"))
    };
    let all = || {
        let (offers, lost, heard) = counted();
        offers > 0 && lost > 0 && lost + heard == offers
    };
    assert!(wait_for(SOON, all), "{}", status(&lab));
    assert_eq!(wire.obtain(RESERVED, sent, SOON), Some(HOME), "and all goes on");
    let log = server.stop().unwrap();
    assert_eq!(log.matches("answers of XDP that are counted, but have no line here").count(), 1, "{log}");
}
