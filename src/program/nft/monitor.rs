//! What `nft monitor trace` prints of packets: `trace id 25d9ce76 ip nat PREROUTING rule … (verdict jump KUBE-SERVICES)`.

use std::net::IpAddr;

use crate::net::{AddrPort, Port};

use super::Family;

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceLine {
    /// The number of the packet, as the kernel gave it.
    pub id: String,
    /// Family of the table.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// What happened.
    pub what: TraceWord,
}

/// What a line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceWord {
    /// The packet came to a base chain with this destination, as far as it could be read.
    Packet(Option<AddrPort>),
    /// A rule matched: its text and its verdict (`accept`, `jump NAME`).
    Rule {
        /// The rule.
        text: String,
        /// The verdict.
        verdict: String,
    },
    /// The end of a base chain: its policy.
    Policy(String),
    /// Anything else.
    Other(String),
}

/// Reads a line; `None` if it tells of no packet.
pub fn parse_line(line: &str) -> Option<TraceLine> {
    let mut words = line.strip_prefix("trace id ")?.splitn(5, ' ');
    let (id, family, table, chain) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let rest = words.next().unwrap_or_default().trim();
    let what = if let Some(packet) = rest.strip_prefix("packet:") {
        TraceWord::Packet(destination(packet))
    } else if let Some(rule) = rest.strip_prefix("rule ") {
        let (text, verdict) = rule.rsplit_once(" (verdict ").unwrap_or((rule, ""));
        TraceWord::Rule { text: text.trim().to_owned(), verdict: verdict.trim_end_matches(')').to_owned() }
    } else if let Some(policy) = rest.strip_prefix("policy ") {
        TraceWord::Policy(policy.trim().to_owned())
    } else {
        TraceWord::Other(rest.to_owned())
    };
    Some(TraceLine {
        id: id.to_owned(),
        family: Family::from_name(family)?,
        table: table.to_owned(),
        chain: chain.to_owned(),
        what,
    })
}

/// Reads `ip daddr A … tcp dport P`.
fn destination(packet: &str) -> Option<AddrPort> {
    let words: Vec<&str> = packet.split_whitespace().collect();
    let behind = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let addr: IpAddr = behind("daddr").filter(|word| word.contains(['.', ':'])).and_then(|word| {
        // An Ethernet header has a daddr of its own before it.
        word.parse().ok().or_else(|| {
            let second = words.iter().enumerate().filter(|(_, word)| **word == "daddr").nth(1)?.0;
            words.get(second + 1)?.parse().ok()
        })
    })?;
    let port: Port = behind("dport").and_then(port)?;
    Some(AddrPort::new(addr, port))
}

/// A port as a number, or by one of the names that nft gives to it.
fn port(word: &str) -> Option<Port> {
    word.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nft 1.0.6 prints, word for word.
    #[test]
    fn reads_what_nft_prints() {
        let line = parse_line(
            "trace id 25d9ce76 ip kube-proxy nat-output packet: oif \"v0\" ip saddr 10.9.0.1 ip daddr 10.96.0.10 ip dscp cs0 \
             ip ecn not-ect ip ttl 64 ip id 33033 ip length 29 udp sport 49027 udp dport 53 udp length 9 @th,64,8 0x78 ",
        )
        .unwrap();
        assert_eq!(
            (line.id.as_str(), line.family, line.table.as_str()),
            ("25d9ce76", Family::Ip, "kube-proxy")
        );
        let to = AddrPort::new("10.96.0.10".parse().unwrap(), 53);
        assert_eq!((line.chain.as_str(), line.what), ("nat-output", TraceWord::Packet(Some(to))));
        let line = parse_line(
            "trace id 25d9ce76 ip kube-proxy services rule ip daddr . meta l4proto . th dport vmap @service-ips \
             (verdict goto service-FY5PMXPG-kube-system/kube-dns/udp/dns)",
        )
        .unwrap();
        let TraceWord::Rule { text, verdict } = line.what else { panic!("{line:?}") };
        assert_eq!(text, "ip daddr . meta l4proto . th dport vmap @service-ips");
        assert_eq!(verdict, "goto service-FY5PMXPG-kube-system/kube-dns/udp/dns");
        let line = parse_line("trace id 1 inet t forward policy drop ").unwrap();
        assert_eq!(line.what, TraceWord::Policy("drop".to_owned()));
        let with_ethernet = "trace id 1 ip t c packet: iif \"v\" ether saddr 02:00:00:00:00:01 ether daddr 02:00:00:00:00:02 \
             ip saddr 10.0.0.1 ip daddr 10.0.0.2 tcp sport 1 tcp dport 80";
        let TraceWord::Packet(to) = parse_line(with_ethernet).unwrap().what else { panic!() };
        assert_eq!(to, Some(AddrPort::new("10.0.0.2".parse().unwrap(), 80)));
    }

    #[test]
    fn other_lines_are_none() {
        for line in ["", "trace id", "trace id 1 ip", "add table ip x", "# new generation 3 by process 7"] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }
}
