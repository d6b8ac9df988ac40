//! The `svcproxy` program.

fn main() {}
