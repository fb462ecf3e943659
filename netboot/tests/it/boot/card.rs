//! A machine that boots with a card that nobody has reserved anything for: it is known by its UUID.

use std::collections::BTreeSet;
use std::path::Path;

use tempfile::TempDir;
use xtask::lab::{Accel, Blade, Lab, Server, data_directory};

use super::{DEADLINE, RESERVED, is_the_first_blade, turn};

const UUID: &str = "4c4c4544-0042-3510-8058-b9c04f4a3333";
const CARD: &str = "52:54:00:aa:bb:02";

/// Its ROM (iPXE) says the UUID, its Linux (udhcpc) does not.
#[test]
fn a_machine_with_another_card_boots_to_its_own_cloud_config() {
    let Some(_turn) = turn() else { return };
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    data_directory(&data).unwrap();
    let hosts = data.join("pxe_hosts.json");
    let text = std::fs::read_to_string(&hosts).unwrap();
    let named = format!("\"macaddr\": \"{RESERVED}\", \"uuid\": \"{UUID}\"");
    let with_uuid = text.replacen(&format!("\"macaddr\": \"{RESERVED}\""), &named, 1);
    assert_ne!(with_uuid, text);
    std::fs::write(&hosts, with_uuid).unwrap();
    let lab = Lab::new().unwrap();
    let server = Server::start(&lab, Path::new(env!("CARGO_BIN_EXE_netboot")), &data, &[]).unwrap();
    let kernel_log = place.path().join("kernel.log");
    let mut blade = Blade::start_as(UUID, &lab, CARD, Accel::Tcg, &kernel_log).unwrap();
    let report = blade
        .report(DEADLINE)
        .unwrap_or_else(|error| panic!("{error:#}\nserver:\n{}", server.child().output()));
    is_the_first_blade(&report);
    let steps = server.steps();
    let channel = |file: &str| file.ends_with("pxelinux.cfg/stable");
    assert!(steps.iter().any(|step| step.name() == "tftp-done" && channel(step.text("file"))), "{steps:?}");
    let dhcp: Vec<_> = steps.iter().filter(|step| step.name() == "dhcp").collect();
    // Of an OFFER and an ACK for the ROM, then for the system.
    let classes: BTreeSet<_> = dhcp.iter().map(|step| step.text("class")).collect();
    assert!(classes.len() > 1 && dhcp.iter().all(|step| step.text("mac") == RESERVED), "{dhcp:?}");
    let log = server.stop().unwrap();
    let line = format!("{CARD} is another card of blade1 (uuid {UUID})");
    assert_eq!(log.matches(&line).count(), 1, "{log}");
}
