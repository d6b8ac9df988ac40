//! Reads a table from what the kernel lists: what to ask for, in which order, and what the answers say.
//!
//! What is not modelled is noted where it is, and never guessed: whoever wants its words asks nft. nft 1.0.6 leaves comments
//! of tables and chains and the flag `dynamic` out of its JSON; here they are.

mod rule;
mod set;

use std::collections::BTreeMap;

use crate::net::IpFamily;
use crate::program::nft::name::Names;
use crate::program::nft::{
    Base, Chain, ChainKind, Family, Hook, Name, Policy, Rule, Stmt, Table, wire::batch::hook_number,
};

use self::set::LiveSet;
use super::attribute::{Buffer, ByKind};
use super::uapi::{self, chain, element, family, generation, message, table, verdict};
use super::userdata;

/// What is asked of the kernel. All but the first two are answered with a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// The table itself.
    Table,
    /// Chains, those of other tables of the family, too.
    Chains,
    /// Sets and maps, those without a name, too; without their elements.
    Sets,
    /// The elements of one of them.
    Elements(&'a str),
    /// Rules.
    Rules,
    /// The rules of one chain.
    RulesOf(&'a str),
    /// Counters, quotas and their like.
    Objects,
    /// Flowtables.
    Flowtables,
}

/// A request without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The type of the message.
    pub kind: u16,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// Asks for all tables, of every family.
pub fn tables_request() -> Request {
    Request { kind: message::GET_TABLE, body: vec![0; HEADER] }
}

/// Asks for the generation: a number that is another one after each change of anything.
pub fn generation_request() -> Request {
    Request { kind: message::GET_GENERATION, body: vec![0; HEADER] }
}

/// Family and name of the table that an answer is about; `None` if it is about none.
pub fn table_of(kind: u16, body: &[u8]) -> Option<(Family, &str)> {
    let family = match *body.first().filter(|_| kind == message::NEW_TABLE)? {
        family::INET => Family::Inet,
        family::IPV4 => Family::Ip,
        family::ARP => Family::Arp,
        family::NETDEV => Family::Netdev,
        family::BRIDGE => Family::Bridge,
        family::IPV6 => Family::Ip6,
        _ => return None,
    };
    Some((family, ByKind::of(body.get(HEADER..)?).text(table::NAME)?))
}

/// The generation that an answer tells.
pub fn generation(kind: u16, body: &[u8]) -> Option<u32> {
    let attributes = ByKind::of(body.get(HEADER..)?);
    attributes.number(generation::ID).filter(|_| kind == message::NEW_GENERATION)
}

/// Bytes before the attributes of a message (`struct nfgenmsg`).
const HEADER: usize = 4;
/// NFTA_OBJ_NAME and NFTA_FLOWTABLE_NAME.
const OBJECT_NAME: u16 = 2;

/// A table that is being read.
#[derive(Debug)]
pub struct Reading {
    family: IpFamily,
    table: Table,
    is_there: bool,
    names: Names,
    sets: BTreeMap<Box<str>, LiveSet>,
    are_sets_complete: bool,
}

impl Reading {
    /// Of a table of which nothing is known yet.
    pub fn new(family: IpFamily, name: Name) -> Reading {
        Reading {
            family,
            table: Table::new(Family::from(family), name),
            is_there: false,
            names: Names::default(),
            sets: BTreeMap::new(),
            are_sets_complete: false,
        }
    }

    /// What to send for an answer.
    pub fn request(&self, question: Question<'_>) -> Request {
        let mut buffer = Buffer::default();
        buffer.bytes.extend_from_slice(&[self.family.number(), 0, 0, 0]);
        let (kind, names_table) = match question {
            Question::Table => (message::GET_TABLE, true),
            Question::Chains => (message::GET_CHAIN, false),
            Question::Sets => (message::GET_SET, true),
            Question::Elements(_) => (message::GET_ELEMENTS, true),
            Question::Rules | Question::RulesOf(_) => (message::GET_RULE, true),
            Question::Objects => (message::GET_OBJECT, true),
            Question::Flowtables => (message::GET_FLOWTABLE, true),
        };
        if names_table {
            buffer.put_text(table::NAME, self.table.name.as_str());
        }
        if let Question::Elements(set) = question {
            buffer.put_text(element::SET, set);
        }
        if let Question::RulesOf(chain) = question {
            buffer.put_text(uapi::rule::CHAIN, chain);
        }
        Request { kind, body: buffer.bytes }
    }

    /// Takes an answer.
    pub fn take(&mut self, kind: u16, body: &[u8]) {
        let attributes = ByKind::of(body.get(HEADER..).unwrap_or_default());
        // Lists can be of more than one table.
        if attributes.text(table::NAME) != Some(self.table.name.as_str()) {
            return;
        }
        match kind {
            message::NEW_TABLE => {
                let noted = attributes.get(table::USERDATA);
                self.is_there = true;
                self.table.comment = userdata::read_comment(noted, userdata::COMMENT);
            }
            message::NEW_CHAIN => self.chain(&attributes),
            message::NEW_SET => self.set(&attributes),
            message::NEW_ELEMENTS => {
                let set = attributes.text(element::SET).and_then(|name| self.sets.get_mut(name));
                if let Some((set, list)) = set.zip(attributes.get(element::ELEMENTS)) {
                    set.add(list, &mut self.names);
                }
            }
            message::NEW_RULE => self.rule(&attributes),
            message::NEW_OBJECT => self.unmodelled("object", attributes.text(OBJECT_NAME)),
            message::NEW_FLOWTABLE => self.unmodelled("flowtable", attributes.text(OBJECT_NAME)),
            _ => {}
        }
    }

    /// The sets whose elements are to be asked for, by name.
    pub fn set_names(&self) -> Vec<Box<str>> {
        self.sets.keys().cloned().collect()
    }

    /// The table, when every question has been answered. `None` if there is none.
    pub fn finish(mut self) -> Option<Table> {
        self.complete_sets();
        for (name, live) in self.sets {
            if live.is_anonymous() {
                continue;
            }
            match self.names.get(&name) {
                Some(key) => drop(self.table.sets.insert(key, live.into_set())),
                None => self.table.unmodelled.push(format!("set {name}").into()),
            }
        }
        self.is_there.then_some(self.table)
    }

    fn unmodelled(&mut self, kind: &str, name: Option<&str>) {
        self.table.unmodelled.push(format!("{kind} {}", name.unwrap_or_default()).into());
    }

    fn chain(&mut self, attributes: &ByKind<'_>) {
        let name = attributes.text(chain::NAME);
        // Others are in hardware, or belong to a rule.
        let is_plain = attributes.number(chain::FLAGS).unwrap_or(0) & !chain::IS_BASE == 0;
        let base = match attributes.nested(chain::HOOK) {
            None => Some(None),
            Some(hook) => base(attributes, &hook).map(Some),
        };
        match (name.and_then(|name| self.names.get(name)), base) {
            (Some(name), Some(base)) if is_plain => {
                let comment = userdata::read_comment(attributes.get(chain::USERDATA), userdata::COMMENT);
                self.table.chains.insert(name, Chain { base, comment, rules: Vec::new() });
            }
            (Some(_) | None, _) => self.unmodelled("chain", name),
        }
    }

    fn set(&mut self, attributes: &ByKind<'_>) {
        match LiveSet::read(attributes) {
            Some((name, set)) => drop(self.sets.insert(name, set)),
            None => self.unmodelled("set", attributes.text(uapi::set::NAME)),
        }
    }

    fn complete_sets(&mut self) {
        if !std::mem::replace(&mut self.are_sets_complete, true) {
            self.sets.values_mut().for_each(LiveSet::complete);
        }
    }

    fn rule(&mut self, attributes: &ByKind<'_>) {
        // What a rule looks into must be known.
        self.complete_sets();
        let expressions = attributes.get(uapi::rule::EXPRESSIONS).unwrap_or_default();
        let stmts = rule::stmts(expressions, self.family, &self.sets, &mut self.names)
            .filter(|_| !attributes.has(uapi::rule::COMPAT))
            .unwrap_or_else(|| vec![Stmt::Unmodelled(rule::names(expressions).into())]);
        let rule = Rule {
            stmts,
            comment: userdata::read_comment(attributes.get(uapi::rule::USERDATA), userdata::COMMENT),
            tag: None,
            handle: attributes.long_number(uapi::rule::HANDLE),
        };
        let name = attributes.text(uapi::rule::CHAIN);
        match name.and_then(|name| self.table.chains.get_mut(name)) {
            Some(chain) => chain.rules.push(rule),
            None => self.unmodelled("rule of chain", name),
        }
    }
}

fn base(attributes: &ByKind<'_>, hook: &ByKind<'_>) -> Option<Base> {
    let said = hook.number(chain::HOOK_NUMBER)?;
    let all = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    Some(Base {
        kind: match attributes.text(chain::TYPE)? {
            "filter" => ChainKind::Filter,
            "nat" => ChainKind::Nat,
            "route" => ChainKind::Route,
            _ => return None,
        },
        hook: all.into_iter().find(|hook| hook_number(*hook) == Some(said))?,
        priority: hook.number(chain::HOOK_PRIORITY)?.cast_signed(),
        policy: match attributes.number(chain::POLICY)?.cast_signed() {
            verdict::ACCEPT => Policy::Accept,
            verdict::DROP => Policy::Drop,
            _ => return None,
        },
    })
}
