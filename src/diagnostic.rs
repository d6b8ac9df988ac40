//! What is said about input: severity, code, place, object, message, hint. Made in `manifest`, shown by `report`.
//! A place is a byte range of a source; line and column are worked out only when it is shown.

use std::fmt;
use std::ops::Range;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing when one looks for a fault; nothing need be wrong. `compile` shows it, the others with `-v`.
    Note,
    /// Probably a mistake; what the text says is done all the same. `--strict` makes it an error.
    Warning,
    /// The object is left out.
    Error,
}

/// Which source text: an index into the list that was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A range of bytes in one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The source.
    pub source: SourceId,
    /// Bytes from its start. May be empty: then it is a point.
    pub span: Range<usize>,
}

/// A source text as it was read: what messages quote from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name the user knows it by: a path, or `<stdin>`.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Line and column of a byte, both from 1; the column counts characters.
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let mut end = byte.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.bytes().filter(|byte| *byte == b'\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// One thing said about the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for it, as `bad-address`.
    pub code: &'static str,
    /// Where in the input, if it is somewhere.
    pub place: Option<Place>,
    /// The object it is about, as `Service shop/web`.
    pub object: Option<String>,
    /// What is wrong: lower case, no full stop, backticks around what the user said.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A diagnostic with no place, object or hint yet.
    pub fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity, code, place: None, object: None, message: message.into(), hint: None }
    }

    /// An error: the object is left out.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, code, message)
    }

    /// A note.
    pub fn note(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Note, code, message)
    }

    /// A warning.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Warning, code, message)
    }

    /// Says where.
    pub fn at(mut self, place: Option<Place>) -> Diagnostic {
        self.place = place;
        self
    }

    /// Says about what.
    pub fn about(mut self, object: impl fmt::Display) -> Diagnostic {
        self.object = Some(object.to_string());
        self
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }
}
