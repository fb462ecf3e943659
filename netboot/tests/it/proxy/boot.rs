//! A machine that boots through proxyDHCP: QEMU's iPXE ROM, the foreign server's address, this server's boot file.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use xtask::lab::{Accel, Blade, Lab, Server, data_directory};

use super::Foreign;
use crate::boot::skipped;

/// The first machine of `data.sample/pxe_hosts.json`.
const RESERVED: &str = "52:54:00:12:34:56";
/// As for the other boots.
const DEADLINE: Duration = Duration::from_mins(4);

#[test]
fn a_machine_boots_to_its_cloud_config_with_a_foreign_servers_address() {
    if skipped() {
        return;
    }
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    data_directory(&data).unwrap();
    let lab = Lab::new().unwrap();
    let foreign = Foreign::start(&lab, &["52:54:00:12:34:56,192.168.90.11,theirs"]);
    let netboot = Path::new(env!("CARGO_BIN_EXE_netboot"));
    let server = Server::start(&lab, netboot, &data, &["--mode", "proxy"]).unwrap();
    let mut blade = Blade::start(&lab, RESERVED, Accel::Tcg, &place.path().join("kernel.log")).unwrap();
    let report = blade.report(DEADLINE).unwrap_or_else(|error| {
        panic!("{error:#}\nserver:\n{}\nforeign:\n{}", server.child().output(), foreign.log())
    });
    let steps = server.steps();
    server.stop().unwrap();
    for (field, told) in [("server", "192.168.90.3"), ("address", "192.168.90.11/24"), ("hostname", "theirs")]
    {
        assert_eq!(report.field(field), told, "{report:?}");
    }
    assert!(report.field("status").contains(" 200"), "{report:?}");
    for own in ["#cloud-config", "blade1", "192.168.90.11", "203.0.113.11"] {
        assert!(report.cloud_config.contains(own), "{own} is not in\n{}", report.cloud_config);
    }
    let dhcp: Vec<_> = steps.iter().filter(|step| step.name() == "dhcp").collect();
    assert!(dhcp.iter().any(|step| step.text("reply") == "boot-offer"), "{steps:?}");
    assert!(
        dhcp.iter().all(|step| step.text("reply").starts_with("boot-")),
        "no address was given: {steps:?}"
    );
    let channel = |step: &xtask::lab::Step| step.text("file").ends_with("pxelinux.cfg/stable");
    assert!(steps.iter().any(|step| step.name() == "tftp-done" && channel(step)), "{steps:?}");
}
