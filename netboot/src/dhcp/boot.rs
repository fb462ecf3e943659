//! Which boot file a client gets: by its class, its reservation, its profile, the settings, and what lies in `tftp/`.
//!
//! Pure. The class comes first: what a reservation names for PXE is nothing for iPXE or HTTP boot. iPXE is never given
//! iPXE: it would load itself without end.

use netboot_ebpf::Class;

use super::menu;
use super::options::Subnet;
use crate::config::options::Custom;
use crate::config::{Boot, boot};
use crate::inventory::loaders::names;
use crate::inventory::{Host, Profile, Snapshot};
use crate::mac::Mac;

/// What BIOS and plain clients get when nothing is set and nothing was found, as in the systems that this one replaces.
const BIOS: &str = "pxelinux.0";

/// The script that iPXE is given for a machine with a profile: a file of the operator's, or one that is made from the profile.
const SCRIPT: &str = "boot.ipxe";

/// The boot file of a client: a path below `tftp/`, or a URL. `None`: it gets an address only.
pub fn file<'a>(
    settings: &'a Boot,
    custom: &'a Custom,
    snapshot: &'a Snapshot,
    host: Option<&'a Host>,
    class: Class,
) -> Option<&'a str> {
    let found = snapshot.loaders();
    let written = |class| written(settings, custom, snapshot, host, class);
    let file = match class {
        Class::Other => None,
        Class::Plain => return self::file(settings, custom, snapshot, host, Class::Bios),
        Class::Bios => written(class).or_else(|| found.get(class)).or(Some(BIOS)),
        // What was ordered for the next boot beats what people have written for every one.
        Class::Ipxe if host.is_some_and(|host| snapshot.ordered(host).is_some()) => Some(SCRIPT),
        Class::Ipxe => written(class)
            .or_else(|| found.get(class))
            .or_else(|| has_script(settings, custom, snapshot, host).then_some(SCRIPT))
            .or_else(|| self::file(settings, custom, snapshot, host, Class::Bios))
            .filter(|file| !boot::is_ipxe(file)),
        _ => written(class).or_else(|| found.get(class)),
    };
    file.filter(|file| !file.is_empty())
}

/// Whether a script is made for iPXE on a machine: from a profile's file. Where there is none, iPXE in the ROM of a BIOS
/// machine loads pxelinux and what people have written for that; but iPXE that was loaded is loaded to run a script.
fn has_script(settings: &Boot, custom: &Custom, snapshot: &Snapshot, host: Option<&Host>) -> bool {
    let loaded = |class: &Class| {
        let file =
            written(settings, custom, snapshot, host, *class).or_else(|| snapshot.loaders().get(*class));
        file.is_some_and(boot::is_ipxe)
    };
    let by_file = snapshot.profile_file(host).is_some_and(Profile::boots);
    snapshot.profile(host).is_some() && (by_file || Class::ALL.iter().any(loaded))
}

/// The boot file of a client where server and ports are known. What was ordered is a script under a name of its own; where
/// people have written this server's script as a URL, iPXE fetches an ordered one so as well.
pub(super) fn of<'a>(
    subnet: &'a Subnet,
    snapshot: &'a Snapshot,
    host: Option<&'a Host>,
    class: Class,
) -> Option<&'a str> {
    let Subnet { server, http_port, boot, custom, .. } = subnet;
    let file = file(boot, custom, snapshot, host, class);
    if class != Class::Ipxe || host.is_none_or(|host| snapshot.ordered(host).is_none()) {
        return file;
    }
    let own = |url: &&str| {
        let path = url.strip_prefix(format!("http://{server}:{http_port}/").as_str());
        matches!(path, Some("ipxe" | "tftp/boot.ipxe"))
    };
    written(boot, custom, snapshot, host, class).filter(own).or(file)
}

/// The boot file as the client must see it: for HTTP boot a whole URL, for there is no server to add to a path.
pub(super) fn whole(subnet: &Subnet, class: Class, file: &str) -> String {
    if class.is_http() && !boot::is_url(file) {
        let Subnet { server, http_port, .. } = subnet;
        return format!("http://{server}:{http_port}/tftp/{}", file.trim_start_matches('/'));
    }
    file.to_owned()
}

/// Whether a client has something to boot, with the boot file that [`file()`] gives it. A Raspberry Pi knows its files by
/// itself, and boots unless it was told not to.
pub fn boots(
    subnet: &Subnet,
    snapshot: &Snapshot,
    host: Option<&Host>,
    class: Class,
    file: Option<&str>,
) -> bool {
    let written = written(&subnet.boot, &subnet.custom, snapshot, host, class);
    file.is_some() || (class == Class::Rpi && written != Some(""))
}

/// What people have written for a class: of the machine, its profile, or everybody.
fn written<'a>(
    settings: &'a Boot,
    custom: &'a Custom,
    snapshot: &'a Snapshot,
    host: Option<&'a Host>,
    class: Class,
) -> Option<&'a str> {
    let profile = custom.profile(snapshot, host).into_iter().flatten();
    let own = host.map(|host| &host.boot);
    let mut places = own.into_iter().chain(profile.map(|profile| &profile.boot)).chain([settings]);
    places.find_map(|boot| boot.get(class))
}

/// The options that are special to a class, if it has something to boot. iPXE must see no option 43: it would prefer a
/// boot menu to its boot file.
pub(super) fn options(subnet: &Subnet, class: Class, channel: Option<&str>) -> Vec<(u8, Vec<u8>)> {
    // Discovery control 8: load the boot file of this reply, ask nobody on port 4011 (PXE 2.1, table 2-6).
    const LOAD: &[u8] = &[6, 1, 8, 255];
    // A Pi looks for its name in a boot menu: discovery control 3, a prompt, and item 0, which is the reply itself.
    const PI: &[u8] = b"\x06\x01\x03\x0a\x04\0PXE\x09\x14\0\0\x11Raspberry Pi Boot\xff";
    let pxe = |how: &[u8]| [(60, b"PXEClient".to_vec()), (43, how.to_vec())];
    let channel = channel.map(|channel| (209, format!("pxelinux.cfg/{channel}").into_bytes()));
    match class {
        Class::Rpi => pxe(PI).into(),
        class if class.is_http() => vec![(60, b"HTTPClient".to_vec())],
        class if class.is_pxe() => {
            let shown = subnet.menu.as_ref().map(|menu| menu::shown(menu, subnet.server));
            channel.into_iter().chain(pxe(shown.as_deref().unwrap_or(LOAD))).collect()
        }
        _ => channel.into_iter().collect(),
    }
}

/// Whether a machine that wants to boot gets no file, and nobody has said that it should get none. A Raspberry Pi knows its
/// files by itself.
pub fn lacks_file(settings: &Boot, custom: &Custom, snapshot: &Snapshot, mac: Mac, class: Class) -> bool {
    let host = snapshot.by_mac(mac);
    !matches!(class, Class::Plain | Class::Rpi)
        && file(settings, custom, snapshot, host, class).is_none()
        && written(settings, custom, snapshot, host, class) != Some("")
}

/// What to do so that clients of a class have something to boot.
pub fn remedy(class: Class) -> String {
    let name = class.name();
    match names(class) {
        [] => "firmware of this architecture is not known here".to_owned(),
        [one] => format!("put {one} into tftp/, or set boot.{name} in netboot.json (\"\" for none)"),
        many => {
            let many = many.join(", ");
            format!("put one of {many} into tftp/, or set boot.{name} in netboot.json (\"\" for none)")
        }
    }
}

/// What is likely to stop machines for want of a file: a sentence and what to do about it. Of the architectures only the
/// two that nearly every machine has; for others it is said when one asks.
pub fn gaps(settings: &Boot, custom: &Custom, snapshot: &Snapshot) -> Vec<(String, String)> {
    let found = snapshot.loaders();
    let mut gaps = Vec::new();
    for class in [Class::Bios, Class::Efi64] {
        if settings.get(class).is_none() && found.get(class).is_none() {
            gaps.push((format!("no boot file for {} clients", class.name()), remedy(class)));
        }
    }
    // What iPXE gets by default is for a BIOS, and iPXE that was loaded is loaded to run a script.
    let scripted = settings.get(Class::Ipxe).is_some() || found.get(Class::Ipxe).is_some();
    let named = |host: &&Host| {
        let mut profile = custom.profile(snapshot, Some(*host)).into_iter().flatten();
        !host.boot.is_empty() || profile.any(|profile| !profile.boot.is_empty())
    };
    let own = snapshot.hosts().filter(named).map(Some);
    let chain = std::iter::once(None).chain(own).filter(|_| !scripted).find_map(|host| {
        let loader =
            |class: &Class| file(settings, custom, snapshot, host, *class).filter(|file| boot::is_ipxe(file));
        let (class, loader) = Class::ALL.iter().find_map(|class| Some((class.name(), loader(class)?)))?;
        if written(settings, custom, snapshot, host, Class::Ipxe).is_some()
            || has_script(settings, custom, snapshot, host)
        {
            return None;
        }
        match host {
            Some(host) => Some(format!("{} ({}) gets {loader}", host.addr, host.hostname)),
            None => Some(format!("{class} clients get {loader}")),
        }
    });
    if let Some(chain) = chain {
        gaps.push((format!("{chain}, and then iPXE has no script to run"), remedy(Class::Ipxe)));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use netboot_ebpf::Class;

    use super::{gaps, lacks_file, remedy};
    use crate::config::Boot;
    use crate::config::options::{Custom, Profile};
    use crate::inventory::{self, Host, Loaders, Marks, Profiles, Snapshot};
    use crate::mac::Mac;

    fn host(boot: &[(Class, &str)]) -> Host {
        Host {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addr: [192, 168, 90, 11].into(),
            hostname: "blade-1".into(),
            channel: "stable".into(),
            template: None,
            marks: None,
            boot: boot.iter().copied().collect(),
            variables: BTreeMap::new(),
            ignition: None,
        }
    }

    fn found(files: &[&str]) -> Loaders {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("tftp")).unwrap();
        for file in files {
            std::fs::write(data.path().join("tftp").join(file), "x").unwrap();
        }
        Loaders::find(data.path())
    }

    fn file<'a>(
        settings: &'a Boot,
        custom: &'a Custom,
        found: &Loaders,
        host: Option<&'a Host>,
        class: Class,
    ) -> Option<&'a str> {
        let snapshot = Box::leak(Box::new(Snapshot::default().with_loaders(found.clone())));
        super::file(settings, custom, snapshot, host, class)
    }

    #[test]
    fn reservation_then_setting_then_what_was_found() {
        type Case<'a> =
            (&'a [(Class, &'a str)], &'a [(Class, &'a str)], &'a [&'a str], Class, Option<&'a str>);
        let (bios, efi, ipxe, http) = (Class::Bios, Class::Efi64, Class::Ipxe, Class::Http64);
        let url = "http://192.0.2.1/x.efi";
        let table: &[Case<'_>] = &[
            (&[], &[], &[], bios, Some("pxelinux.0")),
            (&[], &[], &[], Class::Plain, Some("pxelinux.0")),
            (&[], &[], &[], ipxe, Some("pxelinux.0")),
            (&[], &[], &[], efi, None),
            (&[], &[], &[], http, None),
            (&[], &[], &[], Class::Rpi, None),
            (&[], &[], &["lpxelinux.0", "grubx64.efi", "boot.ipxe"], bios, Some("lpxelinux.0")),
            (&[], &[], &["lpxelinux.0", "grubx64.efi", "boot.ipxe"], efi, Some("grubx64.efi")),
            (&[], &[], &["lpxelinux.0", "grubx64.efi", "boot.ipxe"], http, Some("grubx64.efi")),
            (&[], &[], &["lpxelinux.0", "grubx64.efi", "boot.ipxe"], ipxe, Some("boot.ipxe")),
            (&[], &[], &["grubx64.efi"], Class::Other, None),
            (&[], &[(efi, "x.efi"), (http, url)], &["grubx64.efi"], efi, Some("x.efi")),
            (&[], &[(efi, "x.efi"), (http, url)], &["grubx64.efi"], http, Some(url)),
            (&[], &[(efi, "")], &["grubx64.efi"], efi, None),
            (&[(efi, "own.efi")], &[(efi, "x.efi")], &["grubx64.efi"], efi, Some("own.efi")),
            (&[(efi, "")], &[(efi, "x.efi")], &["grubx64.efi"], efi, None),
            // The class beats the reservation: what it names for PXE is nothing for HTTP boot.
            (&[(efi, "own.efi")], &[], &["grubx64.efi"], http, Some("grubx64.efi")),
            (&[(bios, "memtest.0")], &[], &[], Class::Plain, Some("memtest.0")),
            (&[(bios, "memtest.0")], &[], &["boot.ipxe"], ipxe, Some("boot.ipxe")),
        ];
        for (own, settings, files, class, want) in table {
            let (host, settings, found) = (host(own), settings.iter().copied().collect(), found(files));
            assert_eq!(
                file(&settings, &Custom::default(), &found, Some(&host), *class),
                *want,
                "{own:?} {settings:?} {files:?} {class:?}"
            );
        }
    }

    #[test]
    fn a_profile_stands_between_machine_and_setting() {
        let (bios, efi, ipxe) = (Class::Bios, Class::Efi64, Class::Ipxe);
        let boot = Boot::from_iter([(efi, "profile.efi"), (ipxe, "profile.ipxe"), (Class::Efi32, "")]);
        let profile = Profile { boot, ..Profile::default() };
        let custom =
            Custom { profiles: BTreeMap::from([("stable".to_owned(), profile)]), ..Custom::default() };
        let settings =
            Boot::from_iter([(bios, "setting.0"), (efi, "setting.efi"), (Class::Efi32, "setting")]);
        let found = found(&["pxelinux.0", "boot.ipxe"]);
        let file =
            |host: Option<&Host>, class| file(&settings, &custom, &found, host, class).map(str::to_owned);
        let own = host(&[(efi, "own.efi")]);
        assert_eq!(file(Some(&own), efi).as_deref(), Some("own.efi"));
        assert_eq!(file(Some(&own), ipxe).as_deref(), Some("profile.ipxe"));
        assert_eq!(file(Some(&own), bios).as_deref(), Some("setting.0"));
        assert_eq!(file(Some(&own), Class::Efi32).as_deref(), None, "none, on purpose");
        assert_eq!(file(Some(&host(&[])), efi).as_deref(), Some("profile.efi"));
        let other = Host { channel: "beta".into(), ..host(&[]) };
        assert_eq!(file(Some(&other), efi).as_deref(), Some("setting.efi"));
        assert_eq!(file(None, efi).as_deref(), Some("setting.efi"), "who has no reservation has no profile");
        assert_eq!(file(None, ipxe).as_deref(), Some("boot.ipxe"));
    }

    #[test]
    fn a_profile_with_a_file_stands_over_that_of_the_settings_and_makes_a_script() {
        let (bios, efi, ipxe) = (Class::Bios, Class::Efi64, Class::Ipxe);
        let profile = |boot: &[(Class, &str)], kernel: Option<&str>| {
            let dhcp = Profile { boot: boot.iter().copied().collect(), ..Profile::default() };
            inventory::Profile { dhcp, kernel: kernel.map(str::to_owned), ..inventory::Profile::default() }
        };
        let in_settings = Profile {
            boot: [(efi, "settings.efi"), (bios, "settings.0")].into_iter().collect(),
            ..Profile::default()
        };
        let profiles = BTreeMap::from([("stable".to_owned(), in_settings)]);
        let custom = Custom { profiles, ..Custom::default() };
        let file = |name: &str, of: &inventory::Profile, host: Option<&Host>, class| {
            let profiles = Profiles::new([(name.to_owned(), of.clone())]);
            let snapshot = Snapshot::default().with_loaders(found(&["pxelinux.0"])).with_profiles(profiles);
            super::file(&Boot::default(), &custom, &snapshot, host, class).map(str::to_owned)
        };
        let own = host(&[]);
        let loader = profile(&[(efi, "file.efi")], None);
        assert_eq!(file("stable", &loader, Some(&own), efi).as_deref(), Some("file.efi"));
        assert_eq!(file("stable", &loader, Some(&own), bios).as_deref(), Some("settings.0"));
        assert_eq!(file("stable", &loader, Some(&own), ipxe).as_deref(), Some("settings.0"), "as built in");
        assert_eq!(file("other", &loader, Some(&own), efi).as_deref(), Some("settings.efi"));
        let linux = profile(&[], Some("vmlinuz"));
        assert_eq!(file("stable", &linux, Some(&own), ipxe).as_deref(), Some("boot.ipxe"));
        assert_eq!(file("stable", &linux, None, ipxe).as_deref(), Some("pxelinux.0"));
        assert_eq!(file("default", &linux, None, ipxe).as_deref(), Some("boot.ipxe"));
        assert_eq!(file("default", &loader, None, efi).as_deref(), Some("file.efi"));
        let script = profile(&[(ipxe, "own.ipxe")], Some("vmlinuz"));
        assert_eq!(file("stable", &script, Some(&own), ipxe).as_deref(), Some("own.ipxe"));
    }

    #[test]
    fn ipxe_never_gets_ipxe() {
        let none = Loaders::default();
        for loader in ["undionly.kpxe", "ipxe.pxe", "sub/ipxe.pxe"] {
            let settings = Boot::from_iter([(Class::Bios, loader)]);
            assert_eq!(file(&settings, &Custom::default(), &none, None, Class::Bios), Some(loader));
            assert_eq!(file(&settings, &Custom::default(), &none, None, Class::Ipxe), None, "{loader}");
        }
        let found = found(&["undionly.kpxe"]);
        assert_eq!(file(&Boot::default(), &Custom::default(), &found, None, Class::Ipxe), None);
        let script = Boot::from_iter([(Class::Ipxe, "http://192.0.2.1/boot.ipxe")]);
        assert_eq!(
            file(&script, &Custom::default(), &found, None, Class::Ipxe),
            Some("http://192.0.2.1/boot.ipxe")
        );
        // Of a machine whose channel is known a script is made.
        let mut own = host(&[(Class::Bios, "undionly.kpxe")]);
        assert_eq!(
            file(&Boot::default(), &Custom::default(), &none, Some(&own), Class::Ipxe),
            Some("boot.ipxe")
        );
        own.marks = Some(Box::new(Marks { profile: Some("gone".into()), ..Marks::default() }));
        assert_eq!(file(&Boot::default(), &Custom::default(), &none, Some(&own), Class::Ipxe), None);
    }

    #[test]
    fn who_lacks_a_file() {
        let own = host(&[(Class::Efi32, ""), (Class::Efiarm64, "own.efi")]);
        let mac = own.mac;
        let snapshot = Snapshot::new(BTreeMap::new(), vec![own]).with_loaders(found(&["grubx64.efi"]));
        let settings = Boot::from_iter([(Class::Http32, ""), (Class::Efiarm32, "arm.efi")]);
        let lacks_file = |mac, class| lacks_file(&settings, &Custom::default(), &snapshot, mac, class);
        for class in Class::ALL {
            let lacks = matches!(class, Class::Httparm32 | Class::Httparm64 | Class::Other);
            assert_eq!(lacks_file(mac, *class), lacks, "{class:?}");
        }
        let other = Mac([2, 0, 0, 0, 0, 9]);
        assert!(lacks_file(other, Class::Efi32), "not said for this one");
    }

    #[test]
    fn gaps_say_what_to_do() {
        let said_of = |hosts: Vec<Host>, settings: &[(Class, &str)], files: &[&str]| -> Vec<String> {
            let snapshot = Snapshot::new(BTreeMap::new(), hosts).with_loaders(found(files));
            let gaps = gaps(&settings.iter().copied().collect(), &Custom::default(), &snapshot);
            gaps.into_iter().map(|(message, help)| format!("{message}; {help}")).collect()
        };
        let said = |settings: &[(Class, &str)], files: &[&str]| said_of(vec![], settings, files);
        let none = said(&[], &[]);
        assert_eq!(none.len(), 2, "{none:?}");
        assert!(none[0].starts_with("no boot file for bios clients; put one of pxelinux.0, "), "{none:?}");
        assert!(none[1].contains("no boot file for efi64 clients; put one of shimx64.efi, "), "{none:?}");
        assert_eq!(said(&[(Class::Efi64, "")], &["pxelinux.0"]), [""; 0], "none, on purpose");
        assert_eq!(said(&[], &["pxelinux.0", "grubx64.efi"]), [""; 0]);
        let chain = said(&[], &["pxelinux.0", "ipxe.efi"]);
        assert_eq!(
            chain,
            [
                "efi64 clients get ipxe.efi, and then iPXE has no script to run; put boot.ipxe into tftp/, or set boot.ipxe in netboot.json (\"\" for none)"
            ]
        );
        assert_eq!(said(&[], &["pxelinux.0", "ipxe.efi", "boot.ipxe"]), [""; 0]);
        let own_of = |host: Host| said_of(vec![self::host(&[]), host], &[], &["pxelinux.0", "grubx64.efi"]);
        let own = |boot: &[(Class, &str)]| own_of(host(boot));
        assert_eq!(own(&[(Class::Bios, "undionly.kpxe")]), [""; 0], "a script is made for it");
        let marks = Some(Box::new(Marks { profile: Some("gone".into()), ..Marks::default() }));
        let chain = own_of(Host { marks, ..host(&[(Class::Bios, "undionly.kpxe")]) });
        assert!(chain[0].starts_with("192.168.90.11 (blade-1) gets undionly.kpxe, and then"), "{chain:?}");
        assert_eq!(own(&[(Class::Bios, "undionly.kpxe"), (Class::Ipxe, "own.ipxe")]), [""; 0]);
        assert_eq!(own(&[(Class::Bios, "memtest.0")]), [""; 0]);
        assert!(remedy(Class::Other).contains("not known"));
    }
}
