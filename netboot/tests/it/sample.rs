//! `data.sample` loads without any problem, and each of its machines gets its cloud-config.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::path::Path;

use netboot::http::app;
use netboot::inventory::{Networks, load};

use crate::http::{get, served};

/// The sample data, as it is shipped.
fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../data.sample"))
}

#[test]
fn nothing_is_wrong_with_it() {
    let loaded = load(directory(), &Networks::of("192.168.90.0/24".parse().unwrap()));
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let snapshot = loaded.snapshot.unwrap();
    let hosts: Vec<_> = snapshot
        .hosts()
        .map(|host| {
            format!(
                "{} {} {} {} {}",
                host.addr,
                host.mac,
                host.hostname,
                host.channel,
                snapshot.template(host)
            )
        })
        .collect();
    assert_eq!(
        hosts,
        [
            "192.168.90.11 52:54:00:12:34:56 blade1 stable etcd2.yaml",
            "192.168.90.12 52:54:00:12:34:57 blade2 stable default.yaml",
            "192.168.90.13 52:54:00:12:34:58 blade3 beta default.yaml",
        ]
    );
}

#[tokio::test]
async fn every_machine_gets_its_cloud_config() {
    let app = app(served(directory()));
    let table: [(&str, &[&str]); 3] = [
        ("192.168.90.11", &["hostname: blade1\n", "initial-cluster: blade1=http://192.168.90.11:2380\n"]),
        (
            "192.168.90.12",
            &[
                "hostname: blade2\n",
                "blade2: 192.168.90.12 inside, 203.0.113.12 outside\n",
                "DNS=203.0.113.53\n",
            ],
        ),
        (
            "192.168.90.13",
            &["hostname: blade3\n", "Address=203.0.113.13/24\n", "DNS=203.0.113.55\n", "DNS=203.0.113.54\n"],
        ),
    ];
    for (addr, parts) in table {
        let answer = get(&app, addr, "/").await;
        assert_eq!(answer.status, 200, "{addr}");
        assert!(answer.text().starts_with("#cloud-config\n"), "{}", answer.text());
        for part in parts.iter().chain(&["Gateway=203.0.113.1\n"]) {
            assert!(answer.text().contains(part), "{part:?} is not in\n{}", answer.text());
        }
        assert!(!answer.text().contains('$'), "a name is left in\n{}", answer.text());
    }
}
