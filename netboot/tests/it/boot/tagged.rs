//! A machine behind a port of a switch that gives its frames a tag, as a rack's switch does: firmware, loader and system know
//! of none, and XDP answers them on the trunk. The relay that tags is the lab's own (`xtask::lab::Vlan`).

use std::collections::BTreeSet;
use std::path::Path;

use tempfile::TempDir;
use xtask::lab::{Accel, Blade, Lab, Server, data_directory};

use super::{DEADLINE, RESERVED, answered_by, is_the_first_blade, turn};

#[test]
fn a_tagged_machine_boots_by_xdp_on_the_trunk() {
    let Some(_turn) = turn() else { return };
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    data_directory(&data).unwrap();
    let lab = Lab::new().unwrap();
    let trunk = lab.trunk(&[90]).unwrap();
    let netboot = Path::new(env!("CARGO_BIN_EXE_netboot"));
    let arguments = ["--trunk", "pxe0", "--vlan", "90"];
    let server = Server::start_on(&trunk.interface, &lab, netboot, &data, &arguments).unwrap();
    let mut blade = Blade::start(&lab, RESERVED, Accel::Tcg, &place.path().join("kernel.log")).unwrap();
    let report = blade
        .report(DEADLINE)
        .unwrap_or_else(|error| panic!("{error:#}\nserver:\n{}", server.child().output()));
    is_the_first_blade(&report);
    assert_eq!(answered_by(&server.steps()), BTreeSet::from(["xdp"]));
    // All of it came with the tag.
    assert_ne!(trunk.own.received(), 0);
    assert_eq!(trunk.access.others(), 0);
    server.stop().unwrap();
}
