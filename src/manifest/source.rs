//! Text as it comes in: bytes to text, and a text cut into chunks that can be read apart from each other.

use std::ops::Range;

use crate::diagnostic::{Diagnostic, Place, Source, SourceId};

/// Makes a source of bytes that were read: UTF-8, with or without a byte order mark.
#[expect(clippy::result_large_err, reason = "made at most once for each file")]
pub fn decode_text(name: &str, bytes: Vec<u8>) -> Result<Source, Diagnostic> {
    let not_text = |message: String, from: &str| {
        let hint = format!("save it as UTF-8, as with `iconv -f {from} -t UTF-8`");
        Diagnostic::error("not-utf-8", message).hint(hint)
    };
    // With a byte order mark, or ASCII of which every other byte is zero.
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [1..=255, 0, 1..=255, 0, ..] | [0, 1..=255, 0, 1..=255, ..] =
        bytes.as_slice()
    {
        return Err(not_text(format!("`{name}` is UTF-16 text, not UTF-8"), "UTF-16"));
    }
    match String::from_utf8(bytes) {
        Ok(mut text) => {
            if text.starts_with('\u{feff}') {
                text.drain(..'\u{feff}'.len_utf8());
            }
            Ok(Source { name: name.to_owned(), text })
        }
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes().get(at).copied().unwrap_or_default();
            let before = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
            let (line, column) = Source { name: String::new(), text: before }.line_column(at);
            let place = format!("byte 0x{byte:02x} at line {line}, column {column}");
            Err(not_text(format!("`{name}` is not UTF-8 text: {place}"), "LATIN1"))
        }
    }
}

/// Nodes that YAML aliases may add to a source, on top of one for every 16 bytes of it.
const MAX_ALIAS_NODES: usize = 200_000;

/// How a chunk is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON values, one after the other.
    Json,
    /// YAML documents.
    Yaml,
}

/// A part of a source that no YAML document and no JSON value reaches over.
#[derive(Debug, Clone)]
pub(super) struct Chunk<'t> {
    /// The source that it is of.
    pub(super) source: SourceId,
    /// First byte in the source.
    pub(super) start: usize,
    /// Its text.
    pub(super) text: &'t str,
    /// How it is written.
    pub(super) format: Format,
    /// Nodes that YAML aliases may add to it.
    pub(super) alias_nodes: usize,
}

impl Chunk<'_> {
    /// The place of bytes of this chunk.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place { source: self.source, span: self.start + span.start..self.start + span.end }
    }
}

/// Cuts a source before every line that begins a YAML document (`---`, then white space). Such a line cannot occur
/// inside any YAML scalar, nor inside a JSON value. Chunks without content are left out.
pub(super) fn chunks<'t>(source: SourceId, text: &'t str) -> Vec<Chunk<'t>> {
    let mut cuts = vec![0];
    let mut line_start = 0;
    // Where directives (`%YAML`) begin that belong to the next document.
    let mut directives = None;
    let mut between_documents = true;
    for line in text.split_inclusive('\n') {
        let bytes = line.as_bytes();
        match bytes.first() {
            Some(b'-') if bytes.starts_with(b"---") && bytes.get(3).is_none_or(u8::is_ascii_whitespace) => {
                cuts.push(directives.take().unwrap_or(line_start));
                between_documents = false;
            }
            Some(b'.') if bytes.starts_with(b"...") => between_documents = true,
            Some(b'%') if between_documents => {
                directives.get_or_insert(line_start);
            }
            Some(b'#' | b'\n' | b'\r' | b'%') | None => {}
            Some(_) => {
                between_documents = false;
                directives = None;
            }
        }
        line_start += line.len();
    }
    cuts.push(text.len());
    let chunk = |start: usize, end: usize| {
        let piece = &text[start..end];
        let alias_nodes = share_of_aliases(piece.len(), text.len());
        Chunk { source, start, text: piece, format: format_of(piece), alias_nodes }
    };
    cuts.windows(2).map(|cut| chunk(cut[0], cut[1])).filter(|chunk| has_content(chunk.text)).collect()
}

/// Nodes that aliases may add to a part of a source: all parts together may not become more than one part alone.
fn share_of_aliases(part: usize, whole: usize) -> usize {
    let share = MAX_ALIAS_NODES as u128 * part as u128 / whole.max(1) as u128;
    usize::try_from(share).unwrap_or(MAX_ALIAS_NODES) + part / 16
}

/// JSON begins with a brace and then a quoted key or the closing brace; YAML flow mappings seldom do.
fn format_of(text: &str) -> Format {
    let mut bytes = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    match (bytes.next(), bytes.next()) {
        (Some(b'{'), Some(b'"' | b'}') | None) => Format::Json,
        _ => Format::Yaml,
    }
}

fn has_content(chunk: &str) -> bool {
    chunk.lines().enumerate().any(|(i, line)| {
        let line = if i == 0 { line.strip_prefix("---").unwrap_or(line) } else { line }.trim_start();
        !line.is_empty() && !line.starts_with('#') && line != "..."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        chunks(SourceId(0), text).into_iter().map(|chunk| chunk.text).collect()
    }

    #[test]
    fn cuts_at_document_starts_only() {
        assert_eq!(
            cut("a: 1\n---\nb: 2\n--- # c\nc: |\n  ---\n---d: 1\n"),
            ["a: 1\n", "---\nb: 2\n", "--- # c\nc: |\n  ---\n---d: 1\n"]
        );
        assert_eq!(cut("---\n# nothing\n---\n\n--- a\n"), ["--- a\n"]);
        assert_eq!(cut("a: 1\n...\n%YAML 1.2\n---\nb: 2"), ["a: 1\n...\n", "%YAML 1.2\n---\nb: 2"]);
        assert_eq!(cut("").len(), 0);
    }

    #[test]
    fn shares_what_aliases_may_add() {
        let one = chunks(SourceId(0), "a: 1\n")[0].alias_nodes;
        let text = "---\na: 1\n".repeat(1000);
        let many = chunks(SourceId(0), &text);
        assert_eq!((many.len(), one), (1000, MAX_ALIAS_NODES));
        assert!(many.iter().map(|chunk| chunk.alias_nodes).sum::<usize>() <= one);
    }

    #[test]
    fn names_what_is_not_utf_8() {
        let message =
            |bytes: &[u8]| decode_text("a.yaml", bytes.to_vec()).map(|s| s.text).map_err(|e| e.message);
        assert_eq!(message(b"\xef\xbb\xbfa: 1"), Ok("a: 1".to_owned()));
        assert_eq!(
            message(b"a\nb\xff"),
            Err("`a.yaml` is not UTF-8 text: byte 0xff at line 2, column 2".to_owned())
        );
        assert_eq!(message(b"\xff\xfea\0"), Err("`a.yaml` is UTF-16 text, not UTF-8".to_owned()));
    }
}
