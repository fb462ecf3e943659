//! Profiles, end to end: each machine gets its own configuration by each road, and an edit counts.
#![allow(clippy::unwrap_used, reason = "it is all tests")]

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use xtask::lab::{Lab, Namespace, Server, wait_for};

use crate::daemon::{NETBOOT, SOON, client, data, lab, status, udhcpc, value};
use crate::http::{get, served};

/// A machine with nothing but a channel, and two of which one names a profile and one has a label.
const HOSTS: &str = r#"{
  "common": { "$site": "lab" },
  "hosts": {
    "192.168.90.77": { "macaddr": "52:54:00:00:00:77", "$hostname": "b77", "channel": "beta" },
    "192.168.90.78": { "macaddr": "52:54:00:00:00:78", "$hostname": "b78", "channel": "beta", "profile": "own" },
    "192.168.90.79": { "macaddr": "52:54:00:00:00:79", "$hostname": "b79", "channel": "beta", "labels": { "rack": "a1" } },
  },
}"#;

/// The data directory of these, with the image of both profiles.
fn directory() -> TempDir {
    let data = data(HOSTS);
    fs::create_dir(data.path().join("profiles")).unwrap();
    profile(
        data.path(),
        "own",
        r#"{ "kernel": "k", "initrd": "i", "cmdline": "host=$hostname site=$site" }"#,
    );
    profile(
        data.path(),
        "rack",
        r#"{ "parent": "own", "cmdline": "rack mac=$mac", "match": { "rack": "a1" } }"#,
    );
    for file in ["k", "i"] {
        fs::write(data.path().join("tftp").join(file), "x").unwrap();
    }
    data
}

fn profile(data: &Path, name: &str, text: &str) {
    fs::write(data.join(format!("profiles/{name}.json")), text).unwrap();
}

/// A client with the addresses of all three, and one that nobody has reserved.
fn machines(lab: &Lab) -> Namespace {
    let client = client(lab, "52:54:00:00:00:99");
    for last in 77..=80 {
        client.ip(&format!("addr add 192.168.90.{last}/24 dev eth0")).unwrap();
    }
    client
}

/// What the machine with this address gets; empty if it gets nothing.
fn fetched(client: &Namespace, last: u8, url: &str) -> String {
    let line = format!("curl -sf --max-time 5 --interface 192.168.90.{last} {url} || true");
    client.shell(&line).unwrap()
}

#[test]
fn each_machine_gets_its_own_over_tftp_and_http() {
    let (lab, data) = (lab(), directory());
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let client = machines(&lab);
    let (tftp, http) = ("tftp://192.168.90.2", "http://192.168.90.2:8080/tftp");
    let (own, rack) = ("host=b78 site=lab", "rack mac=52:54:00:00:00:79");
    let table = [
        ("pxelinux.cfg/default", 77, "coreos_beta_pxe.vmlinuz"),
        ("pxelinux.cfg/beta", 77, "coreos_beta_pxe.vmlinuz"),
        ("pxelinux.cfg/01-52-54-00-00-00-77", 77, "coreos_beta_pxe.vmlinuz"),
        ("pxelinux.cfg/beta", 78, own),
        ("pxelinux.cfg/C0A85A4E", 78, own),
        ("pxelinux.cfg/beta", 79, rack),
        ("grub/grub.cfg", 77, "coreos_beta_pxe.vmlinuz"),
        ("grub/grub.cfg", 78, own),
        ("grub/grub.cfg-01-52-54-00-00-00-79", 79, rack),
        ("boot.ipxe", 78, own),
        ("autoexec.ipxe", 79, rack),
        ("pxelinux.cfg/stable", 80, "coreos_stable_pxe.vmlinuz"),
    ];
    for (name, last, expected) in table {
        for road in [tftp, http] {
            let text = fetched(&client, last, &format!("{road}/{name}"));
            assert!(text.contains(expected), "{road}/{name} for {last}:\n{text}");
        }
    }
    let none = [
        ("pxelinux.cfg/01-52-54-00-00-00-79", 78),
        ("pxelinux.cfg/C0A85A4E", 79),
        ("pxelinux.cfg/C0A85A4", 78),
        ("pxelinux.cfg/default", 80),
        ("grub/grub.cfg", 80),
        ("boot.ipxe", 80),
        // It is told of pxelinux by DHCP, and of nothing else here.
        ("autoexec.ipxe", 77),
    ];
    for (name, last) in none {
        for road in [tftp, http] {
            assert_eq!(fetched(&client, last, &format!("{road}/{name}")), "", "{road}/{name} for {last}");
        }
    }
    // By each road the files come by the same.
    assert!(fetched(&client, 78, &format!("{tftp}/grub/grub.cfg")).contains("linux (tftp,192.168.90.2)/k "));
    let by_http = "linux (http,192.168.90.2:8080)/tftp/k ";
    assert!(fetched(&client, 78, &format!("{http}/grub/grub.cfg")).contains(by_http));
    let script = fetched(&client, 78, "http://192.168.90.2:8080/ipxe");
    assert_eq!(script, fetched(&client, 78, &format!("{tftp}/boot.ipxe")));
    // A file on disk takes the place of what is made.
    fs::write(data.path().join("tftp/boot.ipxe"), "#!ipxe\n# mine\n").unwrap();
    for url in
        [format!("{tftp}/boot.ipxe"), format!("{http}/boot.ipxe"), "http://192.168.90.2:8080/ipxe".into()]
    {
        assert_eq!(fetched(&client, 78, &url), "#!ipxe\n# mine\n", "{url}");
    }
    assert_eq!(fetched(&client, 79, &format!("{tftp}/autoexec.ipxe")), "", "that is what DHCP tells of");
    server.stop().unwrap();
}

#[test]
fn an_edit_of_a_profile_counts_and_a_bad_one_does_not() {
    let (lab, data) = (lab(), directory());
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let client = machines(&lab);
    let text = |last| fetched(&client, last, "tftp://192.168.90.2/pxelinux.cfg/default");
    let soon = |last, expected: &str| {
        assert!(wait_for(SOON, || text(last).contains(expected)), "{expected}:\n{}", text(last));
    };
    soon(79, "rack mac=");
    // The parent's own edit reaches the child; a bad one nobody.
    profile(data.path(), "own", r#"{ "kernel": "i", "cmdline": "new" }"#);
    soon(79, "LINUX i\n");
    assert!(text(78).contains("APPEND new"), "{}", text(78));
    profile(data.path(), "own", r#"{ "kernel": 1 }"#);
    let problems = || status(&lab).to_string();
    assert!(wait_for(SOON, || problems().contains("`kernel` is a number")), "{}", problems());
    assert!(text(78).contains("APPEND new"), "the old snapshot stays");
    profile(data.path(), "own", r#"{ "kind": "local-disk" }"#);
    soon(78, "LOCALBOOT 0");
    // One for machines that nobody knows comes and goes.
    assert_eq!(text(80), "");
    profile(data.path(), "default", r#"{ "parent": "debian" }"#);
    soon(80, "debian-installer/amd64/linux of the profile default is not in tftp/");
    fs::remove_file(data.path().join("profiles/default.json")).unwrap();
    assert!(wait_for(SOON, || text(80).is_empty()));
    // A directory that is made later is watched, too.
    fs::remove_dir_all(data.path().join("profiles")).unwrap();
    soon(79, "coreos_beta_pxe.vmlinuz");
    fs::create_dir(data.path().join("profiles")).unwrap();
    profile(data.path(), "beta", r#"{ "kernel": "k" }"#);
    soon(79, "LINUX k\n");
    server.stop().unwrap();
}

#[test]
fn dhcp_names_the_script_that_is_made_and_the_profiles_loader() {
    const IPXE: [&str; 2] = ["-x", "0x4d:69505845"];
    for xdp in ["generic", "off"] {
        let (lab, data) = (lab(), directory());
        profile(
            data.path(),
            "own",
            r#"{ "kernel": "k", "boot": { "bios": "own.0" }, "options": { "15": "own.example" } }"#,
        );
        fs::write(data.path().join("tftp/pxelinux.0"), "x").unwrap();
        let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", xdp]).unwrap();
        let bios: [&str; 2] = ["-V", "PXEClient:Arch:00000"];
        let table = [
            ("77", &bios, "pxelinux.0", ""),
            ("77", &IPXE, "pxelinux.0", ""),
            ("78", &bios, "own.0", "own.example"),
            ("78", &IPXE, "boot.ipxe", "own.example"),
            ("79", &bios, "own.0", "own.example"),
            ("79", &IPXE, "boot.ipxe", "own.example"),
        ];
        for (last, class, file, domain) in table {
            let machine = client(&lab, &format!("52:54:00:00:00:{last}"));
            let told = udhcpc(&machine, 5, &[class[0], class[1], "-O", "domain"]);
            assert_eq!(value(&told, "boot_file"), file, "{last} {class:?} {xdp}:\n{told}");
            let found = told.lines().find_map(|line| line.strip_prefix("domain=")).unwrap_or_default();
            assert_eq!(found, domain, "{last} {class:?} {xdp}:\n{told}");
        }
        server.stop().unwrap();
    }
}

#[tokio::test]
async fn a_script_is_its_machines_own() {
    let data = directory();
    let hosts = HOSTS.replace("192.168.90.", "10.9.0.");
    fs::write(data.path().join("pxe_hosts.json"), hosts).unwrap();
    let app = netboot::http::app(served(data.path()));
    let own = get(&app, "10.9.0.78", "/ipxe").await;
    assert_eq!((own.status, own.text().lines().next()), (200, Some("#!ipxe")));
    assert!(own.text().contains("host=b78 site=lab") && own.text().contains("http://10.9.0.1:8080/tftp/k"));
    assert_eq!(get(&app, "10.9.0.78", "/ipxe?override_ipv4=10.9.0.79").await.text(), own.text());
    let others = get(&app, "10.9.0.5", "/ipxe?override_ipv4=10.9.0.79").await;
    assert!(others.text().contains("rack mac=52:54:00:00:00:79"), "{}", others.text());
    let unknown = get(&app, "10.9.0.80", "/ipxe").await;
    assert_eq!((unknown.status, unknown.text()), (404, "no profile says what 10.9.0.80 is to boot\n"));
}

/// Runs `netboot hosts …` beside the server; its output, and whether it went well.
fn hosts(lab: &Lab, data: &Path, arguments: &str) -> (bool, String) {
    let line = format!("{NETBOOT} hosts {arguments} --data {} 2>&1", data.display());
    let output = lab.server.command("sh").args(["-c", &line]).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn an_order_beats_everything_until_the_machine_has_got_it() {
    let (lab, data) = (lab(), directory());
    let pxelinux = data.path().join("tftp/pxelinux.cfg");
    fs::create_dir(&pxelinux).unwrap();
    fs::write(pxelinux.join("beta"), "# on disk\n").unwrap();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let client = machines(&lab);
    let (tftp, http) = ("tftp://192.168.90.2", "http://192.168.90.2:8080/tftp");
    let config = || fetched(&client, 77, &format!("{tftp}/pxelinux.cfg/beta"));
    let own = "# on disk\n";
    for (files, last) in [(tftp, "i"), (http, "i")] {
        assert!(wait_for(SOON, || config() == own), "{}", config());
        let said = hosts(&lab, data.path(), "set 192.168.90.77 --next-boot own");
        assert_eq!(said, (true, "52:54:00:00:00:77 boots own next\n".to_owned()));
        assert!(config().contains("host=b77"), "{}", config());
        let list = hosts(&lab, data.path(), "").1;
        assert!(list.contains("boots own next"), "{list}");
        // A kernel alone, the half of a file or somebody else's are no boot.
        fetched(&client, 77, &format!("{files}/k"));
        fetched(&client, 78, &format!("{files}/{last}"));
        client.shell(&format!("curl -s --interface 192.168.90.77 -I {http}/{last}")).unwrap();
        assert!(config().contains("host=b77"), "{}", config());
        assert_eq!(fetched(&client, 77, &format!("{files}/{last}")), "x");
    }
    assert!(wait_for(SOON, || config() == own), "{}", config());
    assert!(!hosts(&lab, data.path(), "").1.contains("boots own"));

    // This one stays, also with the next daemon.
    let said = hosts(&lab, data.path(), "set 52:54:00:00:00:77 --local-disk");
    assert_eq!(said, (true, "52:54:00:00:00:77 boots its disk until told otherwise\n".to_owned()));
    assert!(config().contains("LOCALBOOT 0") && config().contains("LOCALBOOT 0"), "{}", config());
    server.stop().unwrap();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    assert!(config().contains("LOCALBOOT 0"), "{}", config());
    assert!(hosts(&lab, data.path(), "set 192.168.90.77 --clear").0);
    assert_eq!(config(), own);

    let wrong = [
        ("set 192.168.90.99 --clear", "no machine of pxe_hosts.json has the address 192.168.90.99"),
        ("set 52:54:00:00:00:99 --clear", "no machine of pxe_hosts.json has the MAC 52:54:00:00:00:99"),
        ("set 192.168.90.77 --next-boot gone", "there is no profile `gone` that says what to boot"),
        ("set 192.168.90.77", "required"),
        ("set 192.168.90.77 --clear --local-disk", "cannot be used with"),
        ("set blade77 --clear", "that is no address and no MAC"),
    ];
    for (arguments, expected) in wrong {
        let (done, said) = hosts(&lab, data.path(), arguments);
        assert!(!done && said.contains(expected), "{arguments}: {said}");
    }
    server.stop().unwrap();
}

#[test]
fn orders_are_taken_from_whom_the_operator_trusts_alone() {
    let (lab, data) = (lab(), directory());
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let client = machines(&lab);
    let post = |from: &Namespace, to: &str, mac: &str, kind: &str, body: &str| {
        let line = format!(
            "curl -s -o /dev/null -w '%{{http_code}}' -X POST -H 'Content-Type: {kind}' -d '{body}' http://{to}:8080/api/v1/hosts/{mac}"
        );
        from.shell(&line).unwrap()
    };
    let (mac, json) = ("52:54:00:00:00:77", "application/json");
    let good = "{\"next_boot\": \"own\"}";
    assert_eq!(post(&client, "192.168.90.2", mac, json, good), "403");
    let long = format!("{{\"next_boot\": \"{}\"}}", "x".repeat(5000));
    let deep = format!("{{\"next_boot\": {}", "[".repeat(4000));
    let table = [
        (mac, "text/plain", good, "415"),
        (mac, json, "{}", "400"),
        (mac, json, "{\"next_boot\": \"own\", \"clear\": true}", "400"),
        (mac, json, "{\"next\": \"own\"}", "422"),
        (mac, json, "{\"next_boot\": 1}", "422"),
        (mac, json, "{", "400"),
        (mac, json, &deep, "422"),
        (mac, json, &long, "413"),
        (mac, json, "{\"next_boot\": \"gone\"}", "422"),
        ("52:54:00:00:00:99", json, good, "404"),
        ("x", json, good, "404"),
        (mac, json, good, "200"),
    ];
    for (mac, kind, body, expected) in table {
        assert_eq!(post(&lab.server, "127.0.0.1", mac, kind, body), expected, "{mac} {kind} {body:.60}");
    }
    server.stop().unwrap();
}
