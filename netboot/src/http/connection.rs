//! Accepts connections, so that no client can hold what the others need: one that moves no byte for a while is
//! closed, and so is one too many, from one address or in all. hyper has no clock of its own here.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

/// Connections of one address. A boot loader opens one or two.
pub(super) const MOST_OF_ONE: usize = 64;
/// Connections in all.
const MOST: usize = 2048;

/// Open connections by address.
#[derive(Debug, Default)]
struct Open(Mutex<HashMap<IpAddr, usize>>);

impl Open {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a connection, if there is one.
    fn enter(self: &Arc<Self>, addr: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        let full = open.values().sum::<usize>() >= MOST;
        let of_one = open.entry(addr).or_default();
        if full || *of_one >= MOST_OF_ONE {
            if *of_one == 0 {
                open.remove(&addr);
            }
            return None;
        }
        *of_one += 1;
        Some(Place { open: Arc::clone(self), addr })
    }
}

/// The place of one connection, free again when dropped.
#[derive(Debug)]
struct Place {
    open: Arc<Open>,
    addr: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(of_one) = open.get_mut(&self.addr) {
            *of_one -= 1;
            if *of_one == 0 {
                open.remove(&self.addr);
            }
        }
    }
}

/// A listener whose connections are limited.
#[derive(Debug)]
pub(super) struct Limited {
    listener: TcpListener,
    idle: Duration,
    open: Arc<Open>,
}

impl Limited {
    /// Limits the connections of a listener; one that is idle for longer is closed.
    pub(super) fn new(listener: TcpListener, idle: Duration) -> Self {
        Self { listener, idle, open: Arc::default() }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, addr) = Listener::accept(&mut self.listener).await;
            let Some(place) = self.open.enter(addr.ip()) else {
                tracing::warn!(addr = %addr.ip(), "HTTP: connection refused, too many are open");
                continue;
            };
            let timer = Box::pin(tokio::time::sleep(self.idle));
            return (
                Connection { stream, idle: self.idle, moved: Instant::now(), timer, _place: place },
                addr,
            );
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when it is idle for too long.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    idle: Duration,
    /// When it last moved a byte.
    moved: Instant,
    timer: Pin<Box<Sleep>>,
    _place: Place,
}

impl Connection {
    /// A cloud-config is one small segment: do not hold it back for more.
    pub(super) fn send_at_once(&self) {
        let _ = self.stream.set_nodelay(true);
    }

    /// Passes on what the stream said, unless it said nothing for too long.
    fn unless_idle<T>(
        &mut self,
        said: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if said.is_ready() {
            self.moved = Instant::now();
            return said;
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            let end = self.moved + self.idle;
            if end <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.timer.as_mut().reset(end);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.unless_idle(said, context)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_idle(said, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.unless_idle(said, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A TCP stream has nothing to flush: ready at once, and no sign of life.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::serve::Listener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Limited, MOST_OF_ONE};

    async fn limited(idle: Duration) -> (Limited, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (Limited::new(listener, idle), addr)
    }

    #[tokio::test]
    async fn a_silent_client_is_cut_off_and_a_slow_one_is_not() {
        let (mut listener, addr) = limited(Duration::from_millis(1500)).await;
        let mut client = TcpStream::connect(addr).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        let begun = std::time::Instant::now();
        let mut byte = [0];
        // Each byte comes well within the limit, all of them do not.
        for _ in 0..7 {
            let waited =
                tokio::time::timeout(Duration::from_millis(250), connection.read_exact(&mut byte)).await;
            assert!(waited.is_err());
            client.write_all(b"x").await.unwrap();
            connection.read_exact(&mut byte).await.unwrap();
        }
        assert!(begun.elapsed() > Duration::from_millis(1500));
        assert_eq!(connection.read_exact(&mut byte).await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn one_address_has_so_many_connections_and_no_more() {
        let (mut listener, addr) = limited(Duration::from_mins(1)).await;
        let mut held = Vec::new();
        for _ in 0..MOST_OF_ONE {
            let client = TcpStream::connect(addr).await.unwrap();
            held.push((client, listener.accept().await));
        }
        let mut refused = TcpStream::connect(addr).await.unwrap();
        // The listener closes it and waits on.
        let accepting = tokio::spawn(async move { listener.accept().await.1 });
        let mut byte = [0];
        assert_eq!(refused.read(&mut byte).await.unwrap_or(0), 0);
        assert!(!accepting.is_finished());
        held.pop();
        let next = TcpStream::connect(addr).await.unwrap();
        assert_eq!(accepting.await.unwrap(), next.local_addr().unwrap());
    }
}
