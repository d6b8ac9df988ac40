//! Parse and emit.

use std::path::PathBuf;

use super::*;
use crate::program::ipset::emit::{emit, write_document_to};
use crate::program::ipset::parse::parse;

/// What ipset 7.17 printed of a kernel with some of everything.
const EVERYTHING: &str = r#"create a hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x6c71e56b
add a 10.0.0.2,tcp:80
add a 10.0.0.1,sctp:80
add a 10.0.0.3,icmp:echo-request
add a 10.0.0.3,gre:0
add a 10.0.0.1,tcp:0
create b hash:ip,port,net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x01538551
add b 10.0.0.1,tcp:80,0.0.0.0/1
add b 10.0.0.1,tcp:80,10.0.0.0/24
add b 10.0.0.1,tcp:80,10.9.0.0/16 nomatch
add b 10.0.0.1,tcp:80,10.0.0.7
create c hash:ip family inet6 hashsize 1024 maxelem 3 bucketsize 12 initval 0x4193c454
add c fd00::1
add c ::ffff:10.0.0.1
add c ::10.0.0.1
create d bitmap:port range 0-65535
add d 0
add d 65535
create e hash:ip family inet hashsize 1024 maxelem 65536 timeout 60 counters comment bucketsize 12 initval 0xe2fb0c56
add e 10.0.0.1 timeout 59 packets 0 bytes 0 comment "x y"
create h hash:ip family inet hashsize 1024 maxelem 65536 netmask 24 bucketsize 12 initval 0x38590cd4
create i bitmap:ip range 10.0.0.0-10.0.0.255
create l hash:ip,port,ip family inet6 hashsize 1024 maxelem 65536 bucketsize 12 initval 0x12e95801
add l fd00::1,udp:53,fd00::2
create f list:set size 8
add f a
"#;

fn emitted(sets: &Sets) -> String {
    String::from_utf8(emit(sets, "").text).unwrap()
}

#[allow(clippy::disallowed_methods, reason = "tests read files")]
/// What ipset printed of kube-proxy's sets, by the name of the folder.
fn recordings() -> Vec<(String, String)> {
    let parent = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert_eq!(folders.len(), 14);
    let read = |folder: &PathBuf| {
        let text = std::fs::read_to_string(folder.join("ipset-save.txt")).unwrap();
        (folder.file_name().unwrap().to_string_lossy().into_owned(), text)
    };
    folders.iter().map(read).collect()
}

/// The lines of a text in order, without what the kernel chooses.
fn sorted(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let line = line.split(" bucketsize").next().unwrap().replace(" hashsize 1024", "");
        line.trim_end().to_owned()
    };
    let mut lines: Vec<String> = text.lines().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn everything_recorded_comes_out_as_it_was() {
    for (folder, text) in recordings() {
        let sets = parse(&text).unwrap();
        assert_eq!(sets.len(), 34, "{folder}");
        assert_eq!(check::check(&sets), [], "{folder}");
        let ours = emitted(&sets);
        assert_eq!(sorted(&ours), sorted(&text), "{folder}");
        assert_eq!(parse(&ours), Ok(sets), "{folder}");
    }
}

#[test]
fn what_is_not_modelled_is_kept() {
    let sets = parse(EVERYTHING).unwrap();
    assert_eq!(sorted(&emitted(&sets)), sorted(EVERYTHING));
    let unmodelled =
        |set: &Set| set.entries.iter().filter(|entry| matches!(entry, Entry::Unmodelled(_))).count();
    let found: Vec<(&str, bool, usize)> = sets
        .iter()
        .map(|(name, set)| (name.as_str(), matches!(set.kind, SetKind::Unmodelled(_)), unmodelled(set)))
        .collect();
    assert_eq!(
        found,
        [
            ("a", false, 2),
            ("b", false, 1),
            ("c", false, 0),
            ("d", false, 0),
            ("e", true, 1),
            ("f", true, 1),
            ("h", true, 0),
            ("i", true, 0),
            ("l", false, 0)
        ]
    );
    assert_eq!(
        sets[&name("e")].kind,
        SetKind::Unmodelled("hash:ip family inet maxelem 65536 timeout 60 counters comment".into())
    );
    assert_eq!(
        (sets[&name("e")].kind.type_name(), sets[&name("e")].kind.family()),
        ("hash:ip", Some(IpFamily::V4))
    );
    assert_eq!((sets[&name("f")].kind.type_name(), sets[&name("f")].kind.family()), ("list:set", None));
    let mapped = Entry::Ip("::ffff:10.0.0.1".parse().unwrap());
    assert!(sets[&name("c")].entries.contains(&mapped), "it stays an IPv6 address");
}

#[test]
fn what_means_the_same_is_the_same() {
    let short = "create A hash:ip,port,net\nadd A 10.0.0.1,80,10.0.0.7/24\n\n# x\n  add  A 10.0.0.1,udp:80,10.0.0.9/32 \n";
    let long = "create A hash:ip,port,net family inet hashsize 64 maxelem 65536 bucketsize 2\r\n\
        add A 10.0.0.1,tcp:80,10.0.0.0/24\r\nadd A 10.0.0.1,udp:80,10.0.0.9\r\n";
    assert_eq!(parse(short), parse(long));
    assert_eq!(parse("create B bitmap:port range 9-5"), parse("create B bitmap:port range 5-9"));
    assert_ne!(parse("create B hash:ip maxelem 1"), parse("create B hash:ip"));
}

#[test]
fn sets_that_no_rule_can_name_are_left_out() {
    let sets = parse("create x#1 hash:ip\nadd x#1 10.0.0.1\ncreate y hash:ip\nadd y 10.0.0.2\n").unwrap();
    assert_eq!(sets.keys().map(SetName::as_str).collect::<Vec<_>>(), ["y"]);
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, words) in [
        ("del A 10.0.0.1", "line 1, column 1: expected `create` or `add`"),
        ("create", "line 1, column 7: expected the name of a set"),
        ("create A", "line 1, column 9: expected the type of a set"),
        ("create A hash:ip family", "line 1, column 24: expected what the option is to be"),
        ("create A hash:ip family inet4", "line 1, column 25: expected inet or inet6"),
        ("create A hash:ip maxelem -1", "line 1, column 26: expected a number of entries"),
        ("create A hash:ip hashsize", "line 1, column 26: expected a number"),
        (
            "create A hash:ip\n\ncreate A hash:ip",
            "line 3, column 8: expected another set: `A` is there twice",
        ),
        ("add A 10.0.0.1", "line 1, column 5: expected a set that was made, not `A`"),
        ("create A hash:ip\nadd A ", "line 2, column 6: expected an entry"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), words, "{text}");
    }
}

#[test]
fn a_header_is_a_comment() {
    let sets = parse("create A hash:ip\nadd A 10.0.0.1\n").unwrap();
    let text = emit(&sets, "# one\ntwo").text;
    assert_eq!(
        String::from_utf8_lossy(&text),
        "# one\n# two\ncreate A hash:ip family inet maxelem 65536\nadd A 10.0.0.1\n"
    );
    let mut written = Vec::new();
    write_document_to(&mut written, &sets, "# one\ntwo").unwrap();
    assert_eq!(written, text);
}

proptest! {
    #[test]
    fn what_is_written_is_read(sets in sets()) {
        prop_assert_eq!(parse(&emitted(&sets)), Ok(sets));
    }

    #[test]
    fn any_text_gives_an_answer(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn any_words_give_an_answer(words in proptest::collection::vec(0..20usize, 0..40)) {
        const WORDS: [&str; 20] = [
            "create", "\ncreate", "\nadd", "A", "B", "hash:ip",
            "hash:ip,port,net", "bitmap:port", "family", "inet6", "maxelem", "1", "range", "5-9", "10.0.0.1",
            "10.0.0.1,tcp:80,", "10.0.0.0/99", "fd00::1,udp:65536", "timeout", ",",
        ];
        let text = words.iter().map(|word| WORDS[*word]).collect::<Vec<_>>().join(" ");
        let _ = parse(&text);
        if let Ok(sets) = parse(&text) {
            check::check(&sets);
        }
    }
}
