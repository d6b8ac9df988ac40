//! The way of a Service's packets, for Graphviz and for Mermaid.

use std::io;

use crate::inspect::graph::{Graph, NodeKind};

/// Writes it in the DOT language of Graphviz.
pub fn write_dot(out: &mut dyn io::Write, graph: &Graph) -> io::Result<()> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    writeln!(out, "digraph {} {{", quoted(&graph.title))?;
    writeln!(out, "  rankdir=LR;\n  node [shape=box, fontname=\"monospace\"];")?;
    for (index, node) in graph.nodes.iter().enumerate() {
        let shape = match node.kind {
            NodeKind::Hook => ", shape=cds",
            NodeKind::Chain => "",
            NodeKind::Endpoint => ", shape=ellipse",
            NodeKind::End => ", shape=octagon",
        };
        writeln!(out, "  n{index} [label={}{shape}];", quoted(&node.label))?;
    }
    for edge in &graph.edges {
        let label =
            if edge.label.is_empty() { String::new() } else { format!(" [label={}]", quoted(&edge.label)) };
        writeln!(out, "  n{} -> n{}{label};", edge.from, edge.to)?;
    }
    writeln!(out, "}}")
}

/// Writes it as a Mermaid flowchart.
pub fn write_mermaid(out: &mut dyn io::Write, graph: &Graph) -> io::Result<()> {
    // In quotes only the quote itself and what HTML takes for itself need another spelling.
    let quoted = |text: &str| {
        let text =
            text.replace('&', "#amp;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;");
        format!("\"{text}\"")
    };
    writeln!(out, "flowchart LR\n  %% {}", graph.title.replace('\n', " "))?;
    for (index, node) in graph.nodes.iter().enumerate() {
        let label = quoted(&node.label);
        match node.kind {
            NodeKind::Hook => writeln!(out, "  n{index}>{label}]")?,
            NodeKind::Chain => writeln!(out, "  n{index}[{label}]")?,
            NodeKind::Endpoint => writeln!(out, "  n{index}([{label}])")?,
            NodeKind::End => writeln!(out, "  n{index}{{{{{label}}}}}")?,
        }
    }
    for edge in &graph.edges {
        let label = if edge.label.is_empty() { String::new() } else { format!("|{}|", quoted(&edge.label)) };
        writeln!(out, "  n{} -->{label} n{}", edge.from, edge.to)?;
    }
    Ok(())
}
