//! Machines that are switched on together: what one of them causes must not keep another from booting.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use xtask::lab::{Accel, Blade, Lab, Server, data_directory};

use super::{RESERVED, UNKNOWN, default_menu, is_a_stranger, is_the_first_blade, turn};

/// The second machine of `data.sample/pxe_hosts.json`.
const SECOND: &str = "52:54:00:12:34:57";
/// Three machines in software on two processors.
const DEADLINE: Duration = Duration::from_mins(5);

#[test]
fn three_machines_boot_at_once_one_of_them_unknown() {
    let Some(_turn) = turn() else { return };
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    data_directory(&data).unwrap();
    default_menu(&data);
    let lab = Lab::new().unwrap();
    let server = Server::start(&lab, Path::new(env!("CARGO_BIN_EXE_netboot")), &data, &[]).unwrap();
    // The newcomer first: with its lease the daemon has the most to do.
    let mut blades = [UNKNOWN, RESERVED, SECOND]
        .map(|mac| Blade::start(&lab, mac, Accel::Tcg, &place.path().join(mac)).unwrap());
    let [unknown, first, second] = blades.each_mut().map(|blade| {
        blade
            .report(DEADLINE)
            .unwrap_or_else(|error| panic!("{error:#}\nserver:\n{}", server.child().output()))
    });

    is_the_first_blade(&first);
    assert_eq!((second.field("hostname"), second.field("address")), ("blade2", "192.168.90.12/24"));
    assert!(second.field("status").contains(" 200") && second.cloud_config.contains("blade2"), "{second:?}");
    is_a_stranger(&unknown);

    let steps = server.steps();
    // What is on disk XDP may offer to the unknown one; only the daemon makes it longer.
    let by = |mac: &str| -> BTreeSet<&str> {
        let own = steps.iter().filter(|step| step.text("reply") == "ack" && step.text("mac") == mac);
        own.map(|step| step.text("by")).collect()
    };
    for (mac, expected) in [(RESERVED, "xdp"), (SECOND, "xdp"), (UNKNOWN, "daemon")] {
        assert_eq!(by(mac), BTreeSet::from([expected]), "{mac}");
    }
    assert!(steps.iter().all(|step| step.text("reply") != "nak"), "{steps:?}");
    server.stop().unwrap();
}
