//! A machine's cloud-config: its template with every known `$name` replaced by text.
//!
//! What a machine gets depends on its source address. Every answer is text that cloud-init can read: where there is
//! no configuration, it is a comment that says what is missing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Query, State as Extract};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::app::{Shared, State, canonical};
use crate::inventory::HOSTS_FILE;

/// How often a value may name a variable that names a variable …; two that name each other end there.
const DEEPEST: usize = 4;
/// Beyond this size names stay as they are.
const LARGEST: usize = 4 << 20;

/// Replaces every known name, the longest first where several fit; unknown names stay. Values may name variables.
pub(super) fn render(template: &str, variables: &BTreeMap<&str, Cow<'_, str>>) -> String {
    let mut text = String::with_capacity(template.len() * 2);
    expand(template, variables, DEEPEST, "", &mut text);
    text
}

/// `own` is the variable whose value this is: in it the name stays, as in one plain replacement.
fn expand(
    mut rest: &str,
    variables: &BTreeMap<&str, Cow<'_, str>>,
    depth: usize,
    own: &str,
    into: &mut String,
) {
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        into.push_str(before);
        let longest =
            variables.iter().filter(|(name, _)| from.starts_with(**name)).max_by_key(|(name, _)| name.len());
        let name = match longest {
            Some((name, _)) if *name == own => {
                into.push_str(name);
                *name
            }
            Some((name, value)) if depth > 0 && into.len() < LARGEST => {
                expand(value, variables, depth - 1, name, into);
                *name
            }
            _ => {
                into.push('$');
                "$"
            }
        };
        rest = from.get(name.len()..).unwrap_or_default();
    }
    into.push_str(rest);
}

/// `GET` and `HEAD` of any path that is nothing else.
pub(super) async fn serve(
    Extract(state): Extract<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
) -> Response {
    let query = Query::<BTreeMap<String, String>>::try_from_uri(&uri).unwrap_or_default();
    let whose = state.whose(canonical(peer).ip(), query.get("override_ipv4").map(String::as_str));
    let answer = if state.is_at_hand(whose) {
        Ok(answer(&state, whose))
    } else {
        tokio::task::spawn_blocking(move || answer(&state, whose)).await
    };
    let (status, text) = answer.unwrap_or_else(|error| {
        tracing::error!("HTTP: cloud-config for {whose} failed: {error}");
        (StatusCode::INTERNAL_SERVER_ERROR, comment("this server failed, its log says how"))
    });
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, text).into_response()
}

/// Status and text. Reads the template, so an edit counts at once.
fn answer(state: &State, whose: IpAddr) -> (StatusCode, String) {
    let snapshot = state.inventory.snapshot();
    let host = match whose {
        IpAddr::V4(addr) => snapshot.by_addr(addr),
        IpAddr::V6(_) => None,
    };
    let Some(host) = host else {
        let why = if state.inventory.missing() {
            format!("{HOSTS_FILE} is missing in the data directory; add it, with a host {whose}")
        } else {
            format!("no configuration for {whose}; add this address to `hosts` in {HOSTS_FILE}")
        };
        return (StatusCode::NOT_FOUND, comment(&why));
    };
    let name = host.template();
    match state.templates.open(state.inventory.data(), name) {
        Ok(text) => (StatusCode::OK, render(&text, &snapshot.variables(host))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::error!("HTTP: template {name} of host {whose} is missing");
            (StatusCode::NOT_FOUND, comment(&format!("template {name} is missing in the data directory")))
        }
        Err(error) => {
            tracing::error!("HTTP: template {name} of host {whose}: {error}");
            let why = format!("template {name} in the data directory cannot be read");
            (StatusCode::INTERNAL_SERVER_ERROR, comment(&why))
        }
    }
}

/// A cloud-config that configures nothing and says why.
fn comment(why: &str) -> String {
    format!("#cloud-config\n# {why}\n")
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use super::render;

    fn with(template: &str, variables: &[(&'static str, &'static str)]) -> String {
        let variables: BTreeMap<_, _> =
            variables.iter().map(|(name, value)| (*name, Cow::Borrowed(*value))).collect();
        render(template, &variables)
    }

    #[test]
    fn replaces_the_longest_name() {
        let known = [("$public_ipv4", "1.2.3.4"), ("$public_ipv4_gw", "1.2.3.1"), ("$p", "no")];
        let table = [
            ("a: $public_ipv4\nb: $public_ipv4_gw\n", "a: 1.2.3.4\nb: 1.2.3.1\n"),
            ("$public_ipv4$public_ipv4_gw", "1.2.3.41.2.3.1"),
            ("x$public_ipv4/24", "x1.2.3.4/24"),
            ("$public_ipv4_dns", "1.2.3.4_dns"),
            ("$$public_ipv4$", "$1.2.3.4$"),
            ("cost: $5 ${HOME} $other €$", "cost: $5 ${HOME} $other €$"),
            ("", ""),
        ];
        for (template, expected) in table {
            assert_eq!(with(template, &known), expected, "{template}");
        }
    }

    #[test]
    fn values_may_name_variables() {
        assert_eq!(with("$fqdn", &[("$fqdn", "$hostname.example"), ("$hostname", "b1")]), "b1.example");
    }

    #[test]
    fn a_value_that_names_itself_is_put_in_once() {
        assert_eq!(with("$PATH", &[("$PATH", "/opt/bin:$PATH")]), "/opt/bin:$PATH");
        assert_eq!(with("$ab", &[("$a", "1"), ("$ab", "x$ab$a")]), "x$ab1");
    }

    #[test]
    fn values_that_name_each_other_come_to_an_end() {
        assert!(with("$a", &[("$a", "$b"), ("$b", "$a")]).starts_with('$'));
        // Each level would be 5000 times the one before it.
        let (many, more): (&'static str, &'static str) =
            (Box::leak("$b".repeat(5000).into_boxed_str()), Box::leak("$a".repeat(5000).into_boxed_str()));
        assert!(with("$a", &[("$a", many), ("$b", more)]).len() < 64 << 20);
    }
}
