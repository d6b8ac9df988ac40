//! Sets and maps without a name, which belong to one rule: which of them its statements need.

use crate::program::nft::{
    CtState, Data, DataType, Element, Expr, Key, MapRef, NatTarget, Right, Rule, Scalar, ScalarType, Set,
    SetFlags, Stmt,
};

use super::datatype;
use super::element::Layout;

/// The number of the type `ct_state` in nft, whose values have no type of ours.
pub(super) const CT_STATE: u32 = 26;

/// A set or map of a rule.
pub(super) struct Anonymous {
    /// It, with its elements. That of states of connections has them as marks.
    pub(super) set: Set,
    /// The number of its keys' type.
    pub(super) key_type: u32,
}

/// Whether a match looks into a set rather than compares.
pub(super) fn looks_up(left: &Expr, keys: &[Key]) -> bool {
    keys.len() != 1 || left.parts().len() > 1
}

/// The sets and maps of a rule, in the order of its statements. `None` if one cannot be written.
pub(super) fn of_rule(rule: &Rule) -> Option<Vec<Anonymous>> {
    rule.stmts.iter().filter_map(of_stmt).collect()
}

/// The outer `None`: the statement needs none.
fn of_stmt(stmt: &Stmt) -> Option<Option<Anonymous>> {
    match stmt {
        Stmt::Match { left, right: Right::Keys(keys), .. } if looks_up(left, keys.as_slice()) => {
            let elements = keys.as_slice().iter().map(|key| (key.clone(), Element::default()));
            Some(of_elements(left.types(), None, elements.collect()))
        }
        Stmt::CtState { states, negated: true } if states.count_ones() > 1 => Some(of_states(*states)),
        Stmt::Vmap { key, map: MapRef::Anonymous(entries) } => {
            Some(of_elements(key.types(), Some(DataType::Verdict), of_map(entries)))
        }
        Stmt::Dnat { to: NatTarget::Map { key, map: MapRef::Anonymous(entries), .. }, .. } => {
            let types = match entries.first() {
                Some((_, Data::Values(values))) => values.iter().map(Scalar::scalar_type).collect(),
                Some((_, Data::Verdict(_))) | None => return Some(None),
            };
            Some(of_elements(key.types(), Some(DataType::Values(types)), of_map(entries)))
        }
        Stmt::Match { .. }
        | Stmt::CtState { .. }
        | Stmt::CtNat { .. }
        | Stmt::Vmap { .. }
        | Stmt::Verdict(_)
        | Stmt::SetMark { .. }
        | Stmt::Dnat { .. }
        | Stmt::Masquerade(_)
        | Stmt::Reject(_)
        | Stmt::UpdateSet { .. }
        | Stmt::Counter
        | Stmt::Notrack
        | Stmt::Unmodelled(_) => None,
    }
}

type Elements = std::collections::BTreeMap<Key, Element>;

fn of_map(entries: &[(Key, Data)]) -> Elements {
    entries.iter().map(|(key, data)| (key.clone(), Element::of(data.clone()))).collect()
}

fn of_elements(key: Vec<ScalarType>, data: Option<DataType>, elements: Elements) -> Option<Anonymous> {
    let key_type = datatype::number(&key)?;
    let interval = !elements.keys().all(datatype::is_single);
    let flags = SetFlags { constant: true, interval, ..SetFlags::default() };
    let set = Set { key, data, flags, elements, ..Set::default() };
    let is_written = !set.elements.is_empty() && Layout::of(&set).takes(&set.key);
    is_written.then_some(Anonymous { set, key_type })
}

fn of_states(states: u8) -> Option<Anonymous> {
    let bits = CtState::NAMES.iter().map(|(bit, _)| *bit).filter(|bit| states & bit != 0);
    let elements = bits.map(|bit| (Key::exact([Scalar::Mark(bit.into())]), Element::default())).collect();
    let states = of_elements(vec![ScalarType::Mark], None, elements)?;
    Some(Anonymous { key_type: CT_STATE, ..states })
}
