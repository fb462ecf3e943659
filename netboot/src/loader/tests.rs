//! What the tests of all loaders have in common: a plan, a kernel, and where this server is. No test is here.

use super::{Entry, Plan, Programs, Site, Task};

pub(super) const SITE: Site = Site { server: std::net::Ipv4Addr::new(192, 168, 90, 2), http_port: 8080 };

/// A plan without a menu.
pub(super) fn plan(tasks: &[(&str, Task)]) -> Plan {
    let entries = tasks.iter().map(|(name, task)| Entry { name: (*name).to_owned(), task: task.clone() });
    Plan { entries: entries.collect(), menu: None, programs: Programs::default() }
}

/// A Linux.
pub(super) fn linux(kernel: &str, initrds: &[&str], cmdline: &str) -> Task {
    let initrds = initrds.iter().map(|initrd| (*initrd).to_owned()).collect();
    Task::Linux { kernel: kernel.into(), initrds, cmdline: cmdline.into() }
}
