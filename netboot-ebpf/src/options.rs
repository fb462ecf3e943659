//! The options of a request (RFC 2132): a walk of single steps, which notes what the request says.
//!
//! The caller copies the options into an [`Area`] and calls [`Area::step`] until it says stop: the kernel's program by
//! `bpf_loop`, so that the verifier sees one step and not a thousand. Every index is masked and the area is
//! twice the mask, so that no check of it is left. Position and findings live in the area's own memory, where the
//! verifier does not follow them: with an `Option` for each option in registers it would look at every combination.

use crate::bootp::Header;
use crate::class::{Class, Marks, classify};
use crate::verdict::message::DISCOVER;
use crate::verdict::{Reason, Request};

/// The most bytes of options that are read; a client that sends more is the daemon's.
pub const LONGEST: usize = 1024;
/// Steps that end any walk: each takes a byte at least, and END is one.
pub const STEPS: u32 = 1024;
const MASK: usize = LONGEST - 1;

const PAD: u8 = 0;
const REQUESTED: u8 = 50;
const LEASE_TIME: u8 = 51;
const OVERLOAD: u8 = 52;
const MESSAGE: u8 = 53;
const SERVER_ID: u8 = 54;
const MAX_SIZE: u8 = 57;
const VENDOR_CLASS: u8 = 60;
const CLIENT_ID: u8 = 61;
const USER_CLASS: u8 = 77;
const RAPID_COMMIT: u8 = 80;
const RELAY_INFO: u8 = 82;
const ARCH: u8 = 93;
const GUID: u8 = 97;
const SUBNET_SELECTION: u8 = 118;
const IPXE: u8 = 175;
const END: u8 = 255;
/// Sub-options of option 82 by which a relay agent decides about an answer: link selection (RFC 3527) and the server
/// identifier (RFC 5107).
const LINK_SELECTION: u8 = 5;
const SERVER_ID_OVERRIDE: u8 = 11;

/// How a walk stands.
const WALKING: u32 = 0;
const WHOLE: u32 = 1;
const BAD: u32 = 2;
const TWICE: u32 = 3;
const BAD_LENGTH: u32 = 4;
const OVERLOADED: u32 = 5;

/// The options of one request after the other. Memory of the caller.
#[repr(C)]
pub struct Area {
    /// The options; `LONGEST` of them are used.
    pub bytes: [u8; 2 * LONGEST],
    /// What the walk has met; all zero before it begins.
    pub notes: Notes,
}

/// What a walk has met so far. Integers and flags, so that zero bytes are a good value: nothing was met.
#[repr(C, align(8))]
#[derive(Default)]
pub struct Notes {
    /// A bit for each code.
    seen: [u64; 4],
    at: u32,
    end: u32,
    /// Where the sub-options of option 82 end, while they are walked over.
    agent_end: u32,
    state: u32,
    guid_at: u32,
    guid_len: u32,
    client_id_at: u32,
    client_id_len: u32,
    agent_at: u32,
    agent_len: u32,
    vendor_at: u32,
    /// Numbers in network order; zeros: not there.
    requested: [u8; 4],
    server_id: [u8; 4],
    max_size: [u8; 2],
    message: u8,
    vendor_len: u8,
    agent_decides: bool,
    ipxe_user_class: bool,
    ipxe_options: bool,
    has_arch: bool,
    /// There are more than the one below.
    more_archs: bool,
    arch: [u8; 2],
}

/// An option that the reply repeats: where it stands in the options, with code and length; `len` 0: not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Where its code stands.
    pub at: usize,
    /// Its length with code and length byte.
    pub len: usize,
}

/// What the options say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// For the decision.
    pub request: Request,
    /// Option 97.
    pub guid: Echo,
    /// Option 61.
    pub client_id: Echo,
    /// Option 82.
    pub relay_info: Echo,
}

impl Area {
    /// Begins a walk over the first `length` bytes. The notes must be zero.
    #[inline(always)]
    pub fn begin(&mut self, length: u32) {
        self.notes.end = length;
    }

    /// Takes one step; `true`: the walk is over.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        let state = self.next();
        self.notes.state = state;
        state != WALKING
    }

    #[inline(always)]
    fn next(&mut self) -> u32 {
        let (at, end) = (self.notes.at, self.notes.end);
        if at < self.notes.agent_end {
            return self.sub_option(at);
        }
        if at >= end {
            // No END: whatever came behind is lost.
            return BAD;
        }
        let here = at as usize & MASK;
        let code = self.bytes[here];
        if code == PAD {
            self.notes.at = at.wrapping_add(1);
            return WALKING;
        }
        if code == END {
            return WHOLE;
        }
        let len = self.bytes[here + 1];
        let next = at.wrapping_add(2).wrapping_add(u32::from(len));
        if next > end {
            return BAD;
        }
        self.notes.at = next;
        let word = &mut self.notes.seen[usize::from(code >> 6)];
        let bit = 1 << (code & 63);
        if *word & bit != 0 {
            return TWICE;
        }
        *word |= bit;
        self.note(here, code, len)
    }

    /// Takes a step over a sub-option of option 82 (RFC 3046 2.0).
    #[inline(always)]
    fn sub_option(&mut self, at: u32) -> u32 {
        let here = at as usize & MASK;
        let (code, len) = (self.bytes[here], self.bytes[here + 1]);
        let next = at.wrapping_add(2).wrapping_add(u32::from(len));
        if next > self.notes.agent_end {
            return BAD;
        }
        self.notes.at = next;
        self.notes.agent_decides |= code == LINK_SELECTION || code == SERVER_ID_OVERRIDE;
        WALKING
    }

    /// Notes what an option says.
    #[inline(always)]
    fn note(&mut self, at: usize, code: u8, len: u8) -> u32 {
        match (code, len) {
            (OVERLOAD, _) => return OVERLOADED,
            (MESSAGE, 1) => [self.notes.message] = self.value(at, 0),
            (MAX_SIZE, 2) => self.notes.max_size = self.value(at, 0),
            (REQUESTED, 4) => self.notes.requested = self.value(at, 0),
            (SERVER_ID, 4) => self.notes.server_id = self.value(at, 0),
            (IPXE, _) => self.notes.ipxe_options = true,
            (MESSAGE | MAX_SIZE | REQUESTED | SERVER_ID, _)
            | (GUID | CLIENT_ID | RELAY_INFO | USER_CLASS | VENDOR_CLASS | ARCH, 0) => return BAD_LENGTH,
            #[allow(clippy::cast_possible_truncation, reason = "masked")]
            (RELAY_INFO, _) => {
                (self.notes.agent_at, self.notes.agent_len) = (at as u32, u32::from(len) + 2);
                self.notes.agent_end = self.notes.at;
                self.notes.at = (at as u32).wrapping_add(2);
            }
            #[allow(clippy::cast_possible_truncation, reason = "masked")]
            (GUID, _) => (self.notes.guid_at, self.notes.guid_len) = (at as u32, u32::from(len) + 2),
            #[allow(clippy::cast_possible_truncation, reason = "masked")]
            (CLIENT_ID, _) => {
                (self.notes.client_id_at, self.notes.client_id_len) = (at as u32, u32::from(len) + 2);
            }
            (USER_CLASS, 4) => self.notes.ipxe_user_class = self.says(at, 0, b"iPXE"),
            (USER_CLASS, 5) => self.notes.ipxe_user_class = self.says(at, 0, b"\x04iPXE"),
            // Most firmware says more in option 93: it is looked into when all has been met.
            #[allow(clippy::cast_possible_truncation, reason = "masked")]
            (VENDOR_CLASS, _) => (self.notes.vendor_at, self.notes.vendor_len) = (at as u32, len),
            (ARCH, _) if len & 1 != 0 => return BAD_LENGTH,
            (ARCH, _) => {
                (self.notes.has_arch, self.notes.arch) = (true, self.value(at, 0));
                self.notes.more_archs = len > 2;
            }
            _ => {}
        }
        WALKING
    }

    #[inline(always)]
    fn vendor_class(&self, marks: &mut Marks) {
        let (at, len) = (self.notes.vendor_at as usize & MASK, self.notes.vendor_len);
        marks.pxe_client = len >= 9 && self.says(at, 0, b"PXEClient");
        marks.http_client = !marks.pxe_client && len >= 10 && self.says(at, 0, b"HTTPClient");
        if marks.arch.is_none() {
            // `HTTPClient` is one longer than `PXEClient`.
            let longer = marks.http_client;
            if len >= 20 + u8::from(longer) {
                marks.arch_text = self.arch_text(at, usize::from(longer));
            }
        }
    }

    /// The five digits of `PXEClient:Arch:00007`.
    #[inline(always)]
    fn arch_text(&self, at: usize, longer: usize) -> Option<u16> {
        let digits: [u8; 5] = self.value(at, 15 + longer);
        let mut arch = 0u32;
        let mut beyond = 0;
        for digit in digits {
            let digit = u32::from(digit).wrapping_sub(u32::from(b'0'));
            beyond |= u32::from(digit > 9);
            arch = arch.wrapping_mul(10).wrapping_add(digit);
        }
        let whole = beyond == 0 && self.says(at, 9 + longer, b":Arch:");
        u16::try_from(arch).ok().filter(|_| whole)
    }

    /// Bytes of the value of an option.
    #[inline(always)]
    fn value<const N: usize>(&self, at: usize, from: usize) -> [u8; N] {
        let mut bytes = [0; N];
        for (number, byte) in bytes.iter_mut().enumerate() {
            *byte = self.bytes[(at & MASK) + 2 + from + number];
        }
        bytes
    }

    /// Is `text` in the value of the option, from byte `from` on? Without branches.
    #[inline(always)]
    fn says<const N: usize>(&self, at: usize, from: usize, text: &[u8; N]) -> bool {
        let value: [u8; N] = self.value(at, from);
        let mut differs = 0;
        for (byte, wanted) in value.iter().zip(text) {
            differs |= byte ^ wanted;
        }
        differs == 0
    }

    /// What the request says, once the walk is over.
    ///
    /// # Errors
    /// Why the daemon has to look at it.
    #[inline(always)]
    pub fn facts(&self, header: &Header) -> Result<Facts, Reason> {
        match self.notes.state {
            WHOLE => {}
            TWICE => return Err(Reason::RepeatedOption),
            BAD_LENGTH => return Err(Reason::BadOptionLength),
            OVERLOADED => return Err(Reason::Overload),
            _ => return Err(Reason::BadOptions),
        }
        let notes = &self.notes;
        if notes.more_archs && Class::of_arch(u16::from_be_bytes(notes.arch)) == Class::Other {
            return Err(Reason::OtherClass);
        }
        let mut marks = Marks {
            ipxe_user_class: notes.ipxe_user_class,
            ipxe_options: notes.ipxe_options,
            pxe_client: false,
            http_client: false,
            arch: notes.has_arch.then_some(u16::from_be_bytes(notes.arch)),
            arch_text: None,
        };
        if notes.vendor_len != 0 {
            self.vendor_class(&mut marks);
        }
        let request = Request {
            message: notes.message,
            ciaddr: u32::from_be_bytes(header.ciaddr),
            requested: u32::from_be_bytes(notes.requested),
            server_id: u32::from_be_bytes(notes.server_id),
            max_size: u16::from_be_bytes(notes.max_size),
            agent_decides: notes.agent_decides,
            subnet_selection: notes.met(SUBNET_SELECTION),
            lease_time: notes.met(LEASE_TIME),
            rapid_commit: notes.message == DISCOVER && notes.met(RAPID_COMMIT),
            class: classify(&marks),
        };
        let guid = Echo { at: notes.guid_at as usize & MASK, len: notes.guid_len as usize & 511 };
        let client_id =
            Echo { at: notes.client_id_at as usize & MASK, len: notes.client_id_len as usize & 511 };
        let relay_info = Echo { at: notes.agent_at as usize & MASK, len: notes.agent_len as usize & 511 };
        Ok(Facts { request, guid, client_id, relay_info })
    }
}

impl Notes {
    /// An option of this code is there, whatever it says.
    #[inline(always)]
    fn met(&self, code: u8) -> bool {
        self.seen[usize::from(code >> 6)] & 1 << (code & 63) != 0
    }
}

impl Default for Area {
    /// An area that has met nothing.
    fn default() -> Self {
        Self { bytes: [0; 2 * LONGEST], notes: Notes::default() }
    }
}

#[cfg(test)]
mod tests;
