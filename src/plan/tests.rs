//! Plans on small programs.
