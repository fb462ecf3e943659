//! The configuration of pxelinux (syslinux 6). File names have no directory before them: pxelinux looks for them where it
//! came from itself.
//!
//! What fails ends at its prompt, and the prompt at the time that is set: then the configuration is fetched again.

use std::fmt::Write as _;

use super::{Entry, PAUSE_SECS, Plan, Programs, Task, is_kind, lacks, plan::IPXE_BIOS, relative};
use crate::config::boot;

/// The label that fetches the configuration again.
const AGAIN: &str = "netboot-again";
/// The longest time that it knows, in tenths of a second.
const LONGEST: u32 = 35_996;

/// The text, for who has asked for `name`.
pub fn text(plan: &Plan, name: &str) -> String {
    let mut text = format!("# Made by netboot. A file tftp/{name} takes its place.\n");
    let first = plan.entries.first().map_or(AGAIN, |entry| entry.name.as_str());
    let shown = plan.menu.as_ref();
    let labels: Vec<_> = plan.entries.iter().map(|entry| label(entry, plan.programs)).collect();
    let waits = labels.first().is_some_and(Result::is_err);
    let stops = waits || shown.is_some();
    let secs = shown.filter(|_| !waits).map_or(PAUSE_SECS, |menu| menu.timeout_secs);
    let tenths = (u32::from(secs) * 10).min(LONGEST);
    let _ = writeln!(text, "DEFAULT {first}\nPROMPT {}\nTIMEOUT {tenths}", u8::from(stops));
    if !stops {
        let _ = writeln!(text, "ONTIMEOUT {AGAIN}");
    }
    if let Some(shown) = shown {
        if plan.programs.menu {
            let _ = writeln!(text, "UI menu.c32\nMENU TITLE {}", shown.title);
        } else {
            let _ = writeln!(text, "SAY {}", shown.title);
            for entry in &plan.entries {
                let _ = writeln!(text, "SAY   {}", entry.name);
            }
        }
    }
    for why in labels.iter().filter_map(|label| label.as_ref().err()) {
        let _ = writeln!(text, "SAY netboot: {why}");
    }
    for (entry, label) in plan.entries.iter().zip(&labels) {
        let _ = writeln!(text, "\nLABEL {}", entry.name);
        match label {
            Ok(lines) => lines.iter().for_each(|line| {
                let _ = writeln!(text, "  {line}");
            }),
            Err(_) => {
                let _ = writeln!(text, "  CONFIG {name}");
            }
        }
    }
    let _ = writeln!(text, "\nLABEL {AGAIN}\n  CONFIG {name}");
    text
}

/// The lines of a label, or why there are none.
fn label(entry: &Entry, programs: Programs) -> Result<Vec<String>, String> {
    let by_ipxe = || {
        let program = programs.ipxe_bios.ok_or_else(|| lacks(IPXE_BIOS[0], &entry.name))?;
        Ok(vec![format!("PXE {program}")])
    };
    match &entry.task {
        // Not KERNEL, which takes names that end in .0 or .img for something else.
        Task::Linux { kernel, initrds, cmdline } => {
            let initrds: Vec<_> = initrds.iter().map(|initrd| relative(initrd)).collect();
            let initrd =
                if initrds.is_empty() { String::new() } else { format!("initrd={} ", initrds.join(",")) };
            let append = format!("{initrd}{cmdline}");
            let append = (!append.is_empty()).then(|| format!("APPEND {}", append.trim_end()));
            Ok(std::iter::once(format!("LINUX {}", relative(kernel))).chain(append).collect())
        }
        Task::Chain(file) if !boot::is_url(file) && !is_kind(file, "ipxe") => {
            Ok(vec![format!("PXE {}", relative(file))])
        }
        Task::Chain(_) | Task::Script(_) => by_ipxe(),
        Task::LocalDisk => Ok(vec!["LOCALBOOT 0".to_owned()]),
        Task::Wait(why) => Err(why.clone()),
    }
}

#[cfg(test)]
mod tests;
