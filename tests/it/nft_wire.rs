//! nftables by netlink against the real kernel and the tool nft: both ways of writing end in the same ruleset, both ways of
//! reading give the same table, refusals name the line, and a reading that is disturbed is done again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use svcproxy::host::{Host, HostErrorKind, LinuxHost};
use svcproxy::net::IpFamily;
use svcproxy::program::nft::diff::{TableDiff, diff};
use svcproxy::program::nft::transaction::{Stages, Transaction, delete_table, stages};
use svcproxy::program::nft::{
    Chain, Data, Element, Expr, Family, Key, MapRef, Name, Rule, Ruleset, Scalar, ScalarType, Set, Stmt,
    Table, Verdict, parse,
};

use crate::rig::{Namespace, skip};

fn folders() -> Vec<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn recorded(folder: &Path) -> Ruleset {
    parse::parse(&fs::read(folder.join("nft.json")).unwrap()).unwrap()
}

/// A namespace for nf_tables, if this kernel has it.
fn namespace() -> Option<Namespace> {
    let namespace = Namespace::new("wire")?;
    match namespace.inside(|| LinuxHost::new().nft_read(IpFamily::V4, "trial")) {
        Err(error) if error.kind == HostErrorKind::Unsupported => {
            skip(&format!("this kernel has no nf_tables: {error}"));
            None
        }
        tried => {
            assert_eq!(tried, Ok(None));
            Some(namespace)
        }
    }
}

fn listing(namespace: &Namespace) -> Ruleset {
    parse::parse(namespace.run(&["nft", "-j", "list", "ruleset"]).as_bytes()).unwrap()
}

fn read(namespace: &Namespace, family: IpFamily, name: &str) -> Option<Table> {
    namespace.inside(|| LinuxHost::new().nft_read(family, name)).unwrap()
}

/// What the JSON of nft 1.0.6 shows of a table.
fn as_shown(mut table: Table) -> Table {
    table.comment = None;
    table.chains.values_mut().for_each(|chain| chain.comment = None);
    table
}

fn all(stages: &Stages) -> impl Iterator<Item = &Transaction> {
    stages.load.iter().chain(&stages.sweep)
}

/// Takes a difference by netlink.
fn take(namespace: &Namespace, change: &TableDiff, wanted: &Table) {
    for transaction in all(&stages(change, wanted)) {
        let text = String::from_utf8_lossy(&transaction.document.text);
        let batch = transaction.batch.as_ref().unwrap_or_else(|| panic!("no batch for\n{text}"));
        namespace.inside(|| LinuxHost::new().nft_change(batch)).unwrap_or_else(|refused| {
            let line = refused.line.and_then(|line| text.lines().nth(line - 1)).unwrap_or_default();
            panic!("{refused} at {:?}: {line}", refused.line);
        });
    }
}

#[test]
fn recorded_tables_are_written_and_read_by_netlink_as_by_nft() {
    for folder in folders() {
        let Some(namespace) = namespace() else { return };
        let wanted = recorded(&folder);
        for table in wanted.tables.values() {
            take(&namespace, &diff(table, None), table);
        }
        let listed = listing(&namespace);
        assert_eq!(listed, wanted, "{}", folder.display());
        for (family, name) in wanted.tables.keys() {
            let read = read(&namespace, family.ip().unwrap(), name.as_str()).unwrap();
            assert!(read.is_modelled());
            let listed = listed.table(*family, name.as_str()).unwrap();
            assert_eq!(as_shown(read), *listed, "{}", folder.display());
        }
        let by_netlink = namespace.run(&["nft", "list", "ruleset"]);
        let Some(by_nft) = self::namespace() else { return };
        for table in wanted.tables.values() {
            for transaction in all(&stages(&diff(table, None), table)) {
                by_nft.run_with(&["nft", "-f", "-"], &transaction.document.text);
            }
        }
        let lines = |text: &str| {
            let mut lines: Vec<String> = text
                .lines()
                .map(|line| line.trim().trim_start_matches("elements = { ").trim_end_matches([',', ' ', '}']))
                .flat_map(|line| line.split(", "))
                .map(str::to_owned)
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(
            lines(&by_netlink),
            lines(&by_nft.run(&["nft", "list", "ruleset"])),
            "{}",
            folder.display()
        );
    }
}

#[test]
fn apply_ends_in_one_ruleset_by_netlink_and_through_nft() {
    const PROGRAM: &str = env!("CARGO_BIN_EXE_svcproxy");
    for folder in folders() {
        let (Some(by_netlink), Some(by_nft)) = (namespace(), namespace()) else { return };
        let path = |name: &str| folder.join(name).display().to_string();
        let (cluster, config) = (path("cluster.json"), path("config-nftables.json"));
        let run = |namespace: &Namespace, verb: &str, options: &[&str]| {
            let args = [PROGRAM, verb, "-f", &cluster, "--config", &config, "--mode", "nftables"];
            let done = namespace.run_with(&[&args, options].concat(), b"");
            assert!(done.status.success(), "{verb}: {}", String::from_utf8_lossy(&done.stderr));
        };
        run(&by_netlink, "apply", &[]);
        run(&by_nft, "apply", &["--nft-tool"]);
        for namespace in [&by_netlink, &by_nft] {
            // Whoever wrote it, either reads it.
            run(namespace, "diff", &[]);
            run(namespace, "diff", &["--nft-tool"]);
        }
        assert!(listing(&by_nft).tables.len() > 1);
        assert_eq!(listing(&by_netlink), listing(&by_nft), "{}", folder.display());
    }
}

#[test]
fn transactions_by_netlink_take_one_recording_to_the_next() {
    let Some(namespace) = namespace() else { return };
    for folder in folders() {
        let wanted = recorded(&folder);
        for ((family, name), table) in &wanted.tables {
            let family = family.ip().unwrap();
            let live = read(&namespace, family, name.as_str());
            take(&namespace, &diff(table, live.as_ref()), table);
            let after = read(&namespace, family, name.as_str()).unwrap();
            assert!(diff(table, Some(&after)).is_empty(), "{}", folder.display());
        }
        assert!(
            listing(&namespace).tables.iter().all(|(place, live)| live.chains == wanted.tables[place].chains)
        );
    }
    for table in recorded(&folders()[0]).tables.values() {
        let batch = delete_table(table).batch.unwrap();
        namespace.inside(|| LinuxHost::new().nft_change(&batch)).unwrap();
    }
    assert_eq!(listing(&namespace), Ruleset::default());
}

/// Everything that is modelled, in a document for nft.
const EVERYTHING: &str = include_str!("../../testdata/nft/everything.nft");

#[test]
fn everything_modelled_is_written_and_read_as_by_nft() {
    let (Some(by_nft), Some(by_netlink)) = (namespace(), namespace()) else { return };
    let done = by_nft.run_with(&["nft", "-f", "-"], EVERYTHING.as_bytes());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let wanted = listing(&by_nft);
    for ((family, name), table) in &wanted.tables {
        let family = family.ip().unwrap();
        assert!(table.is_modelled(), "{table:?}");
        same(&as_shown(read(&by_nft, family, name.as_str()).unwrap()), table, "read by netlink");
        take(&by_netlink, &diff(table, None), table);
        same(
            &as_shown(read(&by_netlink, family, name.as_str()).unwrap()),
            table,
            "written and read by netlink",
        );
        let listed = listing(&by_netlink);
        same(listed.table(Family::from(family), name.as_str()).unwrap(), table, "written by netlink");
        // And away again, element by element.
        let mut emptied = table.clone();
        emptied.sets.values_mut().filter(|set| !set.flags.constant).for_each(|set| set.elements.clear());
        take(&by_netlink, &diff(&emptied, Some(table)), &emptied);
        let left = read(&by_netlink, family, name.as_str()).unwrap();
        assert_eq!(left.n_elements(), emptied.n_elements() + dynamic(table));
        take(&by_netlink, &diff(table, Some(&emptied)), table);
        same(&as_shown(read(&by_netlink, family, name.as_str()).unwrap()), table, "filled again");
    }
}

/// Elements that no difference counts, since rules make them.
fn dynamic(table: &Table) -> usize {
    table.sets.values().filter(|set| set.flags.dynamic).map(|set| set.elements.len()).sum()
}

/// Compares object by object, to tell which one differs.
fn same(one: &Table, other: &Table, what: &str) {
    for (name, chain) in &other.chains {
        let its = one.chains.get(name).unwrap_or_else(|| panic!("{what}: no chain {name}"));
        assert_eq!(its.base, chain.base, "{what}: {name}");
        for (nth, (rule, its)) in chain.rules.iter().zip(&its.rules).enumerate() {
            assert_eq!(its, rule, "{what}: {name}, rule {nth}");
        }
    }
    for (name, set) in &other.sets {
        assert_eq!(one.sets.get(name), Some(set), "{what}: {name}");
    }
    assert_eq!(one, other, "{what}");
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A table with a map of many addresses to one chain.
fn many(n: u32) -> Table {
    let mut table = Table::new(Family::Ip, name("many"));
    let to = |chain: &str| Data::Verdict(Verdict::Goto(name(chain)));
    table.chains.insert(name("target"), Chain::default());
    let mut map = Set {
        key: vec![ScalarType::Ipv4Addr],
        data: Some(svcproxy::program::nft::DataType::Verdict),
        ..Set::default()
    };
    for number in 0..n {
        map.elements
            .insert(Key::exact([Scalar::Ipv4((0x0a00_0000 + number).into())]), Element::of(to("target")));
    }
    table.sets.insert(name("by-addr"), map);
    let look = Stmt::Vmap { key: Expr::source(IpFamily::V4), map: MapRef::Named(name("by-addr")) };
    table.chains.insert(name("top"), Chain { rules: vec![Rule::new(vec![look])], ..Chain::default() });
    table
}

/// The line of the document that is refused, by netlink and by nft.
fn refused(namespace: &Namespace, change: &TableDiff, wanted: &Table) -> (String, HostErrorKind, String) {
    let stages = stages(change, wanted);
    let transaction = all(&stages).next().unwrap();
    let text = String::from_utf8(transaction.document.text.clone()).unwrap();
    let by_netlink =
        namespace.inside(|| LinuxHost::new().nft_change(transaction.batch.as_ref().unwrap())).unwrap_err();
    let by_nft =
        namespace.inside(|| LinuxHost::new().nft_run(&transaction.document.text, false)).unwrap_err();
    assert_eq!(by_netlink.error.kind, by_nft.error.kind);
    let line = |line: Option<usize>| text.lines().nth(line.unwrap() - 1).unwrap().trim().to_owned();
    (line(by_netlink.line), by_netlink.error.kind, line(by_nft.line))
}

#[test]
fn a_refusal_names_the_line_of_the_rule_and_of_the_element() {
    let Some(namespace) = namespace() else { return };
    let mut wanted = many(5000);
    let broken = Key::exact([Scalar::Ipv4([10, 0, 14, 7].into())]);
    let nowhere = Element::of(Data::Verdict(Verdict::Goto(name("nowhere"))));
    wanted.sets.get_mut("by-addr").unwrap().elements.insert(broken.clone(), nowhere.clone());
    let (line, kind, _) = refused(&namespace, &diff(&wanted, None), &wanted);
    assert_eq!((line.as_str(), kind), ("10.0.14.7 : goto nowhere ,", HostErrorKind::NotFound));
    assert_eq!(listing(&namespace), Ruleset::default(), "nothing is done");
    let mut wanted = many(3);
    let rules = &mut wanted.chains.get_mut("top").unwrap().rules;
    rules.push(Rule::new(vec![Stmt::Verdict(Verdict::Jump(name("nowhere")))]));
    rules.push(Rule::new(vec![Stmt::Verdict(Verdict::Accept)]));
    let (line, kind, by_nft) = refused(&namespace, &diff(&wanted, None), &wanted);
    assert_eq!((line.as_str(), kind), ("add rule ip many top jump nowhere", HostErrorKind::NotFound));
    assert_eq!(line, by_nft);
    // What is in use is no matter of trying again.
    take(&namespace, &diff(&many(3), None), &many(3));
    let mut without = many(3);
    without.chains.remove("target");
    let change = diff(&without, Some(&many(3)));
    let sweep = stages(&change, &without).sweep.unwrap();
    let busy = namespace.inside(|| LinuxHost::new().nft_change(&sweep.batch.unwrap())).unwrap_err();
    assert_eq!((busy.line, busy.error.kind), (Some(1), HostErrorKind::Busy));
    assert!(busy.error.detail.ends_with("(still in use)"), "{busy}");
}

#[test]
fn what_is_not_modelled_is_said_and_not_guessed() {
    let Some(namespace) = namespace() else { return };
    for (rule, names) in [
        ("tcp sport 1 tcp dport 2", "expressions meta, cmp, payload, cmp"),
        ("ip ttl 5", "expressions payload, cmp"),
        ("ct mark 5 accept", "expressions ct, cmp, immediate"),
        ("limit rate 5/second accept", "expressions limit, immediate"),
        ("iif \"lo\" ip length 5", "expressions meta, cmp, payload, cmp"),
    ] {
        let document = format!("table ip odd {{ chain c {{ {rule}\n ip saddr 1.2.3.4 accept\n }}\n }}\n");
        namespace.inside(|| LinuxHost::new().nft_run(document.as_bytes(), false)).unwrap();
        let table = read(&namespace, IpFamily::V4, "odd").unwrap();
        assert!(!table.is_modelled());
        assert_eq!(table.chains["c"].rules[0].stmts, [Stmt::Unmodelled(names.into())], "{rule}");
        assert_eq!(table.chains["c"].rules[1].stmts.len(), 2, "{rule}");
        namespace.run(&["nft", "delete", "table", "ip", "odd"]);
    }
    let document =
        "table ip odd { counter n { }\n set s { type ether_addr; elements = { 0:1:2:3:4:5 } }\n }\n";
    namespace.inside(|| LinuxHost::new().nft_run(document.as_bytes(), false)).unwrap();
    let table = read(&namespace, IpFamily::V4, "odd").unwrap();
    assert_eq!(table.unmodelled, [Box::from("object n")]);
    assert!(table.sets["s"].has_unmodelled);
}

#[test]
fn a_reading_that_is_disturbed_is_done_again() {
    let Some(namespace) = namespace() else { return };
    const N: u32 = 3000;
    // Two writers move all elements from one chain to another and back, each time in one transaction.
    let with_target = |target: &str| {
        let mut table = many(N);
        let to = Data::Verdict(Verdict::Goto(name(target)));
        table.chains.insert(name("other"), Chain::default());
        for element in table.sets.get_mut("by-addr").unwrap().elements.values_mut() {
            element.data = Some(to.clone());
        }
        table
    };
    let (one, other) = (with_target("target"), with_target("other"));
    take(&namespace, &diff(&one, None), &one);
    let forth = stages(&diff(&other, Some(&one)), &other).load.remove(0).batch.unwrap();
    let back = stages(&diff(&one, Some(&other)), &one).load.remove(0).batch.unwrap();
    let n_at_work = AtomicUsize::new(2);
    let is_of_one_moment = |table: &Table| {
        let elements = &table.sets["by-addr"].elements;
        let targets: BTreeSet<_> =
            elements.values().map(|element| element.data.as_ref().unwrap().chain()).collect();
        (elements.len(), targets.len()) == (N as usize, 1)
    };
    std::thread::scope(|scope| {
        for turns in [[&forth, &back], [&back, &forth]] {
            let (namespace, n_at_work) = (&namespace, &n_at_work);
            scope.spawn(move || {
                namespace.inside(|| {
                    let mut host = LinuxHost::new();
                    for batch in std::iter::repeat_n(turns, 40).flatten() {
                        // The other writer may have been there before.
                        let _ = host.nft_change(batch);
                    }
                });
                n_at_work.fetch_sub(1, Ordering::SeqCst);
            });
        }
        namespace.inside(|| {
            let mut host = LinuxHost::new();
            while n_at_work.load(Ordering::SeqCst) > 0 {
                match host.nft_read(IpFamily::V4, "many") {
                    Ok(table) => assert!(is_of_one_moment(&table.unwrap())),
                    Err(error) => assert_eq!(error.kind, HostErrorKind::Busy, "{error}"),
                }
            }
        });
    });
    assert!(is_of_one_moment(&read(&namespace, IpFamily::V4, "many").unwrap()));
}
