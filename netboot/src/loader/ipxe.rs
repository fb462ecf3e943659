//! The script for iPXE. Its files come over HTTP, whatever it came by itself.
//!
//! What fails is tried again with a script that is fetched anew.

use std::fmt::Write as _;

use super::{Entry, PAUSE_SECS, Plan, Site, Task, relative};
use crate::config::boot;

/// The label behind which it is tried again.
const FAILED: &str = "netboot-failed";

/// The text.
pub fn text(plan: &Plan, site: Site) -> String {
    let mut text = format!(
        "#!ipxe\n# Made by netboot. A file tftp/boot.ipxe takes its place.\n\
         isset ${{ip}} || dhcp || goto {FAILED}\n"
    );
    if let (Some(menu), Some(first)) = (&plan.menu, plan.entries.first()) {
        let _ = writeln!(text, "menu {} || goto netboot-{}", word(&menu.title), first.name);
        for entry in &plan.entries {
            let _ = writeln!(text, "item {0} {0}", entry.name);
        }
        let timeout = match menu.timeout_secs {
            0 => String::new(),
            secs => format!(" --timeout {}", u32::from(secs) * 1000),
        };
        let _ = writeln!(
            text,
            "choose --default {}{timeout} chosen || goto {FAILED}\ngoto netboot-${{chosen}}",
            first.name
        );
    }
    for entry in &plan.entries {
        if plan.menu.is_some() {
            let _ = writeln!(text, ":netboot-{}", entry.name);
        }
        for line in lines(entry, site) {
            let _ = writeln!(text, "{line}");
        }
        if plan.menu.is_some() {
            let _ = writeln!(text, "goto {FAILED}");
        }
    }
    let _ = write!(
        text,
        ":{FAILED}\necho netboot: trying again in {PAUSE_SECS} seconds\nimgfree ||\nsleep {PAUSE_SECS} ||\n\
         chain --replace --autofree {}/ipxe || goto {FAILED}\n",
        site.http()
    );
    text
}

fn lines(entry: &Entry, site: Site) -> Vec<String> {
    let or = format!("|| goto {FAILED}");
    match &entry.task {
        Task::Linux { kernel, initrds, cmdline } => {
            // A UEFI kernel finds its initrds by these names, and others take no notice of them.
            let names: Vec<_> = (0..initrds.len()).map(|number| format!("initrd{number}")).collect();
            let mut words = vec!["kernel".to_owned(), url(kernel, site)];
            words.extend(names.iter().map(|name| format!("initrd={name}")));
            // These would end the command, and it knows no quotes.
            let ends = |word: &&str| ["||", "&&", ";"].contains(word) || word.starts_with('#');
            words.extend(cmdline.split_whitespace().filter(|word| !ends(word)).map(str::to_owned));
            let kernel = format!("{} {or}", words.join(" "));
            let initrds = initrds.iter().zip(&names);
            let initrds =
                initrds.map(|(file, name)| format!("initrd --name {name} {} {or}", url(file, site)));
            std::iter::once(kernel).chain(initrds).chain([format!("boot {or}")]).collect()
        }
        Task::Script(lines) => lines.iter().filter(|line| line.trim() != "#!ipxe").cloned().collect(),
        // Who comes back from there has done what it was to do.
        Task::Chain(file) => vec![format!("chain --autofree {} {or}", url(file, site)), "exit".to_owned()],
        Task::LocalDisk => {
            let disk = "iseq ${platform} pcbios && sanboot --no-describe --drive 0x80 ||";
            vec![disk.to_owned(), "exit 1".to_owned()]
        }
        Task::Wait(why) => vec![format!("echo netboot: {}", word(why))],
    }
}

/// A text that means nothing to iPXE but itself.
fn word(text: &str) -> String {
    text.replace("${", "$ {").replace("||", "| |").replace("&&", "& &").replace(';', ",")
}

/// A file's URL; in a path everything is escaped that means something there or to iPXE.
fn url(file: &str, site: Site) -> String {
    if boot::is_url(file) {
        return file.to_owned();
    }
    let mut url = site.http() + "/tftp/";
    for byte in relative(file).bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/+@:=!*()".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

#[cfg(test)]
mod tests;
