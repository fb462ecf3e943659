//! What the program in the kernel says in words (aya-log): of what should hardly ever happen. They become lines of the log.

use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};

/// Reads the words.
pub(super) type Words = EbpfLogger<Lines>;

/// Writes them into the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let said = record.args();
        match record.level() {
            Level::Error => tracing::error!("XDP: {said}"),
            Level::Warn => tracing::warn!("XDP: {said}"),
            _ => tracing::info!("XDP: {said}"),
        }
    }

    fn flush(&self) {}
}
