//! The `leakprobe` command.
fn main() {}
