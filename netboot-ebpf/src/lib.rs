//! What the XDP program and the daemon share: both decide with this code, so both give one answer.
//!
//! `no_std`, no allocation, no `unsafe`; tested on the host. Every function here is inlined into the
//! program, so it must be something that the kernel's verifier can follow: no loops over packet
//! bytes, no panics, no arithmetic that can overflow.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![allow(clippy::inline_always, reason = "a call would be verified apart from what its caller knows")]

pub mod abi;
pub mod bootp;
pub mod class;
pub mod csum;
pub mod guard;
pub mod options;
pub mod packet;
pub mod route;
pub mod verdict;

pub use class::Class;
pub use verdict::{Answer, Host, Reason, Request, Verdict, decide};
