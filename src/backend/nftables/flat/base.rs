//! The fixed part of the flat layout beside that which both layouts have: maps, and the chains of external traffic.

use crate::net::IpFamily;
use crate::program::nft::{
    DataType, Expr, FibType, MapRef, Right, Rule, Scalar, ScalarType, Set, SetFlags, Stmt, Table, Verdict,
};
use crate::resolve::NodeView;

use super::super::{LowerOptions, add_chain, base, comment, commented, names};
use super::{ALL, Destinations, VIPS};

/// Adds all of it.
pub(super) fn add(table: &mut Table, view: &NodeView, options: &LowerOptions) {
    for destinations in ALL {
        add_maps(table, view.family, destinations);
        let to_anywhere = lookup(view.family, destinations, destinations.anywhere);
        let external = vec![Rule::new(vec![base::set_mark(options)]), Rule::new(vec![to_anywhere])];
        add_chain(table, names::fixed(destinations.external), external);
        let local = external_local(view, options, destinations);
        add_chain(table, names::fixed(destinations.external_local), local);
    }
    add_source_ranges(table, view.family);
}

fn add_maps(table: &mut Table, family: IpFamily, destinations: &Destinations) {
    for (name, text) in [
        (destinations.anywhere, "external traffic that may go to any endpoint"),
        (destinations.outside, "external traffic that may go to endpoints on this node"),
    ] {
        let (key, data) = (destinations.types(family), Some(DataType::Verdict));
        let set = Set { key, data, comment: comment(text), ..Set::default() };
        table.sets.insert(names::fixed(name), set);
    }
}

fn lookup(family: IpFamily, destinations: &Destinations, map: &'static str) -> Stmt {
    let key = Expr::concat(destinations.key(family));
    Stmt::Vmap { key, map: MapRef::Named(names::fixed(map)) }
}

/// The short circuit: pods and the node itself do not need an endpoint on this node.
fn external_local(view: &NodeView, options: &LowerOptions, destinations: &Destinations) -> Vec<Rule> {
    let to_anywhere = || lookup(view.family, destinations, destinations.anywhere);
    let local = || Stmt::is(Expr::FibType { source: true }, Scalar::FibType(FibType::Local));
    let of_pods = base::from_pods(view, false)
        .map(|of_pods| commented(Rule::new(vec![of_pods, to_anywhere()]), "short-circuit pod traffic"));
    let others = [
        commented(Rule::new(vec![local(), base::set_mark(options)]), "masquerade local traffic"),
        commented(Rule::new(vec![local(), to_anywhere()]), "short-circuit local traffic"),
        Rule::new(vec![lookup(view.family, destinations, destinations.outside)]),
    ];
    of_pods.into_iter().chain(others).collect()
}

/// Sources by the destination that lets them in. Whoever is in none of its ranges is discarded.
fn add_source_ranges(table: &mut Table, family: IpFamily) {
    let mut key = VIPS.types(family);
    key.push(ScalarType::addr(family));
    let set = Set {
        key,
        flags: SetFlags { interval: true, ..SetFlags::default() },
        comment: comment("sources by the destination that lets them in"),
        ..Set::default()
    };
    table.sets.insert(names::fixed(names::SOURCE_RANGES), set);
    let left = Expr::concat(VIPS.key(family).into_iter().chain([Expr::source(family)]));
    let others = Stmt::Match { left, negated: true, right: Right::Set(names::fixed(names::SOURCE_RANGES)) };
    let rule = Rule::new(vec![others, Stmt::Verdict(Verdict::Drop)]);
    add_chain(table, names::fixed(names::SOURCE_RANGES_CHECK), vec![rule]);
}
