//! Which kind of client is asking: a ROM, iPXE, or an operating system.
//!
//! RFC 4578 (option 93, 97), RFC 3004 (option 77), iPXE's own option 175. Pure; told by facts that the
//! caller has already found, so that the kernel's program needs no second walk over the options.

/// The kind of client, which decides the boot part of the reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// An operating system or anything that does not say that it boots.
    Plain = 0,
    /// A BIOS PXE ROM (`PXEClient`, architecture 0).
    Bios = 1,
    /// iPXE, by user class `iPXE` or by option 175, whatever its firmware.
    Ipxe = 2,
    /// Firmware of another architecture (UEFI, HTTP boot): an address and no boot file as yet.
    Firmware = 3,
}

impl Class {
    /// Every class, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Bios, Self::Ipxe, Self::Firmware];

    /// The name used in logs, counters and settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Bios => "bios",
            Self::Ipxe => "ipxe",
            Self::Firmware => "firmware",
        }
    }

    /// The class with this number, as it travels in an event of the XDP program.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Plain),
            1 => Some(Self::Bios),
            2 => Some(Self::Ipxe),
            3 => Some(Self::Firmware),
            _ => None,
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
    /// The first architecture of option 93, if it has one (RFC 4578 2.1).
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
    if marks.http_client {
        return Class::Firmware;
    }
    if !marks.pxe_client {
        return Class::Plain;
    }
    // No architecture at all is an old BIOS ROM.
    let arch = match (marks.arch, marks.arch_text) {
        (Some(arch), _) | (None, Some(arch)) => arch,
        (None, None) => 0,
    };
    if arch == 0 { Class::Bios } else { Class::Firmware }
}

#[cfg(test)]
mod tests {
    use super::{Class, Marks, classify};

    #[test]
    fn ipxe_comes_before_its_firmware() {
        let rom = Marks { pxe_client: true, arch: Some(0), ..Marks::default() };
        assert_eq!(classify(&rom), Class::Bios);
        assert_eq!(classify(&Marks { ipxe_user_class: true, ..rom }), Class::Ipxe);
        assert_eq!(classify(&Marks { ipxe_options: true, ..rom }), Class::Ipxe);
    }

    #[test]
    fn architecture_comes_from_option_93_then_from_the_text_of_60() {
        let pxe = Marks { pxe_client: true, ..Marks::default() };
        assert_eq!(classify(&pxe), Class::Bios, "no architecture at all is an old BIOS ROM");
        assert_eq!(classify(&Marks { arch_text: Some(7), ..pxe }), Class::Firmware);
        assert_eq!(classify(&Marks { arch: Some(0), arch_text: Some(7), ..pxe }), Class::Bios);
        assert_eq!(classify(&Marks { arch: Some(9), ..pxe }), Class::Firmware);
    }

    #[test]
    fn others() {
        assert_eq!(classify(&Marks::default()), Class::Plain);
        assert_eq!(classify(&Marks { arch: Some(7), ..Marks::default() }), Class::Plain);
        assert_eq!(
            classify(&Marks { http_client: true, arch: Some(16), ..Marks::default() }),
            Class::Firmware
        );
    }

    #[test]
    fn numbers_come_back() {
        for class in Class::ALL {
            assert_eq!(Class::from_number(class as u8), Some(class));
        }
        assert_eq!(Class::from_number(4), None);
    }
}
