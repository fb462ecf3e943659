//! The fuzz target of `bodies/files.rs`.
#![no_main]
#![allow(dead_code, reason = "a target runs one of the bodies")]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::files::run(data));
