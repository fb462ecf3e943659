//! Runs the application on a socket that somebody else bound, until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connection::Limited;

/// How long a connection may move no byte.
const IDLE: Duration = Duration::from_secs(30);
/// How long answers under way may take after the stop signal.
const GRACE: Duration = Duration::from_secs(3);

/// Serves until `stop`, then finishes what is under way, for a bounded time.
///
/// # Errors
/// When the socket fails for good.
pub async fn run(listener: TcpListener, app: Router, stop: CancellationToken) -> io::Result<()> {
    // axum knows how to learn the client's address from its own kinds of listener only; `tap_io` makes it one.
    let listener = Limited::new(listener, IDLE).tap_io(|connection| connection.send_at_once());
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
