//! Lists of endpoints, and the chains that choose among them: one for each length that a list has.

use std::collections::BTreeMap;

use crate::net::{IpFamily, Protocol};
use crate::program::Tag;
use crate::program::nft::{
    Data, DataType, Element, Expr, Key, MapRef, Name, NatFlags, NatTarget, Payload, Rule, Scalar, ScalarType,
    Set, Stmt, Table, Transport, Values, Verdict, keep_places,
};
use crate::resolve::{PoolKind, PortView};

use super::super::{add_chain, comment, names};
use super::{ALL, Destinations};

/// The lists of one kind of destination, one pool and one protocol: a map. The protocol is not in its keys, since nft needs to
/// know whose ports they are.
#[derive(Clone, Copy)]
pub(super) struct Lists {
    /// The beginning of the map's name.
    map: &'static str,
    /// Whether its keys begin with an address.
    has_addr: bool,
    pool: PoolKind,
    protocol: Protocol,
}

impl Lists {
    /// The lists for destinations.
    pub(super) fn new(destinations: &Destinations, pool: PoolKind, protocol: Protocol) -> Lists {
        Lists { map: destinations.lists(pool), has_addr: destinations.has_addr, pool, protocol }
    }

    /// Those of all destinations.
    pub(super) fn all() -> impl Iterator<Item = Lists> {
        let pools = [PoolKind::Cluster, PoolKind::Local];
        let of_pool = move |destinations, pool| {
            Protocol::ALL.into_iter().map(move |protocol| Lists::new(destinations, pool, protocol))
        };
        ALL.into_iter().flat_map(move |kind| pools.into_iter().flat_map(move |pool| of_pool(kind, pool)))
    }

    /// Which endpoints they are of.
    pub(super) fn pool(self) -> PoolKind {
        self.pool
    }

    /// The name of the map.
    pub(super) fn name(self) -> Name {
        names::list(self.map, self.protocol)
    }

    /// Whether a destination can have a list here.
    pub(super) fn is_for(self, destination: &Key) -> bool {
        let has_addr = list_of(destination).len() > 1;
        destination.first().contains(&Scalar::from(self.protocol)) && self.has_addr == has_addr
    }

    /// What a packet's list is looked up by, before the number.
    fn key(self, family: IpFamily) -> Vec<Expr> {
        let transport = Transport::from(self.protocol);
        let addr = self.has_addr.then(|| Expr::destination(family));
        addr.into_iter().chain([Expr::Payload(Payload::DestinationPort(transport))]).collect()
    }

    fn empty_map(self, family: IpFamily) -> Set {
        let mut key = Expr::concat(self.key(family)).types();
        key.push(ScalarType::Integer);
        let data = DataType::Values(vec![ScalarType::addr(family), ScalarType::InetService]);
        Set {
            key,
            data: Some(data),
            comment: comment("endpoints by destination, numbered"),
            ..Set::default()
        }
    }

    /// One of a list's first `length` endpoints by chance.
    fn rules(self, family: IpFamily, length: u32) -> Vec<Rule> {
        let choice = |length| {
            let key = Expr::concat(self.key(family).into_iter().chain([Expr::random(length)]));
            let to = NatTarget::Map { family, key, map: MapRef::Named(self.name()) };
            Rule::new(vec![Stmt::Dnat { to, flags: NatFlags::default() }])
        };
        // A packet that was sent here just before its list became shorter can miss; the first place is always taken.
        let missed = (length > 1).then(|| choice(1));
        [choice(length)].into_iter().chain(missed).collect()
    }
}

/// The lists of endpoints of a table on their way into its maps.
#[derive(Default)]
pub(super) struct Collected<'v>(BTreeMap<Name, (Lists, Vec<List<'v>>)>);

/// The list of one destination.
struct List<'v> {
    /// What the keys of its elements begin with.
    destination: Values,
    port: &'v PortView,
    tag: Tag,
}

impl<'v> Collected<'v> {
    /// Adds the list of a destination of a Service port, in the place of one that is there, and to the table the chain that
    /// chooses among it; gives the verdict that leads to it. No endpoints: `None`.
    pub(super) fn add(
        &mut self,
        table: &mut Table,
        (family, lists): (IpFamily, Lists),
        destination: &Key,
        (port, tag): (&'v PortView, Tag),
    ) -> Option<Verdict> {
        let map = lists.name();
        let list = List { destination: list_of(destination), port, tag };
        let length = u32::try_from(port.pool(lists.pool).count()).unwrap_or(u32::MAX);
        if length == 0 {
            // Another Service may have claimed the same destination.
            if let Some((_, all)) = self.0.get_mut(&map) {
                all.push(list);
            }
            return None;
        }
        let chain = names::counted(&map, length);
        self.0.entry(map).or_insert_with(|| (lists, Vec::new())).1.push(list);
        if !table.chains.contains_key(&chain) {
            add_chain(table, chain.clone(), lists.rules(family, length));
        }
        Some(Verdict::Goto(chain))
    }

    /// Adds the maps. They are made of sorted elements: putting one after the other in its place takes many times as long.
    pub(super) fn fill(self, table: &mut Table, family: IpFamily) {
        for (name, (lists, mut all)) in self.0 {
            all.sort_by(|one, other| one.destination.cmp(&other.destination));
            // Of two with one destination the last stays.
            let last = all
                .chunk_by(|one, other| one.destination == other.destination)
                .filter_map(<[List<'_>]>::last);
            let elements = last.flat_map(|list| list.elements(lists.pool)).collect();
            table.sets.insert(name, Set { elements, ..lists.empty_map(family) });
        }
    }
}

impl List<'_> {
    fn elements(&self, pool: PoolKind) -> impl Iterator<Item = (Key, Element)> + '_ {
        self.port.pool(pool).zip(0..).map(|(endpoint, place)| {
            let key = Key::exact(self.destination.iter().copied().chain([Scalar::Integer(place)]));
            let data = Data::values([Scalar::from(endpoint.addr), Scalar::Port(endpoint.port)]);
            (key, Element { tag: Some(self.tag), ..Element::of(data) })
        })
    }
}

/// The values that the elements of a destination's list have in common: all but its protocol.
pub(super) fn list_of(destination: &Key) -> Values {
    let is_protocol = |value: &Scalar| matches!(value, Scalar::Protocol(_));
    destination.first().iter().copied().filter(|value| !is_protocol(value)).collect()
}

/// What a set has whose keys begin so.
pub(super) fn members<'s>(
    set: &'s Set,
    beginning: &'s [Scalar],
) -> impl Iterator<Item = (&'s Key, &'s Element)> {
    let from = Key::exact(beginning.iter().copied());
    set.elements.range(from..).take_while(|(key, _)| key.first().starts_with(beginning))
}

/// Removes what a set has whose keys begin so.
pub(super) fn remove(set: &mut Set, beginning: &[Scalar]) {
    let keys: Vec<Key> = members(set, beginning).map(|(key, _)| key.clone()).collect();
    keys.iter().for_each(|key| drop(set.elements.remove(key)));
}

/// Takes over from a live table of this layout the places of endpoints in their lists, and chains for lengths that no list
/// has now: some list will have them again, and the change to it is then one of elements alone.
pub(in crate::backend::nftables) fn adopt(wanted: &mut Table, live: &Table) {
    let Some(family) = wanted.family.ip() else { return };
    for lists in Lists::all() {
        let map = lists.name();
        let (Some(its), Some(live_lists)) = (wanted.sets.get_mut(&map), live.sets.get(&map)) else {
            continue;
        };
        keep_places(its, live_lists);
        for (name, chain) in &live.chains {
            let Some(length) = names::count_of(&map, name) else { continue };
            let rules = lists.rules(family, length);
            if chain.base.is_none() && chain.rules == rules && !wanted.chains.contains_key(name) {
                add_chain(wanted, name.clone(), rules);
            }
        }
    }
}
