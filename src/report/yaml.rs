//! Values as YAML in block style, with their fields in the order of the schema. Texts that YAML could take for something else are
//! quoted as in JSON, which YAML reads.

use std::fmt;
use std::io;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;

/// A value whose fields keep their order.
enum Node {
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Writes a value as one YAML document.
pub(super) fn write(out: &mut dyn io::Write, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(value)?;
    let node: Node = serde_json::from_str(&json)?;
    let mut text = String::new();
    block(&mut text, &node, 0);
    out.write_all(text.as_bytes())
}

fn block(text: &mut String, node: &Node, indent: usize) {
    match node {
        Node::Map(fields) if !fields.is_empty() => {
            for (nth, (key, value)) in fields.iter().enumerate() {
                // The first field of an item stands behind its dash.
                if nth > 0 || indent == 0 || text.ends_with('\n') {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str(&scalar(key));
                text.push(':');
                below(text, value, indent);
            }
        }
        Node::List(items) if !items.is_empty() => {
            for item in items {
                text.push_str(&" ".repeat(indent));
                text.push_str("- ");
                match item {
                    Node::Map(fields) if !fields.is_empty() => block(text, item, indent + 2),
                    Node::List(items) if !items.is_empty() => {
                        text.push('\n');
                        block(text, item, indent + 2);
                    }
                    Node::Map(_) | Node::List(_) | Node::Scalar(_) => {
                        text.push_str(&flat(item));
                        text.push('\n');
                    }
                }
            }
        }
        Node::Map(_) | Node::List(_) | Node::Scalar(_) => {
            text.push_str(&flat(node));
            text.push('\n');
        }
    }
}

/// A value behind its key: on the same line, or below.
fn below(text: &mut String, value: &Node, indent: usize) {
    match value {
        Node::Map(fields) if !fields.is_empty() => {
            text.push('\n');
            block(text, value, indent + 2);
        }
        Node::List(items) if !items.is_empty() => {
            text.push('\n');
            block(text, value, indent);
        }
        Node::Map(_) | Node::List(_) | Node::Scalar(_) => {
            text.push(' ');
            text.push_str(&flat(value));
            text.push('\n');
        }
    }
}

fn flat(node: &Node) -> String {
    match node {
        Node::Scalar(text) => text.clone(),
        Node::List(_) => "[]".to_owned(),
        Node::Map(_) => "{}".to_owned(),
    }
}

/// Words that YAML, or an old YAML, does not take for texts.
const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !RESERVED.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar("null".to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(scalar(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> String {
        let mut text = Vec::new();
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        write(&mut text, &value).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn nests_lists_and_maps() {
        assert_eq!(
            written(
                r#"{"a": [{"b": 1, "c": [true, null]}, [2.5], [], {}], "d": {"e": {}, "f": {"g": "h"}}}"#
            ),
            "a:\n- b: 1\n  c:\n  - true\n  - null\n- \n  - 2.5\n- []\n- {}\nd:\n  e: {}\n  f:\n    g: h\n"
        );
        assert_eq!(written("[]"), "[]\n");
        assert_eq!(written(r#""x""#), "x\n");
    }

    #[test]
    fn quotes_what_is_no_plain_text() {
        for (text, expected) in [
            ("shop/web", "shop/web"),
            ("10.96.0.1", "\"10.96.0.1\""),
            ("no", "\"no\""),
            ("a: b", "\"a: b\""),
            ("", "\"\""),
            ("it's \"so\"\n", "\"it's \\\"so\\\"\\n\""),
        ] {
            assert_eq!(scalar(text), expected);
        }
    }
}
