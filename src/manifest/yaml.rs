//! YAML to JSON text, as kubectl does it: so there is one reader of objects, and one way to find a place again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

/// Deepest nesting that is read. API objects need about ten levels.
const MAX_DEPTH: usize = 100;
/// Collections around an item of a list: the list and its `items`.
const ITEM_DEPTH: usize = 2;
/// Bytes of JSON that aliases may add for each node that they may add.
const BYTES_OF_NODE: usize = 80;

/// JSON values, one a line, for the documents of a YAML text.
#[derive(Debug, Default)]
pub(super) struct Json {
    /// The values.
    pub(super) text: String,
    /// Where each value stands in the YAML: its first byte in `text`, and its span. In rising order.
    spans: Vec<(usize, Range<usize>)>,
    /// Whether spans of all values are kept, or only those of mappings near the top.
    with_spans: bool,
}

/// Why a YAML text cannot be read, and at which byte.
#[derive(Debug)]
pub(super) struct YamlError {
    /// What is wrong.
    pub(super) message: String,
    /// The byte.
    pub(super) byte: usize,
}

impl Json {
    /// The YAML span of the value that begins at this byte of the JSON text.
    pub(super) fn span_of(&self, json_start: usize) -> Option<Range<usize>> {
        let i = self.spans.binary_search_by_key(&json_start, |(start, _)| *start).ok()?;
        Some(self.spans[i].1.clone())
    }

    /// Keys have no span but when all have.
    fn note_key(&mut self, span: &Range<usize>) {
        if self.with_spans {
            self.spans.push((self.text.len(), span.clone()));
        }
    }

    fn note_span(&mut self, span: &Range<usize>, depth: usize, is_mapping: bool) {
        if self.with_spans || (is_mapping && depth <= ITEM_DEPTH) {
            self.spans.push((self.text.len(), span.clone()));
        }
    }

    fn cut_back(&mut self, len: usize) {
        self.text.truncate(len);
        while self.spans.last().is_some_and(|(start, _)| *start >= len) {
            self.spans.pop();
        }
    }
}

/// Converts all documents; on an error, those before it. `alias_nodes` is how many nodes aliases may add.
pub(super) fn to_json(yaml: &str, with_spans: bool, alias_nodes: usize) -> (Json, Option<YamlError>) {
    let mut json = Json { with_spans, ..Json::default() };
    json.text.reserve(yaml.len());
    match stream(yaml, &mut json) {
        Ok(()) => (json, None),
        Err(Stop::Error(error)) => (json, Some(error)),
        Err(Stop::Anchors) => {
            json.cut_back(0);
            let error = build(yaml, &mut json, alias_nodes).err();
            (json, error)
        }
    }
}

enum Stop {
    Error(YamlError),
    /// The text has anchors or merge keys: it takes a tree.
    Anchors,
}

impl From<YamlError> for Stop {
    fn from(error: YamlError) -> Stop {
        Stop::Error(error)
    }
}

fn scan_error(error: &ScanError) -> YamlError {
    let message = match error.info() {
        text if text.contains("recursion limit") => format!("nested more than {MAX_DEPTH} levels deep"),
        text => text,
    };
    YamlError { message, byte: error.marker().byte_offset().unwrap_or_default() }
}

fn error_at(span: &Range<usize>, message: impl Into<String>) -> YamlError {
    YamlError { message: message.into(), byte: span.start }
}

fn bytes_of(span: &Span) -> Range<usize> {
    span.byte_range().unwrap_or_default()
}

/// What is said of an alias that would add too much.
pub(super) const TOO_LARGE: &str = "this alias makes the text too large";

/// What is said of a key that is a collection.
pub(super) const KEY_NO_STRING: &str = "a key must be a string";

fn is_merge_key(value: &str, style: ScalarStyle) -> bool {
    value == "<<" && style == ScalarStyle::Plain
}

/// A collection that is being written.
enum Open {
    Sequence { empty: bool },
    Mapping { empty: bool, at_key: bool },
}

/// Writes JSON while the events come, for texts without anchors: nothing is kept but the open collections.
#[expect(clippy::wildcard_enum_match_arm, reason = "the events of the parser are open-ended")]
fn stream(yaml: &str, json: &mut Json) -> Result<(), Stop> {
    let mut open: Vec<Open> = Vec::new();
    let mut document_start = 0;
    for event in Parser::new_from_str(yaml) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                json.cut_back(document_start);
                return Err(scan_error(&error).into());
            }
        };
        let span = bytes_of(&span);
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                if anchor != 0 {
                    return Err(Stop::Anchors);
                }
                if let Some(Open::Mapping { empty, at_key: at_key @ true }) = open.last_mut() {
                    if is_merge_key(&value, style) {
                        return Err(Stop::Anchors);
                    }
                    if !std::mem::replace(empty, false) {
                        json.text.push(',');
                    }
                    *at_key = false;
                    json.note_key(&span);
                    write_string(&mut json.text, &value);
                    json.text.push(':');
                } else {
                    before_value(&mut open, json);
                    json.note_span(&span, open.len(), false);
                    write_scalar(&mut json.text, &value, style, tag.as_deref());
                }
            }
            Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _) if anchor != 0 => {
                return Err(Stop::Anchors);
            }
            Event::SequenceStart(..) => {
                begin(&mut open, json, &span, false, document_start)?;
                json.text.push('[');
                open.push(Open::Sequence { empty: true });
            }
            Event::MappingStart(..) => {
                begin(&mut open, json, &span, true, document_start)?;
                json.text.push('{');
                open.push(Open::Mapping { empty: true, at_key: true });
            }
            Event::SequenceEnd => {
                json.text.push(']');
                open.pop();
            }
            Event::MappingEnd => {
                json.text.push('}');
                open.pop();
            }
            Event::DocumentStart(..) => document_start = json.text.len(),
            Event::DocumentEnd => end_document(json, document_start),
            Event::Alias(_) | Event::UnresolvedAlias(_) | Event::Anchor(..) => return Err(Stop::Anchors),
            _ => {}
        }
    }
    Ok(())
}

fn begin(
    open: &mut [Open],
    json: &mut Json,
    span: &Range<usize>,
    is_mapping: bool,
    document_start: usize,
) -> Result<(), YamlError> {
    let problem = match open.last() {
        Some(Open::Mapping { at_key: true, .. }) => Some(KEY_NO_STRING.to_owned()),
        _ if open.len() >= MAX_DEPTH => Some(format!("nested more than {MAX_DEPTH} levels deep")),
        _ => None,
    };
    if let Some(message) = problem {
        json.cut_back(document_start);
        return Err(error_at(span, message));
    }
    before_value(open, json);
    json.note_span(span, open.len(), is_mapping);
    Ok(())
}

fn before_value(open: &mut [Open], json: &mut Json) {
    match open.last_mut() {
        Some(Open::Sequence { empty: empty @ true }) => *empty = false,
        Some(Open::Sequence { empty: false }) => json.text.push(','),
        Some(Open::Mapping { at_key, .. }) => *at_key = true,
        None => {}
    }
}

/// Closes a document's line; a document without content leaves none.
fn end_document(json: &mut Json, document_start: usize) {
    if &json.text[document_start..] == "null" {
        json.cut_back(document_start);
    } else {
        json.text.push('\n');
    }
}

/// A node of a document that has anchors.
struct Node {
    span: Range<usize>,
    value: Value,
    /// Levels under it, itself included.
    depth: usize,
    size: Size,
}

/// What a node is written as, with its aliases followed. Saturates.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

impl Size {
    fn add(&mut self, other: Size) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn checked_sub(self, other: Size) -> Option<Size> {
        let (nodes, bytes) = (self.nodes.checked_sub(other.nodes)?, self.bytes.checked_sub(other.bytes)?);
        Some(Size { nodes, bytes })
    }
}

enum Value {
    /// JSON text of a scalar.
    Scalar(String),
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<(Key, Rc<Node>)>),
}

#[derive(Clone)]
struct Key {
    text: String,
    span: Range<usize>,
}

fn scalar(text: String, span: Range<usize>) -> Rc<Node> {
    let size = Size { nodes: 1, bytes: text.len() };
    Rc::new(Node { span, value: Value::Scalar(text), depth: 1, size })
}

/// A collection that is being built.
struct Building {
    span: Range<usize>,
    anchor: usize,
    value: Value,
    key: Option<Key>,
    merges: Vec<Rc<Node>>,
    at_merge: bool,
}

/// Reads through a tree, where aliases are shared nodes, and writes it. An alias that would add more than there may be
/// is refused where it stands: the sizes of all aliases together are exactly what they add to the result.
#[expect(clippy::wildcard_enum_match_arm, reason = "the events of the parser are open-ended")]
fn build(yaml: &str, json: &mut Json, alias_nodes: usize) -> Result<(), YamlError> {
    let mut tree = Tree::default();
    let bytes = alias_nodes.saturating_mul(BYTES_OF_NODE);
    let mut left = Size { nodes: alias_nodes, bytes };
    for event in Parser::new_from_str(yaml) {
        let (event, span) = event.map_err(|error| scan_error(&error))?;
        let span = bytes_of(&span);
        match event {
            Event::Scalar(value, style, anchor, tag) => tree.scalar(&value, style, anchor, tag, span)?,
            Event::Alias(anchor) => {
                let Some(node) = tree.anchors.get(&anchor).cloned() else {
                    return Err(error_at(&span, "an alias inside its own anchor"));
                };
                left = left.checked_sub(node.size).ok_or_else(|| error_at(&span, TOO_LARGE))?;
                tree.add(node, &span)?;
            }
            Event::SequenceStart(_, anchor, _) => tree.begin(anchor, Value::Sequence(Vec::new()), span)?,
            Event::MappingStart(_, anchor, _) => tree.begin(anchor, Value::Mapping(Vec::new()), span)?,
            Event::SequenceEnd | Event::MappingEnd => tree.end()?,
            Event::DocumentStart(..) => tree = Tree::default(),
            Event::DocumentEnd => {
                let start = json.text.len();
                if let Some(root) = tree.root.take() {
                    write_node(json, &root, 0);
                    end_document(json, start);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[derive(Default)]
struct Tree {
    open: Vec<Building>,
    anchors: BTreeMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
}

impl Tree {
    fn scalar(
        &mut self,
        value: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        span: Range<usize>,
    ) -> Result<(), YamlError> {
        if let Some(parent) = self.open.last_mut()
            && matches!(parent.value, Value::Mapping(_))
            && parent.key.is_none()
            && !parent.at_merge
        {
            if is_merge_key(value, style) {
                parent.at_merge = true;
            } else {
                parent.key = Some(Key { text: value.to_owned(), span: span.clone() });
            }
            if anchor != 0 {
                let mut text = String::new();
                write_string(&mut text, value);
                self.anchors.insert(anchor, scalar(text, span));
            }
            return Ok(());
        }
        let mut text = String::new();
        write_scalar(&mut text, value, style, tag.as_deref());
        let node = scalar(text, span.clone());
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.add(node, &span)
    }

    fn begin(&mut self, anchor: usize, value: Value, span: Range<usize>) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(error_at(&span, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        self.open.push(Building { span, anchor, value, key: None, merges: Vec::new(), at_merge: false });
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some(Building { span, anchor, mut value, merges, .. }) = self.open.pop() else { return Ok(()) };
        if let Value::Mapping(entries) = &mut value {
            let mut keys: BTreeSet<String> = match merges.as_slice() {
                [] => BTreeSet::new(),
                _ => entries.iter().map(|(key, _)| key.text.clone()).collect(),
            };
            for merged in merges {
                merge(entries, &mut keys, &merged)?;
            }
        }
        let (mut below, mut size) = (0, Size { nodes: 1, bytes: 2 });
        let mut count = |node: &Node, key: usize| {
            below = below.max(node.depth);
            size.add(node.size);
            size.add(Size { nodes: 0, bytes: key + 1 });
        };
        match &value {
            Value::Scalar(_) => {}
            Value::Sequence(items) => items.iter().for_each(|node| count(node, 0)),
            Value::Mapping(entries) => entries.iter().for_each(|(key, node)| count(node, key.text.len() + 3)),
        }
        if below >= MAX_DEPTH {
            return Err(error_at(&span, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let node = Rc::new(Node { span: span.clone(), value, depth: below + 1, size });
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.add(node, &span)
    }

    fn add(&mut self, node: Rc<Node>, span: &Range<usize>) -> Result<(), YamlError> {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        if std::mem::take(&mut parent.at_merge) {
            parent.merges.push(node);
            return Ok(());
        }
        match &mut parent.value {
            Value::Sequence(items) => items.push(node),
            Value::Mapping(entries) => match (parent.key.take(), &node.value) {
                (Some(key), _) => entries.push((key, node)),
                (None, Value::Scalar(text)) if text.starts_with('"') => {
                    let text = serde_json::from_str(text).ok();
                    parent.key = text.map(|text| Key { text, span: span.clone() });
                }
                (None, Value::Scalar(text)) => {
                    parent.key = Some(Key { text: text.clone(), span: span.clone() });
                }
                (None, Value::Sequence(_) | Value::Mapping(_)) => {
                    return Err(error_at(span, KEY_NO_STRING));
                }
            },
            Value::Scalar(_) => {}
        }
        Ok(())
    }
}

/// `<<`: entries of the merged mapping, or of each in a sequence, that are not there yet.
fn merge(
    entries: &mut Vec<(Key, Rc<Node>)>,
    keys: &mut BTreeSet<String>,
    merged: &Node,
) -> Result<(), YamlError> {
    match &merged.value {
        Value::Mapping(more) => {
            for (key, node) in more {
                if keys.insert(key.text.clone()) {
                    entries.push((key.clone(), node.clone()));
                }
            }
            Ok(())
        }
        Value::Sequence(items) if items.iter().all(|item| matches!(item.value, Value::Mapping(_))) => {
            items.iter().try_for_each(|item| merge(entries, keys, item))
        }
        Value::Sequence(_) | Value::Scalar(_) => Err(error_at(&merged.span, "`<<` merges mappings only")),
    }
}

/// Writes a tree. Its depth is bounded when it is built.
fn write_node(json: &mut Json, node: &Node, depth: usize) {
    json.note_span(&node.span, depth, matches!(node.value, Value::Mapping(_)));
    match &node.value {
        Value::Scalar(text) => json.text.push_str(text),
        Value::Sequence(items) => {
            json.text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    json.text.push(',');
                }
                write_node(json, item, depth + 1);
            }
            json.text.push(']');
        }
        Value::Mapping(entries) => {
            json.text.push('{');
            for (i, (key, item)) in entries.iter().enumerate() {
                if i > 0 {
                    json.text.push(',');
                }
                json.note_key(&key.span);
                write_string(&mut json.text, &key.text);
                json.text.push(':');
                write_node(json, item, depth + 1);
            }
            json.text.push('}');
        }
    }
}

/// Writes a scalar with the type that the core schema gives it.
fn write_scalar(out: &mut String, value: &str, style: ScalarStyle, tag: Option<&Tag>) {
    let is_text = match tag.map(|tag| tag.core_suffix()) {
        Some(Some("int" | "float" | "bool" | "null")) => false,
        Some(Some(_)) => true,
        Some(None) | None => style != ScalarStyle::Plain,
    };
    if is_text { write_string(out, value) } else { write_plain(out, value) }
}

fn write_plain(out: &mut String, value: &str) {
    match value {
        "" | "~" | "null" | "Null" | "NULL" => out.push_str("null"),
        "true" | "True" | "TRUE" => out.push_str("true"),
        "false" | "False" | "FALSE" => out.push_str("false"),
        _ => match number(value) {
            Some(number) => out.push_str(&number),
            None => write_string(out, value),
        },
    }
}

/// A number of the core schema, as JSON writes it. Decimal numbers with a leading zero are no numbers here: what they
/// mean depends on the reader.
fn number(value: &str) -> Option<Cow<'_, str>> {
    let bytes = value.as_bytes();
    if !matches!(bytes.first(), Some(b'0'..=b'9' | b'-' | b'+' | b'.')) {
        return None;
    }
    if let Some(digits) = value.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(|n| n.to_string().into());
    }
    if let Some(digits) = value.strip_prefix("0o") {
        return u64::from_str_radix(digits, 8).ok().map(|n| n.to_string().into());
    }
    if !bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
        return None;
    }
    let unsigned = value.strip_prefix(['-', '+']).unwrap_or(value);
    let zero_led = unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.as_bytes()[1].is_ascii_digit();
    if zero_led || !unsigned.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.strip_prefix('+').unwrap_or(value).into());
    }
    let parsed: f64 = value.parse().ok().filter(|parsed: &f64| parsed.is_finite())?;
    // As it is written, if JSON writes it so too: messages show it.
    let is_json = serde_json::from_str::<&serde_json::value::RawValue>(value).is_ok();
    Some(if is_json { value.into() } else { format!("{parsed:?}").into() })
}

/// Writes a JSON string.
fn write_string(out: &mut String, value: &str) {
    out.push('"');
    if value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push_str(value);
    } else {
        for c in value.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn json(yaml: &str) -> String {
        match to_json(yaml, true, 10_000) {
            (json, None) => json.text,
            (json, Some(error)) => format!("{}!{}: {}", json.text, error.byte, error.message),
        }
    }

    #[test]
    fn types_scalars_by_the_core_schema() {
        expect![[r#"
            {"a":80,"b":"80","c":null,"d":true,"e":"yes","f":1.5,"g":"010","h":16,"i":"10.0.0.1","j":"::1","k":[1,-2],"l":"80","m":"x \"y\"\n","n":"2024-01-01","o":"1_000","p":"-","q":null}
        "#]]
        .assert_eq(&json(
            "a: 80\nb: '80'\nc: ~\nd: true\ne: yes\nf: 1.5\ng: 010\nh: 0x10\ni: 10.0.0.1\nj: ::1\nk: [1, -2]\nl: !!str 80\nm: |\n  x \"y\"\nn: 2024-01-01\no: 1_000\np: '-'\nq:\n",
        ));
    }

    #[test]
    fn applies_anchors_and_merge_keys() {
        expect![[r#"
            {"base":{"a":1,"b":2},"x":{"b":3,"a":1},"y":[{"a":1,"b":2}]}
            {"z":1}
        "#]]
        .assert_eq(&json("base: &base {a: 1, b: 2}\nx:\n  <<: *base\n  b: 3\ny: [*base]\n...\n---\nz: 1\n"));
    }

    #[test]
    fn refuses_bombs_and_depth() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        assert!(json(&bomb).ends_with(TOO_LARGE));
        assert!(json(&"[".repeat(100_000)).contains("deep"), "{}", &json(&"[".repeat(100_000)));
        assert!(json(&"- ".repeat(100_000)).contains("deep"));
        assert!(json("&a [*a]").contains("alias"));
    }

    #[test]
    fn keeps_the_documents_before_an_error() {
        expect![[r#"
            {"a":1}
            !12: unclosed quote"#]]
        .assert_eq(&json("a: 1\n---\nb: 'x\n"));
    }

    #[test]
    fn knows_where_values_stand() {
        let (json, _) = to_json("a:\n  - b: 'x'\n", true, 0);
        let at = json.text.find("\"x\"").unwrap();
        assert_eq!(json.span_of(at), Some(10..13));
    }
}
