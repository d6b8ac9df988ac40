//! Reads iptables-save output of the legacy and the nf_tables tool, and what is written for iptables-restore.

mod matches;
mod rule;
mod value;

use std::collections::BTreeMap;
use std::fmt;

use nom::Parser;
use nom::bytes::complete::{take_till1, take_while1};
use nom::character::complete::{char, digit1, space0, space1};
use nom::combinator::{all_consuming, opt};
use nom::sequence::{delimited, preceded, separated_pair, terminated};

use crate::net::IpFamily;

use super::{Chain, ChainName, Counter, Counters, Policy, Rule, RuleOrder, Ruleset, Table, TableName};
use rule::{Fault, RuleReader};

/// Why a text is no rule set, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What should have been there.
    pub expected: Expected,
}

/// What should have been in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A piece of the grammar.
    Grammar(&'static str),
    /// A table that was not there before.
    NewTable(TableName),
    /// A chain that was not there before.
    NewChain(ChainName),
    /// A chain that was declared.
    KnownChain(ChainName),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Grammar(what) => f.write_str(what),
            Expected::NewTable(table) => write!(f, "another table: `{table}` is there twice"),
            Expected::NewChain(chain) => write!(f, "another chain: `{chain}` is there twice"),
            Expected::KnownChain(chain) => write!(f, "a chain that was declared, not `{chain}`"),
        }
    }
}

/// The longest rule that goes over several lines, in bytes; what iptables-restore takes as a line.
const LONGEST_RULE: usize = 10_240;

/// Reads a text of one family.
pub fn parse(text: &str, family: IpFamily) -> Result<Ruleset, ParseError> {
    Reader::new(text, family).read_all()
}

/// Reads a text of one family with what its rules have counted (`iptables-save -c`).
pub fn parse_counted(text: &str, family: IpFamily) -> Result<(Ruleset, Counters), ParseError> {
    let mut reader = Reader { counters: Some(Counters::default()), ..Reader::new(text, family) };
    let ruleset = reader.read_all()?;
    Ok((ruleset, reader.counters.unwrap_or_default()))
}

/// A chain that a table has declared.
#[derive(Debug)]
struct Declared {
    name: ChainName,
    line: u32,
    deleted: bool,
    chain: Chain,
}

/// A table that is being read.
#[derive(Debug)]
struct OpenTable {
    name: TableName,
    chains: Vec<Declared>,
    /// Indices of `chains` by name, and how many of `chains` it covers.
    by_name: Vec<u32>,
    /// Where the rules at hand belong.
    current: Option<usize>,
    rules: Vec<Rule>,
}

impl OpenTable {
    fn new(name: TableName) -> OpenTable {
        OpenTable { name, chains: Vec::new(), by_name: Vec::new(), current: None, rules: Vec::new() }
    }

    /// Puts the rules at hand into their chain.
    fn settle(&mut self) {
        if let Some(current) = self.current.take() {
            let rules = &mut self.chains[current].chain.rules;
            rules.reserve_exact(self.rules.len());
            rules.append(&mut self.rules);
        }
    }

    /// Sorts the chains by name. Chains that are there twice are an error.
    fn index(&mut self) -> Result<(), (u32, ChainName)> {
        if self.by_name.len() == self.chains.len() {
            return Ok(());
        }
        let known = self.by_name.len() as u32;
        self.by_name.extend(known..self.chains.len() as u32);
        let chains = &self.chains;
        self.by_name.sort_by(|a, b| chains[*a as usize].name.cmp(&chains[*b as usize].name));
        for pair in self.by_name.windows(2) {
            let (first, second) = (&chains[pair[0] as usize], &chains[pair[1] as usize]);
            if first.name == second.name {
                return Err((first.line.max(second.line), first.name));
            }
        }
        Ok(())
    }

    fn is_current(&self, name: &str) -> bool {
        self.current.is_some_and(|current| self.chains[current].name.as_bytes() == name.as_bytes())
    }

    /// Finds a chain, and puts the rules at hand into theirs.
    fn open(&mut self, name: &str) -> Result<Option<usize>, (u32, ChainName)> {
        self.index()?;
        let found = self.find(name);
        self.settle();
        Ok(found)
    }

    /// The chain of this name. Needs the index.
    fn find(&self, name: &str) -> Option<usize> {
        // A listing has the rules in the order of the chains.
        let hint = self.current.map_or(0, |current| current + 1);
        if let Some(next) = self.chains.get(hint)
            && next.name.as_bytes() == name.as_bytes()
            && !next.deleted
        {
            return Some(hint);
        }
        let at = self
            .by_name
            .binary_search_by(|index| self.chains[*index as usize].name.as_bytes().cmp(name.as_bytes()))
            .ok()?;
        let index = self.by_name[at] as usize;
        (!self.chains[index].deleted).then_some(index)
    }

    fn close(mut self) -> Result<Table, (u32, ChainName)> {
        self.settle();
        self.index()?;
        let mut sorted: Vec<(ChainName, Chain)> = Vec::with_capacity(self.chains.len());
        for index in &self.by_name {
            let declared = &mut self.chains[*index as usize];
            if !declared.deleted {
                sorted.push((declared.name, std::mem::take(&mut declared.chain)));
            }
        }
        Ok(Table { chains: sorted.into_iter().collect() })
    }
}

/// Reads a text line by line.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    rules: RuleReader,
    tables: BTreeMap<TableName, Table>,
    table: Option<OpenTable>,
    /// What rules have counted, if somebody wants to know.
    counters: Option<Counters>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, family: IpFamily) -> Reader<'a> {
        Reader {
            text,
            at: 0,
            line: 0,
            rules: RuleReader::new(family),
            tables: BTreeMap::new(),
            table: None,
            counters: None,
        }
    }

    fn read_all(&mut self) -> Result<Ruleset, ParseError> {
        while let Some(line) = self.next_line() {
            self.read_line(line)?;
        }
        match &self.table {
            Some(_) => Err(self.error_at(self.line + 1, "", 0, Expected::Grammar("COMMIT"))),
            None => Ok(Ruleset { family: self.rules.family(), tables: std::mem::take(&mut self.tables) }),
        }
    }

    fn next_line(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let len = rest.find('\n').unwrap_or(rest.len());
        self.at += (len + 1).min(rest.len());
        self.line += 1;
        Some(rest[..len].trim_end_matches('\r'))
    }

    /// Adds the next line to the one at hand: a quote is open at its end. A rule takes no long texts: a quote that stays
    /// open for long is an error.
    fn extend(&mut self, line: &'a str) -> Option<&'a str> {
        if line.len() > LONGEST_RULE {
            return None;
        }
        let start = line.as_ptr() as usize - self.text.as_ptr() as usize;
        self.next_line()?;
        self.text.get(start..self.at).map(|longer| longer.trim_end_matches(['\n', '\r']))
    }

    fn error(&self, line: &str, at: usize, expected: &'static str) -> ParseError {
        self.error_at(self.line, line, at, Expected::Grammar(expected))
    }

    fn error_at(&self, line_number: u32, line: &str, at: usize, expected: Expected) -> ParseError {
        let column = line.char_indices().take_while(|(start, _)| *start < at).count() as u32 + 1;
        ParseError { line: line_number, column, expected }
    }

    fn read_line(&mut self, line: &'a str) -> Result<(), ParseError> {
        match line.as_bytes().first() {
            None | Some(b'#') => Ok(()),
            Some(b'-' | b'[') => self.read_command(line),
            Some(b':') => self.read_chain(line),
            Some(b'*') => self.read_table(line),
            Some(_) if line.trim().is_empty() => Ok(()),
            Some(_) if line.trim_end() == "COMMIT" => self.commit(line),
            Some(_) => Err(self.error(line, 0, "a table, a chain, a rule, COMMIT or a comment")),
        }
    }

    fn read_table(&mut self, line: &str) -> Result<(), ParseError> {
        if self.table.is_some() {
            return Err(self.error(line, 0, "COMMIT before the next table"));
        }
        let Some(name) = TableName::from_name(line[1..].trim()) else {
            return Err(self.error(line, 1, "the name of a table: filter, mangle, nat, raw or security"));
        };
        if self.tables.contains_key(&name) {
            return Err(self.error_at(self.line, line, 1, Expected::NewTable(name)));
        }
        self.table = Some(OpenTable::new(name));
        Ok(())
    }

    fn commit(&mut self, line: &str) -> Result<(), ParseError> {
        let Some(table) = self.table.take() else {
            return Err(self.error(line, 0, "a table before COMMIT"));
        };
        let name = table.name;
        let closed =
            table.close().map_err(|(at, chain)| self.error_at(at, "", 0, Expected::NewChain(chain)))?;
        self.tables.insert(name, closed);
        Ok(())
    }

    /// `:CHAIN POLICY [packets:bytes]`.
    fn read_chain(&mut self, line: &str) -> Result<(), ParseError> {
        type Error<'e> = nom::error::Error<&'e str>;
        let word = || take_till1::<_, _, Error<'_>>(|c: char| c == ' ' || c == '\t');
        let counters = delimited(char('['), separated_pair(digit1, char(':'), digit1), char(']'));
        let rest = (preceded(space1, word()), opt(preceded(space1, counters)));
        let parsed = all_consuming((preceded(char(':'), word()), terminated(rest, space0))).parse(line);
        let Ok((_, (name, (policy, _)))) = parsed else {
            return Err(self.error(line, 1, "a chain, its policy, and counters in brackets"));
        };
        let policy = match policy {
            "-" => None,
            "ACCEPT" => Some(Policy::Accept),
            "DROP" => Some(Policy::Drop),
            _ => return Err(self.error(line, 2 + name.len(), "a policy: ACCEPT, DROP or -")),
        };
        self.declare(line, 1, name, policy)
    }

    fn declare(
        &mut self,
        line: &str,
        at: usize,
        name: &str,
        policy: Option<Policy>,
    ) -> Result<(), ParseError> {
        let name = ChainName::new(name).map_err(|_| {
            self.error(line, at, "the name of a chain: at most 28 characters, none of them quotes")
        })?;
        let number = self.line;
        let Some(table) = &mut self.table else {
            return Err(self.error(line, 0, "a table before its chains"));
        };
        let chain = Chain { policy, rules: Vec::new(), order: RuleOrder::Exact };
        table.chains.push(Declared { name, line: number, deleted: false, chain });
        Ok(())
    }

    /// `-A CHAIN ...`, `-N CHAIN`, `-X CHAIN`; counters may stand before.
    fn read_command(&mut self, line: &'a str) -> Result<(), ParseError> {
        let (start, counter) = match line.starts_with('[') {
            true => self.read_counters(line).map(|(start, counter)| (start, Some(counter)))?,
            false => (0, None),
        };
        let word = |text: &'a str| {
            let mut parser = take_while1::<_, _, nom::error::Error<&str>>(|c: char| c != ' ' && c != '\t');
            parser.parse(text).map_or((text, ""), |(rest, word)| (rest, word))
        };
        let (after, command) = word(&line[start..]);
        let name_at = line.len() - after.trim_start_matches([' ', '\t']).len();
        let (body, name) = word(&line[name_at..]);
        if self.table.is_none() {
            return Err(self.error(line, 0, "a table before its rules"));
        }
        if name.is_empty() {
            return Err(self.error(line, name_at, "the name of a chain"));
        }
        match command {
            "-A" | "--append" => {
                self.append(line, name_at, name, line.len() - body.len())?;
                self.count(counter);
                Ok(())
            }
            "-N" | "--new-chain" => self.declare(line, name_at, name, None),
            "-X" | "--delete-chain" => {
                let found = self.find(line, name_at, name)?;
                if let Some(table) = &mut self.table {
                    table.chains[found].deleted = true;
                }
                Ok(())
            }
            _ => Err(self.error(line, start, "-A, -N or -X")),
        }
    }

    fn read_counters(&self, line: &str) -> Result<(usize, Counter), ParseError> {
        type Error<'e> = nom::error::Error<&'e str>;
        let counters = separated_pair(digit1::<&str, Error<'_>>, char(':'), digit1);
        match terminated(delimited(char('['), counters, char(']')), space1).parse(line) {
            Ok((rest, (packets, bytes))) => {
                // More than fits is more than anybody can count.
                let number = |digits: &str| digits.parse().unwrap_or(u64::MAX);
                let counter = Counter { packets: number(packets), bytes: number(bytes) };
                Ok((line.len() - rest.len(), counter))
            }
            Err(_) => Err(self.error(line, 1, "packets:bytes] and a rule")),
        }
    }

    /// Keeps what the rule that was read last has counted.
    fn count(&mut self, counter: Option<Counter>) {
        if let (Some(counters), Some(counter), Some(table)) = (&mut self.counters, counter, &self.table)
            && let Some(declared) = table.current.and_then(|current| table.chains.get(current))
            && let Some(index) = (declared.chain.rules.len() + table.rules.len()).checked_sub(1)
        {
            counters.count((table.name, declared.name, index), counter);
        }
    }

    /// The chain of this name in the open table, whose rules so far are then in their chains.
    fn find(&mut self, line: &str, at: usize, name: &str) -> Result<usize, ParseError> {
        let found = match &mut self.table {
            Some(table) => table.open(name),
            None => Ok(None),
        };
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(self.undeclared(line, at, name)),
            Err((number, chain)) => Err(self.error_at(number, "", 0, Expected::NewChain(chain))),
        }
    }

    fn undeclared(&self, line: &str, at: usize, name: &str) -> ParseError {
        match ChainName::new(name) {
            Ok(chain) => self.error_at(self.line, line, at, Expected::KnownChain(chain)),
            Err(_) => self.error(line, at, "the name of a chain"),
        }
    }

    fn append(
        &mut self,
        line: &'a str,
        name_at: usize,
        name: &str,
        body_at: usize,
    ) -> Result<(), ParseError> {
        let same = self.table.as_ref().is_some_and(|table| table.is_current(name));
        if !same {
            let found = self.find(line, name_at, name)?;
            if let Some(table) = &mut self.table {
                table.current = Some(found);
            }
        }
        let rule = self.read_rule(line, body_at)?;
        if let Some(table) = &mut self.table {
            table.rules.push(rule);
        }
        Ok(())
    }

    fn read_rule(&mut self, mut line: &'a str, body_at: usize) -> Result<Rule, ParseError> {
        let first = self.line;
        let resume = self.at;
        loop {
            match self.rules.read(&line[body_at..]) {
                Ok(rule) => return Ok(rule),
                Err(Fault { open_quote: true, at, expected }) => match self.extend(line) {
                    Some(longer) => line = longer,
                    None => {
                        self.at = resume;
                        let expected = Expected::Grammar(expected);
                        let shown = line.lines().next().unwrap_or_default();
                        return Err(self.error_at(first, shown, body_at + at, expected));
                    }
                },
                Err(Fault { open_quote: false, at, expected }) => {
                    return Err(self.error_at(first, line, body_at + at, Expected::Grammar(expected)));
                }
            }
        }
    }
}
