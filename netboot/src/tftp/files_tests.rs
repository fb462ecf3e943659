//! Tests of names and contents: a directory with everything in it that must not be served.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::inventory::{Host, Marks};
use crate::mac::Mac;
use crate::uuid::Uuid;

struct Fixture {
    dir: tempfile::TempDir,
    files: Files,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tftp");
    std::fs::create_dir_all(root.join("sub/deep")).unwrap();
    std::fs::write(dir.path().join("pxe_hosts.json"), "secret").unwrap();
    std::fs::write(root.join("pxelinux.0"), "loader").unwrap();
    std::fs::write(root.join("sub/deep/file"), "deep").unwrap();
    std::fs::write(root.join("%2e%2e"), "dots").unwrap();
    symlink("sub/deep/file", root.join("inside")).unwrap();
    symlink("../../sub/../pxelinux.0", root.join("sub/deep/up")).unwrap();
    symlink("../pxe_hosts.json", root.join("outside")).unwrap();
    symlink(dir.path(), root.join("absolute")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    symlink("circle", root.join("circle")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let host = |number, channel: &str| Host {
        mac: Mac([2, 0, 0, 0, 0, number]),
        addr: [192, 168, 90, number].into(),
        hostname: String::new(),
        channel: channel.to_owned(),
        template: None,
        marks: None,
        boot: crate::config::Boot::default(),
        variables: BTreeMap::new(),
        ignition: None,
    };
    let hosts = vec![
        host(1, "alpha-2.x_y"),
        host(7, "next+1@home"),
        host(2, "we ird"),
        host(3, "../x"),
        host(4, ".."),
        host(5, ""),
        host(6, "a\nb"),
    ];
    let inventory = Arc::new(ArcSwap::from_pointee(Snapshot::new(BTreeMap::new(), hosts)));
    let files = Files::new(dir.path(), inventory, [192, 168, 90, 1].into(), 80);
    Fixture { dir, files }
}

/// A machine that nobody has reserved anything for.
fn stranger() -> Caller {
    Caller::new([192, 168, 90, 200].into(), Road::Tftp)
}

fn read(files: &Files, name: &str) -> Result<String, Refused> {
    read_as(files, name, stranger())
}

fn read_as(files: &Files, name: &str, caller: Caller) -> Result<String, Refused> {
    let content = files.open(name, caller)?;
    let size = content.size();
    let text = match content {
        Content::Disk(Opened { mut file, .. }) => {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text
        }
        Content::Generated(bytes) => String::from_utf8(bytes).unwrap(),
    };
    assert_eq!(size, text.len() as u64, "{name}");
    Ok(text)
}

#[test]
fn serves_what_is_below_the_directory() {
    let it = fixture();
    let cases = [
        ("pxelinux.0", "loader"),
        ("/pxelinux.0", "loader"),
        ("//pxelinux.0", "loader"),
        ("./pxelinux.0", "loader"),
        ("sub//deep///file", "deep"),
        ("/sub/./deep/file", "deep"),
        ("inside", "deep"),
        ("sub/deep/up", "loader"),
        ("%2e%2e", "dots"),
    ];
    for (name, text) in cases {
        assert_eq!(read(&it.files, name).unwrap(), text, "{name}");
    }
}

#[test]
fn refuses_the_rest_and_says_why() {
    let it = fixture();
    let outside = "leads out of its directory (an absolute link counts as out)";
    let secret = it.dir.path().join("pxe_hosts.json");
    let long = "x".repeat(300);
    let cases = [
        ("nothing", "not found"),
        ("pxelinux.0/x", "not found"),
        ("dangling", "not found"),
        ("/etc/passwd", "not found"),
        (secret.to_str().unwrap(), "not found"),
        ("%2e%2e/pxe_hosts.json", "not found"),
        ("../pxe_hosts.json", outside),
        ("sub/../../pxe_hosts.json", outside),
        ("sub/../pxelinux.0", outside),
        ("..", outside),
        ("/..", outside),
        ("outside", outside),
        ("absolute/pxe_hosts.json", outside),
        ("magic", outside),
        ("circle", outside),
        ("..\\pxe_hosts.json", "not a file name"),
        ("sub\\deep\\file", "not a file name"),
        ("pxelinux.0\0.txt", "not a file name"),
        ("a\nb", "not a file name"),
        ("", "not a file name"),
        ("/", "not a file name"),
        (&long, "not a file name"),
        ("sub", "not a regular file"),
        ("sub/deep/", "not a regular file"),
        ("fifo", "not a regular file"),
        ("socket", "not a regular file"),
    ];
    for (name, why) in cases {
        assert_eq!(read(&it.files, name).unwrap_err().to_string(), why, "{name:?}");
    }
}

#[test]
fn refuses_a_device() {
    // Making a device node needs privileges; the machine's own directory of them does not.
    let it = fixture();
    let files = Files { root: Path::new("/dev").into(), ..it.files };
    assert_eq!(files.open("null", stranger()).unwrap_err().to_string(), "not a regular file");
}

#[test]
fn says_when_it_may_not_read() {
    let it = fixture();
    let path = it.dir.path().join("tftp/closed");
    std::fs::write(&path, "x").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything: then that is what must come out.
    match it.files.open("closed", stranger()) {
        Err(error) => assert_eq!(error.to_string(), "permission denied on the server"),
        Ok(content) => assert!(rustix::process::geteuid().is_root() && content.size() == 1),
    }
}

#[test]
fn generates_the_configuration_of_a_channel() {
    let it = fixture();
    let text = read(&it.files, "/pxelinux.cfg//stable").unwrap();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines[1..],
        [
            "DEFAULT stable",
            "PROMPT 0",
            "TIMEOUT 100",
            "ONTIMEOUT netboot-again",
            "",
            "LABEL stable",
            "LINUX coreos_stable_pxe.vmlinuz",
            "APPEND initrd=coreos_stable_pxe_image.cpio.gz console=ttyS1,19200n8 console=tty0 coreos.autologin=ttyS1 \
             coreos.autologin=tty0 cloud-config-url=http://192.168.90.1:80",
            "",
            "LABEL netboot-again",
            "CONFIG pxelinux.cfg/stable",
        ]
    );
    assert!(read(&it.files, "pxelinux.cfg/beta").unwrap().contains("coreos_beta_pxe.vmlinuz"));
    assert!(read(&it.files, "pxelinux.cfg/alpha-2.x_y").unwrap().contains("coreos_alpha-2.x_y_pxe.vmlinuz"));
    assert!(read(&it.files, "pxelinux.cfg/next+1@home").unwrap().contains("coreos_next+1@home_pxe.vmlinuz"));
    for name in [
        "pxelinux.cfg/unused",
        "pxelinux.cfg/we ird",
        "pxelinux.cfg/",
        "pxelinux.cfg",
        "stable",
        "pxelinux.cfg/stable/x",
    ] {
        assert_eq!(it.files.open(name, stranger()).unwrap_err().to_string(), "not found", "{name}");
    }
    for name in ["pxelinux.cfg/../x", "pxelinux.cfg/..", "pxelinux.cfg/a\nb"] {
        assert!(it.files.open(name, stranger()).is_err(), "{name}");
    }
}

#[test]
fn a_file_beats_the_generated_one() {
    let it = fixture();
    let directory = it.dir.path().join("tftp/pxelinux.cfg");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("stable"), "mine").unwrap();
    std::fs::create_dir(directory.join("beta")).unwrap();
    assert_eq!(read(&it.files, "pxelinux.cfg/stable").unwrap(), "mine");
    assert_eq!(it.files.open("pxelinux.cfg/beta", stranger()).unwrap_err().to_string(), "not a regular file");
}

#[test]
fn another_card_of_a_machine_gets_the_files_of_its_own() {
    let it = fixture();
    let directory = it.dir.path().join("tftp/pxelinux.cfg");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("01-02-00-00-00-00-01"), "the machine's").unwrap();
    std::fs::write(directory.join("01-02-00-00-00-00-98"), "the card's").unwrap();
    let hosts: Vec<_> = it.files.inventory.load().hosts().cloned().collect();
    let own = Caller::new([192, 168, 90, 1].into(), Road::Tftp);
    let strange = "pxelinux.cfg/01-02-00-00-00-00-99";
    assert!(
        matches!(read_as(&it.files, strange, own), Err(Refused::NotFound)),
        "it is known by its MAC alone"
    );
    let marks = Marks { uuid: Some(Uuid([7; 16])), ..Marks::default() };
    let known = |host: Host| Host { marks: Some(Box::new(marks.clone())), ..host };
    let hosts = hosts.into_iter().take(2).map(known).collect();
    it.files.inventory.store(Arc::new(Snapshot::new(BTreeMap::new(), hosts)));
    assert_eq!(read_as(&it.files, strange, own).unwrap(), "the machine's");
    assert_eq!(read_as(&it.files, "pxelinux.cfg/01-02-00-00-00-00-98", own).unwrap(), "the card's");
    for (name, caller) in [("pxelinux.cfg/01-02-00-00-00-00-07", own), (strange, stranger())] {
        assert!(matches!(read_as(&it.files, name, caller), Err(Refused::NotFound)), "{name} {caller:?}");
    }
}

#[test]
fn a_new_channel_is_there_at_once() {
    let it = fixture();
    assert!(it.files.open("pxelinux.cfg/alpha-2.x_y", stranger()).is_ok());
    it.files.inventory.store(Arc::default());
    assert!(it.files.open("pxelinux.cfg/alpha-2.x_y", stranger()).is_err());
    assert!(it.files.open("pxelinux.cfg/stable", stranger()).is_ok());
}

#[test]
fn without_a_directory_there_are_the_generated_files() {
    let it = fixture();
    std::fs::rename(it.dir.path().join("tftp"), it.dir.path().join("gone")).unwrap();
    assert!(it.files.open("pxelinux.cfg/stable", stranger()).is_ok());
    assert_eq!(it.files.open("pxelinux.0", stranger()).unwrap_err().to_string(), "not found");
}

#[test]
fn upper_and_lower_case_are_one_where_that_is_set() {
    let Fixture { dir, files } = fixture();
    let root = dir.path().join("tftp");
    std::fs::create_dir(root.join("Boot")).unwrap();
    for (name, text) in [("Boot/BCD", "bcd"), ("Boot/bcD", "other"), ("PXELINUX.0", "upper")] {
        std::fs::write(root.join(name), text).unwrap();
    }
    assert!(matches!(read(&files, "boot/bcd"), Err(Refused::NotFound)));
    assert!(matches!(read(&files, "\\Boot\\BCD"), Err(Refused::Name)));
    let files = files.ignoring_case(true);
    for (name, text) in [
        ("boot/bcd", "bcd"),
        ("\\Boot\\BCD", "bcd"),
        ("Boot/bcD", "other"),
        ("boot/bCD", "bcd"),
        ("pxelinux.0", "loader"),
        ("Pxelinux.0", "upper"),
        ("SUB/DEEP/UP", "loader"),
        ("/INSIDE", "deep"),
    ] {
        assert_eq!(read(&files, name).unwrap(), text, "{name}");
    }
    for name in [
        "OUTSIDE",
        "ABSOLUTE/pxe_hosts.json",
        "Absolute/PXE_hosts.json",
        "..\\pxe_hosts.json",
        "FIFO",
        "nothing",
        "SUB",
        "inside/x",
    ] {
        assert!(read(&files, name).is_err(), "{name}");
    }
}
