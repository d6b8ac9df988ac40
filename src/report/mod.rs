//! Results → text and JSON. Writes to what it is given, never to stdout; decides nothing.

pub mod diagnostic;
pub mod diff;
pub mod explain;
pub mod explain_json;
pub mod graph;
pub mod graph_svg;
pub mod inspect;
pub mod inspect_json;
pub mod ipvs;
pub mod json;
pub mod junit;
pub mod listeners;
pub mod plan;
mod table;
pub mod trace;
pub mod trace_json;
pub mod verify;
pub mod verify_json;
mod yaml;

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

/// A line with the colour of its first character: what comes, what goes, what changes.
fn painted(line: &str, color: bool) -> String {
    let style = match line.as_bytes().first() {
        Some(b'+') => AnsiColor::Green.on_default(),
        Some(b'-') => AnsiColor::Red.on_default(),
        Some(b'~') => AnsiColor::Yellow.on_default(),
        Some(b'@') => AnsiColor::Cyan.on_default(),
        Some(_) | None => Style::new(),
    };
    if color { format!("{style}{line}{style:#}") } else { line.to_owned() }
}

/// A text from outside (a file name) on one line: control characters are written as escapes.
pub fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, character| {
        if character.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
        line
    })
}
