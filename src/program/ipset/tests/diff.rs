//! Differences, their changes, and what these do to a kernel.

use super::*;
use crate::program::ipset::change::{ApplyError, apply};
use crate::program::ipset::diff::{SetChange, SetsDiff, diff, drain, fill};

fn all(_: &SetName) -> bool {
    true
}

/// Changes as lines, in the words of ipset.
fn told(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        text += &match change {
            Change::Create(name, kind) => {
                let mut line = Vec::new();
                emit::write_create(&mut line, name, kind);
                String::from_utf8(line).unwrap()
            }
            Change::Add(name, entries) => {
                entries.iter().map(|entry| format!("add {name} {entry}\n")).collect::<String>()
            }
            Change::Delete(name, entries) => {
                entries.iter().map(|entry| format!("del {name} {entry}\n")).collect::<String>()
            }
            Change::Swap(name, other) => format!("swap {name} {other}\n"),
            Change::Destroy(name) => format!("destroy {name}\n"),
        };
    }
    text
}

/// What comes and what goes.
fn documents(found: &SetsDiff, wanted: &Sets) -> (String, String) {
    (told(&fill(found, wanted)), told(&drain(found)))
}

#[test]
fn entries_come_first_and_go_last() {
    let wanted = sets_of(
        "create A hash:ip family inet\nadd A 10.0.0.2\nadd A 10.0.0.3\ncreate N bitmap:port range 0-65535\nadd N 80\n",
    );
    let live = sets_of(
        "create A hash:ip family inet\nadd A 10.0.0.1\nadd A 10.0.0.2\ncreate old hash:ip family inet\nadd old 10.0.0.9\n",
    );
    let found = diff(&wanted, &live, &all);
    let (fill, drain) = documents(&found, &wanted);
    assert_eq!(fill, "add A 10.0.0.3\ncreate N bitmap:port range 0-65535\nadd N 80\n");
    assert_eq!(drain, "del A 10.0.0.1\ndestroy old\n");
    assert_eq!(found.sets[&name("N")], SetChange::Create);
    assert_eq!(found.sets[&name("old")], SetChange::Delete);
    let spared = diff(&wanted, &live, &|name| name.as_str() != "old");
    assert_eq!(documents(&spared, &wanted).1, "del A 10.0.0.1\n");
}

#[test]
fn other_options_take_a_swap() {
    let wanted = sets_of("create A hash:ip family inet maxelem 9\nadd A 10.0.0.2\n");
    let live = sets_of("create A hash:ip family inet timeout 60\nadd A 10.0.0.1 timeout 3\n");
    let found = diff(&wanted, &live, &all);
    assert_eq!(found.sets[&name("A")], SetChange::Replace);
    let (fill, drain) = documents(&found, &wanted);
    assert_eq!(fill, "create A~ hash:ip family inet maxelem 9\nadd A~ 10.0.0.2\nswap A~ A\ndestroy A~\n");
    assert_eq!(drain, "");
}

#[test]
fn another_type_is_made_anew() {
    let wanted = sets_of("create A hash:ip family inet6\nadd A fd00::2\n");
    for live in ["create A hash:ip family inet\n", "create A hash:ip,port family inet6\n"] {
        let found = diff(&wanted, &sets_of(live), &all);
        assert_eq!(found.sets[&name("A")], SetChange::Remake);
        let (fill, _) = documents(&found, &wanted);
        assert_eq!(fill, "destroy A\ncreate A hash:ip family inet6 maxelem 65536\nadd A fd00::2\n");
    }
}

#[test]
fn a_full_set_is_replaced() {
    let wanted = sets_of("create A hash:ip family inet maxelem 2\nadd A 10.0.0.3\nadd A 10.0.0.4\n");
    let live = sets_of("create A hash:ip family inet maxelem 2\nadd A 10.0.0.1\n");
    let found = diff(&wanted, &live, &all);
    assert_eq!(found.sets[&name("A")], SetChange::Replace);
    assert!(!documents(&found, &wanted).0.contains("del "));
}

#[test]
fn what_a_cut_replacement_left_is_cleared_away() {
    let wanted = sets_of("create A hash:ip family inet maxelem 9\n");
    let nobody = |_: &SetName| false;
    let live = sets_of("create A hash:ip family inet maxelem 8\ncreate A~ hash:ip family inet6\n");
    let found = diff(&wanted, &live, &nobody);
    let (fill, drain) = documents(&found, &wanted);
    assert_eq!(fill, "destroy A~\ncreate A~ hash:ip family inet maxelem 9\nswap A~ A\ndestroy A~\n");
    assert_eq!(drain, "");
    let live = sets_of("create A hash:ip family inet maxelem 9\ncreate A~ hash:ip family inet6\n");
    let found = diff(&wanted, &live, &nobody);
    assert_eq!(documents(&found, &wanted), (String::new(), "destroy A~\n".to_owned()));
}

#[test]
fn spare_names_fit() {
    assert_eq!(name("A~").spare(), name("A~+"));
    let long = name(&"n".repeat(31));
    assert_eq!(long.spare().as_str(), format!("{}~", "n".repeat(30)));
    assert_ne!(long.spare().spare(), long.spare());
}

#[test]
fn an_entry_without_a_name_goes_with_its_set() {
    let wanted = sets_of("create A hash:ip,port family inet\nadd A 10.0.0.1,tcp:80\n");
    let live = sets_of("create A hash:ip,port family inet\nadd A 10.0.0.1,tcp:80\nadd A 10.0.0.1,gre:0\n");
    let found = diff(&wanted, &live, &all);
    assert_eq!(found.sets[&name("A")], SetChange::Replace);
    let (fill, drain) = documents(&found, &wanted);
    assert!(fill.ends_with("add A~ 10.0.0.1,tcp:80\nswap A~ A\ndestroy A~\n") && drain.is_empty(), "{fill}");
}

#[test]
fn a_kernel_refuses_what_cannot_be() {
    let start = sets_of("create A hash:ip family inet maxelem 2\nadd A 10.0.0.1\ncreate B hash:ip,port\n");
    let [a, b, c] = ["A", "B", "C"].map(name);
    let kind = |max_entries| SetKind::Hash { hash: HashType::Ip, family: IpFamily::V4, max_entries };
    let at = |last: u8| Entry::Ip([10, 0, 0, last].into());
    let v6 = Entry::Ip("fd00::1".parse().unwrap());
    for (change, refusal) in [
        (Change::Create(a.clone(), kind(2)), None),
        (Change::Create(a.clone(), kind(3)), Some("set A exists already")),
        (Change::Add(a.clone(), vec![at(1), at(2), at(1), at(2)]), None),
        (Change::Add(a.clone(), vec![at(2), at(3)]), Some("set A is full")),
        (Change::Add(a.clone(), vec![v6]), Some("set A cannot hold fd00::1")),
        (Change::Add(c.clone(), vec![at(1)]), Some("set C does not exist")),
        (Change::Delete(a.clone(), vec![at(2), at(2)]), None),
        (Change::Delete(c.clone(), vec![at(2)]), Some("set C does not exist")),
        (Change::Swap(a.clone(), b.clone()), Some("sets A and B cannot be swapped: their types differ")),
        (Change::Swap(a.clone(), c.clone()), Some("set C does not exist")),
        (Change::Destroy(c), None),
    ] {
        let said = apply(&mut start.clone(), &change).map_err(|error| error.to_string());
        assert_eq!(said.err().as_deref(), refusal, "{change:?}");
    }
    let mut sets = start;
    let refused = apply(&mut sets, &Change::Add(a.clone(), vec![at(2), at(3), at(4)]));
    assert_eq!(refused, Err(ApplyError::Full(a.clone())));
    assert_eq!(sets[&a].entries, [at(1), at(2)].into(), "what came before is done");
}

/// What changes make of sets.
fn changed(mut sets: Sets, changes: &[Change]) -> Sets {
    changes.iter().for_each(|change| apply(&mut sets, change).unwrap());
    sets
}

proptest! {
    #[test]
    fn changes_give_what_is_wanted(wanted in sets(), live in sets()) {
        prop_assume!(!wanted.keys().any(|name| wanted.contains_key(&name.spare())));
        let found = diff(&wanted, &live, &all);
        let sets = changed(live.clone(), &fill(&found, &wanted));
        for (name, set) in &wanted {
            prop_assert_eq!(&sets[name].kind, &set.kind);
            prop_assert!(sets[name].entries.is_superset(&set.entries));
        }
        let sets = changed(sets, &drain(&found));
        prop_assert_eq!(&sets, &wanted);
        prop_assert!(diff(&wanted, &sets, &all).is_empty());
        prop_assert_eq!(found.is_empty(), live == wanted);
    }

    #[test]
    fn what_is_not_ours_is_never_touched(wanted in sets(), live in sets()) {
        let is_ours = |name: &SetName| name.as_str() == "A";
        prop_assume!(!wanted.keys().any(|name| live.contains_key(&name.spare())));
        let found = diff(&wanted, &live, &is_ours);
        let sets = changed(changed(live.clone(), &fill(&found, &wanted)), &drain(&found));
        for (name, set) in live.iter().filter(|(name, _)| !is_ours(name) && !wanted.contains_key(name)) {
            prop_assert_eq!(sets.get(name), Some(set));
        }
    }
}
