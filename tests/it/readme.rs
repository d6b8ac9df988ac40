//! The commands of README.md.
