//! Listens for machines that XDP has answered and that have nothing to boot: the DHCP server says so of those that it
//! answers itself.

use std::sync::Arc;

use crate::config::Settings;
use crate::dhcp::missing;
use crate::inventory::Inventory;
use crate::timeline::{By, Step, Timeline};

/// What the timeline calls at each step.
pub(super) fn listener(
    settings: &Settings,
    inventory: &Arc<Inventory>,
) -> impl Fn(&Timeline, &Step) + Send + Sync + use<> {
    let (boot, custom) = (settings.boot.clone(), settings.dhcp.custom.clone());
    let snapshots = inventory.snapshots();
    move |timeline, step| {
        if let Step::Dhcp { mac, class, by: By::Xdp, reply: "offer", .. } = step {
            missing::tell(&boot, &custom, &snapshots.load(), *mac, *class, timeline);
        }
    }
}
