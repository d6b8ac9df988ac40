//! Tests of the language as a whole: recorded texts, and properties over random rule sets.

use crate::net::IpFamily;

use super::{Ruleset, emit, parse};

/// A recorded text of each kind, of each cluster.
macro_rules! recordings {
    ($($cluster:literal)*) => {
        [$(
            (IpFamily::V4, include_str!(concat!("../../../testdata/recordings/", $cluster, "/iptables-save.txt"))),
            (IpFamily::V6, include_str!(concat!("../../../testdata/recordings/", $cluster, "/ip6tables-save.txt"))),
            (IpFamily::V4, include_str!(concat!("../../../testdata/recordings/", $cluster, "/ipvs-iptables-save.txt"))),
            (IpFamily::V6, include_str!(concat!("../../../testdata/recordings/", $cluster, "/ipvs-ip6tables-save.txt"))),
        )*]
    };
}

pub(super) const RECORDINGS: [(IpFamily, &str); 48] =
    recordings!("c01" "c02" "c03" "c04" "c05" "c06" "c07" "c08" "c09" "c10" "c11" "c12");

pub(super) fn emitted(ruleset: &Ruleset) -> String {
    let mut text = Vec::new();
    emit::write_document(&mut text, ruleset, "");
    String::from_utf8(text).unwrap()
}

#[test]
fn recorded_texts_come_back_to_the_byte() {
    for (family, text) in RECORDINGS {
        let ruleset = parse::parse(text, family).unwrap();
        let expected: String = text
            .split_inclusive('\n')
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.replace("--nfacct-name  ", "--nfacct-name "))
            .collect();
        for (line, wanted) in emitted(&ruleset).lines().zip(expected.lines()) {
            assert_eq!(line, wanted);
        }
        let mut pieces = Vec::new();
        emit::write_document_to(&mut pieces, &ruleset, "").unwrap();
        assert_eq!(pieces, expected.into_bytes());
    }
}
