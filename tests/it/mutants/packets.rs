//! Packets by brute force: every address, port and protocol that stands anywhere in the text of rules, crossed. Nothing of
//! how `verify` makes its classes is used here.

use std::collections::BTreeSet;
use std::net::IpAddr;

use svcproxy::net::{AddrPort, IpCidr, IpFamily, Protocol};
use svcproxy::packet::{NodeFacts, Origin, Packet};

use super::{next, previous};

/// What occurs in texts of rules.
#[derive(Debug, Default)]
pub(super) struct Occurring {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
    interfaces: BTreeSet<String>,
    /// Addresses of Services: one can be bound to the node's loopback device, and sends to itself then.
    pub(super) vips: BTreeSet<IpAddr>,
    /// Numbers of seconds.
    pub(super) lifetimes: BTreeSet<u32>,
}

impl Occurring {
    /// Adds what a text has.
    pub(super) fn read(&mut self, text: &str) {
        let mut before = "";
        for word in text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '{' | '}' | ';')) {
            let word = word.trim_matches(|c| matches!(c, '"' | '[' | ']'));
            if let Some(cidr) = IpCidr::parse_sloppy(word) {
                for end in [cidr.network(), cidr.last()] {
                    self.addresses.extend([end, next(end), previous(end)]);
                }
            } else if let Some((first, last)) = word.split_once('-')
                && let (Ok(first), Ok(last)) = (first.parse::<IpAddr>(), last.parse::<IpAddr>())
            {
                self.addresses.extend([first, previous(first), last, next(last)]);
            } else if let Ok(addr) = word.parse::<IpAddr>() {
                self.addresses.insert(addr);
            } else if let Ok(to) = word.parse::<AddrPort>() {
                self.addresses.insert(to.addr);
                self.ports.insert(to.port);
            } else if let Some(seconds) = word.strip_suffix('s').and_then(|number| number.parse().ok()) {
                self.lifetimes.insert(seconds);
            } else if matches!(before, "--seconds" | "-p" | "affinity") {
                self.lifetimes.extend(word.parse::<u32>());
            } else if let Some((_, port)) = word.split_once(':').filter(|(word, _)| is_protocol(word)) {
                self.ports.extend(port.parse::<u16>());
            } else if before.starts_with("KUBE-") && word.parse::<u16>().is_ok() {
                self.ports.extend(word.parse::<u16>());
            } else if before == "-i" || before == "iifname" {
                let stem = word.trim_end_matches(['+', '*']);
                self.interfaces.extend([stem.to_owned(), format!("{stem}1")]);
            } else if matches!(before, "--dport" | "." | "dport") {
                let ends = word.split([':', '-']).filter_map(|end| end.parse::<u16>().ok());
                self.ports.extend(ends);
            }
            if !matches!(word, "!" | "!=" | "==" | "") {
                before = word;
            }
        }
    }

    /// Adds addresses of other origin.
    pub(super) fn extend(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.addresses.extend(addresses);
    }

    /// About `n_wanted` packets, drawn by chance from all that cross sources, destinations, ports and protocols; at least
    /// one to each destination.
    pub(super) fn packets(
        &self,
        family: IpFamily,
        (facts, borne): (&NodeFacts, &BTreeSet<IpAddr>),
        n_wanted: usize,
        mut seed: u64,
    ) -> Vec<Packet> {
        let (outside, loopback) = match family {
            IpFamily::V4 => ("203.0.113.199", "127.0.0.1"),
            IpFamily::V6 => ("2001:db8:99::1", "::1"),
        };
        let mut addresses: BTreeSet<IpAddr> = self.addresses.clone();
        addresses.extend(facts.local_addresses.iter().flat_map(|addr| [*addr, next(*addr)]));
        addresses.extend([outside, loopback].map(|addr| addr.parse::<IpAddr>().unwrap()));
        addresses.retain(|addr| IpFamily::of(*addr) == family && is_host(*addr));
        let mut interfaces = self.interfaces.clone();
        interfaces.insert("eth9".to_owned());
        let mut senders: Vec<(IpAddr, Option<&str>)> = Vec::new();
        // Nobody else sends from an address that the node has for the sake of Services.
        for addr in addresses.iter().filter(|addr| !borne.contains(addr)) {
            if facts.is_local(*addr) {
                senders.push((*addr, None));
            } else {
                senders.extend(interfaces.iter().map(|name| (*addr, Some(name.as_str()))));
            }
        }
        let mut ports = self.ports.clone();
        ports.insert(7);
        let n_destinations = addresses.len() * ports.len() * Protocol::ALL.len();
        let n_sources = n_wanted.div_ceil(n_destinations);
        let mut packets = Vec::new();
        for (addr, port) in addresses.iter().flat_map(|addr| ports.iter().map(move |port| (*addr, *port))) {
            let is_bound = self.vips.contains(&addr) || borne.contains(&addr);
            let to_itself = is_bound.then_some((addr, None));
            for protocol in Protocol::ALL {
                let mut send = |(source, interface): (IpAddr, Option<&str>)| {
                    packets.push(Packet {
                        origin: if interface.is_some() { Origin::Outside } else { Origin::Node },
                        source: AddrPort::new(source, 40000),
                        destination: AddrPort::new(addr, port),
                        protocol,
                        in_interface: interface.map(str::to_owned),
                        bridge_port: None,
                    });
                };
                if n_sources >= senders.len() {
                    senders.iter().copied().for_each(&mut send);
                    to_itself.into_iter().for_each(&mut send);
                } else {
                    for _ in 0..n_sources {
                        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        let at = usize::try_from(seed >> 33).unwrap() % (senders.len() + 1);
                        senders.get(at).copied().or(to_itself).into_iter().for_each(&mut send);
                    }
                }
            }
        }
        packets
    }
}

fn is_protocol(word: &str) -> bool {
    matches!(word, "tcp" | "udp" | "sctp")
}

fn is_host(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => (1..224).contains(&addr.octets()[0]),
        IpAddr::V6(addr) => !addr.is_unspecified() && !addr.is_multicast(),
    }
}
