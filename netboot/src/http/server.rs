//! Runs the application on a socket that somebody else bound, until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long answers under way may take after the stop signal.
const GRACE: Duration = Duration::from_secs(3);

/// Serves until `stop`, then finishes what is under way, for a bounded time.
///
/// # Errors
/// When the socket fails for good.
pub async fn run(listener: TcpListener, app: Router, stop: CancellationToken) -> io::Result<()> {
    // A cloud-config is one small segment: do not hold it back for more.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
    let cut_off = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = serving => ended,
        () = cut_off => Ok(()),
    }
}
