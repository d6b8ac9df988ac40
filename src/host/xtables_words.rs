//! Reads what the iptables tools say when they fail: the line, the sort of failure, the words worth showing.

use super::error::HostErrorKind;

/// What the standard error of an iptables tool tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The line of the document, from 1.
    pub(super) line: Option<usize>,
    /// The sort of failure.
    pub(super) kind: HostErrorKind,
    /// The words, without the name of the tool and the advice to read its help.
    pub(super) words: String,
    /// The chain that a jump wanted and that is not there.
    pub(super) missing_chain: Option<String>,
}

/// Reads it.
pub(super) fn read(stderr: &str) -> Said {
    let mut line = None;
    let mut words: Vec<&str> = Vec::new();
    for text in stderr.lines().map(str::trim) {
        if text.is_empty() || text.starts_with("Try `") || text.starts_with("# Warning:") {
            continue;
        }
        if let Some(number) = text.strip_prefix("Error occurred at line:") {
            line = line.or_else(|| number.trim().parse().ok());
            continue;
        }
        line = line.or_else(|| line_number(text));
        let text = without_name(text);
        if !text.is_empty() && !words.contains(&text) {
            words.push(text);
        }
    }
    let words = words.join("\n");
    Said { line, kind: kind_of(&words), missing_chain: missing_chain(&words), words }
}

/// The number in `line 7 failed`, `line 7: RULE_APPEND failed …`, `COMMIT expected at line 7`.
fn line_number(text: &str) -> Option<usize> {
    let at = text.match_indices("line ").map(|(at, word)| at + word.len());
    at.filter_map(|at| {
        let rest = &text[at..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest[..digits].parse().ok()
    })
    .next()
}

/// Cuts `iptables-restore v1.8.9 (legacy): ` and `iptables-restore: ` off.
fn without_name(text: &str) -> &str {
    let is_name = |head: &str| {
        let tool = head.split(' ').next().unwrap_or_default();
        tool.starts_with("iptables") || tool.starts_with("ip6tables") || tool.starts_with("xtables-")
    };
    let mut text = text;
    while let Some((head, rest)) = text.split_once(':') {
        if !is_name(head) {
            break;
        }
        text = rest.trim_start();
    }
    text
}

fn missing_chain(words: &str) -> Option<String> {
    let (before, after) = match words.split_once("Chain '") {
        Some((_, rest)) => rest.split_once("' does not exist")?,
        None => words.split_once("Couldn't load target `")?.1.split_once("':")?,
    };
    (!after.contains("Chain '")).then(|| before.to_owned())
}

/// The sort of failure that the words of an iptables tool, or of `nft`, tell.
pub(super) fn kind_of(text: &str) -> HostErrorKind {
    let text = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["permission denied", "operation not permitted", "you must be root"]) {
        HostErrorKind::Permission
    } else if says(&["holding the xtables lock", "resource temporarily unavailable", "resource busy"]) {
        HostErrorKind::Busy
    } else if says(&[
        "operation not supported",
        "protocol not supported",
        "address family not supported",
        "table does not exist",
        "do you need to insmod",
        "generation id: invalid argument",
    ]) {
        HostErrorKind::Unsupported
    } else if says(&[
        "no chain/target/match by that name",
        "does a matching rule exist",
        "does not exist",
        "doesn't exist",
        "no such file or directory",
    ]) {
        HostErrorKind::NotFound
    } else if says(&["already exists", "file exists"]) {
        HostErrorKind::Exists
    } else {
        HostErrorKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HostErrorKind::{Busy, NotFound, Other, Permission};

    /// What iptables 1.8.9 says, word for word.
    #[test]
    fn reads_both_variants() {
        for (stderr, line, kind, words) in [
            (
                "iptables-restore v1.8.9 (legacy): unknown option \"--bogus\"\nError occurred at line: 3\n\
                 Try `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
                Some(3),
                Other,
                "unknown option \"--bogus\"",
            ),
            ("iptables-restore: line 5 failed\n", Some(5), Other, "line 5 failed"),
            (
                "iptables-restore v1.8.9 (legacy): Couldn't load target `KUBE-NOPE':No such file or directory\n\n\
                 Error occurred at line: 4\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
                Some(4),
                NotFound,
                "Couldn't load target `KUBE-NOPE':No such file or directory",
            ),
            (
                "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'bogus'\n\
                 Error occurred at line: 1\n",
                Some(1),
                Other,
                "unable to initialize table 'bogus'",
            ),
            ("iptables-restore: COMMIT expected at line 4\n", Some(4), Other, "COMMIT expected at line 4"),
            (
                "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n\
                 iptables-nft-restore v1.8.9 (nf_tables): \n\
                 line 412: RULE_APPEND failed (No such file or directory): rule in chain FOO\n",
                Some(412),
                NotFound,
                "line 412: RULE_APPEND failed (No such file or directory): rule in chain FOO",
            ),
            (
                "iptables-nft-restore v1.8.9 (nf_tables): \nline 2: CHAIN_DEL failed (Device or resource busy): chain BAR\n",
                Some(2),
                Busy,
                "line 2: CHAIN_DEL failed (Device or resource busy): chain BAR",
            ),
            (
                "iptables-nft-restore v1.8.9 (nf_tables): iptables-nft-restore: line 1 table name 'bogus' invalid\n\
                 Error occurred at line: 1\n",
                Some(1),
                Other,
                "line 1 table name 'bogus' invalid",
            ),
            (
                "iptables-nft-restore: line 3 failed: No chain/target/match by that name.\n",
                Some(3),
                NotFound,
                "line 3 failed: No chain/target/match by that name.",
            ),
            (
                "Fatal: can't open lock file /run/xtables.lock: Permission denied\n",
                None,
                Permission,
                "Fatal: can't open lock file /run/xtables.lock: Permission denied",
            ),
            (
                "Can't lock /run/xtables.lock: Resource temporarily unavailable\n\
                 Another app is currently holding the xtables lock. Stopped waiting after 5s.\n",
                None,
                Busy,
                "Can't lock /run/xtables.lock: Resource temporarily unavailable\n\
                 Another app is currently holding the xtables lock. Stopped waiting after 5s.",
            ),
            ("", None, Other, ""),
        ] {
            let said = read(stderr);
            assert_eq!((said.line, said.kind, said.words.as_str()), (line, kind, words));
        }
    }

    #[test]
    fn names_the_chain_that_is_missing() {
        let nft = "ip6tables-nft-restore v1.8.9 (nf_tables): Chain 'KUBE-NOPE' does not exist\nError occurred at line: 7\n";
        assert_eq!(read(nft).missing_chain.as_deref(), Some("KUBE-NOPE"));
        assert_eq!(read(nft).line, Some(7));
        let legacy = "iptables-restore v1.8.9 (legacy): Couldn't load target `A':No such file or directory\n";
        assert_eq!(read(legacy).missing_chain.as_deref(), Some("A"));
        assert_eq!(read("unknown option").missing_chain, None);
    }
}
