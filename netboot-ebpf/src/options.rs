//! The options of a request (RFC 2132): a walk of single steps, and what a request says.
//!
//! The caller copies the options into an [`Area`] and calls [`Area::step`] until it says stop: the kernel's program by
//! `bpf_loop`, so that the verifier sees one step and not a thousand. Every index is masked and the area is
//! twice the mask, so that no check of it is left. The position lives in the area's own memory, where the
//! verifier does not follow it.

use crate::bootp::Header;
use crate::class::{Class, Marks, classify};
use crate::verdict::{Reason, Request};

/// The most bytes of options that are read; a client that sends more is the daemon's.
pub const LONGEST: usize = 1024;
/// Steps that end any walk: each takes a byte at least, and END is one.
pub const STEPS: u32 = 1024;
const MASK: usize = LONGEST - 1;

const PAD: u8 = 0;
const REQUESTED: u8 = 50;
const OVERLOAD: u8 = 52;
const MESSAGE: u8 = 53;
const SERVER_ID: u8 = 54;
const MAX_SIZE: u8 = 57;
const VENDOR_CLASS: u8 = 60;
const CLIENT_ID: u8 = 61;
const USER_CLASS: u8 = 77;
const RELAY_INFO: u8 = 82;
const ARCH: u8 = 93;
const GUID: u8 = 97;
const IPXE: u8 = 175;
const END: u8 = 255;

/// How a walk stands.
const WALKING: u32 = 0;
const WHOLE: u32 = 1;
const BAD: u32 = 2;
const TWICE: u32 = 3;

/// The options of one request after the other. Memory of the caller; all zero at first.
#[repr(C)]
pub struct Area {
    /// The options; `LONGEST` of them are used.
    pub bytes: [u8; 2 * LONGEST],
    /// For each code: the number of the walk that met it, shifted by 16, and where it stood. Nothing is cleared
    /// between requests; the number tells what is old.
    seen: [u64; 256],
    walk: u64,
    at: u32,
    end: u32,
    state: u32,
    pad: u32,
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
}

impl Area {
    /// An area that has met nothing.
    pub const fn new() -> Self {
        Self { bytes: [0; 2 * LONGEST], seen: [0; 256], walk: 0, at: 0, end: 0, state: WALKING, pad: 0 }
    }

    /// Begins a walk over the first `length` bytes.
    #[inline(always)]
    pub fn begin(&mut self, length: u32) {
        self.walk = self.walk.wrapping_add(1);
        self.at = 0;
        self.end = length;
        self.state = WALKING;
    }

    /// Takes one step; `true`: the walk is over.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        let (at, end) = (self.at, self.end);
        if at >= end {
            // No END: whatever came behind is lost.
            self.state = BAD;
            return true;
        }
        let here = at as usize & MASK;
        let code = self.bytes[here];
        if code == PAD {
            self.at = at.wrapping_add(1);
            return false;
        }
        if code == END {
            self.state = WHOLE;
            return true;
        }
        let next = at.wrapping_add(2).wrapping_add(u32::from(self.bytes[here + 1]));
        if next > end {
            self.state = BAD;
            return true;
        }
        let walk = self.walk;
        let seen = &mut self.seen[usize::from(code)];
        if *seen >> 16 == walk {
            self.state = TWICE;
            return true;
        }
        *seen = walk << 16 | here as u64;
        self.at = next;
        false
    }

    /// What the request says, once the walk is over.
    ///
    /// # Errors
    /// Why the daemon has to look at it.
    #[inline(always)]
    pub fn facts(&self, header: &Header) -> Result<Facts, Reason> {
        match self.state {
            WHOLE => {}
            TWICE => return Err(Reason::RepeatedOption),
            _ => return Err(Reason::BadOptions),
        }
        if self.find(OVERLOAD).is_some() {
            return Err(Reason::Overload);
        }
        let [_, _, _, message] = self.number(MESSAGE, 1)?;
        let [_, _, max_a, max_b] = self.number(MAX_SIZE, 2)?;
        let request = Request {
            message,
            ciaddr: u32::from_be_bytes(header.ciaddr),
            giaddr: u32::from_be_bytes(header.giaddr),
            requested: u32::from_be_bytes(self.number(REQUESTED, 4)?),
            server_id: u32::from_be_bytes(self.number(SERVER_ID, 4)?),
            max_size: u16::from_be_bytes([max_a, max_b]),
            relay_info: self.find(RELAY_INFO).is_some(),
            class: self.class()?,
        };
        Ok(Facts { request, guid: self.echo(GUID)?, client_id: self.echo(CLIENT_ID)? })
    }

    /// Where an option of this request stands.
    #[inline(always)]
    fn find(&self, code: u8) -> Option<usize> {
        let seen = self.seen[usize::from(code)];
        #[allow(clippy::cast_possible_truncation, reason = "masked")]
        let at = seen as usize & MASK;
        if seen >> 16 == self.walk { Some(at) } else { None }
    }

    #[inline(always)]
    fn len(&self, at: usize) -> u8 {
        self.bytes[(at & MASK) + 1]
    }

    /// A byte of the value of an option.
    #[inline(always)]
    fn value(&self, at: usize, number: usize) -> u8 {
        self.bytes[(at & MASK) + 2 + number]
    }

    /// A number of 1, 2 or 4 bytes, at the end of the four; zeros when the option is not there.
    #[inline(always)]
    fn number(&self, code: u8, len: u8) -> Result<[u8; 4], Reason> {
        let Some(at) = self.find(code) else { return Ok([0; 4]) };
        if self.len(at) != len {
            return Err(Reason::BadOptionLength);
        }
        Ok(match len {
            1 => [0, 0, 0, self.value(at, 0)],
            2 => [0, 0, self.value(at, 0), self.value(at, 1)],
            _ => [self.value(at, 0), self.value(at, 1), self.value(at, 2), self.value(at, 3)],
        })
    }

    #[inline(always)]
    fn echo(&self, code: u8) -> Result<Echo, Reason> {
        match self.find(code) {
            None => Ok(Echo { at: 0, len: 0 }),
            Some(at) if self.len(at) == 0 => Err(Reason::BadOptionLength),
            Some(at) => Ok(Echo { at, len: usize::from(self.len(at)) + 2 }),
        }
    }

    /// Is `text` in the value of the option, from byte `from` on? Without branches.
    #[inline(always)]
    fn says<const N: usize>(&self, at: usize, from: usize, text: &[u8; N]) -> bool {
        let mut differs = 0;
        for (number, byte) in text.iter().enumerate() {
            differs |= self.value(at, from + number) ^ byte;
        }
        differs == 0
    }

    #[inline(always)]
    fn class(&self) -> Result<Class, Reason> {
        let mut marks = Marks { ipxe_options: self.find(IPXE).is_some(), ..Marks::default() };
        if let Some(at) = self.find(USER_CLASS) {
            marks.ipxe_user_class = match self.len(at) {
                0 => return Err(Reason::BadOptionLength),
                4 => self.says(at, 0, b"iPXE"),
                5 => self.says(at, 0, b"\x04iPXE"),
                _ => false,
            };
        }
        if let Some(at) = self.find(VENDOR_CLASS) {
            let len = self.len(at);
            if len == 0 {
                return Err(Reason::BadOptionLength);
            }
            marks.pxe_client = len >= 9 && self.says(at, 0, b"PXEClient");
            marks.http_client = len >= 10 && self.says(at, 0, b"HTTPClient");
            if len >= 20 {
                marks.arch_text = self.arch_text(at);
            }
        }
        if let Some(at) = self.find(ARCH) {
            let len = self.len(at);
            if len == 0 || len & 1 != 0 {
                return Err(Reason::BadOptionLength);
            }
            marks.arch = Some(u16::from_be_bytes([self.value(at, 0), self.value(at, 1)]));
        }
        Ok(classify(&marks))
    }

    /// The five digits of `PXEClient:Arch:00007`.
    #[inline(always)]
    fn arch_text(&self, at: usize) -> Option<u16> {
        let mut arch = 0u32;
        let mut digits = self.says(at, 9, b":Arch:");
        for number in 15..20 {
            let digit = u32::from(self.value(at, number)).wrapping_sub(u32::from(b'0'));
            digits &= digit <= 9;
            arch = arch.wrapping_mul(10).wrapping_add(digit);
        }
        #[allow(clippy::cast_possible_truncation, reason = "compared with the largest")]
        if digits && arch <= 0xffff { Some(arch as u16) } else { None }
    }
}

impl Default for Area {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
