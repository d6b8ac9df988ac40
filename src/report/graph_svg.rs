//! The way of a Service's packets as SVG: a column for each step, nodes below each other, curves between them.

use std::io;

use crate::inspect::graph::{Edge, Graph, Node, NodeKind};

/// Width of a character of the monospaced font, in pixels.
const CHARACTER: usize = 8;
/// Height of a node.
const HEIGHT: usize = 26;
/// How far apart nodes of a column begin.
const PITCH: usize = 46;
/// What is left free between columns, for labels.
const GAP: usize = 170;
/// What is left free around everything.
const MARGIN: usize = 20;
/// What is left free inside of a node.
const PADDING: usize = 10;

/// Where a node stands.
#[derive(Clone, Copy)]
struct Place {
    x: usize,
    y: usize,
    width: usize,
}

/// Writes it as an SVG document of its own.
pub fn write(out: &mut dyn io::Write, graph: &Graph) -> io::Result<()> {
    let boxes = boxes(graph);
    let right = boxes.iter().map(|one| one.x + one.width).max().unwrap_or(0) + MARGIN;
    let bottom = boxes.iter().map(|one| one.y + HEIGHT).max().unwrap_or(0) + MARGIN;
    let width = right.max(2 * MARGIN + graph.title.chars().count() * CHARACTER);
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{bottom}\" viewBox=\"0 0 {width} {bottom}\" \
         font-family=\"monospace\" font-size=\"13\">"
    )?;
    writeln!(out, "<title>{}</title>", escaped(&graph.title))?;
    writeln!(
        out,
        "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#555\"/></marker></defs>"
    )?;
    writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>")?;
    writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"{MARGIN}\" font-weight=\"bold\">{}</text>",
        escaped(&graph.title)
    )?;
    for edge in &graph.edges {
        if let (Some(from), Some(to)) = (boxes.get(edge.from), boxes.get(edge.to)) {
            write_edge(out, edge, *from, *to)?;
        }
    }
    for (node, at) in graph.nodes.iter().zip(&boxes) {
        write_node(out, node, *at)?;
    }
    writeln!(out, "</svg>")
}

fn boxes(graph: &Graph) -> Vec<Place> {
    let width = |node: &Node| node.label.chars().count() * CHARACTER + 2 * PADDING;
    let n_columns = graph.nodes.iter().map(|node| node.column + 1).max().unwrap_or(0);
    let mut widths = vec![0; n_columns];
    for node in &graph.nodes {
        widths[node.column] = widths[node.column].max(width(node));
    }
    let mut lefts = Vec::with_capacity(n_columns);
    let mut left = MARGIN;
    for width in widths {
        lefts.push(left);
        left += width + GAP;
    }
    let mut counts = vec![0; n_columns];
    let place = |node: &Node| {
        let y = 2 * MARGIN + counts[node.column] * PITCH;
        counts[node.column] += 1;
        Place { x: lefts[node.column], y, width: width(node) }
    };
    graph.nodes.iter().map(place).collect()
}

fn write_node(out: &mut dyn io::Write, node: &Node, at: Place) -> io::Result<()> {
    let (fill, radius) = match node.kind {
        NodeKind::Hook => ("#dbe9ff", 0),
        NodeKind::Chain => ("#f4f4f4", 4),
        NodeKind::Endpoint => ("#dff5dd", HEIGHT / 2),
        NodeKind::End => ("#ffe0e0", 0),
    };
    let Place { x, y, width } = at;
    writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" rx=\"{radius}\" fill=\"{fill}\" stroke=\"#555\"/>"
    )?;
    let (text_x, text_y) = (x + PADDING, y + HEIGHT / 2 + 5);
    writeln!(out, "<text x=\"{text_x}\" y=\"{text_y}\">{}</text>", escaped(&node.label))
}

fn write_edge(out: &mut dyn io::Write, edge: &Edge, from: Place, to: Place) -> io::Result<()> {
    let (x1, y1) = (from.x + from.width, from.y + HEIGHT / 2);
    let (x2, y2) = (to.x, to.y + HEIGHT / 2);
    let (bend1, bend2) = (x1 + GAP / 2, x2.saturating_sub(GAP / 2));
    writeln!(
        out,
        "<path d=\"M{x1} {y1} C{bend1} {y1} {bend2} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#555\" \
         marker-end=\"url(#arrow)\"/>"
    )?;
    if edge.label.is_empty() {
        return Ok(());
    }
    let (x, y) = (x1.midpoint(x2), y1.midpoint(y2).saturating_sub(4));
    writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"11\" text-anchor=\"middle\" fill=\"#333\">{}</text>",
        escaped(&edge.label)
    )
}

/// A text as XML takes it; control characters, which it does not take at all, are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars().filter(|character| !character.is_control()) {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            other => escaped.push(other),
        }
    }
    escaped
}
