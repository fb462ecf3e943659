//! The inventory while the daemon runs: one snapshot that readers take without a lock, replaced whole when the
//! files change. A file with an error changes nothing but the list of problems.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecursiveMode, Watcher};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::again::Kept;
use super::load::load_again;
use super::{Loaded, Networks, Orders, Snapshot, loaders, profile, secrets, template};
use crate::config::problem::{Problem, Problems, Severity};

/// An editor writes a file in several steps: while one is open it is read when nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(200);
/// When all are closed or have got their names, what follows does so at once.
const DONE: Duration = Duration::from_millis(20);
/// It is read after this long even if changes go on.
const AT_LEAST_EVERY: Duration = Duration::from_secs(2);

/// The live inventory. Shared as `Arc<Inventory>`.
#[derive(Debug)]
pub struct Inventory {
    data: PathBuf,
    snapshots: Arc<ArcSwap<Snapshot>>,
    /// Of the last reading, also when it failed. Held while reading, so that two readings do not cross.
    last: Mutex<Last>,
    generation: watch::Sender<u64>,
    accepted: watch::Sender<bool>,
}

#[derive(Debug)]
struct Last {
    networks: Networks,
    problems: Arc<[Problem]>,
    missing: bool,
    kept: Option<Kept>,
    orders: Arc<Orders>,
}

impl Inventory {
    /// Reads the data directory for the first time; warnings are logged.
    ///
    /// # Errors
    /// When `pxe_hosts.json` or a profile has errors: all of them.
    pub fn open(data: PathBuf, networks: Networks) -> Result<Self, Problems> {
        let mut kept = None;
        let Loaded { snapshot, problems, missing } = load_again(&data, &networks, &mut kept);
        let Some(snapshot) = snapshot else { return Err(Problems(problems)) };
        log(&problems);
        let last = Last { networks, problems: problems.into(), missing, kept, orders: Arc::default() };
        let snapshots = Arc::new(ArcSwap::from_pointee(snapshot));
        Ok(Self {
            data,
            snapshots,
            last: Mutex::new(last),
            generation: watch::Sender::new(1),
            accepted: watch::Sender::new(true),
        })
    }

    /// Holds the hosts against these networks from now on.
    ///
    /// # Errors
    /// When hosts do not fit: all that is wrong. The snapshot stays as it was.
    pub fn set_networks(&self, networks: Networks) -> Result<(), Problems> {
        let mut last = self.lock();
        last.networks = networks;
        let accepted = self.read(&mut last);
        if accepted { Ok(()) } else { Err(Problems(last.problems.to_vec())) }
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The snapshot of this moment. Answer one request from one snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.load_full()
    }

    /// The place that always holds the latest snapshot.
    pub fn snapshots(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshots)
    }

    /// Counts the snapshots, from 1; changes after the snapshot did.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Whether the last reading was accepted.
    pub fn accepted(&self) -> watch::Receiver<bool> {
        self.accepted.subscribe()
    }

    /// What the last reading found wrong, whether or not its snapshot was taken.
    pub fn problems(&self) -> Arc<[Problem]> {
        Arc::clone(&self.lock().problems)
    }

    /// Whether the last reading found no `pxe_hosts.json`.
    pub fn missing(&self) -> bool {
        self.lock().missing
    }

    /// Reads the files again (blocking); `false` when the old snapshot was kept because of an error.
    pub fn reload(&self) -> bool {
        self.read(&mut self.lock())
    }

    /// Takes these orders in the place of those that there were.
    pub fn set_orders(&self, orders: Orders) {
        let mut last = self.lock();
        last.orders = Arc::new(orders);
        let snapshot = Snapshot::clone(&self.snapshots.load());
        self.replace(snapshot.with_orders(Arc::clone(&last.orders)));
    }

    fn replace(&self, snapshot: Snapshot) {
        self.snapshots.store(Arc::new(snapshot));
        self.generation.send_modify(|generation| *generation += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, last: &mut Last) -> bool {
        let Loaded { mut snapshot, mut problems, missing } =
            load_again(&self.data, &last.networks, &mut last.kept);
        if missing && self.snapshots.load().hosts().len() > 0 {
            // An editor may be about to put it back; nobody means to forget all machines by removing a file.
            snapshot = None;
            for problem in &mut problems {
                problem.severity = Severity::Error;
            }
        }
        let accepted = snapshot.is_some();
        if problems != *last.problems {
            log(&problems);
            if !accepted {
                tracing::error!("inventory: the last good snapshot stays in use");
            }
        }
        let snapshot = snapshot.map(|snapshot| snapshot.with_orders(Arc::clone(&last.orders)));
        if let Some(snapshot) = snapshot
            && snapshot != **self.snapshots.load()
        {
            tracing::info!(hosts = snapshot.hosts().len(), "inventory: new snapshot");
            self.replace(snapshot);
        }
        last.problems = problems.into();
        last.missing = missing;
        self.accepted.send_replace(accepted);
        accepted
    }

    /// Reloads whenever something in the data directory or in its `tftp/`, `profiles/`, `templates/` or `secrets/` changes, until `stop`. The directories are
    /// watched, not the files: editors replace a file by renaming another over it.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let changed = Arc::new(Notify::new());
        let writing = Arc::new(AtomicBool::new(false));
        let (notice, seen) = (Arc::clone(&changed), Arc::clone(&writing));
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let change = event.map_or(Change::Unfinished, |event| Change::of(event.kind));
            match change {
                Change::None => return,
                Change::Unfinished => seen.store(true, Ordering::Release),
                Change::Finished => seen.store(false, Ordering::Release),
            }
            notice.notify_one();
        });
        let watching = watcher.and_then(|mut watcher| {
            watcher.watch(&self.data, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let mut watcher = match watching {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(
                    "inventory: {} cannot be watched ({error}); after an edit send SIGHUP",
                    self.data.display()
                );
                return;
            }
        };
        // What was edited before the watch began.
        changed.notify_one();
        let running = async {
            loop {
                changed.notified().await;
                let quiet = || if writing.load(Ordering::Acquire) { QUIET } else { DONE };
                let settled =
                    async { while tokio::time::timeout(quiet(), changed.notified()).await.is_ok() {} };
                let _ = tokio::time::timeout(AT_LEAST_EVERY, settled).await;
                // Boot loaders and profiles come and go. Directories are watched anew each time, for one may have been replaced or made just now.
                for directory in
                    [loaders::DIRECTORY, profile::DIRECTORY, template::DIRECTORY, secrets::DIRECTORY]
                {
                    let _ = watcher.watch(&self.data.join(directory), RecursiveMode::NonRecursive);
                }
                let this = Arc::clone(&self);
                if let Err(error) = tokio::task::spawn_blocking(move || this.reload()).await {
                    tracing::error!("inventory: reading failed: {error}");
                }
            }
        };
        stop.run_until_cancelled(running).await;
    }
}

/// What an event means for the content of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing, as that a template was read.
    None,
    /// More is to come, as when a file is made or written.
    Unfinished,
    /// A file is closed or has got its name.
    Finished,
}

impl Change {
    fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => Self::Finished,
            EventKind::Access(_) => Self::None,
            _ => Self::Unfinished,
        }
    }
}

fn log(problems: &[Problem]) {
    for problem in problems {
        match problem.severity {
            Severity::Error => tracing::error!("{problem}"),
            Severity::Warning => tracing::warn!("{problem}"),
        }
    }
}
