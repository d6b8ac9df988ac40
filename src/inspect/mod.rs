//! What the rules of a machine say of Services: readings, one for each set of rules and family, and what is odd about them. The
//! rules alone are asked, not what is wanted.
//!
//! A further mode adds a [`Reading`] of its own. What rules lead to listeners for is read from both.

mod chain;
mod finding;
mod foreign;
pub mod graph;

pub use chain::{ChainOwner, ChainRow, chains};
pub use finding::{Finding, FindingKind, findings};

use std::collections::BTreeMap;

use crate::backend::{
    CarryingRule, LiftedName, LiftedPolicies, LiftedPort, iptables, ipvs, nftables, userspace,
};
use crate::model::Mode;
use crate::net::IpFamily;
use crate::program::ipset::Sets;
use crate::program::ipvs::VirtualServers;
use crate::program::xtables::{Counters, Ruleset};
use crate::program::{Kernel, nft};
use crate::resolve::NodeView;
use crate::trace::Source;

/// All rules of a machine in one family.
#[derive(Debug, Clone, Default)]
pub struct Held<'a> {
    /// Those of iptables, with what they have counted.
    pub xtables: Vec<(Source, &'a Ruleset, &'a Counters)>,
    /// The tables of nft that see the family, without those of iptables-nft.
    pub nft: Vec<&'a nft::Table>,
    /// Sets that rules ask, virtual servers, and listeners.
    pub kernel: Kernel<'a>,
    /// What the node is to do: it gives virtual servers the names of Services.
    pub view: Option<&'a NodeView>,
}

impl<'a> Held<'a> {
    /// The table of nftables mode.
    pub fn table(&self) -> Option<&'a nft::Table> {
        self.nft.iter().copied().find(|table| nftables::owns_table(table))
    }

    /// The virtual servers with the sets, if there are any.
    pub fn servers(&self) -> Option<(&'a VirtualServers, &'a Sets)> {
        const NO_SETS: &Sets = &Sets::new();
        let servers = self.kernel.servers().filter(|servers| !servers.is_empty())?;
        Some((servers, self.kernel.sets().unwrap_or(NO_SETS)))
    }
}

/// A Service port as one set of rules tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceReading {
    /// Its VIPs and endpoints.
    pub port: LiftedPort,
    /// Its policies, and what was counted.
    pub policies: LiftedPolicies,
}

/// The Services that one set of rules serves in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Who holds the rules.
    pub source: Source,
    /// The mode that they are of.
    pub mode: Mode,
    /// The family.
    pub family: IpFamily,
    /// Service ports by name.
    pub services: BTreeMap<LiftedName, ServiceReading>,
    /// Whether the rules, or virtual servers, have counted.
    pub counted: bool,
    /// Whether it is known where they lead; if not, Services have no endpoints here.
    pub knows_endpoints: bool,
}

impl Reading {
    /// Who holds the rules, with the mode where others of the same holder are of another one.
    pub fn holder(&self) -> String {
        match self.mode {
            Mode::Userspace => format!("{} in userspace mode", self.source),
            Mode::Iptables | Mode::Ipvs | Mode::Nftables => self.source.to_string(),
        }
    }
}

/// Reads all Services back from the rules of one family. Sets of rules without any are left out.
pub fn readings(held: &Held<'_>, family: IpFamily) -> Vec<Reading> {
    let mut readings = Vec::new();
    for (source, ruleset, counters) in &held.xtables {
        let mut add = |mode, services, knows_endpoints| {
            let (source, counted) = (*source, counters.known);
            readings.push(Reading { source, mode, family, services, counted, knows_endpoints });
        };
        let ports = iptables::lift(ruleset, None);
        add(Mode::Iptables, joined(ports, iptables::policies(ruleset, counters)), true);
        let listeners = held.kernel.listeners();
        let ports = userspace::lift(ruleset, listeners, None);
        let policies = userspace::policies(ruleset, counters, listeners);
        add(Mode::Userspace, joined(ports, policies), listeners.is_some());
    }
    if let Some(table) = held.table() {
        let services = joined(nftables::lift(table), nftables::policies(table));
        readings.push(Reading {
            source: Source::Nft,
            mode: Mode::Nftables,
            family,
            services,
            counted: false,
            knows_endpoints: true,
        });
    }
    if let Some((servers, sets)) = held.servers() {
        let lifted = ipvs::lift(servers, sets, held.view);
        let ports = ipvs::ports(&lifted, sets, held.view);
        let services = joined(ports, ipvs::policies(&lifted, sets));
        let counted = lifted.iter().any(|server| server.counters.is_some());
        let (source, mode, knows_endpoints) = (Source::Ipvs, Mode::Ipvs, true);
        readings.push(Reading { source, mode, family, services, counted, knows_endpoints });
    }
    readings.retain(|reading| !reading.services.is_empty());
    readings
}

fn joined(
    ports: BTreeMap<LiftedName, LiftedPort>,
    mut policies: BTreeMap<LiftedName, LiftedPolicies>,
) -> BTreeMap<LiftedName, ServiceReading> {
    let both = |(name, port): (LiftedName, LiftedPort)| {
        let policies = policies.remove(&name).unwrap_or_default();
        (name, ServiceReading { port, policies })
    };
    ports.into_iter().map(both).collect()
}

/// The rules that carry a Service port, in the set of rules that a reading is of.
pub fn carried(held: &Held<'_>, reading: &Reading, name: &LiftedName) -> Vec<CarryingRule> {
    match reading.mode {
        Mode::Nftables => held.table().map(|table| nftables::carried(table, name)).unwrap_or_default(),
        Mode::Ipvs => {
            let servers = held.servers();
            servers.map(|(servers, sets)| ipvs::carried(servers, sets, held.view, name)).unwrap_or_default()
        }
        mode @ (Mode::Iptables | Mode::Userspace) => {
            let mut rulesets = held.xtables.iter();
            let Some((_, ruleset, counters)) = rulesets.find(|(source, ..)| *source == reading.source) else {
                return Vec::new();
            };
            if mode == Mode::Userspace {
                userspace::carried(ruleset, counters, held.kernel.listeners(), name)
            } else {
                iptables::carried(ruleset, counters, name)
            }
        }
    }
}
