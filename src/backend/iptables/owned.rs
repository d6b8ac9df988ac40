//! Which live chains and jumps are ours (reference section 11, ownership).

use crate::program::xtables::{ChainName, Ruleset, TableName};
use crate::program::{ChainPattern, Scope};

use super::{base, names};

/// What belongs to iptables mode in a live ruleset. KUBE-FIREWALL is shared with the kubelet: while the kubelet is at
/// home it is not ours to remove.
pub fn scope(live: &Ruleset) -> Scope {
    let shared = live.chain(TableName::Mangle, &names::KUBELET_CANARY).is_some();
    let ours = |chain: &ChainName| !(shared && *chain == names::FIREWALL);
    let fixed = base::FIXED_CHAINS.into_iter().filter(|(_, chain)| ours(chain));
    let fixed = fixed.map(|(table, chain)| (table, ChainPattern::Name(chain)));
    let hashed = names::PREFIXES.map(|prefix| (TableName::Nat, ChainPattern::Prefix(prefix)));
    let canaries = [TableName::Mangle, TableName::Nat, TableName::Filter].map(|table| (table, names::CANARY));
    Scope {
        chains: fixed.chain(hashed).collect(),
        ignored: canaries.to_vec(),
        jumps: base::jumps().filter(|(_, _, rule)| rule.chain().is_some_and(ours)).collect(),
    }
}

/// Whether a chain belongs to one Service or one endpoint: its name is made of a hash.
pub fn is_hashed(chain: &ChainName) -> bool {
    names::PREFIXES.iter().any(|prefix| chain.as_str().starts_with(prefix))
}
