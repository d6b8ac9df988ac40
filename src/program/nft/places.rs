//! Keeps the members of numbered lists where a live map has them.
//!
//! A map whose keys end with a number holds lists: elements that share the rest of their keys, numbered from 0, among which
//! `numgen` chooses. Which member has which number means nothing to a packet. So a list that gains or loses a member need not
//! be numbered anew: whoever stays keeps its place, and the difference does not grow with the list.

use std::collections::{BTreeMap, BTreeSet};

use crate::program::sides::{Sides, side_by_side};

use super::{Data, Element, Key, Scalar, Set, Values};

/// Gives the members of the wanted lists the places that they have in the live map. Lists keep their places as such: only
/// who has which changes.
pub fn keep_places(wanted: &mut Set, live: &Set) {
    for list in differing_lists(wanted, live) {
        rearrange(wanted, live, &list);
    }
}

/// The list that an element belongs to, and its place.
fn place(key: &Key) -> Option<(&[Scalar], u32)> {
    match key.first().split_last() {
        Some((Scalar::Integer(place), list)) if key.is_exact() => Some((list, *place)),
        Some(_) | None => None,
    }
}

fn key_of(list: &Values, place: u32) -> Key {
    Key::exact(list.iter().copied().chain([Scalar::Integer(place)]))
}

/// Lists with a place where the live map has something else, or nothing.
fn differing_lists(wanted: &Set, live: &Set) -> BTreeSet<Values> {
    let mut lists = BTreeSet::new();
    for (key, sides) in side_by_side(&wanted.elements, &live.elements) {
        let differs = match sides {
            Sides::Wanted(_) => true,
            Sides::Live(_) => false,
            Sides::Both(wanted, live) => wanted.data != live.data,
        };
        if let Some((list, _)) = place(key).filter(|_| differs) {
            lists.insert(Values::from_slice(list));
        }
    }
    lists
}

fn rearrange(wanted: &mut Set, live: &Set, list: &Values) {
    let is_of_list = |key: &Key| place(key).is_some_and(|(its, _)| its == list.as_slice());
    let from_first = key_of(list, 0)..;
    let members = wanted.elements.range(from_first).take_while(|(key, _)| is_of_list(key));
    let mut places: BTreeSet<u32> = BTreeSet::new();
    let mut unplaced: BTreeMap<Option<Data>, Vec<Element>> = BTreeMap::new();
    for (key, element) in members {
        places.extend(place(key).map(|(_, place)| place));
        unplaced.entry(element.data.clone()).or_default().push(element.clone());
    }
    places.retain(|place| {
        let key = key_of(list, *place);
        let same = live.elements.get(&key).and_then(|there| unplaced.get_mut(&there.data)?.pop());
        let stays = same.is_some();
        wanted.elements.extend(same.map(|element| (key, element)));
        !stays
    });
    let others = unplaced.into_values().flatten();
    wanted.elements.extend(places.into_iter().map(|place| key_of(list, place)).zip(others));
}
