//! A machine's profile → what it is to do, with every variable filled in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Entry, Plan, Programs, Shown, Site, Task, Whose};
use crate::config::boot;
use crate::inventory::profile::{Kind, Menu, Script, is_path};
use crate::inventory::variables::render;
use crate::inventory::{Host, Profile, Snapshot};

/// iPXE for a BIOS, where another loader is to leave the work to it.
pub const IPXE_BIOS: [&str; 2] = ["undionly.kpxe", "ipxe.pxe"];
/// The same for UEFI on x64.
pub const IPXE_EFI: [&str; 2] = ["snponly.efi", "ipxe.efi"];
/// What pxelinux shows a menu with.
const MENU: [&str; 2] = ["menu.c32", "libutil.c32"];

/// Who asks, and what is known.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The machines and profiles.
    pub snapshot: &'a Snapshot,
    /// The caller's address.
    pub addr: Option<Ipv4Addr>,
    /// Where this server is.
    pub site: Site,
    /// Whether a file below `tftp/` is there.
    pub there: &'a dyn Fn(&str) -> bool,
}

impl<'a> Request<'a> {
    /// The caller, if it has a reservation.
    pub fn host(&self) -> Option<&'a Host> {
        self.snapshot.by_addr(self.addr?)
    }

    /// What is to be done. `None`: nobody says.
    pub fn plan(&self, whose: Whose<'_>) -> Option<Plan> {
        let host = self.host();
        match whose {
            Whose::Callers => self.own(),
            Whose::OfMac(mac) => {
                host.is_none_or(|host| self.snapshot.may_have(host, mac)).then(|| self.own())?
            }
            Whose::OfAddr(addr) => (self.addr == Some(addr)).then(|| self.own())?,
            Whose::Named(name) => {
                let own = host.is_some_and(|host| host.channel == name)
                    || host.is_some() && self.snapshot.profile_name(host) == Some(name);
                if own { self.own() } else { self.named(name) }
            }
        }
    }

    /// The caller's own.
    fn own(&self) -> Option<Plan> {
        let host = self.host();
        let name = self.snapshot.profile_name(host)?;
        if let Some(profile) = self.snapshot.profile(host) {
            return Some(self.with_menu(name, &profile));
        }
        let named = |host: &&Host| host.profile().is_some() || self.snapshot.ordered(host).is_some();
        host.filter(named)?;
        let why = format!("there is no profile {name}, or it does not say what to boot");
        Some(self.menu(vec![Entry { name: name.to_owned(), task: Task::Wait(why) }], None))
    }

    /// That of a profile, or of a channel that machines have.
    fn named(&self, name: &str) -> Option<Plan> {
        let profiles = self.snapshot.profiles();
        let used = || self.snapshot.hosts().any(|host| host.channel == name);
        let profile = profiles.get(name).or_else(|| used().then(|| profiles.of_channel(name)))?;
        Some(self.with_menu(name, &profile))
    }

    fn with_menu(&self, name: &str, profile: &Profile) -> Plan {
        let mut entries = vec![Entry { name: name.to_owned(), task: self.task(name, profile) }];
        let Some(menu) = &profile.menu else { return self.menu(entries, None) };
        for name in &menu.entries {
            if !entries.iter().any(|entry| entry.name == *name) {
                let task = self.snapshot.profiles().get(name).map(|profile| self.task(name, &profile));
                let task = task
                    .unwrap_or_else(|| Task::Wait(format!("the profile {name} does not say what to boot")));
                entries.push(Entry { name: name.clone(), task });
            }
        }
        self.menu(entries, Some(menu))
    }

    fn menu(&self, entries: Vec<Entry>, menu: Option<&Menu>) -> Plan {
        let first = |names: [&'static str; 2]| names.into_iter().find(|name| (self.there)(name));
        let programs = Programs {
            ipxe_bios: first(IPXE_BIOS),
            ipxe_efi: first(IPXE_EFI),
            menu: MENU.iter().all(|name| (self.there)(name)),
        };
        let title = |menu: &Menu| menu.title.clone().unwrap_or_else(|| "netboot".to_owned());
        let menu = menu.map(|menu| Shown { title: title(menu), timeout_secs: menu.timeout_secs });
        Plan { entries, menu, programs }
    }

    fn task(&self, name: &str, profile: &Profile) -> Task {
        let variables = self.variables(name);
        let filled = |text: &str| render(text, &variables);
        // Only what people have written is looked for: images of a channel come as they come.
        let written = self.snapshot.profiles().file(name).is_some_and(Profile::boots);
        let file = |what: &str, text: &str| -> Result<String, Task> {
            let file = filled(text);
            if !is_path(&file) {
                return Err(Task::Wait(format!("{what} of the profile {name} is no file name")));
            }
            if written && !boot::is_url(&file) && !(self.there)(&file) {
                return Err(Task::Wait(format!("{what} {file} of the profile {name} is not in tftp/")));
            }
            Ok(file)
        };
        let lacks = |what: &str| Task::Wait(format!("the profile {name} has no {what}"));
        let task = || match profile.kind.unwrap_or_default() {
            Kind::LocalDisk => Ok(Task::LocalDisk),
            Kind::Linux => {
                let kernel = file("kernel", profile.kernel.as_deref().ok_or_else(|| lacks("kernel"))?)?;
                let initrds = profile.initrd.iter().flatten().map(|initrd| file("initrd", initrd));
                let cmdline = one_line(&filled(profile.cmdline.as_deref().unwrap_or_default()));
                Ok(Task::Linux { kernel, initrds: initrds.collect::<Result<_, _>>()?, cmdline })
            }
            Kind::Chain => file("url", profile.url.as_deref().ok_or_else(|| lacks("url"))?).map(Task::Chain),
            Kind::Ipxe => match profile.script.as_ref().ok_or_else(|| lacks("script"))? {
                Script::File(script) => file("script", script).map(Task::Chain),
                Script::Lines(lines) => {
                    Ok(Task::Script(lines.iter().map(|line| one_line(&filled(line))).collect()))
                }
            },
        };
        task().unwrap_or_else(|wait| wait)
    }

    /// What can stand in a text: the machine's own over what is for all over what is known by itself.
    fn variables(&self, profile: &str) -> BTreeMap<&'a str, Cow<'a, str>> {
        let (host, http) = (self.host(), self.site.http());
        let common = || {
            let common = self.snapshot.common().iter();
            common.map(|(name, value)| (name.as_str(), value.as_str().into())).collect()
        };
        let mut variables: BTreeMap<&'a str, Cow<'a, str>> =
            host.map_or_else(common, |host| self.snapshot.variables(host));
        let known = [
            ("$private_ipv4", self.addr.map(|addr| addr.to_string())),
            ("$mac", host.map(|host| host.mac.to_string())),
            ("$profile", Some(profile.to_owned())),
            ("$server", Some(self.site.server.to_string())),
            ("$http_port", Some(self.site.http_port.to_string())),
            ("$http", Some(http.clone())),
            ("$netboot_http", Some(http)),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                variables.entry(name).or_insert(value.into());
            }
        }
        variables
    }
}

/// A text whose variables may have brought line breaks along: these would be commands of their own.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\t', " ").trim().to_owned()
}

#[cfg(test)]
mod tests;
