//! `netboot hosts approve`: writes machines into `pxe_hosts.json`, which else stays as the operator wrote it. A running netboot
//! reads the file at once, and answers the machine when it asks next.
//!
//! All or none: with one mistake nothing is written.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use clap::Args;
use ipnetwork::Ipv4Network;

use super::super::leases::{self, now, span};
use super::super::{check, import, report, say};
use super::{Asked, Told, Wrong, told};
use crate::config::problem::Problems;
use crate::config::{self, Settings};
use crate::dhcp::lease::Lease;
use crate::dhcp::vacant::Network;
use crate::inventory::{self, HOSTS_FILE, Networks, Snapshot, edit};
use crate::mac::Mac;

/// What was typed.
#[derive(Debug, Args)]
pub(super) struct Approve {
    /// Who gets a reservation.
    #[arg(value_name = "MAC", required = true, value_parser = station)]
    macs: Vec<Mac>,
    /// Its address [default: the lowest of its subnet that is nobody's].
    #[arg(long, value_name = "ADDR")]
    addr: Option<Ipv4Addr>,
    /// Its name [default: the one it calls itself, if no other machine has it; else blade- and the end of its MAC].
    #[arg(long, value_name = "NAME", value_parser = hostname)]
    hostname: Option<String>,
    /// The channel that it boots.
    #[arg(long, value_name = "NAME", default_value = "stable", value_parser = import::channel)]
    channel: String,
    /// Print what would be added, and add nothing.
    #[arg(long)]
    dry_run: bool,
}

fn station(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse().map_err(|error: crate::mac::BadMac| error.to_string())?;
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
        return Err(format!("{mac} is not the address of one machine; write the MAC of its network card"));
    }
    Ok(mac)
}

fn hostname(text: &str) -> Result<String, &'static str> {
    if edit::is_hostname(text) {
        Ok(text.to_owned())
    } else {
        Err("write 1 to 63 letters, digits and hyphens, no hyphen first or last")
    }
}

/// Writes the machines into the file, and says what was written.
pub(super) fn run(approve: Approve, settings: &Settings) -> Result<()> {
    let Approve { macs, addr, hostname, channel, dry_run } = approve;
    if macs.len() > 1 && (addr.is_some() || hostname.is_some()) {
        return Err(Wrong(
            "--addr and --hostname are for one machine; name one MAC, or leave them out".into(),
        )
        .into());
    }
    let mut once = HashSet::new();
    if let Some(twice) = macs.iter().find(|mac| !once.insert(**mac)) {
        return Err(Wrong(format!("{twice} is there twice; name each machine once")).into());
    }
    let loaded = inventory::load(&settings.data, &Networks::default());
    let there = loaded.snapshot.ok_or(Problems(loaded.problems))?;
    let known = macs.iter().filter_map(|mac| there.by_mac(*mac)).map(|host| {
        let message = format!("{} has a reservation already: {} ({})", host.mac, host.addr, host.hostname);
        edit::problem(&settings.data, host.addr, message, "leave it out, or change it there")
    });
    let known: Vec<_> = known.collect();
    if !known.is_empty() {
        return Err(Problems(known).into());
    }

    let told = told(settings)
        .and_then(|body| serde_json::from_slice::<Told>(&body).context("that is no list of machines"));
    let now = now();
    let leases = leases::read(&settings.state, settings.http.port)?;
    let live = leases.iter().filter(|lease| lease.expires > now).map(|lease| (lease.addr, lease)).collect();
    let (network, asked) = match told {
        Ok(told) => (Some(told.network), told.waiting),
        // A free address can only be had where all that is given away is known.
        Err(error) if addr.is_none() => {
            return Err(error.context("no address can be found; give one with --addr, or start netboot"));
        }
        Err(_) => (None, Vec::new()),
    };
    let own = match &network {
        Some(network) => Ipv4Network::new(network.server, network.prefix.prefix()).ok(),
        None => check::subnet_of(&settings.interface),
    };
    let networks = Networks::new(own, &settings.dhcp);

    let world = World { there: &there, live, settings, network: network.as_ref(), asked: &asked, now };
    if let Some(host) = addr.and_then(|addr| there.by_addr(addr)) {
        let message = format!("{} is reserved for {} ({})", host.addr, host.mac, host.hostname);
        return Err(Problems(vec![edit::problem(
            &settings.data,
            host.addr,
            message,
            "choose another address",
        )])
        .into());
    }
    let entries = world.entries(&macs, addr, hostname.as_deref(), &channel)?;
    if dry_run {
        say(edit::fresh(&entries).trim_end());
        return Ok(());
    }
    match edit::add(&settings.data, &entries, &networks) {
        Ok(new) => report::problems(&new),
        Err(edit::Error::Wrong(problems)) => return Err(problems.into()),
        Err(error) => return Err(error.into()),
    }
    let file = settings.data.join(HOSTS_FILE);
    say(&format!("{}: {} added", file.display(), report::count(entries.len(), "machine")));
    for edit::Entry { addr, mac, hostname, channel } in &entries {
        say(&format!("{:<15}  {mac}  {hostname}  {channel}", addr.to_string()));
    }
    Ok(())
}

/// What is given away already.
struct World<'a> {
    there: &'a Snapshot,
    live: HashMap<Ipv4Addr, &'a Lease>,
    settings: &'a Settings,
    /// Of the interface.
    network: Option<&'a Network>,
    asked: &'a [Asked],
    now: u64,
}

impl World<'_> {
    fn entries(
        &self,
        macs: &[Mac],
        addr: Option<Ipv4Addr>,
        hostname: Option<&str>,
        channel: &str,
    ) -> Result<Vec<edit::Entry>, Wrong> {
        let mut entries: Vec<edit::Entry> = Vec::with_capacity(macs.len());
        for mac in macs.iter().copied() {
            let addr = match addr {
                Some(addr) => self.free(addr, mac)?,
                None => self.lowest(mac, &entries)?,
            };
            let hostname = match hostname {
                Some(name) => self.unused(name)?,
                None => self.name(mac, &entries),
            };
            entries.push(edit::Entry { addr, mac, hostname, channel: channel.to_owned() });
        }
        Ok(entries)
    }

    /// This address, if it is nobody's.
    fn free(&self, addr: Ipv4Addr, mac: Mac) -> Result<Ipv4Addr, Wrong> {
        let network = self.network_of(|subnet| subnet.prefix.contains(addr));
        if let Some(why) = network.and_then(|network| network.refuses(addr)) {
            return Err(Wrong(format!("{addr} is {why}; choose another address")));
        }
        match self.leased(addr, mac) {
            Some(Lease { owner, expires, .. }) => {
                let (mac, left) = (owner.mac, span(expires - self.now));
                Err(Wrong(format!(
                    "{addr} is leased to {mac} for {left} more; choose another address, or wait"
                )))
            }
            None => Ok(addr),
        }
    }

    fn lowest(&self, mac: Mac, entries: &[edit::Entry]) -> Result<Ipv4Addr, Wrong> {
        let taken = |addr| {
            self.there.by_addr(addr).is_some()
                || self.leased(addr, mac).is_some()
                || entries.iter().any(|entry| entry.addr == addr)
        };
        let relay = self.asked(mac).and_then(|asked| asked.relay);
        let behind = |subnet: &config::Subnet| {
            relay.is_some_and(|relay| subnet.relay == Some(relay) || subnet.prefix.contains(relay))
        };
        let lowest = self.network_of(behind).and_then(|network| network.vacant(taken).next());
        lowest.ok_or_else(|| {
            Wrong(
                "no address is left outside the pool and what is excluded from it (dhcp.pool, dhcp.exclude); make them smaller, or give one with --addr"
                    .into(),
            )
        })
    }

    /// The network behind a relay agent for which this is so, else that of the interface.
    fn network_of(&self, behind: impl Fn(&config::Subnet) -> bool) -> Option<Network> {
        let subnet = self.settings.dhcp.subnets.iter().find(|subnet| behind(subnet));
        let own = self.network?;
        Some(subnet.map_or_else(|| own.clone(), |subnet| own.behind_relay(subnet)))
    }

    fn asked(&self, mac: Mac) -> Option<&Asked> {
        let mac = mac.to_string();
        self.asked.iter().find(|asked| asked.mac == mac)
    }

    /// The lease that another machine has of this address.
    fn leased(&self, addr: Ipv4Addr, mac: Mac) -> Option<&Lease> {
        self.live.get(&addr).copied().filter(|lease| lease.owner.mac != mac)
    }

    /// The machine that has this name; names differ by more than their case.
    fn named(&self, name: &str) -> Option<Mac> {
        self.there.hosts().find(|host| host.hostname.eq_ignore_ascii_case(name)).map(|host| host.mac)
    }

    fn unused(&self, name: &str) -> Result<String, Wrong> {
        match self.named(name) {
            Some(mac) => Err(Wrong(format!("{name} is the name of {mac}; choose another"))),
            None => Ok(name.to_owned()),
        }
    }

    /// The name that the machine calls itself, if it can be its own, else one from its MAC.
    fn name(&self, mac: Mac, entries: &[edit::Entry]) -> String {
        let said = self.asked(mac).and_then(|asked| asked.hostname.clone());
        let digits = mac.to_string().replace(':', "");
        let from_mac = |digits: Option<&str>| format!("blade-{}", digits.unwrap_or_default());
        let names = said.into_iter().chain([from_mac(digits.get(6..))]);
        let free = |name: &String| {
            edit::is_hostname(name)
                && self.named(name).is_none()
                && !entries.iter().any(|entry| entry.hostname.eq_ignore_ascii_case(name))
        };
        names.into_iter().find(free).unwrap_or_else(|| from_mac(Some(&digits)))
    }
}
