//! Gives the XDP program each new snapshot and each lease, as long as the daemon serves; then takes it off or leaves it for a
//! successor.
//!
//! Decides nothing: what the program is to answer is made in `fastpath`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::contested::Contested;
use crate::dhcp::lease::News;
use crate::fastpath::{self, Changed, Fastpath};
use crate::inventory::Inventory;
use crate::timeline::Timeline;

/// While a reserved address is somebody else's, it is looked after this often.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Leases that are told to the XDP program in one go.
const AT_ONCE: usize = 256;

/// What XDP is told of.
pub(super) struct Followed {
    pub(super) inventory: Arc<Inventory>,
    pub(super) news: watch::Receiver<u64>,
    pub(super) leases: Option<mpsc::UnboundedReceiver<News>>,
}

/// Looks at each new snapshot for reserved addresses that others have, and gives it to the XDP program without these, until
/// told to stop; then detaches the program, or leaves it for a successor.
pub(super) async fn follow(
    mut contested: Contested,
    mut fastpath: Option<Fastpath>,
    followed: Followed,
    timeline: Timeline,
    stop: CancellationToken,
    stays: Arc<AtomicBool>,
) -> Result<()> {
    let Followed { inventory, mut news, leases: mut bound } = followed;
    let mut leases = Vec::new();
    // Counts from the last look, whatever leases are told of in between.
    let mut again = tokio::time::interval_at(tokio::time::Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
    loop {
        let new = tokio::select! {
            () = stop.cancelled() => break,
            result = news.changed() => {
                result.context("the inventory is gone")?;
                true
            }
            _ = again.tick(), if !contested.taken().is_empty() => false,
            // A microsecond each, so this may be done here.
            number = received(&mut bound, &mut leases) => {
                match (number, &mut fastpath) {
                    // The server has ended, and so will this.
                    (0, _) => bound = None,
                    (_, Some(fastpath)) => {
                        told_leases(fastpath.follow_leases(&leases, &inventory.snapshot()));
                    }
                    _ => {}
                }
                leases.clear();
                continue;
            }
        };
        let (snapshot, told) = (inventory.snapshot(), timeline.clone());
        // A hundred thousand entries take a while; nobody else waits for them.
        (contested, fastpath) = tokio::task::spawn_blocking(move || {
            let changed = contested.look(&snapshot, new);
            if let Some(fastpath) = &mut fastpath
                && (new || changed)
            {
                updated(fastpath.update(&snapshot, contested.taken()), &told);
            }
            (contested, fastpath)
        })
        .await?;
        again.reset();
    }
    let stays = stays.load(Ordering::Acquire);
    tokio::task::spawn_blocking(
        move || if stays { leave(fastpath) } else { fastpath.map_or((), Fastpath::close) },
    )
    .await?;
    Ok(())
}

/// Waits for news of leases, for ever where nobody tells any; 0: the server has ended.
async fn received(bound: &mut Option<mpsc::UnboundedReceiver<News>>, leases: &mut Vec<News>) -> usize {
    match bound {
        Some(bound) => bound.recv_many(leases, AT_ONCE).await,
        None => std::future::pending().await,
    }
}

/// Says that leases could not be told to the XDP program, which can be so of thousands.
fn told_leases(result: Result<(), fastpath::Error>) {
    if let Err(error) = result {
        tracing::debug!("XDP: {error:#}; the machines concerned are answered by the daemon");
    }
}

/// Leaves the program for a successor, and says what became of that.
fn leave(fastpath: Option<Fastpath>) {
    match fastpath.map_or_else(|| Err("XDP is off".to_owned()), Fastpath::leave) {
        Ok(()) => tracing::info!(
            "XDP answers for {} s more; a netboot that starts on this interface takes it over, later it passes everything",
            fastpath::GRACE.as_secs()
        ),
        Err(why) => tracing::warn!("SIGUSR1 is like SIGTERM here, nothing answers for a successor: {why}"),
    }
}

/// Says what became of an update of the XDP program's map.
pub(super) fn updated(result: Result<Changed, fastpath::Error>, timeline: &Timeline) {
    match result {
        Ok(Changed { added, replaced, removed, templates, no_slot, build, write }) => {
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let (build, write) = (micros(build), micros(write));
            timeline.set("xdp", "last-build-us", build);
            timeline.set("xdp", "last-write-us", write);
            tracing::info!(added, replaced, removed, templates, build, write, "XDP has the new machines");
            if no_slot > 0 {
                tracing::warn!(
                    "{no_slot} replies have no room in the XDP program and are sent by the daemon: so many machines have boot files or options of their own"
                );
            }
        }
        Err(error) => tracing::error!(
            "XDP: {:#}; machines it does not have are answered by the daemon",
            anyhow::Error::from(error)
        ),
    }
}
