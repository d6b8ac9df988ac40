//! What a program says of a machine besides its rules: sets that rules ask, virtual servers, addresses that are the node's
//! for their sake, and listeners. All of one family.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::net::IpFamily;
use crate::packet::NodeFacts;

use super::Program;
use super::ipset::eval::{Side, Tuple};
use super::ipset::{self, Set, SetName, Sets};
use super::ipvs::eval::Outcome;
use super::ipvs::{self, Forward, VirtualServers};
use super::listener::Listeners;
use super::xtables::{Connection, Scheduled, Sending, Surroundings};

/// The surroundings of one family's rules.
#[derive(Debug, Clone, Default)]
pub struct Kernel<'a> {
    sets: Option<&'a Sets>,
    servers: Option<&'a VirtualServers>,
    addresses: BTreeSet<IpAddr>,
    listeners: Option<&'a Listeners>,
}

impl<'a> Kernel<'a> {
    /// What a program says.
    pub fn of(program: &'a Program, family: IpFamily) -> Kernel<'a> {
        let devices = program.dummies.iter().flat_map(|devices| devices.values());
        let addresses = devices.filter_map(|device| device.addresses.get(family).as_ref());
        Kernel {
            sets: program.ipset.as_ref(),
            servers: program.ipvs.get(family).as_ref(),
            addresses: addresses.flatten().copied().collect(),
            listeners: program.listeners.as_ref(),
        }
    }

    /// All sets, if they are known.
    pub fn sets(&self) -> Option<&'a Sets> {
        self.sets
    }

    /// A set, if it is known.
    pub fn set(&self, name: &SetName) -> Option<&'a Set> {
        self.sets?.get(name)
    }

    /// The virtual servers, if they are known.
    pub fn servers(&self) -> Option<&'a VirtualServers> {
        self.servers
    }

    /// Addresses that are the node's for the sake of virtual servers.
    pub fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// Listeners of a process of the node, of both families, if they are known.
    pub fn listeners(&self) -> Option<&'a Listeners> {
        self.listeners
    }

    /// All addresses of a node that has these besides.
    pub fn facts(&self, node: &NodeFacts) -> NodeFacts {
        NodeFacts { local_addresses: node.local_addresses.union(&self.addresses).copied().collect() }
    }
}

impl Surroundings for Kernel<'_> {
    fn holds(&self, set: &SetName, tuple: &Tuple, sides: &[Side]) -> Option<bool> {
        ipset::eval::contains(self.set(set)?, tuple, sides)
    }

    fn schedule(&self, connection: &Connection<'_>) -> Scheduled {
        let Some(servers) = self.servers else { return Scheduled::Passed };
        let Connection { protocol, source, destination, mark, memory } = *connection;
        let marked = (mark != 0)
            .then(|| ipvs::eval::eval_mark(servers, destination.family(), mark, destination.port))
            .filter(|outcome| *outcome != Outcome::NotOurs);
        match marked.unwrap_or_else(|| ipvs::eval::eval(servers, protocol, destination)) {
            Outcome::NotOurs => Scheduled::Passed,
            Outcome::NoDestination(_) => Scheduled::Refused,
            Outcome::Unknown(server, why) => Scheduled::Unknown(format!("virtual server {server}: {why}")),
            Outcome::Choose { server, shares, persistence_seconds } => {
                if shares.iter().any(|share| share.forward != Forward::Masquerade) {
                    let why = "sends packets on as they are";
                    return Scheduled::Unknown(format!("virtual server {server}: {why}"));
                }
                let name = |endpoint| format!("virtual server {server} to {endpoint}");
                let kept = persistence_seconds.and_then(|seconds| {
                    let is_kept = |share: &&ipvs::eval::Share| {
                        memory.holds(&name(share.endpoint), source.addr, seconds)
                    };
                    shares.iter().find(is_kept)
                });
                let sending = |share: &ipvs::eval::Share| Sending {
                    endpoint: share.endpoint,
                    share: if kept.is_some() { 1.0 } else { share.probability },
                    remembered: persistence_seconds.map(|_| name(share.endpoint).into()),
                };
                Scheduled::Sent(match kept {
                    Some(share) => vec![sending(share)],
                    None => shares.iter().map(sending).collect(),
                })
            }
        }
    }
}
