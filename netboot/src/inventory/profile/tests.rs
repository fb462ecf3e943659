//! Profiles as they are written, and which one is whose.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use netboot_ebpf::Class;
use tempfile::TempDir;

use super::{Kind, Profile, Profiles, Script};
use crate::inventory::{Host, Loaded, Marks, Networks, Snapshot, load};
use crate::mac::Mac;

/// A data directory with these profiles, each file a name and its text, and these machines' own members.
fn directory(profiles: &[(&str, &str)], hosts: &[&str]) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().join("profiles");
    fs::create_dir_all(&directory).unwrap();
    for (file, text) in profiles {
        fs::write(directory.join(file), text).unwrap();
    }
    let host = |(number, members): (usize, &&str)| {
        format!(
            r#""10.0.0.{0}": {{"macaddr": "02:00:00:00:00:{0:02x}", "$hostname": "b{0}", "channel": "stable"{members}}}"#,
            number + 1
        )
    };
    let hosts: Vec<_> = hosts.iter().enumerate().map(host).collect();
    fs::write(data.path().join("pxe_hosts.json"), format!("{{\"hosts\": {{\n{}\n}}}}", hosts.join(",\n")))
        .unwrap();
    fs::write(data.path().join("default.yaml"), "#cloud-config\n").unwrap();
    data
}

/// What is said of it, without the path of the directory.
fn said(data: &Path) -> (Option<Snapshot>, Vec<String>) {
    let Loaded { snapshot, problems, .. } = load(data, &Networks::default());
    let place = format!("{}/", data.display());
    (snapshot, problems.iter().map(|problem| problem.to_string().replace(&place, "")).collect())
}

fn snapshot(profiles: &[(&str, &str)], hosts: &[&str]) -> Snapshot {
    let data = directory(profiles, hosts);
    let (snapshot, said) = said(data.path());
    assert!(said.iter().all(|problem| problem.contains("is not in tftp/")), "{said:?}");
    snapshot.unwrap()
}

#[test]
fn every_member_is_read() {
    let text = r#"{
        // as operators write
        "kind": "linux", "kernel": "lab/vmlinuz", "initrd": ["lab/a", "http://192.0.2.1/b"], "cmdline": "quiet a=$mac",
        "boot": {"efi64": "lab/grubx64.efi"}, "options": {"114": "http://192.0.2.1/"}, "template": "default.yaml",
        "menu": {"title": "Lab", "timeout_secs": 5, "entries": "debian"}, "match": {"rack": "a1"},
    }"#;
    let snapshot = snapshot(&[("lab.json", text), ("notes.txt", "x"), (".lab.json.swp", "x")], &[]);
    assert_eq!(snapshot.profiles().names().collect::<Vec<_>>(), ["lab"]);
    let lab = snapshot.profiles().file("lab").unwrap();
    assert_eq!(lab.kind, Some(Kind::Linux));
    assert_eq!(lab.kernel.as_deref(), Some("lab/vmlinuz"));
    assert_eq!(lab.initrd.as_deref().unwrap(), ["lab/a", "http://192.0.2.1/b"]);
    assert_eq!(lab.cmdline.as_deref(), Some("quiet a=$mac"));
    assert_eq!(lab.dhcp.boot.get(Class::Efi64), Some("lab/grubx64.efi"));
    assert!(lab.dhcp.options.get(114).is_some());
    assert_eq!(lab.template.as_deref(), Some("default.yaml"));
    let menu = lab.menu.as_ref().unwrap();
    assert_eq!(
        (menu.title.as_deref(), menu.timeout_secs, &*menu.entries),
        (Some("Lab"), 5, &["debian".to_owned()][..])
    );
    assert_eq!(lab.labels, BTreeMap::from([("rack".to_owned(), "a1".to_owned())]));
    let script = |text: &str| snapshot_of_script(text).unwrap();
    assert_eq!(script("\"menu.ipxe\""), Script::File("menu.ipxe".into()));
    let lines = Script::Lines(vec!["#!ipxe".into(), "shell".into()]);
    assert_eq!(script(r##"["#!ipxe", "shell"]"##), lines);
    assert_eq!(script(r##""#!ipxe\nshell\n""##), lines);
}

fn snapshot_of_script(script: &str) -> Option<Script> {
    let snapshot = snapshot(&[("x.json", &format!("{{\"kind\": \"ipxe\", \"script\": {script}}}"))], &[]);
    snapshot.profiles().file("x")?.script.clone()
}

#[test]
fn a_parent_counts_where_a_profile_says_nothing() {
    let base = r#"{"kernel": "k", "initrd": "i", "cmdline": "base", "boot": {"bios": "base.0", "efi64": "base.efi"},
        "options": {"114": "base", "100": "base"}, "match": {"rack": "a1"}}"#;
    let child = r#"{"parent": "base", "cmdline": "child", "initrd": [], "boot": {"bios": "child.0"}, "options": {"114": "child"}}"#;
    let snapshot = snapshot(
        &[
            ("base.json", base),
            ("child.json", child),
            ("grandchild.json", r#"{"parent": "child", "kernel": "own"}"#),
            ("rescue.json", r#"{"parent": "debian", "cmdline": "rescue/enable=true"}"#),
            ("stable.json", r#"{"parent": "stable", "template": "default.yaml"}"#),
        ],
        &[],
    );
    let of = |name: &str| snapshot.profiles().file(name).unwrap();
    let grandchild = of("grandchild");
    assert_eq!(grandchild.kernel.as_deref(), Some("own"));
    assert_eq!(grandchild.initrd.as_deref(), Some(&[][..]), "none, on purpose");
    assert_eq!(grandchild.cmdline.as_deref(), Some("child"));
    assert_eq!(grandchild.dhcp.boot.get(Class::Bios), Some("child.0"));
    assert_eq!(grandchild.dhcp.boot.get(Class::Efi64), Some("base.efi"));
    let option = |code| grandchild.dhcp.options.get(code).flatten().map(|value| value.bytes().to_vec());
    assert_eq!((option(114), option(100)), (Some(b"child".to_vec()), Some(b"base".to_vec())));
    assert!(grandchild.labels.is_empty(), "whom a parent matches a child does not");
    let rescue = of("rescue");
    assert_eq!(rescue.kernel.as_deref(), Some("debian-installer/amd64/linux"));
    assert_eq!(rescue.cmdline.as_deref(), Some("rescue/enable=true"));
    assert_eq!(
        of("stable").kernel.as_deref(),
        Some("coreos_stable_pxe.vmlinuz"),
        "what it takes the place of"
    );
}

/// Files, what is said of them, and whether the snapshot is taken all the same.
type Wrong<'a> = (&'a [(&'a str, &'a str)], &'a str, bool);

const WRONG: &[Wrong<'_>] = &[
    (
        &[("a.json", "{\n\"kernl\": \"x\"}")],
        "profiles/a.json:2:1: warning: `kernl` is not known here and is ignored; use one of: parent, kind,",
        true,
    ),
    (
        &[("a.json", r#"{"kind": "linus"}"#)],
        "profiles/a.json:1:10: `kind` is \"linus\"; write one of: linux, ipxe, chain, local-disk",
        false,
    ),
    (&[("a.json", r#"{"kernel": 1}"#)], "profiles/a.json:1:12: `kernel` is a number, not a string", false),
    (
        &[("a.json", r#"{"kernel": "../x"}"#)],
        "profiles/a.json:1:12: `kernel` is \"../x\"; write a path below tftp/ or a URL",
        false,
    ),
    (&[("a.json", r#"{"kernel": "a b"}"#)], "`kernel` is \"a b\"", false),
    (
        &[("a.json", r#"{"kernel": "x"}"#)],
        "profiles/a.json:1:12: warning: kernel `x` is not in tftp/; put it there",
        true,
    ),
    (
        &[("a.json", r#"{"kernel": "http://x/y", "initrd": ["b"]}"#)],
        "profiles/a.json:1:37: warning: initrd `b` is not in tftp/",
        true,
    ),
    (
        &[("a.json", r#"{"kernel": "$x/y", "initrd": [1]}"#)],
        "profiles/a.json:1:31: `initrd` is a number",
        false,
    ),
    (
        &[("a.json", r#"{"kind": "ipxe", "script": "s.ipxe"}"#)],
        "warning: script `s.ipxe` is not in tftp/",
        true,
    ),
    (&[("a.json", r#"{"boot": {"efi64": "own.efi"}}"#)], "warning: boot `own.efi` is not in tftp/", true),
    (
        &[("a.json", r#"{"template": "t.yaml"}"#)],
        "profiles/a.json:1:14: warning: the template `t.yaml` does not exist; write t.yaml",
        true,
    ),
    (&[("a.json", r#"{"template": "../t"}"#)], "template `../t` is not a plain file name", false),
    (&[("a.json", "{\"cmdline\": \"a\\nb\"}")], "profiles/a.json:1:13: `cmdline` is no command line", false),
    (
        &[("a.json", r#"{"boot": {"efi46": "x"}}"#)],
        "profiles/a.json:1:11: `efi46` is no class of clients",
        false,
    ),
    (
        &[("a.json", r#"{"options": {"999": "x"}}"#)],
        "profiles/a.json:1:14: `options.999` is no option",
        false,
    ),
    (
        &[("a.json", r#"{"parent": "b"}"#)],
        "profiles/a.json:1:12: there is no profile `b`; write profiles/b.json, or name another; stable, beta and debian are built in",
        false,
    ),
    (&[("a.json", r#"{"parent": "a"}"#)], "profiles/a.json:1:12: `a` has `a` among its own parents", false),
    (
        &[
            ("a.json", r#"{"parent": "b"}"#),
            ("b.json", r#"{"parent": "a"}"#),
            ("c.json", r#"{"parent": "a"}"#),
        ],
        "profiles/a.json:1:12: `a` has `a` among its own parents",
        false,
    ),
    (
        &[("a.json", r#"{"parent": "b"}"#), ("b.json", r#"{"parent": "a"}"#)],
        "profiles/b.json:1:12: `b` has `b` among its own parents; name a profile",
        false,
    ),
    (
        &[("a.json", r#"{"kind": "ipxe"}"#)],
        "profiles/a.json: the profile `a` has no `script`; write \"script\": ",
        false,
    ),
    (&[("a.json", r#"{"kind": "chain"}"#)], "the profile `a` has no `url`", false),
    (&[("a.json", r#"{"menu": {"entries": ["debian"]}}"#)], "the profile `a` has no `kernel`", false),
    (
        &[("a.json", r#"{"kind": "local-disk", "menu": {"entries": ["b"]}}"#)],
        "profiles/a.json:1:45: there is no profile `b`",
        false,
    ),
    (
        &[("a.json", r#"{"menu": {"timeout_secs": -1}}"#)],
        "`menu.timeout_secs` is no time; write seconds, 0 to 3600",
        false,
    ),
    (&[("a.json", r#"{"match": ["a1"]}"#)], "profiles/a.json:1:11: `match` is a list, not an object", false),
    (&[("a.json", r#"{"cmdline": "x", "cmdline": "y"}"#)], "`cmdline` is here a second time", false),
    (&[("a.json", "{")], "profiles/a.json:1:1: not JSON: unterminated object; close this with }", false),
    (&[("a b.json", "{}")], "profiles/a b.json: this is not the name of a profile", false),
];

#[test]
fn what_is_wrong_has_its_place_and_what_to_write() {
    for (profiles, expected, usable) in WRONG {
        let data = directory(profiles, &[]);
        let (snapshot, said) = said(data.path());
        assert!(said.iter().any(|problem| problem.contains(expected)), "{profiles:?}: {said:#?}");
        assert_eq!(snapshot.is_some(), *usable, "{profiles:?}: {said:#?}");
    }
    let deep = format!("{{\"kernel\": {}", "[".repeat(100_000));
    assert!(said(directory(&[("a.json", &deep)], &[]).path()).0.is_none());
}

#[test]
fn a_machine_that_names_no_profile_that_is_there_is_told_of() {
    let data = directory(&[], &[r#", "profile": "debian""#, ",\n\"profile\": \"gone\""]);
    let (snapshot, said) = said(data.path());
    assert_eq!(
        said,
        [
            "pxe_hosts.json:4:12: there is no profile `gone`; write profiles/gone.json, or name another; stable, beta and debian are built in"
        ]
    );
    // The others boot all the same, and this one waits for its profile.
    let snapshot = snapshot.unwrap();
    let profile = |last: u8| {
        snapshot.profile(snapshot.by_addr([10, 0, 0, last].into())).map(std::borrow::Cow::into_owned)
    };
    assert_eq!(
        profile(1).and_then(|profile| profile.kernel).as_deref(),
        Some("debian-installer/amd64/linux")
    );
    assert_eq!(profile(2), None);
}

fn host(channel: &str, profile: Option<&str>, labels: &[(&str, &str)]) -> Host {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let marks = Marks { profile: profile.map(str::to_owned), labels, ..Marks::default() };
    Host {
        ignition: None,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        addr: [10, 0, 0, 1].into(),
        hostname: "b1".into(),
        channel: channel.into(),
        template: None,
        marks: Some(Box::new(marks)),
        boot: crate::config::Boot::default(),
        variables: BTreeMap::new(),
    }
}

/// A channel, a profile and labels; the name of the profile, and its kernel.
type Case<'a> = (&'a str, Option<&'a str>, &'a [(&'a str, &'a str)], &'a str, Option<&'a str>);

#[test]
fn own_profile_then_labels_then_channel() {
    let matching = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Profile { kernel: Some("x".into()), labels, ..Profile::default() }
    };
    let profiles = [
        ("rack", matching(&[("rack", "a1")])),
        ("gpu", matching(&[("rack", "a1"), ("gpu", "yes")])),
        ("plain", matching(&[])),
        ("stable", matching(&[])),
    ];
    let profiles = Profiles::new(profiles.map(|(name, profile)| (name.to_owned(), profile)));
    let with_default = Profiles::new([("default".to_owned(), matching(&[]))]);
    let snapshot = Snapshot::default().with_profiles(profiles);
    let (a1, gpu) = (("rack", "a1"), ("gpu", "yes"));
    let table: &[Case<'_>] = &[
        ("stable", None, &[], "stable", Some("x")),
        ("beta", None, &[], "beta", Some("coreos_beta_pxe.vmlinuz")),
        ("alpha", None, &[], "alpha", Some("coreos_alpha_pxe.vmlinuz")),
        ("debian", None, &[], "debian", Some("debian-installer/amd64/linux")),
        ("stable", None, &[a1], "rack", Some("x")),
        ("stable", None, &[a1, gpu], "gpu", Some("x")),
        ("stable", None, &[gpu], "stable", Some("x")),
        ("stable", None, &[("rack", "a2")], "stable", Some("x")),
        ("stable", Some("plain"), &[a1, gpu], "plain", Some("x")),
        ("stable", Some("beta"), &[a1], "beta", Some("coreos_beta_pxe.vmlinuz")),
        ("stable", Some("gone"), &[a1], "gone", None),
        // Only a channel that nobody says more of is the image with its name.
        ("alpha", Some("alpha"), &[], "alpha", None),
    ];
    for (channel, profile, labels, name, kernel) in table {
        let host = host(channel, *profile, labels);
        let case = format!("{channel} {profile:?} {labels:?}");
        assert_eq!(snapshot.profile_name(Some(&host)), Some(*name), "{case}");
        let found = snapshot.profile(Some(&host)).and_then(|profile| profile.kernel.clone());
        assert_eq!(found.as_deref(), *kernel, "{case}");
    }
    assert_eq!(snapshot.profile_name(None), None, "an unknown machine boots its disk");
    assert_eq!(snapshot.profile(None), None);
    let snapshot = snapshot.with_profiles(with_default);
    assert_eq!(snapshot.profile_name(None), Some("default"));
    assert!(snapshot.profile(None).is_some());
    assert_eq!(snapshot.profile_name(Some(&host("beta", None, &[]))), Some("beta"));
}

#[test]
fn a_profile_that_does_not_say_what_to_boot_leaves_that_as_it_was() {
    let profiles =
        [("alpha.json", r#"{"template": "default.yaml"}"#), ("default.json", r#"{"options": {"114": "x"}}"#)];
    let snapshot = snapshot(&profiles, &[]);
    let found = snapshot.profile(Some(&host("alpha", None, &[]))).and_then(|profile| profile.kernel.clone());
    assert_eq!(found.as_deref(), Some("coreos_alpha_pxe.vmlinuz"));
    assert_eq!(snapshot.profile(None), None);
}

#[test]
fn two_profiles_that_match_one_machine_equally_are_an_error_that_names_both() {
    let profiles = [
        ("one.json", "{\"kind\": \"local-disk\",\n\"match\": {\"rack\": \"a1\"}}"),
        ("other.json", r#"{"kind": "local-disk", "match": {"row": "7"}}"#),
        ("narrow.json", r#"{"kind": "local-disk", "match": {"row": "7", "rack": "b2"}}"#),
    ];
    let labels = |labels: &str| format!(", \"labels\": {labels}");
    let (fine, tie) = (labels(r#"{"rack": "b2", "row": "7"}"#), labels(r#"{"rack": "a1", "row": "7"}"#));
    let (snapshot, problems) = said(directory(&profiles, &[&fine, &tie, &tie]).path());
    assert_eq!(
        problems,
        [
            "profiles/one.json:2:10: 10.0.0.2 (b2) has the labels of this profile and of `other`; match one label more in one of the two, or give the machine its own `profile`"
        ]
    );
    assert!(snapshot.is_none(), "the old snapshot stays");
    let own = tie + r#", "profile": "one""#;
    assert_eq!(said(directory(&profiles, &[&fine, &own]).path()).1, [""; 0]);
}

#[test]
fn a_template_is_the_machines_own_else_its_profiles() {
    let hosts = ["", r#", "profile": "lab""#, r#", "profile": "lab", "template": "own.yaml""#];
    let data = directory(&[("lab.json", r#"{"kind": "local-disk", "template": "lab.yaml"}"#)], &hosts);
    for file in ["lab.yaml", "own.yaml"] {
        fs::write(data.path().join(file), "#cloud-config\n").unwrap();
    }
    let (snapshot, problems) = said(data.path());
    assert_eq!(problems, [""; 0]);
    let snapshot = snapshot.unwrap();
    let templates: Vec<_> = snapshot.hosts().map(|host| snapshot.template(host)).collect();
    assert_eq!(templates, ["default.yaml", "lab.yaml", "own.yaml"]);
}
