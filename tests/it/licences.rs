//! Every dependency has a licence that we accept, and comes from the registry.

use std::collections::BTreeSet;
use std::process::Command;

/// Accepted as they stand or within an OR.
const ACCEPTED: [&str; 10] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "CC0-1.0",
];

/// Whether an SPDX expression of OR, AND and parentheses can be met with accepted licences.
fn is_accepted(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    // AND binds tighter; without nesting, an OR of ANDs covers what crates write.
    expression.split(" OR ").any(|all| all.split(" AND ").all(|one| ACCEPTED.contains(&one.trim())))
}

#[test]
fn dependencies_are_permissive_and_registered() {
    // What other platforms need is not there to be looked at.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 20);
    let mut problems = BTreeSet::new();
    for package in packages {
        let name = format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        if package["source"].is_null() {
            assert!(name.starts_with("svcproxy "), "{name} is not from the registry");
        } else if !package["source"].as_str().unwrap().starts_with("registry+") {
            problems.insert(format!("{name}: from {}", package["source"]));
        }
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_accepted(licence) {
            problems.insert(format!("{name}: {licence}"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn expressions_are_read() {
    assert!(is_accepted("MIT OR GPL-3.0"));
    assert!(is_accepted("Apache-2.0/MIT"));
    assert!(is_accepted("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!is_accepted("GPL-3.0-only"));
    assert!(!is_accepted("MIT AND LGPL-2.1"));
}
