//! Orders for machines' next boots: kept in the store, put into the snapshot, and done with when a machine has got what it boots.
//!
//! A boot that fails half-way is tried again with the same order: only the last file that a profile names ends it, when it
//! was sent whole. Where there is no telling, as for a script, the configuration itself does.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use crate::inventory::orders::When;
use crate::inventory::{Host, Inventory, Order, Snapshot, orders};
use crate::loader::{Asked, Request, Site, Whose};
use crate::mac::Mac;
use crate::store::{self, Change};

const PREFIX: &str = "order/";

/// What is ordered. Shared as `Arc<Orders>`.
#[derive(Debug)]
pub struct Orders {
    inventory: Arc<Inventory>,
    kept: Mutex<Kept>,
    /// Files that were sent whole; the disk is not waited for where they are sent.
    sent: mpsc::Sender<(Ipv4Addr, String)>,
}

#[derive(Debug, Default)]
struct Kept {
    orders: orders::Orders,
    store: Option<store::Beside>,
}

/// Why an order is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has this MAC.
    #[error("no machine of pxe_hosts.json has the MAC {0}")]
    NoMachine(Mac),
    /// There is no such profile.
    #[error("there is no profile `{0}` that says what to boot")]
    NoProfile(String),
    /// It could not be written down.
    #[error("it cannot be kept")]
    Store(#[from] store::Error),
    /// There is no store.
    #[error("it cannot be kept: this server is just starting")]
    NoStore,
}

impl Error {
    /// With its cause.
    pub fn told(&self) -> String {
        let cause = std::error::Error::source(self).map_or_else(String::new, |cause| format!(": {cause}"));
        format!("{self}{cause}")
    }
}

impl Orders {
    /// None yet. Starts the thread that carries out what [`Self::sent`] tells; it ends with this.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(inventory: Arc<Inventory>) -> std::io::Result<Arc<Self>> {
        let (sent, files) = mpsc::channel();
        let this = Arc::new(Self { inventory, kept: Mutex::default(), sent });
        let orders = Arc::downgrade(&this);
        std::thread::Builder::new().name("orders".into()).spawn(move || {
            while let Ok((addr, file)) = files.recv() {
                let Some(orders) = orders.upgrade() else { break };
                orders.carried_out(addr, &file);
            }
        })?;
        Ok(this)
    }

    /// Takes over what a store has, and keeps orders there from now on.
    pub fn keep_in(&self, store: store::Beside, entries: &[(String, Vec<u8>)]) {
        let read = |(key, value): &(String, Vec<u8>)| {
            let mac = key.strip_prefix(PREFIX)?;
            let read = mac.parse::<Mac>().ok().zip(serde_json::from_slice::<Order>(value).ok());
            if read.is_none() {
                tracing::error!("the record {key} of the store cannot be read; it is left out");
            }
            read
        };
        let mut kept = self.lock();
        *kept = Kept { orders: entries.iter().filter_map(read).collect(), store: Some(store) };
        if !kept.orders.is_empty() {
            self.inventory.set_orders(kept.orders.clone());
        }
    }

    /// Takes an order for a machine, or with `None` takes it back (blocking).
    ///
    /// # Errors
    /// Why not; then all is as it was.
    pub fn set(&self, mac: Mac, order: Option<Order>) -> Result<(), Error> {
        let snapshot = self.inventory.snapshot();
        let host = snapshot.by_mac(mac).ok_or(Error::NoMachine(mac))?;
        if let Some(Order { profile, .. }) = &order
            && snapshot.profiles().get(profile).is_none()
        {
            return Err(Error::NoProfile(profile.clone()));
        }
        if let Some(Order { profile, when }) = &order {
            tracing::info!(%mac, addr = %host.addr, profile, ?when, "ordered for the next boot");
        } else {
            tracing::info!(%mac, addr = %host.addr, "boots by its profile again");
        }
        self.put(mac, order)
    }

    fn put(&self, mac: Mac, order: Option<Order>) -> Result<(), Error> {
        let mut kept = self.lock();
        let key = format!("{PREFIX}{mac}");
        let change = match &order {
            Some(order) => {
                let value = serde_json::json!(order).to_string().into_bytes();
                Change::Put { key, value }
            }
            None => Change::Delete { key },
        };
        kept.store.as_ref().ok_or(Error::NoStore)?.commit(&[change])?;
        match order {
            Some(order) => drop(kept.orders.insert(mac, order)),
            None => drop(kept.orders.remove(&mac)),
        }
        self.inventory.set_orders(kept.orders.clone());
        Ok(())
    }

    /// Whether there is one for who has this address.
    pub fn concern(&self, to: IpAddr) -> bool {
        let IpAddr::V4(addr) = to.to_canonical() else { return false };
        let snapshot = self.inventory.snapshot();
        snapshot.by_addr(addr).is_some_and(|host| snapshot.order(host).is_some())
    }

    /// A file was sent whole to this address. Waits for nothing.
    pub fn sent(&self, to: IpAddr, file: &str) {
        if let IpAddr::V4(addr) = to.to_canonical()
            && self.concern(to)
        {
            // Slashes mean as little here as where it was opened.
            let parts: Vec<_> = file.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            let _ = self.sent.send((addr, parts.join("/")));
        }
    }

    fn carried_out(&self, addr: Ipv4Addr, file: &str) {
        let snapshot = self.inventory.snapshot();
        let Some(host) = snapshot.by_addr(addr) else { return };
        let Some(Order { profile, when }) = snapshot.order(host) else { return };
        if !is_over(&snapshot, host, *when, file) {
            return;
        }
        let (mac, used) = (host.mac, Order { profile: profile.clone(), when: When::Used });
        let order = (*when == When::Once).then_some(used);
        match self.put(mac, order) {
            Ok(()) => tracing::info!(%mac, %addr, file, profile, "what was ordered is done with"),
            Err(error) => {
                tracing::error!(%mac, %addr, "what was ordered is done with, and {}", error.told());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an order has come to its end, now that its machine has got this file.
fn is_over(snapshot: &Snapshot, host: &Host, when: When, file: &str) -> bool {
    match when {
        When::Always => false,
        // A new boot begins.
        When::Used => Asked::of(file).is_some(),
        When::Once => {
            let site = Site { server: Ipv4Addr::UNSPECIFIED, http_port: 0 };
            // What was sent is there.
            let request = Request { snapshot, addr: Some(host.addr), site, there: &|_| true };
            request.plan(Whose::Callers).is_some_and(|plan| plan.ends_with(file))
        }
    }
}

#[cfg(test)]
mod tests;
