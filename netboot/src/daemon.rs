//! The one place that opens privileged things and puts the parts together.

use std::sync::Arc;

use crate::config::Settings;
use crate::inventory::Inventory;

/// Serves until it is told to stop.
///
/// # Errors
/// When something that it cannot do without fails; `Problems` when the data directory does not fit the interface.
pub async fn serve(settings: Settings, inventory: Arc<Inventory>) -> anyhow::Result<()> {
    tracing::info!(
        interface = settings.interface,
        hosts = inventory.snapshot().hosts().len(),
        "settings read"
    );
    tokio::signal::ctrl_c().await?;
    Ok(())
}
