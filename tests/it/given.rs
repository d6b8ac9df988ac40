//! From texts to what tests begin with: cluster, configuration, node, context.

use std::collections::BTreeSet;
use std::sync::Arc;

use svcproxy::backend::iptables::LowerOptions;
use svcproxy::backend::{Layout, iptables, ipvs, nftables, userspace};
use svcproxy::diagnostic::{Severity, Source, SourceId};
use svcproxy::manifest::{self, LoadOptions};
use svcproxy::model::{Cluster, Config, Mode, Node};
use svcproxy::net::{IpFamily, Protocol};
use svcproxy::packet::{Fate, Flow, NodeFacts};
use svcproxy::program::eval::Evaluator;
use svcproxy::program::xtables::{RuleOrder, Ruleset};
use svcproxy::program::{NftTable, Program};
use svcproxy::resolve::{self, NodeContext, NodeView};
use svcproxy::verify::{self, Report};

/// A machine with everything.
pub(crate) const OPTIONS: LowerOptions = LowerOptions {
    masquerade_mark: 0x4000,
    random_fully: true,
    nfacct: true,
    tcp_be_liberal: false,
    layout: Layout::KubeProxy,
};

/// Both layouts.
pub(crate) const LAYOUTS: [Layout; 2] = [Layout::KubeProxy, Layout::Fast];

/// A node of a cluster.
pub(crate) struct Given {
    pub(crate) cluster: Cluster,
    pub(crate) config: Config,
    pub(crate) node: Node,
    pub(crate) context: NodeContext,
}

impl Given {
    /// Options with the configuration's mark.
    pub(crate) fn options(&self) -> LowerOptions {
        LowerOptions { masquerade_mark: 1 << self.config.masquerade_bit, ..OPTIONS }
    }
}

/// How nftables mode makes rules of it, in the layout of kube-proxy.
pub(crate) fn nftables_options(config: &Config) -> nftables::LowerOptions {
    nftables::LowerOptions {
        masquerade_mark: 1 << config.masquerade_bit,
        masquerade_all: config.masquerade_all,
        object_comments: true,
        layout: Layout::KubeProxy,
        service_cidrs: Vec::new(),
    }
}

/// How IPVS mode makes servers, sets and rules of it, on a node that has the Node's addresses.
pub(crate) fn ipvs_options(given: &Given) -> ipvs::LowerOptions {
    let bound_elsewhere = given.node.addresses.iter().copied().collect();
    ipvs::LowerOptions { bound_elsewhere, ..ipvs::LowerOptions::of(&given.config).unwrap() }
}

/// How userspace mode makes rules of it.
pub(crate) fn userspace_options(given: &Given, family: IpFamily) -> userspace::LowerOptions {
    userspace::LowerOptions {
        listen: given.config.bind_address.filter(|addr| IpFamily::of(*addr) == family),
        host: Some(*given.context.node_ips.get(family)).filter(|addr| !addr.is_loopback()),
        ports: userspace::DEFAULT_RANGE,
        taken: BTreeSet::new(),
        previous: Arc::default(),
    }
}

/// What is written of a flow as it is where a process carries the connections: endpoints see the node's address, who has
/// nowhere to go is hung up on or not heard, and there is no SCTP. What the mode does otherwise than that is written.
pub(crate) fn carried(flow: &Flow) -> Fate {
    let mode = Mode::Userspace.name();
    let written = flow.fate_in(mode).clone();
    if flow.exceptions.contains_key(mode) {
        return written;
    }
    match written {
        _ if flow.packet.protocol == Protocol::Sctp => Fate::Untouched,
        Fate::Forwarded(mut choices) => {
            choices.iter_mut().for_each(|choice| choice.source_nat = true);
            Fate::Forwarded(choices)
        }
        Fate::Rejected | Fate::Dropped if flow.packet.protocol == Protocol::Udp => Fate::Dropped,
        Fate::Rejected | Fate::Dropped => Fate::Rejected,
        Fate::Untouched | Fate::Unknown(_) => written,
    }
}

/// What a mode makes of a view, in the layout of kube-proxy.
pub(crate) fn lowered(given: &Given, view: &NodeView) -> Program {
    lowered_in(Layout::KubeProxy, given, view)
}

/// The same in a layout.
pub(crate) fn lowered_in(layout: Layout, given: &Given, view: &NodeView) -> Program {
    let family = view.family;
    let mut program = Program::default();
    match given.config.mode {
        Mode::Nftables => {
            let options = nftables::LowerOptions { layout, ..nftables_options(&given.config) };
            let table = nftables::lower(view, &options);
            *program.nft.get_mut(family) = NftTable::Present(table);
        }
        Mode::Iptables => {
            let options = LowerOptions { layout, ..given.options() };
            *program.xtables.get_mut(family) = Some(iptables::lower(view, &options));
        }
        Mode::Userspace => {
            userspace::lower(view, &userspace_options(given, family)).add_to(&mut program, family);
        }
        Mode::Ipvs => ipvs::lower(view, &ipvs_options(given)).add_to(&mut program, family),
    }
    program
}

/// Both layouts of the mode that the configuration says, held against each other.
pub(crate) fn compared_layouts(given: &Given, family: IpFamily) -> Report {
    let view = resolve::resolve(&given.cluster, &given.context, family);
    let facts = NodeFacts { local_addresses: given.node.addresses.iter().copied().collect() };
    let programs = LAYOUTS.map(|layout| lowered_in(layout, given, &view));
    let [left, right] = programs.each_ref().map(|program| Evaluator::new(program, family, &facts));
    verify::equivalent(&left, &right, &verify::Options { facts: &facts, n_witnesses: 3 })
}

/// Reads manifests and a configuration that have no errors, in the mode that the configuration says.
pub(crate) fn given(manifests: &str, config: &str) -> Given {
    given_in(None, manifests, config)
}

/// The same in another mode.
pub(crate) fn given_in(mode: Option<Mode>, manifests: &str, config: &str) -> Given {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let options = LoadOptions { namespace: "default".to_owned(), placeholders: None, strict: false };
    let loaded = manifest::load(&[source("cluster", manifests)], &options);
    let errors = |diagnostics: &[svcproxy::diagnostic::Diagnostic]| {
        let errors: Vec<_> = diagnostics.iter().filter(|one| one.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    };
    errors(&loaded.diagnostics);
    let (config, diagnostics) = manifest::load_config(&source("config", config), SourceId(0), mode);
    errors(&diagnostics);
    let config = config.unwrap();
    let name = resolve::node_name(None, &config, "node-1").unwrap();
    let node = loaded.cluster.nodes.get(&name).cloned().unwrap_or(Node {
        name,
        zone: None,
        addresses: Vec::new(),
        pod_cidrs: Vec::new(),
        is_leaving: false,
    });
    let context = NodeContext::new(&config, &node, &node.addresses);
    Given { cluster: loaded.cluster, config, node, context }
}

/// Whether two rulesets are the same but for what only the maker of one knows: which rules commute.
pub(crate) fn same_rules(left: &Ruleset, right: &Ruleset) -> bool {
    let exact = |ruleset: &Ruleset| {
        let mut ruleset = ruleset.clone();
        for chain in ruleset.tables.values_mut().flat_map(|table| table.chains.values_mut()) {
            chain.order = RuleOrder::Exact;
        }
        ruleset
    };
    exact(left) == exact(right)
}
