//! `netboot leases`: who has which address of the pool, as a table, as JSON or as dnsmasq's lease file.
//!
//! The store's file tells, unless a running netboot has it: then that one is asked over HTTP on loopback. Nothing is
//! made or put aside.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::{WRONG, ask, failed, report, say};
use crate::config::problem::{Problem, Severity};
use crate::config::{self, Given};
use crate::dhcp::lease::{self, Lease, Owner};
use crate::dhcp::record;
use crate::import::dnsmasq;
use crate::mac::Mac;
use crate::store::{self, Redb};

/// What was typed.
#[derive(Debug, Args)]
pub(super) struct Leases {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "NETBOOT_DATA", default_value = "./data")]
    data: PathBuf,
    /// Where leases and the like are kept [default: DATA/state].
    #[arg(long, value_name = "DIR", env = "NETBOOT_STATE")]
    state: Option<PathBuf>,
    /// TCP port at which the running netboot is asked [default: 8080].
    #[arg(long, value_name = "PORT", env = "NETBOOT_HTTP_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    http_port: Option<u16>,
    /// Print JSON: a list of objects with `addr`, `mac` and `expires` (seconds since 1970).
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Print another program's format.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
}

/// Formats of other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// dnsmasq's lease file.
    Dnsmasq,
}

/// Prints the leases.
pub(super) fn run(arguments: Leases) -> ExitCode {
    let Leases { data, state, http_port, json, format } = arguments;
    let settings = match config::resolve(&data, Given { state, http_port, ..Given::default() }) {
        Ok(settings) => settings,
        Err(problems) => {
            report::problems(&problems.0);
            return ExitCode::from(WRONG);
        }
    };
    if !data.is_dir() && !settings.state.is_dir() {
        let help = "name the data directory with --data or in NETBOOT_DATA";
        report::problems(&[Problem::of_file(Severity::Error, &data, "there is no such directory", help)]);
        return ExitCode::from(WRONG);
    }
    let mut leases = match read(&settings.state, settings.http.port) {
        Ok(leases) => leases,
        Err(error) => return failed(&error),
    };
    leases.sort_by_key(|lease| lease.addr);
    let text = match format {
        _ if json => serde_json::to_string_pretty(&leases).unwrap_or_default(),
        Some(Format::Dnsmasq) => leases.iter().map(dnsmasq::line).collect::<Vec<_>>().join("\n"),
        None => table(&leases, now()),
    };
    if !text.is_empty() {
        say(&text);
    }
    ExitCode::SUCCESS
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The leases of the store in this directory: from its file, or from the netboot that has it.
pub(super) fn read(state: &Path, port: u16) -> Result<Vec<Lease>> {
    match Redb::existing(state) {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(store)) => Ok(record::read_all(&store.reader().list()?)),
        Err(store::Error::InUse { .. }) => {
            ask::get(port, "/api/v1/leases", &store::identity(state).unwrap_or_default())
                .and_then(|body| parse(&body))
                .with_context(|| {
                    let state = state.display();
                    format!(
                        "{state} is in use by a netboot that cannot be asked on TCP port {port} (--http-port)"
                    )
                })
        }
        Err(error) => Err(error.into()),
    }
}

/// A lease as `/api/v1/leases` tells it.
#[derive(serde::Deserialize)]
struct Told {
    addr: Ipv4Addr,
    mac: String,
    client_id: Option<String>,
    expires: u64,
}

fn parse(body: &[u8]) -> Result<Vec<Lease>> {
    let told: Vec<Told> = serde_json::from_slice(body).context("that is no list of leases")?;
    let lease = |Told { addr, mac, client_id, expires }| {
        let id = client_id.as_deref().and_then(lease::bytes);
        Ok(Lease::new(addr, Owner { mac: mac.parse::<Mac>()?, id }, expires))
    };
    told.into_iter().map(lease).collect()
}

fn table(leases: &[Lease], now: u64) -> String {
    let mut lines = vec![format!("{:<15}  {:<17}  ENDS", "ADDRESS", "MAC")];
    lines.extend(leases.iter().map(|Lease { addr, owner, expires }| {
        // `Display` of an address does not know widths in every version.
        format!("{:<15}  {:<17}  {}", addr.to_string(), owner.mac.to_string(), ends(*expires, now))
    }));
    lines.join("\n")
}

/// When a lease ends, as people say it.
fn ends(expires: u64, now: u64) -> String {
    if expires >= dnsmasq::NEVER {
        "never".to_owned()
    } else if expires <= now {
        format!("{} ago", span(now - expires))
    } else {
        format!("in {}", span(expires - now))
    }
}

/// A number of seconds, as people say it.
pub(super) fn span(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m", secs / 60),
        3600..86400 => format!("{}h {}m", secs / 3600, secs % 3600 / 60),
        _ => format!("{}d {}h", secs / 86400, secs % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::{Lease, parse, table};
    use crate::mac::Mac;

    fn lease(last: u8, expires: u64) -> Lease {
        Lease::new([10, 0, 0, last].into(), Mac([2, 0, 0, 0, 0, last]), expires)
    }

    #[test]
    fn a_table_for_people() {
        let leases = [lease(1, 1_000_059), lease(2, 1_000_000 - 3 * 86400 - 7200), lease(3, u64::MAX)];
        assert_eq!(
            table(&leases, 1_000_000),
            "ADDRESS          MAC                ENDS\n\
             10.0.0.1         02:00:00:00:00:01  in 59s\n\
             10.0.0.2         02:00:00:00:00:02  3d 2h ago\n\
             10.0.0.3         02:00:00:00:00:03  never"
        );
        assert_eq!(
            table(&[lease(1, 7300)], 100).lines().last().unwrap().split("  ").last(),
            Some("in 2h 0m")
        );
        assert!(table(&[], 0).starts_with("ADDRESS"));
    }

    #[test]
    fn understands_the_list_and_nothing_else() {
        let good = b"[{\"addr\":\"10.0.0.1\",\"mac\":\"02:00:00:00:00:01\",\"expires\":5,\"new\":1}]";
        assert_eq!(parse(good).unwrap(), [lease(1, 5)]);
        let table = [
            ("[{", "no list"),
            ("{}", "no list"),
            ("[{\"addr\":\"10.0.0.1\",\"mac\":\"x\",\"expires\":5}]", "MAC"),
        ];
        for (body, expected) in table {
            let error = format!("{:#}", parse(body.as_bytes()).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
