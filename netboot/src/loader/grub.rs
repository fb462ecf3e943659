//! The configuration of GRUB.
//!
//! What fails is tried again by reading the configuration anew, in a loop: a configuration that called itself would fill
//! GRUB's memory in a night.

use std::fmt::Write as _;

use super::{Entry, PAUSE_SECS, Plan, Programs, Road, Site, Task, is_kind, lacks, plan::IPXE_EFI, relative};

/// The text, for who has asked for `name`.
pub fn text(plan: &Plan, name: &str, site: Site, road: Road) -> String {
    let mut text = format!("# Made by netboot. A file tftp/{name} takes its place.\n");
    let place = Place { site, road };
    if let Some(menu) = &plan.menu {
        let timeout = if menu.timeout_secs == 0 { "-1".to_owned() } else { menu.timeout_secs.to_string() };
        let _ = writeln!(text, "# {}\nset default=0\nset timeout={timeout}", menu.title);
        for entry in &plan.entries {
            let _ = writeln!(text, "menuentry {} {{", quoted(&entry.name));
            for line in lines(entry, plan.programs, place) {
                let _ = writeln!(text, "  {line}");
            }
            // The menu would wait for somebody.
            let _ = writeln!(text, "  {}\n  sleep {PAUSE_SECS}\n  reboot\n}}", failed());
        }
        return text;
    }
    for line in plan.entries.iter().flat_map(|entry| lines(entry, plan.programs, place)) {
        let _ = writeln!(text, "{line}");
    }
    let again = place.file(name);
    let _ = write!(
        text,
        "{}\nsleep {PAUSE_SECS}\n\
         if [ \"$netboot_again\" != y ]; then\n  \
           set netboot_again=y\n  \
           while true; do\n    \
             if source {again}; then true; else sleep {PAUSE_SECS}; fi\n  \
           done\n\
         fi\n",
        failed()
    );
    text
}

fn failed() -> String {
    format!("echo 'netboot: trying again in {PAUSE_SECS} seconds'")
}

/// The commands of an entry. Behind them is what happens if they fail.
fn lines(entry: &Entry, programs: Programs, place: Place) -> Vec<String> {
    let say = |why: &str| vec![format!("echo {}", quoted(&format!("netboot: {why}")))];
    let program = |file: &str| vec![format!("if chainloader {}; then boot; fi", place.file(file))];
    match &entry.task {
        Task::Linux { kernel, initrds, cmdline } => {
            let words = cmdline.split_whitespace().map(quoted);
            let linux: Vec<_> = ["linux".to_owned(), place.file(kernel)].into_iter().chain(words).collect();
            let linux = linux.join(" ");
            if initrds.is_empty() {
                return vec![format!("if {linux}; then boot; fi")];
            }
            let files: Vec<_> = initrds.iter().map(|initrd| place.file(initrd)).collect();
            vec![
                format!("if {linux}; then"),
                format!("  if initrd {}; then boot; fi", files.join(" ")),
                "fi".to_owned(),
            ]
        }
        Task::Chain(file) if is_kind(file, "efi") => program(file),
        Task::Chain(_) | Task::Script(_) => match programs.ipxe_efi {
            Some(ipxe) => program(ipxe),
            None => say(&lacks(IPXE_EFI[0], &entry.name)),
        },
        Task::LocalDisk => vec!["exit 1".to_owned()],
        Task::Wait(why) => say(why),
    }
}

/// Where its files come from.
#[derive(Clone, Copy)]
struct Place {
    site: Site,
    road: Road,
}

impl Place {
    /// A file as GRUB names it, in quotes where these are needed.
    fn file(self, file: &str) -> String {
        let Site { server, http_port } = self.site;
        let relative = relative(file);
        let named = match (file.split_once("://"), self.road) {
            (Some((scheme, rest)), _) => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                format!("({scheme},{host})/{path}")
            }
            (None, Road::Tftp) => format!("(tftp,{server})/{relative}"),
            (None, Road::Http) => format!("(http,{server}:{http_port})/tftp/{relative}"),
        };
        quoted(&named)
    }
}

/// A word as GRUB's shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/=+@%()".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
