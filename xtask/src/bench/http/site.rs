//! What is served: machines, the template of their cloud-config, and what each client must get, made here a second time.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// The addresses from which is asked, in turns: netboot has a limit for each. All are as long as the others.
pub(super) const ADDRS: u8 = 16;
/// Machines in the inventory.
pub(super) const HOSTS: u32 = 10_000;
/// Bytes of the large file.
pub(super) const LARGE: u64 = 256 << 20;
/// The first reserved address.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 90, 16, 0);
/// The large file repeats itself after so many bytes: no power of two, so that a piece in a wrong place is seen.
const PERIOD: usize = 1_000_003;

/// The address of a client, by its number.
pub(super) fn addr(number: usize) -> Ipv4Addr {
    let last = u8::try_from(number % usize::from(ADDRS)).unwrap_or_default();
    Ipv4Addr::new(10, 90, 20, 101 + last)
}

const UNITS: [&str; 6] = ["etcd2", "fleet", "flanneld", "docker", "kubelet", "node-exporter"];

/// A cloud-config as operators write them, with the machine's part in it.
fn template() -> String {
    let mut text = "#cloud-config\nhostname: $hostname\nssh_authorized_keys:\n  - $ssh_key\ncoreos:\n  etcd2:\n    name: $hostname\n    \
                    discovery: $discovery\n    advertise-client-urls: http://$private_ipv4:2379\n    initial-advertise-peer-urls: http://$private_ipv4:2380\n  \
                    units:\n    - name: 00-public.network\n      content: |\n        [Match]\n        MACAddress=$mac\n        [Network]\n        Address=$public_ipv4/24\n        \
                    Gateway=$public_ipv4_gw\n        DNS=$public_ipv4_dns1\n        DNS=$public_ipv4_dns2\n"
        .to_owned();
    for unit in UNITS {
        let _ = write!(
            text,
            "    - name: {unit}.service\n      command: start\n      content: |\n        [Unit]\n        After=network-online.target\n        [Service]\n        \
             ExecStart=/usr/bin/{unit} --advertise $private_ipv4\n        Restart=always\n"
        );
    }
    text
}

/// The variables of `common`.
const COMMON: [(&str, &str); 5] = [
    (
        "$ssh_key",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJg0NOWRAxe4Kw3S7y2q9tTqzv1YF5kKq0QvX8e2bnT7 ops@example",
    ),
    ("$discovery", "https://discovery.example/0123456789abcdef0123456789abcdef"),
    ("$public_ipv4_gw", "203.0.113.1"),
    ("$public_ipv4_dns1", "203.0.113.2"),
    ("$public_ipv4_dns2", "203.0.113.3"),
];

/// A machine's own variables.
fn own(number: u32) -> [(&'static str, String); 3] {
    let [.., high, low] = number.to_be_bytes();
    [
        ("$hostname", format!("blade{number:05}")),
        ("$mac", format!("52:54:00:00:{high:02x}:{low:02x}")),
        ("$public_ipv4", format!("198.18.{}.{}", 100 + high % 100, 100 + low % 100)),
    ]
}

/// The text that a machine must get.
fn rendered(addr: Ipv4Addr) -> String {
    let number = addr.to_bits() - FIRST.to_bits();
    let own = own(number);
    let mut variables: Vec<(&str, String)> = COMMON.map(|(name, value)| (name, value.to_owned())).into();
    variables.extend(own);
    variables.push(("$private_ipv4", addr.to_string()));
    variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    variables.iter().fold(template(), |text, (name, value)| text.replace(name, value))
}

/// What the clients must get, by number.
pub(super) fn texts() -> Vec<Vec<u8>> {
    (0..usize::from(ADDRS)).map(|number| rendered(addr(number)).into_bytes()).collect()
}

fn hosts() -> Value {
    let host = |number: u32| {
        let mut host: Map<String, Value> =
            own(number).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        host.insert("macaddr".to_owned(), host["$mac"].clone());
        host.insert("channel".to_owned(), "stable".into());
        (Ipv4Addr::from_bits(FIRST.to_bits() + number).to_string(), Value::Object(host))
    };
    let common: Map<String, Value> =
        COMMON.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({ "common": common, "hosts": (0..HOSTS).map(host).collect::<Map<_, _>>() })
}

/// Writes what all of them serve into a directory: for netboot and for the script machines and template, for nginx the text
/// of one machine; and the large file, which is one for all.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(home: &Path, large: &Path) -> Result<()> {
    let files = home.join("files");
    std::fs::create_dir_all(&files).with_context(|| format!("create {}", files.display()))?;
    for (name, text) in [
        ("pxe_hosts.json", hosts().to_string()),
        ("default.yaml", template()),
        ("netboot.json", "{}".to_owned()),
        ("cloud-config", rendered(addr(0))),
    ] {
        std::fs::write(home.join(name), text).with_context(|| format!("write {name}"))?;
    }
    let place = files.join("large");
    std::fs::hard_link(large, &place).with_context(|| format!("link {}", place.display()))
}

/// The bytes of the large file, of which a period and as much again is kept: a piece that begins anywhere in the first is there
/// in one part.
#[derive(Debug)]
pub(super) struct Large(Vec<u8>);

impl Large {
    /// Makes it.
    pub(super) fn new() -> Self {
        let mut bytes = crate::bench::tftp::content(PERIOD);
        bytes.extend_from_within(..);
        Self(bytes)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When the disk is full.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        use std::io::Write as _;
        let mut to = std::fs::File::create(file).with_context(|| format!("create {}", file.display()))?;
        let mut left = usize::try_from(LARGE)?;
        while left > 0 {
            let piece = self.0.get(..PERIOD.min(left)).unwrap_or_default();
            to.write_all(piece).with_context(|| format!("write {}", file.display()))?;
            left -= piece.len();
        }
        Ok(())
    }

    /// Whether these are the bytes from there on; they are at most a period.
    pub(super) fn has(&self, offset: u64, bytes: &[u8]) -> bool {
        let at = usize::try_from(offset % PERIOD as u64).unwrap_or_default();
        self.0.get(at..).is_some_and(|from| from.starts_with(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::{Large, PERIOD, addr, hosts, texts};

    #[test]
    fn all_texts_are_as_long_and_no_two_are_alike() {
        let texts = texts();
        assert!(texts.iter().all(|text| text.len() == texts[0].len() && !text.contains(&b'$')));
        assert!((1..texts.len()).all(|number| !texts[..number].contains(&texts[number])));
        assert!((1500..4000).contains(&texts[0].len()), "{}", texts[0].len());
        let host = &hosts()["hosts"][addr(3).to_string()];
        assert!(String::from_utf8_lossy(&texts[3]).contains(host["$hostname"].as_str().unwrap()));
    }

    #[test]
    fn a_piece_in_a_wrong_place_is_seen() {
        let large = Large::new();
        let piece = large.0[1000..200_000].to_vec();
        assert!(large.has(1000, &piece) && large.has(1000 + 5 * PERIOD as u64, &piece));
        for offset in [0, 1001, 1000 + (1 << 20), 1000 + 4096] {
            assert!(!large.has(offset, &piece), "{offset}");
        }
    }
}
