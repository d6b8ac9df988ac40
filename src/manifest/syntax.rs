//! What is wrong with a text that is no YAML or no JSON, in other words than those of the parsers, and what to do.

use crate::diagnostic::Diagnostic;

use super::source::Chunk;
use super::yaml::YamlError;

/// What to do about a template.
pub(super) const TEMPLATE: &str = "this looks like a template: render it first, as with `helm template`";

/// Whether there are the braces of a template.
pub(super) fn is_template(text: &str) -> bool {
    text.split_once("{{").is_some_and(|(_, rest)| rest.contains("}}"))
}

/// Says what is wrong with a YAML chunk.
pub(super) fn yaml_error(chunk: &Chunk<'_>, error: &YamlError) -> Diagnostic {
    let mut byte = error.byte.min(chunk.text.len());
    while !chunk.text.is_char_boundary(byte) {
        byte -= 1;
    }
    let rest = &chunk.text[byte..];
    let (message, hint) = yaml_words(&error.message, rest);
    let hint = if is_template(chunk.text) {
        Some(TEMPLATE)
    } else if hint.is_none() && is_indented_by_tabs(chunk.text, byte) {
        Some("there is a tab in the indentation of this line or the one above: indent with spaces")
    } else {
        hint
    };
    let diagnostic = Diagnostic::error("yaml-syntax", message).at(Some(chunk.place(byte..byte)));
    match hint {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

/// Whether there is a tab in the indentation of the line of a byte, or of the line before.
fn is_indented_by_tabs(text: &str, byte: usize) -> bool {
    let line_end = text[byte..].find('\n').map_or(text.len(), |end| byte + end);
    let has_tab = |line: &str| line.bytes().take_while(|b| matches!(b, b' ' | b'\t')).any(|b| b == b'\t');
    text[..line_end].lines().rev().take(2).any(has_tab)
}

fn yaml_words(error: &str, rest: &str) -> (String, Option<&'static str>) {
    let said = |message: &str, hint: &'static str| (message.to_owned(), Some(hint));
    if error.starts_with("tabs disallowed") {
        return said("a tab where YAML takes only spaces", "indent with spaces");
    }
    if error.contains("unknown anchor") {
        let name: String = rest.chars().take_while(|c| !c.is_whitespace() && !",]}".contains(*c)).collect();
        let name = name.trim_start_matches('*');
        let message = format!("{} is nowhere before", super::word::quoted(&format!("&{name}")));
        return (message, Some("an alias `*name` repeats what `&name` marks earlier in the same document"));
    }
    if error.starts_with("unexpected character") {
        let message = match rest.chars().next() {
            Some(c) if c.is_control() => {
                return (
                    format!("there is a control character, {}", super::word::quoted(&c.to_string())),
                    Some("remove it; in a string in double quotes it can be written like this"),
                );
            }
            Some(c) => format!("the character {} cannot stand here", super::word::quoted(&c.to_string())),
            None => "the text ends too early".to_owned(),
        };
        return (message, None);
    }
    match error {
        "mapping values are not allowed in this context" => said(
            "a `:` where no key can be",
            "look at the indentation of this line and the one above; a text with `: ` in it needs quotes",
        ),
        "illegal placement of ':' indicator" => {
            said("a `:` where no key can be", "look for a bracket or a quote that is not closed above")
        }
        super::yaml::TOO_LARGE => said(error, "write out what it repeats, or leave it out"),
        super::yaml::KEY_NO_STRING => said(error, "a text that begins with `{`, `[` or `? ` needs quotes"),
        "while parsing a block mapping, did not find expected key" => {
            ("neither a key of the mapping above, nor of one around it".to_owned(), None)
        }
        "unclosed quote" => said(error, "the quote that begins here has no end"),
        _ => (error.to_owned(), None),
    }
}

/// Says what is wrong with JSON: the error came up when reading `text[start..]`, a value of a stream. Gives the byte, too.
pub(super) fn json_error(
    chunk: &Chunk<'_>,
    text: &str,
    start: usize,
    error: &serde_json::Error,
) -> (usize, Diagnostic) {
    let rest = text.get(start..).unwrap_or_default();
    let byte = start + byte_of(rest, error.line(), error.column());
    let at_value = rest.trim_start().starts_with(['{', '[']);
    let before = text[..byte].trim_end();
    let here = text[byte..].trim_start().chars().next();
    let (mut byte, said) = (byte, error.to_string());
    let (message, hint) = match here {
        _ if error.is_eof() => (json_words(&said), Some("it may have been cut off")),
        _ if start > 0 && !at_value => {
            byte = start;
            let message = "this does not belong to the JSON text before".to_owned();
            (message, Some("take it out; objects follow one another, or are the `items` of a List"))
        }
        Some('}' | ']') if before.ends_with(',') => {
            byte = before.len() - 1;
            ("a comma with nothing after it".to_owned(), Some("take the comma out"))
        }
        _ => (json_words(&said), None),
    };
    let hint = if is_template(text) { Some(TEMPLATE) } else { hint };
    let diagnostic = Diagnostic::error("json-syntax", message).at(Some(chunk.place(byte..byte)));
    let diagnostic = match hint {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    };
    (byte, diagnostic)
}

/// An error of serde_json in other words.
pub(super) fn json_words(error: &str) -> String {
    let what = without_line(error);
    let words = match what {
        "EOF while parsing a string" => "the text ends too early, inside a string",
        "EOF while parsing a list" => "the text ends too early, inside a list",
        "EOF while parsing an object" => "the text ends too early, inside a mapping",
        "EOF while parsing a value" => "the text ends too early, where a value should be",
        "expected value" | "expected ident" => "this is no JSON value",
        "key must be a string" => "a key must be a string in double quotes",
        "invalid number" => "this is no number",
        "number out of range" => "the number is out of range",
        "recursion limit exceeded" => "nested too deep",
        "expected `:`" => "a `:` is missing after the key",
        _ if what.starts_with("expected `,` or") => "a comma or the end of the collection is missing",
        _ if what.starts_with("control character") => "a control character or an end of line inside a string",
        _ if what.contains("escape") || what.contains("surrogate") || what.contains("code point") => {
            "a `\\` in a string that stands for no character"
        }
        other => return other.replace('\n', " "),
    };
    words.to_owned()
}

/// What serde_json says, without where.
pub(super) fn without_line(error: &str) -> &str {
    error.rfind(" at line ").map_or(error, |end| &error[..end])
}

/// The byte of a line and column as serde_json counts them: from 1, columns in bytes.
fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let line_start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut byte = (line_start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}
