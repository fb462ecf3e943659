//! Which kind of client is asking: a ROM, UEFI of some processor, iPXE, or an operating system.
//!
//! RFC 4578 (option 93, 97), RFC 5970 and its registry (the architectures), RFC 3004 (option 77), iPXE's own option
//! 175. Pure; told by facts that the caller has already found, so that the kernel's program needs no second walk over
//! the options.

macro_rules! classes {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// The kind of client, which decides the boot part of the reply.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Class { $($(#[doc = $doc])+ $variant,)+ }

        impl Class {
            /// Every class, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name used in logs, counters and settings.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

classes! {
    /// An operating system or anything that does not say that it boots.
    Plain => "plain",
    /// A BIOS PXE ROM (architecture 0, or none told).
    Bios => "bios",
    /// iPXE, by user class `iPXE` or by option 175, whatever its firmware.
    Ipxe => "ipxe",
    /// UEFI PXE, 32-bit x86 (6).
    Efi32 => "efi32",
    /// UEFI PXE, x86-64 (7, and 9, which some firmware says instead).
    Efi64 => "efi64",
    /// UEFI PXE, 32-bit ARM (10).
    Efiarm32 => "efiarm32",
    /// UEFI PXE, 64-bit ARM (11).
    Efiarm64 => "efiarm64",
    /// UEFI HTTP boot, 32-bit x86 (15).
    Http32 => "http32",
    /// UEFI HTTP boot, x86-64 (16).
    Http64 => "http64",
    /// UEFI HTTP boot, 32-bit ARM (18).
    Httparm32 => "httparm32",
    /// UEFI HTTP boot, 64-bit ARM (19).
    Httparm64 => "httparm64",
    /// The boot ROM of a Raspberry Pi (41).
    Rpi => "rpi",
    /// Firmware of an architecture that is not known here: an address and no boot file.
    Other => "other",
}

impl Class {
    /// The class with this number, as it travels in an event of the XDP program.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The class with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.name() == name)
    }

    /// UEFI HTTP boot: it is told `HTTPClient` and a URL.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http32 | Self::Http64 | Self::Httparm32 | Self::Httparm64)
    }

    /// Firmware that loads its boot file over TFTP.
    pub const fn is_pxe(self) -> bool {
        matches!(self, Self::Bios | Self::Efi32 | Self::Efi64 | Self::Efiarm32 | Self::Efiarm64 | Self::Rpi)
    }

    /// The class of a PXE client of this architecture (option 93).
    #[inline(always)]
    pub const fn of_arch(arch: u16) -> Self {
        match arch {
            0 => Self::Bios,
            6 => Self::Efi32,
            7 | 9 => Self::Efi64,
            10 => Self::Efiarm32,
            11 => Self::Efiarm64,
            15 => Self::Http32,
            16 => Self::Http64,
            18 => Self::Httparm32,
            19 => Self::Httparm64,
            41 => Self::Rpi,
            _ => Self::Other,
        }
    }

    /// The class of a client that says `HTTPClient`. Some firmware names the architecture of its PXE all the same.
    #[inline(always)]
    const fn of_http(arch: u16) -> Self {
        match arch {
            6 | 15 => Self::Http32,
            7 | 9 | 16 => Self::Http64,
            10 | 18 => Self::Httparm32,
            11 | 19 => Self::Httparm64,
            _ => Self::Other,
        }
    }
}

/// What the options of a request say about its sender.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Marks {
    /// Option 77 is `iPXE`, raw or behind one length byte (RFC 3004 wants the length, iPXE leaves it out).
    pub ipxe_user_class: bool,
    /// Option 175, iPXE's encapsulated options, is there.
    pub ipxe_options: bool,
    /// Option 60 begins with `PXEClient`.
    pub pxe_client: bool,
    /// Option 60 begins with `HTTPClient`.
    pub http_client: bool,
    /// Of the list in option 93 the first architecture that is known, else the first (RFC 4578 2.1). The XDP program
    /// reads the first: where that is not known and there are more, the daemon has to look.
    pub arch: Option<u16>,
    /// The architecture that option 60 spells (`PXEClient:Arch:00007…`), for firmware without option 93.
    pub arch_text: Option<u16>,
}

/// Tells the class of a client. iPXE first: after a chain load its requests still carry the
/// firmware's `PXEClient` and architecture.
#[inline(always)]
pub fn classify(marks: &Marks) -> Class {
    if marks.ipxe_user_class || marks.ipxe_options {
        return Class::Ipxe;
    }
    let arch = marks.arch.or(marks.arch_text);
    if marks.http_client {
        // A server that guesses wrong is no worse than one that has no boot file.
        return arch.map_or(Class::Http64, Class::of_http);
    }
    if !marks.pxe_client {
        return Class::Plain;
    }
    // No architecture at all is an old BIOS ROM.
    arch.map_or(Class::Bios, Class::of_arch)
}

#[cfg(test)]
mod tests {
    use super::{Class, Marks, classify};

    #[test]
    fn ipxe_comes_before_its_firmware() {
        for (pxe_client, http_client, arch) in [(true, false, 0), (true, false, 7), (false, true, 16)] {
            let rom = Marks { pxe_client, http_client, arch: Some(arch), ..Marks::default() };
            assert_ne!(classify(&rom), Class::Ipxe);
            assert_eq!(classify(&Marks { ipxe_user_class: true, ..rom }), Class::Ipxe);
            assert_eq!(classify(&Marks { ipxe_options: true, ..rom }), Class::Ipxe);
        }
    }

    #[test]
    fn every_architecture() {
        let table = [
            (0, Class::Bios, Class::Other),
            (1, Class::Other, Class::Other),
            (2, Class::Other, Class::Other),
            (6, Class::Efi32, Class::Http32),
            (7, Class::Efi64, Class::Http64),
            (9, Class::Efi64, Class::Http64),
            (10, Class::Efiarm32, Class::Httparm32),
            (11, Class::Efiarm64, Class::Httparm64),
            (15, Class::Http32, Class::Http32),
            (16, Class::Http64, Class::Http64),
            (17, Class::Other, Class::Other),
            (18, Class::Httparm32, Class::Httparm32),
            (19, Class::Httparm64, Class::Httparm64),
            (27, Class::Other, Class::Other),
            (41, Class::Rpi, Class::Other),
            (u16::MAX, Class::Other, Class::Other),
        ];
        for (arch, pxe, http) in table {
            // By option 93, and by the text of option 60 where there is no 93.
            for (arch, arch_text) in [(Some(arch), None), (None, Some(arch)), (Some(arch), Some(12))] {
                let marks = Marks { arch, arch_text, ..Marks::default() };
                assert_eq!(classify(&Marks { pxe_client: true, ..marks }), pxe, "{marks:?}");
                assert_eq!(classify(&Marks { http_client: true, ..marks }), http, "{marks:?}");
                assert_eq!(classify(&marks), Class::Plain, "it does not say that it boots: {marks:?}");
            }
        }
        let none = Marks::default();
        assert_eq!(classify(&none), Class::Plain);
        assert_eq!(classify(&Marks { pxe_client: true, ..none }), Class::Bios, "an old BIOS ROM");
        assert_eq!(classify(&Marks { http_client: true, ..none }), Class::Http64);
    }

    #[test]
    fn numbers_and_names_come_back() {
        for (number, class) in (0..).zip(Class::ALL) {
            assert_eq!(*class as u8, number);
            assert_eq!(Class::from_number(number), Some(*class));
            assert_eq!(Class::from_name(class.name()), Some(*class));
            assert!(!(class.is_http() && class.is_pxe()));
        }
        assert_eq!(Class::from_number(13), None);
        assert_eq!(Class::from_name("efi"), None);
    }
}
