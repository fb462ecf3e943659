//! The maps of a program that answers, as a capture finds them by their pins: made and pinned here, so that there is no
//! program and no packet, but all of the switching on and off.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use aya::maps::{Array, Map, MapData};
use aya_obj::generated::bpf_map_type;
use aya_obj::maps::{LegacyMap, bpf_map_def};
use aya_obj::{EbpfSectionKind, Map as Definition};
use rustix::time::{ClockId, clock_gettime};
use xtask::lab::{Child, Lab, wait_for};

use super::pcapng;
use crate::daemon::{NETBOOT, SOON, lab};

/// A mount namespace with a file system of pins of its own, which is gone with the process that holds it.
struct Pins {
    holder: Child,
    /// Where netboot looks for what is pinned for `pxe0`.
    directory: PathBuf,
}

impl Pins {
    fn new(lab: &Lab) -> Self {
        let mut command = Command::new("unshare");
        // Ends by itself, should the test be killed.
        let line = "mount -t bpf bpf /sys/fs/bpf && echo mounted && exec sleep 300";
        let holder = Child::spawn({
            command.args(["--mount", "sh", "-c", line]);
            command
        })
        .unwrap();
        holder.wait_line("mounted", SOON).unwrap();
        let namespace = fs::metadata(format!("/run/netns/{}", lab.server.name())).unwrap().st_ino();
        let directory = format!("/proc/{}/root/sys/fs/bpf/netboot/pxe0-{namespace}", holder.pid());
        Self { holder, directory: directory.into() }
    }

    /// Pins the maps of one version, and gives the one that switches on.
    fn pin(&self, version: &str) -> Array<MapData, u64> {
        let directory = self.directory.join(version);
        fs::create_dir_all(&directory).unwrap();
        let ring = map("CAPTURED", bpf_map_type::BPF_MAP_TYPE_RINGBUF, [0, 0, 1 << 20]);
        ring.pin(directory.join("CAPTURED")).unwrap();
        let until = map("CAPTURE", bpf_map_type::BPF_MAP_TYPE_ARRAY, [4, 8, 1]);
        until.pin(directory.join("CAPTURE")).unwrap();
        Map::from_map_data(until).unwrap().try_into().unwrap()
    }

    /// Starts a capture that sees these pins.
    fn capture(&self, lab: &Lab, file: &str) -> Child {
        let mut command = lab.server.command("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.pid()));
        command.args([NETBOOT, "capture", "-i", "pxe0", "-w", file]);
        Child::spawn(command).unwrap()
    }
}

fn map(name: &str, kind: bpf_map_type, [key_size, value_size, max_entries]: [u32; 3]) -> MapData {
    let def =
        bpf_map_def { map_type: kind as u32, key_size, value_size, max_entries, ..bpf_map_def::default() };
    let (section_index, section_kind) = (0, EbpfSectionKind::Maps);
    let definition =
        LegacyMap { def, inner_def: None, section_index, section_kind, symbol_index: None, data: Vec::new() };
    MapData::create(Definition::Legacy(definition), name, None).unwrap()
}

/// Whether the program is told to put packets into the ring buffer, for a few seconds and no longer.
fn is_on(until: &Array<MapData, u64>) -> bool {
    let now = clock_gettime(ClockId::Monotonic);
    let now_ns = u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap();
    let until_ns = until.get(&0, 0).unwrap();
    assert!(until_ns < now_ns + 3_100_000_000, "too long, if it should die");
    until_ns > now_ns
}

#[test]
fn the_program_is_told_to_and_told_to_stop() {
    let lab = lab();
    let pins = Pins::new(&lab);
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name).to_str().unwrap().to_owned();
    let mut first = pins.capture(&lab, &path("first"));
    first.wait_line("is not captured: no netboot answers on pxe0 with XDP now", SOON).unwrap();
    // A netboot starts.
    let until = pins.pin("one");
    first.wait_line("what the XDP program answers is captured too", SOON).unwrap();
    assert!(is_on(&until));
    // It is told again and again.
    let told = until.get(&0, 0).unwrap();
    assert!(wait_for(SOON, || until.get(&0, 0).unwrap() > told && is_on(&until)));

    let mut second = pins.capture(&lab, &path("second"));
    second.wait_line("is not captured: another `netboot capture` on pxe0 takes it", SOON).unwrap();
    second.signal("INT").unwrap();
    assert_eq!(second.wait(SOON).unwrap().code(), Some(0));
    assert!(is_on(&until), "the other one's end is not its end");

    // Another version takes over: its maps are those that count.
    let next = pins.pin("two");
    fs::remove_dir_all(pins.directory.join("one")).unwrap();
    assert!(wait_for(SOON, || is_on(&next)));
    assert_eq!(until.get(&0, 0).unwrap(), 0);
    first.signal("INT").unwrap();
    assert_eq!(first.wait(SOON).unwrap().code(), Some(0));
    assert_eq!(next.get(&0, 0).unwrap(), 0, "off at once");
    let file = pcapng::read(&fs::read(path("first")).unwrap());
    assert_eq!(file.interfaces, ["pxe0", "pxe0 (XDP)"]);
    assert_eq!(file.sums, 2);
    let file = pcapng::read(&fs::read(path("second")).unwrap());
    assert_eq!(file.interfaces, ["pxe0"]);
}

#[test]
fn why_there_is_nothing_of_xdp_is_said() {
    let lab = lab();
    let pins = Pins::new(&lab);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let path = path.to_str().unwrap();
    fs::create_dir_all(pins.directory.join("old")).unwrap();
    let other = pins.capture(&lab, path);
    other.wait_line("is of another version, which cannot be captured", SOON).unwrap();
    drop(other);
    // May listen, and not open the map.
    pins.pin("one");
    fs::set_permissions(pins.directory.join("one/CAPTURED"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = lab.server.command("nsenter");
    command.arg(format!("--mount=/proc/{}/ns/mnt", pins.holder.pid()));
    command.args(["setpriv", "--inh-caps=-all", "--bounding-set=-all,+net_raw"]);
    command.args([NETBOOT, "capture", "-i", "pxe0", "-w", path]);
    let mut denied = Child::spawn(command).unwrap();
    denied.wait_line("may not be opened: run this as root", SOON).unwrap();
    denied.signal("TERM").unwrap();
    assert_eq!(denied.wait(SOON).unwrap().code(), Some(0), "all else is captured");
    // No file system of pins.
    let mut command = lab.server.command("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none /sys/fs/bpf && exec \"$0\" \"$@\"", NETBOOT]);
    command.args(["capture", "-i", "pxe0", "-w", path]);
    let none = Child::spawn(command).unwrap();
    none.wait_line("there is no BPF file system at /sys/fs/bpf", SOON).unwrap();
}
