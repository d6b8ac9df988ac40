//! Which live chains and jumps are those of userspace mode.

use crate::program::xtables::Ruleset;
use crate::program::{ChainPattern, Scope};

use super::base;

/// What belongs to userspace mode in any live ruleset.
pub fn scope() -> Scope {
    Scope {
        chains: base::CHAINS.map(|(table, chain)| (table, ChainPattern::Name(chain))).to_vec(),
        ignored: Vec::new(),
        jumps: base::jumps().map(|(table, built_in, _, rule)| (table, built_in, rule)).collect(),
        ..Scope::default()
    }
}

/// Whether a live ruleset holds chains of userspace mode.
pub fn holds_ours(live: &Ruleset) -> bool {
    base::CHAINS.iter().any(|(table, chain)| live.chain(*table, chain).is_some())
}
