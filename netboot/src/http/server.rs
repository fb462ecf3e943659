//! Runs the application on sockets that somebody else bound, until it is told to stop: one for HTTP, and one for HTTPS if there
//! is a certificate. Their connections have the same limits, and are counted together.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::connection::Connection;
use super::handover::Handover;
use super::listener::{Listener, Open};
use super::tls::Certificate;

/// How long a connection may move no byte, and how long a request may take from its first byte to its last.
const IDLE: Duration = Duration::from_secs(30);
/// How long answers under way may take after the stop signal.
const GRACE: Duration = Duration::from_secs(3);
/// Bytes of a request's line and headers: more is answered with 431.
const LARGEST_HEAD: usize = 16 << 10;

/// Threads; with so many the network is what is slow. All that sleep and listen are woken by a new connection.
const MOST_THREADS: usize = 4;

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
///
/// Each thread has a runtime and connections of its own, and nothing that was begun on one goes on on another: to wake another
/// thread for a new connection would cost more than to answer it. What machines ask for has no part in the time of those
/// threads that DHCP is served by.
///
/// # Errors
/// When there are no more threads or sockets to be had.
pub async fn run(sockets: impl Into<Sockets>, app: Router, stop: CancellationToken) -> io::Result<()> {
    let Sockets { plain, tls } = sockets.into();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let (secure, certificate) = tls.unzip();
    let secure = secure.map(|secure| shared(secure, threads)).transpose()?;
    let mut secure = secure.into_iter().flatten();
    let open = Arc::default();
    // Whoever lets go of this future ends it.
    let stop = stop.child_token();
    let _guard = stop.clone().drop_guard();
    let mut running = JoinSet::new();
    for (number, plain) in shared(plain, threads)?.into_iter().enumerate() {
        let is_first = number == 0;
        let secure = secure.next();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (app, stop, open, certificate) =
            (app.clone(), stop.clone(), Arc::clone(&open), certificate.clone());
        let (ended, has_ended) = oneshot::channel();
        std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            let plain = accept(plain, is_first, None, Arc::clone(&open), app.clone(), stop.clone());
            let secure = async move {
                match secure {
                    Some(secure) => accept(secure, is_first, certificate, open, app, stop).await,
                    None => Ok(()),
                }
            };
            // As a task: what the runtime itself waits for is woken through the kernel even by its own thread.
            let serving = runtime.spawn(async { tokio::try_join!(plain, secure).map(drop) });
            let served = runtime.block_on(serving).map_err(io::Error::other).flatten();
            // What is not over by now is not waited for.
            runtime.shutdown_background();
            let _ = ended.send(served);
        })?;
        running.spawn(has_ended);
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(io::Error::other)?.map_err(io::Error::other)??;
    }
    Ok(())
}

/// The same socket so many times: whichever thread has time takes the next connection from it.
fn shared(listener: TcpListener, count: usize) -> io::Result<Vec<StdListener>> {
    let listener = Socket::from(listener.into_std()?);
    // Connections have it from their socket. A cloud-config is one small segment: do not hold it back for more.
    listener.set_tcp_nodelay(true)?;
    let listener = StdListener::from(listener);
    let more: io::Result<Vec<_>> = (1..count).map(|_| listener.try_clone()).collect();
    Ok(std::iter::once(listener).chain(more?).collect())
}

/// Lets what is to be done on this thread be done, without a look at what else has come.
async fn after_others() {
    let mut is_over = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Accepts connections on this thread, the first one or one that helps when it is busy, and serves them.
async fn accept(
    socket: StdListener,
    is_first: bool,
    certificate: Option<Arc<Certificate>>,
    open: Arc<Open>,
    app: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections = TaskTracker::new();
    let begin = |connection: Connection, addr: SocketAddr| {
        let (app, stop) = (app.clone(), stop.clone());
        match certificate.clone() {
            None => {
                let handover = Some(connection.handover());
                connections.spawn(serve(connection, addr, handover, app, stop));
            }
            Some(certificate) => {
                connections.spawn(async move {
                    match certificate.accept(connection).await {
                        Ok(connection) => serve(connection, addr, None, app, stop).await,
                        Err(error) => tracing::debug!(addr = %addr.ip(), "HTTPS: no handshake: {error}"),
                    }
                });
            }
        }
        // Who has a request to answer leaves the next connection to others.
        after_others()
    };
    let listening = async {
        if is_first {
            let mut listener = Listener::new(socket, IDLE, &open)?;
            loop {
                let (connection, addr) = listener.accept().await;
                begin(connection, addr).await;
                listener.adapt();
            }
        }
        loop {
            open.busy().await;
            let mut listener = Listener::new(socket.try_clone()?, IDLE, &open)?;
            while let Some((connection, addr)) = listener.accept_when_busy().await {
                begin(connection, addr).await;
            }
        }
    };
    let failed: io::Result<Infallible> = tokio::select! {
        biased;
        () = stop.cancelled() => {
            connections.close();
            // Who has asked gets its answer.
            let _ = tokio::time::timeout(GRACE, connections.wait()).await;
            return Ok(());
        }
        failed = listening => failed,
    };
    failed.map(|never| match never {})
}

/// Whether a client wants no other answer on its connection (RFC 9112 9.3). One that says so in other words gets its answers as
/// they come.
fn is_last<B>(request: &Request<B>) -> bool {
    let said = request.headers().get(header::CONNECTION).map(HeaderValue::as_bytes);
    match request.version() {
        Version::HTTP_11 => said.is_some_and(|said| said.eq_ignore_ascii_case(b"close")),
        _ => said.is_none(),
    }
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
            if is_last(&request) {
                handover.set_last();
            }
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

#[cfg(test)]
mod tests {
    use axum::http::{Request, Version};

    use super::is_last;

    #[test]
    fn the_last_request_of_a_connection() {
        let table = [
            (Version::HTTP_11, None, false),
            (Version::HTTP_11, Some("keep-alive"), false),
            (Version::HTTP_11, Some("Close"), true),
            (Version::HTTP_10, None, true),
            (Version::HTTP_10, Some("keep-alive"), false),
        ];
        for (version, said, expected) in table {
            let mut request = Request::get("/").version(version);
            if let Some(said) = said {
                request = request.header("connection", said);
            }
            assert_eq!(is_last(&request.body(()).unwrap()), expected, "{version:?} {said:?}");
        }
    }
}
