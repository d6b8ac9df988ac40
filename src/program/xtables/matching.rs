//! Whether a branch of a packet matches a rule: yes, no, with a probability, or not to be told.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::net::{AddrPort, Port};
use crate::packet::{NodeFacts, Origin, Packet};
use crate::program::ipset::eval::Tuple;
use crate::program::walk::{Answer, Interface};

use super::{
    AddrMatch, AddrType, ConntrackStates, InterfaceMatch, IpvsMatch, Match, PortRange, PortsMatch,
    ProtocolMatch, Recent, RecentAction, Rule, SetMatch, Surroundings, emit,
};

/// What the `recent` lists hold, and virtual servers that keep clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Names of lists, with a source address that each remembers.
    pub remembered: BTreeSet<(String, IpAddr)>,
    /// How long ago that was.
    pub age: Duration,
}

impl Memory {
    /// Whether a list has held an address for no longer than some seconds.
    pub fn holds(&self, list: &str, addr: IpAddr, seconds: u32) -> bool {
        self.age <= Duration::from_secs(seconds.into())
            && !self.remembered.is_empty()
            && self.remembered.contains(&(list.to_owned(), addr))
    }
}

/// What the rules have made of a packet so far.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    /// Where it is going.
    pub(super) destination: AddrPort,
    /// Whether a rule or a virtual server chose that destination.
    pub(super) translated: bool,
    /// The virtual server that took it.
    pub(super) virtual_server: Option<AddrPort>,
    /// Whether its source becomes the node's.
    pub(super) source_nat: bool,
    /// Its mark.
    pub(super) mark: u32,
    /// Whether connection tracking was told to leave it alone.
    pub(super) untracked: bool,
    /// The `recent` lists that have just remembered its source.
    pub(super) remembered: BTreeSet<Box<str>>,
}

/// A part of the packet's chances.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    /// How large a part.
    pub(super) weight: f64,
    /// What became of it.
    pub(super) state: State,
}

/// What a rule can see of a packet apart from its [`State`].
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The packet as it was sent.
    pub(super) packet: &'a Packet,
    /// The node.
    pub(super) facts: &'a NodeFacts,
    /// What `recent` lists hold.
    pub(super) memory: &'a Memory,
    /// What sets hold.
    pub(super) surroundings: &'a dyn Surroundings,
    /// Whether connection tracking has seen it.
    pub(super) tracked: bool,
    /// The interface it came in by.
    pub(super) input: Interface<'a>,
    /// The interface it leaves by, unless it goes to the node itself.
    pub(super) output: Interface<'a>,
}

/// How a branch meets a rule.
#[derive(Debug)]
pub(super) enum Meeting {
    /// It passes by.
    Passes(Branch),
    /// A part of it matches, other parts pass by.
    Matches(Branch, Vec<Branch>),
    /// It may match: the text is the part of the rule that cannot be told.
    Unsure(Branch, String),
}

impl Scene<'_> {
    /// Whether the state of a branch matches what stands before the rule's `-m`.
    pub(super) fn header(&self, rule: &Rule, state: &State) -> Answer {
        let certain = rule.destination.is_none_or(|one| addr(one, state.destination.addr))
            && rule.source.is_none_or(|one| addr(one, self.packet.source.addr))
            && rule.protocol.is_none_or(|one| self.protocol(one));
        if !certain {
            return Answer::No;
        }
        let Some(interfaces) = &rule.interfaces else { return Answer::Yes };
        let output = match self.output {
            Interface::NotLoopback if self.facts.is_local(state.destination.addr) => Interface::Named("lo"),
            same @ (Interface::NotLoopback | Interface::None | Interface::Named(_)) => same,
        };
        let input = interfaces.input.as_ref().map_or(Answer::Yes, |one| interface(one, self.input));
        let output = interfaces.output.as_ref().map_or(Answer::Yes, |one| interface(one, output));
        match (input, output) {
            (Answer::No, _) | (_, Answer::No) => Answer::No,
            (Answer::Unknown, _) | (_, Answer::Unknown) => Answer::Unknown,
            (Answer::Yes, Answer::Yes) => Answer::Yes,
        }
    }

    /// Brings a branch to a rule. The matches are asked in order, since some change what later ones and later rules
    /// see; what cannot be told does not count if anything else in the rule says no.
    pub(super) fn meet(&self, rule: &Rule, branch: Branch) -> Meeting {
        let mut unsure = match self.header(rule, &branch.state) {
            Answer::No => return Meeting::Passes(branch),
            Answer::Yes => None,
            Answer::Unknown => Some("its interface".to_owned()),
        };
        if rule.matches.is_empty() && unsure.is_none() {
            return Meeting::Matches(branch, Vec::new());
        }
        let mut current = branch.clone();
        let mut passing = Vec::new();
        for one in &rule.matches {
            let answer = match one {
                Match::Comment(_) | Match::Nfacct(_) => Answer::Yes,
                Match::Ports(ports) => self.ports(ports, &current.state).into(),
                Match::Mark(mark) => {
                    (((current.state.mark & mark.mask) == mark.value) != mark.negated).into()
                }
                Match::Conntrack(states) => self.conntrack(states, &current.state).into(),
                Match::AddrType(kind) => self.addr_type(kind, &current.state).into(),
                Match::Recent(recent) => self.recent(recent, &mut current.state).into(),
                Match::Probability(value) => split(*value, &mut current, &mut passing),
                Match::Set(asked) => self.set(asked, &current.state),
                Match::Ipvs(asked) => self.ipvs(asked, &current.state).into(),
                Match::PhysdevIsIn { negated } => self.physdev_is_in(*negated),
                Match::ToItself => (current.state.destination.addr == self.packet.source.addr).into(),
                Match::Unmodelled(_) => Answer::Unknown,
            };
            if answer == Answer::Unknown {
                unsure.get_or_insert_with(|| emit::match_text(one, self.packet.family()));
            }
            if answer == Answer::No {
                // Had it come to nothing, what the other matches left behind cannot be told either.
                return match (unsure, passing.is_empty()) {
                    (Some(_), _) => Meeting::Passes(branch),
                    (None, true) => Meeting::Passes(current),
                    (None, false) => {
                        passing.push(current);
                        Meeting::Matches(Branch { weight: 0.0, ..branch }, passing)
                    }
                };
            }
        }
        match unsure {
            Some(text) => Meeting::Unsure(branch, text),
            None => Meeting::Matches(current, passing),
        }
    }

    fn protocol(&self, one: ProtocolMatch) -> bool {
        (one.number == 0 || one.number == self.packet.protocol.number()) != one.negated
    }

    fn ports(&self, ports: &PortsMatch, state: &State) -> bool {
        ports.protocol == self.packet.protocol
            && ports.source.is_none_or(|range| port(range, self.packet.source.port))
            && ports.destination.is_none_or(|range| port(range, state.destination.port))
    }

    /// The states of a flow's first packet: NEW, and whether its addresses were changed.
    fn conntrack(&self, states: &ConntrackStates, state: &State) -> bool {
        let is = if state.untracked {
            ConntrackStates::UNTRACKED
        } else if !self.tracked {
            ConntrackStates::INVALID
        } else {
            // A virtual server translates without connection tracking being told.
            let same = state.destination == self.packet.destination || state.virtual_server.is_some();
            let dnat = if same { 0 } else { ConntrackStates::DNAT };
            let snat = if state.source_nat { ConntrackStates::SNAT } else { 0 };
            ConntrackStates::NEW | dnat | snat
        };
        (states.bits & is != 0) != states.negated
    }

    fn set(&self, asked: &SetMatch, state: &State) -> Answer {
        let Packet { source, protocol, .. } = *self.packet;
        let tuple = Tuple { source, destination: state.destination, protocol };
        match self.surroundings.holds(&asked.set, &tuple, &asked.directions) {
            Some(holds) => (holds != asked.negated).into(),
            None => Answer::Unknown,
        }
    }

    fn ipvs(&self, asked: &IpvsMatch, state: &State) -> bool {
        state.virtual_server.is_some_and(|server| {
            asked.protocol.is_none_or(|one| self.protocol(one))
                && asked.address.is_none_or(|one| addr(one, server.addr))
                && asked.port.is_none_or(|(port, negated)| (port == server.port) != negated)
        })
    }

    /// The node's own packets come in by nothing, and what comes from outside is taken to come by no bridge. Pods may hang
    /// on one or not: the packet may say it.
    fn physdev_is_in(&self, negated: bool) -> Answer {
        match self.packet.origin {
            Origin::Node | Origin::Outside => negated.into(),
            Origin::Pod => match self.packet.bridge_port {
                Some(is_in) => (is_in != negated).into(),
                None => Answer::Unknown,
            },
        }
    }

    fn addr_type(&self, kind: &AddrType, state: &State) -> bool {
        let is =
            |negated: Option<bool>, addr: IpAddr| negated.is_none_or(|not| self.facts.is_local(addr) != not);
        is(kind.source_local, self.packet.source.addr) && is(kind.destination_local, state.destination.addr)
    }

    fn recent(&self, recent: &Recent, state: &mut State) -> bool {
        match recent.action {
            RecentAction::Set => {
                state.remembered.insert(recent.list.clone());
                true
            }
            RecentAction::Check { seconds, reap: _ } => {
                state.remembered.contains(&recent.list)
                    || self.memory.holds(&recent.list, self.packet.source.addr, seconds)
            }
        }
    }
}

/// `statistic`: what it does not let through goes to `passing`.
fn split(value: u32, current: &mut Branch, passing: &mut Vec<Branch>) -> Answer {
    let probability = f64::from(value) / f64::from(1u32 << 31);
    if value == 0 {
        return Answer::No;
    }
    if probability < 1.0 {
        passing.push(Branch { weight: current.weight * (1.0 - probability), state: current.state.clone() });
        current.weight *= probability;
    }
    Answer::Yes
}

fn addr(one: AddrMatch, addr: IpAddr) -> bool {
    one.cidr.contains(addr) != one.negated
}

fn port(range: PortRange, port: Port) -> bool {
    (range.first..=range.last).contains(&port) != range.negated
}

fn interface(one: &InterfaceMatch, interface: Interface<'_>) -> Answer {
    let is = |name: &str| match one.name.strip_suffix('+') {
        Some(prefix) => name.starts_with(prefix),
        None => name == one.name.as_ref(),
    };
    let answer = match interface {
        Interface::None => is(""),
        Interface::Named(name) => is(name),
        Interface::NotLoopback if one.name.as_ref() == "+" => true,
        Interface::NotLoopback if one.name.as_ref() == "lo" => false,
        Interface::NotLoopback => return Answer::Unknown,
    };
    (answer != one.negated).into()
}
