//! What few machines have in `pxe_hosts.json`: the name of a profile, labels that profiles match, and the numbers that their
//! makers gave them.

use std::collections::BTreeMap;

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::{Range, Ranged};

use super::read;
use crate::config::json::{Reader, kind};
use crate::uuid::Uuid;

/// The names of these members.
pub(super) const MEMBERS: [&str; 4] = ["profile", "labels", "uuid", "serial"];

/// Longest name or value of a label, and longest serial number.
const LONGEST: usize = 64;

/// What a machine has of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// `profile`: what it boots, whatever its labels and its channel say.
    pub profile: Option<String>,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// `uuid` of its firmware (SMBIOS).
    pub uuid: Option<Uuid>,
    /// `serial` number.
    pub serial: Option<String>,
}

/// Reads them; `named` gets the first place that names each profile.
pub(super) fn read(
    reader: &mut Reader<'_>,
    host: &Object<'_>,
    named: &mut BTreeMap<String, Range>,
) -> Option<Box<Marks>> {
    let mut marks = Marks::default();
    for member in &host.properties {
        let value = &member.value;
        match member.name.as_str() {
            "profile" => {
                let help = "write the name of a profile, at most 64 characters, as in \"debian\"";
                marks.profile = text(reader, "profile", value, read::is_profile, help);
                if let Some(profile) = &marks.profile {
                    named.entry(profile.clone()).or_insert(value.range());
                }
            }
            "labels" => marks.labels = labels(reader, "labels", value),
            "uuid" => {
                let help = "write it as the firmware shows it: 4c4c4544-0042-3510-8058-b9c04f4a3333";
                let uuid = text(reader, "uuid", value, is_uuid, help).and_then(|text| text.parse().ok());
                marks.uuid = uuid.filter(|uuid: &Uuid| uuid.is_somebodys());
                if uuid.is_some() && marks.uuid.is_none() {
                    let message = "this `uuid` is what boards show that were never given one";
                    reader.error(value, message, "leave it out: the machine is known by its MAC");
                }
            }
            "serial" => {
                let help = "write at most 64 characters of ASCII, no space first or last";
                marks.serial = text(reader, "serial", value, is_word, help);
            }
            _ => {}
        }
    }
    (marks != Marks::default()).then(|| Box::new(marks))
}

/// Labels as machines have them and profiles match them: `{ "rack": "a1" }`.
pub(super) fn labels(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Value::Object(object) = value else {
        let message = format!("`{name}` is {}, not an object", kind(value));
        reader.error(value, message, format!("write \"{name}\": {{ \"rack\": \"a1\" }}"));
        return labels;
    };
    reader.unique(object);
    for member in &object.properties {
        let label = member.name.as_str();
        let help = "write 1 to 64 characters of ASCII, as in \"rack\": \"a1\"";
        if !is_word(label) {
            reader.error(&member.name, format!("`{label}` is no name of a label"), help);
        }
        if let Some(text) = text(reader, &format!("{name}.{label}"), &member.value, is_word, help) {
            labels.insert(label.to_owned(), text);
        }
    }
    labels
}

fn text(
    reader: &mut Reader<'_>,
    name: &str,
    value: &Value<'_>,
    rule: fn(&str) -> bool,
    help: &str,
) -> Option<String> {
    let text = reader.text(name, value, help)?;
    if !rule(text) {
        reader.error(value, format!("`{name}` is \"{text}\""), help);
        return None;
    }
    Some(text.to_owned())
}

fn is_word(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text.trim() == text
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

fn is_uuid(text: &str) -> bool {
    text.parse::<Uuid>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::{Marks, read};
    use crate::config::json::{Reader, Source};

    fn marks(text: &str) -> (Option<Marks>, Vec<String>, Vec<String>) {
        let source = Source::new(Path::new("f"), text);
        let mut reader = Reader::new(&source);
        let mut named = BTreeMap::new();
        let marks = read(&mut reader, &source.object().unwrap(), &mut named);
        let said = reader.problems.iter().map(ToString::to_string).collect();
        (marks.map(|marks| *marks), named.into_keys().collect(), said)
    }

    #[test]
    fn what_few_machines_have() {
        assert_eq!(marks(r#"{"macaddr": "x", "$profile": "y"}"#), (None, vec![], vec![]));
        let (marks, named, said) = marks(
            r#"{"profile": "lab", "labels": {"rack": "a1", "row": "2 left"}, "serial": "CZ 123-X",
                "uuid": "4C4C4544-0042-3510-8058-b9c04f4a3333"}"#,
        );
        assert_eq!((named, said), (vec!["lab".to_owned()], vec![]));
        let marks = marks.unwrap();
        assert_eq!(marks.profile.as_deref(), Some("lab"));
        assert_eq!(marks.labels.get("row").map(String::as_str), Some("2 left"));
        assert_eq!(marks.uuid, "4c4c4544-0042-3510-8058-b9c04f4a3333".parse().ok());
        assert_eq!(marks.serial.as_deref(), Some("CZ 123-X"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            (r#"{"profile": 1}"#, "`profile` is a number, not a string"),
            (r#"{"profile": "../x"}"#, "`profile` is \"../x\"; write the name of a profile"),
            (r#"{"labels": "a1"}"#, "`labels` is a string, not an object"),
            (r#"{"labels": {"rack": 1}}"#, "`labels.rack` is a number"),
            (r#"{"labels": {"": "x"}}"#, "`` is no name of a label"),
            (r#"{"labels": {"rack": ""}}"#, "`labels.rack` is \"\""),
            (r#"{"uuid": "4c4c4544"}"#, "`uuid` is \"4c4c4544\"; write it as the firmware shows it"),
            (r#"{"uuid": "4c4c4544-0042-3510-8058-b9c04f4a333g"}"#, "`uuid` is"),
            (
                r#"{"uuid": "00000000-0000-0000-0000-000000000000"}"#,
                "that were never given one; leave it out",
            ),
            (
                r#"{"uuid": "ffffffff-FFFF-ffff-ffff-ffffffffffff"}"#,
                "that were never given one; leave it out",
            ),
            (r#"{"serial": " x"}"#, "`serial` is \" x\""),
        ];
        for (text, expected) in table {
            let (_, _, said) = marks(text);
            assert!(said.len() == 1 && said[0].contains(expected), "{text}: {said:?}");
        }
    }
}
