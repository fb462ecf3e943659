//! Where the options that people set by number go among the server's own.
//!
//! Pure. Option 43 is a word between a vendor's server and its clients, so plain clients alone get it: a PXE ROM would take
//! it for a boot menu of this server, and iPXE with any would not load its script.

use netboot_ebpf::Class;

use super::{Client, Kind};

/// Whether an option that people set is for a client of this class in a reply of this kind.
pub(super) fn belongs(code: u8, class: Class, kind: Kind) -> bool {
    match kind {
        _ if code == 43 => class == Class::Plain && !matches!(kind, Kind::BootService(_)),
        // Beside another server this one says what to boot, and what was chosen from the menu stands.
        Kind::BootService(Some(_)) if code == 209 => false,
        Kind::BootService(_) => matches!(code, 150 | 175 | 208..=211),
        Kind::Lease(_) | Kind::Inform => true,
    }
}

/// Puts in what people have set by number: in the place of what the server would say, else behind it. Returns the codes
/// behind it, and those in the place of others, each in the order in which they go when there is no room.
pub(super) fn add_custom(
    options: &mut Vec<(u8, Vec<u8>)>,
    client: &Client<'_>,
    takes: impl Fn(u8) -> bool,
) -> (Vec<u8>, Vec<u8>) {
    let (mut asked, mut always, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
    for (code, value) in client.custom.settled() {
        if !takes(code) {
            continue;
        }
        let sent = value.filter(|value| !value.on_request() || client.asks.contains(&code));
        let bytes = sent.map(|value| value.bytes().to_vec()).unwrap_or_default();
        if let Some((_, own)) = options.iter_mut().find(|(other, _)| *other == code) {
            *own = bytes;
            replaced.push(code);
        } else if let Some(value) = sent {
            options.push((code, bytes));
            if value.on_request() { &mut asked } else { &mut always }.push(code);
        }
    }
    (asked.into_iter().rev().chain(always.into_iter().rev()).collect(), replaced.into_iter().rev().collect())
}
