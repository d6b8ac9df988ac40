//! One file a subcommand: its arguments and what it does with a [`crate::host::Host`]. No command knows another.
//!
//! What several of them share: `options`, `input` (reading manifests), `live` (reading the kernel), `comparison` of the two,
//! `steps` from one to the other.

pub mod apply;
pub mod cleanup;
mod comparison;
pub mod compile;
pub mod completions;
pub mod diff;
mod dump;
mod equivalence;
mod error;
pub mod explain;
mod flows;
mod input;
pub mod inspect;
mod listeners;
mod live;
mod lock;
mod observed;
pub mod options;
mod progress;
mod refusal;
pub mod run;
mod steps;
pub mod trace;
pub mod verify;
mod virtual_servers;
mod watch;

pub use error::{Error, ErrorKind};

use std::io::Write;

use anstyle::{AnsiColor, Style};

/// How a command ended, apart from errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; for a comparison: nothing differs.
    Done,
    /// Something differs.
    Differs,
    /// Done for what was valid; some of the input was not, and has been reported.
    BadInput,
}

impl Outcome {
    /// The exit status: 0, 1, 2 as diff(1) and grep(1).
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Done => 0,
            Outcome::Differs => 1,
            Outcome::BadInput => 2,
        }
    }
}

/// Where a command writes: data to `out`, everything else to `err`.
pub struct Console<'a> {
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// Whether `out` takes colours.
    pub color_out: bool,
    /// Whether `err` takes colours.
    pub color_err: bool,
    /// Whether `err` is a terminal on which a progress bar may be drawn.
    pub progress: bool,
}

impl Console<'_> {
    /// Says on standard error what need not stop anybody.
    fn warn(&mut self, warning: &str) -> Result<(), Error> {
        let label =
            if self.color_err { format!("{WARNING}warning{WARNING:#}") } else { "warning".to_owned() };
        writeln!(self.err, "{label}: {warning}")?;
        Ok(())
    }
}

/// The colour of a warning.
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
