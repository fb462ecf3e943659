//! The fuzz target of `bodies/equal.rs`: the loaded XDP program against the daemon. Needs root.
#![no_main]
#![allow(dead_code, reason = "a target runs one of the bodies")]

use std::cell::RefCell;

use bodies::equal::{self, Met};
use bodies::program::Kernel;

#[path = "../bodies/mod.rs"]
mod bodies;

thread_local! {
    static KERNEL: RefCell<Kernel> = RefCell::default();
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let result = KERNEL.with_borrow_mut(|kernel| equal::run(data, kernel, &mut Met::new()));
    result.unwrap_or_else(|why| panic!("{why}"));
});
