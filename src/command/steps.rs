//! Takes the steps of a comparison, with a progress bar; what is refused is told as what it is for.

use crate::host::{Host, XtablesVariant, execute};
use crate::plan::Step;

use super::comparison::Comparison;
use super::input::Input;
use super::{Console, Error, progress, refusal};

/// Takes them all.
pub(super) fn take(
    compared: &Comparison,
    input: &Input,
    host: &mut dyn Host,
    console: &Console<'_>,
) -> Result<(), Error> {
    let steps = &compared.plan.steps;
    let variant = variant_of(compared);
    let bar = progress::bar(console, steps.len());
    for (done, step) in steps.iter().enumerate() {
        bar.set_message(step.to_string());
        tracing::info!("step {} of {}: {step}", done + 1, steps.len());
        execute::execute(host, variant, step).map_err(|refused| {
            let error = refusal::explain(step, &refused, Some((input, &compared.wanted)));
            error.detail(format!("{done} of {} steps were taken before it", steps.len()))
        })?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// The iptables whose rules are changed. Without iptables there is no step that needs it.
pub(super) fn variant_of(compared: &Comparison) -> XtablesVariant {
    compared.live.tools.as_ref().map_or(XtablesVariant::Nft, |tools| tools.variant)
}

/// How many steps there are, in words: `3 steps taken, 17 rules`.
pub(super) fn summary(steps: &[Step], verb: &str) -> String {
    let n_rules: usize = steps.iter().map(Step::n_rules).sum();
    match steps.len() {
        0 => "nothing to do".to_owned(),
        n => format!("{n} step{} {verb}, {n_rules} rules", if n == 1 { "" } else { "s" }),
    }
}
