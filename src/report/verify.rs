//! What `verify` found, as text: by Service, each packet that differs with both fates and the rules on its way.

use std::io;

use crate::verify::{Difference, Report, Subject, Tally};

use super::painted;

/// The two sides of a comparison, as the reader calls them.
#[derive(Debug, Clone)]
pub struct Sides {
    /// What is wanted: `manifests`, or the name of a ruleset.
    pub wanted: String,
    /// What was found: `rules`, or the name of a ruleset.
    pub found: String,
}

/// What text a reader wants.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// With colours.
    pub color: bool,
    /// With the rules on the way of each packet.
    pub paths: bool,
}

/// Finds the Service that rules serve where a packet goes, by their own words.
pub type NameOf<'a> = dyn Fn(&Difference) -> Option<String> + 'a;

/// What a subject is called.
pub(super) fn subject_name(subject: &Subject, tally: &Tally, name_of: &NameOf<'_>) -> String {
    match subject {
        Subject::Service(port) => port.to_string(),
        Subject::Address(addr) => match tally.witnesses.iter().find_map(name_of) {
            Some(name) => format!("{addr} ({name}, as the rules say)"),
            None => addr.to_string(),
        },
    }
}

/// A packet, and what its sender did before if that matters.
pub(super) fn packet_text(difference: &Difference) -> String {
    match difference.remembered {
        None => difference.packet.to_string(),
        Some((endpoint, age)) => {
            format!("{} (sent to {endpoint} {:.1} s before)", difference.packet, age.as_secs_f64())
        }
    }
}

/// Writes the differences of all families, and a line of sums.
pub fn write(
    out: &mut dyn io::Write,
    reports: &[Report],
    sides: &Sides,
    name_of: &NameOf<'_>,
    style: Style,
) -> io::Result<()> {
    for report in reports {
        for (subject, tally) in &report.subjects {
            let name = subject_name(subject, tally, name_of);
            writeln!(out, "{}", painted(&format!("~ {name} {}", report.family), style.color))?;
            for witness in &tally.witnesses {
                write_witness(out, witness, sides, style)?;
            }
            let n_more = tally.n_packets - tally.witnesses.len();
            if n_more > 0 {
                writeln!(out, "    and {n_more} more")?;
            }
        }
    }
    let sum = |count: fn(&Report) -> usize| reports.iter().map(count).sum::<usize>();
    let n_different = sum(|report| report.subjects.values().map(|tally| tally.n_packets).sum());
    let compared = format!(
        "{} packets to {} destinations compared",
        sum(|report| report.n_packets),
        sum(|report| report.n_destinations),
    );
    for report in reports {
        if let Some(assumed) = &report.assumed {
            writeln!(out, "not compared, {}: {assumed}", report.family)?;
        }
    }
    if n_different == 0 {
        writeln!(out, "{compared}: none differs")
    } else {
        writeln!(out, "{compared}: {n_different} differ")
    }
}

fn write_witness(
    out: &mut dyn io::Write,
    witness: &Difference,
    sides: &Sides,
    style: Style,
) -> io::Result<()> {
    let width = sides.wanted.len().max(sides.found.len()) + 1;
    writeln!(out, "    {}", packet_text(witness))?;
    writeln!(out, "      {:width$} {}", format!("{}:", sides.wanted), witness.wanted)?;
    writeln!(out, "      {:width$} {}", format!("{}:", sides.found), witness.found)?;
    for rule in witness.path.iter().filter(|_| style.paths) {
        writeln!(out, "        {rule}")?;
    }
    Ok(())
}

/// Writes what a mode does otherwise than others, which is no difference.
pub fn write_known(out: &mut dyn io::Write, mode: &str, known: &[&str]) -> io::Result<()> {
    if !known.is_empty() {
        writeln!(out, "Known of {mode} mode, and no difference:")?;
    }
    known.iter().try_for_each(|way| writeln!(out, "  {way}"))
}
