//! The house rules of ARCHITECTURE.md: who may know whom, and what must not be where.

use std::fs;
use std::path::{Path, PathBuf};

/// Decisions: synchronous, time and randomness come as arguments, no input or output, no logging.
const PURE: &[&str] = &[
    "config/options.rs",
    "config/options/codes.rs",
    "config/options/read.rs",
    "config/options/value.rs",
    "dhcp/boot.rs",
    "dhcp/wire.rs",
    "dhcp/wire/agent.rs",
    "dhcp/menu.rs",
    "dhcp/options.rs",
    "dhcp/options/bootp.rs",
    "dhcp/options/client.rs",
    "dhcp/options/custom.rs",
    "dhcp/options/echo.rs",
    "dhcp/policy.rs",
    "dhcp/policy/reply.rs",
    "dhcp/cards.rs",
    "dhcp/lease.rs",
    "dhcp/leases.rs",
    "dhcp/clock.rs",
    "dhcp/queue.rs",
    "dhcp/parked.rs",
    "dhcp/pool.rs",
    "dhcp/segments.rs",
    "dhcp/select.rs",
    "dhcp/proxy.rs",
    "dhcp/taken.rs",
    "dhcp/vacant.rs",
    "dhcp/waiting.rs",
    "inventory/marks.rs",
    "inventory/orders.rs",
    "inventory/profile/mod.rs",
    "inventory/profile/builtin.rs",
    "inventory/profile/read.rs",
    "inventory/variables.rs",
    "loader/mod.rs",
    "loader/names.rs",
    "loader/plan.rs",
    "loader/pxelinux.rs",
    "loader/grub.rs",
    "loader/ipxe.rs",
    "tftp/wire.rs",
    "tftp/transfer.rs",
    "fastpath/entries.rs",
    "fastpath/trunk.rs",
    "net/ra/wire.rs",
    "net/ra/policy.rs",
    "capture/wire.rs",
    "capture/sessions.rs",
    "capture/policy.rs",
    "capture/segments.rs",
    "capture/order.rs",
    "capture/pcapng.rs",
    "capture/taker.rs",
    "fastpath/captured.rs",
    "http/conditions.rs",
    "http/media.rs",
    "http/reads.rs",
    "inventory/ignition.rs",
    "inventory/jinja.rs",
    "inventory/template/trace.rs",
    "inventory/user_data.rs",
    "inventory/variables.rs",
    "import/mod.rs",
    "import/dnsmasq.rs",
    "import/hosts.rs",
    "import/isc.rs",
    "import/kea.rs",
    "import/leases.rs",
    "cli/doctor/facts.rs",
    "cli/doctor/findings.rs",
    "cli/doctor/findings/attach.rs",
    "cli/doctor/findings/system.rs",
    "dhcp/rival.rs",
    "mac.rs",
    "timeline/quota.rs",
    "timeline/recent.rs",
    "timeline/rivals.rs",
    "timeline/seen.rs",
    "uuid.rs",
];

/// What a pure file must not contain.
const EFFECTS: &[&str] = &[
    "tokio",
    "tracing::",
    "std::fs",
    "File::",
    "UdpSocket",
    "TcpStream",
    "SystemTime::now",
    "Instant::now",
    "rustix::",
    "socket2::",
    "println!",
    "std::env",
];

/// A word, and the only files that may say it.
const HOMES: &[(&str, &[&str])] = &[
    ("dhcproto", &["dhcp/wire.rs"]),
    ("io_uring::", &["tftp/ring.rs"]),
    ("use redb::", &["store/redb.rs"]),
    ("crate::cli", &[]),
    ("crate::daemon", &["cli/"]),
    ("dhcp::server", &["daemon.rs", "dhcp/"]),
    ("tftp::server", &["daemon.rs", "tftp/"]),
    ("http::server", &["daemon.rs", "http/"]),
    ("hyper", &["http/server.rs"]),
    ("rustls", &["http/tls.rs"]),
    ("fastpath::loader", &["fastpath/"]),
    ("aya_log::", &["fastpath/"]),
    ("jsonc_parser", &["config/", "inventory/", "import/kea.rs"]),
    ("rtnetlink", &["net/"]),
    ("minijinja", &["inventory/jinja.rs", "inventory/rendering.rs"]),
    ("serde_saphyr", &["inventory/user_data.rs"]),
];

/// Folders, and the other parts that they may import.
const KNOWS: &[(&str, &[&str])] = &[
    ("mac.rs", &[]),
    ("uuid.rs", &[]),
    ("beneath.rs", &[]),
    ("config/", &["inventory", "mac"]),
    ("inventory/", &["beneath", "mac", "config", "uuid"]),
    ("loader/", &["mac", "config", "inventory"]),
    ("orders.rs", &["mac", "inventory", "loader", "store"]),
    ("store/", &[]),
    ("net/", &["mac"]),
    ("timeline/", &["mac"]),
    ("dhcp/", &["mac", "config", "inventory", "net", "store", "timeline", "uuid"]),
    ("import/", &["mac", "config", "inventory", "dhcp"]),
    ("capture/", &["mac", "net", "tftp", "fastpath"]),
    ("fastpath/", &["mac", "config", "inventory", "net", "dhcp", "timeline"]),
    ("tftp/", &["beneath", "config", "inventory", "loader", "mac", "net", "timeline"]),
    (
        "http/",
        &[
            "beneath",
            "config",
            "dhcp",
            "inventory",
            "loader",
            "mac",
            "net",
            "orders",
            "store",
            "tftp",
            "timeline",
            "uuid",
        ],
    ),
];

/// Every source file below `src`, as (path relative to it, code outside comments and tests).
fn sources() -> Vec<(String, String)> {
    fn walk(root: &Path, directory: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                if name.ends_with("tests.rs") {
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                let code: Vec<&str> =
                    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                found.push((name, code.join("\n")));
            }
        }
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources are where this test looks for them");
    found
}

#[test]
fn decisions_are_pure() {
    let sources = sources();
    for pure in PURE {
        let (_, code) =
            sources.iter().find(|(name, _)| name == pure).unwrap_or_else(|| panic!("{pure} is gone"));
        for effect in EFFECTS {
            assert!(!code.contains(effect), "{pure} decides only, but says `{effect}`");
        }
    }
}

#[test]
fn each_crate_has_its_home() {
    for (name, code) in sources() {
        for (word, homes) in HOMES {
            let at_home = homes.iter().any(|home| name.starts_with(home));
            assert!(at_home || !code.contains(word), "{name} says `{word}`, which belongs into {homes:?}");
        }
    }
}

#[test]
fn parts_know_only_whom_they_may() {
    for (name, code) in sources() {
        let Some((folder, allowed)) = KNOWS.iter().find(|(folder, _)| name.starts_with(folder)) else {
            assert!(
                ["lib.rs", "main.rs", "daemon.rs"].contains(&name.as_str())
                    || name.starts_with("cli/")
                    || name.starts_with("daemon/"),
                "{name} has no line in the table"
            );
            continue;
        };
        for import in code.split("crate::").skip(1) {
            let part: String = import.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let own = folder.trim_end_matches('/').trim_end_matches(".rs");
            assert!(
                part == own || allowed.contains(&part.as_str()) || !is_part(&part),
                "{name} imports crate::{part}; {folder} may know {allowed:?}"
            );
        }
    }
}

/// Whether it is a part of the house, and not a macro's or a path's beginning.
fn is_part(name: &str) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    source.join(name).is_dir() || source.join(name).with_extension("rs").is_file()
}

#[test]
fn every_promise_has_its_test() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for root in [package.join("src"), package.join("tests/it"), package.join("../netboot-ebpf/src")] {
        read_all(&root, &mut code);
    }
    let text = fs::read_to_string(package.join("SPECIFICATION.md")).unwrap();
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|word| word.contains("::")).collect();
    assert!(named.len() > 40, "the promises name their tests in backticks");
    for test in named {
        let name = test.rsplit("::").next().unwrap_or_default();
        assert!(
            code.contains(&format!("fn {name}(")),
            "SPECIFICATION.md names `{test}`, which does not exist"
        );
    }
    // Every numbered line names at least one.
    for line in text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        assert!(line.contains("::"), "a promise without a test: {line}");
    }
}

/// Everything that Rust files below a directory say.
fn read_all(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
