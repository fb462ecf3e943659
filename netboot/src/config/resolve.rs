//! From what was given and written to [`Settings`]: flags beat environment beats `netboot.json` beats default.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnetwork::Ipv4Network;

use super::options::Custom;
use super::problem::{Problem, Problems, Severity};
use super::written::{Written, interface};
use super::{Dhcp, Http, Identity, Limits, Mode, Range, Settings, Tftp, Unknown, Vlan, Xdp, tls, vlan};

/// Name of the settings file in the data directory.
pub const FILE: &str = "netboot.json";

/// What was given on the command line or in the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The PXE interface.
    pub interface: Option<String>,
    /// The interface that carries its VLAN.
    pub trunk: Option<String>,
    /// The tags of its frames there.
    pub vlan: Option<Vlan>,
    /// Where the daemon keeps its state.
    pub state: Option<PathBuf>,
    /// HTTP port.
    pub http_port: Option<u16>,
    /// HTTPS port.
    pub tls_port: Option<u16>,
    /// Its certificate.
    pub tls_cert: Option<PathBuf>,
    /// The key of that.
    pub tls_key: Option<PathBuf>,
    /// Whether it gives out addresses.
    pub mode: Option<Mode>,
    /// How XDP is attached.
    pub xdp: Option<Xdp>,
    /// Pool ranges; empty: not given.
    pub pool: Vec<Range>,
}

/// Reads `<data>/netboot.json` and resolves the settings. An interface is not asked for: see [`Settings::serving`].
///
/// # Errors
/// All that is wrong with the file, or with what was given.
pub fn resolve(data: &Path, given: Given) -> Result<Settings, Problems> {
    let file = data.join(FILE);
    let written = Written::read(&file)?;
    let tls = tls::Half::of(data, &given, &written);
    let mut settings = merge(data, given, written);
    let mut problems = overlapping(&file, &settings.dhcp.pool);
    match tls.whole(settings.http.port) {
        Ok(tls) => settings.http.tls = tls,
        Err((message, help)) => problems.push(Problem::of_file(Severity::Error, &file, message, help)),
    }
    problems.extend(backwards(&file, &settings.dhcp));
    if !settings.interface.is_empty()
        && let Err(help) = interface(&settings.interface)
    {
        let message = format!("the interface is named `{}`", settings.interface);
        problems.push(Problem::of_file(Severity::Error, &file, message, help));
    }
    if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
}

fn merge(data: &Path, given: Given, written: Written) -> Settings {
    let state = given.state.or_else(|| written.state.map(|state| data.join(state)));
    Settings {
        // An empty variable in the environment is as good as none.
        interface: given.interface.filter(|name| !name.is_empty()).or(written.interface).unwrap_or_default(),
        trunk: given.trunk.filter(|name| !name.is_empty()).or(written.trunk),
        vlan: given.vlan.or(written.vlan),
        data: data.to_owned(),
        state: state.unwrap_or_else(|| data.join("state")),
        mode: given.mode.or(written.mode).unwrap_or_default(),
        xdp: given.xdp.or(written.xdp).unwrap_or_default(),
        router_advertisement: written.router_advertisement.unwrap_or_default(),
        dhcp: {
            let usual = Dhcp::default();
            let lease_secs = written.lease_secs.unwrap_or(usual.lease_secs);
            Dhcp {
                pool: if given.pool.is_empty() { written.pool.unwrap_or_default() } else { given.pool },
                exclude: written.exclude.unwrap_or_default(),
                lease_secs,
                min_lease_secs: written.min_lease_secs.unwrap_or(usual.min_lease_secs.min(lease_secs)),
                max_lease_secs: written.max_lease_secs.unwrap_or(lease_secs),
                identity: written.identity.unwrap_or_default(),
                probe: written.probe.unwrap_or(usual.probe),
                authoritative: written.authoritative.unwrap_or(usual.authoritative),
                router: written.router,
                dns: written.dns.unwrap_or_default(),
                domain: written.domain,
                unknown: written.unknown.unwrap_or_default(),
                menu: written.menu,
                subnets: written.subnets,
                rapid_commit: written.rapid_commit.unwrap_or(usual.rapid_commit),
                limits: written.limits,
                custom: written.custom,
            }
        },
        boot: written.boot,
        http: Http {
            port: given.http_port.or(written.port).unwrap_or(8080),
            override_from: written.override_from.unwrap_or_else(|| vec![loopback()]),
            secret_reads: written.secret_reads.unwrap_or(8),
            token_file: written.token_file.map(|file| data.join(file)),
            tls: None,
        },
        tftp: Tftp {
            max_transfers: written.max_transfers.unwrap_or(4096),
            max_window: written.max_window.unwrap_or(64),
            engine: written.engine.unwrap_or_default(),
            ignore_case: written.ignore_case.unwrap_or_default(),
            rollover: written.rollover.unwrap_or_default(),
            single_port: written.single_port.unwrap_or_default(),
            threads: written.threads.unwrap_or_default(),
            cache_bytes: written.cache_bytes.unwrap_or(256 << 20),
            in_flight_bytes: written.in_flight_bytes.unwrap_or(16 << 20),
            client_in_flight_bytes: written.client_in_flight_bytes.unwrap_or(4 << 20),
        },
    }
}

impl Default for Dhcp {
    /// What counts where nothing is written.
    fn default() -> Self {
        Self {
            pool: Vec::new(),
            exclude: Vec::new(),
            lease_secs: 3600,
            min_lease_secs: 120,
            max_lease_secs: 3600,
            identity: Identity::default(),
            probe: true,
            authoritative: true,
            router: None,
            dns: Vec::new(),
            domain: None,
            unknown: Unknown::default(),
            menu: None,
            subnets: Vec::new(),
            rapid_commit: false,
            limits: Limits::default(),
            custom: Custom::default(),
        }
    }
}

/// 127.0.0.0/8
fn loopback() -> Ipv4Network {
    // The prefix is at most 32, so the other arm is never taken.
    Ipv4Network::new([127, 0, 0, 0].into(), 8).unwrap_or_else(|_| Ipv4Addr::LOCALHOST.into())
}

/// Two ranges with one address in both would give it to two machines.
fn overlapping(file: &Path, pool: &[Range]) -> Vec<Problem> {
    let mut sorted = pool.to_vec();
    sorted.sort_by_key(|range| (range.first, range.last));
    let clash = |pair: &[Range]| match pair {
        [one, other] if other.first <= one.last => {
            let message = format!("the pool ranges {one} and {other} overlap");
            Some(Problem::of_file(Severity::Error, file, message, "write each address in one range only"))
        }
        _ => None,
    };
    sorted.windows(2).filter_map(clash).collect()
}

/// The limits of leases, in another order than theirs.
fn backwards(file: &Path, dhcp: &Dhcp) -> Option<Problem> {
    let Dhcp { lease_secs, min_lease_secs, max_lease_secs, .. } = dhcp;
    if min_lease_secs <= lease_secs && lease_secs <= max_lease_secs {
        return None;
    }
    let message = format!(
        "leases last {min_lease_secs} seconds at least, {max_lease_secs} at most, and {lease_secs} if nothing is asked for"
    );
    let help = "write dhcp.min_lease_secs <= dhcp.lease_secs <= dhcp.max_lease_secs";
    Some(Problem::of_file(Severity::Error, file, message, help))
}

impl Settings {
    /// The settings, if they are enough to serve with.
    ///
    /// # Errors
    /// When no interface is named, or `trunk` and `vlan` do not go together.
    pub fn serving(self) -> Result<Self, Problems> {
        if !self.interface.is_empty() {
            return vlan::problem(&self).map_or(Ok(self), |problem| Err(Problems(vec![problem])));
        }
        let help =
            "give --interface eth1, set NETBOOT_INTERFACE, or write \"interface\": \"eth1\" into that file";
        let file = self.data.join(FILE);
        Err(Problems(vec![Problem::of_file(Severity::Error, &file, "no PXE interface is named", help)]))
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{FILE, Given, resolve};
    use netboot_ebpf::Class;

    use crate::config::{Boot, Engine, Menu, Mode, RouterAdvertisement, Settings, Unknown, Xdp};

    fn with(text: &str, given: Given) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        resolve(dir.path(), given)
            .map_err(|problems| problems.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn defaults() {
        let settings = resolve(Path::new("/nowhere"), Given::default()).unwrap();
        assert_eq!(
            (settings.data.as_path(), settings.state.as_path()),
            (Path::new("/nowhere"), Path::new("/nowhere/state"))
        );
        assert_eq!((settings.mode, settings.xdp, settings.http.port), (Mode::Full, Xdp::Auto, 8080));
        assert_eq!(settings.dhcp.menu, None);
        assert_eq!(settings.router_advertisement, RouterAdvertisement::Empty);
        assert_eq!(
            (settings.dhcp.lease_secs, settings.dhcp.authoritative, settings.dhcp.router.as_ref()),
            (3600, true, None)
        );
        assert_eq!(settings.dhcp.unknown, Unknown::Pool);
        assert_eq!(settings.boot, Boot::default());
        assert_eq!(
            (settings.tftp.max_transfers, settings.tftp.max_window, settings.tftp.engine),
            (4096, 64, Engine::Auto)
        );
        assert_eq!(
            (
                settings.tftp.rollover,
                settings.tftp.single_port,
                settings.tftp.threads,
                settings.tftp.cache_bytes
            ),
            (0, false, 0, 268_435_456)
        );
        assert_eq!(
            (settings.tftp.in_flight_bytes, settings.tftp.client_in_flight_bytes),
            (16 << 20, 4 << 20)
        );
        assert_eq!(settings.http.override_from, ["127.0.0.0/8".parse().unwrap()]);
        assert!(settings.serving().unwrap_err().to_string().contains("--interface"));
    }

    #[test]
    fn the_file_beats_defaults_and_flags_beat_the_file() {
        let text = r#"// all of them
        { "interface": "eth1", "trunk": "eth9", "vlan": 9, "state": "var", "mode": "proxy", "xdp": "generic", "router_advertisement": "off",
          "dhcp": { "pool": ["10.0.0.10-10.0.0.20"], "lease_secs": 600, "authoritative": false, "router": "10.0.0.1",
                    "dns": ["10.0.0.2", "10.0.0.3"], "domain": "blades.example", "unknown": "hold",
                    "menu": { "prompt": "F8?", "timeout_secs": 9, "items": ["local", "beta"] } },
          "boot": { "bios": "lpxelinux.0", "http64": "http://10.0.0.1/x.efi", "rpi": "" }, "http": { "port": 80, "override_from": ["10.9.0.0/16", "10.8.0.1"], "tls_port": 444, "tls_cert": "tls/cert.pem", "tls_key": "/etc/key.pem" },
          "tftp": { "max_transfers": 9, "max_window": 4, "engine": "plain", "ignore_case": true, "rollover": 1, "single_port": true, "threads": 3, "cache_bytes": 16777216, "in_flight_bytes": 1048576, "client_in_flight_bytes": 65536 }, }"#;
        let file = with(text, Given::default()).unwrap();
        assert_eq!((file.interface.as_str(), file.xdp, file.http.port), ("eth1", Xdp::Generic, 80));
        assert_eq!((file.trunk.as_deref(), file.vlan), (Some("eth9"), Some("9".parse().unwrap())));
        assert_eq!(file.state, file.data.join("var"));
        assert_eq!(file.mode, Mode::Proxy);
        let items = vec!["local".to_owned(), "beta".to_owned()];
        assert_eq!(file.dhcp.menu, Some(Menu { prompt: "F8?".into(), timeout_secs: 9, items }));
        assert_eq!(file.router_advertisement, RouterAdvertisement::Off);
        let boot = [(Class::Bios, "lpxelinux.0"), (Class::Http64, "http://10.0.0.1/x.efi"), (Class::Rpi, "")];
        assert_eq!(file.boot, Boot::from_iter(boot));
        assert_eq!(file.dhcp.router, Some(vec![[10, 0, 0, 1].into()]));
        assert_eq!((file.dhcp.dns.len(), file.dhcp.domain.as_deref()), (2, Some("blades.example")));
        assert_eq!(file.dhcp.unknown, Unknown::Hold);
        assert_eq!((file.tftp.single_port, file.tftp.threads, file.tftp.cache_bytes), (true, 3, 16_777_216));
        assert_eq!((file.tftp.in_flight_bytes, file.tftp.client_in_flight_bytes), (1 << 20, 1 << 16));
        assert!(file.tftp.ignore_case && !with("{}", Given::default()).unwrap().tftp.ignore_case);
        assert_eq!(file.http.override_from[1], "10.8.0.1/32".parse().unwrap());
        assert_eq!((file.tftp.max_transfers, file.tftp.engine), (9, Engine::Plain));

        let given = Given {
            interface: Some("eth2".to_owned()),
            trunk: Some("eth0".to_owned()),
            vlan: Some("100.90".parse().unwrap()),
            state: Some("/var/x".into()),
            http_port: Some(81),
            tls_port: None,
            tls_cert: None,
            tls_key: Some("own.key".into()),
            mode: Some(Mode::Full),
            xdp: Some(Xdp::Off),
            pool: vec!["10.0.0.30-10.0.0.40".parse().unwrap()],
        };
        let both = with(text, given.clone()).unwrap();
        assert_eq!((both.interface.as_str(), both.xdp, both.http.port), ("eth2", Xdp::Off, 81));
        assert_eq!(both.mode, Mode::Full);
        assert_eq!((&both.trunk, both.vlan), (&given.trunk, given.vlan));
        assert_eq!((Some(both.state), both.dhcp.pool), (given.state, given.pool));
        assert_eq!(both.dhcp.lease_secs, 600);
        let (written, flags) = (file.http.tls.unwrap(), both.http.tls.unwrap());
        assert_eq!((written.port, written.cert), (444, file.data.join("tls/cert.pem")));
        assert_eq!((written.key, flags.key), ("/etc/key.pem".into(), PathBuf::from("own.key")));
        assert_eq!((flags.port, flags.cert), (444, both.data.join("tls/cert.pem")));
    }

    #[test]
    fn an_empty_router_is_none_at_all() {
        assert_eq!(with(r#"{"dhcp": {"router": ""}}"#, Given::default()).unwrap().dhcp.router, Some(vec![]));
    }

    #[test]
    fn every_mistake_has_its_place_and_a_remedy() {
        let long = format!(r#"{{"boot": {{"bios": "{}"}}}}"#, "x".repeat(128));
        let table = [
            (
                r#"{"interfaces": "eth1"}"#,
                "netboot.json:1:2: `interfaces` is not a setting; use one of: interface",
            ),
            (
                r#"{"dhcp": {"lease": 5}}"#,
                "netboot.json:1:11: `dhcp.lease` is not a setting; use one of: pool, exclude, lease_secs",
            ),
            (r#"{"dhcp": []}"#, "netboot.json:1:10: `dhcp` is a list, not an object"),
            (r#"{"interface": 5}"#, "netboot.json:1:15: `interface` is a number, not a string"),
            (r#"{"interface": "a/b"}"#, "netboot.json:1:15: `interface` is \"a/b\"; write the name"),
            (r#"{"trunk": "a/b"}"#, "netboot.json:1:11: `trunk` is \"a/b\"; write the name"),
            (
                r#"{"vlan": 4095}"#,
                "netboot.json:1:10: `vlan` is 4095; write the number of a VLAN, from 1 to 4094",
            ),
            (r#"{"vlan": 100.90}"#, "netboot.json:1:10: `vlan` is 100.90; write the number"),
            (r#"{"vlan": "100.9o"}"#, "netboot.json:1:10: `vlan` is \"100.9o\"; write the number"),
            (r#"{"vlan": []}"#, "netboot.json:1:10: `vlan` is a list; write the number"),
            (r#"{"xdp": "fast"}"#, "netboot.json:1:9: `xdp` is \"fast\"; write one of: \"auto\", \"native\""),
            (
                r#"{"router_advertisement": true}"#,
                "netboot.json:1:26: `router_advertisement` is true or false, not a string; write one of: \"empty\", \"off\"",
            ),
            (
                r#"{"dhcp": {"unknown": "wait"}}"#,
                "netboot.json:1:22: `dhcp.unknown` is \"wait\"; write one of: \"pool\", \"hold\", \"deny\"",
            ),
            (
                r#"{"http": {"port": 0}}"#,
                "netboot.json:1:19: `http.port` is 0; write a whole number from 1 to 65535",
            ),
            (r#"{"http": {"port": "80"}}"#, "netboot.json:1:19: `http.port` is a string"),
            (r#"{"http": {"port": 80.5}}"#, "netboot.json:1:19: `http.port` is 80.5"),
            (
                r#"{"dhcp": {"lease_secs": 1}}"#,
                "netboot.json:1:25: `dhcp.lease_secs` is 1; write a whole number from 60",
            ),
            (
                r#"{"dhcp": {"authoritative": "yes"}}"#,
                "netboot.json:1:28: `dhcp.authoritative` is a string; write true",
            ),
            (
                r#"{"dhcp": {"pool": ["10.0.0.9-10.0.0.1"]}}"#,
                "netboot.json:1:20: `dhcp.pool` has \"10.0.0.9-10.0.0.1\"; write a list of ranges, the lower",
            ),
            (
                r#"{"dhcp": {"pool": ["10.0.0.1-10.0.0.9", "10.0.0.9-10.0.0.20"]}}"#,
                "netboot.json: the pool ranges 10.0.0.1-10.0.0.9 and",
            ),
            (r#"{"dhcp": {"dns": ["x"]}}"#, "netboot.json:1:19: `dhcp.dns` has \"x\""),
            (r#"{"dhcp": {"domain": "a..b"}}"#, "netboot.json:1:21: `dhcp.domain` is"),
            (
                r#"{"http": {"override_from": ["10.0.0.0/33"]}}"#,
                "netboot.json:1:29: `http.override_from` has",
            ),
            (long.as_str(), "netboot.json:1:19: `boot.bios` is"),
            (
                r#"{"boot": {"plain": "x"}}"#,
                "netboot.json:1:11: `boot.plain` is not a setting; use one of: bios, efi32, efi64",
            ),
            (
                r#"{"boot": {"ipxe": "undionly.kpxe"}}"#,
                "netboot.json:1:19: `boot.ipxe` is \"undionly.kpxe\"; write a script",
            ),
            (
                r#"{"boot": {"efi64": "http://10.0.0.1/x.efi"}}"#,
                "netboot.json:1:20: `boot.efi64` is \"http://10.0.0.1/x.efi\"; write a path below tftp/",
            ),
            (
                r#"{"mode": "half"}"#,
                "netboot.json:1:10: `mode` is \"half\"; write one of: \"full\", \"proxy\"",
            ),
            (
                r#"{"dhcp": {"dns": ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.8", "10.0.0.9"]}}"#,
                "netboot.json:1:18: `dhcp.dns` has 9 values; write at most 8",
            ),
            (
                "{\n\"xdp\": \"off\",\n\"xdp\": \"auto\"}",
                "netboot.json:3:1: `xdp` is here a second time, first in line 2",
            ),
        ];
        for (text, expected) in table {
            let problem = with(text, Given::default()).unwrap_err();
            assert!(problem.starts_with(expected), "{text}\n{problem}");
        }
        let two = with(r#"{"xdp": 1, "boot": {"efi": "x"}}"#, Given::default()).unwrap_err();
        assert_eq!(two.lines().count(), 2, "{two}");
    }

    #[test]
    fn a_menu_that_cannot_be_shown_is_refused() {
        // 11 bytes round everything, 10 for each item, their names and the prompt.
        let large = format!(
            r#"{{"dhcp": {{"menu": {{"prompt": "{}", "items": ["{}", "{}"]}}}}}}"#,
            "p".repeat(50),
            "a".repeat(60),
            "b".repeat(60)
        );
        let table = [
            (r#"{"dhcp": {"menu": ["local"]}}"#, "netboot.json:1:19: `dhcp.menu` is a list, not an object"),
            (r#"{"dhcp": {"menu": {}}}"#, "netboot.json:1:19: `dhcp.menu` has no items; write \"items\": ["),
            (
                r#"{"dhcp": {"menu": {"items": ["local", "b/c"]}}}"#,
                "netboot.json:1:39: `dhcp.menu.items` has \"b/c\"; write a list of \"local\" and of profiles",
            ),
            (
                r#"{"dhcp": {"menu": {"items": ["beta", "beta"]}}}"#,
                "netboot.json:1:19: `dhcp.menu.items` has an item twice",
            ),
            (
                r#"{"dhcp": {"menu": {"timeout": 5}}}"#,
                "netboot.json:1:20: `dhcp.menu.timeout` is not a setting; use one of: prompt, timeout_secs, items",
            ),
            (
                r#"{"dhcp": {"menu": {"timeout_secs": 256}}}"#,
                "netboot.json:1:36: `dhcp.menu.timeout_secs` is 256; write a whole number from 0 to 255",
            ),
            (
                r#"{"dhcp": {"menu": {"prompt": "drück F8"}}}"#,
                "netboot.json:1:30: `dhcp.menu.prompt` is \"drück F8\"; write one line",
            ),
            (
                large.as_str(),
                "netboot.json:1:19: `dhcp.menu` takes 201 bytes of a reply, which has room for 200; write fewer items",
            ),
        ];
        for (text, expected) in table {
            let problem = with(text, Given::default()).unwrap_err();
            assert!(problem.starts_with(expected), "{text}\n{problem}");
        }
        let given = |text: &str| with(text, Given::default()).unwrap().dhcp.menu.unwrap();
        let menu = given(r#"{"dhcp": {"menu": {"items": ["stable"]}}}"#);
        assert_eq!((menu.prompt.as_str(), menu.timeout_secs), ("Press F8 for the boot menu", 5));
    }
}
