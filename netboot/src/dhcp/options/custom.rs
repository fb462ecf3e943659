//! Where the options that people set by number go among the server's own.
//!
//! Pure. Option 43 is a word between a vendor's server and its clients, so plain clients alone get it: a PXE ROM would take
//! it for a boot menu of this server, and iPXE with any would not load its script.

use netboot_ebpf::Class;

use super::Client;

/// Puts in what people have set by number: in the place of what the server would say, else behind it. Returns the codes
/// behind it, and those in the place of others, each in the order in which they go when there is no room.
pub(super) fn add_custom(options: &mut Vec<(u8, Vec<u8>)>, client: &Client<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut asked, mut always, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
    for (code, value) in client.custom.settled() {
        if code == 43 && client.class != Class::Plain {
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
