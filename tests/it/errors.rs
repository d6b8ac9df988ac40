//! Bad inputs (`testdata/errors`): what compile says of each is written down word for word; diff says the same, and apply
//! touches nothing. `UPDATE_EXPECT=1` renews what is written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::{machine, run};
use svcproxy::host::FakeHost;

fn folders() -> Vec<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/errors");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 70, "the cases are there");
    folders
}

/// A machine with the input of a case under the case's name, and its further arguments.
fn given(folder: &Path) -> (FakeHost, String) {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let mut host = FakeHost::new();
    let mut args = "--node node-1".to_owned();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        match path.file_name().unwrap().to_str().unwrap() {
            "args" => args = String::from_utf8(bytes).unwrap().trim().to_owned(),
            "stderr.txt" => {}
            file => {
                host.files.insert(format!("{name}/{file}"), bytes);
            }
        }
    }
    (host, format!("-f {name} {args}"))
}

#[test]
fn each_bad_input_is_told_of() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut problems = Vec::new();
    for folder in folders() {
        let (mut host, args) = given(&folder);
        let ran = run(&mut host, &format!("compile {args}"));
        let said = format!("$ svcproxy compile {args}\n{}exit status: {}\n", ran.err, ran.status);
        let golden = folder.join("stderr.txt");
        if update {
            fs::write(&golden, &said).unwrap();
        }
        let written = fs::read_to_string(&golden).unwrap_or_default();
        if said != written {
            problems.push(format!("{} says\n{said}", folder.display()));
        }
        if said.contains('\u{1b}')
            || ran.out.lines().any(|line| line.contains("ACCEPT\"") || line.contains('\r'))
        {
            problems.push(format!("{}: text of the input is let through", folder.display()));
        }
    }
    assert!(
        problems.is_empty(),
        "{} differ (UPDATE_EXPECT=1 renews):\n{}",
        problems.len(),
        problems.join("\n")
    );
}

#[test]
fn diff_says_the_same_and_apply_touches_nothing() {
    for folder in folders() {
        let (host, args) = given(&folder);
        let compiled = run(&mut host.clone(), &format!("compile {args}"));
        let mut comparing = host.clone();
        for name in ["dump/iptables-save.txt", "dump/ip6tables-save.txt"] {
            comparing.files.insert(name.to_owned(), b"*filter\nCOMMIT\n".to_vec());
        }
        let compared = run(&mut comparing, &format!("diff {args} --against dump"));
        // Notes are for compile.
        let without_notes: Vec<&str> =
            compiled.err.split("\n\n").filter(|said| !said.starts_with("note[")).collect();
        assert_eq!(compared.err.trim_end(), without_notes.join("\n\n").trim_end(), "{}", folder.display());
        assert_eq!(compared.status, if compiled.status == 0 { 1 } else { 2 }, "{}", folder.display());
        if compiled.status == 0 {
            continue;
        }
        let mut applying = host.clone();
        let applied = run(&mut applying, &format!("apply {args}"));
        assert_eq!((applied.status, applied.out.as_str()), (2, ""), "{}", folder.display());
        assert_eq!((applying.calls.len(), applying.tables.len()), (0, 0), "{}", folder.display());
    }
}

/// Every error of the corpus says file, line and column, shows the line and points at it; those that are about a file as a
/// whole name the file.
#[test]
fn errors_have_places() {
    for folder in folders() {
        let text = fs::read_to_string(folder.join("stderr.txt")).unwrap();
        for block in text.split("\n\n").filter(|block| block.contains("[") && block.contains("]: ")) {
            let whole = block.contains("[not-utf-8]") || block.contains("[no-services]");
            let has_place = block.contains("--> ") && block.contains('^');
            assert!(has_place || whole, "{}:\n{block}", folder.display());
        }
    }
}

#[test]
fn input_without_services_is_warned_of() {
    let mut host = machine();
    let skipped = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n";
    let texts = BTreeMap::from([
        ("none.json", "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[]}"),
        ("other.yaml", skipped),
    ]);
    for (name, text) in texts {
        host.files.insert(name.to_owned(), text.into());
        let ran = run(&mut host, &format!("compile -f {name} --node node-1"));
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(ran.err.starts_with("warning[no-services]: the input has no Service"), "{}", ran.err);
        assert_eq!(run(&mut host, &format!("apply -f {name} --node node-1 --strict")).status, 2);
        assert!(host.tables.is_empty());
    }
}

/// Large or strange texts that are better made than kept: they end quickly, with one clear error.
#[test]
fn hostile_texts_are_refused_at_once() {
    let deep = |open: &str, n: usize| open.repeat(n);
    let mut wide = "a: &a {".to_owned();
    (0..500).for_each(|i| wide.push_str(&format!("k{i}: v, ")));
    wide.push_str("z: v}\n");
    (0..20).for_each(|i| wide.push_str(&format!("b{i}: {{<<: *a}}\n")));
    let long = format!(
        "a: &a {}\n{}",
        "x".repeat(200_000),
        (0..20_000).map(|i| format!("b{i}: *a\n")).collect::<String>()
    );
    let keys: String = (0..2000).map(|i| format!("k{i}: v, ")).collect();
    let merges: String = (0..200).map(|i| format!("b{i}: {{<<: *a, x{i}: 1}}\n")).collect();
    let merges = format!("a: &a {{{keys}z: v}}\n{merges}");
    let texts = [
        ("deep.json", deep("[", 200_000)),
        ("deep.yaml", deep("- ", 200_000)),
        (
            "open.json",
            format!("{{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{}", deep("[", 200_000)),
        ),
        ("merge.yaml", wide),
        ("long.yaml", long),
        ("self.yaml", "&a [*a]\n".to_owned()),
        ("merges.yaml", merges),
    ];
    for (name, text) in texts {
        let mut host = FakeHost::new();
        host.files.insert(name.to_owned(), text.into_bytes());
        let ran = run(&mut host, &format!("compile -f {name} --node node-1"));
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{name}: {}", ran.err);
        assert!(ran.err.len() < 2000 && ran.err.contains(&format!("--> {name}:")), "{name}: {}", ran.err);
    }
}

/// A dump of which everything is broken ends in a number, not in a message for each object.
#[test]
fn many_errors_are_counted() {
    let broken = |i: usize| {
        format!("{{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{{\"name\":\"S{i}\"}}}}\n")
    };
    let mut host = FakeHost::new();
    host.files.insert("many.json".to_owned(), (0..1000).map(broken).collect::<String>().into_bytes());
    host.files.insert("few.json".to_owned(), broken(0).into_bytes());
    let ran = run(&mut host, "compile -f many.json -f few.json --node node-1");
    assert_eq!(ran.status, 2);
    assert_eq!(ran.err.matches("error[bad-name]").count(), 101, "{}", ran.err);
    assert_eq!(ran.err.matches("… and 900 more errors").count(), 1, "{}", ran.err);
}
