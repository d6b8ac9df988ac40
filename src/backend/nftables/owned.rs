//! Which live objects are ours: the whole table (reference section 11, ownership).

use crate::program::nft::{Name, Table};

use super::{flat, names};

/// Whether a live table is that of nftables mode.
pub fn owns_table(table: &Table) -> bool {
    table.name.as_str() == names::TABLE && table.family.ip().is_some()
}

/// Whether an object belongs to one Service or one endpoint: its name has a slash.
pub fn is_hashed(name: &Name) -> bool {
    name.as_str().contains('/')
}

/// Whether a chain is there even if nothing leads to it: the one that refuses, on nodes where nothing is refused, and those that
/// Services share.
pub fn may_stand_alone(name: &Name) -> bool {
    [names::REJECT, names::SOURCE_RANGES_CHECK].contains(&name.as_str()) || flat::shared_chain(name).is_some()
}

/// Whether an object is there whatever Services and endpoints there are.
pub fn is_fixed(name: &Name) -> bool {
    !is_hashed(name) && !matches!(flat::shared_chain(name), Some(flat::SharedChain::List { .. }))
}
