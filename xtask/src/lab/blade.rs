//! A virtual blade: QEMU without a disk, its network card in the lab. It boots as a BIOS with an iPXE ROM, or as UEFI (OVMF).
//!
//! The first serial port has the firmware, the boot loader and the guest's own lines; it is what [`Blade::next_line`]
//! gives. The second, `ttyS1`, is the kernel's console and goes to a file.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::namespace::{Child, Namespace};
use super::network::Lab;
use crate::packages::OVMF;

/// A blade under KVM that says nothing for so long hangs. In a good boot iPXE is silent for some seconds.
const SILENCE: Duration = Duration::from_secs(20);

/// How the blade's processor is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// By the host's processor; quick where it works.
    Kvm,
    /// In software, everywhere.
    Tcg,
}

impl Accel {
    /// KVM where this process may use it and it has not failed before. Whether it works shows only when a guest runs:
    /// [`Blade`] falls back by itself, and remembers it for this kernel.
    pub fn best() -> Self {
        let failed = fs::read_to_string(failure()).is_ok_and(|kernel| kernel == running_kernel());
        if failed || OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
            return Self::Tcg;
        }
        Self::Kvm
    }
}

/// The file that says under which kernel KVM failed.
fn failure() -> PathBuf {
    crate::lab_dir().join("kvm-failed")
}

fn running_kernel() -> String {
    rustix::system::uname().version().to_string_lossy().into_owned()
}

/// What a blade begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// `SeaBIOS` with the iPXE ROM of the network card.
    Bios,
    /// OVMF, which boots by PXE, with drivers of its own: no iPXE before the loader.
    UefiPxe,
    /// OVMF, which boots by HTTP (UEFI 2.5, 24.7). It has no boot by PXE.
    UefiHttp,
}

/// What a blade has where nobody says, MiB.
const MEMORY: u32 = 768;

/// What a blade is.
#[derive(Clone, Debug)]
struct Machine {
    mac: String,
    /// What its firmware calls it; `None`: zeros, as of a board that was never given one.
    uuid: Option<String>,
    firmware: Firmware,
    /// MiB.
    memory: u32,
}

/// A running blade, switched off when dropped.
#[derive(Debug)]
pub struct Blade<'lab> {
    switch: &'lab Namespace,
    tap: String,
    machine: Machine,
    kernel_log: PathBuf,
    accel: Accel,
    child: Child,
    heard: Instant,
    console: String,
}

impl<'lab> Blade<'lab> {
    /// Switches a blade on that begins as a BIOS. Its kernel's messages go to `kernel_log`.
    ///
    /// # Errors
    /// When the tap cannot be made or QEMU cannot be started.
    pub fn start(lab: &'lab Lab, mac: &str, accel: Accel, kernel_log: &Path) -> Result<Self> {
        Self::start_with(Firmware::Bios, lab, mac, accel, kernel_log)
    }

    /// The same with this firmware.
    ///
    /// # Errors
    /// When the firmware is not there, the tap cannot be made or QEMU cannot be started.
    pub fn start_with(
        firmware: Firmware,
        lab: &'lab Lab,
        mac: &str,
        accel: Accel,
        kernel_log: &Path,
    ) -> Result<Self> {
        Self::start_sized(MEMORY, firmware, lab, mac, accel, kernel_log)
    }

    /// The same with so much memory, MiB.
    ///
    /// # Errors
    /// As above.
    pub fn start_sized(
        memory: u32,
        firmware: Firmware,
        lab: &'lab Lab,
        mac: &str,
        accel: Accel,
        kernel_log: &Path,
    ) -> Result<Self> {
        let machine = Machine { mac: mac.to_owned(), uuid: None, firmware, memory };
        Self::start_machine(machine, lab, accel, kernel_log)
    }

    /// As [`Self::start`], of a machine whose firmware has this UUID.
    ///
    /// # Errors
    /// As there.
    pub fn start_as(uuid: &str, lab: &'lab Lab, mac: &str, accel: Accel, kernel_log: &Path) -> Result<Self> {
        let (mac, uuid) = (mac.to_owned(), Some(uuid.to_owned()));
        let machine = Machine { mac, uuid, firmware: Firmware::Bios, memory: MEMORY };
        Self::start_machine(machine, lab, accel, kernel_log)
    }

    fn start_machine(machine: Machine, lab: &'lab Lab, accel: Accel, kernel_log: &Path) -> Result<Self> {
        let tap = lab.tap()?;
        let child = power_on(&lab.switch, &tap, &machine, accel, kernel_log)?;
        Ok(Self {
            switch: &lab.switch,
            tap,
            machine,
            kernel_log: kernel_log.to_owned(),
            accel,
            child,
            heard: Instant::now(),
            console: String::new(),
        })
    }

    /// How its processor is made now.
    pub fn accel(&self) -> Accel {
        self.accel
    }

    /// All that its console showed so far, without control characters.
    pub fn console(&self) -> &str {
        &self.console
    }

    /// Whether it is off. Lines that it printed before may still wait to be read.
    pub fn is_off(&mut self) -> bool {
        self.child.wait(Duration::ZERO).is_ok()
    }

    /// The next line of its console, `None` when there is none within the time. A blade that dies or hangs under
    /// KVM is switched on again in software; the line returned then says so.
    pub fn next_line(&mut self, within: Duration) -> Option<String> {
        let raw = self.child.next_line(within);
        if let Some(raw) = &raw {
            self.heard = Instant::now();
            let line = printable(raw);
            self.console.push_str(&line);
            self.console.push('\n');
        }
        if self.accel == Accel::Kvm && self.is_broken(raw.as_deref()) {
            return Some(match self.fall_back() {
                Ok(()) => "KVM does not work on this machine: switched on again in software".to_owned(),
                Err(error) => format!("KVM does not work on this machine, and: {error:#}"),
            });
        }
        raw.map(|raw| printable(&raw))
    }

    /// Waits until it has reported and is off.
    ///
    /// # Errors
    /// When the time is up or it went off first; the error has its console.
    pub fn report(&mut self, within: Duration) -> Result<Report> {
        let deadline = Instant::now() + within;
        let mut off = false;
        while Instant::now() < deadline {
            // A blade that was off under KVM is on again after its next line.
            if self.next_line(Duration::from_millis(200)).is_some() {
                off = false;
            } else if off {
                break;
            } else {
                off = self.is_off();
            }
        }
        let console = &self.console;
        Report::parse(console).with_context(|| {
            format!("{} did not report within {within:?}; its console:\n{console}", self.machine.mac)
        })
    }

    /// Under KVM: stopped by an error, gone before its guest had a word, or silent for too long.
    fn is_broken(&mut self, line: Option<&str>) -> bool {
        match line {
            Some(line) => line.contains("KVM internal error") || line.contains("failed to initialize kvm"),
            None => {
                self.heard.elapsed() > SILENCE || (self.is_off() && !self.console.contains("netboot blade: "))
            }
        }
    }

    fn fall_back(&mut self) -> Result<()> {
        self.accel = Accel::Tcg;
        // Only saves time: where it cannot be written the next run finds out anew.
        let _ = fs::write(failure(), running_kernel());
        if !self.is_off() {
            self.child.signal("KILL")?;
            self.child.wait(Duration::from_secs(5))?;
        }
        let Self { switch, tap, machine, accel, kernel_log, .. } = self;
        self.child = power_on(switch, tap, machine, *accel, kernel_log)?;
        self.heard = Instant::now();
        Ok(())
    }
}

fn power_on(
    switch: &Namespace,
    tap: &str,
    machine: &Machine,
    accel: Accel,
    kernel_log: &Path,
) -> Result<Child> {
    let Machine { mac, uuid, firmware, memory } = machine;
    let mut command: Command = switch.command("qemu-system-x86_64");
    command.args(match accel {
        Accel::Kvm => ["-accel", "kvm", "-cpu", "host"],
        Accel::Tcg => ["-accel", "tcg", "-cpu", "max"],
    });
    // UEFI writes to the first serial port by itself; graphics=off makes the BIOS write its screen, and with
    // it iPXE's and the boot loader's, there too.
    command.args(["-machine", "pc,graphics=off", "-smp", "1", "-display", "none", "-monitor", "none"]);
    command.arg("-m").arg(memory.to_string());
    if let Some(uuid) = uuid {
        command.args(["-uuid", uuid]);
    }
    command.args(["-no-user-config", "-no-reboot", "-boot", "n"]);
    command.args(["-chardev", "stdio,id=screen,signal=off", "-serial", "chardev:screen"]);
    command.arg("-serial").arg(format!("file:{}", kernel_log.display()));
    command.arg("-netdev").arg(format!("tap,id=net,ifname={tap},script=no,downscript=no"));
    let card = format!("virtio-net-pci,netdev=net,mac={mac}");
    if *firmware == Firmware::Bios {
        // The card brings its default ROM with it: iPXE, of the package ipxe-qemu.
        command.arg("-device").arg(card);
    } else {
        // Without a place for variables: it keeps them in memory, and no file of one boot changes the next.
        command.arg("-bios").arg(OVMF.file("usr/share/ovmf/OVMF.fd")?);
        command.arg("-device").arg(format!("{card},rombar=0,bootindex=1"));
        command.args(["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]);
        let pxe = if *firmware == Firmware::UefiPxe { "y" } else { "n" };
        command.arg("-fw_cfg").arg(format!("name=opt/org.tianocore/IPv4PXESupport,string={pxe}"));
    }
    Child::spawn(command)
}

/// A line without terminal control: escape sequences and control characters.
fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(next) = rest.next() {
        if next == '\x1b' {
            // CSI: up to its final letter. Other sequences have one more character.
            if rest.next() == Some('[') {
                rest.by_ref().find(char::is_ascii_alphabetic);
            }
        } else if next == '\t' || !next.is_control() {
            text.push(next);
        }
    }
    text.trim_end().to_owned()
}

/// What a blade's guest printed about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    fields: BTreeMap<String, String>,
    /// The body of the HTTP answer: its cloud-config, or the text of an error.
    pub cloud_config: String,
}

impl Report {
    /// Finds the report in a console's text.
    pub fn parse(console: &str) -> Option<Self> {
        let (_, rest) = console.split_once("=== netboot blade: report ===\n")?;
        let (head, rest) = rest.split_once("=== netboot blade: cloud-config ===\n")?;
        let (body, _) = rest.split_once("\n=== netboot blade: end ===")?;
        let pairs = head.lines().filter_map(|line| line.split_once(": "));
        let fields = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(Self { fields, cloud_config: body.to_owned() })
    }

    /// One of `hostname`, `address` (with prefix length), `router`, `dns`, `domain`, `server`, `lease`, `url` and `status`
    /// (the first line of the HTTP answer); empty when the guest did not get it.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, printable};

    const CONSOLE: &str = "iPXE\nnetboot blade: Linux is up\n=== netboot blade: report ===\nhostname: core0\n\
        address: 192.168.90.11/24\ndomain: \n=== netboot blade: cloud-config ===\n#cloud-config\na: b: c\n\
        \n=== netboot blade: end ===\nreboot: Power down\n";

    #[test]
    fn a_report_has_fields_and_the_cloud_config() {
        let report = Report::parse(CONSOLE).unwrap();
        assert_eq!(report.field("hostname"), "core0");
        assert_eq!(report.field("address"), "192.168.90.11/24");
        assert_eq!(report.field("domain"), "");
        assert_eq!(report.field("router"), "");
        assert_eq!(report.cloud_config, "#cloud-config\na: b: c\n");
    }

    #[test]
    fn half_a_report_is_none() {
        let (half, _) = CONSOLE.split_once("\n=== netboot blade: end").unwrap();
        assert_eq!(Report::parse(half), None);
    }

    #[test]
    fn terminal_control_is_taken_out() {
        assert_eq!(printable("\x1b[2J\x1b[1;37mSeaBIOS\x1b[0m (version)\r\x07  "), "SeaBIOS (version)");
        assert_eq!(printable("plain\ttext é"), "plain\ttext é");
        assert_eq!(printable("cut \x1b["), "cut");
    }
}
