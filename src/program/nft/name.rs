//! Names of tables, chains and sets, and comments: what can be written in nft text without escaping.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Words that nft 1.0.6 does not take as the name of a chain, found by trying, with those that came later.
const RESERVED: [&str; 154] = [
    "accept",
    "add",
    "ah",
    "and",
    "arp",
    "auto-merge",
    "bridge",
    "cgroup",
    "chain",
    "comment",
    "comp",
    "constant",
    "continue",
    "counter",
    "cpu",
    "create",
    "ct",
    "day",
    "dccp",
    "define",
    "delete",
    "describe",
    "destroy",
    "device",
    "devices",
    "dnat",
    "drop",
    "dst",
    "dup",
    "dynamic",
    "ecn",
    "element",
    "elements",
    "eq",
    "esp",
    "ether",
    "exists",
    "expires",
    "export",
    "exthdr",
    "fib",
    "flags",
    "flow",
    "flowtable",
    "flush",
    "frag",
    "fwd",
    "gc-interval",
    "ge",
    "get",
    "goto",
    "gt",
    "handle",
    "hbh",
    "hook",
    "hour",
    "ibriport",
    "ibrname",
    "icmp",
    "icmpv6",
    "igmp",
    "iif",
    "iifgroup",
    "iifname",
    "iiftype",
    "import",
    "include",
    "index",
    "inet",
    "insert",
    "interval",
    "ip",
    "ip6",
    "ipsec",
    "jhash",
    "jump",
    "last",
    "le",
    "limit",
    "list",
    "log",
    "lshift",
    "lt",
    "map",
    "mark",
    "masquerade",
    "meta",
    "meter",
    "mh",
    "missing",
    "monitor",
    "ne",
    "netdev",
    "nftrace",
    "not",
    "notrack",
    "numgen",
    "obriport",
    "obrname",
    "offload",
    "oif",
    "oifgroup",
    "oifname",
    "oiftype",
    "or",
    "osf",
    "pkttype",
    "policy",
    "position",
    "priority",
    "queue",
    "quota",
    "random",
    "redefine",
    "redirect",
    "reject",
    "rename",
    "replace",
    "reset",
    "return",
    "rshift",
    "rt",
    "rt0",
    "rt2",
    "rtclassid",
    "rule",
    "ruleset",
    "sctp",
    "secmark",
    "set",
    "size",
    "skgid",
    "skuid",
    "snat",
    "socket",
    "srh",
    "symhash",
    "synproxy",
    "table",
    "tcp",
    "th",
    "time",
    "timeout",
    "tproxy",
    "type",
    "typeof",
    "udp",
    "udplite",
    "undefine",
    "update",
    "vlan",
    "vmap",
    "xor",
    "xt",
];

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than the kernel takes.
    #[error("name `{0}` is longer than {max} bytes", max = Name::MAX)]
    TooLong(String),
    /// Not a letter, `_` or `.` first, or other than letters, digits, `_`, `.`, `-` and `/` after it.
    #[error("name `{0}` has characters that nft does not take")]
    Alphabet(String),
    /// A word of the language.
    #[error("name `{0}` is a word of nft")]
    Reserved(String),
}

/// The name of a table, chain, set or map. Cheap to copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name in bytes: NFT_NAME_MAXLEN less its NUL. nft 1.0.6 itself would take one more.
    pub const MAX: usize = 255;

    /// A name, if it is one.
    pub fn new(name: &str) -> Result<Name, NameError> {
        if name.len() > Name::MAX {
            return Err(NameError::TooLong(name.to_owned()));
        }
        let bytes = name.as_bytes();
        let begins =
            bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.'));
        let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/');
        if !begins || !bytes.iter().all(goes_on) {
            return Err(NameError::Alphabet(name.to_owned()));
        }
        if RESERVED.binary_search(&name).is_ok() {
            return Err(NameError::Reserved(name.to_owned()));
        }
        Ok(Name(name.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no comment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommentError {
    /// Longer than nft takes.
    #[error("comment `{0}` is longer than {max} bytes", max = Comment::MAX)]
    TooLong(String),
    /// It has a quote or a control character: nft has no escapes.
    #[error("comment `{0}` has a quote or a control character")]
    Alphabet(String),
}

/// A comment: at most 128 bytes, no quote. Cheap to copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comment(Arc<str>);

impl Comment {
    /// The longest comment in bytes (NFTNL_UDATA_COMMENT_MAXLEN).
    pub const MAX: usize = 128;

    /// A comment, if it is one.
    pub fn new(text: &str) -> Result<Comment, CommentError> {
        if text.len() > Comment::MAX {
            return Err(CommentError::TooLong(text.to_owned()));
        }
        if text.bytes().any(is_bad) {
            return Err(CommentError::Alphabet(text.to_owned()));
        }
        Ok(Comment(text.into()))
    }

    /// What a kernel has, with `?` for what nft could not write, cut to the length.
    pub(super) fn lossy(text: &str) -> Comment {
        match Comment::new(text) {
            Ok(comment) => comment,
            Err(_) => {
                let mut clean: String =
                    text.chars().map(|c| if c == '"' || c.is_ascii_control() { '?' } else { c }).collect();
                while clean.len() > Comment::MAX {
                    clean.pop();
                }
                Comment(clean.into())
            }
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_bad(byte: u8) -> bool {
    byte == b'"' || byte.is_ascii_control()
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// Names, each kept once: a table says every one of them many times.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<Name>);

impl Names {
    /// The name with this text; `None` if it is none.
    pub(super) fn get(&mut self, text: &str) -> Option<Name> {
        if let Some(name) = self.0.get(text) {
            return Some(name.clone());
        }
        let name = Name::new(text).ok()?;
        self.0.insert(name.clone());
        Some(name)
    }
}
