//! The one error of the edge: whose fault it is, what happened, what to do.

use std::fmt;
use std::io;

use anstyle::{AnsiColor, Style};

use crate::host::{HostError, HostErrorKind};
use crate::model::ServiceName;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The command line.
    Usage,
    /// The manifests or the configuration.
    Input,
    /// The machine.
    Host,
    /// This program.
    Internal,
    /// Whoever read our output has gone: no error at all.
    BrokenPipe,
}

/// Why a command stopped.
#[derive(Debug, Clone)]
pub struct Error {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// What happened, on one line: lower case, no full stop.
    pub message: String,
    /// More of it, a fact a line.
    pub details: Vec<String>,
    /// What to do.
    pub hints: Vec<String>,
    /// The Service without which it would not have happened.
    pub culprit: Option<ServiceName>,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), details: Vec::new(), hints: Vec::new(), culprit: None }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, message)
    }

    /// The input is wrong.
    pub fn input(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Input, message)
    }

    /// The machine does not do it.
    pub fn host(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Host, message)
    }

    /// This program is wrong.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, message)
    }

    /// Success, if all that happened is that nobody reads what is written.
    pub fn unless_broken_pipe(self) -> Result<(), Error> {
        if self.kind == ErrorKind::BrokenPipe { Ok(()) } else { Err(self) }
    }

    /// Adds a fact.
    pub fn detail(mut self, detail: impl Into<String>) -> Error {
        self.details.push(detail.into());
        self
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hints.push(hint.into());
        self
    }
}

impl Error {
    /// The error as text of several lines.
    pub fn text(&self, color: bool) -> String {
        let (error, hint) = if color {
            (AnsiColor::Red.on_default().bold(), AnsiColor::Cyan.on_default().bold())
        } else {
            (Style::new(), Style::new())
        };
        let mut text = format!("{error}error{error:#}: {}", self.message);
        text.extend(self.details.iter().map(|detail| format!("\n  {detail}")));
        text.extend(self.hints.iter().map(|words| format!("\n{hint}hint{hint:#}: {words}")));
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(false))
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    /// Only output is written directly; files and tools are the host's.
    fn from(error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Error::new(ErrorKind::BrokenPipe, "broken pipe")
        } else {
            Error::host(format!("cannot write the output: {error}"))
        }
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Error {
        let hint = match error.kind {
            HostErrorKind::Permission => {
                Some("it needs root (CAP_NET_ADMIN); `diff --against` and `compile` do without")
            }
            HostErrorKind::NotFound
            | HostErrorKind::Exists
            | HostErrorKind::IsFolder
            | HostErrorKind::MissingTool
            | HostErrorKind::Busy
            | HostErrorKind::Unsupported
            | HostErrorKind::TimedOut
            | HostErrorKind::Other => None,
        };
        let converted = Error::host(error.to_string());
        match hint {
            Some(hint) => converted.hint(hint),
            None => converted,
        }
    }
}
