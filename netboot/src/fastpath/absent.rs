//! The fast path of a build without the feature `fastpath`: it never starts, and says why.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::Ipv4Addr;

use super::captured::{Missing, Record};
use super::entries::Site;
use super::{Changed, Error, Mode, Trunk};
use crate::config::{Limits, Xdp};
use crate::dhcp::lease::News;
use crate::inventory::Snapshot;
use crate::net::link::Link;
use crate::timeline::Timeline;

/// Says that it is not there.
///
/// # Errors
/// Always.
pub fn probe() -> Result<(), Error> {
    Err(Error::Absent)
}

/// Says that it is not there.
///
/// # Errors
/// Always.
pub fn pinnable() -> Result<(), String> {
    Err(Error::Absent.to_string())
}

/// Whether a netboot has left its program on the interface. This build cannot tell.
pub fn is_left(_: &str, _: u32) -> bool {
    false
}

/// Leaves what another build has left: this one cannot tell what it is.
pub fn clear(_: &Link, _: Option<Trunk<'_>>) {}

/// The fast path; there is no value of it in this build.
#[derive(Debug)]
pub struct Fastpath(Infallible);

impl Fastpath {
    /// Says that it is not there.
    ///
    /// # Errors
    /// Always.
    pub fn start(
        _: &Link,
        _: Option<Trunk<'_>>,
        _: Site,
        mode: Xdp,
        _: Limits,
        _: Timeline,
    ) -> Result<Self, Error> {
        Err(if mode == Xdp::Off { Error::Off } else { Error::Absent })
    }

    /// How the program is attached.
    pub fn mode(&self) -> Option<Mode> {
        match self.0 {}
    }

    /// Why it is attached so and not natively.
    pub fn note(&self) -> Option<&str> {
        match self.0 {}
    }

    /// Takes a new snapshot.
    ///
    /// # Errors
    /// Never: there is no value to call it on.
    pub fn update(&mut self, _: &Snapshot, _: &BTreeSet<Ipv4Addr>) -> Result<Changed, Error> {
        match self.0 {}
    }

    /// Takes in what became of leases of the pool.
    ///
    /// # Errors
    /// Never: there is no value to call it on.
    pub fn follow_leases(&mut self, _: &[News], _: &Snapshot) -> Result<(), Error> {
        match self.0 {}
    }

    /// Leaves the program for a successor.
    ///
    /// # Errors
    /// Never, as above.
    pub fn leave(self) -> Result<(), String> {
        match self.0 {}
    }

    /// Detaches the program.
    pub fn close(self) {
        match self.0 {}
    }
}

/// What the program has answered; there is no value of it in this build.
#[derive(Debug)]
pub struct Captured(Infallible);

impl Captured {
    /// Says that it is not there.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: &str) -> Result<Self, Missing> {
        Err(Missing::Absent)
    }

    /// Tells the program to go on.
    ///
    /// # Errors
    /// Never: there is no value to call it on.
    pub fn keep_on(&mut self) -> Result<(), Missing> {
        match self.0 {}
    }

    /// The next packet.
    pub fn next<T>(&mut self, _: impl FnOnce(Record<'_>) -> T) -> Option<T> {
        match self.0 {}
    }

    /// Whether it is still that of the program that answers.
    pub fn is_current(&self) -> bool {
        match self.0 {}
    }
}
