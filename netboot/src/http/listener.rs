//! Accepts connections, so that no client can hold what the others need: one too many, from one address or in all, is refused.
//! Reads and writes no byte of them.
//!
//! One that comes alone is accepted at once, while its request is on its way. Of many each is accepted when its request is there
//! (`TCP_DEFER_ACCEPT`), which saves being woken for it twice; and only then more than one thread listens, because all that do are
//! woken by each.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::Connection;
use crate::net::sockopt;

/// Connections of one address. A boot loader opens one or two.
const MOST_OF_ONE: usize = 64;
/// Connections in all.
const MOST: usize = 2048;
/// How long it is busy after a connection came beside another.
const BUSY: Duration = Duration::from_millis(100);
/// One that says nothing is accepted after so long all the same.
const SILENT_SECS: i32 = 5;

/// Open connections.
#[derive(Debug, Default)]
pub(super) struct Open {
    count: Mutex<Count>,
    /// It has become busy.
    busy: Notify,
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    by_addr: HashMap<IpAddr, usize>,
    busy_until: Option<Instant>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a connection, if there is one.
    fn enter(self: &Arc<Self>, addr: IpAddr, now: Instant) -> Option<Place> {
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
        if open.all > 1 {
            open.busy_until = Some(now + BUSY);
            self.busy.notify_waiters();
        }
        Some(Place { open: Arc::clone(self), addr })
    }

    /// Whether connections come one beside the other.
    fn is_busy(&self, now: Instant) -> bool {
        self.lock().busy_until.is_some_and(|until| now < until)
    }

    /// Waits until a connection comes beside another.
    pub(super) async fn busy(&self) {
        self.busy.notified().await;
    }
}

/// The place of one connection, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
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
pub(super) struct Listener {
    socket: AsyncFd<TcpListener>,
    /// It has given one since the kernel said that there are some: whether there are more is to be asked.
    has_given: bool,
    /// It gives those whose request is there.
    defers: bool,
    idle: Duration,
    open: Arc<Open>,
}

impl Listener {
    /// Limits the connections of a listener, with all others that count in the same place; one that is idle for longer is closed.
    ///
    /// # Errors
    /// When the kernel has no room for one more that is waited for.
    pub(super) fn new(socket: TcpListener, idle: Duration, open: &Arc<Open>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // SAFETY: a `TcpListener` owns its descriptor, always names the same one, and closes it when it is dropped with this.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, has_given: false, defers: false, idle, open: Arc::clone(open) })
    }

    /// The next connection, and from where it is, if it still is.
    async fn taken(&mut self) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
        loop {
            let mut ready = self.socket.readable().await?;
            // To accept one makes a socket, and where there is none throws it away again. To look is much cheaper.
            let mut socket = [PollFd::new(ready.get_inner(), PollFlags::IN)];
            if self.has_given && poll(&mut socket, Some(&Timespec::default())) == Ok(0) {
                self.has_given = false;
                ready.clear_ready();
                continue;
            }
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            if let Ok(accepted) = ready.try_io(|socket| Ok(acceptfrom_with(socket, flags)?)) {
                self.has_given = true;
                return accepted.map(|(socket, addr)| (socket, addr.and_then(|addr| addr.try_into().ok())));
            }
        }
    }

    /// The next connection that there is room for.
    pub(super) async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (socket, addr) = match self.taken().await {
                Ok((socket, Some(addr))) => (socket, addr),
                // It has gone already.
                Ok((_, None)) => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    tracing::error!(
                        "HTTP: no connection can be accepted: {error}; the next try is in a second"
                    );
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let now = Instant::now();
            let Some(place) = self.open.enter(addr.ip(), now) else {
                tracing::warn!(addr = %addr.ip(), "HTTP: connection refused, too many are open");
                continue;
            };
            return (Connection::new(socket, place, self.idle, now), addr);
        }
    }

    /// The next one, on a thread that listens as long as it is busy; `None` when it is so no more.
    pub(super) async fn accept_when_busy(&mut self) -> Option<(Connection, SocketAddr)> {
        tokio::time::timeout(BUSY, self.accept()).await.ok()
    }

    /// Has connections wait for their requests if it is busy, and no longer if it is not. For one of the threads that listen on
    /// the same socket.
    pub(super) fn adapt(&mut self) {
        let wanted = self.open.is_busy(Instant::now());
        if wanted != self.defers {
            self.defers = wanted;
            // Without it there is more to do.
            let secs = if wanted { SILENT_SECS } else { 0 };
            let _ = sockopt::defer_accept(&SockRef::from(self.socket.get_ref()), secs);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::pin::pin;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::{BUSY, Listener, MOST_OF_ONE};

    const IDLE: Duration = Duration::from_mins(1);

    pub(in super::super) fn listening(idle: Duration) -> (Listener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        (Listener::new(listener, idle, &Arc::default()).unwrap(), addr)
    }

    #[tokio::test]
    async fn one_address_has_so_many_connections_and_no_more() {
        let (mut listener, addr) = listening(IDLE);
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

    /// A client that has said something, if it is to.
    async fn client(addr: SocketAddr, says: &str) -> TcpStream {
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(says.as_bytes()).await.unwrap();
        client
    }

    #[tokio::test]
    async fn all_that_came_at_once_are_accepted_and_then_the_next_one() {
        let (mut listener, addr) = listening(IDLE);
        for _ in 0..3 {
            let mut clients = Vec::new();
            for _ in 0..3 {
                clients.push(client(addr, "").await);
            }
            for client in &clients {
                assert_eq!(listener.accept().await.1, client.local_addr().unwrap());
            }
            let next = async {
                // It waits already.
                tokio::task::yield_now().await;
                client(addr, "").await.local_addr().unwrap()
            };
            let ((_, from), next) = tokio::join!(listener.accept(), next);
            assert_eq!(from, next);
        }
    }

    #[tokio::test]
    async fn who_comes_alone_is_accepted_at_once_and_of_many_who_has_asked() {
        let (mut listener, addr) = listening(IDLE);
        let silent = client(addr, "").await;
        let held = listener.accept().await;
        listener.adapt();
        let mut more = Vec::new();
        // Beside it one makes it busy, unless this thread is kept from running.
        while !listener.defers && more.len() < 20 {
            more.push((client(addr, "").await, listener.accept().await));
            listener.adapt();
        }
        assert!(listener.defers);
        let mut late = client(addr, "").await;
        let asking = client(addr, "GET").await;
        assert_eq!(listener.accept().await.1, asking.local_addr().unwrap());
        late.write_all(b"GET").await.unwrap();
        assert_eq!(listener.accept().await.1, late.local_addr().unwrap());

        drop((held, more, silent));
        // Each of these is alone.
        let begun = Instant::now();
        while listener.defers && begun.elapsed() < 50 * BUSY {
            let _alone = client(addr, "GET").await;
            drop(listener.accept().await);
            listener.adapt();
        }
        assert!(!listener.defers);
        let next = client(addr, "").await;
        let soon = tokio::time::timeout(Duration::from_secs(3), listener.accept());
        assert_eq!(soon.await.unwrap().1, next.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_thread_that_helps_listens_as_long_as_it_is_busy() {
        let (mut first, addr) = listening(IDLE);
        let socket = first.socket.get_ref().try_clone().unwrap();
        let mut helper = Listener::new(socket, IDLE, &first.open).unwrap();
        let open = Arc::clone(&first.open);
        let mut becomes_busy = pin!(open.busy());
        assert!(becomes_busy.as_mut().now_or_never().is_none());
        let _clients = (client(addr, "").await, first.accept().await);
        assert!(becomes_busy.as_mut().now_or_never().is_none(), "one is open");
        let _second = (client(addr, "").await, first.accept().await);
        assert!(becomes_busy.now_or_never().is_some());
        let third = client(addr, "").await;
        let (connection, from) = helper.accept_when_busy().await.unwrap();
        assert_eq!(from, third.local_addr().unwrap());
        assert!(helper.accept_when_busy().await.is_none());
        drop(connection);
    }
}
