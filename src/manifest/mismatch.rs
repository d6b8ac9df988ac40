//! What is wrong with the shape of an object, in the words of those who write manifests: all of it, not the first thing.
//! Each value of a wrong type is made what an absent one would be, and the object is read again, until nothing is wrong.

use serde::Deserialize;
use serde_path_to_error::Segment;

use crate::diagnostic::Diagnostic;

use super::finding::{Findings, MAX_PER_OBJECT};
use super::locate;
use super::object::{self, Shape};
use super::syntax;
use super::word::{is_dns_subdomain, quoted};

/// An object whose wrong values were taken out.
#[derive(Debug)]
pub(super) struct Repaired {
    /// It, as JSON.
    pub(super) json: String,
    /// Paths of the fields that were taken out.
    pub(super) taken_out: Vec<String>,
}

/// Reads the shape of an object. If that fails, says what is wrong, and gives what is left.
pub(super) fn decode<'t, S: Shape>(
    kind: &str,
    json: &'t str,
    findings: &mut Findings<'_>,
) -> Result<S::Read<'t>, Repaired> {
    match serde_json::from_str(json) {
        Ok(shape) => Ok(shape),
        Err(_) => {
            findings.object = name_of(kind, json);
            Err(explain::<S>(json, findings))
        }
    }
}

/// Says all that is wrong with the shape of an object.
pub(super) fn explain<S: Shape>(json: &str, findings: &mut Findings<'_>) -> Repaired {
    let mut repaired = Repaired { json: json.to_owned(), taken_out: Vec::new() };
    while let Some(problem) = first_problem::<S::Read<'_>>(&repaired.json) {
        let taken_out = problem.path_taken_out();
        if repaired.taken_out.len() >= MAX_PER_OBJECT || repaired.taken_out.contains(&taken_out) {
            break;
        }
        match problem.add_to(json, findings) {
            Replacement::Value(value) => {
                let Some(span) = locate::find_exact(&repaired.json, 0, &problem.path) else { break };
                repaired.json.replace_range(span, value);
            }
            Replacement::OtherKeys(key) => locate::keep_first(&mut repaired.json, &problem.path, &key),
        }
        repaired.taken_out.push(taken_out);
    }
    if !findings.failed {
        findings.add("", Diagnostic::error("wrong-type", "this cannot be read as an object of its kind"));
    }
    repaired
}

/// What to call an object that cannot be read as a whole.
fn name_of(kind: &str, json: &str) -> String {
    let text = |path: &str| {
        let span = locate::find_exact(json, 0, path)?;
        serde_json::from_str::<String>(&json[span]).ok().filter(|text| is_dns_subdomain(text))
    };
    match (text("metadata.namespace"), text("metadata.name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (_, None) => kind.to_owned(),
    }
}

/// Where serde stopped, and why.
struct Problem {
    /// The path as [`locate`] takes it.
    path: String,
    /// The path as it is shown.
    shown: String,
    error: String,
}

/// What goes where something wrong is.
enum Replacement {
    /// This value.
    Value(&'static str),
    /// Nothing: of a key that is there more than once, the first is kept.
    OtherKeys(String),
}

fn first_problem<'t, T: Deserialize<'t>>(json: &'t str) -> Option<Problem> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let error = serde_path_to_error::deserialize::<_, T>(&mut deserializer).err()?;
    let mut path = String::new();
    for segment in error.path().iter() {
        match segment {
            Segment::Seq { index } => path.push_str(&format!("[{index}]")),
            Segment::Map { key } if key.contains(['.', '[', '(', '{']) => path.push_str(&format!(".({key})")),
            Segment::Map { key } => path.push_str(&format!(".{key}")),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let shown = match error.path().to_string() {
        root if root == "." => String::new(),
        shown => shown,
    };
    let path = path.trim_start_matches('.').to_owned();
    Some(Problem { path, shown, error: error.inner().to_string() })
}

impl Problem {
    fn error(&self) -> &str {
        syntax::without_line(&self.error)
    }

    fn duplicate_key(&self) -> Option<&str> {
        self.error().strip_prefix("duplicate field `")?.strip_suffix('`')
    }

    fn path_taken_out(&self) -> String {
        match self.duplicate_key() {
            Some(key) => join(&self.path, &format!("{{{key}}}")),
            None => self.path.clone(),
        }
    }

    /// Says it. Gives what goes there instead.
    fn add_to(&self, json: &str, findings: &mut Findings<'_>) -> Replacement {
        let (path, shown) = (self.path.as_str(), self.shown.as_str());
        if let Some(key) = self.duplicate_key() {
            let message = format!("{} is there twice", join(shown, key));
            let hint = "keep one of them: kubectl refuses this, and other readers take the last";
            findings.add(self.path_taken_out(), Diagnostic::error("duplicate-key", message).hint(hint));
            return Replacement::OtherKeys(key.to_owned());
        }
        let what = self.error();
        let rest = what.strip_prefix("invalid type: ").or_else(|| what.strip_prefix("invalid value: "));
        let Some((_, expected)) = rest.and_then(|rest| rest.rsplit_once(", expected ")) else {
            let words = syntax::json_words(what);
            let message = if shown.is_empty() { words } else { format!("{shown}: {words}") };
            findings.add(path, Diagnostic::error("wrong-type", message));
            return Replacement::Value("null");
        };
        let expected = Expected::of(expected);
        let found = locate::find_exact(json, 0, path).and_then(|span| json.get(span)).unwrap_or_default();
        findings.add(path, wrong_type(shown, expected, found));
        Replacement::Value(expected.empty())
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// What a field must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Whole,
    Truth,
    Text,
    List,
    /// A list of mappings.
    Mappings,
    Mapping,
}

impl Expected {
    /// From the words of serde, or ours.
    fn of(words: &str) -> Expected {
        match words {
            "a boolean" => Expected::Truth,
            "a string" => Expected::Text,
            "a list" | "a sequence" => Expected::List,
            object::LIST_OF_MAPPINGS => Expected::Mappings,
            "i64" | "u64" | "i32" | "u32" => Expected::Whole,
            _ => Expected::Mapping,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Expected::Whole => "a whole number",
            Expected::Truth => "true or false",
            Expected::Text => "a string",
            Expected::List => "a list",
            Expected::Mappings => object::LIST_OF_MAPPINGS,
            Expected::Mapping => "a mapping",
        }
    }

    /// What stands for an absent field of this kind.
    fn empty(self) -> &'static str {
        match self {
            Expected::Whole => "0",
            Expected::Truth => "false",
            Expected::Text => "\"\"",
            Expected::List | Expected::Mappings => "[]",
            Expected::Mapping => "{}",
        }
    }
}

/// Says that JSON text is of the wrong type. `field` is empty for an object as a whole.
pub(super) fn wrong_type(field: &str, expected: Expected, found: &str) -> Diagnostic {
    let field = if field.is_empty() { "this" } else { field };
    let is_whole = |text: &str| text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit());
    let text: Option<String> = serde_json::from_str(found).ok();
    let shown = match (found.as_bytes().first(), &text) {
        (_, Some(text)) => format!("the string {}", quoted(text)),
        (Some(b'{'), _) => "a mapping".to_owned(),
        (Some(b'['), _) => "a list".to_owned(),
        (Some(b'0'..=b'9' | b'-'), _) if expected == Expected::Whole && is_whole(found) => {
            let message = format!("{field} {} is out of range", quoted(found));
            return Diagnostic::error("out-of-range", message);
        }
        (Some(b'0'..=b'9' | b'-'), _) => format!("the number {}", quoted(found)),
        (Some(b't' | b'f'), _) => quoted(found),
        (Some(b'n'), _) => "null".to_owned(),
        _ => "something else".to_owned(),
    };
    let diagnostic =
        Diagnostic::error("wrong-type", format!("{field} must be {}, not {shown}", expected.words()));
    match hint(expected, found, text.as_deref()) {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

fn hint(expected: Expected, found: &str, text: Option<&str>) -> Option<String> {
    let is_short = found.len() <= 40 && !found.contains(char::is_control);
    let first = found.bytes().next()?;
    match (expected, text) {
        (Expected::Whole, Some(text)) => {
            let number: i64 = text.parse().ok()?;
            let is_plain = number.to_string() == text;
            Some(if is_plain { "remove the quotes".to_owned() } else { format!("write it as `{number}`") })
        }
        (Expected::Whole, None) => {
            let number: f64 = found.parse().ok().filter(|number: &f64| number.abs() < 1e15)?;
            (number.fract() == 0.0).then(|| format!("write it as `{number}`"))
        }
        (Expected::Truth, Some("true" | "false")) => Some("remove the quotes".to_owned()),
        (Expected::Truth, Some("yes" | "on" | "Yes" | "On" | "y")) => Some("write it as `true`".to_owned()),
        (Expected::Truth, Some("no" | "off" | "No" | "Off" | "n")) => Some("write it as `false`".to_owned()),
        (Expected::Text, None) if !matches!(first, b'{' | b'[' | b'n') && is_short => {
            Some(format!("quote it: `\"{found}\"`"))
        }
        (Expected::List, Some(text)) if is_short => Some(format!("write it as `[{}]`", quote_flow(text))),
        (Expected::Mappings, None) if first == b'{' => Some("begin each entry with `- `".to_owned()),
        _ => None,
    }
}

/// A string as an entry of a YAML list in brackets.
fn quote_flow(text: &str) -> String {
    let is_plain =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./-_".contains(&b));
    if is_plain { text.to_owned() } else { format!("{text:?}") }
}
