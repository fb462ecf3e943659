//! What a file is, by the end of its name. UEFI HTTP Boot takes a loader or a disk image by these types (UEFI 24.7.3).

/// What is not known, and nobody looks into.
const OTHER: &str = "application/octet-stream";
/// Generated files, and whatever people write by hand.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// Ends of names, in small letters.
const TYPES: &[(&str, &str)] = &[
    ("efi", "application/efi"),
    ("iso", "application/vnd.efi-iso"),
    ("img", "application/vnd.efi-img"),
    ("ipxe", TEXT),
    ("txt", TEXT),
    ("cfg", TEXT),
    ("conf", TEXT),
    ("ks", TEXT),
    ("sh", TEXT),
    ("log", TEXT),
    ("asc", TEXT),
    ("sha256", TEXT),
    ("md", TEXT),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("json", "application/json"),
    ("ign", "application/json"),
    ("xml", "application/xml"),
    ("html", "text/html; charset=utf-8"),
    ("gz", "application/gzip"),
    ("xz", "application/x-xz"),
    ("zst", "application/zstd"),
    ("tar", "application/x-tar"),
    ("zip", "application/zip"),
];

/// The type of a file with this name.
pub(super) fn of(name: &str) -> &'static str {
    let end = name.rsplit('/').next().and_then(|last| last.rsplit_once('.')).map(|(_, end)| end);
    let known = |end: &str| TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(end));
    end.and_then(known).map_or(OTHER, |(_, of)| of)
}

#[cfg(test)]
mod tests {
    use super::{OTHER, TEXT, of};

    #[test]
    fn by_the_end_of_the_name() {
        let table = [
            ("grubx64.efi", "application/efi"),
            ("EFI/BOOT/BOOTX64.EFI", "application/efi"),
            ("boot.ipxe", TEXT),
            ("live.iso", "application/vnd.efi-iso"),
            ("disk.img", "application/vnd.efi-img"),
            ("initrd.cpio.gz", "application/gzip"),
            ("a.b/pxelinux.0", OTHER),
            ("a.txt/kernel", OTHER),
            ("vmlinuz", OTHER),
            (".json", "application/json"),
            ("x.", OTHER),
            ("", OTHER),
        ];
        for (name, expected) in table {
            assert_eq!(of(name), expected, "{name}");
        }
    }
}
