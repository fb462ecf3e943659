//! Reading again against reading whole.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::Kept;
use crate::config::json::Source;
use crate::inventory::load::examine;
use crate::inventory::{Loaded, Networks};

fn source(text: &str) -> Source {
    Source::new(Path::new("/nowhere/pxe_hosts.json"), text)
}

/// What a reading finds, and leaves.
fn read(text: &str, networks: &Networks, kept: &mut Option<Kept>) -> Loaded {
    examine(Path::new("/nowhere"), &source(text), networks, kept)
}

fn networks() -> Networks {
    Networks::of("10.0.0.1/16".parse().unwrap())
}

/// The beginning of every `uuid`.
const UUID: &str = "4c4c4544-0042-3510-8058-0000000000";

/// A member of `hosts`.
fn host(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    let own = match number % 5 {
        1 => r#", "template": "a.yaml""#,
        2 => r#", "template": "b.yaml", "boot": "own.efi""#,
        3 => r#", "$rack": 3, "$x": "\"}, {""#,
        4 => r#", "profile": "gone", "labels": {"rack": "a1"}"#,
        _ if number.is_multiple_of(2) => &format!(", \"uuid\": \"{UUID}{number:02x}\""),
        _ => "",
    };
    format!(
        "\"10.0.{high}.{low}\": {{ \"macaddr\": \"02:00:00:00:{high:02x}:{low:02x}\", \"$hostname\": \"blade{number}\", \"channel\": \"stable\"{own} }}"
    )
}

fn file(numbers: &[u16]) -> String {
    let mut text = "{ \"common\": { \"$gw\": \"10.0.0.1\" }, // ours\n  \"hosts\": {\n".to_owned();
    for (place, number) in numbers.iter().enumerate() {
        let comma = if place + 1 == numbers.len() { "" } else { "," };
        writeln!(text, "    {}{comma} // {number}", host(*number)).unwrap();
    }
    text + "  }\n}\n"
}

/// One edit.
#[derive(Clone, Debug)]
enum Edit {
    /// So many bytes are gone.
    Cut(Index, usize),
    /// This is put in.
    Put(Index, String),
    /// This is put into the place of so many bytes.
    Replace(Index, usize, String),
    /// A line goes elsewhere.
    Move(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let bits = [
        "",
        " ",
        "\n",
        "\"",
        "{",
        "}",
        ",",
        ":",
        "//",
        "/*",
        "*/",
        "// }",
        "},",
        "1",
        "é",
        "\\",
        "\"a\": {},",
        "\"template\": \"a.yaml\",",
        "\"template\": \"c.yaml\",",
        "\"$rack\": \"9\",",
        "\"boot\": \"new.efi\",",
        "} // {",
        "\"x\": 1,",
        "\"uuid\": \"4c4c4544-0042-3510-8058-00000000000a\",",
        "\"uuid\": \"4c4c4544-0042-3510-8058-00000000000b\",",
        "\"hosts\": {",
    ];
    let text = prop_oneof![
        select(bits.map(str::to_owned).to_vec()),
        (10..60u16).prop_map(|number| format!("{},\n", host(number))),
        (10..60u16).prop_map(|number| format!("{}, // more", host(number))),
    ];
    let length = prop_oneof![0..3usize, 0..40usize, 0..400usize];
    prop_oneof![
        (any::<Index>(), length.clone()).prop_map(|(at, length)| Edit::Cut(at, length)),
        (any::<Index>(), text.clone()).prop_map(|(at, text)| Edit::Put(at, text)),
        (any::<Index>(), length, text).prop_map(|(at, length, text)| Edit::Replace(at, length, text)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Edit::Move(from, to)),
    ]
}

impl Edit {
    fn apply(&self, text: &str) -> String {
        let border = |at: usize| (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap();
        // Half of them where a member begins or ends, for that is where mistakes would be.
        let place = |at: &Index| {
            let at = at.index(text.len() + 1);
            if at.is_multiple_of(2) {
                return border(at);
            }
            text[border(at)..].find(['{', '}', '"', ',', '\n']).map_or(text.len(), |found| border(at) + found)
        };
        match self {
            Self::Cut(at, length) => Self::Replace(*at, *length, String::new()).apply(text),
            Self::Put(at, new) => Self::Replace(*at, 0, new.clone()).apply(text),
            Self::Replace(at, length, new) => {
                let start = place(at);
                let end = border((start + length).min(text.len()));
                format!("{}{new}{}", &text[..start], &text[end..])
            }
            Self::Move(from, to) => {
                let mut lines: Vec<_> = text.split_inclusive('\n').collect();
                if lines.is_empty() {
                    return String::new();
                }
                let line = lines.remove(from.index(lines.len()));
                lines.insert(to.index(lines.len() + 1), line);
                lines.concat()
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_edited_is_read_as_if_all_were_read(
        numbers in proptest::collection::btree_set(10..60u16, 0..8),
        edits in proptest::collection::vec(proptest::collection::vec(edit(), 1..3), 1..5),
    ) {
        let numbers: Vec<_> = numbers.into_iter().collect();
        let (mut text, mut kept) = (file(&numbers), None);
        let _ = read(&text, &networks(), &mut kept);
        for step in edits {
            let next = step.iter().fold(text.clone(), |text, edit| edit.apply(&text));
            let (mut fresh, now) = (None, read(&next, &networks(), &mut kept));
            let whole = read(&next, &networks(), &mut fresh);
            prop_assert_eq!(&now.snapshot, &whole.snapshot, "{}", &next);
            let said = |loaded: &Loaded| loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>();
            prop_assert_eq!(said(&now), said(&whole), "{}", &next);
            if let Some(fresh) = fresh {
                let kept = kept.as_ref().unwrap();
                prop_assert_eq!(kept.source.text(), next.as_str());
                prop_assert_eq!(&kept.hosts.inside, &fresh.hosts.inside, "{}", &next);
                prop_assert_eq!(&kept.hosts.places, &fresh.hosts.places, "{}", &next);
                prop_assert_eq!(&kept.hosts.named, &fresh.hosts.named, "{}", &next);
                text = next;
            }
        }
    }
}

/// What is read again, and is nothing where all is read.
fn again(before: &str, now: &str) -> Option<usize> {
    let mut kept = None;
    let _ = read(before, &networks(), &mut kept);
    kept.unwrap().again(&source(now), &networks()).map(|hosts| hosts.places.len())
}

#[test]
fn an_edit_of_machines_needs_no_whole_reading() {
    let text = file(&[10, 14, 15, 19, 20]);
    for (old, new, hosts) in [
        ("", "", 5),
        ("blade15", "other", 5),
        ("blade10\"", "first\"", 5),
        ("blade20\"", "last\", \"template\": \"c.yaml\"", 5),
        ("10.0.0.15", "10.0.1.15", 5),
        ("\"blade15\"", &format!("\"blade15\", \"uuid\": \"{UUID}0b\""), 5),
        (&format!("{},", host(15)), "", 4),
        (&host(15), &format!("{}, {}", host(24), host(25)), 6),
        (&host(20), &format!("{}, {}", host(20), host(25)), 6),
        (&host(20), &format!("{},", host(20)), 5),
        ("    }\n", &format!("    {}, }}", host(25)), 5),
        (&host(10), &format!("{}, {}", host(25), host(10)), 6),
        ("\"hosts\": {", "\"hosts\": { // all of them", 5),
    ] {
        assert_eq!(again(&text, &text.replacen(old, new, 1)), Some(hosts), "{old} -> {new}");
    }
    for (old, new) in [
        ("$gw", "$gateway"),
        ("10.0.0.20\": {", "10.0.0.20\": 1"),
        ("02:00:00:00:00:0f", "02:00:00:00:00:0a"),
        ("10.0.0.15", "10.0.0.10"),
        ("10.0.0.15", "10.1.0.15"),
        (" }, // 15", " // }, // 15"),
        ("\"blade15\"", &format!("\"blade15\", \"uuid\": \"{UUID}0a\"")),
    ] {
        assert_eq!(again(&text, &text.replacen(old, new, 1)), None, "{old} -> {new}");
    }
    let one = |hosts: &str| format!("{{\"hosts\":{{{hosts}}}}}");
    assert_eq!(again(&one(""), &one(&host(25))), Some(1));
    assert_eq!(again(&one(&host(25)), &one("")), Some(0));
    let mut kept = None;
    let _ = read(&text, &networks(), &mut kept);
    assert!(kept.unwrap().again(&source(&text), &Networks::default()).is_none(), "other networks");
}

#[test]
fn machines_that_an_edit_does_not_touch_are_the_same() {
    let text = file(&[10, 20, 15]);
    let mut kept = None;
    let before = read(&text, &networks(), &mut kept).snapshot.unwrap();
    let after = read(&text.replacen("blade20", "other", 1), &networks(), &mut kept).snapshot.unwrap();
    let same: Vec<_> =
        before.hosts().zip(after.hosts()).map(|(one, other)| std::ptr::eq(one, other)).collect();
    assert_eq!(same, [true, false, true]);
}
