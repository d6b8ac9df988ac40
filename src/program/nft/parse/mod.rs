//! Reads what `nft -j list ruleset` and its like print (nft 1.0.6, and later versions where they differ).
//!
//! Whatever is not modelled is kept as such; only text that is no JSON of nft at all is an error. One object at a time is
//! in memory apart from the result.

mod expr;
mod statement;

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::name::Names;
use super::{
    Base, Chain, ChainKind, Comment, Data, DataType, Element, Family, Hook, Key, Policy, Rule, Ruleset,
    ScalarType, Set, SetFlags, Stmt, Table,
};

/// Why a text is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no JSON of nft: {0}")]
pub struct ParseError(String);

/// Reads a whole listing.
pub fn parse(json: &[u8]) -> Result<Ruleset, ParseError> {
    let mut reader = Reader::default();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Listing(&mut reader)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| ParseError(error.to_string()))?;
    Ok(reader.finish())
}

/// `{"nftables": [ … ]}`.
struct Listing<'r>(&'r mut Reader);

impl<'de> DeserializeSeed<'de> for Listing<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Listing<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `nftables`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == "nftables" {
                found = true;
                map.next_value_seed(Objects(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(serde::de::Error::missing_field("nftables")) }
    }
}

/// The list in it.
struct Objects<'r>(&'r mut Reader);

impl<'de> DeserializeSeed<'de> for Objects<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Objects<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(object) = list.next_element::<Value>()? {
            self.0.object(&object);
        }
        Ok(())
    }
}

/// What has been read.
#[derive(Default)]
struct Reader {
    tables: Vec<Table>,
    unmodelled: Vec<Box<str>>,
    names: Names,
}

/// The only member of an object, as `{"rule": {…}}`.
fn only_member(value: &Value) -> Option<(&str, &Value)> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    map.iter().next().map(|(key, value)| (key.as_str(), value))
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

fn small(value: &Value, key: &str) -> Option<u32> {
    value.get(key)?.as_u64()?.try_into().ok()
}

fn comment(value: &Value) -> Option<Comment> {
    text(value, "comment").map(Comment::lossy)
}

/// The words of a list; one word may stand alone.
fn words(value: Option<&Value>) -> Option<Vec<&str>> {
    match value {
        None => Some(Vec::new()),
        Some(Value::String(word)) => Some(vec![word]),
        Some(Value::Array(words)) => words.iter().map(Value::as_str).collect(),
        Some(_) => None,
    }
}

impl Reader {
    fn finish(self) -> Ruleset {
        let mut ruleset = Ruleset { unmodelled: self.unmodelled, ..Ruleset::default() };
        for mut table in self.tables {
            mark_dynamic(&mut table);
            ruleset.tables.insert((table.family, table.name.clone()), table);
        }
        ruleset
    }

    fn object(&mut self, object: &Value) {
        let Some((kind, value)) = only_member(object) else { return };
        if kind == "metainfo" {
            return;
        }
        let name = text(value, "name").unwrap_or_default();
        let place = if kind == "table" { name } else { text(value, "table").unwrap_or_default() };
        let family = text(value, "family").and_then(Family::from_name);
        let Some(table) = family.and_then(|family| self.table(family, place)) else {
            self.unmodelled.push(format!("{kind} {name}").into());
            return;
        };
        let (tables, names) = (&mut self.tables, &mut self.names);
        let Some(table) = tables.get_mut(table) else { return };
        let known = match kind {
            "table" => {
                table.comment = comment(value);
                true
            }
            "chain" => chain(table, names, value).is_some(),
            "set" | "map" => set(table, names, value).is_some(),
            "rule" => rule(table, names, value).is_some(),
            _ => false,
        };
        if !known {
            table.unmodelled.push(format!("{kind} {name}").into());
        }
    }

    /// The index of a table. Nearly always the last one is asked for.
    fn table(&mut self, family: Family, name: &str) -> Option<usize> {
        let is_it = |table: &Table| table.family == family && table.name.as_str() == name;
        if let Some(found) = self.tables.iter().rposition(is_it) {
            return Some(found);
        }
        let name = self.names.get(name)?;
        self.tables.push(Table::new(family, name));
        Some(self.tables.len() - 1)
    }
}

fn chain(table: &mut Table, names: &mut Names, value: &Value) -> Option<()> {
    let base = match value.get("hook") {
        None => None,
        Some(_) => Some(Base {
            kind: match text(value, "type")? {
                "filter" => ChainKind::Filter,
                "nat" => ChainKind::Nat,
                "route" => ChainKind::Route,
                _ => return None,
            },
            hook: Hook::from_name(text(value, "hook")?)?,
            priority: value.get("prio")?.as_i64()?.try_into().ok()?,
            policy: match text(value, "policy") {
                Some("drop") => Policy::Drop,
                Some(_) | None => Policy::Accept,
            },
        }),
    };
    let chain = Chain { base, comment: comment(value), rules: Vec::new() };
    table.chains.insert(names.get(text(value, "name")?)?, chain);
    Some(())
}

fn rule(table: &mut Table, names: &mut Names, value: &Value) -> Option<()> {
    let stmts = value.get("expr")?.as_array()?;
    let family = table.family;
    let stmts = stmts.iter().map(|stmt| statement::stmt(stmt, family, names)).collect();
    let handle = value.get("handle").and_then(Value::as_u64);
    let rule = Rule { stmts, comment: comment(value), tag: None, handle };
    let chain = text(value, "chain")?;
    match table.chains.get_mut(chain) {
        Some(chain) => chain.rules.push(rule),
        // A listing of a single chain's rules says nothing else about it.
        None => {
            let chain = names.get(chain)?;
            table.chains.entry(chain).or_default().rules.push(rule);
        }
    }
    Some(())
}

fn set(table: &mut Table, names: &mut Names, value: &Value) -> Option<()> {
    let name = names.get(text(value, "name")?)?;
    let data = match value.get("map") {
        None => None,
        Some(Value::String(word)) if word == "verdict" => Some(DataType::Verdict),
        Some(types) => Some(DataType::Values(self::types(types)?)),
    };
    let key = types(value.get("type")?)?;
    let flag_words = words(value.get("flags"))?;
    let flags = SetFlags {
        constant: flag_words.contains(&"constant"),
        interval: flag_words.contains(&"interval"),
        timeout: flag_words.contains(&"timeout"),
        dynamic: flag_words.contains(&"dynamic"),
    };
    let mut set = Set {
        key,
        data,
        flags,
        timeout: small(value, "timeout"),
        size: small(value, "size"),
        comment: comment(value),
        ..Set::default()
    };
    if let Some(elements) = value.get("elem") {
        for one in elements.as_array()? {
            match element(&set, one, names) {
                Some((key, element)) => {
                    set.elements.insert(key, element);
                }
                None => set.has_unmodelled = true,
            }
        }
    }
    table.sets.insert(name, set);
    Some(())
}

/// `"ipv4_addr"`, `["ipv4_addr", "inet_service"]`, `"ipv4_addr . inet_service"`, or by example: `{"typeof": …}`.
fn types(value: &Value) -> Option<Vec<ScalarType>> {
    match value {
        Value::String(text) => Some(text.split(" . ").map(ScalarType::from_name).collect()),
        Value::Array(list) => {
            list.iter().map(|one| one.as_str().map(ScalarType::from_name)).collect::<Option<Vec<_>>>()
        }
        Value::Object(_) => {
            let example = expr::expr(value.get("typeof").unwrap_or(value));
            Some(example.map_or_else(|| vec![ScalarType::Other("typeof".into())], |example| example.types()))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn element(set: &Set, value: &Value, names: &mut Names) -> Option<(Key, Element)> {
    let (key, data) = match &set.data {
        None => (value, None),
        Some(kind) => {
            let [key, data] = value.as_array()?.as_slice() else { return None };
            let data = match kind {
                DataType::Verdict => Data::Verdict(statement::verdict(data, names)?),
                DataType::Values(types) => Data::values(expr::values(data, types)?),
            };
            (key, Some(data))
        }
    };
    let mut element = Element { data, ..Element::default() };
    let key = match key.get("elem") {
        None => key,
        Some(wrapped) => {
            element.comment = comment(wrapped);
            element.timeout = small(wrapped, "timeout");
            wrapped.get("val")?
        }
    };
    Some((expr::key(key, &set.key)?, element))
}

/// A set that a rule changes is dynamic: the kernel sees to it.
fn mark_dynamic(table: &mut Table) {
    for stmt in table.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.stmts) {
        if let Stmt::UpdateSet { set, .. } = stmt
            && let Some(set) = table.sets.get_mut(set)
        {
            set.flags.dynamic = true;
        }
    }
}
