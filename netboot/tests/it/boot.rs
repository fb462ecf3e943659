//! Machines that boot: QEMU, real firmware, real boot loaders, a real Linux, against the real daemon.
//!
//! Each boot has a lab of its own. The tests take turns: a machine in software takes a processor for itself. Left out
//! by `cargo xtask test --quick`.

mod card;
mod installer;
mod profile;
mod proxy;
mod rack;
#[cfg(feature = "fastpath")]
mod tagged;
mod uefi;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use xtask::lab::{Accel, Blade, Firmware, Lab, Report, Server, Step, data_directory, guest};
use xtask::packages::Package;

/// The first machine of `data.sample/pxe_hosts.json`.
const RESERVED: &str = "52:54:00:12:34:56";
/// A machine that nobody has reserved anything for.
const UNKNOWN: &str = "52:54:00:aa:bb:01";
/// A boot takes 30 s on an idle machine; three at once on two busy processors take longer.
const DEADLINE: Duration = Duration::from_mins(4);

/// What is missing here for a boot, each as a sentence.
fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !Path::new("/dev/net/tun").exists() {
        missing.push("no /dev/net/tun, so no virtual machine can be plugged in");
    }
    if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        missing.push("no qemu-system-x86_64: run cargo xtask setup");
    }
    if guest::built().is_none() {
        missing.push("no guest in target/lab: run cargo xtask setup");
    }
    if !Package::ALL.iter().all(|package| package.dir().exists()) {
        missing.push("not all packages are below target/lab: run cargo xtask setup");
    }
    missing
}

/// Tests that boot now. A machine in software takes a processor for itself, so there are as many at once as there are of these.
static BOOTING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A place among them; free when it is dropped.
struct Turn;

impl Turn {
    fn take() -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        let booting = BOOTING.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut booting =
            BOOTING.1.wait_while(booting, |booting| *booting >= most).unwrap_or_else(PoisonError::into_inner);
        *booting += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *BOOTING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        BOOTING.1.notify_one();
    }
}

/// Waits for this test's turn. `None` when nothing boots here; then it says why, past the test runner's capture.
fn turn() -> Option<Turn> {
    let missing = missing();
    for why in &missing {
        #[allow(clippy::explicit_write, reason = "eprintln is captured by the test runner")]
        writeln!(std::io::stderr(), "skipped: {why}").unwrap();
    }
    missing.is_empty().then(Turn::take)
}

/// Where taps can be made, a boot has no excuse.
#[test]
fn no_boot_is_skipped_where_there_are_taps() {
    if Path::new("/dev/net/tun").exists() {
        assert_eq!(missing(), [""; 0]);
    }
}

/// What one boot left behind.
struct Boot {
    report: Report,
    steps: Vec<Step>,
    /// The BOOTP messages of all DHCP replies seen on the wire, without what is random in each boot.
    replies: Vec<Vec<u8>>,
    /// Router solicitations that were answered.
    router_answers: u64,
    /// What TFTP has counted, refusals too; null if nobody has asked.
    tftp: serde_json::Value,
}

/// Boots a BIOS machine against a server on a copy of the sample's data directory, changed by `prepare`.
fn boot(mac: &str, arguments: &[&str], prepare: impl FnOnce(&Path)) -> Boot {
    boot_with(Firmware::Bios, mac, arguments, prepare)
}

/// The same with this firmware.
fn boot_with(firmware: Firmware, mac: &str, arguments: &[&str], prepare: impl FnOnce(&Path)) -> Boot {
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    data_directory(&data).unwrap();
    prepare(&data);
    let lab = Lab::new().unwrap();
    let capture = lab.capture(&place.path().join("dhcp.pcap")).unwrap();
    let server = Server::start(&lab, Path::new(env!("CARGO_BIN_EXE_netboot")), &data, arguments).unwrap();
    let kernel_log = place.path().join("kernel.log");
    let mut blade = Blade::start_with(firmware, &lab, mac, Accel::Tcg, &kernel_log).unwrap();
    let report = blade
        .report(DEADLINE)
        .unwrap_or_else(|error| panic!("{error:#}\nserver:\n{}", server.child().output()));
    let steps = server.steps();
    let status = lab.server.shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/status").unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let router_answers = status["counters"]["ra"]["answered"].as_u64().unwrap_or_default();
    let tftp = status["counters"]["tftp"].clone();
    server.stop().unwrap();
    let replies = capture.frames().unwrap().iter().filter_map(|frame| reply(frame)).collect();
    Boot { report, steps, replies, router_answers, tftp }
}

/// The BOOTP message of a DHCP reply, with `xid` and `secs` (RFC 2131 2), which the client makes up, set to zero.
fn reply(frame: &[u8]) -> Option<Vec<u8>> {
    const BOOTPS: [u8; 2] = [0, 67];
    let ip = frame.get(14..)?;
    let udp = ip.get(usize::from(ip.first()? & 0x0f) * 4..)?;
    if udp.get(..2)? != BOOTPS {
        return None;
    }
    let length = usize::from(u16::from_be_bytes(udp.get(4..6)?.try_into().ok()?));
    let mut message = udp.get(8..length)?.to_vec();
    message.get_mut(4..10)?.fill(0);
    Some(message)
}

/// Who has acknowledged addresses.
fn acknowledged_by(steps: &[Step]) -> BTreeSet<&str> {
    let acks = steps.iter().filter(|step| step.text("reply") == "ack");
    acks.map(|step| step.text("by")).collect()
}

/// Who sent the offers and acknowledgements: `xdp`, `daemon` or both.
fn answered_by(steps: &[Step]) -> BTreeSet<&str> {
    steps.iter().filter(|step| step.name() == "dhcp").map(|step| step.text("by")).collect()
}

/// Puts a file of a hundred megabytes beside the blade's system, in the same image; its SHA-256 as the blade says it.
fn large_image(data: &Path) -> String {
    let place = TempDir::new().unwrap();
    // Bytes that show where they stand, so that none can be in another's place.
    let content: Vec<u8> =
        (0..25_000_000_u32).flat_map(|word| word.wrapping_mul(0x9e37_79b1).to_be_bytes()).collect();
    std::fs::write(place.path().join("large"), content).unwrap();
    let image = data.join("tftp/coreos_stable_pxe_image.cpio.gz");
    // The kernel reads one archive behind the other; each begins at a multiple of four bytes.
    let line = "set -e; b=$1; cd \"$2\"; truncate -s %4 \"$3\"; echo large | $b cpio -o -H newc >>\"$3\"; sha256sum <large";
    let busybox = xtask::packages::BUSYBOX.file("bin/busybox").unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", line, "sh"])
        .arg(busybox)
        .arg(place.path())
        .arg(image)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn has_its_own_config(boot: &Boot) {
    is_the_first_blade(&boot.report);
    let channel = boot
        .steps
        .iter()
        .any(|step| step.name() == "tftp-done" && step.text("file").ends_with("pxelinux.cfg/stable"));
    assert!(channel, "the loader was not sent to its channel's file: {:?}", boot.steps);
}

/// The report is that of [`RESERVED`], with its own cloud-config and nothing left to fill in.
fn is_the_first_blade(report: &Report) {
    assert_eq!(report.field("hostname"), "blade1");
    assert_eq!(report.field("address"), "192.168.90.11/24");
    assert_eq!(report.field("server"), "192.168.90.2");
    assert!(report.field("status").contains(" 200"), "{report:?}");
    let config = &report.cloud_config;
    assert!(config.starts_with("#cloud-config"), "{config}");
    for own in ["blade1", "192.168.90.11", "203.0.113.11"] {
        assert!(config.contains(own), "{own} is not in\n{config}");
    }
    for name in ["$hostname", "$private_ipv4", "$public_ipv4"] {
        assert!(!config.contains(name), "{name} is still in\n{config}");
    }
}

/// Two boots of one machine, side by side: its DHCP answered by XDP, and by the daemon. The same bytes either way.
#[test]
fn a_reserved_machine_boots_with_xdp_and_without_and_sees_no_difference() {
    let Some(_turn) = turn() else { return };
    let (with, without) = std::thread::scope(|scope| {
        let with = scope.spawn(|| boot(RESERVED, &[], |_| {}));
        let without = scope.spawn(|| boot(RESERVED, &["--xdp", "off"], |_| {}));
        (with.join().unwrap(), without.join().unwrap())
    });
    has_its_own_config(&with);
    has_its_own_config(&without);
    assert_eq!(answered_by(&with.steps), BTreeSet::from(["xdp"]));
    assert_eq!(answered_by(&without.steps), BTreeSet::from(["daemon"]));
    for boot in [&with, &without] {
        // Option 53 comes first: an OFFER and an ACK for the ROM, then for the system.
        let messages: Vec<u8> = boot.replies.iter().map(|reply| reply[242]).collect();
        let mut rounds = messages.clone();
        // A ROM that was slow to listen asks twice.
        rounds.dedup();
        assert_eq!(rounds, [2, 5, 2, 5], "{messages:?}");
        // Else its ROM would have waited for a router.
        assert_ne!(boot.router_answers, 0);
    }
    let different = |boot: &Boot| boot.replies.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(different(&with), different(&without));
}

/// The loader's configuration for a machine that no channel is known of.
fn default_menu(data: &Path) {
    const CONFIG: &str = "DEFAULT linux\nPROMPT 0\nLABEL linux\nKERNEL coreos_stable_pxe.vmlinuz\n\
        APPEND initrd=coreos_stable_pxe_image.cpio.gz console=ttyS1,19200n8 cloud-config-url=http://192.168.90.2:8080\n";
    let directory = data.join("tftp/pxelinux.cfg");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("default"), CONFIG).unwrap();
}

/// The report is that of a machine without a reservation: an address of the pool, and the text that says what to do.
fn is_a_stranger(report: &Report) {
    let addr: Ipv4Addr = report.field("address").strip_suffix("/24").unwrap().parse().unwrap();
    let pool = Ipv4Addr::new(192, 168, 90, 10)..=Ipv4Addr::new(192, 168, 90, 250);
    assert!(pool.contains(&addr), "{addr}");
    assert!(!(11..=13).contains(&addr.octets()[3]), "{addr} is reserved for another machine");
    assert!(report.field("status").contains(" 404"), "{report:?}");
    assert!(report.cloud_config.starts_with("#cloud-config"), "{report:?}");
    for word in [addr.to_string().as_str(), "pxe_hosts.json"] {
        assert!(report.cloud_config.contains(word), "{word} is not in\n{}", report.cloud_config);
    }
}

#[test]
fn an_unknown_machine_gets_a_pool_address_and_is_told_where_to_add_itself() {
    let Some(_turn) = turn() else { return };
    let mut sum = String::new();
    let boot = boot(UNKNOWN, &[], |data| {
        default_menu(data);
        sum = large_image(data);
    });
    is_a_stranger(&boot.report);
    assert_eq!(boot.report.field("large"), sum, "a hundred megabytes by pxelinux");
    // What is on disk XDP may offer; only the daemon makes it longer.
    assert_eq!(acknowledged_by(&boot.steps), BTreeSet::from(["daemon"]));
    assert_ne!(boot.router_answers, 0);
}
