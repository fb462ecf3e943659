//! Listens for machines that XDP has answered and that have nothing to boot, since the DHCP server says so of those that it
//! answers itself; and for files that were sent whole, with which orders are done.

use std::sync::Arc;

use crate::config::Settings;
use crate::dhcp::missing;
use crate::inventory::Inventory;
use crate::orders::Orders;
use crate::timeline::{By, Step, Timeline};

/// What the timeline calls at each step.
pub(super) fn listener(
    settings: &Settings,
    inventory: &Arc<Inventory>,
    orders: &Arc<Orders>,
) -> impl Fn(&Timeline, &Step) + Send + Sync + use<> {
    let (boot, custom) = (settings.boot.clone(), settings.dhcp.custom.clone());
    let (snapshots, orders) = (inventory.snapshots(), Arc::clone(orders));
    move |timeline, step| match step {
        Step::Dhcp { mac, class, by: By::Xdp, reply: "offer", .. } => {
            missing::tell(&boot, &custom, &snapshots.load(), *mac, *class, timeline);
        }
        Step::TftpDone { peer, file, .. } => orders.sent(peer.ip(), file),
        _ => {}
    }
}
