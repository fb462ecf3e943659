//! Machines that boot what their profile says: the loaders' configurations are made, none is on disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xtask::lab::{Accel, Blade, Firmware, Lab, Report, Server, data_directory};
use xtask::packages::{GRUB, IPXE};

use super::uefi::{over_http, over_tftp};
use super::{Boot, DEADLINE, RESERVED, boot_with, is_the_first_blade, turn};

/// The profile's image has names of its own, and the machine a line of its own: its console goes where it is read.
const LAB: &str = r#"{
    "kernel": "lab/vmlinuz", "initrd": "lab/initrd",
    "cmdline": "console=ttyS1,19200n8 profile=$profile;mac=$mac cloud-config-url=$http",
    "#;

/// Gives the first blade the profile `lab`, with these further members, and the image to it.
fn lab(data: &Path, members: &str) {
    let hosts = data.join("pxe_hosts.json");
    let text = fs::read_to_string(&hosts).unwrap();
    let own = "\"$hostname\": \"blade1\",";
    fs::write(&hosts, text.replace(own, &format!("{own} \"profile\": \"lab\","))).unwrap();
    fs::create_dir_all(data.join("profiles")).unwrap();
    fs::write(data.join("profiles/lab.json"), format!("{LAB}{members}}}")).unwrap();
    let tftp = data.join("tftp");
    fs::create_dir_all(tftp.join("lab")).unwrap();
    fs::rename(tftp.join("coreos_stable_pxe.vmlinuz"), tftp.join("lab/vmlinuz")).unwrap();
    fs::rename(tftp.join("coreos_stable_pxe_image.cpio.gz"), tftp.join("lab/initrd")).unwrap();
}

/// iPXE in the machine's ROM loads pxelinux, since it is told to.
const PXELINUX: &str = r#""boot": {"ipxe": "pxelinux.0"}"#;

fn grub(data: &Path) {
    let program = GRUB.file("usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed").unwrap();
    fs::copy(program, data.join("tftp/grubx64.efi")).unwrap();
}

fn ipxe(data: &Path) {
    fs::copy(IPXE.file("usr/lib/ipxe/snponly.efi").unwrap(), data.join("tftp/snponly.efi")).unwrap();
}

fn has(boot: &Boot, tftp: &[&str], http: &[&str]) {
    is_the_first_blade(&boot.report);
    assert_eq!(over_tftp(boot), tftp.iter().copied().collect::<BTreeSet<_>>(), "{:?}", boot.steps);
    let seen = over_http(boot);
    assert!(seen.is_superset(&http.iter().copied().collect()), "{seen:?}");
}

#[test]
fn a_bios_machine_boots_its_profile_by_pxelinux() {
    let Some(_turn) = turn() else { return };
    let boot = boot_with(Firmware::Bios, RESERVED, &[], |data| lab(data, PXELINUX));
    // Option 209 names its channel; what it gets there is its profile.
    let files = ["pxelinux.0", "ldlinux.c32", "pxelinux.cfg/stable", "lab/vmlinuz", "lab/initrd"];
    has(&boot, &files, &[]);
}

#[test]
fn a_bios_machine_boots_its_profile_by_the_ipxe_in_its_rom() {
    let Some(_turn) = turn() else { return };
    let boot = boot_with(Firmware::Bios, RESERVED, &[], |data| lab(data, ""));
    has(&boot, &["boot.ipxe"], &["GET /tftp/lab/vmlinuz", "GET /tftp/lab/initrd"]);
}

#[test]
fn a_uefi_machine_boots_its_profile_by_grub() {
    let Some(_turn) = turn() else { return };
    let boot = boot_with(Firmware::UefiPxe, RESERVED, &[], |data| {
        lab(data, "");
        grub(data);
    });
    has(&boot, &["grubx64.efi", "grub/grub.cfg", "lab/vmlinuz", "lab/initrd"], &[]);
}

#[test]
fn a_uefi_machine_boots_its_profile_by_ipxe() {
    let Some(_turn) = turn() else { return };
    let boot = boot_with(Firmware::UefiPxe, RESERVED, &[], |data| {
        lab(data, "");
        ipxe(data);
    });
    has(&boot, &["snponly.efi", "boot.ipxe"], &["GET /tftp/lab/vmlinuz", "GET /tftp/lab/initrd"]);
}

/// The script named by its URL: from the loader on nothing comes by TFTP.
#[test]
fn a_uefi_machine_boots_its_profile_over_http_alone() {
    let Some(_turn) = turn() else { return };
    let boot = boot_with(Firmware::UefiHttp, RESERVED, &[], |data| {
        lab(data, "");
        ipxe(data);
        let settings = r#"{"boot": {"ipxe": "http://192.168.90.2:8080/ipxe"}}"#;
        fs::write(data.join("netboot.json"), settings).unwrap();
    });
    has(&boot, &[], &["GET /tftp/snponly.efi", "GET /ipxe", "GET /tftp/lab/vmlinuz", "GET /tftp/lab/initrd"]);
    assert!(!boot.steps.iter().any(|step| step.name().starts_with("tftp")), "{:?}", boot.steps);
    assert!(boot.tftp.is_null(), "{}", boot.tftp);
}

/// What the loader says of a profile's kernel that is not there.
const ABSENT: &str = "kernel lab/vmlinuz of the profile lab is not in tftp/";

/// Boots a machine whose kernel is not there, and puts it there when the loader has said so on the console.
fn waits_for_its_kernel(firmware: Firmware, kernel: &str, said: &str, prepare: impl FnOnce(&Path)) -> Report {
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    data_directory(&data).unwrap();
    prepare(&data);
    let (kernel, aside) = (data.join("tftp").join(kernel), data.join("aside"));
    fs::rename(&kernel, &aside).unwrap();
    let lab = Lab::new().unwrap();
    let server = Server::start(&lab, Path::new(env!("CARGO_BIN_EXE_netboot")), &data, &[]).unwrap();
    let kernel_log = place.path().join("kernel.log");
    let mut blade = Blade::start_with(firmware, &lab, RESERVED, Accel::Tcg, &kernel_log).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while !blade.console().contains(said) {
        assert!(Instant::now() < deadline, "{}\nserver:\n{}", blade.console(), server.child().output());
        blade.next_line(Duration::from_secs(1));
    }
    fs::rename(&aside, &kernel).unwrap();
    let report = blade
        .report(DEADLINE)
        .unwrap_or_else(|error| panic!("{error:#}\nserver:\n{}", server.child().output()));
    server.stop().unwrap();
    report
}

#[test]
fn pxelinux_says_what_is_missing_and_tries_again() {
    let Some(_turn) = turn() else { return };
    let prepare = |data: &Path| lab(data, PXELINUX);
    is_the_first_blade(&waits_for_its_kernel(Firmware::Bios, "lab/vmlinuz", ABSENT, prepare));
}

#[test]
fn grub_says_what_is_missing_and_tries_again() {
    let Some(_turn) = turn() else { return };
    let prepare = |data: &Path| {
        lab(data, "");
        grub(data);
    };
    is_the_first_blade(&waits_for_its_kernel(Firmware::UefiPxe, "lab/vmlinuz", ABSENT, prepare));
}

#[test]
fn ipxe_says_what_is_missing_and_tries_again() {
    let Some(_turn) = turn() else { return };
    let prepare = |data: &Path| lab(data, "");
    is_the_first_blade(&waits_for_its_kernel(Firmware::Bios, "lab/vmlinuz", ABSENT, prepare));
}

/// The image of a channel that needs no profile.
const STABLE: &str = "coreos_stable_pxe.vmlinuz";

#[test]
fn pxelinux_tries_again_what_it_could_not_load() {
    let Some(_turn) = turn() else { return };
    is_the_first_blade(&waits_for_its_kernel(
        Firmware::Bios,
        STABLE,
        "failed: No such file or directory",
        |_| {},
    ));
}

#[test]
fn grub_tries_again_what_it_could_not_load() {
    let Some(_turn) = turn() else { return };
    let said = "netboot: trying again in 10 seconds";
    is_the_first_blade(&waits_for_its_kernel(Firmware::UefiPxe, STABLE, said, grub));
}

#[test]
fn ipxe_tries_again_what_it_could_not_load() {
    let Some(_turn) = turn() else { return };
    let said = "netboot: trying again in 10 seconds";
    is_the_first_blade(&waits_for_its_kernel(Firmware::UefiPxe, STABLE, said, ipxe));
}

/// The first boot is what was ordered, over the file on disk; the next is as before.
#[test]
fn a_machine_boots_once_what_was_ordered() {
    let Some(_turn) = turn() else { return };
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    data_directory(&data).unwrap();
    // The files of its channel have other names then, so that a boot of these ends at once.
    lab(&data, PXELINUX);
    let hosts = data.join("pxe_hosts.json");
    let text = fs::read_to_string(&hosts).unwrap();
    fs::write(&hosts, text.replace("\"profile\": \"lab\",", "")).unwrap();
    let lab = Lab::new().unwrap();
    let netboot = env!("CARGO_BIN_EXE_netboot");
    let server = Server::start(&lab, Path::new(netboot), &data, &[]).unwrap();
    let run = |arguments: &str| {
        let line = format!("{netboot} hosts {arguments} --data {}", data.display());
        lab.server.shell(&line).unwrap()
    };
    run("set 192.168.90.11 --next-boot lab");
    let kernel_log = place.path().join("kernel.log");
    let mut blade = Blade::start_with(Firmware::Bios, &lab, RESERVED, Accel::Tcg, &kernel_log).unwrap();
    let report = blade
        .report(DEADLINE)
        .unwrap_or_else(|error| panic!("{error:#}\nserver:\n{}", server.child().output()));
    is_the_first_blade(&report);
    assert!(server.steps().iter().any(|step| step.text("request").ends_with("/tftp/lab/initrd")));
    assert!(!run("").contains("boots lab"), "{}", run(""));
    let mut blade = Blade::start_with(Firmware::Bios, &lab, RESERVED, Accel::Tcg, &kernel_log).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while !blade.console().contains("coreos_stable_pxe.vmlinuz... failed") {
        assert!(Instant::now() < deadline, "{}\nserver:\n{}", blade.console(), server.child().output());
        blade.next_line(Duration::from_secs(1));
    }
    server.stop().unwrap();
}

/// Firmware, the profile's loaders, what lies in `tftp/`, and what the firmware says then.
type Case = (Firmware, &'static str, fn(&Path), &'static str);

#[test]
fn a_machine_that_is_to_boot_its_disk_is_given_back_to_its_firmware() {
    const DISK: &str = "Booting from Hard Disk...";
    let Some(_turn) = turn() else { return };
    let table: [Case; 4] = [
        (Firmware::Bios, r#"{"ipxe": "pxelinux.0"}"#, |_| {}, DISK),
        (Firmware::Bios, "{}", |_| {}, DISK),
        (Firmware::UefiPxe, "{}", grub, "starting Boot0000 \"UiApp\""),
        (Firmware::UefiPxe, "{}", ipxe, "failed to start Boot0002"),
    ];
    for (firmware, loaders, prepare, expected) in table {
        let place = TempDir::new().unwrap();
        let data = place.path().join("data");
        data_directory(&data).unwrap();
        lab(&data, "");
        let profile = format!("{{\"kind\": \"local-disk\", \"boot\": {loaders}}}");
        fs::write(data.join("profiles/lab.json"), profile).unwrap();
        prepare(&data);
        let lab = Lab::new().unwrap();
        let server = Server::start(&lab, Path::new(env!("CARGO_BIN_EXE_netboot")), &data, &[]).unwrap();
        let kernel_log = place.path().join("kernel.log");
        let mut blade = Blade::start_with(firmware, &lab, RESERVED, Accel::Tcg, &kernel_log).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while !blade.console().contains(expected) {
            assert!(Instant::now() < deadline, "{}\nserver:\n{}", blade.console(), server.child().output());
            blade.next_line(Duration::from_secs(1));
        }
        server.stop().unwrap();
    }
}
