//! Log lines: to standard error, as text or JSON. `NETBOOT_LOG` filters them as `tracing`'s `EnvFilter` reads it.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::args::LogFormat;

/// Whether standard error is a terminal.
pub(super) fn terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether colours are wanted: on a terminal, unless `NO_COLOR` says otherwise (no-color.org).
pub(super) fn colours() -> bool {
    terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Starts logging.
///
/// # Errors
/// What is wrong with `NETBOOT_LOG`.
pub(super) fn start(format: LogFormat) -> Result<(), String> {
    let filter = match std::env::var("NETBOOT_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| {
            format!(
                "NETBOOT_LOG is `{text}`: {error}; write a level as in `debug`, or `info,netboot::dhcp=debug`"
            )
        })?,
        // The netlink library warns when an answer is no longer waited for.
        _ => EnvFilter::new("info,netlink_proto=error"),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(colours()).init(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
    }
    Ok(())
}
