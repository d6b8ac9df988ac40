//! Do rules mean what the manifests say? The oracle's fate of packets against their fate in the rules.
//!
//! ```text
//!  manifests ─ Meaning ─┐                 ┌─ destinations, sources … that either side tells apart
//!                       ├─ classes ─ one packet of each class ─ both fates ─ compare ─▶ Report
//!  rules ───── Meaning ─┘                 └─ what a side does not ask makes no difference to it
//! ```
//!
//! `meaning` is a side: what it tells apart, and what it does with a packet; `manifests` and `rules` are the two kinds.
//! `classes` makes a packet for every class, out of `atoms`; `compare` sends them through both sides; `affinity` does the
//! same for clients that are remembered. `equivalent` holds rules against other rules with the same engine.

mod affinity;
mod atoms;
mod classes;
mod compare;
mod known;
mod manifests;
mod meaning;
mod report;
mod rules;

pub use known::known;
pub use report::{Difference, Report, Subject, Tally};

use crate::net::IpCidr;
use crate::packet::NodeFacts;
use crate::program::eval::Evaluator;
use crate::resolve::{NodeView, Oracle};

use manifests::Manifests;
use rules::Rules;

/// What a comparison depends on beside the two sides.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The node's addresses, without those that it has for the sake of Services alone.
    pub facts: &'a NodeFacts,
    /// How many packets are kept of those that differ, for each Service port.
    pub n_witnesses: usize,
}

/// What is known besides manifests.
#[derive(Debug, Clone, Default)]
pub struct Surroundings<'a> {
    /// Where cluster IPs come from, if the rules are to guard it.
    pub service_cidrs: Vec<IpCidr>,
    /// The rules of others: what they do with packets that no Service has anything to do with is right.
    pub strangers: Option<&'a Evaluator<'a>>,
    /// What the rules depend on and nothing tells, so that it is taken to be as the manifests say: a sentence.
    pub assumed: Option<String>,
}

/// Compares the meaning of manifests with that of rules, for every class of packets that either tells apart.
pub fn verify(
    view: &NodeView,
    rules: &Evaluator<'_>,
    surroundings: &Surroundings<'_>,
    options: &Options<'_>,
) -> Report {
    let oracle = Oracle::new(view).with_service_cidrs(surroundings.service_cidrs.clone());
    let wanted = Manifests::new(oracle, surroundings.strangers, options.facts);
    let found = Rules::new(rules);
    let differences = compare::compare(&wanted, &found, view.family, options);
    let name = |owner: usize| view.ports.get(owner).map(|port| port.name.clone());
    Report { assumed: surroundings.assumed.clone(), ..report::named(view.family, differences, name) }
}

/// Compares the meaning of rules with that of other rules, for every class of packets that either tells apart.
pub fn equivalent(left: &Evaluator<'_>, right: &Evaluator<'_>, options: &Options<'_>) -> Report {
    let family = left.family();
    let (left, right) = (Rules::new(left), Rules::new(right));
    report::named(family, compare::compare(&left, &right, family, options), |_| None)
}
