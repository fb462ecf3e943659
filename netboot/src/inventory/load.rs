//! The data directory → a snapshot, and everything that is wrong with it.

use std::path::Path;

use super::again::Kept;
use super::{HOSTS_FILE, Loaders, Networks, Snapshot, loaders, read, template};
use crate::config::json::{Reader, Source};
use crate::config::problem::{Problem, Severity};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The hosts; `None` when `pxe_hosts.json` has an error. A template with an error takes nothing from the others,
    /// nor from DHCP, so it does not matter here.
    pub snapshot: Option<Snapshot>,
    /// All that is wrong, warnings included.
    pub problems: Vec<Problem>,
    /// There is no `pxe_hosts.json`: the snapshot is empty.
    pub missing: bool,
}

/// Reads `pxe_hosts.json`, and looks at the templates and at the boot loaders in `tftp/`. Addresses are held against the
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
            let snapshot = Snapshot::default().with_loaders(Loaders::find(data));
            return Loaded { snapshot: Some(snapshot), problems: vec![problem], missing: true };
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
    let (usable, clean) = (!reader.problems.iter().any(Problem::is_error), reader.problems.is_empty());
    template::check(data, &hosts.snapshot, &hosts.named.templates, networks.server(), &mut reader);
    for (file, place) in &hosts.named.boot_files {
        if !loaders::is_there(data, file) {
            let message = format!("boot file `{file}` is not in tftp/");
            reader.warning(place, message, "put it there, or name another");
        }
    }
    let mut problems = reader.problems;
    problems.sort_by(|one, other| (&one.file, one.place).cmp(&(&other.file, other.place)));
    let snapshot = usable.then(|| hosts.snapshot.clone().with_loaders(Loaders::find(data)));
    if clean {
        *kept = Some(Kept::new(source.clone(), networks.clone(), hosts));
    }
    Loaded { snapshot, problems, missing: false }
}
