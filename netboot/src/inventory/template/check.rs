//! What is wrong with the templates that machines use: each is rendered for one machine of all that define the same names, and
//! held against what will read it. Every mistake has its place in the template, not in the text that was made from it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{find, trace};
use crate::config::json::{Reader, Source};
use crate::config::problem::{Problem, Severity};
use crate::inventory::jinja::{self, Wrong};
use crate::inventory::rendering::{For, Server};
use crate::inventory::secrets::{self, Listed};
use crate::inventory::user_data::{self, Kind, Mistake};
use crate::inventory::{DEFAULT_TEMPLATE, HOSTS_FILE, Host, Snapshot, ignition};

/// So many sets of names are tried with a template; machines have a few.
const MOST_SETS: usize = 64;

/// Where templates for any purpose are, in the data directory.
pub const DIRECTORY: &str = "templates";

/// Who reads what is made from a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Used {
    /// cloud-init.
    UserData,
    /// cloud-init, for the network, which is YAML.
    Network,
    /// Ignition.
    Ignition,
}

/// Templates that are for all machines, if they are there.
const FOR_ALL: [(&str, Used); 2] =
    [(user_data::VENDOR_DATA, Used::UserData), (user_data::NETWORK_CONFIG, Used::Network)];

/// The place in the hosts file that names a template.
type Named = BTreeMap<String, jsonc_parser::common::Range>;

/// Checks the templates that the hosts of a snapshot use. `named` has the place that names each in the hosts file;
/// `told`: that it is missing is said elsewhere.
pub(in crate::inventory) fn check(
    data: &Path,
    snapshot: &Snapshot,
    (named, told): (&Named, &dyn Fn(&str) -> bool),
    server: Server,
    reader: &mut Reader<'_>,
) {
    let listed = Listed::read(data);
    // The hosts, and whether one of them cannot do without it.
    let mut users: BTreeMap<(&str, Used), (Vec<&Host>, bool)> = BTreeMap::new();
    for host in snapshot.hosts() {
        let own = [
            ((snapshot.template(host), Used::UserData), true),
            ((snapshot.ignition_of(host), Used::Ignition), host.ignition.is_some()),
        ];
        for (used, needed) in own.into_iter().chain(FOR_ALL.map(|used| (used, false))) {
            let (hosts, all) = users.entry(used).or_default();
            hosts.push(host);
            *all |= needed;
        }
    }
    let checking = Checking { data, snapshot, server, listed: &listed };
    for ((name, used), (hosts, needed)) in users {
        let path = data.join(name);
        let whole = |message: String, help: String| Problem::of_file(Severity::Error, &path, message, help);
        match find(name, |name| super::open(data, name)) {
            Ok((name, text)) => checking.template(&name, &text, used, &hosts, &mut reader.problems),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let help = format!("make it a text file in the directory of {HOSTS_FILE}");
                reader.problems.push(whole(format!("cannot be read: {error}"), help));
            }
            Err(_) if !needed => {}
            Err(_) => {
                if let Some(place) = named.get(name) {
                    let (member, usual) = match used {
                        Used::Ignition => ("ignition", ignition::TEMPLATE),
                        _ => ("template", DEFAULT_TEMPLATE),
                    };
                    let help = format!("write {}, or remove `{member}` to use {usual}", path.display());
                    reader.error(place, format!("the template `{name}` does not exist"), help);
                } else if !told(name) {
                    let help = "write a cloud-config there, or give each host its own `template`".to_owned();
                    reader.problems.push(whole(format!("is missing, used by {}", count(&hosts)), help));
                }
            }
        }
    }
    reader.problems.extend(syntax(data));
    reader.problems.extend(secrets::check(data, snapshot));
}

/// What is wrong with the templates for any purpose, as far as it does not depend on a machine.
fn syntax(data: &Path) -> Vec<Problem> {
    let entries = std::fs::read_dir(data.join(DIRECTORY)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names: BTreeSet<String> = names.filter(|name| name.ends_with(jinja::SUFFIX)).collect();
    let wrong = |name: String| {
        let name = format!("{DIRECTORY}/{name}");
        let text = super::open(data, &name).ok()?;
        let wrong = jinja::syntax(&name, &text).err()?;
        Some(placed(&Source::new(&data.join(&name), &text), &wrong, ""))
    };
    names.into_iter().filter_map(wrong).collect()
}

/// What templates are checked with.
struct Checking<'a> {
    data: &'a Path,
    snapshot: &'a Snapshot,
    server: Server,
    listed: &'a Listed,
}

impl Checking<'_> {
    fn template(&self, name: &str, text: &str, used: Used, hosts: &[&Host], problems: &mut Vec<Problem>) {
        let source = Source::new(&self.data.join(name), text);
        let sets = self.sets(hosts);
        if !name.ends_with(jinja::SUFFIX) {
            self.undefined(&source, &sets, problems);
        }
        let mut found: Vec<(Problem, Vec<&Host>)> = Vec::new();
        for set in sets.iter().take(MOST_SETS) {
            let Some(host) = set.first() else { continue };
            for problem in self.rendered(name, &source, used, host) {
                // The same for machines of another set is told once.
                match found.iter_mut().find(|(known, _)| {
                    (known.place, &known.file, &known.message)
                        == (problem.place, &problem.file, &problem.message)
                }) {
                    Some((_, hosts)) => hosts.extend(set),
                    None => found.push((problem, set.clone())),
                }
            }
        }
        problems.extend(found.into_iter().map(|(mut problem, hosts)| {
            problem.message = format!("{}, for {}", problem.message, count(&hosts));
            problem
        }));
    }

    /// What is wrong with the text that a host gets.
    fn rendered(&self, name: &str, source: &Source, used: Used, host: &Host) -> Vec<Problem> {
        let rendering = For {
            data: self.data,
            snapshot: self.snapshot,
            host,
            server: self.server,
            // Nobody gets this text.
            secret: Arc::new(|_| Ok("secret".to_owned())),
        };
        let text = match rendering.render(name, source.text()) {
            Ok(text) => text,
            Err(wrong) if wrong.template == name => return vec![placed(source, &wrong, "")],
            Err(wrong) => {
                let path = self.data.join(&wrong.template);
                let text = super::open(self.data, &wrong.template).unwrap_or_default();
                return vec![placed(&Source::new(&path, &text), &wrong, &format!(", included by {name}"))];
            }
        };
        let (mistake, help) = match (used, user_data::kind(&text)) {
            (Used::UserData, Kind::Unknown) if is_yaml(name) && !text.trim().is_empty() => {
                let end = source.text().find('\n').unwrap_or(source.text().len());
                let message =
                    format!("does not begin with `{}`, so cloud-init leaves it alone", user_data::HEADER);
                let help = format!("write `{}` into its first line", user_data::HEADER);
                return vec![source.problem(Severity::Warning, 0, end, message, help)];
            }
            (Used::UserData, Kind::CloudConfig) | (Used::Network, _) => {
                let help = "cloud-init would leave all of it alone; `{{ … | tojson }}` in a .j2 template quotes a value";
                (user_data::yaml(&text), help)
            }
            (Used::Ignition, _) => (ignition::check(&text), "Ignition would refuse all of it"),
            (Used::UserData, _) => return Vec::new(),
        };
        let Err(mistake) = mistake else { return Vec::new() };
        let Mistake { line, column, why, harmless } = mistake;
        let (severity, help) =
            if harmless { (Severity::Warning, "keep one of the two") } else { (Severity::Error, help) };
        let what = match (harmless, used) {
            (false, Used::UserData | Used::Network) => format!("not YAML: {why}"),
            _ => why,
        };
        let again = |template: &str| rendering.render(name, template).ok();
        vec![match trace::back(source.text(), &text, (line, column), again) {
            Some(at) => source.problem(severity, at, at + 1, what, help),
            None => {
                Problem::of_file(severity, source.path(), format!("{what}, in line {line} of the text"), help)
            }
        }]
    }

    /// Hosts by the names that they define, each set in the order of the file.
    fn sets<'h>(&self, hosts: &[&'h Host]) -> Vec<Vec<&'h Host>> {
        let alike = |one: &Host, other: &Host| {
            one.variables.keys().eq(other.variables.keys())
                && self.listed.of(one.addr) == self.listed.of(other.addr)
        };
        let mut sets: Vec<Vec<&Host>> = Vec::new();
        let mut by_names = BTreeMap::new();
        // Most hosts define the same names as the one before.
        let mut before: Option<(&Host, usize)> = None;
        for host in hosts {
            let number = match before {
                Some((before, number)) if alike(before, host) => number,
                _ => *by_names
                    .entry((host.variables.keys().collect::<Vec<_>>(), self.listed.of(host.addr)))
                    .or_insert_with(|| {
                        sets.push(Vec::new());
                        sets.len() - 1
                    }),
            };
            if let Some(set) = sets.get_mut(number) {
                set.push(host);
            }
            before = Some((host, number));
        }
        sets
    }

    /// Warns of each name that some host of the template does not define. Units in a cloud-config may hold shell
    /// variables, so that is no error.
    fn undefined(&self, template: &Source, sets: &[Vec<&Host>], problems: &mut Vec<Problem>) {
        let mut seen = BTreeSet::new();
        let mut found: Vec<(usize, &str, Vec<&Host>, Option<String>)> = names(template.text())
            .filter(|(_, name)| seen.insert(*name))
            .map(|(at, name)| (at, name, Vec::new(), None))
            .collect();
        for set in sets {
            let Some(host) = set.first() else { continue };
            let secret = self.listed.names(host.addr);
            let mut defined: BTreeSet<&str> = self.snapshot.variables(host).into_keys().collect();
            defined.extend(secret.iter().map(String::as_str));
            for (at, name, missing, shorter) in &mut found {
                let rest = template.text().get(*at..).unwrap_or_default();
                let best =
                    defined.iter().filter(|known| rest.starts_with(**known)).max_by_key(|known| known.len());
                if best.is_none_or(|known| known.len() < name.len()) {
                    *shorter = best.map(|known| (*known).to_owned());
                    missing.extend(set);
                }
            }
        }
        for (at, name, missing, shorter) in found.into_iter().filter(|(_, _, missing, _)| !missing.is_empty())
        {
            let left = match shorter {
                Some(known) => format!("only its beginning `{known}` is replaced"),
                None => "it stays in the text as it is".to_owned(),
            };
            let message = format!("`{name}` is not defined for {}: {left}", count(&missing));
            let help = if secrets::is(name) {
                format!("write it into {}/{}", secrets::DIRECTORY, secrets::file(name))
            } else {
                format!(
                    "define it in `common` or in the host; a shell's own variable may be written `${{{}}}`",
                    &name[1..]
                )
            };
            problems.push(template.problem(Severity::Warning, at, at + name.len(), message, help));
        }
    }
}

/// Names in a template: each `$` with the letters, digits and underscores after it.
fn names(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('$').filter_map(|(at, _)| {
        let rest = text.get(at..)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = rest.char_indices().skip(1).find(|(_, c)| !legal(*c)).map_or(rest.len(), |(end, _)| end);
        let name = rest.get(..length)?;
        // `$1` and `$$` are a shell's own.
        name.as_bytes().get(1).is_some_and(|first| !first.is_ascii_digit()).then_some((at, name))
    })
}

/// What is wrong with a Jinja template, where it is.
fn placed(source: &Source, wrong: &Wrong, behind: &str) -> Problem {
    let message = format!("{}{behind}", wrong.why);
    let help = "until then its machines get this message and no configuration";
    match &wrong.bytes {
        Some(bytes) if bytes.end <= source.text().len() => {
            source.problem(Severity::Error, bytes.start, bytes.end, message, help)
        }
        _ => Problem::of_file(Severity::Error, source.path(), message, help),
    }
}

/// Whether a file is YAML by its name.
fn is_yaml(name: &str) -> bool {
    let name = name.strip_suffix(jinja::SUFFIX).unwrap_or(name);
    Path::new(name).extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// How many hosts, and the first of them.
fn count(hosts: &[&Host]) -> String {
    match hosts {
        [] => "no host".to_owned(),
        [one] => format!("host {}", one.addr),
        [one, ..] => format!("{} hosts ({}, …)", hosts.len(), one.addr),
    }
}
