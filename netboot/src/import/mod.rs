//! Files of other DHCP servers → machines and leases: dnsmasq, Kea, ISC dhcpd.
//!
//! Pure: text goes in, what it says comes out, with a problem for everything that is wrong (an error) or left out (a
//! warning). What becomes of it is decided by [`hosts`] and [`leases`]; nothing is read or written here.

pub mod dnsmasq;
pub mod hosts;
pub mod isc;
pub mod kea;
pub mod leases;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;

use crate::config::json::Source;
use crate::config::problem::{Problem, Severity};
use crate::mac::Mac;

/// A reserved machine, as another server's file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where in the file, bytes.
    pub at: Range<usize>,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its address.
    pub addr: Ipv4Addr,
    /// Its name, if the file has one; any text.
    pub hostname: Option<String>,
}

/// What a file says.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The machines, in the order of the file.
    pub hosts: Vec<Host>,
    /// What is wrong with the file, and what is left out.
    pub problems: Vec<Problem>,
}

impl Found {
    fn error(&mut self, source: &Source, at: &Range<usize>, message: impl Into<String>, help: &str) {
        self.problems.push(source.problem(Severity::Error, at.start, at.end, message, help));
    }

    fn skip(&mut self, source: &Source, at: &Range<usize>, why: &str, help: &str) {
        let message = format!("this machine is left out: {why}");
        self.problems.push(source.problem(Severity::Warning, at.start, at.end, message, help));
    }
}

/// Settings of machines that have no counterpart here: each is told once, with how often it was met.
#[derive(Debug, Default)]
struct Leftovers(BTreeMap<String, (Range<usize>, usize)>);

impl Leftovers {
    fn note(&mut self, name: &str, at: &Range<usize>) {
        self.0.entry(name.to_owned()).or_insert_with(|| (at.clone(), 0)).1 += 1;
    }

    fn tell(self, source: &Source, found: &mut Found) {
        let help = "set what the machines need in netboot.json, or as a `$variable` of their templates";
        found.problems.extend(self.0.into_iter().map(|(name, (at, times))| {
            let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
            let message = format!("`{name}` of a machine is not taken over ({times} in this file)");
            source.problem(Severity::Warning, at.start, at.end, message, help)
        }));
    }
}
