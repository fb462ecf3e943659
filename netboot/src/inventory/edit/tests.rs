//! Texts as operators write them, with machines added: every byte counts.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::{Entry, Error, add, fresh, insert};
use crate::config::json::Source;
use crate::inventory::{HOSTS_FILE, Networks, load};
use crate::mac::Mac;

fn entry(last: u8) -> Entry {
    Entry {
        addr: [10, 0, 0, last].into(),
        mac: Mac([2, 0, 0, 0, 0, last]),
        hostname: format!("b{last}"),
        channel: "stable".to_owned(),
    }
}

/// `old` with 10.0.0.7 and 10.0.0.8 added.
#[track_caller]
fn check(old: &str, new: &str) {
    let text = insert(old, &[entry(7), entry(8)]).unwrap();
    assert_eq!(text, new);
    let source = Source::new(Path::new("f"), &text);
    assert!(source.object().is_ok(), "{text}");
}

#[test]
fn entries_look_like_those_before_them() {
    check(
        r#"// The machines.
{
    "common": { "$a": "b" },
    "hosts": {
        // first
        "10.0.0.1": {
            "macaddr": "02:00:00:00:00:01", // board 1
            "$hostname": "b1",
            "channel": "beta"
        } // the last so far
        /* "10.0.0.2": { }, */
    }
}
"#,
        r#"// The machines.
{
    "common": { "$a": "b" },
    "hosts": {
        // first
        "10.0.0.1": {
            "macaddr": "02:00:00:00:00:01", // board 1
            "$hostname": "b1",
            "channel": "beta"
        }, // the last so far
        /* "10.0.0.2": { }, */
        "10.0.0.7": {
            "macaddr": "02:00:00:00:00:07",
            "$hostname": "b7",
            "channel": "stable"
        },
        "10.0.0.8": {
            "macaddr": "02:00:00:00:00:08",
            "$hostname": "b8",
            "channel": "stable"
        }
    }
}
"#,
    );
}

const TWO: &str = r#""10.0.0.7": { "macaddr": "02:00:00:00:00:07", "$hostname": "b7", "channel": "stable" },
    "10.0.0.8": { "macaddr": "02:00:00:00:00:08", "$hostname": "b8", "channel": "stable" }"#;

#[test]
fn a_comma_after_the_last_one_stays_the_custom() {
    check(
        "{\n  \"hosts\": {\n    \"10.0.0.1\": { \"a\": 1, } /* , */ , // x,\n    // \"y\": 2,\n  },\n}",
        &format!(
            "{{\n  \"hosts\": {{\n    \"10.0.0.1\": {{ \"a\": 1, }} /* , */ , // x,\n    // \"y\": 2,\n    {TWO},\n  }},\n}}"
        ),
    );
    // That comma is in a comment.
    check(
        "{\n  \"hosts\": {\n    \"10.0.0.1\": {} // ,\n  }\n}",
        &format!("{{\n  \"hosts\": {{\n    \"10.0.0.1\": {{}}, // ,\n    {TWO}\n  }}\n}}"),
    );
}

#[test]
fn braces_on_one_line() {
    check(
        "{\n  \"hosts\": { \"10.0.0.1\": {} }, \"common\": {} }",
        &format!("{{\n  \"hosts\": {{ \"10.0.0.1\": {{}},\n    {TWO}\n  }}, \"common\": {{}} }}"),
    );
    let two = TWO.replace("\n    ", "\n  ");
    check("{\"hosts\":{\"10.0.0.1\":{},}}", &format!("{{\"hosts\":{{\"10.0.0.1\":{{}},\n  {two},\n}}}}"));
}

#[test]
fn an_empty_list_with_and_without_comment() {
    let text = fresh(&[entry(7)]);
    assert_eq!(
        text,
        "{\n  \"hosts\": {\n    \"10.0.0.7\": {\n      \"macaddr\": \"02:00:00:00:00:07\",\n      \"$hostname\": \"b7\",\n      \"channel\": \"stable\"\n    }\n  }\n}\n"
    );
    let empty = insert("{\"hosts\": {}}", &[entry(7)]).unwrap();
    assert!(empty.starts_with("{\"hosts\": {\n  \"10.0.0.7\": {\n    \"macaddr\""), "{empty}");
    assert!(empty.ends_with("\n  }\n}}"), "{empty}");
    let comment = insert("{ \"hosts\": {\n    // none yet\n  }\n}", &[entry(7)]).unwrap();
    assert!(comment.starts_with("{ \"hosts\": {\n    // none yet\n    \"10.0.0.7\": {\n"), "{comment}");
}

#[test]
fn tabs_and_foreign_line_ends_stay() {
    let old = "\u{feff}{\r\n\t\"hosts\": {\r\n\t\t\"10.0.0.1\": {\r\n\t\t\t\"a\": 1\r\n\t\t}\r\n\t}\r\n}";
    let new = insert(old, &[entry(7)]).unwrap();
    assert_eq!(
        new,
        "\u{feff}{\r\n\t\"hosts\": {\r\n\t\t\"10.0.0.1\": {\r\n\t\t\t\"a\": 1\r\n\t\t},\r\n\t\t\"10.0.0.7\": {\r\n\t\t\t\"macaddr\": \"02:00:00:00:00:07\",\r\n\t\t\t\"$hostname\": \"b7\",\r\n\t\t\t\"channel\": \"stable\"\r\n\t\t}\r\n\t}\r\n}"
    );
    assert_eq!(insert(old, &[]).unwrap(), old);
}

#[test]
fn what_has_no_hosts_is_not_edited() {
    for text in ["", "{}", "[]", "{\"hosts\": []}", "{\"hosts\": {", "{\"host\": {}}"] {
        assert_eq!(insert(text, &[entry(7)]), None, "{text}");
    }
}

/// A data directory with this hosts file.
fn data(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(HOSTS_FILE), text).unwrap();
    fs::write(dir.path().join("default.yaml"), "").unwrap();
    dir
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn the_file_is_replaced_whole_with_its_mode_where_a_link_leads() {
    let dir = data("");
    let real = dir.path().join("git/hosts");
    fs::create_dir(dir.path().join("git")).unwrap();
    fs::write(&real, "{\n  \"hosts\": {\n  }\n}\n").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    let link = dir.path().join(HOSTS_FILE);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("git/hosts", &link).unwrap();

    assert_eq!(add(dir.path(), &[entry(7)], &Networks::default()).unwrap(), []);
    assert!(link.is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_to_string(&real).unwrap(), fresh(&[entry(7)]));
    assert_eq!((files(dir.path()), files(&dir.path().join("git"))), (3, 1));
    let snapshot = load(dir.path(), &Networks::default()).snapshot.unwrap();
    assert_eq!(snapshot.by_mac(entry(7).mac).unwrap().hostname, "b7");
}

#[test]
fn a_file_that_is_not_there_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let new = add(dir.path(), &[entry(7)], &Networks::default()).unwrap();
    // The machines want a template now; that is told, and no reason to refuse.
    assert_eq!(new.len(), 1);
    assert!(new[0].to_string().contains("default.yaml: is missing"), "{}", new[0]);
    assert_eq!(load(dir.path(), &Networks::default()).snapshot.unwrap().hosts().len(), 1);
}

#[test]
fn what_would_not_load_is_not_written() {
    let good = r#"{"hosts": {"10.0.0.1": {"macaddr": "02:00:00:00:00:01", "$hostname": "b1", "channel": "stable"}}}"#;
    let subnet = Networks::of("10.0.0.0/29".parse().unwrap());
    let mut named = entry(9);
    named.hostname = "a b".to_owned();
    let mut same = entry(1);
    same.addr = [10, 0, 0, 2].into();
    let table = [
        (good, entry(1), None, "`10.0.0.1` is here a second time"),
        (good, same, None, "02:00:00:00:00:01 is the MAC of 10.0.0.1 too"),
        (good, entry(9), Some(subnet), "10.0.0.9 is outside the subnet"),
        (good, named, None, "`$hostname` is \"a b\""),
        ("{\"hosts\": {", entry(9), None, "unterminated object"),
        ("{\"hosts\": [] }", entry(9), None, "`hosts` is a list"),
    ];
    for (text, entry, subnet, expected) in table {
        let dir = data(text);
        let error = add(dir.path(), &[entry], &subnet.unwrap_or_default()).unwrap_err();
        assert!(matches!(error, Error::Wrong(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join(HOSTS_FILE)).unwrap(), text);
        assert_eq!(files(dir.path()), 2);
    }
}

#[test]
fn what_somebody_else_saved_meanwhile_is_kept() {
    let dir = data("theirs");
    let file = dir.path().join(HOSTS_FILE);
    let error = super::replace(&file, Some("mine"), "new").unwrap_err();
    assert!(matches!(error, Error::Changed(_)), "{error}");
    let error = super::replace(&file, None, "new").unwrap_err();
    assert!(matches!(error, Error::Changed(_)), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "theirs");
    assert_eq!(files(dir.path()), 2);
}

proptest! {
    /// Whatever the blanks, comments and commas around the machines, the new text has the old ones and the new one, and
    /// nothing of the old text is lost.
    #[test]
    fn nothing_is_lost(
        gaps in prop::collection::vec("([ \t]|\r?\n|/\\*[ ,}a]{0,3}\\*/|//[ ,}a\"]{0,3}\n){0,4}", 8),
        hosts in 0_u8..4,
        comma in any::<bool>(),
    ) {
        let gap = |number: usize| gaps[number].as_str();
        let mut text = format!("{{{}\"hosts\"{}:{}{{{}", gap(0), gap(1), gap(2), gap(3));
        for host in 1..=hosts {
            let end = if host < hosts || comma { "," } else { "" };
            let _ = write!(text, "\"10.0.0.{host}\":{}{{{}}}{}{end}{}", gap(4), gap(5), gap(6), gap(7));
        }
        text += "}}";
        let new = insert(&text, &[entry(7)]).unwrap();
        let source = Source::new(Path::new("f"), &new);
        let file = source.object().map_err(|problem| TestCaseError::fail(problem.to_string()))?;
        let members = file.get_object("hosts").unwrap();
        prop_assert_eq!(members.properties.len(), usize::from(hosts) + 1);
        // The old text is a subsequence of the new one, but for blanks before the brace.
        let mut rest = new.chars();
        for c in text.chars().filter(|c| !c.is_whitespace()) {
            prop_assert!(rest.any(|other| other == c), "{text:?}\n{new:?}");
        }
    }

    #[test]
    fn never_panics(text in any::<String>()) {
        let _ = insert(&text, &[entry(7)]);
        let _ = insert(&format!("{{\"hosts\": {{{text}}}}}"), &[entry(7)]);
    }
}
