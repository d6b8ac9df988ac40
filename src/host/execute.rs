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
        Step::InsertJump { family, table, chain, rule } => {
            let args = emit::rule_args(rule, *family);
            host.xtables_insert_jump(variant, *family, table.as_str(), chain.as_str(), &args).map_err(failed)
        }
        Step::DeleteJump { family, table, chain, rule } => {
            let args = emit::rule_args(rule, *family);
            host.xtables_delete_jump(variant, *family, table.as_str(), chain.as_str(), &args).map_err(failed)
        }
        Step::AddNfacct { name } => host.nfacct_add(name).map_err(failed),
        Step::SetSysctl { key, value } => host.sysctl_write(key, value).map_err(failed),
    }
}

/// Asks the tools whether they would take a step, and changes nothing. Steps that no tool can try are taken for granted.
pub fn rehearse(host: &mut dyn Host, variant: XtablesVariant, step: &Step) -> Result<(), RestoreError> {
    match step {
        Step::XtablesRestore { family, document, .. } => {
            host.xtables_restore(variant, *family, &document.text, RestoreMode::Test)
        }
        Step::InsertJump { .. }
        | Step::DeleteJump { .. }
        | Step::AddNfacct { .. }
        | Step::SetSysctl { .. } => Ok(()),
    }
}
