//! Effects as data: one thing that is done to a host.

use std::fmt;

use crate::net::IpFamily;
use crate::program::xtables::emit::Emitted;
use crate::program::xtables::{ChainName, Rule, TableName};

/// One step. A step is done as a whole or not at all.
#[derive(Debug, Clone)]
pub enum Step {
    /// Feeds a document to iptables-restore: chains made, rewritten and deleted at once.
    XtablesRestore {
        /// iptables or ip6tables.
        family: IpFamily,
        /// The document, and what its lines were made for.
        document: Emitted,
        /// Chains made or rewritten.
        n_chains: usize,
        /// Rules written.
        n_rules: usize,
        /// Chains deleted.
        n_deleted: usize,
    },
    /// Gives a document to nft: one transaction.
    NftTransaction {
        /// The family of its table.
        family: IpFamily,
        /// The document, and what its lines were made for.
        document: Emitted,
        /// What it does, in a word or two.
        what: &'static str,
    },
    /// Inserts a jump at the head of a chain that is not ours.
    InsertJump {
        /// iptables or ip6tables.
        family: IpFamily,
        /// The table.
        table: TableName,
        /// The chain, a built-in one.
        chain: ChainName,
        /// The jump.
        rule: Rule,
    },
    /// Appends a jump to a chain that is not ours: it stands behind the rules of others.
    AppendJump {
        /// iptables or ip6tables.
        family: IpFamily,
        /// The table.
        table: TableName,
        /// The chain, a built-in one.
        chain: ChainName,
        /// The jump.
        rule: Rule,
    },
    /// Deletes a jump of ours from a chain that is not ours.
    DeleteJump {
        /// iptables or ip6tables.
        family: IpFamily,
        /// The table.
        table: TableName,
        /// The chain.
        chain: ChainName,
        /// The jump.
        rule: Rule,
    },
    /// Makes an nfacct object.
    AddNfacct {
        /// Its name.
        name: String,
    },
    /// Sets a kernel setting.
    SetSysctl {
        /// Path below /proc/sys.
        key: String,
        /// The value.
        value: String,
    },
}

impl Step {
    /// The family that it touches, if it is a matter of one.
    pub fn family(&self) -> Option<IpFamily> {
        match self {
            Step::XtablesRestore { family, .. }
            | Step::NftTransaction { family, .. }
            | Step::InsertJump { family, .. }
            | Step::AppendJump { family, .. }
            | Step::DeleteJump { family, .. } => Some(*family),
            Step::AddNfacct { .. } | Step::SetSysctl { .. } => None,
        }
    }

    /// How many rules it writes or removes.
    pub fn n_rules(&self) -> usize {
        match self {
            Step::XtablesRestore { n_rules, .. } => *n_rules,
            Step::InsertJump { .. } | Step::AppendJump { .. } | Step::DeleteJump { .. } => 1,
            Step::NftTransaction { document, .. } => document
                .text
                .split(|byte| *byte == b'\n')
                .filter(|line| line.starts_with(b"add rule"))
                .count(),
            Step::AddNfacct { .. } | Step::SetSysctl { .. } => 0,
        }
    }
}

/// `iptables` or `ip6tables`.
pub(super) fn tool(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "iptables",
        IpFamily::V6 => "ip6tables",
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::XtablesRestore { family, n_chains, n_rules, n_deleted, document } => write!(
                f,
                "{}-restore: {} with {} written, {} deleted, {} bytes",
                tool(*family),
                counted(*n_chains, "chain"),
                counted(*n_rules, "rule"),
                counted(*n_deleted, "chain"),
                document.text.len(),
            ),
            Step::NftTransaction { family, document, what } => {
                write!(f, "nft: {what} of {family}, {} bytes", document.text.len())
            }
            Step::InsertJump { family, table, chain, rule } => {
                write!(f, "{} -t {table}: insert into {chain} the jump to {}", tool(*family), jumped_to(rule))
            }
            Step::AppendJump { family, table, chain, rule } => {
                write!(f, "{} -t {table}: append to {chain} the jump to {}", tool(*family), jumped_to(rule))
            }
            Step::DeleteJump { family, table, chain, rule } => {
                write!(f, "{} -t {table}: delete from {chain} the jump to {}", tool(*family), jumped_to(rule))
            }
            Step::AddNfacct { name } => write!(f, "nfacct: add {name}"),
            Step::SetSysctl { key, value } => write!(f, "sysctl: {} = {value}", key.replace('/', ".")),
        }
    }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn jumped_to(rule: &Rule) -> &str {
    rule.chain().map_or("", ChainName::as_str)
}
