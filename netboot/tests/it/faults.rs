//! TFTP on bad wires and with bad clients: the real program, in a lab of its own, against clients that are no part of it.

mod cable;
mod client;
mod lossy;
mod real;
mod rude;
mod spoofed;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use xtask::lab::{Lab, Namespace, SERVER_ADDR, Server, Step, wait_for};

use crate::daemon::{NETBOOT, SOON, data, lab};
use crate::wire::mac_of;
use cable::{Cable, Faults};
use client::Client;

/// Both ways to move packets.
const ENGINES: [&str; 2] = ["uring", "plain"];
/// Keeps the server from sending again while a test counts what it sent.
const PATIENT: (&str, &str) = ("timeout", "20");
/// Where TFTP requests go.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(SERVER_ADDR), 69);

/// A server and a client's namespace, which has as many addresses as the test wants.
struct Site {
    cable: Option<Cable>,
    server: Server,
    client: Namespace,
    /// Ends after what is in it.
    lab: Lab,
    data: TempDir,
}

impl Site {
    /// With these TFTP settings, through the lab's switch. Both ends know each other without ARP: the client's addresses are
    /// `192.168.90.50` and the further ones.
    fn new(tftp: &str, further: &[Ipv4Addr]) -> Self {
        let (lab, data) = (lab(), data(r#"{ "hosts": {} }"#));
        std::fs::write(data.path().join("netboot.json"), format!("{{ \"tftp\": {{ {tftp} }} }}")).unwrap();
        let client = lab.client("client").unwrap();
        let (server_mac, client_mac) = (mac_of(&lab.server, "pxe0"), mac_of(&client, "eth0"));
        client
            .ip(&format!("neigh replace {SERVER_ADDR} lladdr {server_mac} dev eth0 nud permanent"))
            .unwrap();
        for addr in further.iter().chain(&[address(50)]) {
            client.ip(&format!("addr add {addr}/24 dev eth0")).unwrap();
            lab.server
                .ip(&format!("neigh replace {addr} lladdr {client_mac} dev pxe0 nud permanent"))
                .unwrap();
        }
        let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
        Self { cable: None, server, client, lab, data }
    }

    /// The same with a cable of ours instead of the switch, and with every packet a frame of its own on it.
    fn through(tftp: &str, further: &[Ipv4Addr], faults: Faults, seed: u64) -> Self {
        let mut site = Self::new(tftp, further);
        let switch = &site.lab.switch;
        for (namespace, interface) in
            [(&site.lab.server, "pxe0"), (&site.client, "eth0"), (switch, "uplink"), (switch, "port1")]
        {
            namespace
                .shell(&format!("ethtool -K {interface} tx off rx off gso off gro off tso off"))
                .unwrap();
        }
        for port in ["uplink", "port1"] {
            switch.ip(&format!("link set {port} nomaster")).unwrap();
        }
        site.cable = Some(Cable::plug(switch, ["port1", "uplink"], faults, seed));
        site
    }

    /// Makes a file that the server serves.
    fn file(&self, name: &str, content: &[u8]) {
        std::fs::write(self.data.path().join("tftp").join(name), content).unwrap();
    }

    /// A client at this address.
    fn at(&self, addr: Ipv4Addr) -> Client {
        self.client.inside(|| Client::bind(addr, SERVER)).unwrap()
    }

    /// How the transfers of this address have ended so far.
    fn ends(&self, addr: Ipv4Addr) -> Vec<Step> {
        let mut steps = self.server.steps();
        steps.retain(|step| {
            ["tftp-done", "tftp-failed"].contains(&step.name()) && step.text("addr") == addr.to_string()
        });
        steps
    }

    /// Waits until so many transfers of this address have ended.
    fn wait_ends(&self, addr: Ipv4Addr, number: usize, within: Duration) -> Vec<Step> {
        let mut ends = Vec::new();
        let held = wait_for(within, || {
            ends = self.ends(addr);
            ends.len() >= number
        });
        assert!(held, "{} of {number} ends for {addr}: {}", ends.len(), self.server.child().output());
        ends
    }

    /// That a client at this address is served a file as if nothing else were going on. A place that is just becoming free
    /// may be waited for, as the server's refusal says.
    fn serves(&self, addr: Ipv4Addr, name: &str, content: &[u8]) {
        let mut got = Err(String::new());
        wait_for(SOON, || {
            let client = self.at(addr);
            got = client.fetch(name, 4, &[], SOON);
            if got.is_err() {
                // A pause: `wait_for` makes none after `at`, whose thread has woken this one up.
                client.hear(Duration::from_millis(50));
            }
            !got.as_ref().is_err_and(|why| why.contains("try again"))
        });
        let got = got.unwrap();
        assert!(got == content, "{} of {} bytes", got.len(), content.len());
    }
}

/// The machine of this number in the PXE network.
const fn address(last: u8) -> Ipv4Addr {
    let [a, b, c, _] = SERVER_ADDR.octets();
    Ipv4Addr::new(a, b, c, last)
}

/// Settings that choose an engine.
fn engine(name: &str) -> String {
    format!("\"engine\": \"{name}\"")
}

/// Bytes that show where they stand in the file.
fn pattern(length: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(length + 4);
    for word in 0..=u32::try_from(length / 4).unwrap() {
        content.extend(word.wrapping_mul(0x9e37_79b1).to_be_bytes());
    }
    content.truncate(length);
    content
}
