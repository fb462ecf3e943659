//! What a machine is configured with, fetched by real clients: each has an address of its own on loopback.

mod home;
mod ignition;
mod nocloud;
mod real;
mod secrets;
mod templates;
mod token;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use netboot::http::{Reads, State, app, server};
use netboot::inventory::Networks;
use tokio_util::sync::CancellationToken;

use crate::http::served_on;

/// Machines, of which the first is who curl is if nothing else is said.
const HOSTS: &str = r#"{
  "common": { "$dns": "10.9.0.53", "$fqdn": "$hostname.example", "$who": "common" },
  "hosts": {
    "127.0.0.1": { "macaddr": "52:54:00:00:00:01", "$hostname": "b1", "channel": "stable", "$who": "host" },
    "127.0.0.12": { "macaddr": "52:54:00:00:00:12", "$hostname": "b12", "channel": "beta", "template": "own.yaml", "ignition": "b12.ign", "uuid": "4C4C4544-0042-3510-8058-b9c04f4a3333", "serial": "CZ 12" },
  } }"#;

/// Somebody who may see what concerns other machines.
const OPERATOR: &str = "127.0.0.5";
/// A machine without a reservation.
const STRANGER: &str = "127.0.0.99";

/// A server on loopback, until it is dropped.
struct Rig {
    dir: tempfile::TempDir,
    state: State,
    addr: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    /// With these files in the data directory.
    async fn start(files: &[(&str, &str)]) -> Self {
        Self::with(files, |_| {}).await
    }

    /// The same, with changes to what is served.
    async fn with(files: &[(&str, &str)], change: impl FnOnce(&mut State)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pxe_hosts.json"), HOSTS).unwrap();
        for (name, text) in files {
            put(dir.path(), name, text);
        }
        let network = "127.0.0.0/24".parse().unwrap();
        let mut state = served_on(dir.path(), Networks::of(network));
        state.subnets = Arc::new([network]);
        state.override_from = Arc::new([format!("{OPERATOR}/32").parse().unwrap()]);
        state.reads = Arc::new(Reads::new(3));
        change(&mut state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(server::run(listener, app(state.clone()), stop.clone()));
        Self { dir, state, addr, stop }
    }

    fn put(&self, name: &str, text: &str) {
        put(self.dir.path(), name, text);
    }

    /// What curl gets with this source address: status, type and text.
    async fn curl(&self, from: &str, path: &str, arguments: &[&str]) -> Got {
        let mut command = Command::new("curl");
        command.args([
            "-s",
            "--path-as-is",
            "--max-time",
            "10",
            "--interface",
            from,
            "-w",
            "\n%{http_code} %{content_type}",
        ]);
        command.args(arguments).arg(format!("http://{}{path}", self.addr));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let (text, last) = said.rsplit_once('\n').unwrap();
        let (status, content_type) = last.split_once(' ').unwrap();
        Got { status: status.parse().unwrap(), content_type: content_type.to_owned(), text: text.to_owned() }
    }

    /// The same with a GET, as (status, text).
    async fn get(&self, from: &str, path: &str) -> (u16, String) {
        let Got { status, text, .. } = self.curl(from, path, &[]).await;
        (status, text)
    }
}

struct Got {
    status: u16,
    content_type: String,
    text: String,
}

fn put(data: &Path, name: &str, text: &str) {
    let path = data.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
