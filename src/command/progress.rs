//! A bar on standard error for work that takes longer than a second, where somebody watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Console;

/// A bar over `steps` steps; drawn only on a terminal, and only from the second second on.
pub(super) fn bar(console: &Console<'_>, steps: usize) -> ProgressBar {
    if !console.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(u64::try_from(steps).ok(), ProgressDrawTarget::hidden());
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {wide_msg}") {
        bar.set_style(style);
    }
    let watched = bar.clone();
    // The thread ends with the bar: a finished one is never shown.
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        if !watched.is_finished() {
            watched.set_draw_target(ProgressDrawTarget::stderr());
            watched.enable_steady_tick(Duration::from_millis(200));
        }
    });
    bar
}
