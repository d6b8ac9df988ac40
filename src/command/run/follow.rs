//! A change of a few Services without a look at the others: what they and those that share something with them were, beside
//! what they are to be. What it costs does not grow with the cluster.
//!
//! Of nftables mode alone, where every Service has objects and elements of its own. What the table has is remembered from the
//! last comparison of all; nobody asks the kernel. Whether somebody else has changed it shows when all is compared again, or
//! when the kernel refuses a change.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::nftables;
use crate::model::{Cluster, Mode, ServiceName, ServicePortName};
use crate::net::{IpFamily, PerFamily};
use crate::pipeline::{Compiler, Wanted};
use crate::program::{NftTable, Program, nft};
use crate::resolve::{Claims, NodeView, PortView};

use super::super::comparison::Comparison;
use super::super::live::Live;

/// More Services than one in so many of the cluster are compared with all of it.
const MAX_SHARE: usize = 4;

/// What the node has, and what was decided for every Service.
pub(super) struct Followed {
    compiler: Compiler,
    ports: PerFamily<BTreeMap<ServicePortName, PortView>>,
    claims: PerFamily<Claims>,
    tables: PerFamily<Option<nft::Table>>,
}

impl Followed {
    /// The node after all steps of a comparison of everything. `None` where a part cannot be told from the whole.
    pub(super) fn after(compared: Comparison, mode: Mode) -> Option<Followed> {
        let compiler = compared.compiler.filter(|_| mode == Mode::Nftables)?;
        let Wanted { views, program, .. } = compared.wanted;
        let PerFamily { v4, v6 } = program.nft;
        let table = |table| if let NftTable::Present(table) = table { Some(table) } else { None };
        let mut followed = Followed {
            compiler,
            ports: PerFamily::default(),
            claims: PerFamily::default(),
            tables: PerFamily { v4: table(v4), v6: table(v6) },
        };
        let PerFamily { v4, v6 } = views;
        for (family, view) in [(IpFamily::V4, v4), (IpFamily::V6, v6)] {
            followed.insert(family, view.map(|view| view.ports).unwrap_or_default());
        }
        Some(followed)
    }

    fn insert(&mut self, family: IpFamily, ports: Vec<PortView>) {
        for port in ports {
            self.claims.get_mut(family).add(&port);
            self.ports.get_mut(family).insert(port.name.clone(), port);
        }
    }

    /// The ports of a Service as they were.
    fn ports_of(&self, family: IpFamily, name: &ServiceName) -> impl Iterator<Item = &PortView> {
        let first = ServicePortName {
            service: name.clone(),
            port: "".into(),
            protocol: crate::net::Protocol::ALL[0],
        };
        let ports = self.ports.get(family).range(first..);
        ports.map(|(_, port)| port).take_while(move |port| port.name.service == *name)
    }

    /// What is wanted of Services that have changed, and of all that share something with them, beside what the node has of
    /// these. `None` if they are so many that a comparison of everything is cheaper.
    pub(super) fn compare(&self, cluster: &Cluster, changed: &BTreeSet<&ServiceName>) -> Option<Comparison> {
        let mut names: BTreeSet<ServiceName> = BTreeSet::new();
        let mut next: BTreeSet<ServiceName> = changed.iter().map(|name| (*name).clone()).collect();
        let mut wanted = Wanted::default();
        while !next.is_empty() {
            names.append(&mut next);
            if names.len() * MAX_SHARE > cluster.services.len() + MAX_SHARE {
                return None;
            }
            wanted = self.compiler.wanted(&cluster.part(&names));
            for family in IpFamily::ALL {
                let claims = self.claims.get(family);
                let before = names.iter().flat_map(|name| self.ports_of(family, name));
                let after = wanted.views.get(family).iter().flat_map(|view| &view.ports);
                let others = before.chain(after).flat_map(|port| claims.others(port));
                next.extend(others.filter(|name| !names.contains(*name)).cloned());
            }
        }
        let views = PerFamily::from_fn(|family| {
            let view = wanted.views.get(family).as_ref()?;
            let ports = names.iter().flat_map(|name| self.ports_of(family, name)).cloned().collect();
            Some(NodeView { ports, ..view.clone() })
        });
        let before = self.compiler.lowered(views);
        let mut live = Program::default();
        for family in IpFamily::ALL {
            let (Some(table), NftTable::Present(before), NftTable::Present(wanted)) = (
                self.tables.get(family),
                before.program.nft.get(family),
                wanted.program.nft.get_mut(family),
            ) else {
                continue;
            };
            let part = table.part(&[before, &*wanted]);
            // Others need what is shared, even if these do not any more.
            wanted.keep(&part, |name| !nftables::is_hashed(name));
            *live.nft.get_mut(family) = NftTable::Present(part);
        }
        Some(Comparison::of(wanted, Live::of_program(live)))
    }

    /// The node after all steps of a comparison of some Services.
    pub(super) fn take(&mut self, compared: Comparison) {
        for family in IpFamily::ALL {
            let (Some(table), Some(difference), Some(wanted)) = (
                self.tables.get_mut(family),
                compared.plan.tables.get(family),
                compared.wanted.program.nft.get(family).table(),
            ) else {
                continue;
            };
            nft::diff::apply_to(table, difference, wanted);
        }
        let PerFamily { v4, v6 } = compared.wanted.views;
        for (family, view) in [(IpFamily::V4, v4), (IpFamily::V6, v6)] {
            self.insert(family, view.map(|view| view.ports).unwrap_or_default());
        }
    }
}
