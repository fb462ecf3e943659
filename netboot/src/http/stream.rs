//! A client's socket, of which the runtime hears when there is something to wait for. Most requests are there when their
//! connection is taken, have their answer at once, and are the only ones: for these it would be told, and told to forget it
//! again, for nothing. Knows neither HTTP nor any limit.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A socket that does not block.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    next: Next,
}

/// What who wants to read does, as long as the runtime has not been told.
#[derive(Clone, Copy, Debug)]
enum Next {
    Read,
    /// All that has come was read: first what else can be done now.
    Others,
    /// Nothing else was there to do.
    Wait,
}

#[derive(Debug)]
enum Socket {
    Untold(StdStream),
    Told(TcpStream),
    /// The runtime has refused it.
    Lost,
}

impl From<OwnedFd> for Stream {
    fn from(socket: OwnedFd) -> Self {
        Self { socket: Socket::Untold(socket.into()), next: Next::Read }
    }
}

impl Stream {
    /// Whether the runtime knows of it. As long as it does not, nobody is made to wait, only to come again.
    pub(super) const fn is_told(&self) -> bool {
        matches!(self.socket, Socket::Told(_))
    }

    /// The socket, with something to wait by.
    fn told(&mut self) -> io::Result<&mut TcpStream> {
        let socket = match std::mem::replace(&mut self.socket, Socket::Lost) {
            Socket::Untold(socket) => Socket::Told(TcpStream::from_std(socket)?),
            told => told,
        };
        self.socket = socket;
        match &mut self.socket {
            Socket::Told(stream) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Does it, if it can be done without waiting. `None` when it cannot, or when the runtime knows whether it can.
    fn at_once<T>(&mut self, mut work: impl FnMut(&mut StdStream) -> io::Result<T>) -> Option<io::Result<T>> {
        let Socket::Untold(socket) = &mut self.socket else { return None };
        loop {
            match work(socket) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                done => return Some(done),
            }
        }
    }

    /// Has the socket written to in a way of its own, which may fail with [`io::ErrorKind::WouldBlock`].
    pub(super) fn poll_written<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        if let Some(done) = self.at_once(|socket| write(socket.as_fd())) {
            return Poll::Ready(done);
        }
        let stream = self.told()?;
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_io(Interest::WRITABLE, || write(stream.as_fd())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Its option `TCP_CORK` (tcp(7)). Without it there are more packets.
    pub(super) fn set_cork(&self, wanted: bool) {
        let _ = match &self.socket {
            Socket::Untold(socket) => rustix::net::sockopt::set_tcp_cork(socket, wanted),
            Socket::Told(socket) => rustix::net::sockopt::set_tcp_cork(socket, wanted),
            Socket::Lost => Ok(()),
        };
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_told() {
            return Pin::new(self.told()?).poll_read(context, buffer);
        }
        match self.next {
            Next::Read => {
                let room = buffer.remaining();
                let read = self.at_once(|socket| socket.read(buffer.initialize_unfilled()));
                if let Some(length) = read.transpose()? {
                    if length < room {
                        self.next = Next::Others;
                    }
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
            }
            Next::Others => {
                self.next = Next::Wait;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Next::Wait => {}
        }
        Pin::new(self.told()?).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(done) = self.at_once(|socket| socket.write(bytes)) {
            return Poll::Ready(done);
        }
        Pin::new(self.told()?).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(done) = self.at_once(|socket| socket.write_vectored(slices)) {
            return Poll::Ready(done);
        }
        Pin::new(self.told()?).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    // A TCP stream has nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    // It is closed at once, which says the same.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as StdStream};
    use std::os::fd::OwnedFd;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

    use super::Stream;

    /// A client and its connection here.
    fn pair() -> (StdStream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        (client, Stream::from(OwnedFd::from(socket)))
    }

    // Without a runtime: who wants one panics.
    #[test]
    fn a_request_that_is_there_is_answered_without_the_runtime() {
        let (mut client, mut stream) = pair();
        client.write_all(b"request").unwrap();
        // Loopback delivers before the write is over.
        let mut room = [0; 100];
        let mut read = |stream: &mut Stream| {
            let mut buffer = ReadBuf::new(&mut room);
            let mut context = Context::from_waker(Waker::noop());
            let polled = Pin::new(stream).poll_read(&mut context, &mut buffer);
            polled.map(|read| read.map(|()| buffer.filled().to_vec()).unwrap())
        };
        assert_eq!(read(&mut stream), Poll::Ready(b"request".to_vec()));
        assert_eq!(read(&mut stream), Poll::Pending);
        pin!(stream.write_all(b"answer")).now_or_never().unwrap().unwrap();
        assert!(!stream.is_told());
        drop(stream);
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        assert_eq!(got, "answer");
    }

    #[tokio::test]
    async fn what_is_not_there_is_waited_for() {
        for first in ["", "some", "0123456789"] {
            let (mut client, mut stream) = pair();
            client.write_all(first.as_bytes()).unwrap();
            let (mut got, mut room) = (Vec::new(), [0; 10]);
            while got.len() < first.len() {
                let length = stream.read(&mut room).await.unwrap();
                got.extend_from_slice(&room[..length]);
            }
            // The first time it may be sent to others.
            for _ in 0..2 {
                assert!(pin!(stream.read(&mut room)).now_or_never().is_none());
            }
            assert!(stream.is_told());
            let later = tokio::task::spawn_blocking(move || {
                client.write_all(b"more").unwrap();
                client
            });
            let length = stream.read(&mut room).await.unwrap();
            got.extend_from_slice(&room[..length]);
            assert_eq!(String::from_utf8(got).unwrap(), format!("{first}more"));
            drop(later.await.unwrap());
            assert_eq!(stream.read(&mut room).await.unwrap(), 0, "the client has gone");
        }
    }

    #[tokio::test]
    async fn who_takes_slowly_gets_all_of_it() {
        let (mut client, mut stream) = pair();
        let content = vec![7; 32 << 20];
        let taking = tokio::task::spawn_blocking(move || {
            let mut got = Vec::new();
            client.read_to_end(&mut got).map(|_| got).unwrap()
        });
        stream.write_all(&content).await.unwrap();
        drop(stream);
        assert!(taking.await.unwrap() == content);
    }

    #[test]
    fn who_has_gone_is_an_error() {
        let (client, mut stream) = pair();
        drop(client);
        let mut write = || pin!(stream.write_all(b"x")).now_or_never();
        // The first is what the other side refuses.
        assert!(write().unwrap().is_ok());
        assert!(write().unwrap().is_err());
    }
}
