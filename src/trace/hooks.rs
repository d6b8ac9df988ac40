//! Which rules are asked at a hook, and in which order: both iptables, all base chains of nft and virtual servers, by their
//! priorities.
//!
//! Where two of them have the same priority the kernel asks the one first that was registered last, which no dump tells:
//! here iptables-legacy comes first, then iptables-nft, then the other tables of nft. A further language is a
//! further [`Stage`].

use std::fmt;

use crate::net::IpFamily;
use crate::program::ipvs::stage as ipvs_stage;
use crate::program::nft::eval::{Indexed, stage as nft_stage};
use crate::program::nft::{self, ChainKind};
use crate::program::xtables::eval::stage as xtables_stage;
use crate::program::xtables::{self, TableName};
use crate::program::{Crossing, Kernel, Part, Place, Setting};

/// Who holds rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// iptables-legacy.
    XtablesLegacy,
    /// iptables-nft.
    XtablesNft,
    /// iptables, one does not know which.
    Xtables,
    /// IPVS.
    Ipvs,
    /// nft.
    Nft,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::XtablesLegacy => "iptables-legacy",
            Source::XtablesNft => "iptables-nft",
            Source::Xtables => "iptables",
            Source::Ipvs => "IPVS",
            Source::Nft => "nft",
        })
    }
}

/// All rules of a machine that packets of one family meet.
#[derive(Debug, Clone, Default)]
pub struct Rules<'a> {
    /// Those of iptables, or ip6tables: rulesets of the other family are not asked.
    pub xtables: Vec<(Source, &'a xtables::Ruleset)>,
    /// The tables of nft, without those in which iptables-nft keeps its rules.
    pub nft: Option<&'a nft::Ruleset>,
    /// Sets that rules ask, virtual servers, and listeners.
    pub kernel: Kernel<'a>,
}

/// The same, made ready for a walk.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    /// They.
    pub(super) rules: &'a Rules<'a>,
    nft: Indexed<'a>,
}

impl<'a> Prepared<'a> {
    /// Makes it ready.
    pub(super) fn new(rules: &'a Rules<'a>) -> Prepared<'a> {
        Prepared { rules, nft: Indexed::new(rules.nft.iter().flat_map(|ruleset| ruleset.tables.values())) }
    }
}

/// One table of iptables, or one base chain of nft, at a hook.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    Table { source: Source, index: usize, table: TableName, priority: i32, family: IpFamily },
    BaseChain(nft_stage::BaseChain),
    VirtualServers { priority: i32 },
}

/// The stages of a place in the order in which the kernel asks them.
pub(super) fn stages(prepared: &Prepared<'_>, place: Place, setting: Setting<'_>) -> Vec<Stage> {
    let Setting { packet, facts, .. } = setting;
    let mut stages = Vec::new();
    for (index, (source, ruleset)) in prepared.rules.xtables.iter().enumerate() {
        let family = ruleset.family;
        if family != packet.family() {
            continue;
        }
        for &table in xtables_stage::tables(place) {
            let priority = xtables_stage::priority(table, place);
            stages.push(Stage::Table { source: *source, index, table, priority, family });
        }
    }
    let chains = nft_stage::base_chains(&prepared.nft, place, packet, facts);
    stages.extend(chains.into_iter().map(Stage::BaseChain));
    if prepared.rules.kernel.servers().is_some_and(|servers| !servers.is_empty()) {
        let priority = ipvs_stage::priority(place);
        stages.extend(priority.map(|priority| Stage::VirtualServers { priority }));
    }
    // The sort is stable: equals stay as they were put.
    stages.sort_by_key(Stage::rank);
    stages
}

impl Stage {
    /// All that translates is one stop of netfilter's.
    fn rank(&self) -> (i32, bool, i32) {
        match self {
            Stage::Table { priority, table, .. } => (*priority, *table == TableName::Nat, *priority),
            Stage::BaseChain(chain) => (chain.priority, chain.kind == ChainKind::Nat, chain.own_priority),
            Stage::VirtualServers { priority } => (*priority, false, *priority),
        }
    }

    /// Its own priority.
    pub(super) fn priority(&self) -> i32 {
        match self {
            Stage::Table { priority, .. } => *priority,
            Stage::BaseChain(chain) => chain.own_priority,
            Stage::VirtualServers { priority } => *priority,
        }
    }

    /// Who holds it.
    pub(super) fn source(&self) -> Source {
        match self {
            Stage::Table { source, .. } => *source,
            Stage::BaseChain(_) => Source::Nft,
            Stage::VirtualServers { .. } => Source::Ipvs,
        }
    }

    /// Its table, as its tool calls it.
    pub(super) fn table(&self) -> String {
        match self {
            Stage::Table { table, .. } => table.to_string(),
            Stage::BaseChain(chain) => format!("{} {}", chain.table.0, chain.table.1),
            Stage::VirtualServers { .. } => "virtual servers".to_owned(),
        }
    }

    /// Whether it translates and another one has done so for this part already.
    pub(super) fn is_settled(&self, place: Place, part: &Part) -> bool {
        let translates = match self {
            Stage::Table { table, .. } => *table == TableName::Nat,
            Stage::BaseChain(chain) => chain.kind == ChainKind::Nat,
            Stage::VirtualServers { .. } => false,
        };
        let is_settled = match place {
            Place::Prerouting | Place::Output => part.translated,
            Place::Input | Place::Postrouting => part.source_nat,
            Place::Ingress
            | Place::Forward
            | Place::Scheduled
            | Place::LoopbackPrerouting
            | Place::LoopbackInput => false,
        };
        translates && is_settled
    }

    /// Sends parts of a packet through it.
    pub(super) fn cross(
        &self,
        prepared: &Prepared<'_>,
        place: Place,
        setting: Setting<'_>,
        parts: Vec<Part>,
    ) -> Crossing {
        let kernel = &prepared.rules.kernel;
        match self {
            Stage::Table { index, table, .. } => match prepared.rules.xtables.get(*index) {
                Some((_, ruleset)) => {
                    xtables_stage::cross((ruleset, kernel), (place, *table), setting, parts)
                }
                None => Crossing { parts, ..Crossing::default() },
            },
            Stage::BaseChain(chain) => nft_stage::cross(&prepared.nft, (place, chain), setting, parts),
            Stage::VirtualServers { .. } => ipvs_stage::cross(kernel, setting, parts),
        }
    }
}
