//! Names that may reach a rule, and words of which there are only a few.

use crate::diagnostic::Diagnostic;
use crate::net::Protocol;

use super::finding::Findings;
use super::object::Metadata;
use super::syntax::{TEMPLATE, is_template};

/// A DNS label: at most 63 lower-case letters, digits and dashes, no dash at the ends (RFC 1123).
pub(super) fn is_dns_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let at_end = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    bytes.len() <= 63
        && at_end(bytes.first())
        && at_end(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// A DNS subdomain: labels with dots between, at most 253 characters.
pub(super) fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

/// Text of the user as a message shows it: on one line, and not longer than it helps.
pub(super) fn quoted(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(80) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    let dots = if text.chars().nth(80).is_some() { "…" } else { "" };
    format!("`{shown}{dots}`")
}

/// Says that a name is bad.
pub(super) fn bad_name(what: &str, name: &str) -> Diagnostic {
    let message = format!("{what} {} is not a DNS label", quoted(name));
    let limit =
        "63 characters at most: lower-case letters, digits and `-`, with a letter or digit at both ends";
    Diagnostic::error("bad-name", message).hint(if is_template(name) { TEMPLATE } else { limit })
}

/// Says that an object has no name.
pub(super) fn no_name(kind: &str, metadata: &Metadata<'_>, findings: &mut Findings<'_>) {
    let hint = if metadata.has_generate_name {
        "the API server makes one of generateName when it creates the object; here it has to be written as `name`"
    } else {
        "write it as `metadata: {name: …}`"
    };
    findings.object = String::new();
    let diagnostic = Diagnostic::error("bad-name", format!("the {kind} has no metadata.name"));
    findings.add("metadata.name", diagnostic.hint(hint));
}

/// One of a few words. Says so if it is another, and what the nearest is.
pub(super) fn one_of<T: Copy>(
    findings: &mut Findings<'_>,
    path: &str,
    word: &str,
    words: &[(&str, T)],
) -> Option<T> {
    if let Some((_, meaning)) = words.iter().find(|(known, _)| *known == word) {
        return Some(*meaning);
    }
    let hint = match words.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)) {
        Some((near, _)) => format!("did you mean `{near}`?"),
        None => {
            let known: Vec<String> = words
                .iter()
                .filter(|(known, _)| !known.is_empty())
                .map(|(known, _)| format!("`{known}`"))
                .collect();
            format!("it can be {}", known.join(", "))
        }
    };
    let field = path.rsplit('.').next().unwrap_or(path);
    let diagnostic =
        Diagnostic::error("unknown-word", format!("{field} cannot be {}", quoted(word))).hint(hint);
    findings.add(path, diagnostic);
    None
}

/// `protocol` of a port, TCP if left out.
pub(super) const PROTOCOLS: [(&str, Protocol); 4] =
    [("", Protocol::Tcp), ("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_no_odd_name_through() {
        for good in ["a", "web-8", "0a", &"x".repeat(63)] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "a\n", "a\"", "ä", &"x".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
        assert!(is_dns_subdomain("ip-10-0-0-1.ec2.internal"));
        assert!(!is_dns_subdomain("a..b"));
    }
}
