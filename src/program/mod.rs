//! What the packet path of a host is, wanted or live: typed rule languages, each with emit, parse, check, diff, eval.
//! It has never heard of Kubernetes, and does no IO.

pub mod scope;
mod tag;
pub mod xtables;

pub use tag::Tag;
