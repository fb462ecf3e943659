//! The PXE boot menu on the wire: option 43 of a reply that shows one, and the item that a client chose.
//!
//! PXE 2.1, tables 2-1 to 2-10 (option 43 and its tags), RFC 2132 8.4. Pure. The client draws the menu by itself; then it
//! asks the boot server of the chosen item, on port 4011, with tag 71.

use std::net::Ipv4Addr;

use crate::config::Menu;
use crate::config::menu::LOCAL;

/// The boot server type of the first item that names a profile: from here on they belong to the vendor.
const FIRST: u16 = 0x8000;
/// The type of the local disk, and of "the boot file of this server".
const BOOTSTRAP: u16 = 0;

/// What a client asks a boot server for: tag 71.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    kind: u16,
    layer: u16,
}

/// Option 43 that shows the menu; every item is to be asked for at this server.
pub fn shown(menu: &Menu, server: Ipv4Addr) -> Vec<u8> {
    let (mut servers, mut items) = (Vec::new(), Vec::new());
    for (kind, item) in kinds(menu) {
        let title = Menu::title(item);
        items.extend(kind.to_be_bytes());
        // The settings allow no longer one; see `config::menu::LONGEST`.
        items.push(u8::try_from(title.len()).unwrap_or_default());
        items.extend(title.as_bytes());
        if kind != BOOTSTRAP {
            servers.extend(kind.to_be_bytes());
            servers.push(1);
            servers.extend(server.octets());
        }
    }
    let prompt = [&[menu.timeout_secs], menu.prompt.as_bytes()].concat();
    // Discovery control 7: no multicast, no broadcast, only the servers of the list.
    let tags: [(u8, &[u8]); 4] = [(6, &[7]), (8, &servers), (9, &items), (10, &prompt)];
    let mut option = Vec::with_capacity(menu.length());
    for (tag, value) in tags.into_iter().filter(|(_, value)| !value.is_empty()) {
        option.push(tag);
        option.push(u8::try_from(value.len()).unwrap_or_default());
        option.extend(value);
    }
    option.push(255);
    option
}

/// The items with their boot server types.
fn kinds(menu: &Menu) -> impl Iterator<Item = (u16, &str)> {
    let kind = |(number, item): (u16, &'_ String)| if item == LOCAL { BOOTSTRAP } else { FIRST | number };
    (0..).zip(&menu.items).map(move |(number, item)| (kind((number, item)), item.as_str()))
}

/// What a client chose: tag 71 of its option 43, if it is there and whole.
pub fn choice(option: &[u8]) -> Option<Choice> {
    let mut rest = option;
    loop {
        rest = match rest {
            [0, after @ ..] => after,
            [71, 4, kind_high, kind_low, layer_high, layer_low, ..] => {
                let kind = u16::from_be_bytes([*kind_high, *kind_low]);
                return Some(Choice { kind, layer: u16::from_be_bytes([*layer_high, *layer_low]) });
            }
            [] | [_] | [255, ..] => return None,
            [_, length, after @ ..] => after.get(usize::from(*length)..)?,
        };
    }
}

/// What a choice means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// What the machine boots anyway.
    Own,
    /// This profile.
    Profile(&'a str),
    /// Nothing that is here: an item of an earlier menu, or another layer than the boot file itself.
    Nothing,
}

impl Choice {
    /// What the client wants, if this is the menu that it was shown.
    pub fn meaning(self, menu: Option<&Menu>) -> Meaning<'_> {
        let mut kinds = menu.into_iter().flat_map(kinds);
        match self {
            Self { kind: BOOTSTRAP, layer: 0 } => Meaning::Own,
            Self { kind, layer: 0 } => kinds
                .find(|(other, _)| *other == kind)
                .map_or(Meaning::Nothing, |(_, item)| Meaning::Profile(item)),
            _ => Meaning::Nothing,
        }
    }

    /// Option 43 of the answer, which says the same.
    pub fn answered(self) -> Vec<u8> {
        [&[71, 4], self.kind.to_be_bytes().as_slice(), &self.layer.to_be_bytes(), &[255]].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Choice, Meaning, choice, shown};
    use crate::config::Menu;
    use crate::config::menu::LONGEST;

    fn menu(items: &[&str]) -> Menu {
        let items = items.iter().map(|item| (*item).to_owned()).collect();
        Menu { prompt: "F8?".into(), timeout_secs: 5, items }
    }

    #[test]
    fn every_byte_of_a_menu() {
        let menu = menu(&["local", "stable", "beta"]);
        let option = shown(&menu, [192, 168, 90, 2].into());
        let want: &[&[u8]] = &[
            &[6, 1, 7],
            &[8, 14, 0x80, 1, 1, 192, 168, 90, 2, 0x80, 2, 1, 192, 168, 90, 2],
            &[9, 29, 0, 0, 10],
            b"Local disk",
            &[0x80, 1, 6],
            b"stable",
            &[0x80, 2, 4],
            b"beta",
            &[10, 4, 5],
            b"F8?",
            &[255],
        ];
        assert_eq!(option, want.concat());
        let local = Menu { items: vec!["local".into()], ..menu };
        assert_eq!(
            shown(&local, [192, 168, 90, 2].into()),
            *b"\x06\x01\x07\x09\x0d\0\0\x0aLocal disk\x0a\x04\x05F8?\xff"
        );
    }

    #[test]
    fn what_a_client_chose() {
        let menu = menu(&["local", "stable", "beta"]);
        let table: &[(&[u8], Option<Meaning<'_>>)] = &[
            (&[71, 4, 0x80, 1, 0, 0, 255], Some(Meaning::Profile("stable"))),
            (&[0, 6, 1, 7, 71, 4, 0x80, 2, 0, 0], Some(Meaning::Profile("beta"))),
            (&[71, 4, 0, 0, 0, 0, 255], Some(Meaning::Own)),
            // An item that is not there, the local disk by its place, a layer that is not the boot file, credentials.
            (&[71, 4, 0x80, 3, 0, 0, 255], Some(Meaning::Nothing)),
            (&[71, 4, 0x80, 0, 0, 0, 255], Some(Meaning::Nothing)),
            (&[71, 4, 0x80, 1, 0, 1, 255], Some(Meaning::Nothing)),
            (&[71, 4, 0x80, 1, 0x80, 0, 255], Some(Meaning::Nothing)),
            (&[], None),
            (&[255, 71, 4, 0x80, 1, 0, 0], None),
            (&[71, 4, 0x80, 1, 0], None),
            (&[71, 2, 0x80, 1, 255], None),
            (&[6, 200, 71, 4, 0x80, 1, 0, 0, 255], None),
            (&[71], None),
        ];
        for (option, want) in table {
            assert_eq!(choice(option).map(|choice| choice.meaning(Some(&menu))), *want, "{option:?}");
        }
        let stable = Choice { kind: 0x8001, layer: 0 };
        assert_eq!(stable.meaning(None), Meaning::Nothing, "there is no menu any more");
        assert_eq!(stable.answered(), [71, 4, 0x80, 1, 0, 0, 255]);
        assert_eq!(choice(&stable.answered()), Some(stable));
    }

    proptest! {
        #[test]
        fn the_length_is_known_before(
            prompt in "[ -~]{0,80}", timeout_secs in any::<u8>(), local in any::<bool>(),
            mut items in prop::collection::vec("[a-z]{1,64}", 1..12),
        ) {
            if local {
                items.push("local".into());
            }
            let mut menu = Menu { prompt, timeout_secs, items };
            while menu.length() > LONGEST {
                menu.items.remove(0);
            }
            prop_assert_eq!(shown(&menu, [192, 168, 90, 2].into()).len(), menu.length());
        }

        #[test]
        fn any_bytes_are_a_choice_or_none(option in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = choice(&option);
        }
    }
}
