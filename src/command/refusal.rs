//! A restore that was refused, told as what it is for: the Service, its manifest line, the rule.

use crate::host::RestoreError;
use crate::model::ServiceName;
use crate::net::IpFamily;
use crate::pipeline::Wanted;
use crate::plan::Step;
use crate::program::Emitted;
use crate::report::one_line;

use super::Error;
use super::input::Input;

/// Explains why a step failed.
pub(super) fn explain(step: &Step, refused: &RestoreError, wanted: Option<(&Input, &Wanted)>) -> Error {
    let mut error = Error::from(refused.error.clone());
    let Some((family, document)) = document_of(step) else {
        return error.detail(format!("step: {step}"));
    };
    let Some(line) = refused.line else { return error };
    let text = String::from_utf8_lossy(&document.text);
    if let Some(rule) = text.lines().nth(line.saturating_sub(1)) {
        error = error.detail(format!("line {line}: {}", one_line(rule)));
    }
    if matches!(step, Step::XtablesRestore { .. }) && asks_bpf(&text, line) {
        error = error.hint(
            "rules of `--layout fast` ask match `bpf`: it needs module `xt_bpf`, which `--layout kube-proxy` does not",
        );
    }
    if let Some((name, owner)) =
        wanted.and_then(|(input, wanted)| owner(family, line, document, input, wanted))
    {
        error = error.detail(format!("rule for: {owner}"));
        error.culprit = Some(name);
    }
    error
}

/// Whether a refused line asks match `bpf`, which few other rules do and some kernels lack. iptables-legacy says only that a
/// table was refused, by its last line.
fn asks_bpf(document: &str, line: usize) -> bool {
    let asks = |line: &str| line.contains(" -m bpf ");
    let before: Vec<&str> = document.lines().take(line).collect();
    match before.split_last() {
        Some((&"COMMIT", table)) => {
            table.iter().rev().take_while(|line| **line != "COMMIT").any(|line| asks(line))
        }
        Some((line, _)) => asks(line),
        None => false,
    }
}

/// The document of a step that feeds one to a tool, and its family.
fn document_of(step: &Step) -> Option<(IpFamily, &Emitted)> {
    match step {
        Step::XtablesRestore { family, document, .. } | Step::NftTransaction { family, document, .. } => {
            Some((*family, document))
        }
        Step::DeleteJump { .. }
        | Step::AddNfacct { .. }
        | Step::SetSysctl { .. }
        | Step::Ipset { .. }
        | Step::Ipvs { .. }
        | Step::HandOver { .. }
        | Step::AddDummy { .. }
        | Step::DeleteDummy { .. }
        | Step::AddAddresses { .. }
        | Step::DeleteAddresses { .. } => None,
    }
}

fn owner(
    family: IpFamily,
    line: usize,
    document: &Emitted,
    input: &Input,
    wanted: &Wanted,
) -> Option<(ServiceName, String)> {
    let port = wanted.made_for(family, document.lines.tag_at(u32::try_from(line).ok()?)?)?;
    let place = input.loaded.places.get(&port.name.service).and_then(|place| {
        let source = input.sources.get(usize::try_from(place.source.0).ok()?)?;
        let (line, column) = source.line_column(place.span.start);
        Some(format!(" ({}:{line}:{column})", one_line(&source.name)))
    });
    Some((port.name.service.clone(), format!("{}{}", port.name, place.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_kernels_lack_is_named() {
        let document = "*filter\n-A A -m bpf --bytecode \"1,6 0 0 0\" -j DROP\n-A A -j DROP\nCOMMIT\n*nat\n-A A -j DROP\nCOMMIT\n";
        let lines: Vec<usize> = (0..9).filter(|line| asks_bpf(document, *line)).collect();
        // The rule, and the table that it is in.
        assert_eq!(lines, [2, 4]);
    }
}
