//! Diagnostics as text: what is wrong, where, the line with a caret, and what to do.

use std::io;

use annotate_snippets::{AnnotationKind, Element, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Place, Severity, Source};

use super::one_line;

/// Longer lines are cut to a window of this many bytes around the place: a JSON dump may be one line of megabytes.
const WINDOW: usize = 60;
/// What stands for the part that was cut off.
const CUT: &str = "…";

/// Writes all of them, in order.
pub fn write(
    out: &mut dyn io::Write,
    diagnostics: &[Diagnostic],
    sources: &[Source],
    color: bool,
) -> io::Result<()> {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    for diagnostic in diagnostics {
        // An empty line after each, as between paragraphs.
        writeln!(out, "{}\n", render(diagnostic, sources, &renderer))?;
    }
    Ok(())
}

fn render(diagnostic: &Diagnostic, sources: &[Source], renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Note => Level::NOTE,
        Severity::Warning => Level::WARNING,
        Severity::Error => Level::ERROR,
    };
    let title = match &diagnostic.object {
        Some(object) => format!("{object}: {}", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    let window = diagnostic.place.as_ref().and_then(|place| Window::new(place, sources));
    let mut group = level.primary_title(one_line(&title)).id(diagnostic.code).elements(NOTHING);
    if let Some(window) = &window {
        let annotation = AnnotationKind::Primary.span(window.span.clone());
        let snippet =
            Snippet::source(window.text.as_str()).line_start(window.line).path(window.path.as_str());
        group = group.element(snippet.annotation(annotation));
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.with_name("hint").message(one_line(hint)));
    }
    let text = renderer.render(&[group]);
    match &window {
        // The renderer works out the column from the window, which may begin within the line.
        Some(Window { path, line, column, shown_column, .. }) if column != shown_column => {
            text.replacen(&format!("{path}:{line}:{shown_column}"), &format!("{path}:{line}:{column}"), 1)
        }
        Some(_) | None => text,
    }
}

const NOTHING: [Element<'static>; 0] = [];

/// The line of a place, or what of it is around the place: the renderer is never given a whole file.
struct Window {
    text: String,
    /// Line and column of the place, from 1.
    line: usize,
    column: usize,
    /// Column of the place in `text`, from 1.
    shown_column: usize,
    /// The place in `text`.
    span: std::ops::Range<usize>,
    path: String,
}

impl Window {
    fn new(place: &Place, sources: &[Source]) -> Option<Window> {
        let source = sources.get(usize::try_from(place.source.0).ok()?)?;
        let text = source.text.as_str();
        let start = floor_boundary(text, place.span.start.min(text.len()));
        let (line, column) = source.line_column(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let line_end = line_start + text[line_start..line_end].trim_end_matches('\r').len();
        let start = start.min(line_end);
        // A span over several lines points at its first; one that is longer than the window, at its beginning.
        let end = place.span.end.clamp(start, line_end.min(start + WINDOW));
        let end = floor_boundary(text, end).max(start);
        let fits = line_end - line_start <= 2 * WINDOW;
        let from = if fits {
            line_start
        } else {
            floor_boundary(text, line_start.max(start.saturating_sub(WINDOW)))
        };
        let to = if fits { line_end } else { floor_boundary(text, line_end.min(end + WINDOW)) };
        let (before, after) =
            (if from > line_start { CUT } else { "" }, if to < line_end { CUT } else { "" });
        Some(Window {
            text: format!("{before}{}{after}", &text[from..to]),
            line,
            column,
            shown_column: before.chars().count() + text[from..start].chars().count() + 1,
            span: before.len() + start - from..before.len() + end - from,
            path: one_line(&source.name),
        })
    }
}

/// The last boundary of a character that is not after a byte.
fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
