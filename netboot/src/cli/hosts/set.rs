//! `netboot hosts set`: what a machine boots next, or until told otherwise. The running netboot keeps it.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::{Told, Wrong, ask, say, told};
use crate::config::Settings;
use crate::mac::Mac;
use crate::store;

/// What was typed.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// The machine, by address or MAC.
    #[arg(value_name = "ADDR|MAC", value_parser = machine)]
    machine: Machine,
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// This profile, once: until the machine has got all that it boots.
    #[arg(long, value_name = "PROFILE")]
    next_boot: Option<String>,
    /// Its own disk, until told otherwise.
    #[arg(long)]
    local_disk: bool,
    /// What its profile says, as before.
    #[arg(long)]
    clear: bool,
}

#[derive(Clone, Copy, Debug)]
enum Machine {
    Addr(Ipv4Addr),
    Mac(Mac),
}

fn machine(text: &str) -> Result<Machine, String> {
    let addr = text.parse().map(Machine::Addr);
    addr.or_else(|_| text.parse().map(Machine::Mac)).map_err(|_| "that is no address and no MAC".to_owned())
}

pub(super) fn run(set: &Set, settings: &Settings) -> Result<()> {
    let mac = match set.machine {
        Machine::Mac(mac) => mac.to_string(),
        Machine::Addr(addr) => {
            let body = told(settings)?;
            let told: Told = serde_json::from_slice(&body).context("that is no list of machines")?;
            let host = told.hosts.into_iter().find(|host| host.addr == addr);
            host.ok_or_else(|| Wrong(format!("no machine of pxe_hosts.json has the address {addr}")))?.mac
        }
    };
    let (wanted, said) = match &set.what {
        What { next_boot: Some(profile), .. } => {
            (json!({ "next_boot": profile }), format!("{mac} boots {profile} next"))
        }
        What { local_disk: true, .. } => {
            (json!({ "local_disk": true }), format!("{mac} boots its disk until told otherwise"))
        }
        What { .. } => (json!({ "clear": true }), format!("{mac} boots what its profile says")),
    };
    let port = settings.http.port;
    let identity =
        store::identity(&settings.state).context("netboot has not run with this data directory")?;
    ask::post(port, &format!("/api/v1/hosts/{mac}"), &wanted.to_string(), &identity)
        .with_context(|| format!("the netboot on TCP port {port} (--http-port) does not do it"))?;
    say(&said);
    Ok(())
}
