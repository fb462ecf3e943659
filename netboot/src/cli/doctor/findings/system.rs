//! What the kernel's settings, the clock and the disk do to a rack of machines.

use super::super::facts::{Clock, Disk, Facts, Usable};
use super::{Finding, SUDO, State};
use crate::config::Engine;

/// Room in the socket for a rack that is switched on at once, as `dhcp::sockets` asks for.
const RECEIVE_BUFFER: u64 = 4 << 20;
/// Less than the lease file and its next version need.
const DISK_FULL: u64 = 16 << 20;
/// Less than a log of a storm needs.
const DISK_SHORT: u64 = 256 << 20;
/// 2025-01-01: before that the program did not exist.
const EARLIEST: u64 = 1_735_689_600;

/// What is pinned outlives the daemon, until its successor has taken over.
pub(super) fn pinning(facts: &Facts) -> Finding {
    let finding = |state, message: &str| Finding::new("bpffs", state, message);
    match &facts.pinning {
        Ok(true) => finding(State::Ok, "the program can be pinned: SIGUSR1 and a new start leave no gap"),
        Ok(false) => finding(State::Ok, "no BPF file system is mounted; serve mounts it"),
        Err(why) => {
            let (what, fix) = why.split_once(": ").unwrap_or((why, SUDO));
            let state = if facts.lacking.is_empty() { State::Warning } else { State::Skipped };
            finding(state, &format!("{what}; a replacement of netboot leaves a gap"))
                .fix(if facts.lacking.is_empty() { fix } else { SUDO })
        }
    }
}

/// The reverse path filter takes away what comes by another way than its answer would go.
pub(super) fn rp_filter(facts: &Facts, usable: Option<&Usable>) -> Finding {
    let finding = |state, message: &str| Finding::new("rp_filter", state, message);
    match (facts.rp_filter, usable) {
        (Some(1), Some(Usable { name, .. })) if facts.relays => {
            let message = "strict: what relay agents send is dropped unless the route back goes out here";
            // A dot in a name, as in eth1.90, is a slash to sysctl.
            let name = name.replace('.', "/");
            finding(State::Warning, message).fix(format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2"))
        }
        (Some(1), Some(_)) => finding(State::Ok, "strict, which does no harm without relay agents"),
        (Some(_), Some(_)) => finding(State::Ok, "not strict"),
        (_, None) => finding(State::Skipped, "it is a setting of the interface"),
        (None, Some(_)) => finding(State::Skipped, "it cannot be read in /proc/sys"),
    }
}

pub(super) fn buffers(facts: &Facts) -> Finding {
    let finding = |state, message: &str| Finding::new("buffers", state, message);
    if !facts.lacking.contains(&"CAP_NET_ADMIN") {
        return finding(State::Ok, "4 MiB for requests, whatever net.core.rmem_max is");
    }
    match facts.rmem_max {
        Some(most) if most >= RECEIVE_BUFFER => finding(State::Ok, "4 MiB for requests"),
        Some(most) => {
            let message = format!(
                "without CAP_NET_ADMIN the sockets get {} KiB for requests, too little for a rack at once",
                most / 1024
            );
            finding(State::Warning, &message).fix(format!("sysctl -w net.core.rmem_max={RECEIVE_BUFFER}"))
        }
        None => finding(State::Skipped, "net.core.rmem_max cannot be read here"),
    }
}

pub(super) fn neighbours(facts: &Facts) -> Finding {
    let finding = |state, message: String| Finding::new("gc_thresh", state, message);
    let hosts = facts.hosts as u64;
    match facts.gc_thresh3 {
        Some(most) if most > hosts => {
            finding(State::Ok, format!("room for {most} neighbours, {hosts} machines are known"))
        }
        Some(most) => {
            let (soft, hard) = (hosts.saturating_mul(2), hosts.saturating_mul(4));
            finding(State::Warning, format!("room for {most} neighbours, but {hosts} machines are known")).fix(format!(
                "sysctl -w net.ipv4.neigh.default.gc_thresh3={hard} net.ipv4.neigh.default.gc_thresh2={soft}"
            ))
        }
        None => {
            let message =
                "the kernel shows the size of its neighbour table outside of network namespaces only";
            finding(State::Skipped, message.to_owned())
        }
    }
}

pub(super) fn bridge(facts: &Facts, usable: &Usable) -> Option<Finding> {
    let bridged = usable.kind.as_deref() == Some("bridge")
        || usable.master.as_ref().is_some_and(|(_, kind)| kind == "bridge");
    let finding = |state, message: &str| Finding::new("bridge-nf", state, message);
    bridged.then(|| match facts.bridge_filtered {
        Some(0) | None => finding(State::Ok, "iptables does not see what the bridge forwards"),
        Some(_) => {
            finding(State::Warning, "iptables sees what the bridge forwards, and may drop DHCP and TFTP")
                .fix("sysctl -w net.bridge.bridge-nf-call-iptables=0")
        }
    })
}

pub(super) fn uring(facts: &Facts) -> Finding {
    let finding = |state, message: &str| Finding::new("io_uring", state, message);
    match (&facts.no_uring, facts.engine) {
        (_, Engine::Plain) => finding(State::Ok, "not used: the setting `tftp.engine` is \"plain\""),
        (None, _) => finding(State::Ok, "allowed"),
        (Some(why), engine) => {
            let fix = "sysctl -w kernel.io_uring_disabled=0; in a container its seccomp profile must allow io_uring";
            if engine == Engine::Uring {
                let message = format!("not allowed ({why}), and the setting `tftp.engine` wants it");
                finding(State::Wrong, &message).fix(fix)
            } else {
                finding(State::Warning, &format!("not allowed ({why}): TFTP takes more CPU")).fix(fix)
            }
        }
    }
}

pub(super) fn clock(clock: &Clock) -> Finding {
    let finding = |state, message: &str| Finding::new("clock", state, message);
    let fix = "timedatectl set-ntp true";
    if clock.now < EARLIEST {
        return finding(State::Wrong, "the clock is years behind, and leases are kept by it").fix(fix);
    }
    if let Some(written) = clock.leases_written
        && written > clock.now + 60
    {
        let message =
            format!("the leases were written {} s from now: the clock is wrong, or was", written - clock.now);
        return finding(State::Warning, &message).fix(fix);
    }
    match clock.synchronised {
        Some(false) => finding(State::Warning, "nothing sets the clock by the network").fix(fix),
        Some(true) => finding(State::Ok, "set by the network"),
        None => finding(State::Ok, "plausible; whether anything sets it by the network cannot be told"),
    }
}

pub(super) fn disk(disk: &Result<Disk, String>) -> Finding {
    let finding = |state, message: String| Finding::new("disk", state, message);
    let disk = match disk {
        Ok(disk) => disk,
        Err(why) => {
            return finding(State::Wrong, format!("the place of the leases cannot be looked at: {why}"));
        }
    };
    let Disk { place, free_bytes, free_inodes, read_only } = disk;
    if *read_only {
        return finding(State::Wrong, format!("{place} is mounted read-only"))
            .fix(format!("mount -o remount,rw \"$(findmnt -no TARGET -T {place})\""));
    }
    let fix = format!("df -h {place}; df -i {place}");
    if let Some(inodes @ 0..100) = free_inodes {
        return finding(State::Wrong, format!("{place} has room for {inodes} more files")).fix(fix);
    }
    let message = format!("{place} has {} MiB free", free_bytes >> 20);
    match *free_bytes {
        0..DISK_FULL => finding(State::Wrong, message).fix(fix),
        DISK_FULL..DISK_SHORT => finding(State::Warning, message).fix(fix),
        DISK_SHORT.. => finding(State::Ok, message),
    }
}
