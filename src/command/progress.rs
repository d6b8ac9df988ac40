//! A bar on standard error for work that takes longer than a second, where somebody watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Console;

/// A bar over `steps` steps; drawn only on a terminal, and only from the second second on.
pub(super) fn bar(console: &Console<'_>, steps: usize) -> ProgressBar {
    drawn_late(console, u64::try_from(steps).ok(), "{elapsed_precise} [{bar:30}] {pos}/{len} {wide_msg}")
}

/// The same for work of which nobody knows how long it is.
pub(super) fn spinner(console: &Console<'_>, what: &'static str) -> ProgressBar {
    let spinner = drawn_late(console, None, "{elapsed_precise} {spinner} {wide_msg}");
    spinner.set_message(what);
    spinner
}

fn drawn_late(console: &Console<'_>, steps: Option<u64>, template: &str) -> ProgressBar {
    if !console.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(steps, ProgressDrawTarget::hidden());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let watched = bar.downgrade();
    // The thread ends with the bar: a finished one, or one that is gone, is never shown.
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        if let Some(bar) = watched.upgrade().filter(|bar| !bar.is_finished()) {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
        }
    });
    bar
}
