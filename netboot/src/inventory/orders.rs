//! What machines boot for a while, whatever the files say: ordered by the operator for one boot, or until told otherwise.
//!
//! Pure. Kept and carried out in [`crate::orders`].

use std::collections::BTreeMap;

use super::{Host, Snapshot};
use crate::mac::Mac;

/// Orders by machine.
pub type Orders = BTreeMap<Mac, Order>;

/// What a machine is to boot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Order {
    /// The profile.
    pub profile: String,
    /// How long.
    pub when: When,
}

/// How long an order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Until a machine has got all that it boots.
    Once,
    /// Until told otherwise.
    Always,
    /// No longer: the machine has got it. What it boots still has the profile's template, until the next boot.
    Used,
}

impl Snapshot {
    /// The profile that was ordered for a machine's next boot.
    pub fn ordered(&self, host: &Host) -> Option<&str> {
        let order = self.order(host)?;
        (order.when != When::Used).then_some(order.profile.as_str())
    }

    /// The order of a machine, carried out or not.
    pub fn order(&self, host: &Host) -> Option<&Order> {
        self.orders.get(&host.mac)
    }
}
