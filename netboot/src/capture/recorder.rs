//! Moves packets from the interface and from the XDP program's ring buffer into a file or pipe, until it is told to stop.
//!
//! Everything is written in whole blocks as soon as its turn is come, so that a reader at the other end of a pipe sees it
//! at once, and a file is whole whenever it ends. What to take is not decided here.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;

use super::pcapng;
use super::taker::{INTERFACE, Summary, Taker, XDP};
use crate::fastpath::Captured;
use crate::fastpath::captured::Missing;
use crate::mac::Mac;
use crate::net::tap::Tap;

/// How often the program is told to go on, and looked for when there is none.
const UPKEEP: Duration = Duration::from_secs(1);
/// How often the ring buffer is looked at, and what waits for its turn. The program wakes nobody.
const LOOK: Duration = Duration::from_millis(5);
/// Packets taken from one source before the other is looked at.
const AT_ONCE: usize = 256;
/// How often there is so much at the end.
const LAST: usize = 64;
/// What is to be captured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The interface.
    pub interface: String,
    /// All UDP and ICMP, and TCP of this port.
    pub all: Option<u16>,
    /// These machines alone, if there are any.
    pub macs: BTreeSet<Mac>,
    /// End after so many packets.
    pub count: Option<u64>,
    /// End after this time.
    pub time: Option<Duration>,
    /// Bytes kept of each packet.
    pub longest: u32,
}

/// Why a capture cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such interface.
    #[error("interface {0} does not exist (`ip link` lists those that do)")]
    NoInterface(String),
    /// The packet socket.
    #[error("listen on {interface}{}", if matches!(source.kind(), io::ErrorKind::PermissionDenied) {
        ": needs the capability CAP_NET_RAW: run this as root, or with sudo" } else { "" })]
    Listen {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It went away.
    #[error("interface {0} is gone; what was captured before is in the file")]
    Gone(String),
    /// The file cannot be written.
    #[error("write the capture")]
    Write(#[source] io::Error),
}

/// What is worth a line while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// What the XDP program answers is captured from now on.
    WithXdp,
    /// It is not, and why.
    WithoutXdp(&'a Missing),
    /// The packet socket had an error, as when the interface goes down.
    Trouble(&'a io::Error),
    /// A second has passed.
    Progress(&'a Summary),
}

/// A capture that has not begun.
#[derive(Debug)]
pub struct Recorder {
    options: Options,
    index: u32,
    tap: Tap,
    taker: Taker,
    /// Packets that have passed the packet socket's filter.
    received: u64,
    began_ns: u64,
    xdp: Xdp,
}

/// The XDP program's ring buffer.
#[derive(Debug, Default)]
struct Xdp {
    open: Option<Captured>,
    /// Its interface is described in the file.
    described: bool,
    /// Why there is none, as it was told.
    told: Option<Missing>,
}

impl Recorder {
    /// Opens the interface. From now on packets are heard; nothing is written before [`Self::run`].
    ///
    /// # Errors
    /// When there is no such interface, or it may not be listened to.
    pub fn open(options: Options) -> Result<Self, Error> {
        let listen = |source| Error::Listen { interface: options.interface.clone(), source };
        let index = index(&options.interface).map_err(listen)?;
        let index = index.ok_or_else(|| Error::NoInterface(options.interface.clone()))?;
        let tap = Tap::open(index, options.all).map_err(listen)?;
        let taker = Taker::new(&options);
        Ok(Self { options, index, tap, taker, received: 0, began_ns: now_ns(), xdp: Xdp::default() })
    }

    /// Captures into `file` until `stop` can be read or its other end is closed, the reader of the pipe is gone, or enough has
    /// come in. Tells what is worth telling.
    ///
    /// # Errors
    /// When the interface goes away or the file cannot be written; it is whole as far as it goes.
    pub fn run(
        mut self,
        file: &mut File,
        stop: BorrowedFd<'_>,
        mut tell: impl FnMut(Notice<'_>),
    ) -> Result<Summary, Error> {
        let ended = match self.record(file, stop, &mut tell) {
            Ok(()) => {
                // What had arrived by now.
                for _ in 0..LAST {
                    if !self.listen(&mut tell) {
                        break;
                    }
                }
                self.take_answers();
                self.finish(file)
            }
            // The interface is gone, and the file is not.
            Err(error @ Error::Gone(_)) => self.finish(file).and(Err(error)),
            Err(error) => Err(error),
        };
        match ended {
            // Who reads has seen enough.
            Err(Error::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(self.taker.summary),
            Err(error) => Err(error),
            Ok(()) => Ok(self.taker.summary),
        }
    }

    fn record(
        &mut self,
        file: &mut File,
        stop: BorrowedFd<'_>,
        tell: &mut impl FnMut(Notice<'_>),
    ) -> Result<(), Error> {
        let program = concat!("netboot ", env!("CARGO_PKG_VERSION"));
        let description = "what the network stack of this machine received and sent";
        let interface = &self.options.interface;
        let head =
            [pcapng::section(program), pcapng::interface(interface, description, self.options.longest)];
        file.write_all(&head.concat()).map_err(Error::Write)?;
        let end = self.options.time.map(|time| Instant::now() + time);
        let mut upkeep = Instant::now();
        loop {
            if upkeep <= Instant::now() {
                upkeep = Instant::now() + UPKEEP;
                self.upkeep(file, tell)?;
            }
            let busy = self.xdp.open.is_some() || !self.taker.order.is_empty();
            let until = end.map_or(upkeep, |end| end.min(upkeep));
            let left = until.saturating_duration_since(Instant::now());
            let ready = wait(&self.tap, file, stop, if busy { left.min(LOOK) } else { left })?;
            self.listen(tell);
            self.take_answers();
            self.write(file, now_ns())?;
            if ready.stop || self.taker.has_enough() || end.is_some_and(|end| end <= Instant::now()) {
                return Ok(());
            }
            if ready.unread {
                return Err(Error::Write(io::ErrorKind::BrokenPipe.into()));
            }
        }
    }

    /// What is to be done every second.
    fn upkeep(&mut self, file: &mut File, tell: &mut impl FnMut(Notice<'_>)) -> Result<(), Error> {
        self.count();
        tell(Notice::Progress(&self.taker.summary));
        // The answers of a program that is going away come first.
        self.take_answers();
        self.xdp.keep(&self.options, file, tell).map_err(Error::Write)?;
        if index(&self.options.interface).is_ok_and(|index| index == Some(self.index)) {
            return Ok(());
        }
        Err(Error::Gone(self.options.interface.clone()))
    }

    fn count(&mut self) {
        if let Ok((received, dropped)) = self.tap.counts() {
            (self.received, self.taker.summary.dropped) = (received, dropped);
        }
    }

    /// Takes what has passed the interface. Returns whether there may be more.
    fn listen(&mut self, tell: &mut impl FnMut(Notice<'_>)) -> bool {
        for _ in 0..AT_ONCE {
            match self.tap.hear() {
                Ok(Some(seen)) => self.taker.take(&seen),
                Ok(None) => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tell(Notice::Trouble(&error));
                    return false;
                }
            }
        }
        true
    }

    /// Takes what the program has answered.
    fn take_answers(&mut self) {
        let Some(open) = &mut self.xdp.open else { return };
        for _ in 0..AT_ONCE {
            if open.next(|record| self.taker.take_answer(&record)).is_none() {
                return;
            }
        }
    }

    fn write(&mut self, file: &mut File, now_ns: u64) -> Result<(), Error> {
        let mut blocks = Vec::new();
        while let Some(block) = self.taker.order.next(now_ns) {
            blocks.extend(block);
        }
        file.write_all(&blocks).map_err(Error::Write)
    }

    /// Writes what still waits, and the sums.
    fn finish(&mut self, file: &mut File) -> Result<(), Error> {
        self.count();
        self.write(file, u64::MAX)?;
        let between = [self.began_ns, now_ns()];
        let mut sums = pcapng::statistics(INTERFACE, between, self.received, self.taker.summary.dropped);
        if self.xdp.described {
            sums.extend(pcapng::statistics(XDP, between, self.taker.summary.xdp, 0));
        }
        file.write_all(&sums).map_err(Error::Write)
    }
}

impl Xdp {
    /// Tells the program to go on, or looks whether there is one by now.
    fn keep(
        &mut self,
        options: &Options,
        file: &mut File,
        tell: &mut impl FnMut(Notice<'_>),
    ) -> io::Result<()> {
        if let Some(open) = &mut self.open
            && open.is_current()
            && open.keep_on().is_ok()
        {
            return Ok(());
        }
        // First closed, for there can be but one.
        self.open = None;
        let begun = Captured::open(&options.interface).and_then(|mut open| open.keep_on().map(|()| open));
        match begun {
            Ok(open) => {
                if !self.described {
                    self.described = true;
                    let name = format!("{} (XDP)", options.interface);
                    let description =
                        "what the XDP program received and answered; the network stack does not see it";
                    file.write_all(&pcapng::interface(&name, description, options.longest))?;
                }
                self.open = Some(open);
                self.told = None;
                tell(Notice::WithXdp);
            }
            Err(missing) if self.told.as_ref() != Some(&missing) => {
                tell(Notice::WithoutXdp(&missing));
                self.told = Some(missing);
            }
            Err(_) => {}
        }
        Ok(())
    }
}

/// What has happened while it was waited.
struct Ready {
    /// It is to end.
    stop: bool,
    /// Nobody will read what is written.
    unread: bool,
}

/// Waits until a packet has passed, it is to end, the reader is gone, or the time is up.
fn wait(tap: &Tap, file: &File, stop: BorrowedFd<'_>, at_most: Duration) -> Result<Ready, Error> {
    let mut waited = [
        PollFd::from_borrowed_fd(tap.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(stop, PollFlags::IN),
        // Nothing is asked for: what is told all the same is that a pipe has no reader.
        PollFd::from_borrowed_fd(file.as_fd(), PollFlags::empty()),
    ];
    let timeout = Timespec::try_from(at_most).ok();
    match poll(&mut waited, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(Error::Write(error.into())),
    }
    let [_, stop, file] = waited;
    Ok(Ready {
        stop: !stop.revents().is_empty(),
        unread: file.revents().intersects(PollFlags::ERR | PollFlags::HUP),
    })
}

/// The number of an interface in this network namespace.
fn index(name: &str) -> io::Result<Option<u32>> {
    match name_to_index(UnixDatagram::unbound()?, name) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn now_ns() -> u64 {
    pcapng::nanos(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}
