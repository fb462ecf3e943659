//! What no two machines may have, a MAC or a UUID: remembers which had it first, and says who has it again. Keeps no host out.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::net::Ipv4Addr;

use foldhash::fast::RandomState;
use jsonc_parser::ast::Value;

use crate::config::json::Reader;

/// Address and line of the first host with each.
pub(super) struct Once<K>(HashMap<K, (Ipv4Addr, usize), RandomState>);

impl<K> Default for Once<K> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Copy + Eq + Hash + Display> Once<K> {
    /// The host at `addr` has this one; an error if another has it, too. `what`: its name.
    pub(super) fn take(
        &mut self,
        reader: &mut Reader<'_>,
        key: K,
        what: &str,
        value: &Value<'_>,
        addr: Option<Ipv4Addr>,
    ) {
        if let Some((other, line)) = self.0.get(&key) {
            let message = format!("{key} is the {what} of {other} too (line {line})");
            reader.error(value, message, "give each machine its own, or remove one of the two");
        } else if let Some(addr) = addr {
            self.0.insert(key, (addr, reader.line(value)));
        }
    }
}
