//! `netboot check` and reload: the real binary on data directories that are right and wrong, and edits to live files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use netboot::config::problem::Problem;
use netboot::inventory::{Inventory, Networks};
use netboot_ebpf::Class;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NEAR: Duration = Duration::from_secs(20);

/// Runs netboot with no setting from outside.
fn netboot(arguments: &[&str]) -> Output {
    netboot_with(arguments, &[])
}

fn netboot_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netboot"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NETBOOT_")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `check` says about a data directory, paths shortened, and its exit code.
fn check(data: &Path) -> (Option<i32>, String) {
    let output = netboot(&["check", data.to_str().unwrap()]);
    let said = text(&output.stderr) + &text(&output.stdout);
    (output.status.code(), said.replace(&format!("{}/", data.display()), ""))
}

fn data(name: &str) -> std::path::PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data")).join(name)
}

fn hosts(names: &[u8]) -> String {
    let host = |n: &u8| {
        format!(
            "\"10.9.0.{n}\": {{\"macaddr\": \"52:54:00:00:00:{n:02}\", \"$hostname\": \"b{n}\", \"channel\": \"stable\"}},"
        )
    };
    format!("{{\"hosts\": {{{}}}}}", names.iter().map(host).collect::<String>())
}

#[test]
fn the_sample_is_fine() {
    let (code, said) = check(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../data.sample")));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.trim_end().ends_with("3 hosts, no problems") && said.lines().count() == 1, "{said}");
}

/// Each `tests/data/bad-*` has in `expected` every line that check prints about it.
#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut seen = 0;
    for entry in fs::read_dir(data("")).unwrap() {
        let directory = entry.unwrap().path();
        if directory.ends_with("packets") {
            continue;
        }
        let (code, said) = check(&directory);
        let (problems, summary) = said.trim_end().rsplit_once('\n').unwrap();
        assert!(summary.starts_with(directory.to_str().unwrap()), "{summary}");
        let expected = fs::read_to_string(directory.join("expected")).unwrap();
        assert_eq!(problems, expected.trim_end(), "{}", directory.display());
        let errors = expected.lines().any(|line| !line.contains(": warning: "));
        assert_eq!(code, Some(if errors { 2 } else { 0 }), "{}", directory.display());
        seen += 1;
    }
    assert_eq!(seen, 6);
}

/// Each template is tried for one machine of all that define the same names, so many of them cost nothing.
#[test]
fn ten_thousand_machines_are_checked_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let host = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        let more = if n.is_multiple_of(3) { r#""$disk": "sda""# } else { "" };
        format!(
            "\"10.{a}.{b}.{c}\": {{\"macaddr\": \"52:54:00:{a:02}:{b:02x}:{c:02x}\", \"$hostname\": \"b{n}\", \"channel\": \"stable\", {more}}},"
        )
    };
    let hosts: String = (1..=10_000).map(host).collect();
    fs::write(dir.path().join("pxe_hosts.json"), format!("{{\"hosts\": {{{hosts}}}}}")).unwrap();
    let files = "  - path: /etc/{{ addr }}\n    content: x\n".repeat(500);
    let text = format!("#cloud-config\nwrite_files:\n{files}x: {{{{ disk }}}}\n");
    fs::write(dir.path().join("default.yaml.j2"), text).unwrap();
    let begun = std::time::Instant::now();
    let loaded = netboot::inventory::load(dir.path(), &Networks::default());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let said: Vec<_> = loaded.problems.iter().map(|problem| &problem.message).collect();
    assert_eq!(said, ["`disk` is undefined, for 6667 hosts (10.0.0.1, …)"]);
}

/// What the replaced systems took is taken, with a word about it.
#[test]
fn operators_files_are_taken_as_before() {
    let loaded = netboot::inventory::load(&data("as-before"), &Networks::of("10.9.0.0/24".parse().unwrap()));
    let snapshot = loaded.snapshot.unwrap();
    let names: Vec<_> = snapshot.hosts().map(|host| host.hostname.as_str()).collect();
    assert_eq!(names, ["b11.example.net", "rack_2"]);
    let variables = snapshot.variables(snapshot.hosts().nth(1).unwrap());
    assert_eq!((variables["$hostname"].as_ref(), variables["$gw"].as_ref()), ("rack_2", "10.9.0.2"));
}

#[test]
fn no_file_and_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = check(dir.path());
    assert_eq!(code, Some(0));
    assert!(said.starts_with("pxe_hosts.json: warning: there is no such file;"), "{said}");
    let (code, said) = check(&dir.path().join("none"));
    assert_eq!(code, Some(2));
    assert!(said.contains("there is no such directory"), "{said}");
}

#[test]
fn prints_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    fs::write(
        dir.path().join("netboot.json"),
        r#"{"interface": "eth1", "xdp": "off", "http": {"port": 81}}"#,
    )
    .unwrap();
    let print = |arguments: &[&str], environment: &[(&str, &str)]| -> serde_json::Value {
        let output = netboot_with(&[&["check", "--print"], arguments].concat(), environment);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let file = print(&[data], &[]);
    assert_eq!(
        (&file["interface"], &file["xdp"], &file["http"]["port"]),
        (&"eth1".into(), &"off".into(), &81.into())
    );
    assert_eq!(file["dhcp"]["lease_secs"], 3600);
    let environment = [
        ("NETBOOT_DATA", data),
        ("NETBOOT_HTTP_PORT", "82"),
        ("NETBOOT_XDP", "native"),
        ("NETBOOT_INTERFACE", ""),
    ];
    let set = print(&["--xdp", "generic"], &environment);
    assert_eq!(
        (&set["interface"], &set["xdp"], &set["http"]["port"]),
        (&"eth1".into(), &"generic".into(), &82.into())
    );
    let pools = print(&[data], &[("NETBOOT_POOL", "10.0.0.1-10.0.0.2,10.0.0.5-10.0.0.6")]);
    assert_eq!(pools["dhcp"]["pool"], serde_json::json!(["10.0.0.1-10.0.0.2", "10.0.0.5-10.0.0.6"]));
    fs::remove_file(dir.path().join("netboot.json")).unwrap();
    assert_eq!(print(&[data], &[])["interface"], serde_json::Value::Null);
}

#[test]
fn hosts_are_held_against_the_interface_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pxe_hosts.json"), hosts(&[11])).unwrap();
    fs::write(dir.path().join("default.yaml"), "").unwrap();
    let lab = xtask::lab::Namespace::new("check").unwrap();
    lab.ip("link add pxe0 type veth peer name pxe1").unwrap();
    lab.ip("addr add 10.8.0.1/24 dev pxe0").unwrap();
    lab.ip("link set pxe0 up").unwrap();
    lab.ip("link set pxe1 up").unwrap();
    let arguments =
        ["check", dir.path().to_str().unwrap(), "--interface", "pxe0", "--pool", "10.7.0.1-10.7.0.9"];
    let output = lab.command(env!("CARGO_BIN_EXE_netboot")).args(arguments).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("pxe_hosts.json:1:12: 10.9.0.11 is outside the subnet 10.8.0.0/24; "), "{said}");
    assert!(said.contains("the pool 10.7.0.1-10.7.0.9 is not inside the subnet 10.8.0.0/24"), "{said}");
}

#[test]
fn serve_refuses_what_is_wrong_before_it_opens_anything() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    fs::write(dir.path().join("pxe_hosts.json"), "{\n  \"hosts\": {\n").unwrap();
    let output = netboot(&["serve", "--interface", "none0", "--data", data]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr)
            .contains("pxe_hosts.json:2:12: not JSON: unterminated object; close this with }"),
        "{output:?}"
    );

    let output = netboot(&["serve", "--interface", "none0", "--data", data, "--log-format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["message"].as_str().unwrap().contains("pxe_hosts.json:2:12:"), "{line}");

    fs::write(dir.path().join("pxe_hosts.json"), hosts(&[])).unwrap();
    let output = netboot(&["serve", "--data", data]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no PXE interface is named; give --interface"), "{output:?}");

    let output =
        netboot_with(&["serve", "--interface", "none0", "--data", data], &[("NETBOOT_LOG", "a=b=c")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("NETBOOT_LOG is `a=b=c`"), "{output:?}");
}

#[test]
fn help_has_examples_and_wrong_usage_is_code_2() {
    let help = netboot(&["serve", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("netboot serve --interface eth1 --xdp off"));
    assert!(text(&help.stdout).contains("NETBOOT_MODE"));
    let help = netboot(&["hosts", "approve", "--help"]);
    assert!(text(&help.stdout).contains("netboot hosts approve 52:54:00:12:34:56 --addr 192.168.90.11"));
    let half = netboot(&["serve", "--mode", "half"]);
    assert_eq!(half.status.code(), Some(2));
    assert!(text(&half.stderr).contains("[possible values: full, proxy]"), "{half:?}");
    assert_eq!(netboot(&[]).status.code(), Some(2));
}

#[test]
fn boot_files_that_are_not_there_are_said_and_so_is_who_gets_what() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("default.yaml", "");
    write(
        "netboot.json",
        r#"{"boot": {"efiarm64": "arm/grubaa64.efi", "efi32": "", "ipxe": "http://192.0.2.1/boot.ipxe"}}"#,
    );
    let own = r#"{"hosts": {"10.9.0.11": {"macaddr": "52:54:00:00:00:11", "$hostname": "b", "channel": "stable", "boot": {"efi64": "own.efi"}}}}"#;
    write("pxe_hosts.json", own);
    let (code, said) = check(dir.path());
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "no tftp/ as yet, so nothing of what should lie in it: {said}");
    let column = own.find("\"own.efi\"").unwrap() + 1;
    assert_eq!(
        lines[0],
        format!(
            "pxe_hosts.json:1:{column}: warning: boot file `own.efi` is not in tftp/; put it there, or name another"
        )
    );
    assert!(
        lines[1]
            .starts_with("netboot.json: warning: `boot.efiarm64` is \"arm/grubaa64.efi\", which is not in"),
        "{said}"
    );

    fs::create_dir_all(dir.path().join("tftp/arm")).unwrap();
    let gap = |said: &str, class: &str| {
        said.contains(&format!("tftp: warning: no boot file for {class} clients; put one of "))
    };
    let (_, said) = check(dir.path());
    assert!(gap(&said, "bios") && gap(&said, "efi64"), "{said}");
    for file in ["arm/grubaa64.efi", "own.efi", "pxelinux.0", "grubx64.efi"] {
        write(&format!("tftp/{file}"), "x");
    }
    assert_eq!(check(dir.path()).1.lines().count(), 1, "{}", check(dir.path()).1);

    let output = netboot(&["check", "--print", dir.path().to_str().unwrap()]);
    let boot = &serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["boot"];
    let want = serde_json::json!({
        "bios": "pxelinux.0", "ipxe": "http://192.0.2.1/boot.ipxe", "efi32": null, "efi64": "grubx64.efi", "efiarm32": null,
        "efiarm64": "arm/grubaa64.efi", "http32": null, "http64": "grubx64.efi", "httparm32": null, "httparm64": null,
        "rpi": null,
    });
    assert_eq!(*boot, want);
}

#[test]
fn a_wrong_boot_of_a_host_has_its_place() {
    let table = [
        ("5", "`boot` is a number, not a string; write the name of a file in tftp/"),
        (r#""a b""#, "`boot` is \"a b\"; write a path below tftp/"),
        (r#""http://192.0.2.1/x""#, "`boot` is \"http://192.0.2.1/x\"; write a path below tftp/"),
        (r#"{"efi65": "x"}"#, "`efi65` is no class of clients; use one of: bios, "),
        (r#"{"efi64": 5}"#, "`boot.efi64` is a number, not a string"),
        (r#"{"ipxe": "snponly.efi"}"#, "`boot.ipxe` is \"snponly.efi\"; write a script"),
        (r#"{"efi64": "x", "efi64": "y"}"#, "`efi64` is here a second time"),
    ];
    for (boot, expected) in table {
        let dir = tempfile::tempdir().unwrap();
        let host = format!("\"channel\": \"stable\", \"boot\": {boot}}}");
        fs::write(dir.path().join("default.yaml"), "").unwrap();
        fs::write(dir.path().join("pxe_hosts.json"), hosts(&[11]).replace("\"channel\": \"stable\"}", &host))
            .unwrap();
        let (code, said) = check(dir.path());
        assert_eq!(code, Some(2), "{boot}: {said}");
        assert!(said.starts_with("pxe_hosts.json:1:") && said.contains(expected), "{boot}: {said}");
    }
}

/// A watched inventory.
struct Live {
    dir: tempfile::TempDir,
    inventory: Arc<Inventory>,
    changes: watch::Receiver<u64>,
    stop: tokio_util::sync::DropGuard,
}

impl Live {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pxe_hosts.json"), hosts(&[11])).unwrap();
        fs::write(dir.path().join("default.yaml"), "").unwrap();
        let inventory = Arc::new(
            Inventory::open(dir.path().to_owned(), Networks::of("10.9.0.0/24".parse().unwrap())).unwrap(),
        );
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&inventory).watch(stop.clone()));
        Self { dir, changes: inventory.changes(), inventory, stop: stop.drop_guard() }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    async fn next(&mut self) -> usize {
        tokio::time::timeout(NEAR, self.changes.changed()).await.expect("no new snapshot").unwrap();
        self.inventory.snapshot().hosts().len()
    }

    /// Waits until the last reading found this.
    async fn problem(&self, part: &str) {
        let found = || self.inventory.problems().iter().any(|problem| problem.to_string().contains(part));
        // Each reading is told of, whatever it found.
        let mut readings = self.inventory.accepted();
        let waiting = async {
            while !found() {
                readings.changed().await.unwrap();
            }
        };
        tokio::time::timeout(NEAR, waiting)
            .await
            .unwrap_or_else(|_| panic!("{part}: {:?}", self.inventory.problems()));
    }
}

#[tokio::test]
async fn an_edit_in_place_and_one_by_rename_are_taken() {
    let mut live = Live::start();
    let held = live.inventory.snapshot();
    live.write("pxe_hosts.json", &hosts(&[11, 12]));
    assert_eq!(live.next().await, 2);
    // Written elsewhere, so that the rename alone is seen.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("new"), hosts(&[11, 12, 13])).unwrap();
    fs::rename(elsewhere.path().join("new"), live.dir.path().join("pxe_hosts.json")).unwrap();
    assert_eq!(live.next().await, 3);
    assert_eq!(*live.changes.borrow(), 3);
    assert_eq!(held.hosts().len(), 1, "who holds a snapshot keeps it");
    drop(live.stop);
}

#[tokio::test]
async fn a_bad_edit_keeps_the_old_snapshot_and_the_next_good_one_is_taken() {
    let mut live = Live::start();
    for (bad, part) in [
        ("{\"hosts\": {", "pxe_hosts.json:1:11: not JSON"),
        (
            hosts(&[11]).replace("10.9.0.11", "10.8.0.11").as_str(),
            "10.8.0.11 is outside the subnet 10.9.0.0/24",
        ),
        ("", "the file is empty"),
    ] {
        live.write("pxe_hosts.json", bad);
        live.problem(part).await;
        assert_eq!(live.inventory.snapshot().hosts().len(), 1);
        assert_eq!(*live.changes.borrow(), 1);
    }
    fs::remove_file(live.dir.path().join("pxe_hosts.json")).unwrap();
    live.problem("there is no such file").await;
    assert_eq!(live.inventory.snapshot().hosts().len(), 1);
    assert!(!live.inventory.reload());

    live.write("pxe_hosts.json", &hosts(&[11, 12]));
    assert_eq!(live.next().await, 2);
    assert!(live.inventory.problems().is_empty());
    // A template is looked at again when it changes, and is no reason for a new snapshot.
    live.write("default.yaml", "$nobody\n");
    live.problem("default.yaml:1:1: warning: `$nobody` is not defined for 2 hosts (10.9.0.11, …)").await;
    assert_eq!(*live.changes.borrow(), 2);
}

#[tokio::test]
async fn a_boot_loader_counts_as_soon_as_it_is_there() {
    let mut live = Live::start();
    let loader = |live: &Live| live.inventory.snapshot().loaders().get(Class::Efi64);
    assert_eq!(loader(&live), None);
    let tftp = live.dir.path().join("tftp");
    fs::create_dir(&tftp).unwrap();
    live.write("tftp/grubx64.efi", "x");
    live.next().await;
    assert_eq!(loader(&live), Some("grubx64.efi"));
    live.write("tftp/shimx64.efi", "x");
    live.next().await;
    assert_eq!(loader(&live), Some("shimx64.efi"));
    // The whole directory is replaced, and then something in the new one.
    let (old, new) = (live.dir.path().join("old"), live.dir.path().join("new"));
    fs::create_dir(&new).unwrap();
    fs::write(new.join("ipxe.efi"), "x").unwrap();
    fs::rename(&tftp, old).unwrap();
    fs::rename(new, &tftp).unwrap();
    while loader(&live) != Some("ipxe.efi") {
        live.next().await;
    }
    live.write("tftp/grubx64.efi", "x");
    while loader(&live) != Some("grubx64.efi") {
        live.next().await;
    }
}

#[test]
fn the_subnet_is_held_against_the_hosts_when_it_is_known() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pxe_hosts.json"), hosts(&[11])).unwrap();
    let inventory = Inventory::open(dir.path().to_owned(), Networks::default()).unwrap();
    let problems = inventory.set_networks(Networks::of("10.8.0.0/24".parse().unwrap())).unwrap_err();
    assert!(problems.to_string().contains("10.9.0.11 is outside the subnet 10.8.0.0/24"), "{problems}");
    assert!(inventory.set_networks(Networks::of("10.9.0.0/24".parse().unwrap())).is_ok());
    assert!(!inventory.problems().iter().any(|problem| problem.message.contains("server's own")));
    assert!(
        inventory.set_networks(Networks::of("10.9.0.11/24".parse().unwrap())).is_ok(),
        "it may be this machine"
    );
    let problems = inventory.problems();
    let own = |problem: &Problem| problem.message.contains("10.9.0.11 is this server's own address");
    assert!(problems.iter().any(own), "{problems:?}");
}

#[test]
fn a_reservation_in_a_pool_that_was_set_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pxe_hosts.json"), hosts(&[11, 40])).unwrap();
    fs::write(dir.path().join("default.yaml"), "#cloud-config\n").unwrap();
    let said = |settings: &str| {
        fs::write(dir.path().join("netboot.json"), settings).unwrap();
        check(dir.path())
    };
    let (code, text) = said(
        r#"{"dhcp": {"pool": ["10.9.0.30-10.9.0.50"], "subnets": [{"prefix": "10.8.0.0/24", "pool": ["10.8.0.5-10.8.0.9"]}]}}"#,
    );
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("pxe_hosts.json:1:")
            && text.contains("10.9.0.40 is in the pool 10.9.0.30-10.9.0.50, which is for machines without"),
        "{text}"
    );
    assert!(text.contains("\"exclude\": [\"10.9.0.40\"]") && !text.contains("10.9.0.11 is in"), "{text}");
    let (code, text) =
        said(r#"{"dhcp": {"pool": ["10.9.0.30-10.9.0.50"], "exclude": ["10.9.0.38-10.9.0.41"]}}"#);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn leases_that_cannot_be_read_are_found_by_check_and_refused_by_serve() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pxe_hosts.json"), hosts(&[11])).unwrap();
    fs::write(dir.path().join("default.yaml"), "#cloud-config\n").unwrap();
    let file = dir.path().join("state/leases.redb");
    fs::create_dir_all(&file).unwrap();
    let expected = "state/leases.redb: the leases cannot be read: it is not a regular file; make it";
    let (code, said) = check(dir.path());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(expected), "{said}");
    let serve = netboot(&["serve", "--interface", "none0", "--data", dir.path().to_str().unwrap()]);
    let said = text(&serve.stderr);
    assert_eq!(serve.status.code(), Some(2), "{said}");
    assert!(said.contains("the leases cannot be read: it is not a regular file"), "{said}");

    // What can be helped by itself is no reason to stay away.
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "torn").unwrap();
    let (code, said) = check(dir.path());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("warning: is damaged, or no file of leases; `serve` keeps it aside"), "{said}");
}
