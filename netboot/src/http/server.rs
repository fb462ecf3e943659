//! Runs the application on sockets that somebody else bound, until it is told to stop: one for HTTP, and one for HTTPS if there
//! is a certificate. Their connections have the same limits, and are counted together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::connection::{Limited, Open};
use super::handover::Handover;
use super::tls::Certificate;

/// How long a connection may move no byte, and how long a request may take from its first byte to its last.
const IDLE: Duration = Duration::from_secs(30);
/// How long answers under way may take after the stop signal.
const GRACE: Duration = Duration::from_secs(3);
/// Bytes of a request's line and headers: more is answered with 431.
const LARGEST_HEAD: usize = 16 << 10;

/// Where it listens.
#[derive(Debug)]
pub struct Sockets {
    /// HTTP.
    pub plain: TcpListener,
    /// HTTPS.
    pub tls: Option<(TcpListener, Arc<Certificate>)>,
}

impl From<TcpListener> for Sockets {
    fn from(plain: TcpListener) -> Self {
        Self { plain, tls: None }
    }
}

/// Serves until `stop`, then finishes what is under way, for a bounded time.
pub async fn run(sockets: impl Into<Sockets>, app: Router, stop: CancellationToken) {
    let Sockets { plain, tls } = sockets.into();
    let open = Arc::default();
    let plain = accept(plain, None, &open, &app, &stop);
    let tls = async {
        if let Some((listener, certificate)) = tls {
            accept(listener, Some(certificate), &open, &app, &stop).await;
        }
    };
    tokio::join!(plain, tls);
}

async fn accept(
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    open: &Arc<Open>,
    app: &Router,
    stop: &CancellationToken,
) {
    let mut listener = Limited::new(listener, IDLE, open);
    let mut connections = JoinSet::new();
    loop {
        let (connection, addr) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (app, stop) = (app.clone(), stop.clone());
        match certificate.clone() {
            None => {
                let handover = Some(connection.handover());
                connections.spawn(serve(connection, addr, handover, app, stop))
            }
            Some(certificate) => connections.spawn(async move {
                match certificate.accept(connection).await {
                    Ok(connection) => serve(connection, addr, None, app, stop).await,
                    Err(error) => tracing::debug!(addr = %addr.ip(), "HTTPS: no handshake: {error}"),
                }
            }),
        };
    }
    // Who has asked gets its answer; what is not over by then ends with this set.
    let _ = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

/// One connection, request after request.
async fn serve(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    addr: SocketAddr,
    handover: Option<Handover>,
    app: Router,
    stop: CancellationToken,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(addr));
        if let Some(handover) = &handover {
            request.extensions_mut().insert(handover.clone());
        }
        // A router is always ready.
        app.clone().call(request)
    });
    let mut http = http1::Builder::new();
    let connection = http.max_buf_size(LARGEST_HEAD).serve_connection(TokioIo::new(connection), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(addr = %addr.ip(), "HTTP: connection ended: {error}");
    }
}
