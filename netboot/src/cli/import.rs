//! `netboot import`: what another DHCP server knew. Leases go into the store, reserved machines to standard output or into
//! `pxe_hosts.json`.
//!
//! A file with a mistake is not half imported: all mistakes are told, nothing is written.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::leases::now;
use super::report::{self, count};
use super::{WRONG, check, failed, say};
use crate::config::json::Source;
use crate::config::problem::{Problem, Problems, Severity};
use crate::config::{self, Given};
use crate::dhcp::record;
use crate::import::{Found, dnsmasq, hosts, isc, kea, leases};
use crate::inventory::{self, HOSTS_FILE, Networks, Snapshot, edit};
use crate::store::{Change, Redb, Store};

/// What was typed.
#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(subcommand)]
    from: Foreign,
}

#[derive(Debug, Subcommand)]
enum Foreign {
    /// dnsmasq's lease file, into the lease store; netboot must not be running on it.
    DnsmasqLeases(Leases),
    /// The dhcp-host= lines of dnsmasq's configuration, or a dhcp-hostsfile.
    DnsmasqHosts(Hosts),
    /// The reservations of Kea's kea-dhcp4 configuration.
    Kea(Hosts),
    /// The host declarations of ISC dhcpd's configuration.
    Isc(Hosts),
}

#[derive(Debug, Args)]
struct Leases {
    /// The file to import.
    file: PathBuf,
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "NETBOOT_DATA", default_value = "./data")]
    data: PathBuf,
    /// Where leases and the like are kept [default: DATA/state].
    #[arg(long, value_name = "DIR", env = "NETBOOT_STATE")]
    state: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Hosts {
    /// The file to import.
    file: PathBuf,
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "NETBOOT_DATA", default_value = "./data")]
    data: PathBuf,
    /// Add the machines to DATA/pxe_hosts.json, instead of printing such a file.
    #[arg(long)]
    write: bool,
    /// The channel that the machines boot.
    #[arg(long, value_name = "NAME", default_value = "stable", value_parser = channel)]
    channel: String,
    /// The PXE interface: the machines are held against its subnet.
    #[arg(long, value_name = "IF", env = "NETBOOT_INTERFACE")]
    interface: Option<String>,
}

/// A channel as typed.
pub(super) fn channel(text: &str) -> Result<String, &'static str> {
    if edit::is_channel(text) {
        Ok(text.to_owned())
    } else {
        Err("write the name of a file in pxelinux.cfg/, at most 64 characters, as in stable")
    }
}

/// Imports, and says what became of it.
pub(super) fn run(import: Import) -> ExitCode {
    let done = match import.from {
        Foreign::DnsmasqLeases(arguments) => dnsmasq_leases(arguments),
        Foreign::DnsmasqHosts(arguments) => machines(arguments, dnsmasq::hosts),
        Foreign::Kea(arguments) => machines(arguments, kea::hosts),
        Foreign::Isc(arguments) => machines(arguments, isc::hosts),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Problems>() {
            Some(Problems(problems)) => {
                report::problems(problems);
                ExitCode::from(WRONG)
            }
            None => failed(&error),
        },
    }
}

/// Tells warnings; with an error among them they go back together.
fn told(problems: Vec<Problem>) -> Result<(), Problems> {
    if problems.iter().any(Problem::is_error) {
        return Err(Problems(problems));
    }
    report::problems(&problems);
    Ok(())
}

fn source(file: &Path) -> Result<Source, Problems> {
    let none = || {
        let help = "name the file that is to be imported";
        Problem::of_file(Severity::Error, file, "there is no such file", help)
    };
    Source::read(file).and_then(|source| source.ok_or_else(none)).map_err(|problem| Problems(vec![problem]))
}

/// The machines that are there. What is no error is for `netboot check` to tell.
fn there(data: &Path, networks: &Networks) -> Result<Snapshot, Problems> {
    let loaded = inventory::load(data, networks);
    loaded.snapshot.ok_or(Problems(loaded.problems))
}

fn dnsmasq_leases(arguments: Leases) -> Result<()> {
    let Leases { file, data, state } = arguments;
    let settings = config::resolve(&data, Given { state, ..Given::default() })?;
    let reserved = there(&data, &Networks::default())?;
    let source = source(&file)?;
    let found = dnsmasq::leases(&file, source.text());
    let mut left_out = found.problems.len();
    told(found.problems)?;

    // A damaged file is not put aside here: that is for the server to do, and to explain.
    let mut store =
        if let Some(store) = Redb::existing(&settings.state)? { store } else { Redb::open(&settings.state)? };
    let now = now();
    let merged = leases::merge(&source, &found.leases, &record::read_all(&store.list()?), &reserved, now);
    left_out += merged.problems.len();
    told(merged.problems)?;
    let deletes = merged.delete.iter().map(|addr| record::delete(*addr));
    let changes: Vec<Change> = deletes.chain(merged.put.iter().map(record::put)).collect();
    store.commit(&changes)?;

    let ended = merged.put.iter().filter(|lease| lease.expires <= now).count();
    let mut summary = format!("{}: {} imported", settings.state.display(), count(merged.put.len(), "lease"));
    for (number, what) in [
        (ended, "of them ended, kept so that the machine gets its address again"),
        (merged.known, "there already"),
        (left_out, "left out"),
    ] {
        if number > 0 {
            // Text takes whatever is written to it.
            let _ = write!(summary, ", {number} {what}");
        }
    }
    say(&summary);
    Ok(())
}

fn machines(arguments: Hosts, read: fn(&Path, &str) -> Found) -> Result<()> {
    let Hosts { file, data, write, channel, interface } = arguments;
    let settings = config::resolve(&data, Given { interface, ..Given::default() })?;
    let networks = Networks::new(check::subnet_of(&settings.interface), &settings.dhcp);
    // To look at a file first there needs to be nothing else.
    let there = if write || data.exists() { there(&data, &networks)? } else { Snapshot::default() };
    let source = source(&file)?;
    let Found { hosts: machines, mut problems } = read(&file, source.text());
    let hosts::Added { entries, problems: clashes } = hosts::added(&source, &machines, &there, &channel);
    problems.extend(clashes);
    problems.sort_by_key(|problem| problem.place);
    told(problems)?;

    if !write {
        say(edit::fresh(&entries).trim_end());
        eprintln!(
            "{} of {}; --write adds them to {HOSTS_FILE}",
            count(entries.len(), "machine"),
            file.display()
        );
        return Ok(());
    }
    match edit::add(&data, &entries, &networks) {
        Ok(new) => report::problems(&new),
        Err(edit::Error::Wrong(problems)) => return Err(problems.into()),
        Err(error) => return Err(error.into()),
    }
    say(&format!("{}: {} added", data.join(HOSTS_FILE).display(), count(entries.len(), "machine")));
    Ok(())
}
