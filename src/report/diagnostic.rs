//! Diagnostics as text: what is wrong, where, the line with a caret, and what to do.

use std::io;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Place, Severity, Source};

use super::one_line;

/// Lines shown around the place.
const LINES_BEFORE: usize = 1;
/// Longer lines are cut to a window of this many bytes around the place: a JSON dump may be one line of megabytes.
const WINDOW: usize = 160;

/// Writes all of them, in order.
pub fn write(
    out: &mut dyn io::Write,
    diagnostics: &[Diagnostic],
    sources: &[Source],
    color: bool,
) -> io::Result<()> {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    for diagnostic in diagnostics {
        writeln!(out, "{}", render(diagnostic, sources, &renderer))?;
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
    let mut group = level
        .primary_title(one_line(&title))
        .id(diagnostic.code)
        .elements(std::iter::empty::<annotate_snippets::Element<'_>>());
    if let Some(window) = &window {
        let annotation = AnnotationKind::Primary.span(window.span.clone());
        group = group.element(
            Snippet::source(window.text)
                .line_start(window.line)
                .path(window.path.as_str())
                .annotation(annotation),
        );
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.with_name("hint").message(one_line(hint)));
    }
    renderer.render(&[group])
}

/// The few lines around a place: the renderer is never given a whole file.
struct Window<'a> {
    text: &'a str,
    line: usize,
    span: std::ops::Range<usize>,
    path: String,
}

impl<'a> Window<'a> {
    fn new(place: &Place, sources: &'a [Source]) -> Option<Window<'a>> {
        let source = sources.get(usize::try_from(place.source.0).ok()?)?;
        let text = source.text.as_str();
        let start = floor_boundary(text, place.span.start.min(text.len()));
        let end = floor_boundary(text, place.span.end.clamp(start, text.len()));
        // A span over several lines points at its first.
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let end = end.min(line_end).max(start);
        let mut from = start;
        for _ in 0..=LINES_BEFORE {
            from = text[..from].rfind('\n').unwrap_or(0);
        }
        let from = if from == 0 { 0 } else { from + 1 };
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let cut = |from: usize| floor_boundary(text, from.max(start.saturating_sub(WINDOW)));
        let from = if start - from > WINDOW { cut(line_start) } else { from };
        let to = floor_boundary(text, line_end.min(end.saturating_add(WINDOW)));
        let (line, column) = source.line_column(start);
        let first_line = line - text[from..start].bytes().filter(|byte| *byte == b'\n').count();
        // The renderer works out the column from the window alone, which may begin within a line.
        let path = if from > line_start && start > line_start {
            format!("{}:{line}:{column}", one_line(&source.name))
        } else {
            one_line(&source.name)
        };
        Some(Window { text: &text[from..to], line: first_line, span: start - from..end - from, path })
    }
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
