//! Cluster → what is wanted of a node: resolve and lower, joined once for all commands.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::iptables;
use crate::model::Cluster;
use crate::net::{IpFamily, PerFamily};
use crate::program::{Program, Tag, xtables};
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

/// Computes what is wanted of a node in iptables mode. The families are independent, so each has its own thread.
pub fn wanted(
    cluster: &Cluster,
    node: &NodeContext,
    families: &BTreeSet<IpFamily>,
    options: &PerFamily<iptables::LowerOptions>,
) -> Wanted {
    let of_family = |family: IpFamily| {
        families.contains(&family).then(|| {
            let view = resolve::resolve(cluster, node, family);
            let ruleset = iptables::lower(&view, options.get(family));
            (view, ruleset)
        })
    };
    let (v4, v6) = std::thread::scope(|scope| {
        let v6 = scope.spawn(|| of_family(IpFamily::V6));
        let v4 = of_family(IpFamily::V4);
        (v4, v6.join().unwrap_or_default())
    });
    let ((view4, rules4), (view6, rules6)) = (v4.unzip(), v6.unzip());

    let mut sysctls = BTreeMap::new();
    let mut nfacct = BTreeSet::new();
    for (family, view) in [(IpFamily::V4, &view4), (IpFamily::V6, &view6)] {
        if let Some(view) = view {
            sysctls.extend(iptables::sysctls(view));
            nfacct.extend(iptables::nfacct_objects(options.get(family)));
        }
    }
    let program = Program { xtables: PerFamily { v4: rules4, v6: rules6 }, nfacct, sysctls };
    Wanted { views: PerFamily { v4: view4, v6: view6 }, program }
}

/// Whether a program is well formed; what is wrong with it otherwise. A program of ours that is not is our fault, whatever
/// the manifests say.
pub fn check(program: &Program) -> Result<(), String> {
    for ruleset in [&program.xtables.v4, &program.xtables.v6].into_iter().flatten() {
        if let Some(problem) = xtables::check::check(ruleset).first() {
            return Err(format!("the compiled {} rules are not well formed: {problem}", ruleset.family));
        }
    }
    Ok(())
}
