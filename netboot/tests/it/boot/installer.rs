//! Debian's own installer: kernel and initrd from here, and then it asks for its preseed, which is made for the machine.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xtask::lab::{Accel, Blade, Firmware, Lab, Server, data_directory};
use xtask::packages::INSTALLER;

use super::{RESERVED, turn};

/// It unpacks 40 MB and loads its modules before it has a network: a minute in software, on an idle machine.
const DEADLINE: Duration = Duration::from_mins(4);
/// With less it begins with a question.
const MEMORY: u32 = 1536;

/// What is built in, unattended, and on the console that is read here.
const PROFILE: &str = r#"{
    "parent": "debian",
    "cmdline": "auto=true priority=critical url=$http/t/preseed.cfg DEBIAN_FRONTEND=text console=ttyS0",
}"#;

/// Without a name server it asks for one, before it has its preseed.
const SETTINGS: &str = r#"{"dhcp": {"dns": ["192.168.90.2"]}}"#;

/// Gives the first blade the profile `debian`, and the installer's files to it.
fn debian(data: &Path) {
    let hosts = data.join("pxe_hosts.json");
    let text = fs::read_to_string(&hosts).unwrap();
    let own = "\"$hostname\": \"blade1\",";
    fs::write(&hosts, text.replace(own, &format!("{own} \"profile\": \"debian\","))).unwrap();
    fs::create_dir_all(data.join("profiles")).unwrap();
    fs::write(data.join("profiles/debian.json"), PROFILE).unwrap();
    fs::write(data.join("netboot.json"), SETTINGS).unwrap();
    let tftp = data.join("tftp/debian-installer/amd64");
    fs::create_dir_all(&tftp).unwrap();
    for file in ["linux", "initrd.gz"] {
        let image = "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64";
        fs::copy(INSTALLER.file(&format!("{image}/{file}")).unwrap(), tftp.join(file)).unwrap();
    }
}

#[test]
fn debians_installer_asks_for_its_preseed() {
    let Some(_turn) = turn() else { return };
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    data_directory(&data).unwrap();
    debian(&data);
    let lab = Lab::new().unwrap();
    let server = Server::start(&lab, Path::new(env!("CARGO_BIN_EXE_netboot")), &data, &[]).unwrap();
    let kernel_log = place.path().join("kernel.log");
    let (firmware, accel) = (Firmware::Bios, Accel::Tcg);
    let mut blade = Blade::start_sized(MEMORY, firmware, &lab, RESERVED, accel, &kernel_log).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let preseed = || {
        let mut steps = server.steps().into_iter();
        steps.find(|step| step.text("request") == "GET /t/preseed.cfg")
    };
    let asked = loop {
        if let Some(step) = preseed() {
            break step;
        }
        let up = Instant::now() < deadline && !blade.is_off();
        assert!(up, "{}\nserver:\n{}", blade.console(), server.child().output());
        blade.next_line(Duration::from_secs(1));
    };
    assert_eq!((asked.number("status"), asked.text("addr")), (200, "192.168.90.11"));
    for file in ["linux", "initrd.gz"] {
        let request = format!("GET /tftp/debian-installer/amd64/{file}");
        assert!(server.steps().iter().any(|step| step.text("request") == request), "{:?}", server.steps());
    }
    server.stop().unwrap();
}
