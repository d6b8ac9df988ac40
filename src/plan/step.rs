//! Effects as data: one thing that is done to a host.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::net::{AddrPort, IpFamily};
use crate::program::xtables::{ChainName, Rule, TableName};
use crate::program::{Emitted, ipset, ipvs, nft};

/// One step. Where nothing else is said, it is done as a whole or not at all.
#[derive(Debug, Clone)]
pub enum Step {
    /// Feeds a document to iptables-restore: chains made, rewritten and deleted at once, and jumps to them put into chains that
    /// are not ours.
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
        /// Jumps put in.
        n_jumps: usize,
    },
    /// Changes a table of nftables: one transaction.
    NftTransaction {
        /// The family of its table.
        family: IpFamily,
        /// The document for nft, and what its lines were made for.
        document: Emitted,
        /// The same for netlink. `None` if it is to go through nft, or cannot be said otherwise.
        batch: Option<nft::wire::Batch>,
        /// What it does, in a word or two.
        what: &'static str,
    },
    /// Deletes a jump of ours from a chain that is not ours: the first that equals it.
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
    /// Changes sets. Changes are taken in their order: those before the one that is refused stay.
    Ipset {
        /// The changes, in their order.
        changes: Vec<ipset::Change>,
        /// What they do, in a word or two.
        what: &'static str,
    },
    /// Changes virtual servers. Requests are taken one by one: others than the one that is refused can be done.
    Ipvs {
        /// The requests, in their order.
        requests: Vec<ipvs::Request>,
        /// What they do, in a word or two.
        what: &'static str,
    },
    /// Has the kernel forget UDP flows that virtual servers carry, so that each goes by the rules from its next packet on.
    HandOver {
        /// What the virtual servers are asked at.
        asked: BTreeSet<AddrPort>,
    },
    /// Makes a dummy device, and leaves it down.
    AddDummy {
        /// Its name.
        device: Box<str>,
    },
    /// Deletes a dummy device with its addresses.
    DeleteDummy {
        /// Its name.
        device: Box<str>,
    },
    /// Gives addresses to a device, each as a host's.
    AddAddresses {
        /// Its name.
        device: Box<str>,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Takes addresses from a device.
    DeleteAddresses {
        /// Its name.
        device: Box<str>,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
}

impl Step {
    /// The family that it touches, if it is a matter of one.
    pub fn family(&self) -> Option<IpFamily> {
        match self {
            Step::XtablesRestore { family, .. }
            | Step::NftTransaction { family, .. }
            | Step::DeleteJump { family, .. } => Some(*family),
            Step::AddNfacct { .. }
            | Step::SetSysctl { .. }
            | Step::Ipset { .. }
            | Step::Ipvs { .. }
            | Step::HandOver { .. }
            | Step::AddDummy { .. }
            | Step::DeleteDummy { .. }
            | Step::AddAddresses { .. }
            | Step::DeleteAddresses { .. } => None,
        }
    }

    /// How many rules of iptables or nftables it writes or removes.
    pub fn n_rules(&self) -> usize {
        match self {
            Step::XtablesRestore { n_rules, n_jumps, .. } => n_rules + n_jumps,
            Step::DeleteJump { .. } => 1,
            Step::NftTransaction { document, .. } => document
                .text
                .split(|byte| *byte == b'\n')
                .filter(|line| line.starts_with(b"add rule"))
                .count(),
            Step::AddNfacct { .. }
            | Step::SetSysctl { .. }
            | Step::Ipset { .. }
            | Step::Ipvs { .. }
            | Step::HandOver { .. }
            | Step::AddDummy { .. }
            | Step::DeleteDummy { .. }
            | Step::AddAddresses { .. }
            | Step::DeleteAddresses { .. } => 0,
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
            Step::XtablesRestore { family, n_chains, n_rules, n_deleted, n_jumps, document } => write!(
                f,
                "{}-restore: {} with {} written, {} deleted, {} put in, {} bytes",
                tool(*family),
                counted(*n_chains, "chain"),
                counted(*n_rules, "rule"),
                counted(*n_deleted, "chain"),
                counted(*n_jumps, "jump"),
                document.text.len(),
            ),
            Step::NftTransaction { family, document, what, .. } => {
                write!(f, "nft: {what} of {family}, {} bytes", document.text.len())
            }
            Step::DeleteJump { family, table, chain, rule } => {
                write!(f, "{} -t {table}: delete from {chain} the jump to {}", tool(*family), jumped_to(rule))
            }
            Step::AddNfacct { name } => write!(f, "nfacct: add {name}"),
            Step::SetSysctl { key, value } => write!(f, "sysctl: {} = {value}", key.replace('/', ".")),
            Step::Ipset { changes, what } => {
                let entries = changes.iter().map(|change| match change {
                    ipset::Change::Add(_, entries) | ipset::Change::Delete(_, entries) => entries.len(),
                    ipset::Change::Create(..) | ipset::Change::Swap(..) | ipset::Change::Destroy(_) => 0,
                });
                let (changes, entries) = (counted(changes.len(), "change"), counted(entries.sum(), "entry"));
                write!(f, "ipset: {what}, {changes} with {entries}")
            }
            Step::Ipvs { requests, what } => {
                write!(f, "ipvs: {what}, {}", counted(requests.len(), "request"))
            }
            Step::HandOver { asked } => {
                let servers = counted(asked.len(), "virtual server");
                write!(f, "conntrack: hand over UDP flows of {servers} to the rules")
            }
            Step::AddDummy { device } => write!(f, "link: add dummy {device}"),
            Step::DeleteDummy { device } => write!(f, "link: delete dummy {device}"),
            Step::AddAddresses { device, addresses } => {
                write!(f, "address: add {} to {device}", one_or_counted(addresses))
            }
            Step::DeleteAddresses { device, addresses } => {
                write!(f, "address: delete {} from {device}", one_or_counted(addresses))
            }
        }
    }
}

/// A single address by itself, several as their number.
fn one_or_counted(addresses: &[IpAddr]) -> String {
    match addresses {
        [address] => address.to_string(),
        several => format!("{} addresses", several.len()),
    }
}

fn counted(n: usize, what: &str) -> String {
    match what.strip_suffix('y') {
        _ if n == 1 => format!("{n} {what}"),
        Some(stem) => format!("{n} {stem}ies"),
        None => format!("{n} {what}s"),
    }
}

fn jumped_to(rule: &Rule) -> &str {
    rule.chain().map_or("", ChainName::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_does_to_virtual_servers_and_devices() {
        let mark = ipvs::ServiceKey::Mark { family: IpFamily::V4, mark: 1 };
        let device: Box<str> = "d0".into();
        let addresses = |last: &[u8]| last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
        for (step, text) in [
            (
                Step::Ipset {
                    changes: vec![ipset::Change::Destroy(ipset::SetName::literal("A"))],
                    what: "empty",
                },
                "ipset: empty, 1 change with 0 entries",
            ),
            (
                Step::Ipvs { requests: vec![ipvs::Request::DeleteService(mark)], what: "delete" },
                "ipvs: delete, 1 request",
            ),
            (
                Step::HandOver { asked: ["10.0.0.1:53".parse().unwrap()].into() },
                "conntrack: hand over UDP flows of 1 virtual server to the rules",
            ),
            (Step::AddDummy { device: device.clone() }, "link: add dummy d0"),
            (Step::DeleteDummy { device: device.clone() }, "link: delete dummy d0"),
            (
                Step::AddAddresses { device: device.clone(), addresses: addresses(&[1]) },
                "address: add 10.0.0.1 to d0",
            ),
            (
                Step::DeleteAddresses { device, addresses: addresses(&[1, 2]) },
                "address: delete 2 addresses from d0",
            ),
        ] {
            assert_eq!(step.to_string(), text);
            assert_eq!((step.family(), step.n_rules()), (None, 0), "{text}");
        }
    }
}
