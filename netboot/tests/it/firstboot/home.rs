//! Who asks, by lease and by reservation; and machines that say that they are up.

use netboot::mac::Mac;
use netboot::store::{Change, Redb, Store};
use netboot::timeline::{By, Step};
use netboot_ebpf::Class;

use super::{Rig, STRANGER};

fn leased(addr: &str, mac: &str, expires: u64) -> Change {
    let value = format!(r#"{{"mac":"{mac}","expires":{expires}}}"#);
    Change::Put { key: format!("lease/{addr}"), value: value.into_bytes() }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_lease_of_an_address_is_the_one_that_asks() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Redb::open(state.path()).unwrap();
    let reader = store.reader();
    let rig = Rig::with(
        &[("default.yaml", "#cloud-config\na: $hostname $private_ipv4\n"), ("own.yaml", "own: $hostname\n")],
        |served| served.leases = reader,
    )
    .await;
    let (ended, live) = (1_700_000_000, 9_700_000_000);
    store
        .commit(&[
            // A reserved machine on an address of the pool.
            leased("127.0.0.100", "52:54:00:00:00:12", live),
            // The same, long ago; and one without a reservation.
            leased("127.0.0.101", "52:54:00:00:00:12", ended),
            leased("127.0.0.102", "52:54:00:00:00:99", live),
        ])
        .unwrap();
    assert_eq!(rig.get("127.0.0.100", "/").await, (200, "own: b12\n".to_owned()));
    assert_eq!(rig.get("127.0.0.100", "/nocloud/52:54:00:00:00:12/user-data").await.0, 200);
    for addr in ["127.0.0.101", "127.0.0.102", STRANGER] {
        assert_eq!(rig.get(addr, "/").await.0, 404, "{addr}");
    }
    // Somebody else still has a lease of a reserved address, and does not get what is another's.
    assert_eq!(rig.get("127.0.0.12", "/").await.0, 200);
    store.commit(&[leased("127.0.0.12", "52:54:00:00:00:99", live)]).unwrap();
    assert_eq!(rig.get("127.0.0.12", "/").await.0, 404);
    store.commit(&[leased("127.0.0.12", "52:54:00:00:00:99", ended)]).unwrap();
    assert_eq!(rig.get("127.0.0.12", "/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_says_that_it_is_up_ends_its_boot() {
    let rig = Rig::start(&[("default.yaml", "#cloud-config\n")]).await;
    let mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    let answered = |reply| {
        let (addr, class, by) = ([127, 0, 0, 1].into(), Class::Bios, By::Xdp);
        rig.state.timeline.record(&Step::Dhcp { mac, addr, reply, class, by, relay: None, reserved: true });
    };
    let seen = || rig.state.timeline.seen(mac).unwrap();
    answered("offer");
    answered("ack");
    assert!(seen().began.is_some() && seen().booted.is_none());
    let said = ["hostname=b1", "instance_id=netboot-525400000001", "pub_key_rsa=ssh-rsa+AAAA"].join("&");
    let large = format!("pub_key_rsa={}", "A".repeat(16 << 10));
    let table = [
        (STRANGER, "/api/v1/booted", "", 404),
        ("127.0.0.1", "/phone_home", large.as_str(), 413),
        ("127.0.0.1", "/phone_home", said.as_str(), 204),
        ("127.0.0.1", "/phone_home/netboot-525400000001/", said.as_str(), 204),
        ("127.0.0.12", "/api/v1/booted", "", 204),
        (STRANGER, "/phone_home", said.as_str(), 404),
    ];
    for (from, path, body, status) in table {
        assert_eq!(rig.curl(from, path, &["-d", body]).await.status, status, "{from} {path}");
    }
    assert!(seen().booted.is_some());
    assert_eq!(rig.state.timeline.counters()["http"]["booted"], 3);
    assert_eq!(rig.curl("127.0.0.1", "/api/v1/booted", &[]).await.status, 405);
    answered("offer");
    assert_eq!(seen().booted, None, "it boots again");
}
