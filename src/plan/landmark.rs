//! What stands as long as nobody has flushed the rules: a few questions that are answered quickly however much there is.
//!
//! That all of them stand does not say that nothing has changed. It says that nothing large is gone.

use crate::net::IpFamily;
use crate::program::ipvs::ServiceKey;
use crate::program::xtables::{ChainName, Rule, TableName};
use crate::program::{Program, nft};

/// Something that goes with all the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landmark {
    /// A jump of ours in a built-in chain: the first that a flush of its table takes away.
    Jump {
        /// iptables or ip6tables.
        family: IpFamily,
        /// The table.
        table: TableName,
        /// The chain.
        chain: ChainName,
        /// The jump.
        rule: Rule,
    },
    /// Rules of a base chain of nftables.
    Rules {
        /// The family of the table.
        family: IpFamily,
        /// The table.
        table: nft::Name,
        /// The chain.
        chain: nft::Name,
        /// At least how many there are.
        n_rules: usize,
    },
    /// A virtual server.
    VirtualServer(ServiceKey),
}

/// The landmarks of what a node has: a jump of each table, the rules of each base chain, a virtual server of each family.
pub fn landmarks(program: &Program) -> Vec<Landmark> {
    IpFamily::ALL.into_iter().flat_map(|family| of_family(program, family)).collect()
}

fn of_family(program: &Program, family: IpFamily) -> Vec<Landmark> {
    let mut found = Vec::new();
    for (table, content) in program.xtables.get(family).iter().flat_map(|ruleset| &ruleset.tables) {
        let jump = content.chains.iter().find_map(|(chain, content)| {
            let rule = content.rules.first().filter(|_| content.policy.is_some())?;
            Some(Landmark::Jump { family, table: *table, chain: *chain, rule: rule.clone() })
        });
        found.extend(jump);
    }
    if let Some(table) = program.nft.get(family).table() {
        let hooked = table.chains.iter().filter(|(_, chain)| chain.base.is_some() && !chain.rules.is_empty());
        found.extend(hooked.map(|(chain, content)| Landmark::Rules {
            family,
            table: table.name.clone(),
            chain: chain.clone(),
            n_rules: content.rules.len(),
        }));
    }
    let servers = program.ipvs.get(family).iter().flat_map(|servers| servers.keys());
    found.extend(servers.take(1).map(|key| Landmark::VirtualServer(*key)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::NftTable;
    use crate::program::xtables;

    #[test]
    fn one_jump_of_each_table_and_the_rules_of_each_base_chain() {
        let rules = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:MINE - [0:0]\n-A PREROUTING -j MINE\n\
                     -A OUTPUT -j MINE\n-A MINE -j RETURN\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n";
        let table = r#"{"nftables": [
            {"table": {"family": "ip6", "name": "mine", "handle": 1}},
            {"chain": {"family": "ip6", "table": "mine", "name": "in", "handle": 2, "type": "filter", "hook": "input",
                "prio": 0, "policy": "accept"}},
            {"chain": {"family": "ip6", "table": "mine", "name": "out", "handle": 3, "type": "filter", "hook": "output",
                "prio": 0, "policy": "accept"}},
            {"chain": {"family": "ip6", "table": "mine", "name": "aside", "handle": 4}},
            {"rule": {"family": "ip6", "table": "mine", "chain": "in", "handle": 5, "expr": [{"drop": null}]}},
            {"rule": {"family": "ip6", "table": "mine", "chain": "aside", "handle": 6, "expr": [{"drop": null}]}}]}"#;
        let mut program = Program::default();
        program.xtables.v4 = Some(xtables::parse::parse(rules, IpFamily::V4).unwrap());
        let parsed = nft::parse::parse(table.as_bytes()).unwrap();
        program.nft.v6 = NftTable::Present(parsed.tables.into_values().next().unwrap());
        let found: Vec<String> = landmarks(&program)
            .iter()
            .map(|landmark| match landmark {
                Landmark::Jump { table, chain, .. } => format!("{table} {chain}"),
                Landmark::Rules { table, chain, n_rules, .. } => {
                    format!("{} {} {n_rules}", table.as_str(), chain.as_str())
                }
                Landmark::VirtualServer(key) => key.to_string(),
            })
            .collect();
        assert_eq!(found, ["nat OUTPUT", "mine in 1"]);
        assert_eq!(landmarks(&Program::default()), []);
    }
}
