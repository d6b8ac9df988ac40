//! A part of a table: what some other tables have of it. A change of a few objects is then compared, checked and carried out
//! without a look at the others.

use std::collections::BTreeMap;

use super::{Name, Set, Table};

impl Table {
    /// The part that other tables name: their chains, their sets, and of these the elements that they have, all as they are
    /// here.
    pub fn part(&self, named: &[&Table]) -> Table {
        let mut part = Table { comment: self.comment.clone(), ..Table::new(self.family, self.name.clone()) };
        for other in named {
            for name in other.chains.keys() {
                let here = self.chains.get_key_value(name);
                part.chains.extend(here.map(|(name, chain)| (name.clone(), chain.clone())));
            }
            for (name, named) in &other.sets {
                let Some((name, set)) = self.sets.get_key_value(name) else { continue };
                let here = part.sets.entry(name.clone()).or_insert_with(|| without_elements(set));
                for key in named.elements.keys() {
                    let element = set.elements.get_key_value(key);
                    here.elements.extend(element.map(|(key, element)| (key.clone(), element.clone())));
                }
            }
        }
        part
    }

    /// Takes over from another table what this one lacks of certain objects: chains with their rules, sets without elements.
    pub fn keep(&mut self, other: &Table, is_kept: impl Fn(&Name) -> bool) {
        for (name, chain) in other.chains.iter().filter(|(name, _)| is_kept(name)) {
            if !self.chains.contains_key(name) {
                self.chains.insert(name.clone(), chain.clone());
            }
        }
        for (name, set) in other.sets.iter().filter(|(name, _)| is_kept(name)) {
            self.sets.entry(name.clone()).or_insert_with(|| without_elements(set));
        }
    }
}

fn without_elements(set: &Set) -> Set {
    Set {
        elements: BTreeMap::new(),
        key: set.key.clone(),
        data: set.data.clone(),
        comment: set.comment.clone(),
        ..*set
    }
}
