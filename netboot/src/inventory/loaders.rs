//! Which of the well-known boot loaders lie in `tftp/`, so that a class whose boot file nobody has set has one.
//!
//! Looked up with each snapshot and fixed in it. A file counts if it would be served: found beneath the directory, regular.

use std::collections::BTreeMap;
use std::path::Path;

use netboot_ebpf::Class;

use crate::beneath;

/// The directory in the data directory that TFTP and HTTP serve.
pub const DIRECTORY: &str = "tftp";
const IA32: &[&str] = &["shimia32.efi", "grubia32.efi", "bootia32.efi"];
const X64: &[&str] =
    &["shimx64.efi", "grubx64.efi", "bootx64.efi", "syslinux.efi", "snponly.efi", "ipxe.efi"];
const ARM: &[&str] = &["shimarm.efi", "grubarm.efi", "bootarm.efi"];
const AA64: &[&str] =
    &["shimaa64.efi", "grubaa64.efi", "bootaa64.efi", "snponly-arm64.efi", "ipxe-arm64.efi"];

/// The names that are looked for, the first that is there counts. A shim comes before what it loads, since nobody can
/// tell from a request whether Secure Boot is on; iPXE comes last, since it needs a script beside it.
pub const fn names(class: Class) -> &'static [&'static str] {
    match class {
        Class::Bios => &["pxelinux.0", "lpxelinux.0", "undionly.kpxe", "ipxe.pxe"],
        Class::Ipxe => &["boot.ipxe"],
        Class::Efi32 | Class::Http32 => IA32,
        Class::Efi64 | Class::Http64 => X64,
        Class::Efiarm32 | Class::Httparm32 => ARM,
        Class::Efiarm64 | Class::Httparm64 => AA64,
        Class::Rpi => &["bootcode.bin"],
        Class::Plain | Class::Other => &[],
    }
}

/// The loader that was found for each class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaders(BTreeMap<Class, &'static str>);

impl Loaders {
    /// Looks into the data directory.
    pub fn find(data: &Path) -> Self {
        let found = |class: &Class| {
            let name = names(*class).iter().find(|name| is_there(data, name))?;
            Some((*class, *name))
        };
        Self(Class::ALL.iter().filter_map(found).collect())
    }

    /// The loader of a class.
    pub fn get(&self, class: Class) -> Option<&'static str> {
        self.0.get(&class).copied()
    }
}

/// Whether a file below `tftp/` would be served.
pub fn is_there(data: &Path, name: &str) -> bool {
    beneath::open(&data.join(DIRECTORY), name.trim_start_matches('/')).is_ok()
}

#[cfg(test)]
mod tests {
    use netboot_ebpf::Class;

    use super::Loaders;

    #[test]
    fn the_first_that_is_there() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(Loaders::find(data.path()), Loaders::default(), "no tftp/ at all");
        let tftp = data.path().join("tftp");
        std::fs::create_dir(&tftp).unwrap();
        for name in ["ipxe.efi", "undionly.kpxe", "grubaa64.efi"] {
            std::fs::write(tftp.join(name), "x").unwrap();
        }
        std::fs::create_dir(tftp.join("grubx64.efi")).unwrap();
        std::os::unix::fs::symlink("/bin/sh", tftp.join("grubia32.efi")).unwrap();
        let loaders = Loaders::find(data.path());
        let table = [
            (Class::Bios, Some("undionly.kpxe")),
            (Class::Efi64, Some("ipxe.efi")),
            (Class::Http64, Some("ipxe.efi")),
            (Class::Efiarm64, Some("grubaa64.efi")),
            (Class::Httparm64, Some("grubaa64.efi")),
            (Class::Efi32, None),
            (Class::Ipxe, None),
            (Class::Rpi, None),
        ];
        for (class, file) in table {
            assert_eq!(loaders.get(class), file, "{class:?}");
        }
        std::fs::write(tftp.join("shimx64.efi"), "x").unwrap();
        assert_eq!(Loaders::find(data.path()).get(Class::Efi64), Some("shimx64.efi"));
    }
}
