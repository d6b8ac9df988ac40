//! The program: arguments, the real machine, standard streams; outcome → exit status.
#![allow(clippy::disallowed_methods, reason = "the environment and the streams are the program's")]

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use svcproxy::cli::{self, Cli, ColorArg};
use svcproxy::command::{Console, ErrorKind};
use svcproxy::host::LinuxHost;

const OUT_BUFFER: usize = 64 * 1024;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked_for = !error.use_stderr();
            // Whoever closed the stream does not want to read it.
            let _ = error.print();
            return ExitCode::from(if asked_for { 0 } else { 2 });
        }
    };
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let color = |terminal: bool| match cli.color {
        ColorArg::Auto => terminal && !no_color && !dumb,
        ColorArg::Always => true,
        ColorArg::Never => false,
    };
    log_to_stderr(cli.verbose, color(stderr.is_terminal()));
    let (color_out, color_err) = (color(stdout.is_terminal()), color(stderr.is_terminal()));
    let progress = stderr.is_terminal() && !dumb;
    let mut out = BufWriter::with_capacity(OUT_BUFFER, stdout.lock());
    let mut err = Unheeded(stderr);
    let mut console = Console { out: &mut out, err: &mut err, color_out, color_err, progress };
    let result = cli::run(&cli, &mut LinuxHost::new(), &mut console);
    match result {
        Ok(outcome) => match out.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let _ = writeln!(io::stderr(), "error: cannot write the output: {error}");
                ExitCode::from(2)
            }
            Ok(()) | Err(_) => ExitCode::from(outcome.exit_code()),
        },
        Err(error) if error.kind == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = out.flush();
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}

/// A stream whose errors change nothing: what is said on standard error is no part of the work.
struct Unheeded<W>(W);

impl<W: Write> Write for Unheeded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

fn log_to_stderr(verbose: u8, color: bool) {
    let level = match verbose {
        0 => return,
        1 => "svcproxy=info",
        2 => "svcproxy=debug",
        3.. => "svcproxy=trace",
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(color)
        .without_time()
        .init();
}
