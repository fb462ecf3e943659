//! Accepts connections, so that no client can hold what the others need: one that moves no byte for a while is
//! closed, and so is one that does not come to the end of its request, and one too many, from one address or in all. hyper has
//! no clock of its own here: one that is looked at when nothing moves costs nothing for a request.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

use super::handover::{Handover, is_blank};

/// Connections of one address. A boot loader opens one or two.
pub(super) const MOST_OF_ONE: usize = 64;
/// Connections in all.
const MOST: usize = 2048;

/// Open connections.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    all: usize,
    by_addr: HashMap<IpAddr, usize>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a connection, if there is one.
    fn enter(self: &Arc<Self>, addr: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        let full = open.all >= MOST;
        let of_one = open.by_addr.entry(addr).or_default();
        if full || *of_one >= MOST_OF_ONE {
            if *of_one == 0 {
                open.by_addr.remove(&addr);
            }
            return None;
        }
        *of_one += 1;
        open.all += 1;
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
        open.all -= 1;
        if let Some(of_one) = open.by_addr.get_mut(&self.addr) {
            *of_one -= 1;
            if *of_one == 0 {
                open.by_addr.remove(&self.addr);
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
    /// Limits the connections of a listener, with all others that count in the same place; one that is idle for longer is closed.
    pub(super) fn new(listener: TcpListener, idle: Duration, open: &Arc<Open>) -> Self {
        Self { listener, idle, open: Arc::clone(open) }
    }

    /// The next connection that there is room for.
    pub(super) async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // axum's way to accept, which waits a little when files run out.
            let (stream, addr) = Listener::accept(&mut self.listener).await;
            let Some(place) = self.open.enter(addr.ip()) else {
                tracing::warn!(addr = %addr.ip(), "HTTP: connection refused, too many are open");
                continue;
            };
            let (moved, idle) = (Instant::now(), self.idle);
            let timer = Box::pin(tokio::time::sleep_until(moved + idle));
            let handover = Handover::default();
            return (
                Connection {
                    stream,
                    handover,
                    idle,
                    moved,
                    is_asking: false,
                    is_corked: false,
                    timer,
                    _place: place,
                },
                addr,
            );
        }
    }
}

/// A connection that fails when it is idle for too long.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// The files behind blanks.
    handover: Handover,
    idle: Duration,
    /// When it last moved a byte; of a request the first one counts, so that it has an end.
    moved: Instant,
    /// It has sent something and was sent nothing since.
    is_asking: bool,
    /// What is written waits for the end.
    is_corked: bool,
    timer: Pin<Box<Sleep>>,
    _place: Place,
}

impl Connection {
    /// What sends files over it, as long as nothing is between: for TLS there is no such way.
    pub(super) fn handover(&self) -> Handover {
        self.handover.clone()
    }

    /// What is written waits for more: behind the last answer the connection is closed, and the last packet says both; what the
    /// kernel sends of a file goes in full packets, wherever a piece ends.
    fn cork(&mut self, more: bool) {
        let wanted = more || self.handover.is_last();
        if self.is_corked != wanted {
            // Without it there are more packets.
            let _ = rustix::net::sockopt::set_tcp_cork(&self.stream, wanted);
            self.is_corked = wanted;
        }
    }

    /// Sends a file's bytes in place of so many blank ones.
    fn poll_send(&mut self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let (stream, handover) = (&self.stream, &self.handover);
            match stream.try_io(Interest::WRITABLE, || handover.send(stream, length)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Passes on what the stream said, unless it said nothing for too long.
    fn unless_idle<T>(
        &mut self,
        said: Poll<io::Result<T>>,
        is_read: bool,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if said.is_ready() {
            if !(is_read && self.is_asking) {
                self.moved = Instant::now();
            }
            self.is_asking = is_read;
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
        self.unless_idle(said, true, context)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let said = if is_blank(bytes) {
            self.cork(true);
            self.poll_send(context, bytes.len())
        } else {
            let is_corked = self.is_corked;
            self.cork(is_corked);
            let said = Pin::new(&mut self.stream).poll_write(context, bytes);
            self.cork(false);
            said
        };
        self.unless_idle(said, false, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let blank = slices.iter().position(|slice| is_blank(slice)).unwrap_or(slices.len());
        let (before, from) = slices.split_at(blank);
        let said = match from {
            [first, ..] if before.iter().all(|slice| slice.is_empty()) => {
                self.cork(true);
                self.poll_send(context, first.len())
            }
            // The head of a file, and what is not handed over.
            _ => {
                let is_corked = self.is_corked;
                self.cork(is_corked || !from.is_empty());
                let said = Pin::new(&mut self.stream).poll_write_vectored(context, before);
                self.cork(!from.is_empty());
                said
            }
        };
        self.unless_idle(said, false, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A TCP stream has nothing to flush: ready at once, and no sign of life.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    // It is closed at once, which says the same.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Limited, MOST_OF_ONE};

    async fn limited(idle: Duration) -> (Limited, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (Limited::new(listener, idle, &Arc::default()), addr)
    }

    /// Each byte comes well within the limit, all of them do not.
    const PAUSE: Duration = Duration::from_millis(250);
    const IDLE: Duration = Duration::from_millis(1500);

    #[tokio::test]
    async fn who_is_silent_is_cut_off_and_who_takes_an_answer_slowly_is_not() {
        let (mut listener, addr) = limited(IDLE).await;
        let mut client = TcpStream::connect(addr).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        let begun = Instant::now();
        let mut byte = [0];
        for _ in 0..7 {
            assert!(tokio::time::timeout(PAUSE, connection.read_exact(&mut byte)).await.is_err());
            connection.write_all(b"x").await.unwrap();
            client.read_exact(&mut byte).await.unwrap();
        }
        assert!(begun.elapsed() > IDLE);
        assert_eq!(connection.read_exact(&mut byte).await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_request_without_an_end_is_cut_off_though_it_goes_on() {
        let (mut listener, addr) = limited(IDLE).await;
        let mut client = TcpStream::connect(addr).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        let begun = Instant::now();
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            loop {
                if let Err(error) = connection.read_exact(&mut byte).await {
                    return error.kind();
                }
            }
        });
        while !reading.is_finished() {
            let _ = client.write_all(b"x").await;
            tokio::time::sleep(PAUSE).await;
            assert!(begun.elapsed() < 10 * IDLE, "it goes on and on");
        }
        assert_eq!(reading.await.unwrap(), std::io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= IDLE);
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
