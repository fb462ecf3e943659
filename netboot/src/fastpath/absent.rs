//! The fast path of a build without the feature `fastpath`: it never starts, and says why.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::Ipv4Addr;

use super::captured::{Missing, Record};
use super::{Changed, Error, Mode};
use crate::config::Xdp;
use crate::dhcp::options::Subnet;
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

/// The fast path; there is no value of it in this build.
#[derive(Debug)]
pub struct Fastpath(Infallible);

impl Fastpath {
    /// Says that it is not there.
    ///
    /// # Errors
    /// Always.
    pub fn start(_: &Link, _: &Subnet, mode: Xdp, _: Timeline) -> Result<Self, Error> {
        Err(if mode == Xdp::Off { Error::Off } else { Error::Absent })
    }

    /// How the program is attached.
    pub fn mode(&self) -> Mode {
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
