//! From a field path to bytes of the input, worked out only when something is to be said about the field.

use std::ops::Range;

use crate::diagnostic::{Place, Source};

use super::source::{Chunk, Format};
use super::yaml::{self, Json};

/// Where an object begins: a chunk, and a byte of its JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    /// Index of the chunk.
    pub(super) chunk: u32,
    /// First byte in the JSON text of the chunk.
    pub(super) offset: usize,
    /// First byte in the text of the chunk.
    pub(super) begin: usize,
}

/// Finds places in chunks. Keeps the conversion of the last YAML chunk it was asked about.
pub(super) struct Locator<'t> {
    chunks: &'t [Chunk<'t>],
    sources: Vec<&'t Source>,
    converted: Option<(u32, Json)>,
}

impl<'t> Locator<'t> {
    /// A locator over the chunks that were read.
    pub(super) fn new(chunks: &'t [Chunk<'t>], sources: Vec<&'t Source>) -> Locator<'t> {
        Locator { chunks, sources, converted: None }
    }

    /// Where a field of many objects is, as `file:line:column`. Every object has a number, which comes back with it.
    pub(super) fn line_texts(&mut self, mut of: Vec<(usize, Origin)>, path: &str) -> Vec<(usize, String)> {
        of.sort_by_key(|(_, origin)| *origin);
        let mut starts: Vec<(Place, usize)> =
            of.into_iter().filter_map(|(number, origin)| Some((self.place(origin, path)?, number))).collect();
        starts.sort_by_key(|(place, _)| (place.source, place.span.start));
        let mut texts = Vec::with_capacity(starts.len());
        for of_source in starts.chunk_by(|(a, _), (b, _)| a.source == b.source) {
            let Some(source) = self.sources.get(of_source[0].0.source.0 as usize) else { continue };
            let (mut at, mut line, mut column) = (0, 1, 1);
            for (place, number) in of_source {
                for c in source.text.get(at..place.span.start).unwrap_or_default().chars() {
                    (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
                }
                at = place.span.start;
                texts.push((*number, format!("{}:{line}:{column}", source.name)));
            }
        }
        texts
    }

    /// Where an object begins.
    pub(super) fn begin(&self, origin: Origin) -> Option<Place> {
        let chunk = self.chunks.get(origin.chunk as usize)?;
        Some(chunk.place(origin.begin..origin.begin))
    }

    /// The place of a field (`spec.ports[1].port`) of an object; if it is not there, of the nearest that is around it.
    pub(super) fn place(&mut self, origin: Origin, path: &str) -> Option<Place> {
        let chunk = self.chunks.get(origin.chunk as usize)?;
        match chunk.format {
            Format::Json => {
                let span = find(chunk.text, origin.offset, path)?;
                Some(chunk.place(shown(chunk.text, span)))
            }
            Format::Yaml => {
                if self.converted.as_ref().is_none_or(|(of, _)| *of != origin.chunk) {
                    self.converted =
                        Some((origin.chunk, yaml::to_json(chunk.text, true, chunk.alias_nodes).0));
                }
                let (_, json) = self.converted.as_ref()?;
                let span = find(&json.text, origin.offset, path)?;
                let span = json.span_of(span.start)?;
                Some(chunk.place(shown(chunk.text, span)))
            }
        }
    }
}

/// The part of a span that is worth a caret: all of a scalar on one line, the first byte of anything larger.
fn shown(text: &str, span: Range<usize>) -> Range<usize> {
    let value = text.get(span.clone()).unwrap_or_default();
    if value.contains('\n') || value.starts_with(['{', '[']) {
        let first = value.chars().next().map_or(0, char::len_utf8);
        return span.start..span.start + first;
    }
    span
}

/// The span of a field in the JSON value at `start`; if it is not there, of the nearest that is around it. Path segments
/// are keys parted by dots, a key with dots in parentheses, and indexes in brackets. A last key in braces is the key itself,
/// where it is the second time if it is there more than once.
pub(super) fn find(json: &str, start: usize, path: &str) -> Option<Range<usize>> {
    follow(json, start, path).map(|(span, _)| span)
}

/// The span of a field, if it is there.
pub(super) fn find_exact(json: &str, start: usize, path: &str) -> Option<Range<usize>> {
    follow(json, start, path).filter(|(_, is_there)| *is_there).map(|(span, _)| span)
}

fn follow(json: &str, start: usize, path: &str) -> Option<(Range<usize>, bool)> {
    let bytes = json.as_bytes();
    let mut at = skip_space(bytes, start);
    let mut rest = path;
    let mut is_there = true;
    while let Some((step, after)) = next_step(rest) {
        rest = after;
        let inside = match &step {
            Step::Itself(key) => {
                let spans = key_spans(bytes, at, key);
                spans.get(1).or(spans.first()).map(|span| span.start)
            }
            Step::Key(_) | Step::Index(_) => enter(bytes, at, &step),
        };
        match inside {
            Some(inside) => at = inside,
            None => {
                is_there = false;
                break;
            }
        }
    }
    let end = skip_value(bytes, at)?;
    Some((at..end, is_there))
}

/// Of a key that an object has more than once, makes all but the first mean nothing.
pub(super) fn keep_first(json: &mut String, object: &str, key: &str) {
    let Some(at) = find_exact(json, 0, object).map(|span| span.start) else { return };
    for span in key_spans(json.as_bytes(), at, key).into_iter().skip(1) {
        let nothing = format!("{:width$}", "\"\"", width = span.len());
        json.replace_range(span, &nothing);
    }
}

/// Where a key stands in the object at a byte, quotes included.
fn key_spans(json: &[u8], object: usize, key: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut at = skip_space(json, object + 1);
    while json.get(object) == Some(&b'{') {
        match json.get(at) {
            Some(b'"') => {}
            Some(b',') => {
                at = skip_space(json, at + 1);
                continue;
            }
            _ => break,
        }
        let Some(end) = skip_value(json, at) else { break };
        if json.get(at + 1..end - 1) == Some(key.as_bytes()) {
            spans.push(at..end);
        }
        let value = skip_space(json, skip_space(json, end) + 1);
        let Some(after) = skip_value(json, value) else { break };
        at = skip_space(json, after);
    }
    spans
}

enum Step<'p> {
    Key(&'p str),
    Index(usize),
    Itself(&'p str),
}

fn next_step(path: &str) -> Option<(Step<'_>, &str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return None;
    }
    if let Some(rest) = path.strip_prefix('(') {
        let (key, rest) = rest.split_once(')')?;
        return Some((Step::Key(key), rest));
    }
    if let Some(rest) = path.strip_prefix('{') {
        let (key, rest) = rest.split_once('}')?;
        return Some((Step::Itself(key), rest));
    }
    if let Some(rest) = path.strip_prefix('[') {
        let (index, rest) = rest.split_once(']')?;
        return Some((Step::Index(index.parse().ok()?), rest));
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    Some((Step::Key(&path[..end]), &path[end..]))
}

/// Start of the value under a step, from the start of the value around it.
fn enter(json: &[u8], at: usize, step: &Step<'_>) -> Option<usize> {
    let (opening, mut at) = (*json.get(at)?, skip_space(json, at + 1));
    let mut n = 0;
    loop {
        match json.get(at)? {
            b'}' | b']' => return None,
            b',' => at = skip_space(json, at + 1),
            _ if opening == b'{' => {
                let key_end = skip_value(json, at)?;
                let value = skip_space(json, skip_space(json, key_end) + 1);
                let key = json.get(at + 1..key_end - 1)?;
                if matches!(step, Step::Key(wanted) if wanted.as_bytes() == key) {
                    return Some(value);
                }
                at = skip_space(json, skip_value(json, value)?);
            }
            _ if opening == b'[' => {
                if matches!(step, Step::Index(wanted) if *wanted == n) {
                    return Some(at);
                }
                n += 1;
                at = skip_space(json, skip_value(json, at)?);
            }
            _ => return None,
        }
    }
}

fn skip_space(json: &[u8], mut at: usize) -> usize {
    while json.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// The byte after the value that begins at `at`.
fn skip_value(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match json.get(at)? {
            b'"' => {
                at += 1;
                loop {
                    match json.get(at)? {
                        b'"' => break,
                        b'\\' => at += 2,
                        _ => at += 1,
                    }
                }
                at += 1;
            }
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' => at += 1,
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                while json.get(at).is_some_and(|byte| {
                    !matches!(byte, b',' | b'}' | b']' | b':' | b'"') && !byte.is_ascii_whitespace()
                }) {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_fields() {
        let json = r#" {"a": [1, {"b": "x\"y", "k.c/d": {"e": -5}}], "f": true}"#;
        let text = |path: &str| find(json, 0, path).map(|span| &json[span]);
        assert_eq!(text("a[1].b"), Some(r#""x\"y""#));
        assert_eq!(text("a[1].(k.c/d).e"), Some("-5"));
        assert_eq!(text("f"), Some("true"));
        assert_eq!(text("a[1].nothing.more"), text("a[1]"));
        assert_eq!(text("a[7]"), text("a"));
        let twice = r#"{"a": {"b": 1, "c": {"b": 2}, "b": 3}}"#;
        assert_eq!(find(twice, 0, "a.{b}"), Some(30..33));
        assert_eq!(find(twice, 0, "a.{c}"), Some(15..18));
        let mut first = twice.to_owned();
        keep_first(&mut first, "a", "b");
        assert_eq!(first, r#"{"a": {"b": 1, "c": {"b": 2}, "" : 3}}"#);
        assert_eq!(find_exact(twice, 0, "a.d"), None);
        for end in 0..json.len() {
            let _ = (find(&json[..end], 0, "a[1].(k.c/d).e"), find(&json[..end], 0, "{f}"));
        }
    }
}
