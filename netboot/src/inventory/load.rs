//! The data directory → a snapshot, and everything that is wrong with it.

use std::path::Path;

use super::again::Kept;
use super::{HOSTS_FILE, Loaders, Networks, Snapshot, loaders, profile, read, template};
use crate::config::json::{Reader, Source};
use crate::config::problem::{Problem, Severity};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The hosts and profiles; `None` when one of their files has an error. A template with an error takes nothing from the others,
    /// nor from DHCP, so it does not matter here.
    pub snapshot: Option<Snapshot>,
    /// All that is wrong, warnings included.
    pub problems: Vec<Problem>,
    /// There is no `pxe_hosts.json`: the snapshot is empty.
    pub missing: bool,
}

/// Reads `pxe_hosts.json` and the profiles, and looks at the templates and at the boot loaders in `tftp/`. Addresses are held against the
/// networks, as far as these are known.
pub fn load(data: &Path, networks: &Networks) -> Loaded {
    load_again(data, networks, &mut None)
}

/// The same with what the last reading left, if it left something; leaves it for the next one. What is found does not depend
/// on it.
pub(super) fn load_again(data: &Path, networks: &Networks, kept: &mut Option<Kept>) -> Loaded {
    let path = data.join(HOSTS_FILE);
    let failed = |problem| Loaded { problems: vec![problem], ..Loaded::default() };
    if !data.is_dir() {
        let help = "name the data directory with --data (serve), as an argument (check) or in NETBOOT_DATA";
        return failed(Problem::of_file(Severity::Error, data, "there is no such directory", help));
    }
    let source = match Source::read(&path) {
        Ok(Some(source)) => source,
        Ok(None) => {
            let help = "write one to reserve addresses; until then every machine is unknown";
            let problem = Problem::of_file(Severity::Warning, &path, "there is no such file", help);
            let profile::Found { profiles, problems, .. } = profile::load(data);
            let usable = !problems.iter().any(Problem::is_error);
            let snapshot = Snapshot::default().with_loaders(Loaders::find(data)).with_profiles(profiles);
            let problems = std::iter::once(problem).chain(problems).collect();
            return Loaded { snapshot: usable.then_some(snapshot), problems, missing: true };
        }
        Err(problem) => return failed(problem),
    };
    examine(data, &source, networks, kept)
}

/// Reads the text of a hosts file of this data directory.
pub(super) fn examine(data: &Path, source: &Source, networks: &Networks, kept: &mut Option<Kept>) -> Loaded {
    let mut reader = Reader::new(source);
    let again = kept.as_ref().and_then(|kept| kept.again(source, networks));
    let hosts = match again {
        Some(hosts) => hosts,
        None => match source.object() {
            Ok(object) => read::hosts(&mut reader, &object, networks),
            Err(problem) => return Loaded { problems: vec![problem], ..Loaded::default() },
        },
    };
    let mut profiles = profile::load(data);
    let snapshot = hosts.snapshot.clone().with_loaders(Loaders::find(data));
    let snapshot = snapshot.with_profiles(std::mem::take(&mut profiles.profiles));
    profiles.problems.extend(profiles.ties(&snapshot));
    let (usable, clean) = (!reader.problems.iter().any(Problem::is_error), reader.problems.is_empty());
    let usable = usable && !profiles.problems.iter().any(Problem::is_error);
    let told = |name: &str| profiles.names_template(name);
    let named = (&hosts.named.templates, &told as &dyn Fn(&str) -> bool);
    template::check(data, &snapshot, named, networks.server(), &mut reader);
    for (file, place) in &hosts.named.boot_files {
        if !loaders::is_there(data, file) {
            let message = format!("boot file `{file}` is not in tftp/");
            reader.warning(place, message, "put it there, or name another");
        }
    }
    for (name, place) in &hosts.named.profiles {
        if !snapshot.profiles().has(name) {
            reader.error(place, format!("there is no profile `{name}`"), profile::write(data, name));
        }
    }
    let mut problems = reader.problems;
    problems.append(&mut profiles.problems);
    problems.sort_by(|one, other| (&one.file, one.place).cmp(&(&other.file, other.place)));
    if clean {
        *kept = Some(Kept::new(source.clone(), networks.clone(), hosts));
    }
    Loaded { snapshot: usable.then_some(snapshot), problems, missing: false }
}
