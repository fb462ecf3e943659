//! UEFI machines: OVMF asks as x64 (option 93: 7 for PXE, 16 for HTTP boot), loads iPXE or GRUB, and that loads Linux.

use std::collections::BTreeSet;
use std::path::Path;

use xtask::lab::Firmware;
use xtask::packages::{GRUB, IPXE};

use super::{Boot, RESERVED, boot_with, is_the_first_blade, large_image, turn};

/// What both loaders put behind the kernel: its messages go where the blade's report does not, as on the generated command line.
const COMMAND_LINE: &str = "console=ttyS1,19200n8 cloud-config-url=http://192.168.90.2:8080";

/// iPXE as the boot loader, and its script: kernel and initramfs over HTTP.
pub(super) fn ipxe(data: &Path) {
    ipxe_by(data, "http://192.168.90.2:8080/tftp");
}

/// The same, by this road.
fn ipxe_by(data: &Path, road: &str) {
    let tftp = data.join("tftp");
    std::fs::copy(IPXE.file("usr/lib/ipxe/snponly.efi").unwrap(), tftp.join("snponly.efi")).unwrap();
    let files = format!("{road}/coreos_stable_pxe");
    let script = format!(
        "#!ipxe\nkernel {files}.vmlinuz initrd=coreos_stable_pxe_image.cpio.gz {COMMAND_LINE}\n\
         initrd {files}_image.cpio.gz\nboot\n"
    );
    std::fs::write(tftp.join("boot.ipxe"), script).unwrap();
}

/// GRUB as the boot loader, and its configuration: kernel and initramfs over TFTP.
fn grub(data: &Path) {
    let tftp = data.join("tftp");
    let program = GRUB.file("usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed").unwrap();
    std::fs::copy(program, tftp.join("grubx64.efi")).unwrap();
    std::fs::create_dir(tftp.join("grub")).unwrap();
    let config = format!(
        "linux /coreos_stable_pxe.vmlinuz {COMMAND_LINE}\ninitrd /coreos_stable_pxe_image.cpio.gz\nboot\n"
    );
    std::fs::write(tftp.join("grub/grub.cfg"), config).unwrap();
}

/// The classes that were answered, in the order of the boot, and by whom.
fn answered(boot: &Boot) -> Vec<(&str, &str)> {
    let acks = boot.steps.iter().filter(|step| step.text("reply") == "ack");
    let mut answered: Vec<_> = acks.map(|step| (step.text("class"), step.text("by"))).collect();
    // Who was slow to listen asks twice.
    answered.dedup();
    answered
}

/// The files that were sent whole over TFTP.
pub(super) fn over_tftp(boot: &Boot) -> BTreeSet<&str> {
    let done = boot.steps.iter().filter(|step| step.name() == "tftp-done");
    done.map(|step| step.text("file").trim_start_matches('/')).collect()
}

/// The requests over HTTP that got their file.
pub(super) fn over_http(boot: &Boot) -> BTreeSet<&str> {
    let files = boot.steps.iter().filter(|step| step.text("what") == "file" && step.number("status") == 200);
    files.map(|step| step.text("request")).collect()
}

#[test]
fn a_uefi_machine_boots_by_pxe_and_ipxe() {
    let Some(_turn) = turn() else { return };
    let boot = boot_with(Firmware::UefiPxe, RESERVED, &[], ipxe);
    is_the_first_blade(&boot.report);
    assert_eq!(answered(&boot), [("efi64", "xdp"), ("ipxe", "xdp"), ("plain", "xdp")]);
    assert_eq!(over_tftp(&boot), BTreeSet::from(["boot.ipxe", "snponly.efi"]));
    let kernel = "GET /tftp/coreos_stable_pxe.vmlinuz";
    assert!(over_http(&boot).contains(kernel), "{:?}", boot.steps);
}

#[test]
fn a_uefi_machine_boots_by_pxe_and_grub() {
    let Some(_turn) = turn() else { return };
    let mut sum = String::new();
    let boot = boot_with(Firmware::UefiPxe, RESERVED, &["--xdp", "off"], |data| {
        grub(data);
        sum = large_image(data);
    });
    is_the_first_blade(&boot.report);
    assert_eq!(boot.report.field("large"), sum, "a hundred megabytes by GRUB's TFTP");
    assert_eq!(answered(&boot), [("efi64", "daemon"), ("plain", "daemon")]);
    let image = ["coreos_stable_pxe.vmlinuz", "coreos_stable_pxe_image.cpio.gz"];
    assert_eq!(over_tftp(&boot), BTreeSet::from([image[0], image[1], "grub/grub.cfg", "grubx64.efi"]));
    assert_eq!(over_http(&boot), BTreeSet::new());
}

#[test]
fn ipxe_reads_a_hundred_megabytes_over_tftp() {
    let Some(_turn) = turn() else { return };
    let mut sum = String::new();
    let boot = boot_with(Firmware::UefiPxe, RESERVED, &[], |data| {
        ipxe_by(data, "tftp://192.168.90.2");
        sum = large_image(data);
    });
    is_the_first_blade(&boot.report);
    assert_eq!(boot.report.field("large"), sum);
    assert!(over_tftp(&boot).contains("coreos_stable_pxe_image.cpio.gz"), "{:?}", boot.steps);
}

#[test]
fn a_uefi_machine_boots_by_http() {
    let Some(_turn) = turn() else { return };
    let boot = boot_with(Firmware::UefiHttp, RESERVED, &[], ipxe);
    is_the_first_blade(&boot.report);
    // iPXE comes as PXEClient after a boot by HTTP, too; its option 77 tells.
    assert_eq!(answered(&boot), [("http64", "xdp"), ("ipxe", "xdp"), ("plain", "xdp")]);
    let loader = ["HEAD /tftp/snponly.efi", "GET /tftp/snponly.efi"];
    assert!(over_http(&boot).is_superset(&BTreeSet::from(loader)), "{:?}", boot.steps);
    assert_eq!(over_tftp(&boot), BTreeSet::from(["boot.ipxe"]), "the loader came over HTTP alone");
}
