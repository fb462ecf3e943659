//! `profiles/` → the profiles, and everything that is wrong with their files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use jsonc_parser::common::Range;

use super::read::{self, Places};
use super::{Kind, Profile, Profiles, builtin};
use crate::config::json::{Reader, Source};
use crate::config::problem::{Problem, Severity};
use crate::inventory::{Snapshot, loaders, read as hosts};

/// The directory of the files, in the data directory.
pub(in crate::inventory) const DIRECTORY: &str = "profiles";
const ENDING: &str = ".json";

/// What was found.
#[derive(Debug, Default)]
pub(in crate::inventory) struct Found {
    pub(in crate::inventory) profiles: Profiles,
    pub(in crate::inventory) problems: Vec<Problem>,
    written: BTreeMap<String, Written>,
}

/// One file.
#[derive(Debug)]
struct Written {
    source: Source,
    profile: Profile,
    places: Places,
}

impl Written {
    fn problem(&self, severity: Severity, at: Option<Range>, message: String, help: String) -> Problem {
        match at {
            Some(at) => self.source.problem(severity, at.start, at.end, message, help),
            None => Problem::of_file(severity, self.source.path(), message, help),
        }
    }
}

/// Reads all files of the directory.
pub(in crate::inventory) fn load(data: &Path) -> Found {
    let mut found = Found::default();
    match names(&data.join(DIRECTORY)) {
        Ok(names) => names.into_iter().for_each(|name| found.read(data, name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let path = data.join(DIRECTORY);
            let message = format!("cannot be read: {error}");
            let help = "make it a directory with a file for each profile, or remove it";
            found.problems.push(Problem::of_file(Severity::Error, &path, message, help));
        }
    }
    let mut profiles = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, written) in &found.written {
        match resolved(name, &found.written) {
            Ok(profile) => {
                problems.extend(absent(data, written));
                problems.extend(incomplete(name, written, &profile));
                profiles.insert(name.clone(), profile);
            }
            Err(problem) => problems.extend(problem),
        }
        let unknown = |(entry, _): &&(String, Range)| {
            !found.written.contains_key(entry) && builtin::get(entry).is_none()
        };
        problems.extend(written.places.entries.iter().filter(unknown).map(|(entry, place)| {
            let message = format!("there is no profile `{entry}`");
            written.problem(Severity::Error, Some(*place), message, write(data, entry))
        }));
    }
    found.problems.extend(problems);
    found.profiles = Profiles(profiles);
    found
}

/// What to do about a profile that is not there.
pub(in crate::inventory) fn write(data: &Path, name: &str) -> String {
    let path = data.join(DIRECTORY).join(format!("{name}{ENDING}"));
    format!("write {}, or name another; stable, beta and debian are built in", path.display())
}

/// The names of the profiles, from those of their files. Others, as an editor's, do not matter.
fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(ENDING));
        names.extend(name.filter(|name| !name.starts_with('.')).map(str::to_owned));
    }
    Ok(names)
}

impl Found {
    fn read(&mut self, data: &Path, name: String) {
        let path = data.join(DIRECTORY).join(format!("{name}{ENDING}"));
        if !hosts::is_profile(&name) {
            let message = "this is not the name of a profile";
            let help = "write 1 to 64 letters, digits and . _ - + @ before .json";
            return self.problems.push(Problem::of_file(Severity::Error, &path, message, help));
        }
        let source = match Source::read(&path) {
            Ok(Some(source)) => source,
            // It was removed just now.
            Ok(None) => return,
            Err(problem) => return self.problems.push(problem),
        };
        let mut reader = Reader::new(&source);
        let read = source.object().map(|object| read::profile(&mut reader, &object));
        self.problems.append(&mut reader.problems);
        match read {
            Ok((profile, places)) => {
                self.written.insert(name, Written { source, profile, places });
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    /// Machines of this snapshot whose labels do not tell which of two profiles is theirs; of each two profiles the first machine.
    pub(in crate::inventory) fn ties(&self, snapshot: &Snapshot) -> Vec<Problem> {
        let mut said = BTreeSet::new();
        let mut problems = Vec::new();
        let mut before = None;
        for host in snapshot.hosts() {
            let Some(marks) = host.marks.as_ref().filter(|marks| marks.profile.is_none()) else { continue };
            // Machines of one rack stand side by side.
            if marks.labels.is_empty() || before == Some(&marks.labels) {
                continue;
            }
            before = Some(&marks.labels);
            let Some((one, Some(other))) = snapshot.profiles().matching(&marks.labels) else { continue };
            if said.insert((one, other))
                && let Some(written) = self.written.get(one)
            {
                let message = format!(
                    "{} ({}) has the labels of this profile and of `{other}`",
                    host.addr, host.hostname
                );
                let help = "match one label more in one of the two, or give the machine its own `profile`";
                problems.push(written.problem(
                    Severity::Error,
                    written.places.labels,
                    message,
                    help.to_owned(),
                ));
            }
        }
        problems
    }

    /// Whether a profile names this template: then its file says what is wrong with it.
    pub(in crate::inventory) fn names_template(&self, name: &str) -> bool {
        self.written.values().any(|written| written.profile.template.as_deref() == Some(name))
    }
}

/// The profile with what it has from its parents. `Err`: it is wrong, and its own mistake is said.
fn resolved(name: &str, all: &BTreeMap<String, Written>) -> Result<Profile, Option<Problem>> {
    let mut line: Vec<&Written> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut at = name;
    let base = loop {
        let Some(written) = all.get(at) else {
            let Some(base) = builtin::get(at) else {
                // Who names it says so.
                let [.., last] = line.as_slice() else { return Err(None) };
                let message = format!("there is no profile `{at}`");
                let directory = last.source.path().parent().and_then(Path::parent).unwrap_or(Path::new(""));
                let help = write(directory, at);
                let own = line.len() == 1;
                return Err(own.then(|| last.problem(Severity::Error, last.places.parent, message, help)));
            };
            break base;
        };
        seen.insert(at);
        line.push(written);
        match written.profile.parent.as_deref() {
            None => break Profile::default(),
            // A file takes the place of what is built in, and may begin with that.
            Some(parent) if parent == at && builtin::get(at).is_some() => {
                break builtin::get(at).unwrap_or_default();
            }
            Some(parent) if seen.contains(parent) => {
                let message = format!("`{parent}` has `{name}` among its own parents");
                let help = "name a profile that does not come back to this one".to_owned();
                let own = parent == name;
                let problem = || {
                    all.get(name).map(|own| own.problem(Severity::Error, own.places.parent, message, help))
                };
                return Err(if own { problem() } else { None });
            }
            Some(parent) => at = parent,
        }
    };
    Ok(line.iter().rev().fold(base, |parent, written| written.profile.over(parent)))
}

/// Files that a profile names and that are not there.
fn absent(data: &Path, written: &Written) -> Vec<Problem> {
    let absent = written.places.files.iter().filter(|(_, file, _)| !loaders::is_there(data, file));
    let mut problems: Vec<_> = absent
        .map(|(member, file, place)| {
            let message = format!("{member} `{file}` is not in tftp/");
            written.problem(
                Severity::Warning,
                Some(*place),
                message,
                "put it there, or name another".to_owned(),
            )
        })
        .collect();
    if let Some(template) = &written.profile.template
        && !data.join(template).is_file()
    {
        let message = format!("the template `{template}` does not exist");
        let help = format!("write {}, or name another", data.join(template).display());
        problems.push(written.problem(Severity::Warning, written.places.template, message, help));
    }
    problems
}

/// What a profile lacks for its kind.
fn incomplete(name: &str, written: &Written, profile: &Profile) -> Option<Problem> {
    let (lacks, example) = match profile.kind {
        Some(Kind::Ipxe) if profile.script.is_none() => ("script", "\"script\": \"menu.ipxe\""),
        Some(Kind::Chain) if profile.url.is_none() => ("url", "\"url\": \"http://192.0.2.1/boot.ipxe\""),
        Some(Kind::Linux) | None if profile.kernel.is_none() && profile.menu.is_some() => {
            ("kernel", "\"kernel\": \"debian/linux\", or \"kind\": \"local-disk\"")
        }
        _ => return None,
    };
    let message = format!("the profile `{name}` has no `{lacks}`");
    Some(written.problem(Severity::Error, None, message, format!("write {example}")))
}
