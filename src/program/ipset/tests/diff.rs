//! Differences, their documents, and what these do to a kernel.

use super::*;
use crate::program::ipset::diff::{SetChange, SetsDiff, diff, drain_document, fill_document};
use crate::program::ipset::restore::{RestoreError, restore};

fn all(_: &SetName) -> bool {
    true
}

/// Both documents of a difference.
fn documents(found: &SetsDiff, wanted: &Sets) -> (String, String) {
    let text = |emitted: Option<crate::program::Emitted>| {
        String::from_utf8(emitted.unwrap_or_default().text).unwrap()
    };
    (text(fill_document(found, wanted)), text(drain_document(found)))
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
fn restore_refuses_what_ipset_refuses() {
    let start = "create A hash:ip family inet maxelem 2\nadd A 10.0.0.1\ncreate B hash:ip,port\n";
    let refusal = |text: &str, exist: bool| {
        let mut sets = sets_of(start);
        restore(&mut sets, text, exist).map_err(|error| error.to_string())
    };
    for (text, words) in [
        ("create A hash:ip maxelem 2\n", "line 1: set A exists already"),
        ("\n# x\nadd A 10.0.0.1\n", "line 3: set A holds 10.0.0.1 already"),
        ("del A 10.0.0.2\n", "line 1: set A does not hold 10.0.0.2"),
        ("destroy C\n", "line 1: set C does not exist"),
    ] {
        assert_eq!(refusal(text, false), Err(words.to_owned()));
        assert_eq!(refusal(text, true), Ok(()));
    }
    for (text, words) in [
        ("create A hash:ip maxelem 3\n", "line 1: set A exists already"),
        ("add A 10.0.0.2\nadd A 10.0.0.3\n", "line 2: set A is full"),
        ("add A fd00::1\n", "line 1: set A cannot hold fd00::1"),
        ("add A 10.0.0.2 and more\n", "line 1: set A cannot hold 10.0.0.2 and more"),
        ("swap A B\n", "line 1: sets A and B cannot be swapped: their types differ"),
        ("swap A C\n", "line 1: set C does not exist"),
        ("flush C\n", "line 1: set C does not exist"),
        ("add C 10.0.0.1\n", "line 1: set C does not exist"),
        ("list A\n", "line 1, column 1: expected create, add, del, swap, flush or destroy"),
        ("flush A B\n", "line 1, column 9: expected the end of the line"),
        ("add A\n", "line 1, column 6: expected an entry"),
        ("create A\n", "line 1, column 9: expected the type of a set"),
    ] {
        assert_eq!(refusal(text, true), Err(words.to_owned()));
    }
    let mut sets = sets_of(start);
    let refused = restore(&mut sets, "flush A\nadd A 10.0.0.7\ndel A 10.0.0.8\n", false);
    assert!(matches!(refused, Err(RestoreError::Apply { line: 3, .. })));
    assert_eq!(
        sets[&name("A")].entries,
        [Entry::Ip([10, 0, 0, 7].into())].into(),
        "what came before is done"
    );
}

proptest! {
    #[test]
    fn documents_applied_give_what_is_wanted(wanted in sets(), live in sets()) {
        prop_assume!(!wanted.keys().any(|name| wanted.contains_key(&name.spare())));
        let found = diff(&wanted, &live, &all);
        let (fill, drain) = documents(&found, &wanted);
        let mut sets = live.clone();
        restore(&mut sets, &fill, false).unwrap();
        for (name, set) in &wanted {
            prop_assert_eq!(&sets[name].kind, &set.kind);
            prop_assert!(sets[name].entries.is_superset(&set.entries));
        }
        restore(&mut sets, &drain, false).unwrap();
        prop_assert_eq!(&sets, &wanted);
        prop_assert!(diff(&wanted, &sets, &all).is_empty());
        prop_assert_eq!(found.is_empty(), live == wanted);
    }

    #[test]
    fn what_is_not_ours_is_never_touched(wanted in sets(), live in sets()) {
        let is_ours = |name: &SetName| name.as_str() == "A";
        prop_assume!(!wanted.keys().any(|name| live.contains_key(&name.spare())));
        let (fill, drain) = documents(&diff(&wanted, &live, &is_ours), &wanted);
        let mut sets = live.clone();
        restore(&mut sets, &fill, false).unwrap();
        restore(&mut sets, &drain, false).unwrap();
        for (name, set) in live.iter().filter(|(name, _)| !is_ours(name) && !wanted.contains_key(name)) {
            prop_assert_eq!(sets.get(name), Some(set));
        }
    }
}
