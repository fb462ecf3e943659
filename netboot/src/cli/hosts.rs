//! `netboot hosts`: the machines with a reservation, and those without one that have asked; `approve` gives these one.
//!
//! Who has asked is known to the running netboot alone, which is asked over HTTP on loopback. Listing changes nothing.

mod approve;
mod set;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::leases::{now, span};
use super::{WRONG, ask, failed, report, say};
use crate::config::problem::Problems;
use crate::config::{self, Given, Settings};
use crate::dhcp::vacant::Network;
use crate::inventory::orders::When;
use crate::inventory::{self, Networks, Order};
use crate::store;

pub(super) const EXAMPLES: &str = "\
Examples:
  netboot hosts                                      all machines, and who waits for a reservation
  netboot hosts --waiting --json                     those who wait, for a script
  netboot hosts approve 52:54:00:12:34:56            the lowest free address
  netboot hosts approve 52:54:00:12:34:56 --addr 192.168.90.11 --hostname blade1 --channel beta
  netboot hosts approve 52:54:00:00:00:01 52:54:00:00:00:02 --dry-run
  netboot hosts set 192.168.90.11 --next-boot debian the profile debian, once
  netboot hosts set 52:54:00:12:34:56 --local-disk   its disk, until --clear

The setting dhcp.unknown in netboot.json says what machines without a reservation get:
\"pool\" an address of the pool, \"hold\" no answer until they are approved, \"deny\" no answer.
Exit codes: 0 fine, 1 failed while running, 2 wrong usage, settings or data.";

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Hosts {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    place: Place,
    /// Print JSON: an object with the lists `hosts` and `waiting`, or with --waiting that list alone.
    #[arg(long)]
    json: bool,
    /// Only the machines without a reservation that have asked.
    #[arg(long)]
    waiting: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Give machines a reservation: they are added to DATA/pxe_hosts.json, which a running netboot reads at once.
    #[command(after_help = EXAMPLES)]
    Approve(approve::Approve),
    /// Say what a machine boots next, or until told otherwise, whatever its profile says.
    #[command(after_help = EXAMPLES)]
    Set(set::Set),
}

/// Where netboot's files are, and where it can be asked.
#[derive(Debug, Args)]
struct Place {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "NETBOOT_DATA", default_value = "./data", global = true)]
    data: PathBuf,
    /// Where leases and the like are kept [default: DATA/state].
    #[arg(long, value_name = "DIR", env = "NETBOOT_STATE", global = true)]
    state: Option<PathBuf>,
    /// TCP port at which the running netboot is asked [default: 8080].
    #[arg(long, value_name = "PORT", env = "NETBOOT_HTTP_PORT", value_parser = clap::value_parser!(u16).range(1..), global = true)]
    http_port: Option<u16>,
}

/// A mistake of the one who typed, with what to type instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(String);

/// Lists or approves.
pub(super) fn run(hosts: Hosts) -> ExitCode {
    let Hosts { action, place: Place { data, state, http_port }, json, waiting } = hosts;
    let settings = config::resolve(&data, Given { state, http_port, ..Given::default() });
    let done = settings.map_err(Into::into).and_then(|settings| match action {
        Some(Action::Approve(approve)) => approve::run(approve, &settings),
        Some(Action::Set(set)) => set::run(&set, &settings),
        None => list(&settings, json, waiting),
    });
    let Err(error) = done else { return ExitCode::SUCCESS };
    if let Some(Problems(problems)) = error.downcast_ref() {
        report::problems(problems);
        ExitCode::from(WRONG)
    } else if error.is::<Wrong>() {
        failed(&error);
        ExitCode::from(WRONG)
    } else {
        failed(&error)
    }
}

/// What `/api/v1/hosts` tells.
#[derive(serde::Deserialize)]
struct Told {
    network: Network,
    hosts: Vec<Reserved>,
    waiting: Vec<Asked>,
}

/// A machine with a reservation.
#[derive(serde::Deserialize)]
struct Reserved {
    mac: String,
    addr: Ipv4Addr,
    hostname: String,
    channel: String,
    leased_to: Option<Leased>,
    seen: Option<Seen>,
    #[serde(default)]
    order: Option<Order>,
}

/// The last answer to a machine.
#[derive(serde::Deserialize)]
struct Seen {
    at: u64,
    reply: String,
    class: String,
    by: String,
    relay: Option<Ipv4Addr>,
    #[serde(default)]
    booted: Option<u64>,
}

impl Seen {
    /// As people say it.
    fn told(&self, now: u64) -> String {
        let Self { at, reply, class, by, relay, booted } = self;
        let ago = span(now.saturating_sub(*at));
        let via = relay.map_or_else(String::new, |relay| format!(", via {relay}"));
        let up = booted.map_or_else(String::new, |at| format!(", up since {}", span(now.saturating_sub(at))));
        format!("{ago} ago, {reply}, {class}, by {by}{via}{up}")
    }
}

/// Somebody else who has the address still.
#[derive(serde::Deserialize)]
struct Leased {
    mac: String,
    expires: u64,
}

/// A machine without a reservation.
#[derive(serde::Deserialize)]
struct Asked {
    mac: String,
    state: String,
    addr: Option<Ipv4Addr>,
    seen: Option<Seen>,
    vendor_class: Option<String>,
    class: String,
    arch: Option<u16>,
    guid: Option<String>,
    hostname: Option<String>,
    relay: Option<Ipv4Addr>,
    first_seen: u64,
    last_seen: u64,
    times: u64,
}

/// Asks the running netboot that has this state directory.
fn told(settings: &Settings) -> Result<Vec<u8>> {
    let port = settings.http.port;
    let identity =
        store::identity(&settings.state).context("netboot has not run with this data directory")?;
    ask::get(port, "/api/v1/hosts", &identity)
        .with_context(|| format!("there is no netboot to ask on TCP port {port} (--http-port)"))
}

fn list(settings: &Settings, json: bool, waiting: bool) -> Result<()> {
    let body = match told(settings) {
        Ok(body) => body,
        Err(error) if waiting => return Err(error),
        Err(error) => {
            let body = offline(settings)?;
            eprintln!("netboot: who waits for a reservation is not known: {error:#}");
            body
        }
    };
    if json {
        let mut all: serde_json::Value =
            serde_json::from_slice(&body).context("that is no list of machines")?;
        let mut list = |name: &str| all.get_mut(name).map(serde_json::Value::take).unwrap_or_default();
        let shown = if waiting {
            list("waiting")
        } else {
            serde_json::json!({ "hosts": list("hosts"), "waiting": list("waiting") })
        };
        say(&format!("{shown:#}"));
        return Ok(());
    }
    let told: Told = serde_json::from_slice(&body).context("that is no list of machines")?;
    if !waiting {
        say(&reserved(&told.hosts, now()));
    }
    if waiting || !told.waiting.is_empty() {
        let before = if waiting { "" } else { "\nWithout a reservation:\n" };
        say(&format!("{before}{}", asked(&told.waiting, now())));
    }
    Ok(())
}

/// What the files say, as the running netboot would tell it.
fn offline(settings: &Settings) -> Result<Vec<u8>> {
    let loaded = inventory::load(&settings.data, &Networks::default());
    let snapshot = loaded.snapshot.ok_or(Problems(loaded.problems))?;
    let hosts = snapshot.hosts().map(|host| {
        serde_json::json!({ "mac": host.mac, "addr": host.addr, "hostname": host.hostname, "channel": host.channel })
    });
    let nothing: &[()] = &[];
    let network = serde_json::json!({
        "prefix": "0.0.0.0/0", "server": "0.0.0.0", "routers": nothing, "dns": nothing, "pool": nothing,
    });
    let all =
        serde_json::json!({ "network": network, "hosts": hosts.collect::<Vec<_>>(), "waiting": nothing });
    Ok(all.to_string().into_bytes())
}

fn reserved(hosts: &[Reserved], now: u64) -> String {
    let mut rows =
        vec![["ADDRESS", "MAC", "NAME", "CHANNEL", "LAST SEEN", "NOTE"].map(str::to_owned).to_vec()];
    rows.extend(hosts.iter().map(|host| {
        let lease = host.leased_to.as_ref().map(|lease| {
            let left = span(lease.expires.saturating_sub(now));
            format!("{} has its address for {left} more", lease.mac)
        });
        let order = host.order.as_ref().map(|Order { profile, when }| match when {
            When::Always => format!("boots {profile} until told otherwise"),
            _ => format!("boots {profile} next"),
        });
        let notes: Vec<_> = lease.into_iter().chain(order).collect();
        let Reserved { mac, addr, hostname, channel, seen, .. } = host;
        let seen = or_dash(seen.as_ref().map(|seen| seen.told(now)).as_ref());
        vec![addr.to_string(), mac.clone(), hostname.clone(), channel.clone(), seen, notes.join("; ")]
    }));
    columns(&rows)
}

fn asked(machines: &[Asked], now: u64) -> String {
    let titles = [
        "MAC",
        "STATE",
        "ADDRESS",
        "CLASS",
        "ARCH",
        "NAME",
        "FIRST",
        "LAST",
        "TIMES",
        "LAST ANSWER",
        "RELAY",
        "GUID",
        "VENDOR CLASS",
    ];
    let ago = |then: u64| format!("{} ago", span(now.saturating_sub(then)));
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(machines.iter().map(|machine| {
        vec![
            machine.mac.clone(),
            machine.state.clone(),
            or_dash(machine.addr.as_ref()),
            machine.class.clone(),
            or_dash(machine.arch.as_ref()),
            or_dash(machine.hostname.as_ref()),
            ago(machine.first_seen),
            ago(machine.last_seen),
            machine.times.to_string(),
            or_dash(machine.seen.as_ref().map(|seen| seen.told(now)).as_ref()),
            or_dash(machine.relay.as_ref()),
            or_dash(machine.guid.as_ref()),
            or_dash(machine.vendor_class.as_ref()),
        ]
    }));
    columns(&rows)
}

fn or_dash(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// Rows of a table, each column as wide as its widest. What is not printable ASCII has no business on a terminal.
fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(row.len().max(widths.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let cell: String = cell.chars().map(printable).collect();
            format!("{cell:<width$}")
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Asked, Leased, Reserved, Seen, asked, reserved};

    #[test]
    fn tables_for_people() {
        let seen = |relay| Seen {
            at: 988,
            reply: "ack".to_owned(),
            class: "bios".to_owned(),
            by: "xdp".to_owned(),
            relay,
            booted: None,
        };
        let host = |addr: &str, leased_to, seen| Reserved {
            mac: "52:54:00:00:00:01".to_owned(),
            addr: addr.parse().unwrap(),
            hostname: "blade1".to_owned(),
            channel: "stable".to_owned(),
            leased_to,
            seen,
            order: None,
        };
        let other = Leased { mac: "52:54:00:00:00:02".to_owned(), expires: 1120 };
        assert_eq!(
            reserved(
                &[
                    host("10.0.0.1", None, Some(seen(None))),
                    host("10.0.0.100", Some(other), None),
                    host("10.0.0.3", None, Some(seen(Some([10, 1, 0, 1].into()))))
                ],
                1000
            ),
            "ADDRESS     MAC                NAME    CHANNEL  LAST SEEN                                 NOTE\n\
             10.0.0.1    52:54:00:00:00:01  blade1  stable   12s ago, ack, bios, by xdp\n\
             10.0.0.100  52:54:00:00:00:01  blade1  stable   -                                         52:54:00:00:00:02 has its address for 2m more\n\
             10.0.0.3    52:54:00:00:00:01  blade1  stable   12s ago, ack, bios, by xdp, via 10.1.0.1"
        );
        let machine = Asked {
            mac: "52:54:00:00:00:03".to_owned(),
            state: "held".to_owned(),
            addr: None,
            seen: None,
            vendor_class: Some("PXEClient".to_owned()),
            class: "bios".to_owned(),
            arch: Some(0),
            guid: None,
            hostname: Some("x\x1b[2J\u{202e}".to_owned()),
            relay: None,
            first_seen: 400,
            last_seen: 990,
            times: 7,
        };
        assert_eq!(
            asked(&[machine], 1000),
            "MAC                STATE  ADDRESS  CLASS  ARCH  NAME    FIRST    LAST     TIMES  LAST ANSWER  RELAY  GUID  VENDOR CLASS\n\
             52:54:00:00:00:03  held   -        bios   0     x?[2J?  10m ago  10s ago  7      -            -      -     PXEClient"
        );
    }
}
