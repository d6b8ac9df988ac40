//! Takes the steps of a plan, in their order. Which steps, and why, was decided before.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::net::{AddrPort, Protocol};
use crate::plan::{DELETE_CHAINS, Step};
use crate::program::ipset::Change;
use crate::program::xtables::emit;

use super::{Host, HostError, HostErrorKind, RestoreError, RestoreMode, XtablesVariant};

/// Takes one step.
pub fn execute(host: &mut dyn Host, variant: XtablesVariant, step: &Step) -> Result<(), RestoreError> {
    let failed = |error: HostError| RestoreError { line: None, error };
    let numbered = |(index, error)| RestoreError { line: Some(index + 1), error };
    match step {
        Step::XtablesRestore { family, document, .. } => {
            host.xtables_restore(variant, *family, &document.text, RestoreMode::Commit)
        }
        Step::NftTransaction { batch: Some(batch), .. } => host.nft_change(batch),
        Step::NftTransaction { document, batch: None, .. } => host.nft_run(&document.text, false),
        Step::DeleteJump { family, table, chain, rule } => {
            let args = emit::rule_args(rule, *family);
            let place = (table.as_str(), chain.as_str());
            host.xtables_delete(variant, *family, place, &args).map_err(failed)
        }
        Step::AddNfacct { name } => host.nfacct_add(name).map_err(failed),
        Step::SetSysctl { key, value } => host.sysctl_write(key, value).map_err(failed),
        Step::Ipset { changes, .. } => host.ipset_change(changes).map_err(numbered),
        Step::Ipvs { requests, .. } => host.ipvs_change(requests).map_err(numbered),
        Step::HandOver { asked } => hand_over(host, asked).map_err(failed),
        Step::AddDummy { device } => host.dummy_add(device).map_err(failed),
        Step::DeleteDummy { device } => host.dummy_delete(device).map_err(failed),
        Step::AddAddresses { device, addresses } => host.addresses_add(device, addresses).map_err(failed),
        Step::DeleteAddresses { device, addresses } => {
            host.addresses_delete(device, addresses).map_err(failed)
        }
    }
}

/// How often flows are looked for that are to be handed over, at most.
const HAND_OVER_ROUNDS: usize = 5;
/// How long answers under way may take to come in, before flows are looked for again.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(50);

/// Has the kernel forget UDP flows of virtual servers, and those that were under way meanwhile. Where the kernel does not tell
/// of flows, they end by themselves.
fn hand_over(host: &mut dyn Host, asked: &BTreeSet<AddrPort>) -> Result<(), HostError> {
    let kinds = asked.iter().map(|asked| (Protocol::Udp, asked.family())).collect();
    for round in 0..HAND_OVER_ROUNDS {
        if round > 0 {
            std::thread::sleep(HAND_OVER_PAUSE);
        }
        match host.conntrack_forget_those(&kinds, &|flow| flow.goes_by(asked)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind == HostErrorKind::Unsupported => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Asks the tools whether they would take steps, and changes nothing. Steps that no tool can try, or whose tool is not
/// installed, are taken for granted; the stages of a table are tried as the one transaction that they are parts of. The
/// iptables tools look for the sets that a rule asks: rules that ask one which an earlier step makes are left out. The step
/// that is refused comes back by its index.
pub fn rehearse(
    host: &mut dyn Host,
    variant: XtablesVariant,
    steps: &[Step],
) -> Result<(), (usize, RestoreError)> {
    let nothing = Vec::new();
    let mut made = BTreeSet::new();
    // Netlink can only be told, not asked.
    let has_nft = host.nft_version().map_err(|error| (0, RestoreError { line: None, error }))?.is_some();
    let mut index = 0;
    while let Some(step) = steps.get(index) {
        let mut n_steps = 1;
        match step {
            Step::XtablesRestore { family, document, .. } => {
                let document = without_rules_on(&made, &document.text);
                host.xtables_restore(variant, *family, &document, RestoreMode::Test)
                    .map_err(|refused| (index, refused))?;
            }
            Step::Ipset { changes, .. } => made.extend(changes.iter().filter_map(|change| match change {
                Change::Create(name, _) => Some(name.as_str()),
                Change::Add(..) | Change::Delete(..) | Change::Swap(..) | Change::Destroy(_) => None,
            })),
            Step::NftTransaction { family, .. } => {
                let stages = steps[index..].iter().map_while(|step| match step {
                    // What is in use until the stages before it are in cannot be tried before.
                    Step::NftTransaction { family: its, document, what, .. } if its == family => {
                        Some(if *what == DELETE_CHAINS { &nothing } else { &document.text })
                    }
                    Step::NftTransaction { .. }
                    | Step::XtablesRestore { .. }
                    | Step::DeleteJump { .. }
                    | Step::AddNfacct { .. }
                    | Step::SetSysctl { .. }
                    | Step::Ipset { .. }
                    | Step::Ipvs { .. }
                    | Step::HandOver { .. }
                    | Step::AddDummy { .. }
                    | Step::DeleteDummy { .. }
                    | Step::AddAddresses { .. }
                    | Step::DeleteAddresses { .. } => None,
                });
                let stages: Vec<&[u8]> = stages.map(Vec::as_slice).collect();
                n_steps = stages.len();
                if has_nft {
                    host.nft_run(&stages.concat(), true)
                        .map_err(|refused| locate(index, &stages, refused))?;
                }
            }
            Step::DeleteJump { .. }
            | Step::AddNfacct { .. }
            | Step::SetSysctl { .. }
            | Step::Ipvs { .. }
            | Step::HandOver { .. }
            | Step::AddDummy { .. }
            | Step::DeleteDummy { .. }
            | Step::AddAddresses { .. }
            | Step::DeleteAddresses { .. } => {}
        }
        index += n_steps;
    }
    Ok(())
}

/// A document without the rules that ask one of these sets. Their lines stay, so that the others keep their numbers.
fn without_rules_on<'a>(sets: &BTreeSet<&str>, document: &'a [u8]) -> Cow<'a, [u8]> {
    if sets.is_empty() {
        return Cow::Borrowed(document);
    }
    let asks = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ');
        while let Some(word) = words.next() {
            if word == b"--match-set"
                && words
                    .next()
                    .is_some_and(|name| std::str::from_utf8(name).is_ok_and(|name| sets.contains(name)))
            {
                return true;
            }
        }
        false
    };
    let lines = document.split(|byte| *byte == b'\n').map(|line| if asks(line) { &b""[..] } else { line });
    Cow::Owned(lines.collect::<Vec<_>>().join(&b'\n'))
}

/// From a line of all stages together to the stage and its line.
fn locate(first: usize, stages: &[&[u8]], mut refused: RestoreError) -> (usize, RestoreError) {
    let Some(mut line) = refused.line else { return (first, refused) };
    for (nth, stage) in stages.iter().enumerate() {
        let n_lines = stage.iter().filter(|byte| **byte == b'\n').count();
        if line <= n_lines {
            refused.line = Some(line);
            return (first + nth, refused);
        }
        line -= n_lines;
    }
    (first, refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{FakeHost, HostErrorKind};
    use crate::net::IpFamily;
    use crate::program::Emitted;
    use crate::program::conntrack::{Flow, Tuple};
    use crate::program::ipset::Sets;
    use crate::program::ipset::diff::{diff, fill};
    use crate::program::ipset::parse::parse;

    /// A step that makes the sets of a text.
    fn sets(text: &str) -> Step {
        let wanted = parse(text).unwrap();
        let difference = diff(&wanted, &Sets::new(), &|_| false);
        Step::Ipset { changes: fill(&difference, &wanted), what: "fill" }
    }

    fn rules(text: &str) -> Step {
        let document = emitted(text);
        Step::XtablesRestore {
            family: IpFamily::V4,
            document,
            n_chains: 1,
            n_rules: 2,
            n_deleted: 0,
            n_jumps: 0,
        }
    }

    fn emitted(text: &str) -> Emitted {
        Emitted { text: text.as_bytes().to_vec(), ..Emitted::default() }
    }

    const MAKE: &str = "create S hash:ip family inet maxelem 65536\nadd S 10.0.0.1\n";
    const ASK: &str = "*filter\n:A - [0:0]\n-A A -m set --match-set S src -j ACCEPT\n\
                       -A A -m set ! --match-set T dst,dst -j NOPE\nCOMMIT\n";

    #[test]
    fn rules_on_sets_to_come_are_not_tried() {
        let mut host = FakeHost::new();
        let mut tried = |steps: &[Step]| {
            let refused = rehearse(&mut host, XtablesVariant::Legacy, steps).unwrap_err();
            (refused.0, refused.1.line, refused.1.error.detail)
        };
        let no_set = |name: &str| format!("Set {name} doesn't exist.");
        assert_eq!(tried(&[rules(ASK)]), (0, Some(3), no_set("S")));
        assert_eq!(tried(&[rules(ASK), sets(MAKE)]), (0, Some(3), no_set("S")));
        assert_eq!(tried(&[sets(MAKE), rules(ASK)]), (1, Some(4), no_set("T")));
        let both = MAKE.to_owned() + "create T hash:ip,port family inet maxelem 65536\n";
        assert!(rehearse(&mut host, XtablesVariant::Legacy, &[sets(&both), rules(ASK)]).is_ok());
        assert!(host.sets.is_empty() && host.tables.values().all(|tables| tables.0.is_empty()));
    }

    #[test]
    fn hands_over_what_virtual_servers_carry() {
        let at = |text: &str| text.parse::<AddrPort>().unwrap();
        let (client, vip, endpoint) = (at("10.0.0.9:4000"), at("10.96.0.1:53"), at("10.0.0.1:53"));
        let carried = Flow {
            protocol: Protocol::Udp,
            original: Tuple { from: client, to: vip },
            reply: Tuple { from: endpoint, to: client },
            by_rule: false,
            zone: 0,
            id: 1,
        };
        let by_rule = Flow { by_rule: true, id: 2, ..carried };
        let mut host = FakeHost::new();
        host.flows = vec![carried, by_rule];
        let step = Step::HandOver { asked: [vip].into() };
        let taken = |host: &mut FakeHost| execute(host, XtablesVariant::Legacy, &step);
        taken(&mut host).unwrap();
        assert_eq!(
            (host.flows.as_slice(), host.calls.as_slice()),
            (&[by_rule][..], &["conntrack forget 1".to_owned()][..])
        );
        for (kind, is_error) in [(HostErrorKind::Unsupported, false), (HostErrorKind::Permission, true)] {
            host.fail_next("conntrack_flows", HostError::new("ask", kind, ""));
            assert_eq!(taken(&mut host).is_err(), is_error, "{kind:?}");
        }
    }

    #[test]
    fn takes_steps_of_ipvs_mode_in_their_order() {
        let mut host = FakeHost::new();
        let device: Box<str> = "d0".into();
        let addresses = vec!["10.0.0.1".parse().unwrap()];
        for step in [
            Step::AddDummy { device: device.clone() },
            Step::AddAddresses { device: device.clone(), addresses: addresses.clone() },
            sets(MAKE),
            Step::DeleteAddresses { device: device.clone(), addresses },
            Step::DeleteDummy { device },
        ] {
            execute(&mut host, XtablesVariant::Legacy, &step).unwrap();
        }
        assert_eq!(
            host.calls,
            [
                "link add d0 type dummy",
                "address add 10.0.0.1 to d0",
                "ipset change of 2",
                "address delete 10.0.0.1 from d0",
                "link delete d0",
            ]
        );
        // The number of a request, from 1.
        let gone = crate::program::ipvs::ServiceKey::Mark { family: IpFamily::V4, mark: 1 };
        let requests = vec![crate::program::ipvs::Request::DeleteService(gone)];
        let refused =
            execute(&mut host, XtablesVariant::Legacy, &Step::Ipvs { requests, what: "delete" }).unwrap_err();
        assert_eq!((refused.line, refused.error.kind), (Some(1), HostErrorKind::NotFound));
    }
}
