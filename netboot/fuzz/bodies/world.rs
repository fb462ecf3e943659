//! What a server is set up from: settings and machines as an operator would write them, read by netboot itself.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::path::Path;

use netboot::config::{FILE, Given, Settings, resolve};
use netboot::dhcp::options::Subnet;
use netboot::inventory::{HOSTS_FILE, Networks, Snapshot, load};
use netboot::mac::Mac;
use netboot::net::link::Link;

/// The server.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 2);

/// Settings, from a bare file to what makes replies longest.
const SETTINGS: [&str; 7] = [
    r#"{ "dhcp": { "pool": "192.168.90.10-192.168.90.14" } }"#,
    r#"{ "dhcp": { "pool": ["192.168.90.12-192.168.90.14", "192.168.90.9-192.168.90.10"], "authoritative": false,
        "lease_secs": 60, "router": "", "dns": [], "domain": "a.example" },
      "boot": { "bios": "pxelinux.0", "ipxe": "http://192.168.90.2/menu", "http64": "grub/x.efi", "efi64": "shim.efi" } }"#,
    r#"{ "dhcp": { "pool": "192.168.90.8-192.168.90.16", "lease_secs": 31536000,
        "router": ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "192.168.90.9"],
        "dns": ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.6", "10.0.1.7", "192.168.90.10"],
        "domain": "DOMAIN" },
      "boot": { "bios": "LONG", "efi32": "LONG", "efi64": "LONG", "efiarm64": "LONG", "ipxe": "http://192.0.2.1/LONG",
        "http64": "http://192.0.2.1/LONG", "rpi": "LONG" } }"#,
    r#"{ "dhcp": { "pool": "192.168.90.10-192.168.90.10" }, "boot": { "bios": "", "rpi": "" } }"#,
    r#"{ "dhcp": { "pool": "192.168.90.10-192.168.90.14", "identity": "client-id", "exclude": ["192.168.90.11"],
        "lease_secs": 600, "min_lease_secs": 60, "max_lease_secs": 90000 } }"#,
    r#"{ "dhcp": { "pool": "192.168.90.10-192.168.90.12", "subnets": [
        { "prefix": "10.1.0.0/24", "relay": "10.1.0.1", "pool": "10.1.0.24-10.1.0.27", "lease_secs": 300 },
        { "prefix": "10.2.0.0/24", "relay": "192.168.90.9", "domain": "two.example" } ] } }"#,
    r#"{ "mode": "proxy", "dhcp": { "menu": { "prompt": "F8?", "timeout_secs": 3, "items": ["local", "stable", "beta"] } },
      "boot": { "bios": "pxelinux.0", "ipxe": "http://192.168.90.2/menu", "efi64": "shim.efi" } }"#,
];

/// Machines of the operator. Those of a file are among the clients of [`mac`].
const HOSTS: [&str; 4] = [
    r#"{ "hosts": {} }"#,
    r#"{ "hosts": { "192.168.90.11": { "macaddr": "52:54:00:00:00:00", "$hostname": "blade-0", "channel": "stable" } } }"#,
    r#"{ "hosts": {
        "192.168.90.10": { "macaddr": "52:54:00:00:00:00", "$hostname": "blade-0", "channel": "stable" },
        "192.168.90.200": { "macaddr": "52:54:00:00:00:01", "$hostname": "NAME", "channel": "alpha",
          "boot": { "bios": "own/loader.0", "efi64": "" } } } }"#,
    // The server's own address, and one of another network.
    r#"{ "hosts": {
        "192.168.90.2": { "macaddr": "52:54:00:00:00:02", "$hostname": "blade-2", "channel": "stable" },
        "10.9.8.7": { "macaddr": "52:54:00:00:00:03", "$hostname": "blade-3", "channel": "stable" },
        "192.168.90.12": { "macaddr": "52:54:00:00:00:04", "$hostname": "blade-4", "channel": "stable" } } }"#,
];

thread_local! {
    static DIRECTORY: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    static READ: RefCell<Option<(Vec<Settings>, Vec<Snapshot>)>> = const { RefCell::new(None) };
}

/// Calls with an empty directory of this thread's own.
pub(crate) fn with_directory<T>(body: impl FnOnce(&Path) -> T) -> T {
    DIRECTORY.with_borrow_mut(|place| {
        let directory = place.get_or_insert_with(|| tempfile::tempdir().expect("make a directory"));
        body(directory.path())
    })
}

fn with_read<T>(body: impl FnOnce(&[Settings], &[Snapshot]) -> T) -> T {
    READ.with_borrow_mut(|place| {
        let (settings, snapshots) = place.get_or_insert_with(|| with_directory(read));
        body(settings, snapshots)
    })
}

fn read(directory: &Path) -> (Vec<Settings>, Vec<Snapshot>) {
    let long = |text: &str| {
        let domain = vec!["d"; 64].join(".");
        text.replace("DOMAIN", &domain).replace("LONG", &"f".repeat(90)).replace("NAME", &"n".repeat(63))
    };
    let settings = SETTINGS.map(|text| read_settings(directory, &long(text)));
    let snapshots = HOSTS.map(|text| read_hosts(directory, &long(text)));
    (settings.into(), snapshots.into())
}

/// Settings from the text of a `netboot.json` without a mistake.
pub(crate) fn read_settings(directory: &Path, text: &str) -> Settings {
    std::fs::write(directory.join(FILE), text).expect("write the file");
    let settings = resolve(directory, Given::default());
    std::fs::remove_file(directory.join(FILE)).expect("remove the file");
    settings.unwrap_or_else(|problems| panic!("{problems}"))
}

/// Machines from the text of a `pxe_hosts.json` without a mistake.
pub(crate) fn read_hosts(directory: &Path, text: &str) -> Snapshot {
    std::fs::write(directory.join(HOSTS_FILE), text).expect("write the file");
    let loaded = load(directory, &Networks::default());
    std::fs::remove_file(directory.join(HOSTS_FILE)).expect("remove the file");
    loaded.snapshot.unwrap_or_else(|| panic!("{:?}", loaded.problems))
}

/// What the clients of the network are told by these settings.
pub(crate) fn subnet(settings: &Settings) -> Subnet {
    let link = Link {
        name: "pxe0".into(),
        index: 1,
        mac: Mac([2, 0, 0, 0, 0, 2]),
        mtu: 1500,
        addr: SERVER,
        prefix: "192.168.90.0/24".parse().expect("a prefix"),
    };
    Subnet::new(&link, settings)
}

/// Settings of the list.
pub(crate) fn setting(number: u8) -> Settings {
    with_read(|settings, _| settings[usize::from(number) % settings.len()].clone())
}

/// Machines of the operator.
pub(crate) fn snapshot(number: u8) -> Snapshot {
    with_read(|_, snapshots| snapshots[usize::from(number) % snapshots.len()].clone())
}

/// The Ethernet address of a client.
pub(crate) const fn mac(client: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, client])
}
