//! `$variables` in the operator's texts: every known name is replaced by its value.
//!
//! Plain replacement, the longest name first. Which names a machine has is said by the snapshot.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// How often a value may name a variable that names a variable …; two that name each other end there.
const DEEPEST: usize = 4;
/// Beyond this size names stay as they are.
const LARGEST: usize = 4 << 20;

/// Replaces every known name, the longest first where several fit; unknown names stay. Values may name variables.
pub fn render(template: &str, variables: &BTreeMap<&str, Cow<'_, str>>) -> String {
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
