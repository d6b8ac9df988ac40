//! What the elements of the flat layout say about Services, read back.

use std::collections::BTreeSet;

use crate::net::AddrPort;
use crate::program::nft::{Data, Element, Key, Name, Scalar, Set, Table, Values, emit};
use crate::resolve::PoolKind;

use super::super::names;
use super::ALL;
use super::choice::{self, Lists};

/// A chain that many Services share.
pub(in crate::backend::nftables) enum SharedChain {
    /// One that chooses among endpoints.
    List {
        /// Of this node alone.
        is_local: bool,
    },
    /// One that external traffic goes through.
    External {
        /// Whether clients outside are led to endpoints of this node.
        is_local: bool,
    },
}

/// What a chain of this layout is for; `None` for any other.
pub(in crate::backend::nftables) fn shared_chain(chain: &Name) -> Option<SharedChain> {
    for destinations in ALL {
        if chain.as_str() == destinations.external {
            return Some(SharedChain::External { is_local: false });
        } else if chain.as_str() == destinations.external_local {
            return Some(SharedChain::External { is_local: true });
        }
    }
    let lists = Lists::all().find(|lists| names::count_of(&lists.name(), chain).is_some())?;
    Some(SharedChain::List { is_local: lists.pool() == PoolKind::Local })
}

/// The maps of a table that have lists of endpoints.
pub(in crate::backend::nftables) struct EndpointLists<'t>(Vec<(Lists, &'t Set)>);

impl<'t> EndpointLists<'t> {
    /// Those of a table.
    pub(in crate::backend::nftables) fn of(table: &'t Table) -> EndpointLists<'t> {
        let map = |lists: Lists| Some((lists, table.sets.get(&lists.name())?));
        EndpointLists(Lists::all().filter_map(map).collect())
    }

    /// The endpoints of a destination, read from its lists.
    pub(in crate::backend::nftables) fn endpoints(&self, destination: &Key) -> BTreeSet<AddrPort> {
        let maps = self.0.iter().filter(|(lists, _)| lists.is_for(destination));
        let list = choice::list_of(destination);
        let elements = maps.flat_map(|(_, map)| choice::members(map, &list));
        elements.filter_map(|(_, element)| endpoint(element)).collect()
    }
}

/// The endpoint that an element of a list is.
pub(in crate::backend::nftables) fn endpoint(element: &Element) -> Option<AddrPort> {
    match element.data.as_ref()? {
        Data::Values(values) => match values.as_slice() {
            [addr, Scalar::Port(port)] => Some(AddrPort::new(addr.addr()?, *port)),
            _ => None,
        },
        Data::Verdict(_) => None,
    }
}

/// Who may use a destination, as the rules write it.
pub(in crate::backend::nftables) fn source_ranges(table: &Table, destination: &Key) -> Vec<String> {
    let Some(set) = table.sets.get(names::SOURCE_RANGES) else { return Vec::new() };
    let source = |key: &Key| Some(Key::intervals([(*key.first().last()?, *key.last().last()?)]));
    let sources = choice::members(set, destination.first()).filter_map(|(key, _)| source(key));
    sources.map(|source| emit::key_text(&source)).collect()
}

/// Every element of a destination behind the map that dispatches it: where external traffic may go, its endpoints, and the
/// sources that may use it. Each with its map.
pub(in crate::backend::nftables) fn elements<'t>(
    table: &'t Table,
    destination: &'t Key,
) -> Vec<(Name, &'t Key, &'t Element)> {
    let whole = |map: &'static str| (names::fixed(map), Values::from_slice(destination.first()));
    let maps = ALL.iter().flat_map(|destinations| [destinations.anywhere, destinations.outside]);
    let lists = Lists::all().filter(|lists| lists.is_for(destination));
    let mut found = Vec::new();
    for (map, beginning) in maps
        .map(whole)
        .chain([whole(names::SOURCE_RANGES)])
        .chain(lists.map(|lists| (lists.name(), choice::list_of(destination))))
    {
        let Some(set) = table.sets.get(&map) else { continue };
        let members = set.elements.range(Key::exact(beginning.iter().copied())..);
        let members = members.take_while(|(key, _)| key.first().starts_with(&beginning));
        found.extend(members.map(|(key, element)| (map.clone(), key, element)));
    }
    found
}
