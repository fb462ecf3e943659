use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::Request;
use crate::config::Boot;
use crate::inventory::profile::{Kind, Menu, Profile, Profiles, Script};
use crate::inventory::{Host, Marks, Snapshot};
use crate::loader::tests::SITE;
use crate::loader::{Entry, Plan, Programs, Task, Whose};
use crate::mac::Mac;
use crate::uuid::Uuid;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 11);
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 200);

fn host(last: u8, profile: Option<&str>) -> Host {
    let uuid = (last == 11).then_some(Uuid([7; 16]));
    let marks = Marks { profile: profile.map(str::to_owned), uuid, ..Marks::default() };
    Host {
        ignition: None,
        mac: Mac([0x52, 0x54, 0, 0, 0, last]),
        addr: [192, 168, 90, last].into(),
        hostname: "b".into(),
        channel: "alpha".into(),
        template: None,
        marks: Some(Box::new(marks)),
        boot: Boot::default(),
        variables: BTreeMap::from([
            ("$rack".to_owned(), "a1".to_owned()),
            ("$evil".to_owned(), "a\nboot b".to_owned()),
        ]),
    }
}

fn kernel(kernel: &str, cmdline: &str) -> Profile {
    Profile { kernel: Some(kernel.into()), cmdline: Some(cmdline.into()), ..Profile::default() }
}

fn snapshot(own: Option<&str>, profiles: &[(&str, Profile)]) -> Snapshot {
    let common = BTreeMap::from([
        ("$rack".to_owned(), "common".to_owned()),
        ("$server".to_owned(), "own-name".to_owned()),
    ]);
    let profiles = profiles.iter().map(|(name, profile)| ((*name).to_owned(), profile.clone()));
    Snapshot::new(common, vec![host(11, own), host(12, None)]).with_profiles(Profiles::new(profiles))
}

fn plan(snapshot: &Snapshot, addr: Ipv4Addr, whose: Whose<'_>) -> Option<Plan> {
    let there = |file: &str| !file.contains("missing");
    Request { snapshot, addr: Some(addr), site: SITE, there: &there }.plan(whose)
}

/// The only thing that a caller does.
fn task(snapshot: &Snapshot, addr: Ipv4Addr) -> Option<Task> {
    plan(snapshot, addr, Whose::Callers)?.entries.pop().map(|entry| entry.task)
}

#[test]
fn variables_are_the_machines_over_those_of_all_over_what_is_known() {
    let line = "$rack $server $http_port $mac $profile $private_ipv4 $netboot_http $unknown ${HOME}";
    let known = snapshot(Some("lab"), &[("lab", kernel("$rack/k", line)), ("default", kernel("k", line))]);
    let own = Task::Linux {
        kernel: "a1/k".into(),
        initrds: vec![],
        cmdline:
            "a1 own-name 8080 52:54:00:00:00:0b lab 192.168.90.11 http://192.168.90.2:8080 $unknown ${HOME}"
                .into(),
    };
    assert_eq!(task(&known, OWN), Some(own));
    let strangers = Task::Linux {
        kernel: "k".into(),
        initrds: vec![],
        cmdline: "common own-name 8080 $mac default 192.168.90.200 http://192.168.90.2:8080 $unknown ${HOME}"
            .into(),
    };
    assert_eq!(task(&known, STRANGER), Some(strangers));
    let nothing = Snapshot::new(BTreeMap::new(), vec![host(11, None)]);
    let Some(Task::Linux { cmdline, .. }) = task(&nothing, OWN) else { panic!("no kernel") };
    assert!(cmdline.ends_with(" cloud-config-url=http://192.168.90.2:8080"), "{cmdline}");
}

#[test]
fn a_variable_brings_no_command_along() {
    let profile = Profile { initrd: Some(vec!["$evil".into()]), ..kernel("k", "x=$evil") };
    let why = "initrd of the profile lab is no file name";
    assert_eq!(task(&snapshot(Some("lab"), &[("lab", profile)]), OWN), Some(Task::Wait(why.into())));
    let line = snapshot(Some("lab"), &[("lab", kernel("k", "x=$evil"))]);
    let expected = Task::Linux { kernel: "k".into(), initrds: vec![], cmdline: "x=a boot b".into() };
    assert_eq!(task(&line, OWN), Some(expected));
    let script = Script::Lines(vec!["echo $evil".into()]);
    let profile = Profile { kind: Some(Kind::Ipxe), script: Some(script), ..Profile::default() };
    assert_eq!(
        task(&snapshot(Some("lab"), &[("lab", profile)]), OWN),
        Some(Task::Script(vec!["echo a boot b".into()]))
    );
}

#[test]
fn what_is_missing_is_said() {
    let of = |kind: Kind, profile: Profile| Profile { kind: Some(kind), ..profile };
    let script = |file: &str| Profile { script: Some(Script::File(file.into())), ..Profile::default() };
    let url = |url: &str| Profile { url: Some(url.into()), ..Profile::default() };
    let wait = |why: &str| Task::Wait(why.to_owned());
    let table = [
        (kernel("missing/k", ""), wait("kernel missing/k of the profile lab is not in tftp/")),
        (of(Kind::Ipxe, script("missing")), wait("script missing of the profile lab is not in tftp/")),
        (of(Kind::Ipxe, script("s.ipxe")), Task::Chain("s.ipxe".into())),
        (of(Kind::Chain, url("missing")), wait("url missing of the profile lab is not in tftp/")),
        (of(Kind::Chain, url("http://x/missing")), Task::Chain("http://x/missing".into())),
        (of(Kind::Chain, Profile::default()), wait("the profile lab has no url")),
        (of(Kind::LocalDisk, Profile::default()), Task::LocalDisk),
    ];
    for (profile, expected) in table {
        assert_eq!(
            task(&snapshot(Some("lab"), &[("lab", profile.clone())]), OWN),
            Some(expected),
            "{profile:?}"
        );
    }
    let gone = task(&snapshot(Some("gone"), &[]), OWN);
    assert_eq!(gone, Some(wait("there is no profile gone, or it does not say what to boot")));
}

#[test]
fn each_name_has_its_machine() {
    let known = snapshot(Some("lab"), &[("lab", kernel("lab", "")), ("other", kernel("other", ""))]);
    let with_default = snapshot(Some("lab"), &[("lab", kernel("lab", "")), ("default", kernel("any", ""))]);
    let mac = |last| Whose::OfMac(Mac([0x52, 0x54, 0, 0, 0, last]));
    let (alpha, second) = ("coreos_alpha_pxe.vmlinuz", Ipv4Addr::new(192, 168, 90, 12));
    let table = [
        (&known, OWN, Whose::Callers, Some("lab")),
        (&known, OWN, mac(11), Some("lab")),
        (&known, OWN, mac(12), None),
        // Another card of a machine that is known by more than its MAC, and a strange name of one that is not.
        (&known, OWN, mac(99), Some("lab")),
        (&known, second, mac(99), None),
        (&known, OWN, Whose::OfAddr(OWN), Some("lab")),
        (&known, OWN, Whose::OfAddr(second), None),
        // What option 209 names is its channel's; what counts is its profile.
        (&known, OWN, Whose::Named("alpha"), Some("lab")),
        (&known, OWN, Whose::Named("lab"), Some("lab")),
        // What is chosen from a menu of the firmware.
        (&known, OWN, Whose::Named("other"), Some("other")),
        (&known, OWN, Whose::Named("beta"), Some("coreos_beta_pxe.vmlinuz")),
        (&known, OWN, Whose::Named("gone"), None),
        (&known, second, Whose::Callers, Some(alpha)),
        (&known, second, Whose::Named("alpha"), Some(alpha)),
        (&known, STRANGER, Whose::Callers, None),
        (&known, STRANGER, mac(99), None),
        (&known, STRANGER, mac(11), None),
        (&known, STRANGER, Whose::Named("stable"), Some("coreos_stable_pxe.vmlinuz")),
        (&known, STRANGER, Whose::Named("alpha"), Some(alpha)),
        (&with_default, STRANGER, Whose::Callers, Some("any")),
        (&with_default, STRANGER, mac(99), Some("any")),
        (&with_default, STRANGER, Whose::OfAddr(STRANGER), Some("any")),
        (&with_default, OWN, Whose::Callers, Some("lab")),
    ];
    for (snapshot, addr, whose, expected) in table {
        let found = plan(snapshot, addr, whose).and_then(|mut plan| match plan.entries.pop()?.task {
            Task::Linux { kernel, .. } => Some(kernel),
            other => Some(format!("{other:?}")),
        });
        assert_eq!(found.as_deref(), expected, "{addr} {whose:?}");
    }
}

#[test]
fn the_last_file_is_what_a_boot_ends_with() {
    let linux = |initrds: &[&str]| Task::Linux {
        kernel: "/k".into(),
        initrds: initrds.iter().map(|initrd| (*initrd).to_owned()).collect(),
        cmdline: String::new(),
    };
    let (config, script) = ("grub/grub.cfg", "boot.ipxe");
    let table: [(Task, &[&str], &[&str]); 8] = [
        (linux(&["a", "/b"]), &["b"], &["a", "k", config, "/b"]),
        (linux(&[]), &["k"], &[config]),
        (linux(&["http://x/b"]), &[config, script, "pxelinux.cfg/default"], &["k", "b"]),
        (Task::Chain("m.ipxe".into()), &["m.ipxe"], &[config, script]),
        (Task::Chain("http://x/m".into()), &[script], &[config, "pxelinux.cfg/default", "m"]),
        (Task::Script(vec![]), &[script], &[config]),
        (Task::LocalDisk, &[config, script, "pxelinux.cfg/default"], &["k"]),
        (Task::Wait(String::new()), &[], &[config, script, "k"]),
    ];
    for (task, last, others) in table {
        let entries = vec![Entry { name: "x".into(), task: task.clone() }];
        let plan = Plan { entries, menu: None, programs: Programs::default() };
        for file in last {
            assert!(plan.ends_with(file), "{task:?} {file}");
        }
        for file in others {
            assert!(!plan.ends_with(file), "{task:?} {file}");
        }
    }
}

#[test]
fn a_menu_begins_with_the_profile_itself() {
    let entries = ["other", "lab", "debian", "other"].map(str::to_owned).to_vec();
    let menu = Menu { title: None, timeout_secs: 7, entries };
    let lab = Profile { menu: Some(menu.clone()), ..kernel("lab", "") };
    let other = Profile { menu: Some(Menu::default()), ..kernel("missing", "") };
    let plan = plan(&snapshot(Some("lab"), &[("lab", lab), ("other", other)]), OWN, Whose::Callers).unwrap();
    let names: Vec<_> = plan.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["lab", "other", "debian"]);
    assert!(matches!(plan.entries[1].task, Task::Wait(_)), "{plan:?}");
    let shown = plan.menu.unwrap();
    assert_eq!((shown.title.as_str(), shown.timeout_secs), ("netboot", 7));
}
