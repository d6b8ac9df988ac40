//! The rules of the house, checked on its sources: layers, shapes, sizes, file heads, literals, words.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: a module's own rank first, then what it may use. `ARCHITECTURE.md` explains it.
const LAYERS: &[(&str, &[&str])] = &[
    ("net", &[]),
    ("diagnostic", &[]),
    ("packet", &["net"]),
    ("model", &["net"]),
    ("manifest", &["model", "net", "diagnostic"]),
    ("resolve", &["model", "packet", "net"]),
    ("program", &["packet", "net"]),
    ("backend", &["program", "resolve", "model", "net"]),
    ("plan", &["program", "packet", "net"]),
    ("verify", &["resolve", "program", "packet", "model", "net"]),
    ("trace", &["program", "packet", "net"]),
    ("inspect", &["trace", "backend", "program", "resolve", "model", "net"]),
    ("telemetry", &["net"]),
    ("host", &["plan", "program", "telemetry", "net"]),
    (
        "report",
        &[
            "inspect",
            "trace",
            "verify",
            "plan",
            "backend",
            "program",
            "resolve",
            "manifest",
            "model",
            "packet",
            "net",
            "diagnostic",
        ],
    ),
    ("pipeline", &["manifest", "resolve", "backend", "program", "model", "net", "diagnostic"]),
    (
        "command",
        &[
            "pipeline",
            "report",
            "host",
            "inspect",
            "trace",
            "verify",
            "plan",
            "backend",
            "program",
            "resolve",
            "manifest",
            "model",
            "packet",
            "telemetry",
            "net",
            "diagnostic",
        ],
    ),
    ("cli", &["command", "host"]),
    ("main", &["cli", "command", "host"]),
];

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 2, "{dir} has sources");
    found
}

/// The module of the first level that a file belongs to: `src/net/cidr.rs` to `net`.
fn module(path: &Path) -> String {
    let second = path.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
    second.trim_end_matches(".rs").to_owned()
}

/// Code without line comments and without what follows `#[cfg(test)]`.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests")
}

fn report(what: &str, problems: Vec<String>) {
    assert!(problems.is_empty(), "{what}:\n  {}", problems.join("\n  "));
}

#[test]
fn imports_go_downhill() {
    let mut problems = Vec::new();
    for (path, text) in sources("src") {
        let own = module(&path);
        if own == "lib" || is_test(&path) {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == own) else {
            problems.push(format!("{}: `{own}` has no row in the table of layers", path.display()));
            continue;
        };
        let code = code(&text);
        for prefix in ["crate::", "svcproxy::"] {
            for (at, _) in code.match_indices(prefix) {
                let rest = &code[at + prefix.len()..];
                let used: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !used.is_empty() && used != own && !allowed.contains(&used.as_str()) {
                    problems.push(format!("{}: {own} may not use {used}", path.display()));
                }
            }
            assert!(
                !code.contains(&format!("{prefix}{{")),
                "{}: name the module in the path",
                path.display()
            );
        }
    }
    report("imports against the table of layers", problems);
}

#[test]
fn commands_and_backends_do_not_know_their_siblings() {
    let mut problems = Vec::new();
    for (path, text) in sources("src") {
        let parts: Vec<String> =
            path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        if parts[1] != "backend" || parts.len() < 4 {
            continue;
        }
        for sibling in ["iptables", "ipvs", "nftables", "userspace"] {
            if sibling != parts[2] && code(&text).contains(&format!("backend::{sibling}")) {
                problems.push(format!("{}: uses backend::{sibling}", path.display()));
            }
        }
    }
    report("backends that use each other", problems);
}

#[test]
fn siblings_have_the_same_shape() {
    let shape = |parent: &str, required: &[&str]| {
        let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(parent);
        let mut problems = Vec::new();
        for entry in fs::read_dir(&parent).unwrap() {
            let folder = entry.unwrap().path();
            if !folder.is_dir() {
                continue;
            }
            for name in required {
                if !folder.join(format!("{name}.rs")).exists() && !folder.join(name).join("mod.rs").exists() {
                    problems.push(format!("{} has no {name}", folder.display()));
                }
            }
        }
        report("folders that lack a file which their siblings have", problems);
    };
    shape("backend", &["mod", "names", "base", "service", "endpoint", "owned", "lift"]);
    shape("program", &["mod", "emit", "parse", "check", "diff", "eval"]);
}

#[test]
fn files_say_their_job_and_are_short() {
    let mut problems = Vec::new();
    for (path, text) in sources("src").into_iter().chain(sources("tests")).chain(sources("benches")) {
        if !text.starts_with("//!") {
            problems.push(format!("{}: the first line does not say what it is for", path.display()));
        }
        let lines = text.lines().count();
        if lines > 800 {
            problems.push(format!("{}: {lines} lines", path.display()));
        }
    }
    report("files", problems);
}

#[test]
fn kernel_names_stand_in_names_files_only() {
    let mut problems = Vec::new();
    for (path, text) in sources("src") {
        if path.ends_with("names.rs") || is_test(&path) {
            continue;
        }
        for literal in ["\"KUBE-", "\"kube-"] {
            // The manifests' own words (`kube-system`) are the reader's.
            let is_api_word = literal == "\"kube-" && module(&path) == "manifest";
            if code(&text).contains(literal) && !is_api_word {
                problems.push(format!("{}: {literal}", path.display()));
            }
        }
    }
    report("literal names of kernel objects", problems);
}

#[test]
fn words() {
    let bad_words = ["todo!", "dbg!", "unimplemented!", concat!("FIX", "ME"), concat!("XX", "X")];
    let bad_names: BTreeSet<&str> =
        ["util", "utils", "helper", "helpers", "common", "misc", "manager", "handler", "info"].into();
    let mut problems = Vec::new();
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        if path.ends_with("tidy.rs") {
            continue;
        }
        for word in bad_words {
            if text.contains(word) {
                problems.push(format!("{}: {word}", path.display()));
            }
        }
        for part in path.components() {
            let part = part.as_os_str().to_string_lossy();
            if bad_names.contains(part.trim_end_matches(".rs")) {
                problems.push(format!("{}: says nothing about what is in it", path.display()));
            }
        }
    }
    report("words", problems);
}

#[test]
fn every_module_is_on_the_map() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let mut problems = Vec::new();
    for (name, allowed) in LAYERS {
        let row = map.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        match row {
            None => problems.push(format!("{name} has no row")),
            Some(row) => {
                for used in *allowed {
                    if !row.contains(&format!("`{used}`")) {
                        problems.push(format!("the row of {name} does not say that it uses {used}"));
                    }
                }
            }
        }
    }
    assert!(map.lines().count() < 160, "ARCHITECTURE.md is no map any more");
    report("ARCHITECTURE.md", problems);
}
