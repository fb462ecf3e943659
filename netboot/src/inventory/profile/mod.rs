//! What machines boot: profiles of the operator (`profiles/<name>.json`) and those that are built in.
//!
//! Here is what a profile is, which one is a machine's, and how it has from its parent what it does not say itself. Texts
//! for boot loaders are made in `loader`.

mod builtin;
mod load;
mod read;

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Host, Snapshot};
use crate::config::options;

pub use builtin::LOCAL_DISK;
pub(super) use load::{DIRECTORY, Found, load, write};
pub(crate) use read::is_path;

/// The profile of machines without a reservation, if there is a file for it.
pub const DEFAULT: &str = "default";

/// How a machine of a profile gets its system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A kernel and what goes with it.
    #[default]
    Linux,
    /// A script for iPXE.
    Ipxe,
    /// Another boot program, or another server's script.
    Chain,
    /// Its own disk.
    LocalDisk,
}

/// A script for iPXE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// A file below `tftp/`.
    File(String),
    /// Its lines.
    Lines(Vec<String>),
}

/// A menu of profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Menu {
    /// What stands over it.
    pub title: Option<String>,
    /// When the first is taken; 0: never.
    pub timeout_secs: u16,
    /// The other profiles.
    pub entries: Vec<String>,
}

/// A profile: what its file says, or that and what its parents say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Whose members count where this one has none.
    pub parent: Option<String>,
    /// `kind`.
    pub kind: Option<Kind>,
    /// A path below `tftp/`, or a URL.
    pub kernel: Option<String>,
    /// Paths below `tftp/`, or URLs.
    pub initrd: Option<Vec<String>>,
    /// The kernel's command line, with `$variables`.
    pub cmdline: Option<String>,
    /// Of `ipxe`.
    pub script: Option<Script>,
    /// Of `chain`: a URL, or a path below `tftp/`.
    pub url: Option<String>,
    /// Boot loaders by class, and DHCP options.
    pub dhcp: options::Profile,
    /// The template of machines that name none.
    pub template: Option<String>,
    /// A menu that begins with this profile.
    pub menu: Option<Menu>,
    /// Labels; who has all of them has this profile. Not a parent's.
    pub labels: BTreeMap<String, String>,
}

impl Profile {
    /// This one, with what a parent says where it says nothing itself.
    #[must_use]
    fn over(&self, parent: Self) -> Self {
        let mut dhcp = parent.dhcp;
        dhcp.options = dhcp.options.with(&self.dhcp.options);
        for (class, file) in self.dhcp.boot.iter() {
            dhcp.boot.set(class, file);
        }
        Self {
            parent: self.parent.clone(),
            kind: self.kind.or(parent.kind),
            kernel: self.kernel.clone().or(parent.kernel),
            initrd: self.initrd.clone().or(parent.initrd),
            cmdline: self.cmdline.clone().or(parent.cmdline),
            script: self.script.clone().or(parent.script),
            url: self.url.clone().or(parent.url),
            dhcp,
            template: self.template.clone().or(parent.template),
            menu: self.menu.clone().or(parent.menu),
            labels: self.labels.clone(),
        }
    }

    /// Whether it says what to boot. One that does not leaves that as it would be without it.
    pub fn boots(&self) -> bool {
        self.kind.is_some_and(|kind| kind != Kind::Linux) || self.kernel.is_some() || self.menu.is_some()
    }

    /// Whether a machine with these labels has all of them; a profile without any matches nobody.
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.labels.is_empty() && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// The profiles that have files, with what they have from their parents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles(BTreeMap<String, Profile>);

impl Profiles {
    /// These profiles, which have no parents.
    pub fn new(profiles: impl IntoIterator<Item = (String, Profile)>) -> Self {
        Self(profiles.into_iter().collect())
    }

    /// The one that has a file.
    pub fn file(&self, name: &str) -> Option<&Profile> {
        self.0.get(name)
    }

    /// The names of those that have a file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What a profile boots: by its file, or built in.
    pub fn get(&self, name: &str) -> Option<Cow<'_, Profile>> {
        let file = self.file(name).filter(|profile| profile.boots()).map(Cow::Borrowed);
        file.or_else(|| builtin::get(name).map(Cow::Owned))
    }

    /// What the machines of a channel boot. Of one that nobody says more of they boot the image with its name.
    pub fn of_channel(&self, name: &str) -> Cow<'_, Profile> {
        self.get(name).unwrap_or_else(|| Cow::Owned(builtin::coreos(name)))
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name) || builtin::get(name).is_some()
    }

    /// The one with the most labels of those that a machine with these matches; the second: another with as many.
    fn matching(&self, labels: &BTreeMap<String, String>) -> Option<(&str, Option<&str>)> {
        let mut best: Option<(&str, usize, Option<&str>)> = None;
        for (name, profile) in self.0.iter().filter(|(_, profile)| profile.matches(labels)) {
            let count = profile.labels.len();
            match &mut best {
                Some((_, most, _)) if *most > count => {}
                Some((_, most, other)) if *most == count => *other = other.or(Some(name)),
                best => *best = Some((name, count, None)),
            }
        }
        best.map(|(name, _, other)| (name, other))
    }
}

/// The profile of a machine: by name; what it boots can be changed by a file at any time.
impl Snapshot {
    /// What was ordered, else its own `profile`, else one that its labels match, else its channel; of machines without a reservation `default`, if
    /// that has a file.
    pub fn profile_name<'s>(&'s self, host: Option<&'s Host>) -> Option<&'s str> {
        let Some(host) = host else { return self.profiles.file(DEFAULT).map(|_| DEFAULT) };
        if let Some(ordered) = self.ordered(host) {
            return Some(ordered);
        }
        let marked = host.marks.as_ref().and_then(|marks| {
            let matching = || self.profiles.matching(&marks.labels).map(|(name, _)| name);
            marks.profile.as_deref().or_else(matching)
        });
        Some(marked.unwrap_or(&host.channel))
    }

    /// The file of its profile, if it has one.
    pub fn profile_file<'s>(&'s self, host: Option<&'s Host>) -> Option<&'s Profile> {
        self.profiles.file(self.profile_name(host)?)
    }

    /// What it boots. `None`: nobody says, or it names a profile that is not there.
    pub fn profile<'s>(&'s self, host: Option<&'s Host>) -> Option<Cow<'s, Profile>> {
        let name = self.profile_name(host)?;
        match host {
            Some(host) if host.channel == name && host.profile().is_none() => {
                Some(self.profiles.of_channel(name))
            }
            Some(_) => self.profiles.get(name),
            None => self.profiles.file(name).filter(|profile| profile.boots()).map(Cow::Borrowed),
        }
    }
}

#[cfg(test)]
mod tests;
