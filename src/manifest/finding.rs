//! What was found wrong with an object, before its place is worked out.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Place, Severity, SourceId};

use super::locate::{Locator, Origin};

/// A diagnostic with a field path for a place.
#[derive(Debug)]
pub(super) struct Finding {
    /// The diagnostic; its place may be known already.
    pub(super) diagnostic: Diagnostic,
    /// The object and the field, if the place is to be found by them.
    pub(super) field: Option<(Origin, String)>,
    /// Another object that it is about, to be named in the hint by where it is.
    pub(super) first: Option<Origin>,
}

impl From<Diagnostic> for Finding {
    fn from(diagnostic: Diagnostic) -> Finding {
        Finding { diagnostic, field: None, first: None }
    }
}

/// Works out the places of all findings, and sorts by them.
pub(super) fn locate(mut findings: Vec<Finding>, locator: &mut Locator<'_>) -> Vec<Diagnostic> {
    // Chunk by chunk, so that none has to be converted twice.
    findings.sort_by_key(|finding| finding.field.as_ref().map(|(origin, _)| origin.chunk));
    let mut firsts = Vec::new();
    let mut diagnostics = Vec::with_capacity(findings.len());
    for (finding, i) in findings.into_iter().zip(0..) {
        let mut diagnostic = finding.diagnostic;
        if let Some((origin, path)) = finding.field {
            diagnostic.place = locator.place(origin, &path);
        }
        firsts.extend(finding.first.map(|first| (i, first)));
        diagnostics.push(diagnostic);
    }
    for (i, text) in locator.line_texts(firsts, "metadata.name") {
        diagnostics[i].hint = Some(format!("the first is at `{text}`, and is kept"));
    }
    diagnostics.sort_by_key(place_of);
    diagnostics
}

/// The diagnostics of findings about an object that no text of ours has: they name the field instead of its place.
pub(super) fn without_places(findings: Vec<Finding>) -> Vec<Diagnostic> {
    let named = |finding: Finding| match finding.field {
        Some((_, field)) if !field.is_empty() => {
            let object = finding.diagnostic.object.clone().unwrap_or_default();
            finding.diagnostic.about(format!("{object} {field}").trim_start())
        }
        Some(_) | None => finding.diagnostic,
    };
    findings.into_iter().map(named).collect()
}

/// Diagnostics of one severity about one source that are shown.
const MAX_PER_SOURCE: usize = 100;

/// Of many diagnostics about a source, keeps the first, and says how many more there are in one that is as severe.
pub(super) fn cap(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut counts: BTreeMap<(Option<SourceId>, Severity), (usize, Option<Place>)> = BTreeMap::new();
    let mut kept = Vec::with_capacity(diagnostics.len().min(MAX_PER_SOURCE));
    for diagnostic in diagnostics {
        let source = diagnostic.place.as_ref().map(|place| place.source);
        let (n, first_left_out) = counts.entry((source, diagnostic.severity)).or_default();
        *n += 1;
        if *n <= MAX_PER_SOURCE {
            kept.push(diagnostic);
        } else if first_left_out.is_none() {
            *first_left_out = diagnostic.place;
        }
    }
    for ((_, severity), (n, place)) in counts {
        if n > MAX_PER_SOURCE {
            let what = match severity {
                Severity::Error => "errors",
                Severity::Warning => "warnings",
                Severity::Note => "notes",
            };
            let message = format!("… and {} more {what} from here on", n - MAX_PER_SOURCE);
            kept.push(Diagnostic::new(severity, "more", message).at(place));
        }
    }
    kept.sort_by_key(place_of);
    kept
}

fn place_of(diagnostic: &Diagnostic) -> Option<(SourceId, usize)> {
    diagnostic.place.as_ref().map(|place| (place.source, place.span.start))
}

/// Findings about one object that are shown.
pub(super) const MAX_PER_OBJECT: usize = 20;

/// Collects findings about one object.
pub(super) struct Findings<'f> {
    /// All of them, of all objects.
    pub(super) list: &'f mut Vec<Finding>,
    /// Where the object is.
    pub(super) origin: Origin,
    /// What to call it, as `Service shop/web`.
    pub(super) object: String,
    /// Whether an error was among them.
    pub(super) failed: bool,
    /// Fields that were taken out because what is wrong with them was said already.
    pub(super) taken_out: Vec<String>,
    n: usize,
}

impl<'f> Findings<'f> {
    /// A collector for an object whose name is not known yet.
    pub(super) fn new(list: &'f mut Vec<Finding>, origin: Origin) -> Findings<'f> {
        Findings { list, origin, object: String::new(), failed: false, taken_out: Vec::new(), n: 0 }
    }

    /// Adds a diagnostic about a field.
    pub(super) fn add(&mut self, path: impl Into<String>, diagnostic: Diagnostic) {
        let path = path.into();
        self.failed |= diagnostic.severity == Severity::Error;
        if self.taken_out.iter().any(|field| follows(&path, field)) {
            return;
        }
        self.n += 1;
        if self.n > MAX_PER_OBJECT {
            return;
        }
        let diagnostic = if self.n == MAX_PER_OBJECT {
            diagnostic.hint(format!("only the first {MAX_PER_OBJECT} problems of an object are shown"))
        } else {
            diagnostic
        };
        let diagnostic = if self.object.is_empty() { diagnostic } else { diagnostic.about(&self.object) };
        self.list.push(Finding { diagnostic, field: Some((self.origin, path)), first: None });
    }
}

/// Whether what is said of a field may come of another having been taken out: of that field itself, of one around it or in
/// it, or of another of the same list entry.
fn follows(path: &str, taken_out: &str) -> bool {
    let entry = taken_out.rfind(']').map_or(taken_out, |end| &taken_out[..=end]);
    let is_in = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    is_in(path, entry) || is_in(taken_out, path)
}
