//! Writes listeners, one line each: `tcp 0.0.0.0:20345 to 10.0.0.1:80,10.0.0.2:80 affinity 10800 # what for`.

use std::fmt::Write;

use super::{Listener, ListenerKey, Listeners};

/// Writes one line, without its end.
pub fn write_listener(out: &mut String, key: &ListenerKey, listener: &Listener) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{key} to ");
    if listener.targets.is_empty() {
        out.push_str("none");
    }
    for (nth, target) in listener.targets.iter().enumerate() {
        let _ = write!(out, "{}{target}", if nth > 0 { "," } else { "" });
    }
    if let Some(seconds) = listener.affinity_seconds {
        let _ = write!(out, " affinity {seconds}");
    }
    if !listener.label.is_empty() {
        let _ = write!(out, " # {}", listener.label);
    }
}

/// Writes a document: every line of `header` as a comment, then all listeners.
pub fn document(listeners: &Listeners, header: &str) -> String {
    let mut text = String::new();
    for line in header.lines() {
        let _ = writeln!(text, "{}{line}", if line.starts_with('#') { "" } else { "# " });
    }
    for (key, listener) in listeners {
        write_listener(&mut text, key, listener);
        text.push('\n');
    }
    text
}
