//! A client's connection, which no client can hold for nothing: one that moves no byte for a while fails, and so does one that does
//! not come to the end of its request. hyper has no clock of its own here: one that is looked at when nothing moves costs
//! nothing for a request.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::handover::{Handover, is_blank};
use super::listener::Place;
use super::stream::Stream;

/// What has room in a packet on any Ethernet.
const PACKET: usize = 1400;

/// A connection that fails when it is idle for too long.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
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
    /// A connection that was accepted now, through a socket that does not block.
    pub(super) fn new(socket: OwnedFd, place: Place, idle: Duration, now: Instant) -> Self {
        Self {
            stream: socket.into(),
            handover: Handover::default(),
            idle,
            moved: now,
            is_asking: false,
            is_corked: false,
            timer: Box::pin(tokio::time::sleep_until(now + idle)),
            _place: place,
        }
    }

    /// What sends files over it, as long as nothing is between: for TLS there is no such way.
    pub(super) fn handover(&self) -> Handover {
        self.handover.clone()
    }

    /// What is written, so many bytes, waits for more: behind the last answer the connection is closed, and one packet says both,
    /// if it is one; what the kernel sends of a file goes in full packets, wherever a piece ends.
    fn cork(&mut self, more: bool, length: usize) {
        let wanted = more || (length <= PACKET && self.handover.is_last());
        if self.is_corked != wanted {
            self.stream.set_cork(wanted);
            self.is_corked = wanted;
        }
    }

    /// Sends a file's bytes in place of so many blank ones.
    fn poll_send(&mut self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        let handover = &self.handover;
        self.stream.poll_written(context, |socket| handover.send(socket, length))
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
        if !self.stream.is_told() {
            return Poll::Pending;
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
            self.cork(true, bytes.len());
            self.poll_send(context, bytes.len())
        } else {
            let is_corked = self.is_corked;
            self.cork(is_corked, bytes.len());
            let said = Pin::new(&mut self.stream).poll_write(context, bytes);
            self.cork(false, bytes.len());
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
                self.cork(true, first.len());
                self.poll_send(context, first.len())
            }
            // The head of a file, and what is not handed over.
            _ => {
                let (is_corked, more) = (self.is_corked, !from.is_empty());
                let length = before.iter().map(|slice| slice.len()).sum();
                self.cork(is_corked || more, length);
                let said = Pin::new(&mut self.stream).poll_write_vectored(context, before);
                self.cork(more, length);
                said
            }
        };
        self.unless_idle(said, false, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // Nothing is held back, and no sign of life.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::super::listener::tests::listening;

    /// Each byte comes well within the limit, all of them do not.
    const PAUSE: Duration = Duration::from_millis(250);
    const IDLE: Duration = Duration::from_millis(1500);

    #[tokio::test]
    async fn who_is_silent_is_cut_off_and_who_takes_an_answer_slowly_is_not() {
        let (mut listener, addr) = listening(IDLE);
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
        let (mut listener, addr) = listening(IDLE);
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
}
