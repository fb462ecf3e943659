//! Whose request it is, when it has another card than the machine of the inventory. Part of the server.

use super::leasing::Job;
use super::wall;
use crate::dhcp::cards::{self, Cards};
use crate::dhcp::wire::Request;
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::store::Writer;
use crate::uuid::Uuid;

/// Makes a request of another card of a machine that machine's, and remembers the card. Nothing waits for the disk.
pub(super) fn recognise(request: &mut Request, cards: &mut Cards, writer: &Writer<Job>, snapshot: &Snapshot) {
    let (card, says) = (request.card(), request.machine());
    let host = cards::whose(card, says, cards, snapshot);
    if let Some(says) = says {
        let changes = cards.says(card, says, host, snapshot, wall());
        if !changes.is_empty() && writer.submit(changes, Job::Card(card)).is_err() {
            cards.written(card, false);
        }
    }
    if let Some(host) = host {
        request.mac = host.mac;
    }
}

/// Says that there is another card of a machine, now that it is on disk.
pub(super) fn tell(card: Mac, uuid: Uuid, snapshot: &Snapshot) {
    if let Some(host) = snapshot.by_uuid(uuid) {
        let name = &host.hostname;
        tracing::info!(mac = %host.mac, addr = %host.addr, %card, "{card} is another card of {name} (uuid {uuid})");
    }
}
