//! The lab's wiring: a switch, the server's namespace behind it, and as many clients as a test wants.
//!
//! ```text
//! server namespace          switch namespace              client namespaces, virtual machines
//! pxe0 192.168.90.2/24 ──── uplink ─ br0 ─ port1, tap2 ── eth0, virtio-net
//! ```
//!
//! [`Lab::trunk`] makes the wire between the two a trunk: `pxe0.90` has the address, and the machines know of no tag.
//!
//! ```text
//! pxe0.90 ─ Vlan ─ pxe0 ──── uplink ─ Vlan ─ access ─ br0
//! ```

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::namespace::{Child, Namespace, delete, run};
use super::vlan::Vlan;

/// The server's address on the PXE network, a /24.
pub const SERVER_ADDR: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 2);

/// Turns off what would add frames of its own or take some away: IPv6 chatter, and packet filters on the bridge.
const QUIET: &str = "for file in /proc/sys/net/ipv6/conf/all/disable_ipv6 /proc/sys/net/ipv6/conf/default/disable_ipv6; do \
     if [ -w $file ]; then echo 1 > $file; fi; done; \
     for file in /proc/sys/net/bridge/bridge-nf-call-*; do if [ -w $file ]; then echo 0 > $file; fi; done";

/// A PXE network of its own; gone when dropped, after the processes in it.
#[derive(Debug)]
pub struct Lab {
    /// Where the server runs; its interface is `pxe0`.
    pub server: Namespace,
    /// Where the bridge `br0` is and QEMU runs; its port towards the server is `uplink`.
    pub switch: Namespace,
    ports: AtomicU32,
}

impl Lab {
    /// Builds the network. Needs root.
    ///
    /// # Errors
    /// When the kernel refuses a namespace or a link; the error has what `ip` said.
    pub fn new() -> Result<Self> {
        let server = Namespace::new("server")?;
        let switch = Namespace::new("switch")?;
        for namespace in [&server, &switch] {
            namespace.shell(QUIET)?;
        }
        switch.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        switch.ip("link set br0 up")?;
        server.veth("pxe0", &switch, "uplink")?;
        switch.ip("link set uplink master br0")?;
        server.ip(&format!("addr add {SERVER_ADDR}/24 dev pxe0"))?;
        Ok(Self { server, switch, ports: AtomicU32::new(1) })
    }

    /// A client on the network: a namespace whose `eth0` is plugged in, up, without an address. Its Ethernet
    /// address is the test's to set (`ip link set eth0 address …`).
    ///
    /// # Errors
    /// When the kernel refuses a namespace or a link.
    pub fn client(&self, role: &str) -> Result<Namespace> {
        let client = Namespace::new(role)?;
        client.shell(QUIET)?;
        let port = self.next_port("port");
        client.veth("eth0", &self.switch, &port)?;
        self.switch.ip(&format!("link set {port} master br0"))?;
        Ok(client)
    }

    /// A tap on the bridge, for a virtual machine that runs in the switch's namespace. Its name is returned.
    ///
    /// # Errors
    /// When there is no `/dev/net/tun` or the kernel refuses the link.
    pub fn tap(&self) -> Result<String> {
        let tap = self.next_port("tap");
        self.switch.ip(&format!("tuntap add dev {tap} mode tap"))?;
        self.switch.ip(&format!("link set {tap} master br0"))?;
        self.switch.ip(&format!("link set {tap} up"))?;
        Ok(tap)
    }

    /// From now on frames have these tags (outer first) on the wire between server and switch, and the server's address is
    /// on its VLAN's own interface, `pxe0.90`, whose Ethernet address is not that of `pxe0`.
    ///
    /// # Errors
    /// When there is no `/dev/net/tun` or the kernel refuses a link.
    pub fn trunk(&self, tags: &[u16]) -> Result<Trunk> {
        let Self { server, switch, .. } = self;
        switch.ip("link set uplink nomaster")?;
        let access = Vlan::start(switch, "uplink", "access", tags)?;
        switch.ip("link set access master br0")?;
        let numbers: Vec<String> = tags.iter().map(u16::to_string).collect();
        let interface = format!("pxe0.{}", numbers.join("."));
        let own = Vlan::start(server, "pxe0", &interface, tags)?;
        server.ip("addr flush dev pxe0")?;
        server.ip(&format!("addr add {SERVER_ADDR}/24 dev {interface}"))?;
        Ok(Trunk { interface, own, access })
    }

    /// Records the DHCP between the server and everybody else into a pcap file. Taken on the switch: what the XDP
    /// program sends never reaches a capture on the server's own interface.
    ///
    /// # Errors
    /// When tcpdump does not start to listen.
    pub fn capture(&self, file: &Path) -> Result<Capture> {
        let name = file.to_str().context("the capture's path is not UTF-8")?;
        // --immediate-mode: the kernel would else keep the last second's packets for itself.
        // -Z root: tcpdump would else give up root and then may not write below a private directory.
        let arguments = [
            "-i",
            "uplink",
            "-n",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "-s",
            "0",
            "-w",
            name,
            "udp and (port 67 or port 68)",
        ];
        let child = self.switch.spawn("tcpdump", &arguments)?;
        child.wait_line("listening on", Duration::from_secs(10))?;
        Ok(Capture { child, file: file.to_owned() })
    }

    fn next_port(&self, kind: &str) -> String {
        format!("{kind}{}", self.ports.fetch_add(1, Ordering::Relaxed))
    }
}

/// The two ends of a trunk.
#[derive(Debug)]
pub struct Trunk {
    /// The VLAN's own interface in the server's namespace.
    pub interface: String,
    /// What takes the tags off there.
    pub own: Vlan,
    /// What puts them on the frames of the machines.
    pub access: Vlan,
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// Ends the capture and returns its frames, in the order in which they passed.
    ///
    /// # Errors
    /// When tcpdump does not end, or the file is not a pcap file of Ethernet frames.
    pub fn frames(mut self) -> Result<Vec<Vec<u8>>> {
        self.child.signal("INT")?;
        self.child.wait(Duration::from_secs(10))?;
        let bytes = std::fs::read(&self.file).with_context(|| format!("read {}", self.file.display()))?;
        frames(&bytes)
            .with_context(|| format!("{} is not a pcap file as tcpdump writes it here", self.file.display()))
    }
}

/// The frames of a pcap file in this machine's byte order (<https://www.tcpdump.org/manpages/pcap-savefile.5.html>).
fn frames(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
    if word(0)? != MAGIC {
        return None;
    }
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let length = usize::try_from(word(at.checked_add(8)?)?).ok()?;
        let start = at.checked_add(16)?;
        let end = start.checked_add(length)?;
        frames.push(bytes.get(start..end)?.to_vec());
        at = end;
    }
    Some(frames)
}

/// Removes the namespaces of earlier runs that ended without doing so, which also ends nothing that is alive: only
/// those whose name has the pid of a process that is gone. Returns their names.
///
/// # Errors
/// When `ip netns` fails.
pub fn remove_leftovers() -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for line in run(Command::new("ip").args(["netns", "list"]))?.lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        let Some(pid) = owner(name) else { continue };
        if Path::new(&format!("/proc/{pid}")).exists() {
            continue;
        }
        for pid in run(Command::new("ip").args(["netns", "pids", name]))?.split_whitespace() {
            // It may end by itself in between.
            let _ = run(Command::new("kill").args(["-s", "KILL", pid]));
        }
        match delete(name) {
            Ok(()) => removed.push(name.to_owned()),
            Err(error) if Path::new("/run/netns").join(name).exists() => bail!(error),
            Err(_) => {}
        }
    }
    Ok(removed)
}

/// The process that made the namespace of this name, if it is one of ours.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix("nb-")?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    parts.next()?;
    Some(pid)
}

#[cfg(test)]
mod tests {
    use super::{frames, owner};

    #[test]
    fn only_our_own_namespaces_are_leftovers() {
        assert_eq!(owner("nb-123-0-server"), Some(123));
        assert_eq!(owner("nb-123-0-client-a"), Some(123));
        for other in ["nb-123", "nb-x-0-server", "mynet", "nb-123-server", "web-1-2-3"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn a_pcap_file_is_read_frame_by_frame() {
        let mut file = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        file.resize(24, 0);
        for frame in [&b"one"[..], b"three"] {
            let length = u32::try_from(frame.len()).unwrap().to_ne_bytes();
            file.extend([0; 8]);
            file.extend(length);
            file.extend(length);
            file.extend(frame);
        }
        assert_eq!(frames(&file).unwrap(), [b"one".to_vec(), b"three".to_vec()]);
        assert_eq!(frames(&file[..file.len() - 1]), None, "cut short");
        assert_eq!(frames(b"not a pcap file, not at all"), None);
    }
}
