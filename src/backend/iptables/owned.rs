//! Which live chains and jumps are ours (reference section 11, ownership).

use crate::program::xtables::{ChainName, ConntrackStates, Match, Rule, Ruleset, TableName, Target};
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
    let branches = [TableName::Nat, TableName::Filter];
    let branches = branches
        .into_iter()
        .flat_map(|table| names::BRANCH_PREFIXES.map(|prefix| (table, ChainPattern::Prefix(prefix))));
    let canaries = [TableName::Mangle, TableName::Nat, TableName::Filter].map(|table| (table, names::CANARY));
    Scope {
        chains: fixed.chain(hashed).chain(branches).collect(),
        ignored: canaries.to_vec(),
        jumps: base::jumps().filter(|(_, _, rule)| rule.chain().is_some_and(ours)).collect(),
        ..Scope::default()
    }
}

/// Whether a chain belongs to one Service or one endpoint: its name is made of a hash.
pub fn is_hashed(chain: &ChainName) -> bool {
    names::PREFIXES.iter().any(|prefix| chain.as_str().starts_with(prefix))
}

/// Whether a chain is a branch of the tree below a dispatch chain: it belongs to no Service, its rules do.
pub fn is_branch(chain: &ChainName) -> bool {
    names::BRANCH_PREFIXES.iter().any(|prefix| chain.as_str().starts_with(prefix))
}

/// Whether a live ruleset holds rules of iptables mode: a fixed chain with rules, or a chain of a Service.
pub fn holds_ours(live: &Ruleset) -> bool {
    let shared = |chain: &ChainName| *chain == names::FIREWALL;
    let fixed = base::FIXED_CHAINS.into_iter().filter(|(_, chain)| !shared(chain));
    fixed.into_iter().any(|(table, chain)| live.chain(table, &chain).is_some())
        || live.tables.get(&TableName::Nat).is_some_and(|nat| nat.chains.keys().any(is_hashed))
}

/// Whether a live ruleset holds chains that iptables mode alone has.
pub fn holds_services(live: &Ruleset) -> bool {
    let own = [names::EXTERNAL_SERVICES, names::NODE_PORTS];
    let fixed = base::FIXED_CHAINS.into_iter().filter(|(_, chain)| own.contains(chain));
    fixed.into_iter().any(|(table, chain)| live.chain(table, &chain).is_some())
        || live.tables.get(&TableName::Nat).is_some_and(|nat| nat.chains.keys().any(is_hashed))
}

/// Whether iptables mode has rules in the table of this name.
pub fn uses_table(name: &str) -> bool {
    base::FIXED_CHAINS.iter().any(|(table, _)| table.as_str() == name)
}

/// Whether a live ruleset holds the kubelet's chains, which tell which of two implementations the node uses.
pub fn holds_kubelet_chains(live: &Ruleset) -> bool {
    live.chain(TableName::Mangle, &names::KUBELET_CANARY).is_some()
        || live.chain(TableName::Mangle, &names::KUBELET_HINT).is_some()
}

/// How the rules of a recorded ruleset were made, apart from what they are for: what the machine they come from could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// They count with nfacct objects.
    pub nfacct: bool,
    /// They masquerade with `--random-fully`.
    pub random_fully: bool,
    /// They let packets pass that conntrack cannot place.
    pub tcp_be_liberal: bool,
}

impl Traits {
    /// Reads them off the fixed chains. What is not there to be seen is taken as on most machines.
    pub fn of(live: &Ruleset) -> Traits {
        let forward = live.chain(TableName::Filter, &names::FORWARD).map_or(&[][..], |chain| &chain.rules);
        let post = live.chain(TableName::Nat, &names::POSTROUTING).map_or(&[][..], |chain| &chain.rules);
        let counts = |rule: &Rule| rule.matches.iter().any(|one| matches!(one, Match::Nfacct(_)));
        let invalid = |rule: &Rule| {
            rule.matches.iter().any(|one| {
                matches!(one, Match::Conntrack(states) if states.bits == ConntrackStates::INVALID && !states.negated)
            })
        };
        let plain = |rule: &Rule| rule.target == Some(Target::Masquerade { random_fully: false });
        let tcp_be_liberal = !forward.is_empty() && !forward.iter().any(invalid);
        Traits {
            nfacct: forward.is_empty() || tcp_be_liberal || forward.iter().any(counts),
            random_fully: !post.iter().any(plain),
            tcp_be_liberal,
        }
    }
}
