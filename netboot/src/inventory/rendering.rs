//! A template for one machine: plain text or Jinja, by the template's name. Reads nothing but what the template includes
//! and the names of secrets.
//!
//! Secrets stand in the variables as marks and are asked for where a mark is put out, so that one which is not used
//! is not read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use minijinja::Value;

use super::jinja::{self, Names, Wrong};
use super::{Host, Snapshot, secrets, template, variables};

/// Where this server is, as templates may say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address on the PXE network.
    pub addr: Ipv4Addr,
    /// Its HTTP port.
    pub http_port: u16,
}

/// Has the value of a secret by its name without `$`, or why it may not be had.
pub type Secret = Arc<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

/// Begin and end of a secret's name in the value of a variable: characters that are nobody's (Unicode 23.7).
const MARKS: (char, char) = ('\u{f0000}', '\u{f0001}');

/// For whom a template is rendered, and with what.
pub struct For<'a> {
    /// The data directory.
    pub data: &'a Path,
    /// The machines.
    pub snapshot: &'a Snapshot,
    /// The machine.
    pub host: &'a Host,
    /// This server.
    pub server: Server,
    /// Where secrets come from.
    pub secret: Secret,
}

impl For<'_> {
    /// Renders the text of the template with this name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn render(&self, name: &str, text: &str) -> Result<String, Wrong> {
        let mut known = self.snapshot.variables(self.host);
        let jinja = name.ends_with(jinja::SUFFIX);
        // A template in plain text that says none has none; of the others nobody knows.
        let secret = if jinja || secrets::are_in(text) || known.values().any(|value| secrets::are_in(value)) {
            secrets::names(self.data, self.host, &known)
        } else {
            BTreeSet::new()
        };
        let marked: Vec<(String, String)> = secret
            .into_iter()
            .map(|name| (format!("${name}"), format!("{}{name}{}", MARKS.0, MARKS.1)))
            .collect();
        known.extend(marked.iter().map(|(name, mark)| (name.as_str(), Cow::Borrowed(mark.as_str()))));
        if !jinja {
            let text = variables::render(text, &known);
            return filled(&text, &self.secret).map(Cow::into_owned).map_err(|why| Wrong {
                template: name.to_owned(),
                line: None,
                bytes: None,
                why,
            });
        }
        let data = self.data.to_owned();
        jinja::render(name, text, self.names(&known), move |name| included(&data, name))
    }

    /// What a Jinja template can say.
    fn names(&self, known: &BTreeMap<&str, Cow<'_, str>>) -> Own {
        let Self { snapshot, host, server, secret, .. } = self;
        let plain = |name: &str| name.strip_prefix('$').unwrap_or(name).to_owned();
        let values = |names: &mut dyn Iterator<Item = (&str, &str)>| -> BTreeMap<String, String> {
            names.map(|(name, text)| (plain(name), variables::render(text, known))).collect()
        };
        let all = values(&mut known.keys().map(|name| (*name, *name)));
        let common = snapshot.common().iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let common = values(&mut common.filter(|(name, _)| !secrets::is(name)));
        let vars = all.iter().filter(|(name, _)| !secrets::is(name));
        let vars = vars.map(|(name, value)| (name.clone(), value.clone())).collect();
        let lazily = |values| jinja::table(Variables { values, secret: Secret::clone(secret) });
        let given = BTreeMap::from([
            ("hostname", Value::from(host.hostname.as_str())),
            ("mac", Value::from(host.mac.to_string())),
            ("addr", Value::from(host.addr.to_string())),
            ("channel", Value::from(host.channel.as_str())),
            ("server", Value::from(server.addr.to_string())),
            ("http_port", Value::from(server.http_port)),
            ("vars", lazily(vars)),
            ("common", lazily(common)),
        ]);
        Own { variables: Variables { values: all, secret: Secret::clone(secret) }, given }
    }
}

/// Variables by their names without `$`.
struct Variables {
    values: BTreeMap<String, String>,
    secret: Secret,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Names for Variables {
    fn value(&self, name: &str) -> Option<Result<Value, String>> {
        let text = self.values.get(name)?;
        Some(filled(text, &self.secret).map(|text| Value::from(text.as_ref())))
    }

    fn names(&self) -> Vec<String> {
        self.values.keys().cloned().collect()
    }
}

/// All that stands at the top: the operator's variables beat what is there by itself, but for the maps of them.
#[derive(Debug)]
struct Own {
    variables: Variables,
    given: BTreeMap<&'static str, Value>,
}

impl Names for Own {
    fn value(&self, name: &str) -> Option<Result<Value, String>> {
        let given = || self.given.get(name).cloned().map(Ok);
        if ["vars", "common"].contains(&name) { given() } else { self.variables.value(name).or_else(given) }
    }

    fn names(&self) -> Vec<String> {
        self.variables.names()
    }
}

/// The text with secrets in the place of their marks.
fn filled<'t>(text: &'t str, secret: &Secret) -> Result<Cow<'t, str>, String> {
    let Some((before, mut rest)) = text.split_once(MARKS.0) else { return Ok(text.into()) };
    let mut filled = before.to_owned();
    while let Some((name, after)) = rest.split_once(MARKS.1) {
        filled.push_str(&secret(name)?);
        let Some((before, next)) = after.split_once(MARKS.0) else {
            filled.push_str(after);
            return Ok(filled.into());
        };
        filled.push_str(before);
        rest = next;
    }
    // A mark without an end is somebody's text.
    filled.push(MARKS.0);
    filled.push_str(rest);
    Ok(filled.into())
}

/// The text of an included template.
fn included(data: &Path, name: &str) -> Result<Option<String>, String> {
    if !template::is_legal(name) {
        return Err(format!("`{name}` is no template of the data directory"));
    }
    match template::open(data, name) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
