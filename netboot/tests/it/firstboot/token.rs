//! The operator's token: what it opens, and what it leaves closed.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use netboot::http::Token;

use super::{Rig, STRANGER, put};

const TOKEN: &str = "a-token/of+the=operator";

const FILES: &[(&str, &str)] = &[
    ("default.yaml", "#cloud-config\nof $hostname\n"),
    ("own.yaml", "#cloud-config\nof $hostname: $secret_pw\n"),
    ("secrets/pw", "hush\n"),
    ("token", "a-token/of+the=operator\n"),
];

fn private(data: &Path, name: &str) {
    set_permissions(data.join(name), Permissions::from_mode(0o600)).unwrap();
}

async fn started() -> Rig {
    Rig::with(FILES, |state| {
        let data = state.inventory.data();
        for name in ["secrets/pw", "token"] {
            private(data, name);
        }
        state.token = Some(Arc::new(Token::open(&data.join("token"), data).unwrap()));
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_the_token_may_see_and_order_from_anywhere_and_sees_no_secret() {
    let rig = started().await;
    let order = ["-H", "Content-Type: application/json", "-d", r#"{"local_disk": true}"#];
    let table = [
        (Some(format!("Bearer {TOKEN}")), true),
        (Some(format!("bearer  {TOKEN}")), true),
        (None, false),
        (Some("Bearer ".to_owned()), false),
        (Some(format!("Bearer {TOKEN}s")), false),
        (Some(format!("Bearer {}", TOKEN.to_uppercase())), false),
        (Some(format!("Basic {TOKEN}")), false),
        (Some(TOKEN.to_owned()), false),
    ];
    for (shown, opens) in table {
        let header = shown.map(|shown| format!("Authorization: {shown}"));
        let with: Vec<_> = header.iter().flat_map(|header| ["-H", header.as_str()]).collect();
        let of = async |from: &str, path: &str| {
            let got = rig.curl(from, path, &with).await;
            (got.status, got.text)
        };
        // This rig has no leases that could be read, and keeps no orders.
        let status = if opens { 503 } else { 403 };
        for list in ["/api/v1/hosts", "/api/v1/leases"] {
            assert_eq!(of(STRANGER, list).await.0, status, "{list} {with:?}");
        }
        let ordered =
            rig.curl(STRANGER, "/api/v1/hosts/52:54:00:00:00:12", &[&with[..], &order].concat()).await;
        assert_eq!(ordered.status, status, "{}", ordered.text);
        for path in ["/?override_ipv4=127.0.0.12", "/?mac=52:54:00:00:00:12"] {
            let shown = if opens { "of b12: ********" } else { "of b1" };
            assert_eq!(of("127.0.0.1", path).await, (200, format!("#cloud-config\n{shown}\n")), "{with:?}");
        }
        let status = if opens { 200 } else { 404 };
        assert_eq!(of("127.0.0.1", "/nocloud/52:54:00:00:00:12/meta-data").await.0, status, "{with:?}");
        // A machine gets what is its own, whatever it shows.
        let own = "#cloud-config\nof b12: hush\n";
        if opens {
            assert_eq!(of("127.0.0.12", "/").await, (200, own.to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_file_nothing_that_is_shown_opens() {
    let rig = Rig::start(FILES).await;
    for shown in [TOKEN, ""] {
        let header = format!("Authorization: Bearer {shown}");
        assert_eq!(rig.curl(STRANGER, "/api/v1/hosts", &["-H", &header]).await.status, 403, "{shown}");
    }
}

#[test]
fn a_token_that_others_can_read_is_refused_at_the_start_and_by_the_check() {
    let data = tempfile::tempdir().unwrap();
    put(data.path(), "pxe_hosts.json", r#"{"hosts": {}}"#);
    put(data.path(), "netboot.json", r#"{"http": {"token_file": "token"}}"#);
    put(data.path(), "token", TOKEN);
    let netboot = |command: &str| {
        let mut netboot = Command::new(env!("CARGO_BIN_EXE_netboot"));
        netboot.arg(command).args(["--interface", "lo"]);
        let data = data.path().as_os_str();
        if command == "serve" { netboot.arg("--data") } else { &mut netboot }.arg(data);
        let output = netboot.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    set_permissions(data.path().join("token"), Permissions::from_mode(0o644)).unwrap();
    for command in ["check", "serve"] {
        let (code, said) = netboot(command);
        assert_eq!(code, Some(2), "{command}: {said}");
        assert!(said.contains("can be read by others than its owner") && !said.contains(TOKEN), "{said}");
    }
    private(data.path(), "token");
    let (code, said) = netboot("check");
    assert_eq!(code, Some(0), "{said}");
}
