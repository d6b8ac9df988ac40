//! `svcproxy completions`: the completion script of a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Console, Error, Outcome};

/// Print the completion script of a shell
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  svcproxy completions bash > /usr/share/bash-completion/completions/svcproxy
  svcproxy completions zsh > \"${fpath[1]}/_svcproxy\"
  svcproxy completions fish > ~/.config/fish/completions/svcproxy.fish";

/// Runs it. The generator panics on a closed pipe, so it writes to memory first.
pub fn run<C: CommandFactory>(args: &CompletionsArgs, console: &mut Console<'_>) -> Result<Outcome, Error> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "svcproxy", &mut text);
    console.out.write_all(&text)?;
    console.out.flush()?;
    Ok(Outcome::Done)
}
