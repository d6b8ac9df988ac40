//! Tables as nf_tables messages of netlink: a transaction written, and what the kernel lists read. Pure: bytes in, bytes out.
//!
//! What is written is what nft 1.0.6 writes for the same text, so that both lead to one ruleset and nft can list it. Only
//! tables of IPv4 and of IPv6; what else cannot be said here has no [`Batch`], and is left to nft and its text.

mod anonymous;
mod attribute;
mod batch;
mod datatype;
mod element;
mod expression;
mod read;
#[cfg(test)]
mod tests;
mod uapi;
mod userdata;

pub use batch::Batch;
pub(super) use batch::BatchWriter;
pub use read::{Question, Reading, Request, generation, generation_request, table_of, tables_request};
