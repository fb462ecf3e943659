//! The servers under test: each in a namespace of its own, with a wire to a namespace from which the clients ask. Offloads are
//! on, as with any card.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use xtask::lab::{Child, Namespace};

use super::site::{self, ADDRS, addr};
use crate::bench::contestant::{SERVER, Setting};
use crate::bench::process::{self, Family};

/// How long a server may take to end by itself.
const END: Duration = Duration::from_secs(5);

/// What the replaced system had: a script that reads its files at each request.
const SCRIPT: &str = include_str!("seed.py");

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Netboot,
    /// nginx, with a file in place of the text that is made at each request.
    Nginx,
    Script,
}

/// All that are measured.
pub(super) const ALL: [Program; 3] = [Program::Netboot, Program::Nginx, Program::Script];

impl Program {
    /// As the tables have it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Netboot => "netboot",
            Self::Nginx => "nginx",
            Self::Script => "a script",
        }
    }

    /// Where its text and its large file are.
    pub(super) const fn paths(self) -> (&'static str, &'static str) {
        match self {
            Self::Netboot | Self::Script => ("/", "/files/large"),
            Self::Nginx => ("/cloud-config", "/files/large"),
        }
    }

    const fn port(self) -> u16 {
        if let Self::Nginx = self { 80 } else { 8080 }
    }
}

/// A server that runs. The process ends before its namespaces do.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) program: Program,
    child: Child,
    log: PathBuf,
    client: Namespace,
    _server: Namespace,
}

impl Running {
    /// Starts it with its files in `home`, which is made.
    ///
    /// # Errors
    /// When a namespace, a file or the process cannot be had.
    pub(super) fn start(program: Program, setting: &Setting<'_>, home: &Path, large: &Path) -> Result<Self> {
        let (server, client) = (Namespace::new("server")?, Namespace::new("clients")?);
        for namespace in [&server, &client] {
            namespace.shell("for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $file; done")?;
        }
        server.veth("pxe0", &client, "eth0")?;
        server.ip(&format!("addr add {SERVER}/16 dev pxe0"))?;
        for number in 0..ADDRS {
            client.ip(&format!("addr add {}/16 dev eth0", addr(number.into())))?;
        }
        std::fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
        site::write(home, large)?;
        let place = home.to_str().context("the path of the repository is not UTF-8")?;
        let command = match program {
            // As much is in the log as nginx has in its own here: what goes wrong.
            Program::Netboot => format!(
                "env NETBOOT_LOG=warn {} serve --interface pxe0 --data {place} --xdp off --pool 10.90.128.0-10.90.191.255",
                setting.netboot
            ),
            Program::Nginx => {
                std::fs::write(home.join("nginx.conf"), nginx(place)).context("write nginx.conf")?;
                let (libraries, nginx) = (setting.peers.libraries()?, setting.peers.program("nginx")?);
                format!(
                    "env LD_LIBRARY_PATH={libraries} {nginx} -p {place} -e {place}/error.log -c {place}/nginx.conf"
                )
            }
            Program::Script => {
                std::fs::write(home.join("seed.py"), SCRIPT).context("write seed.py")?;
                format!("python3 {place}/seed.py {place}")
            }
        };
        let line = format!("exec {command} > {place}/log 2>&1");
        let child = server.spawn("sh", &["-c", &line])?;
        Ok(Self { program, child, log: home.join("log"), client, _server: server })
    }

    /// Where it is asked.
    pub(super) fn addr(&self) -> SocketAddrV4 {
        SocketAddrV4::new(SERVER, self.program.port())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When it has ended; the error has its log.
    pub(super) fn check(&self) -> Result<()> {
        process::cpu(self.child.pid()).with_context(|| self.ended()).map(drop)
    }

    /// Does something in the clients' namespace, and returns what came of it and the processor time that the server used
    /// meanwhile, all its processes.
    ///
    /// # Errors
    /// When it has ended; the error has its log.
    pub(super) fn cpu_during<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<(T, Duration)> {
        let mut family = Family::of(self.child.pid()).with_context(|| self.ended())?;
        let done = self.client.inside(work)?;
        family.look().with_context(|| self.ended())?;
        Ok((done, family.used()))
    }

    fn ended(&self) -> String {
        format!("it has ended; its log:\n{}", self.log())
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    /// nginx's workers would live on without it, and keep their namespace; it ends them when it is told to end.
    fn drop(&mut self) {
        let _ = self.child.signal("TERM");
        let _ = self.child.wait(END);
    }
}

/// As Debian sets it up, but for the log of every request, which netboot does not write here either, and for the number of
/// requests after which it would close a connection.
fn nginx(place: &str) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places = kinds.map(|kind| format!("  {kind}_temp_path {place}/{kind};\n")).concat();
    format!(
        "user root;\nworker_processes auto;\ndaemon off;\npid {place}/nginx.pid;\nerror_log {place}/error.log;\n\
         events {{\n  worker_connections 768;\n}}\nhttp {{\n{places}  sendfile on;\n  tcp_nopush on;\n  types_hash_max_size 2048;\n  \
         default_type application/octet-stream;\n  access_log off;\n  keepalive_requests 1000000000;\n  gzip on;\n  \
         server {{\n    listen 80;\n    root {place};\n  }}\n}}\n"
    )
}
