//! The servers under test: each in a namespace of its own, with a wire to a namespace from which the clients ask.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use xtask::lab::{Child, Namespace};

use super::client;
use super::null::Null;
use super::wire::Ask;
use crate::bench::contestant::{SERVER, Setting};
use crate::bench::peers::Peers;
use crate::bench::process::{self, Family};

/// How often it is looked at a server's children; less often when they are many, since each look takes time from all.
const GLANCE: Duration = Duration::from_millis(50);
const GLANCE_OF_ONE: Duration = Duration::from_millis(2);

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// netboot as it comes, or with plain sockets in place of io_uring.
    Netboot { plain: bool },
    /// tftpd-hpa.
    Hpa,
    /// atftpd.
    Atftpd,
    /// dnsmasq.
    Dnsmasq,
    /// No server: the ceiling of the clients.
    Null,
}

/// All that are measured.
pub(super) const ALL: [Program; 6] = [
    Program::Netboot { plain: false },
    Program::Netboot { plain: true },
    Program::Hpa,
    Program::Atftpd,
    Program::Dnsmasq,
    Program::Null,
];

impl Program {
    /// As the tables have it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Netboot { plain: false } => "netboot",
            Self::Netboot { plain: true } => "netboot, engine plain",
            Self::Hpa => "tftpd-hpa",
            Self::Atftpd => "atftpd",
            Self::Dnsmasq => "dnsmasq",
            Self::Null => "null responder",
        }
    }

    /// Whether it is one that netboot is measured against.
    pub(super) const fn is_peer(self) -> bool {
        matches!(self, Self::Hpa | Self::Atftpd | Self::Dnsmasq)
    }

    /// Its place among all.
    pub(super) fn number(self) -> usize {
        ALL.iter().position(|program| *program == self).unwrap_or_default()
    }
}

/// The wire between a server and its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    /// Largest packet, bytes.
    pub(super) mtu: u16,
    /// Whether packets may be cut and have their checksums made by the card, which a veth has none of.
    pub(super) offloads: bool,
}

impl Wire {
    /// As the tables have it.
    pub(super) const fn name(self) -> &'static str {
        if self.offloads { "offloads on" } else { "offloads off" }
    }

    /// The server's namespace with `pxe0`, and the clients' with `eth0` and all their addresses.
    fn lay(self, peers: &Peers) -> Result<(Namespace, Namespace)> {
        let (server, client) = (Namespace::new("server")?, Namespace::new("clients")?);
        for namespace in [&server, &client] {
            namespace.shell("for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $file; done")?;
        }
        server.veth("pxe0", &client, "eth0")?;
        let (ethtool, libraries) = (peers.program("ethtool")?, peers.libraries()?);
        let state = if self.offloads { "on" } else { "off" };
        let features =
            ["tx", "rx", "gso", "gro", "tso", "tx-udp-segmentation"].map(|name| format!("{name} {state}"));
        for (namespace, interface) in [(&server, "pxe0"), (&client, "eth0")] {
            namespace.ip(&format!("link set {interface} mtu {}", self.mtu))?;
            let line = format!("LD_LIBRARY_PATH={libraries} {ethtool} -K {interface} {}", features.join(" "));
            namespace.shell(&line)?;
        }
        server.ip(&format!("addr add {SERVER}/16 dev pxe0"))?;
        for number in 0..client::ADDRS {
            client.ip(&format!("addr add {}/16 dev eth0", client::addr(number)))?;
        }
        Ok((server, client))
    }
}

/// A server that runs, if it is one. The process ends before its namespaces do.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) program: Program,
    child: Option<Child>,
    log: std::path::PathBuf,
    started: Instant,
    server: Namespace,
    client: Namespace,
}

impl Running {
    /// Starts it with its files in `home`, which is made; `file` is served under its own name. It may not be ready yet.
    ///
    /// # Errors
    /// When a namespace, a file or the process cannot be had.
    pub(super) fn start(
        program: Program,
        wire: Wire,
        setting: &Setting<'_>,
        home: &Path,
        file: &Path,
    ) -> Result<Self> {
        let (server, client) = wire.lay(setting.peers)?;
        let place = home.to_str().context("the path of the repository is not UTF-8")?;
        let tftp = home.join("tftp");
        std::fs::create_dir_all(&tftp).with_context(|| format!("create {}", tftp.display()))?;
        // One file for all: whoever reads it has it in the same pages of memory.
        let place_of_file = tftp.join(file.file_name().context("the file has no name")?);
        std::fs::hard_link(file, &place_of_file)
            .with_context(|| format!("link {}", place_of_file.display()))?;
        let peer = |name: &str| -> Result<String> {
            let (libraries, program) = (setting.peers.libraries()?, setting.peers.program(name)?);
            Ok(format!("env LD_LIBRARY_PATH={libraries} {program}"))
        };
        let command = match program {
            Program::Netboot { plain } => Some(netboot(setting, home, place, plain)?),
            Program::Hpa => Some(format!(
                "{} --listen --foreground --user root --address {SERVER}:69 --secure {place}/tftp",
                peer("in.tftpd")?
            )),
            Program::Atftpd => Some(format!(
                "{} --daemon --no-fork --user root --group root --maxthread 4096 --logfile {place}/atftpd.log \
                 --verbose=3 --bind-address {SERVER} --port 69 {place}/tftp",
                peer("atftpd")?
            )),
            // Its limit of 50 transfers would be what is measured, and its buffer, which is as large as that of DNS.
            Program::Dnsmasq => Some(format!(
                "{} --keep-in-foreground --conf-file=/dev/null --pid-file --port=0 --interface=pxe0 --bind-interfaces \
                 --user=root --group=root --log-facility=- --enable-tftp --tftp-root={place}/tftp --tftp-max=4096 --edns-packet-max=9216 \
                 --quiet-tftp",
                peer("dnsmasq")?
            )),
            Program::Null => None,
        };
        let log = home.join("log");
        let started = Instant::now();
        let child = match command {
            // Into a file: reading a pipe would cost the clients' process time.
            Some(command) => {
                let line = format!("exec {command} > {place}/log 2>&1");
                Some(server.spawn("sh", &["-c", &line])?)
            }
            None => None,
        };
        Ok(Self { program, child, log, started, server, client })
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When it has ended; the error has its log.
    pub(super) fn check(&self) -> Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        process::cpu(child.pid()).with_context(|| self.ended()).map(drop)
    }

    /// Does something, and returns what came of it and the processor time that the server used meanwhile, all its
    /// processes.
    ///
    /// # Errors
    /// When it has ended; the error has its log.
    pub(super) fn cpu_during<T>(&self, work: impl FnOnce() -> T) -> Result<(T, Duration)> {
        let Some(child) = &self.child else { return Ok((work(), Duration::ZERO)) };
        let mut family = Family::of(child.pid()).with_context(|| self.ended())?;
        let (over, is_over) = mpsc::channel::<()>();
        let done = std::thread::scope(|scope| {
            // One that has no children is looked at before and after alone.
            if self.program == Program::Hpa {
                let family = &mut family;
                scope.spawn(move || {
                    let mut pause = GLANCE;
                    while is_over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                        let count = u32::try_from(family.look().unwrap_or_default()).unwrap_or_default();
                        pause = GLANCE.max(GLANCE_OF_ONE * count);
                    }
                });
            }
            // However the work ends: then there is nobody to hear from.
            let _over = over;
            work()
        });
        family.look().with_context(|| self.ended())?;
        Ok((done, family.used()))
    }

    fn ended(&self) -> String {
        format!("it has ended; its log:\n{}", self.log())
    }

    /// Memory of it, KiB, by its name in /proc/PID/status.
    pub(super) fn memory_kib(&self, what: &str) -> u64 {
        let of = |child: &Child| process::memory_kib(child.pid(), what);
        self.child.as_ref().and_then(of).unwrap_or_default()
    }

    /// How long ago it was started.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The null responder, if it is that one.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(super) fn null(&self, ask: Ask) -> Result<Option<Null>> {
        let is_null = self.program == Program::Null;
        is_null.then(|| Null::start(self.server.name(), ask)).transpose()
    }

    /// Does something in the clients' namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub(super) fn as_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.client.inside(work)
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Writes what netboot reads, and returns its command.
fn netboot(setting: &Setting<'_>, home: &Path, place: &str, plain: bool) -> Result<String> {
    let settings = if plain { json!({ "tftp": { "engine": "plain" } }) } else { json!({}) };
    let machines = json!({ "common": {}, "hosts": {} });
    for (name, text) in [
        ("pxe_hosts.json", machines.to_string()),
        ("default.yaml", "#cloud-config\n".to_owned()),
        ("netboot.json", settings.to_string()),
    ] {
        std::fs::write(home.join(name), text).with_context(|| format!("write {place}/{name}"))?;
    }
    let pool = "10.90.128.0-10.90.191.255";
    Ok(format!(
        "env NETBOOT_LOG=warn {} serve --interface pxe0 --data {place} --pool {pool}",
        setting.netboot
    ))
}
