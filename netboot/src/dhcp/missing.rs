//! Says which file a machine wants, whoever has answered it, and not at each of its packets.

use netboot_ebpf::Class;

use super::boot;
use crate::config::Boot;
use crate::config::options::Custom;
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::timeline::{News, Timeline};

/// Says what to do so that a machine has something to boot, unless it is meant to have nothing.
pub fn tell(
    settings: &Boot,
    custom: &Custom,
    snapshot: &Snapshot,
    mac: Mac,
    class: Class,
    timeline: &Timeline,
) {
    if boot::lacks_file(settings, custom, snapshot, mac, class) && timeline.is_news(News::NoFile(mac, class))
    {
        let (class, help) = (class.name(), boot::remedy(class));
        tracing::warn!(%mac, class, help, "there is no boot file for this machine");
    }
}
