//! Cluster → what is wanted of a node: resolve and lower, joined once for all commands.

use std::collections::BTreeSet;

use crate::backend::{iptables, ipvs, nftables};
use crate::model::Cluster;
use crate::net::{IpFamily, PerFamily};
use crate::program::{NftTable, Program, Tag, nft, xtables};
use crate::resolve::{self, NodeContext, NodeView, PortView};

/// What is wanted of a node, with the decisions that it expresses.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The decisions, of the families that were asked for.
    pub views: PerFamily<Option<NodeView>>,
    /// The rules and settings.
    pub program: Program,
}

impl Wanted {
    /// The Service port that a rule of one family was made for.
    pub fn made_for(&self, family: IpFamily, tag: Tag) -> Option<&PortView> {
        self.views.get(family).as_ref()?.ports.get(usize::try_from(tag.0).ok()?)
    }
}

/// How decisions become rules: the mode, and what it needs to know of the machine.
#[derive(Debug, Clone)]
pub enum Lowering {
    /// iptables and ip6tables.
    Iptables(PerFamily<iptables::LowerOptions>),
    /// IPVS with a dummy device and sets, and iptables and ip6tables that ask these.
    Ipvs(Box<ipvs::LowerOptions>),
    /// nft.
    Nftables(nftables::LowerOptions),
}

/// Rules of one family.
enum Rules {
    Xtables(xtables::Ruleset),
    Ipvs(Box<ipvs::Lowered>),
    Nft(nft::Table),
}

/// Computes what is wanted of a node. The families are independent, so each has its own thread.
pub fn wanted(
    cluster: &Cluster,
    node: &NodeContext,
    families: &BTreeSet<IpFamily>,
    lowering: &Lowering,
) -> Wanted {
    let of_family = |family: IpFamily| {
        families.contains(&family).then(|| {
            let view = resolve::resolve(cluster, node, family);
            let rules = match lowering {
                Lowering::Iptables(options) => Rules::Xtables(iptables::lower(&view, options.get(family))),
                Lowering::Ipvs(options) => Rules::Ipvs(Box::new(ipvs::lower(&view, options))),
                Lowering::Nftables(options) => Rules::Nft(nftables::lower(&view, options)),
            };
            (view, rules)
        })
    };
    let lowered = std::thread::scope(|scope| {
        let v6 = scope.spawn(|| of_family(IpFamily::V6));
        let v4 = of_family(IpFamily::V4);
        [(IpFamily::V4, v4), (IpFamily::V6, v6.join().unwrap_or_default())]
    });
    let mut wanted = Wanted::default();
    for (family, lowered) in lowered {
        let Some((view, rules)) = lowered else { continue };
        match rules {
            Rules::Xtables(ruleset) => {
                wanted.program.sysctls.extend(iptables::sysctls(&view));
                *wanted.program.xtables.get_mut(family) = Some(ruleset);
            }
            Rules::Ipvs(lowered) => lowered.add_to(&mut wanted.program, family),
            Rules::Nft(table) => *wanted.program.nft.get_mut(family) = NftTable::Present(table),
        }
        match lowering {
            Lowering::Iptables(options) => {
                wanted.program.nfacct.extend(iptables::nfacct_objects(options.get(family)));
            }
            Lowering::Ipvs(options) => {
                wanted.program.sysctls.extend(ipvs::sysctls(options));
                wanted.program.ipvs_timeouts = options.timeouts;
            }
            Lowering::Nftables(_) => {}
        }
        *wanted.views.get_mut(family) = Some(view);
    }
    wanted
}

/// Whether a program is well formed; what is wrong with it otherwise. A program of ours that is not is our fault, whatever
/// the manifests say.
pub fn check(program: &Program) -> Result<(), String> {
    for ruleset in [&program.xtables.v4, &program.xtables.v6].into_iter().flatten() {
        if let Some(problem) = xtables::check::check(ruleset).first() {
            return Err(format!("the compiled {} rules are not well formed: {problem}", ruleset.family));
        }
    }
    for table in [&program.nft.v4, &program.nft.v6].into_iter().filter_map(NftTable::table) {
        if let Some(problem) = nft::check::check(table).first() {
            return Err(format!("the compiled {} rules are not well formed: {problem}", table.family));
        }
    }
    Ok(())
}
