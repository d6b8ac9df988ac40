//! Diagnostics as text: what is wrong, where, the line with a caret, and what to do.

use std::io;

use annotate_snippets::{AnnotationKind, Element, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Place, Severity, Source, SourceId};

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
    let mut cursor = Cursor::default();
    for diagnostic in diagnostics {
        // An empty line after each, as between paragraphs.
        writeln!(out, "{}\n", render(diagnostic, sources, &mut cursor, &renderer))?;
    }
    Ok(())
}

fn render(diagnostic: &Diagnostic, sources: &[Source], cursor: &mut Cursor, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Note => Level::NOTE,
        Severity::Warning => Level::WARNING,
        Severity::Error => Level::ERROR,
    };
    let title = match &diagnostic.object {
        Some(object) => format!("{object}: {}", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    let window = diagnostic.place.as_ref().and_then(|place| Window::new(place, sources, cursor));
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
        Some(_) => text,
        None => without_gutter(&text),
    }
}

/// Without the empty line under a title that has no source line to be parted from.
fn without_gutter(text: &str) -> String {
    let is_gutter = |line: &&str| line.trim() == "|" || line.trim() == "\x1b[1m\x1b[94m|\x1b[0m";
    text.lines().filter(|line| !is_gutter(line)).collect::<Vec<_>>().join("\n")
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
    fn new(place: &Place, sources: &[Source], cursor: &mut Cursor) -> Option<Window> {
        let source = sources.get(usize::try_from(place.source.0).ok()?)?;
        let text = source.text.as_str();
        let start = floor_boundary(text, place.span.start.min(text.len()));
        cursor.go_to(place.source, text, start);
        let Cursor { line, column, line_start, line_end, .. } = *cursor;
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

/// Where in the sources it was looked last: diagnostics come in order of places, and a line may have megabytes.
#[derive(Default)]
struct Cursor {
    source: Option<SourceId>,
    byte: usize,
    line: usize,
    column: usize,
    line_start: usize,
    line_end: usize,
}

impl Cursor {
    /// Goes to a byte, from where it is if that is ahead.
    fn go_to(&mut self, source: SourceId, text: &str, byte: usize) {
        if self.source != Some(source) || byte < self.byte {
            *self = Cursor {
                source: Some(source),
                byte: 0,
                line: 1,
                column: 1,
                line_start: 0,
                line_end: end(text, 0),
            };
        }
        if byte > self.line_end {
            self.line += text[self.byte..byte].bytes().filter(|byte| *byte == b'\n').count();
            self.line_start = text[..byte].rfind('\n').map_or(0, |newline| newline + 1);
            self.line_end = end(text, byte);
            (self.byte, self.column) = (self.line_start, 1);
        }
        self.column += text[self.byte..byte].chars().count();
        self.byte = byte;
    }
}

/// Where the line of a byte ends.
fn end(text: &str, byte: usize) -> usize {
    text[byte..].find('\n').map_or(text.len(), |length| byte + length)
}

/// The last boundary of a character that is not after a byte.
fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_agrees_with_the_source() {
        let text = "a: é\r\n\n  bb: 1\nlast";
        let sources = [text, "x\ny"].map(|text| Source { name: String::new(), text: text.to_owned() });
        let boundary = |byte: &usize| text.is_char_boundary(*byte);
        for step in 1..=4 {
            let mut cursor = Cursor::default();
            for byte in (0..=text.len()).step_by(step).filter(boundary).chain([3, 0]) {
                cursor.go_to(SourceId(0), text, byte);
                assert_eq!((cursor.line, cursor.column), sources[0].line_column(byte), "byte {byte}");
                let line = &text[cursor.line_start..cursor.line_end];
                assert!(text.split('\n').nth(cursor.line - 1) == Some(line), "{line}");
            }
            cursor.go_to(SourceId(1), &sources[1].text, 2);
            assert_eq!((cursor.line, cursor.column), (2, 1));
        }
    }
}
