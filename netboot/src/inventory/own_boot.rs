//! `boot` of a host in `pxe_hosts.json`: its own boot files.
//!
//! An object with a file for each class, or one file for all firmware that loads it over TFTP. iPXE and HTTP boot could do
//! nothing with that one, so they keep what their class has unless they are named.

use std::collections::BTreeMap;

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Range;
use netboot_ebpf::Class;

use crate::config::json::Reader;
use crate::config::{Boot, boot};

/// Reads it; `named` gets the first place that names each file below `tftp/`.
pub(super) fn read(reader: &mut Reader<'_>, host: &Object<'_>, named: &mut BTreeMap<String, Range>) -> Boot {
    let mut files = Boot::default();
    match host.get("boot").map(|member| &member.value) {
        None => {}
        Some(Value::Object(object)) => {
            reader.unique(object);
            for member in &object.properties {
                let name = member.name.as_str();
                if let Some(class) = boot::class(name) {
                    file(reader, &member.value, &format!("boot.{name}"), &[class], &mut files, named);
                } else {
                    let message = format!("`{name}` is no class of clients");
                    reader.error(&member.name, message, format!("use one of: {}", boot::NAMES));
                }
            }
        }
        Some(value) => {
            let classes: Vec<_> = Class::ALL.iter().copied().filter(|class| class.is_pxe()).collect();
            file(reader, value, "boot", &classes, &mut files, named);
        }
    }
    files
}

fn file(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    name: &str,
    classes: &[Class],
    files: &mut Boot,
    named: &mut BTreeMap<String, Range>,
) {
    let help = "write the name of a file in tftp/, or { \"efi64\": … } with a file for each class";
    let Some(file) = reader.text(name, value, help) else { return };
    for class in classes {
        if let Err(help) = boot::rule(*class, file) {
            return reader.error(value, format!("`{name}` is \"{file}\""), help);
        }
        files.set(*class, file);
    }
    if let Value::StringLit(literal) = value
        && !file.is_empty()
        && !boot::is_url(file)
    {
        named.entry(file.to_owned()).or_insert(literal.range);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use netboot_ebpf::Class;

    use super::read;
    use crate::config::Boot;
    use crate::config::json::{Reader, Source};

    fn boot(text: &str) -> (Boot, Vec<String>) {
        let source = Source::new(Path::new("f"), text);
        let mut reader = Reader::new(&source);
        let mut named = BTreeMap::new();
        let boot = read(&mut reader, &source.object().unwrap(), &mut named);
        assert!(reader.problems.is_empty(), "{:?}", reader.problems);
        (boot, named.into_keys().collect())
    }

    #[test]
    fn one_for_all_pxe_firmware_or_one_for_each() {
        assert_eq!(boot("{}"), (Boot::default(), vec![]));
        let (all, named) = boot(r#"{"boot": "own.efi"}"#);
        assert_eq!(named, ["own.efi"]);
        for class in Class::ALL {
            assert_eq!(all.get(*class), class.is_pxe().then_some("own.efi"), "{class:?}");
        }
        let (each, named) =
            boot(r#"{"boot": {"efi64": "a.efi", "http64": "http://192.0.2.1/b.efi", "ipxe": ""}}"#);
        assert_eq!(named, ["a.efi"], "a URL is not looked for in tftp/");
        let files = [(Class::Efi64, "a.efi"), (Class::Http64, "http://192.0.2.1/b.efi"), (Class::Ipxe, "")];
        assert_eq!(each, Boot::from_iter(files));
    }
}
