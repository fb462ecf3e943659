//! `vlan` and `trunk`: the tags of the machines' frames, and the interface that carries them (IEEE 802.1Q).
//!
//! Knows what can be written; what is done with it is the fast path's.

use std::fmt;
use std::str::FromStr;

use jsonc_parser::ast::Value;

use super::json::{Reader, Source, kind};
use super::problem::{Problem, Severity};
use super::written::interface;
use super::{FILE, Settings};

/// What to write.
const HELP: &str =
    "write the number of a VLAN, from 1 to 4094, or outer and inner one in double quotes, as in \"100.90\"";

/// The tags of a frame: one, or with an outer one round it (QinQ, IEEE 802.1ad). Written `90`, or `100.90`, the outer first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    first: u16,
    second: Option<u16>,
}

impl Vlan {
    /// How many tags a frame has.
    pub fn tags(self) -> u8 {
        if self.second.is_some() { 2 } else { 1 }
    }

    /// Their numbers as they stand in the frame, the outer first; 0 where there is no second one.
    pub fn ids(self) -> [u16; 2] {
        [self.first, self.second.unwrap_or(0)]
    }
}

/// Neither a VLAN nor two.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a VLAN; write its number, from 1 to 4094, or outer and inner one, as in 100.90")]
pub struct BadVlan(String);

impl FromStr for Vlan {
    type Err = BadVlan;

    fn from_str(text: &str) -> Result<Self, BadVlan> {
        let id = |part: &str| {
            // `parse` would take a sign, too.
            let digits = part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|id| digits && (1..=4094).contains(id))
        };
        let read = match text.split_once('.') {
            None => id(text).map(|first| Self { first, second: None }),
            Some((outer, inner)) => {
                id(outer).zip(id(inner)).map(|(first, inner)| Self { first, second: Some(inner) })
            }
        };
        read.ok_or_else(|| BadVlan(text.to_owned()))
    }
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.second.map_or(Ok(()), |inner| write!(f, ".{inner}"))
    }
}

impl serde::Serialize for Vlan {
    /// As it is written in `netboot.json`: one as a number, two as a string.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.second {
            None => serializer.serialize_u16(self.first),
            Some(_) => serializer.collect_str(self),
        }
    }
}

/// Reads the setting.
pub(super) fn read(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<Vlan> {
    let (read, found) = match value {
        Value::StringLit(text) => (text.value.parse().ok(), format!("\"{}\"", text.value)),
        // 100.90 as a number is 100.9 to every other program.
        Value::NumberLit(number) => {
            (number.value.parse().ok().filter(|vlan: &Vlan| vlan.tags() == 1), number.value.to_owned())
        }
        other => (None, kind(other).to_owned()),
    };
    if read.is_none() {
        reader.error(value, format!("`{name}` is {found}"), HELP);
    }
    read
}

/// What is wrong with the two settings together, with the place of the one that is in `netboot.json`.
pub fn problem(settings: &Settings) -> Option<Problem> {
    let Settings { data, interface, trunk, vlan, .. } = settings;
    let (name, message, help) = mismatch(interface, trunk.as_deref(), *vlan)?;
    let file = data.join(FILE);
    let source = Source::read(&file).ok().flatten().unwrap_or_else(|| Source::new(&file, "{}"));
    let object = source.object().ok();
    let Some(member) = object.as_ref().and_then(|object| object.get(name)) else {
        return Some(Problem::of_file(Severity::Error, &file, message, help));
    };
    let mut reader = Reader::new(&source);
    reader.error(&member.value, message, help);
    reader.problems.pop()
}

/// The setting that wants another one beside it, what is wrong, and what to write.
fn mismatch(
    own: &str,
    trunk: Option<&str>,
    vlan: Option<Vlan>,
) -> Option<(&'static str, String, &'static str)> {
    const ALL: &str = "write all three, as in \"interface\": \"eth1.90\", \"trunk\": \"eth1\", \"vlan\": 90 \
        (--interface eth1.90 --trunk eth1 --vlan 90), or the interface alone: then XDP is attached to that";
    if let Some(trunk) = trunk
        && let Err(help) = interface(trunk)
    {
        return Some(("trunk", format!("`trunk` is \"{trunk}\""), help));
    }
    match (trunk, vlan) {
        (Some(trunk), None) => Some((
            "trunk",
            format!("`trunk` is \"{trunk}\", and `vlan` does not say which of its VLANs"),
            "write the number of the VLAN that the interface is in, as in \"vlan\": 90 (--vlan 90)",
        )),
        (None, Some(vlan)) => Some((
            "vlan",
            format!("`vlan` is {vlan}, and `trunk` does not say which interface carries its tag"),
            ALL,
        )),
        (Some(trunk), Some(_)) if trunk == own => {
            Some(("trunk", format!("`trunk` and `interface` are both \"{trunk}\""), ALL))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{FILE, Vlan, mismatch};
    use crate::config::{Given, resolve};

    fn vlan(text: &str) -> Vlan {
        text.parse().unwrap()
    }

    #[test]
    fn one_or_two_numbers() {
        assert_eq!((vlan("90").tags(), vlan("90").ids()), (1, [90, 0]));
        assert_eq!((vlan("100.90").tags(), vlan("100.90").ids()), (2, [100, 90]));
        for text in ["1", "4094", "4094.1"] {
            assert_eq!(vlan(text).to_string(), text);
        }
        assert_eq!(serde_json::to_string(&[vlan("90"), vlan("100.90")]).unwrap(), "[90,\"100.90\"]");
        for text in
            ["", "0", "4095", "65626", "-1", "+90", " 90", "90.", ".90", "0.90", "90.0", "1.2.3", "9a"]
        {
            let error = text.parse::<Vlan>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("as in 100.90"), "{error}");
        }
    }

    #[test]
    fn trunk_and_vlan_belong_together() {
        let of = |trunk, vlan| mismatch("eth1.90", trunk, vlan);
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some("eth1"), Some(vlan("90"))), None);
        let (name, message, help) = of(Some("eth1"), None).unwrap();
        assert_eq!(name, "trunk");
        assert!(message.contains("`trunk` is \"eth1\"") && help.contains("--vlan 90"), "{message}; {help}");
        let (name, message, help) = of(None, Some(vlan("100.90"))).unwrap();
        assert_eq!(name, "vlan");
        assert!(message.contains("`vlan` is 100.90") && help.contains("--trunk eth1"), "{message}; {help}");
        let (_, message, _) = of(Some("a/b"), Some(vlan("90"))).unwrap();
        assert!(message.contains("\"a/b\""), "{message}");
        let (_, message, _) = of(Some("eth1.90"), Some(vlan("90"))).unwrap();
        assert!(message.contains("both \"eth1.90\""), "{message}");
    }

    #[test]
    fn trunk_and_vlan_are_for_serving_and_go_together() {
        let serving = |text: &str, given: Given| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let settings = resolve(dir.path(), given).unwrap();
            settings.serving().map_err(|problems| problems.to_string())
        };
        let eth = || Given { interface: Some("eth1.90".to_owned()), ..Given::default() };
        let text = r#"{"trunk": "eth1"}"#;
        let problem = serving(text, eth()).unwrap_err();
        assert!(problem.contains("netboot.json:1:11: `trunk` is \"eth1\""), "{problem}");
        let settings = serving(text, Given { vlan: "90".parse().ok(), ..eth() }).unwrap();
        assert_eq!((settings.trunk.as_deref(), settings.vlan), (Some("eth1"), "90".parse().ok()));
        let problem = serving("{}", Given { vlan: "90".parse().ok(), ..eth() }).unwrap_err();
        assert!(problem.contains("netboot.json: `vlan` is 90"), "{problem}");
        let problem = serving(r#"{ "vlan": "100.90" }"#, eth()).unwrap_err();
        assert!(problem.contains("netboot.json:1:11: `vlan` is 100.90"), "{problem}");
    }
}
