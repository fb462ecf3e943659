//! `netboot leases`: who has which address of the pool, as a table, as JSON or as dnsmasq's lease file.
//!
//! The store's file tells, unless a running netboot has it: then that one is asked over HTTP on loopback. Nothing is
//! made or put aside.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::{WRONG, failed, report, say};
use crate::config::problem::{Problem, Severity};
use crate::config::{self, Given};
use crate::dhcp::lease::{self, Lease, Owner};
use crate::dhcp::record;
use crate::http;
use crate::import::dnsmasq;
use crate::mac::Mac;
use crate::store::{self, Redb};

/// How long the running netboot may say nothing.
const SILENCE: Duration = Duration::from_secs(10);
/// More than the answer with a full pool.
const LARGEST_ANSWER: u64 = 64 << 20;

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

fn read(state: &Path, port: u16) -> Result<Vec<Lease>> {
    match Redb::existing(state) {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(store)) => Ok(record::read_all(&store.reader().list()?)),
        Err(store::Error::InUse { .. }) => ask(port, &store::identity(state).unwrap_or_default())
            .with_context(|| {
                let state = state.display();
                format!(
                    "{state} is in use by a netboot that cannot be asked on TCP port {port} (--http-port)"
                )
            }),
        Err(error) => Err(error.into()),
    }
}

/// Asks the running netboot that has this store.
fn ask(port: u16, store: &str) -> Result<Vec<Lease>> {
    let mut connection = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SILENCE)?;
    connection.set_read_timeout(Some(SILENCE))?;
    connection.set_write_timeout(Some(SILENCE))?;
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    connection.write_all(b"GET /api/v1/leases HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    connection.take(LARGEST_ANSWER).read_to_end(&mut answer)?;
    parse(&answer, store)
}

/// A lease as `/api/v1/leases` tells it.
#[derive(serde::Deserialize)]
struct Told {
    addr: Ipv4Addr,
    mac: String,
    client_id: Option<String>,
    expires: u64,
}

/// The leases in an HTTP answer. Two netboots on one machine must not be taken for one another.
fn parse(answer: &[u8], store: &str) -> Result<Vec<Lease>> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("that is no HTTP")?;
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8_lossy(head);
    let mut status = head.lines().next().unwrap_or_default().splitn(2, ' ');
    if !status.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        bail!("that is no HTTP");
    }
    let status = status.next().unwrap_or_default();
    if !status.starts_with("200 ") {
        bail!("it says {status}: {}", String::from_utf8_lossy(body).trim());
    }
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    if !headers.any(|(name, value)| name.eq_ignore_ascii_case(http::STORE) && value.trim() == store) {
        bail!("there is a netboot with other leases");
    }
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

fn span(secs: u64) -> String {
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
    fn understands_the_answer_and_nothing_else() {
        let good = b"HTTP/1.0 200 OK\r\nNetboot-Store: 1-2\r\n\r\n\
            [{\"addr\":\"10.0.0.1\",\"mac\":\"02:00:00:00:00:01\",\"expires\":5,\"new\":1}]";
        assert_eq!(parse(good, "1-2").unwrap(), [lease(1, 5)]);
        let head = "HTTP/1.1 200 OK\r\nnetboot-store: 1-2\r\n\r\n";
        let table = [
            (String::new(), "no HTTP"),
            ("SSH-2.0\r\n\r\n".to_owned(), "no HTTP"),
            ("HTTP/1.1 403 Forbidden\r\n\r\nnot for you\n".to_owned(), "403 Forbidden: not for you"),
            ("HTTP/1.1 200 OK\r\n\r\n[]".to_owned(), "other leases"),
            ("HTTP/1.1 200 OK\r\nnetboot-store: 1-3\r\n\r\n[]".to_owned(), "other leases"),
            (format!("{head}[{{"), "no list"),
            (format!("{head}{{}}"), "no list"),
            (format!("{head}[{{\"addr\":\"10.0.0.1\",\"mac\":\"x\",\"expires\":5}}]"), "MAC"),
        ];
        for (answer, expected) in table {
            let error = format!("{:#}", parse(answer.as_bytes(), "1-2").unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
