//! The choice among the endpoints of a Service port, and with affinity the chain and the set of each (reference section
//! 4.8).

use crate::net::IpFamily;
use crate::program::Tag;
use crate::program::nft::{
    Data, Element, Expr, Key, MapRef, Name, NatFlags, NatTarget, Rule, Scalar, ScalarType, Set, SetFlags,
    SetOp, Stmt, Table, Verdict,
};
use crate::resolve::{PoolEndpoint, PoolKind, PortView};

use super::names::{self, PortNames};
use super::{add_chain, insert};

/// Adds the endpoints of this node that may be sent back to themselves.
pub(super) fn add_hairpins(table: &mut Table, port: &PortView, tag: Tag) {
    for endpoint in port.endpoints.iter().filter(|endpoint| endpoint.on_this_node) {
        // An endpoint that is sent back to itself must not see its own address as the source.
        let addr = Scalar::from(endpoint.addr.addr);
        let key = [addr, addr, Scalar::from(port.name.protocol), Scalar::Port(endpoint.addr.port)];
        insert(table, names::HAIRPIN, Key::exact(key), Element { tag: Some(tag), ..Element::default() });
    }
}

/// Adds the chains of both pools, and what belongs to each endpoint.
pub(super) fn add(table: &mut Table, family: IpFamily, port: &PortView, names: &PortNames, tag: Tag) {
    add_hairpins(table, port, tag);
    for (pool, prefix) in [(PoolKind::Cluster, names::SERVICE_PREFIX), (PoolKind::Local, names::LOCAL_PREFIX)]
    {
        let members: Vec<PoolEndpoint> = port
            .endpoints
            .iter()
            .filter(|endpoint| match pool {
                PoolKind::Cluster => endpoint.in_cluster,
                PoolKind::Local => endpoint.in_local,
            })
            .copied()
            .collect();
        if members.is_empty() {
            continue;
        }
        let rules = match port.affinity_seconds {
            None => vec![by_chance(family, port, &members)],
            Some(_) => by_affinity(family, names, &members),
        };
        add_chain(table, names.chain(prefix), tagged(rules, tag));
    }
    if let Some(seconds) = port.affinity_seconds {
        for endpoint in &port.endpoints {
            let (chain, set) = names.endpoint(endpoint.addr);
            add_chain(table, chain, tagged(endpoint_rules(family, port, endpoint, &set), tag));
            table.sets.insert(set, clients(family, seconds));
        }
    }
}

fn tagged(rules: Vec<Rule>, tag: Tag) -> Vec<Rule> {
    rules.into_iter().map(|rule| rule.with_tag(Some(tag))).collect()
}

fn count(members: &[PoolEndpoint]) -> u32 {
    u32::try_from(members.len()).unwrap_or(u32::MAX)
}

/// One endpoint by chance, each with the same.
fn by_chance(family: IpFamily, port: &PortView, members: &[PoolEndpoint]) -> Rule {
    let data = |endpoint: &PoolEndpoint| {
        Data::values([Scalar::from(endpoint.addr.addr), Scalar::Port(endpoint.addr.port)])
    };
    let map = MapRef::numbered(members.iter().map(data));
    let to = NatTarget::Map { family, key: Expr::random(count(members)), map };
    Rule::new(vec![
        Stmt::is(Expr::protocol(), Scalar::from(port.name.protocol)),
        Stmt::Dnat { to, flags: NatFlags::default() },
    ])
}

/// Whoever was remembered goes back where it was, all others anywhere.
fn by_affinity(family: IpFamily, names: &PortNames, members: &[PoolEndpoint]) -> Vec<Rule> {
    let objects: Vec<(Name, Name)> = members.iter().map(|endpoint| names.endpoint(endpoint.addr)).collect();
    let goto = |chain: &Name| Verdict::Goto(chain.clone());
    let remembered = objects.iter().map(|(chain, set)| {
        Rule::new(vec![Stmt::in_set(Expr::source(family), set.clone()), Stmt::Verdict(goto(chain))])
    });
    let anywhere = MapRef::numbered(objects.iter().map(|(chain, _)| Data::Verdict(goto(chain))));
    let choice = Stmt::Vmap { key: Expr::random(count(members)), map: anywhere };
    remembered.chain([Rule::new(vec![choice])]).collect()
}

fn endpoint_rules(family: IpFamily, port: &PortView, endpoint: &PoolEndpoint, set: &Name) -> Vec<Rule> {
    let remember =
        Stmt::UpdateSet { op: SetOp::Update, set: set.clone(), key: Expr::source(family), timeout: None };
    let to = NatTarget::Addr(endpoint.addr.addr, Some(endpoint.addr.port));
    vec![
        Rule::new(vec![remember]),
        Rule::new(vec![
            Stmt::is(Expr::protocol(), Scalar::from(port.name.protocol)),
            Stmt::Dnat { to, flags: NatFlags::default() },
        ]),
    ]
}

/// The set of clients of one endpoint: who was not seen for long is forgotten.
fn clients(family: IpFamily, seconds: u32) -> Set {
    Set {
        key: vec![ScalarType::addr(family)],
        flags: SetFlags { dynamic: true, timeout: true, ..SetFlags::default() },
        timeout: Some(seconds),
        ..Set::default()
    }
}
