//! Requests for tests, written the way a client writes them, and replies read without the code under test.

use std::net::Ipv4Addr;

use netboot_ebpf::verdict::message;

use super::options::{COOKIE, HEADER};
use crate::mac::Mac;

/// A request under construction: a plain DISCOVER until told otherwise.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) header: [u8; HEADER],
    pub(super) options: Vec<(u8, Vec<u8>)>,
}

impl Packet {
    pub(super) fn new(mac: Mac) -> Self {
        let mut header = [0; HEADER];
        header[..3].copy_from_slice(&[1, 1, 6]);
        header[4..8].copy_from_slice(b"xid!");
        header[8..10].copy_from_slice(&[0, 4]);
        header[28..34].copy_from_slice(&mac.0);
        Self { header, options: vec![(53, vec![message::DISCOVER])] }
    }

    /// Sets an option, in the place of an earlier one of that code.
    pub(super) fn with(mut self, code: u8, value: impl Into<Vec<u8>>) -> Self {
        self.options.retain(|(other, _)| *other != code);
        self.options.push((code, value.into()));
        self
    }

    pub(super) fn message(self, message: u8) -> Self {
        self.with(53, [message])
    }

    pub(super) fn requested(self, addr: Ipv4Addr) -> Self {
        self.with(50, addr.octets())
    }

    pub(super) fn server_id(self, addr: Ipv4Addr) -> Self {
        self.with(54, addr.octets())
    }

    pub(super) fn at(mut self, offset: usize, value: &[u8]) -> Self {
        self.header[offset..offset + value.len()].copy_from_slice(value);
        self
    }

    pub(super) fn ciaddr(self, addr: Ipv4Addr) -> Self {
        self.at(12, &addr.octets())
    }

    pub(super) fn broadcast(self) -> Self {
        self.at(10, &[0x80, 0])
    }

    /// As a BIOS PXE ROM says it.
    pub(super) fn bios(self) -> Self {
        self.with(60, b"PXEClient:Arch:00000:UNDI:002001".as_slice()).with(93, [0, 0]).with(97, [0; 17])
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        bytes.extend(COOKIE);
        for (code, value) in &self.options {
            bytes.extend(option(*code, value));
        }
        bytes.push(255);
        bytes
    }
}

/// One option, in one part.
pub(super) fn option(code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![code, value.len().try_into().unwrap()];
    bytes.extend(value);
    bytes
}

/// The options of a reply in their order, and the bytes after END. Panics where a client would stumble.
pub(super) fn options(reply: &[u8]) -> (Vec<(u8, Vec<u8>)>, &[u8]) {
    assert_eq!(reply[HEADER..HEADER + 4], COOKIE);
    let mut rest = &reply[HEADER + 4..];
    let mut options = Vec::new();
    loop {
        match rest {
            [255, after @ ..] => return (options, after),
            [0, after @ ..] => rest = after,
            [code, length, after @ ..] => {
                let (value, after) = after.split_at(usize::from(*length));
                options.push((*code, value.to_vec()));
                rest = after;
            }
            _ => panic!("no END"),
        }
    }
}

/// The value of an option that is there once.
pub(super) fn value(reply: &[u8], code: u8) -> Option<Vec<u8>> {
    let (options, _) = options(reply);
    let mut values = options.into_iter().filter(|(other, _)| *other == code);
    let value = values.next().map(|(_, value)| value);
    assert!(values.next().is_none(), "option {code} twice");
    value
}
