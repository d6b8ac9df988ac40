//! Cluster → what is wanted of a node: resolve and lower, joined once for all commands.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::backend::{self, iptables, ipvs, nftables, userspace};
use crate::model::Cluster;
use crate::net::{IpFamily, PerFamily};
use crate::program::conntrack::Answerers;
use crate::program::listener::ListenerKey;
use crate::program::{NftTable, Program, Tag, listener, nft, xtables};
use crate::resolve::{self, NodeContext, NodeView, PortView};

/// What is wanted of a node, with the decisions that it expresses.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The decisions, of the families that were asked for.
    pub views: PerFamily<Option<NodeView>>,
    /// The rules and settings.
    pub program: Program,
    /// Who may answer UDP flows under these rules.
    pub answerers: Answerers,
    /// How userspace mode made them, if it did.
    userspace: Option<PerFamily<userspace::LowerOptions>>,
    /// Service ports that userspace mode found no proxy port for.
    pub without_proxy_port: Vec<String>,
}

impl Wanted {
    /// The Service port that a rule of one family was made for.
    pub fn made_for(&self, family: IpFamily, tag: Tag) -> Option<&PortView> {
        self.views.get(family).as_ref()?.ports.get(usize::try_from(tag.0).ok()?)
    }

    /// In userspace mode, makes the rules anew so that Service ports keep the proxy ports that live rules lead to.
    pub fn keep_proxy_ports(&mut self, live: &Program) {
        let Some(mut options) = self.userspace.take() else { return };
        self.without_proxy_port.clear();
        self.program.listeners = None;
        self.answerers = Answerers::default();
        keep_ports(&mut options, live);
        for family in IpFamily::ALL {
            let Some(view) = self.views.get(family) else { continue };
            let lowered = userspace::lower(view, options.get(family));
            self.take_lowered(family, lowered);
        }
        self.userspace = Some(options);
    }

    /// In userspace mode, has the rules made anew without these ports, which are somebody else's, the next time that
    /// [`Wanted::keep_proxy_ports`] makes them.
    pub fn avoid_ports(&mut self, taken: &BTreeSet<ListenerKey>) {
        let Some(options) = &mut self.userspace else { return };
        for key in taken {
            options.get_mut(key.family()).taken.insert((key.protocol, key.at.port));
        }
    }

    fn take_lowered(&mut self, family: IpFamily, mut lowered: userspace::Lowered) {
        self.answerers.extend(std::mem::take(&mut lowered.answerers));
        let names = lowered.without_port.iter().map(|((name, protocol), _)| format!("{name} {protocol}"));
        self.without_proxy_port.extend(names);
        lowered.add_to(&mut self.program, family);
    }
}

fn keep_ports(options: &mut PerFamily<userspace::LowerOptions>, live: &Program) {
    for family in IpFamily::ALL {
        let ports = live.xtables.get(family).as_ref().map(userspace::proxy_ports);
        options.get_mut(family).previous = Arc::new(ports.unwrap_or_default());
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
    /// iptables and ip6tables, and listeners.
    Userspace(PerFamily<userspace::LowerOptions>),
}

/// Rules of one family.
enum Rules {
    Xtables(xtables::Ruleset),
    Ipvs(Box<ipvs::Lowered>),
    Nft(nft::Table),
    Userspace(userspace::Lowered),
}

/// Makes what is wanted of a node out of clusters, or out of decisions.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// What is particular to the node.
    pub node: NodeContext,
    /// The families that are asked for.
    pub families: BTreeSet<IpFamily>,
    /// How decisions become rules.
    pub lowering: Lowering,
}

impl Compiler {
    /// What a cluster wants of the node.
    pub fn wanted(&self, cluster: &Cluster) -> Wanted {
        wanted(cluster, &self.node, &self.families, &self.lowering)
    }

    /// What is decided for a cluster.
    pub fn views(&self, cluster: &Cluster) -> PerFamily<Option<NodeView>> {
        let view =
            |family| self.families.contains(&family).then(|| resolve::resolve(cluster, &self.node, family));
        PerFamily::from_fn(view)
    }

    /// In userspace mode, has what is made from now on keep the proxy ports that live rules lead to.
    pub fn keep_proxy_ports(&mut self, live: &Program) {
        if let Lowering::Userspace(options) = &mut self.lowering {
            keep_ports(options, live);
        }
    }

    /// What decisions want of the node.
    pub fn lowered(&self, views: PerFamily<Option<NodeView>>) -> Wanted {
        joined(&self.lowering, |family| views.get(family).clone())
    }
}

/// Computes what is wanted of a node. The families are independent, so each has its own thread.
pub fn wanted(
    cluster: &Cluster,
    node: &NodeContext,
    families: &BTreeSet<IpFamily>,
    lowering: &Lowering,
) -> Wanted {
    joined(lowering, |family| families.contains(&family).then(|| resolve::resolve(cluster, node, family)))
}

fn joined(lowering: &Lowering, view: impl Fn(IpFamily) -> Option<NodeView> + Sync) -> Wanted {
    let of_family = |family: IpFamily| {
        view(family).map(|view| {
            let rules = match lowering {
                Lowering::Iptables(options) => Rules::Xtables(iptables::lower(&view, options.get(family))),
                Lowering::Ipvs(options) => Rules::Ipvs(Box::new(ipvs::lower(&view, options))),
                Lowering::Nftables(options) => Rules::Nft(nftables::lower(&view, options)),
                Lowering::Userspace(options) => {
                    Rules::Userspace(userspace::lower(&view, options.get(family)))
                }
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
            Rules::Userspace(lowered) => wanted.take_lowered(family, lowered),
        }
        if !matches!(lowering, Lowering::Userspace(_)) {
            wanted.answerers.extend(backend::answerers(&view));
        }
        match lowering {
            Lowering::Iptables(options) => {
                wanted.program.nfacct.extend(iptables::nfacct_objects(options.get(family)));
            }
            Lowering::Ipvs(options) => {
                wanted.program.sysctls.extend(ipvs::sysctls(options));
                wanted.program.ipvs_timeouts = options.timeouts;
            }
            Lowering::Nftables(_) | Lowering::Userspace(_) => {}
        }
        *wanted.views.get_mut(family) = Some(view);
    }
    if let Lowering::Userspace(options) = lowering {
        wanted.userspace = Some(options.clone());
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
    if let Some(problem) =
        program.listeners.as_ref().and_then(|all| listener::check::check(all).into_iter().next())
    {
        return Err(format!("the compiled listeners are not well formed: {problem}"));
    }
    for table in [&program.nft.v4, &program.nft.v6].into_iter().filter_map(NftTable::table) {
        if let Some(problem) = nft::check::check(table).first() {
            return Err(format!("the compiled {} rules are not well formed: {problem}", table.family));
        }
    }
    Ok(())
}
