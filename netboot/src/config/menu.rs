//! The PXE boot menu as people set it: `dhcp.menu` in `netboot.json`.
//!
//! Only what was written, and the rules for it. What a client is sent is made in [`crate::dhcp::menu`].

use std::collections::BTreeSet;
use std::str::FromStr;

use jsonc_parser::ast::Value;

use super::json::Reader;
use super::written::{checked, list, number, section};
use crate::inventory::channel_rule;

/// The item that boots the local disk; every other one names a profile.
pub const LOCAL: &str = "local";
/// Most bytes of a menu as option 43 (PXE 2.1, table 2-1). An option holds 255, but the reply has room for no more: see
/// `dhcp::options`.
pub const LONGEST: usize = 200;

/// A boot menu that PXE firmware shows.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Menu {
    /// The line that is shown while a key can be pressed.
    pub prompt: String,
    /// For how long; 0: the first item at once, 255: the menu at once and for ever.
    pub timeout_secs: u8,
    /// What can be chosen, the first one if nobody chooses: [`LOCAL`] or a profile.
    pub items: Vec<String>,
}

impl Menu {
    /// What a person reads of an item.
    pub fn title(item: &str) -> &str {
        if item == LOCAL { "Local disk" } else { item }
    }

    /// The length of option 43 with this menu: discovery control, prompt, then for each item its text and, for a profile,
    /// its boot server; at last END.
    pub fn length(&self) -> usize {
        let texts: usize = self.items.iter().map(|item| 3 + Self::title(item).len()).sum();
        let servers = 7 * self.items.iter().filter(|item| *item != LOCAL).count();
        let heads = 2 + if servers > 0 { 2 } else { 0 };
        3 + (2 + 1 + self.prompt.len()) + heads + texts + servers + 1
    }
}

/// An item with a name that can be one.
struct Item(String);

impl FromStr for Item {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        channel_rule(text).map(|()| Self(text.to_owned()))
    }
}

/// Reads `dhcp.menu`.
pub(super) fn read(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<Menu> {
    let before = reader.problems.len();
    let (mut shown, mut timeout_secs, mut items) = (None, None, None);
    section(reader, name, value, |reader, name, key, value| {
        match key {
            "prompt" => shown = checked(reader, name, value, prompt),
            "timeout_secs" => timeout_secs = number(reader, name, value, 0..=u8::MAX),
            "items" => {
                let what = "a list of \"local\" and of profiles, as in [\"local\", \"stable\", \"beta\"]";
                items = list::<Item>(reader, name, value, what);
            }
            _ => return Err("prompt, timeout_secs, items"),
        }
        Ok(())
    });
    if reader.problems.len() > before {
        return None;
    }
    let items: Vec<String> = items.unwrap_or_default().into_iter().map(|Item(name)| name).collect();
    let menu = Menu {
        prompt: shown.unwrap_or_else(|| "Press F8 for the boot menu".to_owned()),
        timeout_secs: timeout_secs.unwrap_or(5),
        items,
    };
    let different: BTreeSet<_> = menu.items.iter().collect();
    if menu.items.is_empty() {
        let help = "write \"items\": [\"local\", \"stable\"], or leave `dhcp.menu` out for none";
        reader.error(value, format!("`{name}` has no items"), help);
    } else if different.len() < menu.items.len() {
        reader.error(value, format!("`{name}.items` has an item twice"), "write each item once");
    } else if menu.length() > LONGEST {
        let message =
            format!("`{name}` takes {} bytes of a reply, which has room for {LONGEST}", menu.length());
        reader.error(value, message, "write fewer items, shorter names or a shorter prompt");
    } else {
        return Some(menu);
    }
    None
}

/// Firmware shows ASCII, on one line.
fn prompt(text: &str) -> Result<(), &'static str> {
    if text.len() <= 80 && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        Ok(())
    } else {
        Err("write one line of at most 80 ASCII characters, as in \"Press F8 for the boot menu\"")
    }
}
