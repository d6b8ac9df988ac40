//! What a kernel remembers of flows that pass it (connection tracking), and who may answer what clients ask: the meaning of
//! rules for flows that began under earlier ones (reference section 6.1).
//!
//! A flow keeps the way that rules gave to its first packet. Where its answerer may not answer any more, it must be
//! forgotten, or it leads nowhere for as long as its client goes on.

use std::collections::{BTreeMap, BTreeSet};

use crate::net::{AddrPort, IpFamily, Port, Protocol};

/// From where to where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// Its source.
    pub from: AddrPort,
    /// Its destination.
    pub to: AddrPort,
}

/// A flow that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its packets as they came: `to` is what the client asked.
    pub original: Tuple,
    /// The replies as they come: `from` is who answers, wherever rules have sent the flow.
    pub reply: Tuple,
    /// Whether a rule has rewritten its destination (`IPS_DST_NAT`). What IPVS sends elsewhere is not told so.
    pub by_rule: bool,
    /// The zone, which keeps apart flows that are equal otherwise; 0 is that of all who do not care.
    pub zone: u16,
    /// What tells it from a later one with the same tuples.
    pub id: u32,
}

impl Flow {
    /// The family of the client.
    pub fn family(&self) -> IpFamily {
        self.original.from.family()
    }

    /// Whether it goes by one of these virtual servers of IPVS, and by no rule; or is the answer of such a flow, which was
    /// forgotten between the question and the answer: that answer is then the first packet of a flow of its own.
    pub fn goes_by(&self, virtual_servers: &BTreeSet<AddrPort>) -> bool {
        let is_question = virtual_servers.contains(&self.original.to)
            && self.reply.from != self.original.to
            && !self.by_rule;
        is_question || virtual_servers.contains(&self.reply.to)
    }
}

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// An address with a port.
    At(AddrPort),
    /// A port, whatever the address.
    Port(IpFamily, Port),
}

/// Who may answer, by protocol and by what is asked. Nothing is said of what is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answerers(BTreeMap<(Protocol, Asked), BTreeSet<AddrPort>>);

impl Answerers {
    /// Lets these answer, too. One with the unspecified address stands for its port at every address.
    pub fn add(&mut self, protocol: Protocol, asked: Asked, who: impl IntoIterator<Item = AddrPort>) {
        self.0.entry((protocol, asked)).or_default().extend(who);
    }

    /// Takes what another one says beside this.
    pub fn extend(&mut self, other: Answerers) {
        for ((protocol, asked), who) in other.0 {
            self.add(protocol, asked, who);
        }
    }

    /// The protocols and families of flows of which something is said.
    pub fn kinds(&self) -> BTreeSet<(Protocol, IpFamily)> {
        let family = |asked: &Asked| match asked {
            Asked::At(at) => at.family(),
            Asked::Port(family, _) => *family,
        };
        self.0.keys().map(|(protocol, asked)| (*protocol, family(asked))).collect()
    }

    /// Whether a flow must be forgotten: its answerer may not answer what it asked; or it was one `before`, and of what it
    /// asked nothing is said any more.
    pub fn is_stale(&self, flow: &Flow, before: &Answerers) -> bool {
        match self.of(flow) {
            Some(who) => !may_answer(who, flow),
            None => before.of(flow).is_some_and(|who| may_answer(who, flow)),
        }
    }

    fn of(&self, flow: &Flow) -> Option<&BTreeSet<AddrPort>> {
        let asked = flow.original.to;
        let at = self.0.get(&(flow.protocol, Asked::At(asked)));
        at.or_else(|| self.0.get(&(flow.protocol, Asked::Port(asked.family(), asked.port))))
    }
}

fn may_answer(who: &BTreeSet<AddrPort>, flow: &Flow) -> bool {
    let answerer = flow.reply.from;
    let anywhere = AddrPort::new(answerer.family().unspecified(), answerer.port);
    who.contains(&answerer) || who.contains(&anywhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> AddrPort {
        text.parse().unwrap()
    }

    fn flow(asked: &str, answerer: &str) -> Flow {
        let client = at(if asked.starts_with('[') { "[fd00::99]:4000" } else { "192.0.2.9:4000" });
        Flow {
            protocol: Protocol::Udp,
            original: Tuple { from: client, to: at(asked) },
            reply: Tuple { from: at(answerer), to: client },
            by_rule: true,
            zone: 0,
            id: 1,
        }
    }

    fn answerers(all: &[(Asked, &[&str])]) -> Answerers {
        let mut answerers = Answerers::default();
        for (asked, who) in all {
            answerers.add(Protocol::Udp, *asked, who.iter().map(|one| at(one)));
        }
        answerers
    }

    #[test]
    fn flows_of_virtual_servers_are_told_from_those_of_rules() {
        let servers = [at("10.96.0.10:53")].into();
        let of_rule = flow("10.96.0.10:53", "10.1.0.1:5353");
        let of_server = Flow { by_rule: false, ..of_rule };
        let answer = Flow {
            original: of_rule.reply,
            reply: Tuple { from: of_rule.original.from, to: of_rule.original.to },
            ..of_server
        };
        let elsewhere = Flow { by_rule: false, ..flow("10.96.0.11:53", "10.1.0.1:5353") };
        let unanswered = Flow { by_rule: false, ..flow("10.96.0.10:53", "10.96.0.10:53") };
        for (flow, expected) in
            [(of_rule, false), (of_server, true), (answer, true), (elsewhere, false), (unanswered, false)]
        {
            assert_eq!(flow.goes_by(&servers), expected, "{flow:?}");
        }
    }

    #[test]
    fn flows_are_judged_by_what_they_asked_and_who_answers() {
        let dns = Asked::At(at("10.96.0.10:53"));
        let node_port = Asked::Port(IpFamily::V4, 30053);
        let now = answerers(&[
            (dns, &["10.1.0.1:5353", "10.1.0.2:5353"]),
            (node_port, &["10.1.0.1:5353"]),
            (Asked::At(at("[fd00::10]:53")), &["[::]:20001"]),
            (Asked::At(at("10.96.0.11:30053")), &["10.1.0.7:1"]),
        ]);
        let gone = Asked::At(at("10.96.0.12:53"));
        let before = answerers(&[(gone, &["0.0.0.0:20002"]), (dns, &["10.1.0.3:5353"])]);
        for (asked, answerer, is_stale) in [
            ("10.96.0.10:53", "10.1.0.1:5353", false),
            ("10.96.0.10:53", "10.1.0.2:5353", false),
            // The endpoint has gone, or has another port now, or the flow began before there were rules.
            ("10.96.0.10:53", "10.1.0.3:5353", true),
            ("10.96.0.10:53", "10.1.0.1:53", true),
            ("10.96.0.10:53", "10.96.0.10:53", true),
            // Another port of the address, another address with the port.
            ("10.96.0.10:54", "10.1.0.3:5353", false),
            ("10.96.0.9:53", "10.96.0.9:53", false),
            // A node port is asked at any address, unless the address is one that is asked itself.
            ("192.0.2.1:30053", "10.1.0.1:5353", false),
            ("192.0.2.2:30053", "10.1.0.2:5353", true),
            ("10.96.0.11:30053", "10.1.0.7:1", false),
            ("10.96.0.11:30053", "10.1.0.1:5353", true),
            // A port at any address of the host, each family for itself.
            ("[fd00::10]:53", "[fd00::1]:20001", false),
            ("[fd00::10]:53", "[fd00::1]:20002", true),
            ("[fd00::10]:30053", "[fd00::1]:1", false),
            // What is no more asked: those that were sent where it led, and no others.
            ("10.96.0.12:53", "192.0.2.1:20002", true),
            ("10.96.0.12:53", "10.96.0.12:53", false),
        ] {
            assert_eq!(now.is_stale(&flow(asked, answerer), &before), is_stale, "{asked} by {answerer}");
        }
        let tcp = Flow { protocol: Protocol::Tcp, ..flow("10.96.0.10:53", "10.1.0.3:5353") };
        assert!(!now.is_stale(&tcp, &before));
        let udp = |family| (Protocol::Udp, family);
        assert_eq!(now.kinds(), [udp(IpFamily::V4), udp(IpFamily::V6)].into());
        assert_eq!(before.kinds(), [udp(IpFamily::V4)].into());
    }
}
