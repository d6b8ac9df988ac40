//! The tool `ipset`: its version, all sets as text, a document of changes; and what it says when it fails.

use std::path::PathBuf;
use std::time::Duration;

use super::error::{HostError, HostErrorKind, RestoreError};
use super::tool::{self, Finished};
use super::xtables_words;

/// The tool.
const IPSET: &str = "ipset";
/// How long it may take: a million entries take some ten seconds.
const LIMIT: Duration = Duration::from_secs(600);
/// How long `ipset --version` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// The version of the tool; `None` if it is not installed.
pub(super) fn version() -> Result<Option<(u32, u32)>, HostError> {
    let Some(program) = tool::find(IPSET) else { return Ok(None) };
    let done = tool::run(&program, &["--version"], b"", VERSION_LIMIT)?;
    let text = String::from_utf8_lossy(&done.stdout);
    let unreadable = || {
        let detail = format!("it says `{}`, which has no version", text.trim());
        HostError::new("ask `ipset` for its version", HostErrorKind::Other, detail)
    };
    tool::version(&text).map(|(major, minor, _)| Some((major, minor))).ok_or_else(unreadable)
}

/// All sets as `ipset save` prints them.
pub(super) fn save() -> Result<String, HostError> {
    let done = tool::run(&program()?, &["save"], b"", LIMIT)?;
    if !done.status.success() {
        return Err(refusal(&done).error);
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Takes the lines of a document, up to one that is refused.
pub(super) fn restore(document: &[u8]) -> Result<(), RestoreError> {
    let nowhere = |error| RestoreError { line: None, error };
    let done = tool::run(&program().map_err(nowhere)?, &["restore", "-exist"], document, LIMIT);
    let done = done.map_err(nowhere)?;
    if done.status.success() { Ok(()) } else { Err(refusal(&done)) }
}

fn program() -> Result<PathBuf, HostError> {
    tool::find(IPSET).ok_or_else(|| tool::missing(IPSET))
}

fn refusal(done: &Finished) -> RestoreError {
    let (line, words) = read(&done.stderr);
    let words = if words.is_empty() { done.status.to_string() } else { words };
    let kind = kind_of(&words);
    // Without rights the whole is refused, not the line that happens to be named.
    let line = line.filter(|_| kind != HostErrorKind::Permission);
    RestoreError { line, error: HostError::new("run `ipset`", kind, words) }
}

/// The line, and the words, of `ipset v7.17: Error in line 3: The set with the given name does not exist`.
fn read(stderr: &str) -> (Option<usize>, String) {
    let mut line = None;
    let mut words = Vec::new();
    for text in stderr.lines().map(str::trim) {
        if text.is_empty() || text.starts_with("Try `") {
            continue;
        }
        let named = text.strip_prefix("ipset v").and_then(|rest| rest.split_once(": "));
        let text = named.map_or(text, |(_, rest)| rest);
        if text.starts_with("Warning: ") {
            continue;
        }
        let placed = text.strip_prefix("Error in line ").and_then(|rest| rest.split_once(": "));
        let (number, text) = placed.map_or((None, text), |(number, rest)| (number.parse().ok(), rest));
        line = line.or(number);
        words.push(text);
    }
    (line, words.join("\n"))
}

fn kind_of(words: &str) -> HostErrorKind {
    let of_kernel = ["Cannot open session to kernel", "Kernel support protocol", "set type not supported"];
    if of_kernel.iter().any(|unsupported| words.contains(unsupported)) {
        HostErrorKind::Unsupported
    } else if words.contains("it is in use by a kernel component") {
        HostErrorKind::Busy
    } else {
        xtables_words::kind_of(words)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;
    use HostErrorKind::{Busy, Exists, NotFound, Other, Permission, Unsupported};

    /// What ipset 7.17 says, word for word.
    #[test]
    fn reads_what_it_says() {
        for (stderr, line, kind, words) in [
            (
                "ipset v7.17: Error in line 3: The set with the given name does not exist\n",
                Some(3),
                NotFound,
                "The set with the given name does not exist",
            ),
            (
                "ipset v7.17: Error in line 1: Set cannot be created: set with the same name already exists\n",
                Some(1),
                Exists,
                "Set cannot be created: set with the same name already exists",
            ),
            (
                "ipset v7.17: Error in line 1: Set cannot be destroyed: it is in use by a kernel component\n",
                Some(1),
                Busy,
                "Set cannot be destroyed: it is in use by a kernel component",
            ),
            (
                "ipset v7.17: Error in line 4: Hash is full, cannot add more elements\n",
                Some(4),
                Other,
                "Hash is full, cannot add more elements",
            ),
            (
                "ipset v7.17: Error in line 1: Kernel error received: Operation not permitted\n",
                None,
                Permission,
                "Kernel error received: Operation not permitted",
            ),
            (
                "ipset v7.17: Kernel error received: set type not supported\n",
                None,
                Unsupported,
                "Kernel error received: set type not supported",
            ),
            (
                "ipset v7.17: Cannot open session to kernel.\n",
                None,
                Unsupported,
                "Cannot open session to kernel.",
            ),
            (
                "ipset v7.17: No command specified: unknown argument frob\nTry `ipset help' for more information.\n",
                None,
                Other,
                "No command specified: unknown argument frob",
            ),
            (
                "ipset v7.17: Syntax error: '70000' is out of range 0-65535\nSyntax error: 'tcp' is invalid as number\n",
                None,
                Other,
                "Syntax error: '70000' is out of range 0-65535\nSyntax error: 'tcp' is invalid as number",
            ),
            ("", None, Other, "exit status: 1"),
        ] {
            let done =
                Finished { status: ExitStatus::from_raw(256), stdout: Vec::new(), stderr: stderr.to_owned() };
            let said = refusal(&done);
            assert_eq!((said.line, said.error.kind, said.error.detail.as_str()), (line, kind, words));
        }
    }
}
