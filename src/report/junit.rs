//! What `verify` found, as JUnit XML: a test suite for each family, a test case for each Service port.

use std::collections::BTreeSet;
use std::io;

use crate::model::ServicePortName;
use crate::verify::{Report, Subject, Tally};

use super::verify::{NameOf, packet_text, subject_name};

/// Writes it; `ports` are the Service ports that were compared, differing or not.
pub fn write(
    out: &mut dyn io::Write,
    reports: &[(Report, BTreeSet<ServicePortName>)],
    name_of: &NameOf<'_>,
) -> io::Result<()> {
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(out, "<testsuites>")?;
    for (report, ports) in reports {
        let others: Vec<(&Subject, &Tally)> =
            report.subjects.iter().filter(|(subject, _)| matches!(subject, Subject::Address(_))).collect();
        let n_assumed = usize::from(report.assumed.is_some());
        writeln!(
            out,
            r#"  <testsuite name="{}" tests="{}" failures="{}" errors="{}">"#,
            report.family,
            ports.len() + others.len() + n_assumed,
            report.subjects.len(),
            n_assumed,
        )?;
        for port in ports {
            let subject = Subject::Service(port.clone());
            let name = format!("{port} {}", port.protocol.api_name());
            write_case(out, &name, report.subjects.get(&subject))?;
        }
        for (subject, tally) in others {
            write_case(out, &subject_name(subject, tally, name_of), Some(tally))?;
        }
        if let Some(assumed) = &report.assumed {
            writeln!(out, r#"    <testcase classname="verify" name="not compared">"#)?;
            writeln!(out, "      <error message=\"{}\"/>\n    </testcase>", escaped(assumed))?;
        }
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}

fn write_case(out: &mut dyn io::Write, name: &str, tally: Option<&Tally>) -> io::Result<()> {
    let name = escaped(name);
    let Some(tally) = tally else {
        return writeln!(out, r#"    <testcase classname="verify" name="{name}"/>"#);
    };
    writeln!(out, r#"    <testcase classname="verify" name="{name}">"#)?;
    writeln!(out, r#"      <failure message="{} packets differ">"#, tally.n_packets)?;
    for one in &tally.witnesses {
        let text = format!("{}: wanted {}, found {}", packet_text(one), one.wanted, one.found);
        writeln!(out, "{}", escaped(&text))?;
    }
    writeln!(out, "      </failure>\n    </testcase>")
}

/// Text for an attribute or between tags. XML has no way to write most control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
