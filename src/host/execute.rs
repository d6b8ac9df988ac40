//! Takes the steps of a plan, in their order. Which steps, and why, was decided before.

use crate::plan::Step;
use crate::program::xtables::emit;

use super::{Host, HostError, RestoreError, RestoreMode, XtablesVariant};

/// Takes one step.
pub fn execute(host: &mut dyn Host, variant: XtablesVariant, step: &Step) -> Result<(), RestoreError> {
    let failed = |error: HostError| RestoreError { line: None, error };
    match step {
        Step::XtablesRestore { family, document, .. } => {
            host.xtables_restore(variant, *family, &document.text, RestoreMode::Commit)
        }
        Step::NftTransaction { document, .. } => host.nft_run(&document.text, false),
        Step::InsertJump { family, table, chain, rule } => {
            let args = emit::rule_args(rule, *family);
            host.xtables_insert_jump(variant, *family, table.as_str(), chain.as_str(), &args).map_err(failed)
        }
        Step::AppendJump { family, table, chain, rule } => {
            let args = emit::rule_args(rule, *family);
            host.xtables_append_jump(variant, *family, table.as_str(), chain.as_str(), &args).map_err(failed)
        }
        Step::DeleteJump { family, table, chain, rule } => {
            let args = emit::rule_args(rule, *family);
            host.xtables_delete_jump(variant, *family, table.as_str(), chain.as_str(), &args).map_err(failed)
        }
        Step::AddNfacct { name } => host.nfacct_add(name).map_err(failed),
        Step::SetSysctl { key, value } => host.sysctl_write(key, value).map_err(failed),
    }
}

/// Asks the tools whether they would take steps, and changes nothing. Steps that no tool can try are taken for granted; the
/// stages of a table are tried as the one transaction that they are parts of. The step that is refused comes back by its
/// index.
pub fn rehearse(
    host: &mut dyn Host,
    variant: XtablesVariant,
    steps: &[Step],
) -> Result<(), (usize, RestoreError)> {
    let mut index = 0;
    while let Some(step) = steps.get(index) {
        let mut n_steps = 1;
        match step {
            Step::XtablesRestore { family, document, .. } => host
                .xtables_restore(variant, *family, &document.text, RestoreMode::Test)
                .map_err(|refused| (index, refused))?,
            Step::NftTransaction { family, .. } => {
                let stages = steps[index..].iter().map_while(|step| match step {
                    Step::NftTransaction { family: its, document, .. } if its == family => {
                        Some(&document.text)
                    }
                    Step::NftTransaction { .. }
                    | Step::XtablesRestore { .. }
                    | Step::InsertJump { .. }
                    | Step::AppendJump { .. }
                    | Step::DeleteJump { .. }
                    | Step::AddNfacct { .. }
                    | Step::SetSysctl { .. } => None,
                });
                let stages: Vec<&[u8]> = stages.map(Vec::as_slice).collect();
                n_steps = stages.len();
                host.nft_run(&stages.concat(), true).map_err(|refused| locate(index, &stages, refused))?;
            }
            Step::InsertJump { .. }
            | Step::AppendJump { .. }
            | Step::DeleteJump { .. }
            | Step::AddNfacct { .. }
            | Step::SetSysctl { .. } => {}
        }
        index += n_steps;
    }
    Ok(())
}

/// From a line of all stages together to the stage and its line.
fn locate(first: usize, stages: &[&[u8]], mut refused: RestoreError) -> (usize, RestoreError) {
    let Some(mut line) = refused.line else { return (first, refused) };
    for (nth, stage) in stages.iter().enumerate() {
        let n_lines = stage.iter().filter(|byte| **byte == b'\n').count();
        if line <= n_lines {
            refused.line = Some(line);
            return (first + nth, refused);
        }
        line -= n_lines;
    }
    (first, refused)
}
