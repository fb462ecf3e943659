//! Builds the XDP program for the feature `fastpath`.
fn main() {}
