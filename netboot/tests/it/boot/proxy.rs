//! Machines that boot through proxyDHCP: a foreign server's address, this server's boot files.

use std::path::Path;

use tempfile::TempDir;
use xtask::lab::{Accel, Blade, Firmware, Lab, Report, Server, Step, data_directory};

use super::{DEADLINE, RESERVED, turn, uefi};
use crate::proxy::Foreign;

/// Boots [`RESERVED`] beside a server that gives it its address, and another name.
fn boot(firmware: Firmware, prepare: impl FnOnce(&Path)) -> (Report, Vec<Step>) {
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    data_directory(&data).unwrap();
    prepare(&data);
    let lab = Lab::new().unwrap();
    let foreign = Foreign::start(&lab, &[&format!("{RESERVED},192.168.90.11,theirs")]);
    let netboot = Path::new(env!("CARGO_BIN_EXE_netboot"));
    let server = Server::start(&lab, netboot, &data, &["--mode", "proxy"]).unwrap();
    let kernel_log = place.path().join("kernel.log");
    let mut blade = Blade::start_with(firmware, &lab, RESERVED, Accel::Tcg, &kernel_log).unwrap();
    let report = blade.report(DEADLINE).unwrap_or_else(|error| {
        panic!("{error:#}\nserver:\n{}\nforeign:\n{}", server.child().output(), foreign.log())
    });
    let steps = server.steps();
    server.stop().unwrap();
    (report, steps)
}

/// The addresses came from the other server, everything else from this one.
fn has_their_address_and_our_config(report: &Report, steps: &[Step]) {
    for (field, told) in [("server", "192.168.90.3"), ("address", "192.168.90.11/24"), ("hostname", "theirs")]
    {
        assert_eq!(report.field(field), told, "{report:?}");
    }
    assert!(report.field("status").contains(" 200"), "{report:?}");
    for own in ["#cloud-config", "blade1", "192.168.90.11", "203.0.113.11"] {
        assert!(report.cloud_config.contains(own), "{own} is not in\n{}", report.cloud_config);
    }
    let dhcp = |step: &&Step| step.name() == "dhcp";
    assert!(
        steps.iter().filter(dhcp).all(|step| step.text("reply").starts_with("boot-")),
        "it was given no address here: {steps:?}"
    );
}

/// Classes and replies in the order of the boot.
fn told(steps: &[Step]) -> Vec<(&str, &str)> {
    let dhcp = steps.iter().filter(|step| step.name() == "dhcp");
    let mut told: Vec<_> = dhcp.map(|step| (step.text("class"), step.text("reply"))).collect();
    // Who was slow to listen asks twice.
    told.dedup();
    told
}

#[test]
fn a_machine_boots_to_its_cloud_config_with_a_foreign_servers_address() {
    let Some(_turn) = turn() else { return };
    let (report, steps) = boot(Firmware::Bios, |_| {});
    has_their_address_and_our_config(&report, &steps);
    assert_eq!(told(&steps), [("ipxe", "boot-offer")]);
    let channel = |step: &Step| step.text("file").ends_with("pxelinux.cfg/stable");
    assert!(steps.iter().any(|step| step.name() == "tftp-done" && channel(step)), "{steps:?}");
}

/// EDK II shows the prompt, takes the first item and asks for it on port 4011; the iPXE that it loads sees no menu.
#[test]
fn a_uefi_machine_takes_the_first_item_of_the_menu_and_boots() {
    const SETTINGS: &str =
        r#"{"dhcp": {"menu": {"prompt": "F8?", "timeout_secs": 1, "items": ["stable", "local"]}}}"#;
    let Some(_turn) = turn() else { return };
    let (report, steps) = boot(Firmware::UefiPxe, |data| {
        uefi::ipxe(data);
        std::fs::write(data.join("netboot.json"), SETTINGS).unwrap();
    });
    has_their_address_and_our_config(&report, &steps);
    assert_eq!(told(&steps), [("efi64", "boot-offer"), ("efi64", "boot-ack"), ("ipxe", "boot-offer")]);
}
