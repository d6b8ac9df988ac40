//! Tables made ready for many packets: base chains in the order in which netfilter asks them, and elements of sets by the
//! destination that they are for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{
    Chain, ChainKind, Expr, Family, Hook, Key, MapRef, Name, NatTarget, Payload, Right, Set, Stmt, Table,
};

/// A base chain among those of a hook.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// When it is asked: where it stands among the stops of netfilter.
    pub(super) priority: i32,
    /// Its own priority.
    pub(super) own: i32,
    /// Its type.
    pub(super) kind: ChainKind,
    /// Its table.
    pub(super) table: &'a Table,
    /// Its name.
    pub(super) name: &'a Name,
    /// It.
    pub(super) chain: &'a Chain,
}

/// Elements of a set by the address that one field of their keys is.
type ByAddress<'a> = BTreeMap<IpAddr, Vec<&'a Key>>;

/// Tables with their base chains in order.
#[derive(Debug, Default)]
pub struct Indexed<'a> {
    hooks: BTreeMap<Hook, Vec<Entry<'a>>>,
    /// Only of fields that rules compare with destinations, in sets without intervals.
    elements: BTreeMap<Field<'a>, ByAddress<'a>>,
}

/// A field of a set's keys: family and name of the table, name of the set, place in the key.
type Field<'a> = (Family, &'a Name, &'a Name, usize);

impl<'a> Indexed<'a> {
    /// Makes it.
    pub fn new(tables: impl IntoIterator<Item = &'a Table>) -> Indexed<'a> {
        let mut hooks: BTreeMap<Hook, Vec<Entry<'a>>> = BTreeMap::new();
        let mut elements = BTreeMap::new();
        for table in tables {
            let rules = table.chains.values().flat_map(|chain| &chain.rules);
            for (set, field) in rules.flat_map(|rule| &rule.stmts).filter_map(destination_field) {
                let key = (table.family, &table.name, set, field);
                if let Some(set) = table.sets.get(set).filter(|set| !set.flags.interval)
                    && !elements.contains_key(&key)
                {
                    elements.insert(key, by_address(set, field));
                }
            }
            for (name, chain) in &table.chains {
                let Some(base) = chain.base else { continue };
                // All nat chains of a hook are one stop of netfilter's, at a priority of its own.
                let priority = match (base.kind, base.hook) {
                    (ChainKind::Nat, Hook::Prerouting | Hook::Output) => -100,
                    (ChainKind::Nat, _) => 100,
                    (ChainKind::Filter | ChainKind::Route, _) => base.priority,
                };
                let entry = Entry { priority, own: base.priority, kind: base.kind, table, name, chain };
                hooks.entry(base.hook).or_default().push(entry);
            }
        }
        for entries in hooks.values_mut() {
            entries.sort_by_key(|entry| (entry.priority, entry.kind == ChainKind::Nat, entry.own));
        }
        Indexed { hooks, elements }
    }

    /// The base chains of a hook, in order.
    pub(super) fn at(&self, hook: Hook) -> &[Entry<'a>] {
        self.hooks.get(&hook).map_or(&[], Vec::as_slice)
    }

    /// The keys of a set that a destination address can match in one field; `None` if that may be any.
    pub(super) fn keys_for(
        &self,
        table: &'a Table,
        set: &'a Name,
        field: usize,
        addr: IpAddr,
    ) -> Option<&[&'a Key]> {
        let by_address = self.elements.get(&(table.family, &table.name, set, field))?;
        Some(by_address.get(&addr).map_or(&[], Vec::as_slice))
    }
}

/// The field of a named set that a statement compares with a destination address.
fn destination_field(stmt: &Stmt) -> Option<(&Name, usize)> {
    let looked_up = if let Stmt::Match { left, right: Right::Set(set), .. } = stmt {
        Some((left, set))
    } else if let Stmt::Vmap { key, map: MapRef::Named(set) }
    | Stmt::Dnat { to: NatTarget::Map { key, map: MapRef::Named(set), .. }, .. } = stmt
    {
        Some((key, set))
    } else {
        None
    };
    looked_up.and_then(|(left, set)| field_of_destination(left).map(|field| (set, field)))
}

/// Which part of an expression is the destination address.
pub(super) fn field_of_destination(expr: &Expr) -> Option<usize> {
    expr.parts().iter().position(|part| matches!(part, Expr::Payload(Payload::DestinationAddr(_))))
}

fn by_address(set: &Set, field: usize) -> ByAddress<'_> {
    let mut found = ByAddress::new();
    for key in set.elements.keys() {
        if let Some(addr) = key.first().get(field).and_then(super::Scalar::addr) {
            found.entry(addr).or_default().push(key);
        }
    }
    found
}
