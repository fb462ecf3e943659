//! What each machine did: one event for each step, from all the parts; a log line for each, and the counters.
//!
//! Parts know only [`Timeline::record`] and [`Timeline::count`]; they do not know who listens.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use netboot_ebpf::{Class, Reason};

use crate::mac::Mac;

/// Who answered a DHCP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// The XDP program, in the kernel.
    Xdp,
    /// The daemon.
    Daemon,
}

impl By {
    /// `xdp` or `daemon`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Daemon => "daemon",
        }
    }
}

/// One step of a machine.
#[derive(Clone, Debug)]
pub enum Step {
    /// It was offered, acknowledged or refused an address, or told what to boot.
    Dhcp {
        /// Its Ethernet address.
        mac: Mac,
        /// The address of the reply.
        addr: Ipv4Addr,
        /// `offer`, `ack`, `nak` or `bootp`; `boot-offer` or `boot-ack` when it was told what to boot and given no address.
        reply: &'static str,
        /// Its class.
        class: Class,
        /// Who answered.
        by: By,
    },
    /// It asked for something and gets no answer.
    DhcpIgnored {
        /// Its Ethernet address.
        mac: Mac,
        /// Why.
        reason: Reason,
    },
    /// It began to read a file over TFTP.
    TftpStart {
        /// The client.
        peer: SocketAddr,
        /// The path it asked for.
        file: String,
        /// Size in bytes.
        size: u64,
        /// Agreed block size, bytes.
        blksize: u16,
        /// Agreed window, blocks.
        windowsize: u16,
    },
    /// It has read a whole file over TFTP.
    TftpDone {
        /// The client.
        peer: SocketAddr,
        /// The path it asked for.
        file: String,
        /// Size in bytes.
        bytes: u64,
        /// From the request to the last ACK.
        took: Duration,
        /// Blocks that were sent more than once.
        resent: u64,
    },
    /// A TFTP request or transfer ended without the whole file.
    TftpFailed {
        /// The client.
        peer: SocketAddr,
        /// The path it asked for.
        file: String,
        /// What happened, with the block number where there is one.
        why: String,
    },
    /// It fetched something over HTTP.
    Http {
        /// The client.
        peer: SocketAddr,
        /// Method and path.
        request: String,
        /// `cloud-config`, `file` or `other`.
        what: &'static str,
        /// The status code.
        status: u16,
        /// Bytes of the body, as far as known.
        bytes: u64,
    },
}

/// Collects steps and counts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    counters: Arc<Mutex<BTreeMap<(&'static str, &'static str), u64>>>,
}

impl Timeline {
    /// Counts one event by component (`dhcp`, `tftp`, `http`, `xdp`) and name (a [`Reason`]'s, `offer`, …).
    pub fn count(&self, component: &'static str, name: &'static str) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        *counters.entry((component, name)).or_default() += 1;
    }

    /// Sets a counter that is kept elsewhere, as the XDP program's are.
    pub fn set(&self, component: &'static str, name: &'static str, value: u64) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.insert((component, name), value);
    }

    /// The counters, by component and name.
    pub fn counters(&self) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
        let mut all: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for ((component, name), value) in &*self.counters.lock().unwrap_or_else(PoisonError::into_inner) {
            all.entry(*component).or_default().insert(*name, *value);
        }
        all
    }

    /// Records a step: one log line, target `netboot::step`, with the step's facts as fields.
    pub fn record(&self, step: &Step) {
        match step {
            Step::Dhcp { mac, addr, reply, class, by } => {
                self.count("dhcp", reply);
                tracing::info!(target: "netboot::step", step = "dhcp", %mac, %addr, reply, class = class.name(), by = by.name(), "DHCP {reply}{} to {mac} ({}, by {})", given(*addr), class.name(), by.name());
            }
            Step::DhcpIgnored { mac, reason } => {
                self.count("dhcp", reason.name());
                tracing::info!(target: "netboot::step", step = "dhcp-ignored", %mac, reason = reason.name(), "no DHCP answer to {mac}: {}", reason.name());
            }
            Step::TftpStart { peer, file, size, blksize, windowsize } => {
                tracing::info!(target: "netboot::step", step = "tftp-start", addr = %peer.ip(), file, size, blksize, windowsize, "TFTP {file} to {}: {size} bytes", peer.ip());
            }
            Step::TftpDone { peer, file, bytes, took, resent } => {
                self.count("tftp", "done");
                let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(target: "netboot::step", step = "tftp-done", addr = %peer.ip(), file, bytes, millis, resent, "TFTP {file} to {} done: {bytes} bytes in {millis} ms", peer.ip());
            }
            Step::TftpFailed { peer, file, why } => {
                self.count("tftp", "failed");
                tracing::info!(target: "netboot::step", step = "tftp-failed", addr = %peer.ip(), file, why, "TFTP {file} to {}: {why}", peer.ip());
            }
            Step::Http { peer, request, what, status, bytes } => {
                self.count("http", what);
                tracing::info!(target: "netboot::step", step = "http", addr = %peer.ip(), request, what, status, bytes, "HTTP {request} {status} to {}", peer.ip());
            }
        }
    }
}

/// The address in a sentence about a reply; one that gives none is not told as 0.0.0.0.
fn given(addr: Ipv4Addr) -> String {
    if addr.is_unspecified() { String::new() } else { format!(" {addr}") }
}

#[cfg(test)]
mod tests {
    use super::Timeline;

    #[test]
    fn counts_by_component_and_name() {
        let timeline = Timeline::default();
        timeline.count("dhcp", "offer");
        timeline.clone().count("dhcp", "offer");
        timeline.set("xdp", "unknown-mac", 7);
        let counters = timeline.counters();
        assert_eq!(counters["dhcp"]["offer"], 2);
        assert_eq!(counters["xdp"]["unknown-mac"], 7);
    }
}
