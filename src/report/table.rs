//! Tables without lines: a head in capitals, columns as wide as what is in them, wrapped where the terminal ends.

use std::io;

use comfy_table::{ContentArrangement, Table, presets};

/// Writes a table. `width`: the columns of the terminal, if it is to fit one.
pub(super) fn write<const N: usize>(
    out: &mut dyn io::Write,
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    width: Option<u16>,
) -> io::Result<()> {
    let rows = rows.into_iter().map(Vec::from);
    write_wide(out, &head.map(str::to_owned), rows, width)
}

/// The same with as many columns as the head has.
pub(super) fn write_wide(
    out: &mut dyn io::Write,
    head: &[String],
    rows: impl IntoIterator<Item = Vec<String>>,
    width: Option<u16>,
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.add_rows(rows);
    for line in table.lines() {
        // Every cell has a blank on either side; that of the first column only indents.
        writeln!(out, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
    }
    Ok(())
}
