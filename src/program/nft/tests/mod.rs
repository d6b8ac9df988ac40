//! Tests of the language on recordings, small tables and random ones.

mod eval;
mod places;
mod random;
mod reach;
mod text;

use std::path::PathBuf;

use super::parse::parse;
use super::*;

#[allow(clippy::disallowed_methods, reason = "tests read files")]
/// The recorded rule sets, by the name of their folder.
fn recordings() -> Vec<(String, Ruleset)> {
    let parent = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let read = |path: &PathBuf| {
        let json = std::fs::read(path.join("nft.json")).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), parse(&json).unwrap())
    };
    folders.iter().map(read).collect()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn v4(text: &str) -> Scalar {
    Scalar::Ipv4(text.parse().unwrap())
}

/// A listing with these objects, the tables `ip t` and `ip6 t6` and, in the first, the chains `c` and `d`.
fn listing(objects: &str) -> Ruleset {
    let json = format!(
        r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6"}}}}, {{"table": {{"family": "ip", "name": "t", "handle": 1}}}},
        {{"table": {{"family": "ip6", "name": "t6", "handle": 2}}}},
        {{"chain": {{"family": "ip", "table": "t", "name": "c", "handle": 1}}}},
        {{"chain": {{"family": "ip", "table": "t", "name": "d", "handle": 2}}}}, {objects}]}}"#
    );
    parse(json.as_bytes()).unwrap()
}

/// The statements of one rule.
fn stmts(expr: &str) -> Vec<Stmt> {
    let rule =
        format!(r#"{{"rule": {{"family": "ip", "table": "t", "chain": "c", "handle": 3, "expr": {expr}}}}}"#);
    listing(&rule).table(Family::Ip, "t").unwrap().chains["c"].rules[0].stmts.clone()
}
