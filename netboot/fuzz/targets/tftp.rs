//! The fuzz target of `bodies/tftp.rs`.
#![no_main]
#![allow(dead_code, reason = "a target runs one of the bodies")]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::tftp::run(data));
