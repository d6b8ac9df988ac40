//! What can go wrong between this program and the machine, in the machine's own words.

use std::io;

/// A failed action on the machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action}: {detail}")]
pub struct HostError {
    /// What was tried, to be read after "cannot": "read `services.yaml`".
    pub action: String,
    /// What sort of failure it is.
    pub kind: HostErrorKind,
    /// The words of the tool or of the kernel. Can have several lines.
    pub detail: String,
}

/// The sorts of failure that a caller treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostErrorKind {
    /// The file, chain, rule or object is not there.
    NotFound,
    /// It is there already.
    Exists,
    /// It is a folder, where a file is needed.
    IsFolder,
    /// More rights are needed.
    Permission,
    /// A program is not installed.
    MissingTool,
    /// Somebody else is using it.
    Busy,
    /// This kernel or tool cannot do it.
    Unsupported,
    /// It took longer than it may.
    TimedOut,
    /// Anything else.
    Other,
}

impl HostError {
    /// An error with the words of the one who reports it.
    pub fn new(action: impl Into<String>, kind: HostErrorKind, detail: impl Into<String>) -> HostError {
        HostError { action: action.into(), kind, detail: detail.into() }
    }

    /// An error of a system call.
    pub(super) fn io(action: impl Into<String>, error: &io::Error) -> HostError {
        let text = error.to_string();
        let words = text.split(" (os error ").next().unwrap_or_default();
        HostError::new(action, kind_of(error), words)
    }
}

/// A restore that was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct RestoreError {
    /// The line of the document, from 1, if the tool told. When the kernel refuses a table, `iptables-legacy-restore` names
    /// the line of its `COMMIT`. Of a list of requests it is the number of the first that was refused.
    pub line: Option<usize>,
    /// What happened.
    pub error: HostError,
}

fn kind_of(error: &io::Error) -> HostErrorKind {
    const EBUSY: i32 = 16;
    const EOPNOTSUPP: i32 = 95;
    const EPROTONOSUPPORT: i32 = 93;
    const EAFNOSUPPORT: i32 = 97;
    const ESRCH: i32 = 3;
    const ENODEV: i32 = 19;
    match error.raw_os_error() {
        Some(ESRCH | ENODEV) => return HostErrorKind::NotFound,
        Some(EBUSY) => return HostErrorKind::Busy,
        Some(EOPNOTSUPP | EPROTONOSUPPORT | EAFNOSUPPORT) => return HostErrorKind::Unsupported,
        Some(_) | None => {}
    }
    if error.kind() == io::ErrorKind::NotFound {
        HostErrorKind::NotFound
    } else if error.kind() == io::ErrorKind::AlreadyExists {
        HostErrorKind::Exists
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        HostErrorKind::Permission
    } else if error.kind() == io::ErrorKind::TimedOut {
        HostErrorKind::TimedOut
    } else {
        HostErrorKind::Other
    }
}
