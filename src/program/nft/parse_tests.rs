//! Reading of recordings and of odd input.

use std::path::PathBuf;

use super::parse;
use crate::program::nft::{Stmt, emit};

fn recordings() -> Vec<(PathBuf, Vec<u8>)> {
    let parent = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders.into_iter().map(|path| (path.clone(), std::fs::read(path.join("nft.json")).unwrap())).collect()
}

#[test]
fn everything_recorded_is_modelled() {
    for (path, json) in recordings() {
        let ruleset = parse(&json).unwrap();
        assert_eq!(ruleset.tables.len(), 2, "{}", path.display());
        for table in ruleset.tables.values() {
            assert_eq!(table.unmodelled, [], "{}", path.display());
            for (name, chain) in &table.chains {
                for rule in &chain.rules {
                    for stmt in &rule.stmts {
                        assert!(!matches!(stmt, Stmt::Unmodelled(_)), "{} {name} {stmt:?}", path.display());
                    }
                }
            }
            for (name, set) in &table.sets {
                assert!(!set.has_unmodelled, "{} {name}", path.display());
            }
            let text = String::from_utf8(emit::emit(table, "").text).unwrap();
            std::fs::write(
                format!(
                    "/tmp/n/{}-{}.emitted.nft",
                    path.file_name().unwrap().to_string_lossy(),
                    table.family
                ),
                text,
            )
            .unwrap();
        }
    }
}
