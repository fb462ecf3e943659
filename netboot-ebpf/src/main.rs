//! The XDP program: glue between the kernel and the pure decisions of the library.
fn main() {}
