//! Sets and maps.

use std::collections::BTreeMap;

use crate::program::Tag;

use super::{Comment, Data, Key, ScalarType};

/// Flags of a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetFlags {
    /// constant: its elements cannot change.
    pub constant: bool,
    /// interval: keys may be intervals.
    pub interval: bool,
    /// timeout: elements may have timeouts.
    pub timeout: bool,
    /// dynamic: rules change it. nft 1.0.6 does not print it in JSON; `parse` knows it of a set that a rule changes.
    pub dynamic: bool,
}

/// What a map gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataType {
    /// Verdicts.
    Verdict,
    /// Values of these types.
    Values(Vec<ScalarType>),
}

/// An element of a set, apart from its key.
#[derive(Debug, Clone, Default)]
pub struct Element {
    /// What the map gives for it; `None` in a set.
    pub data: Option<Data>,
    /// Its comment.
    pub comment: Option<Comment>,
    /// Its own timeout in seconds.
    pub timeout: Option<u32>,
    /// What it was made for; does not count in comparisons.
    pub tag: Option<Tag>,
}

impl PartialEq for Element {
    fn eq(&self, other: &Element) -> bool {
        self.data == other.data && self.comment == other.comment && self.timeout == other.timeout
    }
}

impl Eq for Element {}

impl Element {
    /// An element of a map.
    pub fn of(data: Data) -> Element {
        Element { data: Some(data), ..Element::default() }
    }

    /// Whether the kernel treats both the same. A comment counts against another comment alone: it tells whose the element
    /// is, and not every kernel and tool tells it.
    pub fn is_same(&self, other: &Element) -> bool {
        let is_anothers = self.comment.is_some() && other.comment.is_some() && self.comment != other.comment;
        self.data == other.data && self.timeout == other.timeout && !is_anothers
    }
}

/// A set, or a map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    /// The types of its keys' values.
    pub key: Vec<ScalarType>,
    /// What it gives; `None` for a set, which gives nothing.
    pub data: Option<DataType>,
    /// Its flags.
    pub flags: SetFlags,
    /// The timeout of elements in seconds.
    pub timeout: Option<u32>,
    /// The most elements it can have.
    pub size: Option<u32>,
    /// Its comment.
    pub comment: Option<Comment>,
    /// Its elements.
    pub elements: BTreeMap<Key, Element>,
    /// Whether it has other elements, which are not modelled.
    pub has_unmodelled: bool,
}

impl Set {
    /// The types of what it gives; none for a set, and for a map of verdicts.
    pub fn values(&self) -> &[ScalarType] {
        match &self.data {
            Some(DataType::Values(types)) => types,
            Some(DataType::Verdict) | None => &[],
        }
    }

    /// Whether it is made by examples of its types: a number of its own has no name, but every type has an expression.
    pub fn is_by_example(&self) -> bool {
        self.key.iter().chain(self.values()).any(|one| *one == ScalarType::Integer)
    }
}
