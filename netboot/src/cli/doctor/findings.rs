//! From what was seen to what is wrong with it, and the command that mends it. Looks at nothing itself.

use super::facts::{Data, Facts, Heard, Interface, Port, PortState, Usable, Wire};
use crate::config::{Mode, Xdp};

mod attach;
mod system;

/// How it is with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Nothing to do.
    Ok,
    /// It could not be looked at.
    Skipped,
    /// Machines boot, though slower, or not all of them on a bad day.
    Warning,
    /// Machines will not boot.
    Wrong,
}

/// One line of the screen.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) state: State,
    pub(super) message: String,
    /// What to type.
    pub(super) fix: Option<String>,
}

impl Finding {
    fn new(check: &'static str, state: State, message: impl Into<String>) -> Self {
        Self { check, state, message: message.into(), fix: None }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

const SUDO: &str = "sudo netboot doctor";

/// Everything, in the order in which an operator would ask.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let usable = match &facts.interface {
        Interface::Usable(usable) => Some(usable),
        Interface::Unnamed | Interface::Missing(_) => None,
    };
    let mut findings = vec![data(&facts.data), interface(&facts.interface)];
    findings.extend(usable.and_then(master));
    findings.push(privileges(facts));
    findings.push(kernel(facts));
    findings.extend(facts.trunk.as_ref().map(|trunk| attach::trunk(trunk, facts)));
    findings.push(attach::attach(facts, usable));
    findings.extend(wants_xdp(facts).then(|| system::pinning(facts)));
    findings.extend(attach::rxvlan(facts, usable));
    findings.extend(usable.map(mtu));
    findings.extend(facts.ports.iter().map(|one| port(one, facts)));
    findings.push(wire(facts));
    findings.push(system::rp_filter(facts, usable));
    findings.push(system::buffers(facts));
    findings.push(system::neighbours(facts));
    findings.extend(usable.and_then(|usable| system::bridge(facts, usable)));
    findings.push(system::uring(facts));
    findings.push(system::clock(&facts.clock));
    findings.push(system::disk(&facts.disk));
    findings
}

fn data(data: &Data) -> Finding {
    let Data { directory, errors, warnings, unseen } = data;
    if *errors == 0 && *unseen > 0 {
        let message = format!("files in {directory} that may not be read: {unseen}");
        return Finding::new("data", State::Skipped, message).fix(SUDO);
    }
    let (state, message) = match (errors, warnings) {
        (0, 0) => return Finding::new("data", State::Ok, format!("nothing is wrong with {directory}")),
        (0, warnings) => (State::Warning, format!("warnings about {directory}: {warnings}")),
        (errors, _) => (State::Wrong, format!("errors in {directory}: {errors}")),
    };
    Finding::new("data", state, message).fix(format!("netboot check {directory}"))
}

fn interface(interface: &Interface) -> Finding {
    let wrong = |message: &str| Finding::new("interface", State::Wrong, message);
    match interface {
        Interface::Unnamed => wrong("no interface is named").fix(
            "netboot doctor --interface IF, or `\"interface\": \"IF\"` in netboot.json; `ip link` lists them",
        ),
        // The text ends with the command, if there is one.
        Interface::Missing(why) => match why.split_once(": ") {
            Some((what, fix)) => wrong(what).fix(fix),
            None => wrong(why).fix("ip link"),
        },
        Interface::Usable(Usable { name, addr, prefix, carrier, .. }) => {
            if *carrier {
                Finding::new("interface", State::Ok, format!("{name} is up and has {addr}/{prefix}"))
            } else {
                let message =
                    format!("{name} has {addr}/{prefix}, and nothing at the other end of its cable");
                Finding::new("interface", State::Wrong, message).fix(format!("ip -s link show {name}"))
            }
        }
    }
}

/// What arrives at a port of a bridge is the bridge's.
fn master(usable: &Usable) -> Option<Finding> {
    let (master, kind) = usable.master.as_ref().filter(|(_, kind)| kind != "vrf")?;
    let message = format!("{} is a part of {master} ({kind}), which gets all its packets", usable.name);
    Some(
        Finding::new("master", State::Wrong, message)
            .fix(format!("netboot doctor --interface {master}, and give that one the address")),
    )
}

fn privileges(facts: &Facts) -> Finding {
    let check = "capabilities";
    match (facts.lacking.join(", "), facts.running) {
        (lacking, _) if lacking.is_empty() => Finding::new(check, State::Ok, "all that serve wants are here"),
        (lacking, true) => {
            let message = format!("not here: {lacking}; the running netboot was not looked into");
            Finding::new(check, State::Skipped, message).fix(SUDO)
        }
        (lacking, false) => {
            let message = format!("not here: {lacking}; serve wants them, and doctor sees less");
            Finding::new(check, State::Warning, message).fix(SUDO)
        }
    }
}

fn kernel(facts: &Facts) -> Finding {
    let kernel = &facts.kernel;
    if !wants_xdp(facts) {
        return Finding::new("kernel", State::Ok, format!("Linux {kernel}; no XDP is wanted"));
    }
    match &facts.program {
        Ok(()) => Finding::new("kernel", State::Ok, format!("Linux {kernel} takes the XDP program")),
        Err(why)
            if ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"].iter().any(|cap| facts.lacking.contains(cap)) =>
        {
            Finding::new("kernel", State::Skipped, format!("Linux {kernel}; XDP was not tried: {why}"))
                .fix(SUDO)
        }
        Err(why) => {
            let message = format!("Linux {kernel}: {why}; the daemon answers everything");
            Finding::new("kernel", State::Warning, message).fix("a kernel of 5.18 or later, with BPF and XDP")
        }
    }
}

fn wants_xdp(facts: &Facts) -> bool {
    facts.mode == Mode::Full && facts.xdp != Xdp::Off
}

fn mtu(usable: &Usable) -> Finding {
    let Usable { name, mtu, .. } = usable;
    let finding = |state| Finding::new("mtu", state, format!("{name} has an MTU of {mtu}"));
    let fix = format!("ip link set {name} mtu 1500");
    match mtu {
        // What a DHCP client must be able to receive (RFC 2131 2).
        ..576 => finding(State::Wrong).fix(fix),
        576..1500 => finding(State::Warning).fix(fix),
        1500.. => finding(State::Ok),
    }
}

fn port(port: &Port, facts: &Facts) -> Finding {
    let Port { name, purpose, state } = port;
    let finding = |state, text: &str| Finding::new("port", state, format!("{name} ({purpose}) {text}"));
    match state {
        PortState::Free => finding(State::Ok, "is free"),
        PortState::Ours => finding(State::Ok, "belongs to the running netboot"),
        PortState::Taken(process, pid) => {
            finding(State::Wrong, &format!("is taken by {process} (pid {pid})"))
                .fix(format!("systemctl stop {process}, or kill {pid}"))
        }
        PortState::TakenUnseen => {
            // Who is not root does not see root's netboot either.
            let state = if facts.lacking.is_empty() { State::Wrong } else { State::Warning };
            finding(state, "is taken by a process that cannot be seen from here").fix("sudo ss -lnp")
        }
        PortState::Unknown(why) => {
            let finding = finding(State::Skipped, &format!("was not tried: {why}"));
            if not_permitted(why) { finding.fix(SUDO) } else { finding }
        }
    }
}

/// Whether the system's words for an error are those for a lack of rights (EACCES, EPERM).
fn not_permitted(why: &str) -> bool {
    ["Permission denied", "not permitted"].iter().any(|words| why.contains(words))
}

/// What a running netboot has heard longer ago may be gone, seconds.
const HEARD_SECS: u64 = 3600;

/// Whether another server answered just now.
fn answered(wire: &Wire) -> bool {
    matches!(wire, Wire::Heard(servers, _) if !servers.is_empty())
}

fn wire(facts: &Facts) -> Finding {
    let finding = |state, message: String| Finding::new("other-dhcp", state, message);
    let proxy = facts.mode == Mode::Proxy;
    let recent = |heard: &&Heard| facts.clock.now.saturating_sub(heard.last_seen) < HEARD_SECS;
    let heard: Vec<_> =
        facts.heard.iter().filter(recent).map(|h| format!("{} at {}", h.addr, h.mac)).collect();
    match &facts.wire {
        // It may answer some machines alone, and not the one that was asked for.
        _ if !proxy && !heard.is_empty() && !answered(&facts.wire) => {
            let list = heard.join(", ");
            let message = format!(
                "the running netboot has heard another DHCP server: {list}; machines take whichever is first"
            );
            finding(State::Wrong, message).fix("stop it, or `\"mode\": \"proxy\"` in netboot.json")
        }
        Wire::Unasked(why) => {
            let finding = finding(State::Skipped, format!("nobody was asked: {why}"));
            if not_permitted(why) { finding.fix(SUDO) } else { finding }
        }
        Wire::Heard(servers, secs) if servers.is_empty() => {
            let message = format!("no other DHCP server answered within {secs} s");
            if proxy {
                let message = format!("{message}, and in proxy mode it is the one that has the addresses");
                finding(State::Warning, message).fix("start it, or `\"mode\": \"full\"` in netboot.json")
            } else {
                finding(State::Ok, message)
            }
        }
        Wire::Heard(servers, _) => {
            let list = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            if proxy {
                finding(State::Ok, format!("the addresses come from {list}"))
            } else {
                let message =
                    format!("another DHCP server answers here: {list}; machines take whichever is first");
                finding(State::Wrong, message).fix("stop it, or `\"mode\": \"proxy\"` in netboot.json")
            }
        }
    }
}

#[cfg(test)]
mod tests;
