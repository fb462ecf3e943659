//! Boot files as people set them, for everybody (`boot` in `netboot.json`) or for one machine (`pxe_hosts.json`).
//!
//! Only what was written, and the rules for it. Which file a client gets is decided in [`crate::dhcp::boot`].

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;
use netboot_ebpf::Class;

use super::json::Reader;

/// Longest boot file name or URL: the header field `file` with its closing NUL (RFC 2131 2).
pub const LONGEST: usize = 127;
/// Longest path that is turned into a URL, with `http://255.255.255.255:65535/tftp/` before it.
const LONGEST_HTTP: usize = LONGEST - 34;

/// Boot files by client class. A class that is not there has its default; an empty name: no boot file, on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot(BTreeMap<Class, String>);

impl Boot {
    /// What was written for a class.
    pub fn get(&self, class: Class) -> Option<&str> {
        self.0.get(&class).map(String::as_str)
    }

    /// Nothing was written at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every class that something was written for.
    pub fn iter(&self) -> impl Iterator<Item = (Class, &str)> {
        self.0.iter().map(|(class, file)| (*class, file.as_str()))
    }

    /// Writes the file of a class.
    pub fn set(&mut self, class: Class, file: impl Into<String>) {
        self.0.insert(class, file.into());
    }
}

impl<F: Into<String>> FromIterator<(Class, F)> for Boot {
    fn from_iter<I: IntoIterator<Item = (Class, F)>>(files: I) -> Self {
        Self(files.into_iter().map(|(class, file)| (class, file.into())).collect())
    }
}

impl serde::Serialize for Boot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(class, file)| (class.name(), file)))
    }
}

/// The names that can be set, for a message.
pub const NAMES: &str =
    "bios, efi32, efi64, efiarm32, efiarm64, http32, http64, httparm32, httparm64, ipxe, rpi";

/// The class that a setting is for. Plain clients follow `bios`, and nobody knows what others would load.
pub fn class(name: &str) -> Option<Class> {
    Class::from_name(name).filter(|class| !matches!(class, Class::Plain | Class::Other))
}

/// Reads the file of one class; answers with the classes when there is none of that name.
pub(super) fn read(
    reader: &mut Reader<'_>,
    name: &str,
    key: &str,
    value: &Value<'_>,
    files: &mut Boot,
) -> Result<(), &'static str> {
    let class = class(key).ok_or(NAMES)?;
    let Some(file) = reader.text(name, value, "write it in double quotes") else { return Ok(()) };
    match rule(class, file) {
        Ok(()) => files.set(class, file),
        Err(help) => reader.error(value, format!("`{name}` is \"{file}\""), help),
    }
    Ok(())
}

/// Whether a file can be set for a class.
///
/// # Errors
/// What to write instead.
pub fn rule(class: Class, file: &str) -> Result<(), &'static str> {
    let http = class.is_http();
    let longest = if http && !is_url(file) { LONGEST_HTTP } else { LONGEST };
    if file.len() > longest || !file.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(match (http, class) {
            (true, _) => {
                "write a path below tftp/ of at most 93 characters without spaces, or a URL of at most 127"
            }
            (false, Class::Ipxe) => {
                "write a path below tftp/ or a URL of at most 127 characters without spaces, as in \"boot.ipxe\""
            }
            _ => {
                "write a path below tftp/ of at most 127 characters without spaces, as in \"pxelinux.0\"; \"\" for none"
            }
        })
    } else if is_url(file) && class.is_pxe() {
        Err("write a path below tftp/: this firmware knows TFTP alone and cannot load a URL")
    } else if class == Class::Ipxe && is_ipxe(file) {
        Err("write a script as in \"boot.ipxe\": iPXE that is given iPXE loads it again without end")
    } else {
        Ok(())
    }
}

/// Whether it is a URL, and no path below `tftp/`.
pub fn is_url(file: &str) -> bool {
    file.contains("://")
}

/// Whether a file is iPXE itself, by its name: given to iPXE it would be loaded again and again.
pub fn is_ipxe(file: &str) -> bool {
    let path = file.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let begins = ["ipxe", "undionly", "snp"].iter().any(|begin| name.starts_with(begin));
    let ends = [".efi", ".pxe", ".kpxe", ".kkpxe", ".kkkpxe", ".lkrn", ".0"];
    begins && ends.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use netboot_ebpf::Class;

    use super::{LONGEST, LONGEST_HTTP, NAMES, class, is_ipxe, rule};

    #[test]
    fn every_class_that_loads_something_has_a_setting() {
        let names: Vec<_> = NAMES.split(", ").collect();
        for known in Class::ALL {
            let settable = !matches!(known, Class::Plain | Class::Other);
            assert_eq!(names.contains(&known.name()), settable, "{known:?}");
            assert_eq!(class(known.name()).is_some(), settable, "{known:?}");
        }
        assert_eq!(names.len() + 2, Class::ALL.len());
    }

    #[test]
    fn ipxe_by_its_names() {
        for name in [
            "undionly.kpxe",
            "x/UNDIONLY.KKPXE",
            "ipxe.efi",
            "ipxe-x86_64.efi",
            "snponly.efi",
            "snp.efi",
            "ipxe.pxe",
            "http://192.0.2.1/a/ipxe.efi?x=1",
            "ipxe.lkrn",
            "undionly.0",
        ] {
            assert!(is_ipxe(name), "{name}");
        }
        for name in [
            "pxelinux.0",
            "boot.ipxe",
            "ipxe",
            "ipxe/grubx64.efi",
            "http://ipxe.efi/menu",
            "snapshot.efi",
            "",
        ] {
            assert!(!is_ipxe(name), "{name}");
        }
    }

    #[test]
    fn what_each_class_can_be_given() {
        let (long, longer) = ("x".repeat(LONGEST), "x".repeat(LONGEST + 1));
        let http = "x".repeat(LONGEST_HTTP);
        let url = "http://192.0.2.1/boot.ipxe";
        let good = [
            (Class::Bios, long.as_str()),
            (Class::Bios, ""),
            (Class::Efi64, "ipxe.efi"),
            (Class::Ipxe, url),
            (Class::Http64, url),
            (Class::Http64, "grubx64.efi"),
            (Class::Http64, &http),
            (Class::Rpi, "bootcode.bin"),
        ];
        for (class, file) in good {
            assert_eq!(rule(class, file), Ok(()), "{class:?} {file}");
        }
        let bad = [
            (Class::Bios, longer.as_str(), "127"),
            (Class::Bios, "a b", "spaces"),
            (Class::Bios, url, "URL"),
            (Class::Efiarm64, url, "URL"),
            (Class::Http64, &long, "93"),
            (Class::Ipxe, "ipxe.efi", "without end"),
            (Class::Ipxe, "http://192.0.2.1/undionly.kpxe", "without end"),
            (Class::Ipxe, &longer, "127"),
        ];
        for (class, file, why) in bad {
            assert!(rule(class, file).is_err_and(|help| help.contains(why)), "{class:?} {file}");
        }
    }
}
