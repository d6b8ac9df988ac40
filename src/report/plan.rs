//! Steps of a plan, numbered.

use std::io;

use comfy_table::{Table, presets};

use crate::plan::Plan;

/// Writes the steps as a table; nothing if there are none.
pub fn write(out: &mut dyn io::Write, plan: &Plan) -> io::Result<()> {
    if plan.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["STEP", "WHAT"]);
    for (index, step) in plan.steps.iter().enumerate() {
        table.add_row([(index + 1).to_string(), step.to_string()]);
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
