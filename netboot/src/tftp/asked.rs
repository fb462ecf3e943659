//! What a request asks for, opened: the bytes to send, or why not.
//!
//! May wait for a disk.

use std::io::Read;
use std::sync::Arc;

use super::files::{Caller, Content, Files};
use super::netascii;
use super::pages::{Bytes, Store};
use super::wire::{Mode, code};
use crate::beneath::Refused;

/// Why a file is not served, and the code of the ERROR that says so.
#[derive(Debug)]
pub(super) struct Unserved {
    pub(super) code: u16,
    pub(super) why: String,
}

impl From<Refused> for Unserved {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::NotFound => code::NOT_FOUND,
            Refused::Io(_) => code::UNDEFINED,
            _ => code::ACCESS,
        };
        Self { code, why: refused.to_string() }
    }
}

/// Opens what a client calls `name`, and has it ready to be sent in this mode.
///
/// # Errors
/// Why it is not served.
pub(super) fn bytes(
    files: &Files,
    store: &Arc<Store>,
    name: &str,
    mode: Mode,
    caller: Caller,
) -> Result<Bytes, Unserved> {
    let content = files.open(name, caller)?;
    let content = if mode == Mode::Netascii { converted(content)? } else { content };
    Ok(store.bytes(content).map_err(Refused::Io)?)
}

/// The largest text that is converted, bytes.
const LONGEST_TEXT: u64 = 1 << 20;

/// A text as netascii (blocking).
fn converted(content: Content) -> Result<Content, Unserved> {
    let mut text = Vec::new();
    match content {
        Content::Disk(opened) => {
            let length = opened.file.take(LONGEST_TEXT + 1).read_to_end(&mut text);
            length.map_err(Refused::Io)?;
        }
        Content::Generated(bytes) => text = bytes,
    }
    if text.len() as u64 > LONGEST_TEXT {
        let why = "too long for netascii: use octet (binary) mode".to_owned();
        return Err(Unserved { code: code::ILLEGAL, why });
    }
    Ok(Content::Generated(netascii::encode(&text)))
}
