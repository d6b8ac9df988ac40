//! The tool `nft`: its version, a table as JSON, a document as one transaction; and what it says when it fails.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use super::error::{HostError, HostErrorKind, RestoreError};
use super::{nf_tables, tool, xtables_words};

/// The tool.
const NFT: &str = "nft";
/// How long it may take: large rulesets take minutes on small machines.
const LIMIT: Duration = Duration::from_secs(600);
/// How long `nft --version` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// How often something is tried that somebody else's change interrupts.
const ATTEMPTS: u32 = 5;
/// How long to wait before the second attempt; twice as long before each further one.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The version of the tool; `None` if it is not installed.
pub(super) fn version() -> Result<Option<(u32, u32, u32)>, HostError> {
    let Some(program) = tool::find(NFT) else { return Ok(None) };
    let done = tool::run(&program, &["--version"], b"", VERSION_LIMIT)?;
    let text = String::from_utf8_lossy(&done.stdout);
    let unreadable = || {
        let detail = format!("it says `{}`, which has no version", text.trim());
        HostError::new("ask `nft` for its version", HostErrorKind::Other, detail)
    };
    tool::version(&text).map(Some).ok_or_else(unreadable)
}

/// A table as `nft -j list table` prints it; `None` if there is none, and then the tool is not started.
pub(super) fn list(family: &str, table: &str) -> Result<Option<Vec<u8>>, HostError> {
    let program = program()?;
    if !nf_tables::tables()?.iter().any(|(of, name)| of == family && name == table) {
        return Ok(None);
    }
    let args = ["-j", "list", "table", family, table];
    let listed = again(FIRST_PAUSE, || {
        let done = tool::run(&program, &args, b"", LIMIT).map_err(nowhere)?;
        let said = refusal(&done.stderr, done.status);
        if done.status.success() { Ok(done.stdout) } else { Err(said) }
    });
    match listed {
        Ok(json) => Ok(Some(json)),
        Err(refused) if is_not_there(&refused.error) => Ok(None),
        Err(refused) => Err(refused.error),
    }
}

/// Takes a document as one transaction, or only asks whether the kernel would.
pub(super) fn run(document: &[u8], check: bool) -> Result<(), RestoreError> {
    let program = program().map_err(nowhere)?;
    let args: &[&str] = if check { &["-c", "-f", "-"] } else { &["-f", "-"] };
    again(FIRST_PAUSE, || attempt(&program, args, document))
}

fn attempt(program: &Path, args: &[&str], document: &[u8]) -> Result<(), RestoreError> {
    let done = tool::run(program, args, document, LIMIT).map_err(nowhere)?;
    if !done.status.success() {
        let mut refused = refusal(&done.stderr, done.status);
        if is_in_use(&refused, document) {
            // For ever: what it is used by is in no other transaction.
            refused.error.detail.push_str(IN_USE);
        }
        return Err(refused);
    }
    if !done.stderr.trim().is_empty() {
        tracing::debug!(tool = "`nft`", said = done.stderr.trim(), "done, with words");
    }
    Ok(())
}

/// What is added to the words of the kernel when something cannot be deleted.
pub(super) const IN_USE: &str = " (still in use)";

/// Whether the kernel would not delete something since something else refers to it.
fn is_in_use(refused: &RestoreError, document: &[u8]) -> bool {
    let Some(line) = refused.line.filter(|_| refused.error.kind == HostErrorKind::Busy) else { return false };
    let text = document.split(|byte| *byte == b'\n').nth(line - 1).unwrap_or_default().trim_ascii_start();
    let is_transient = is_interrupted(&refused.error.detail.to_lowercase());
    !is_transient && (text.starts_with(b"delete ") || text.starts_with(b"destroy "))
}

fn program() -> Result<PathBuf, HostError> {
    tool::find(NFT).ok_or_else(|| tool::missing(NFT))
}

pub(super) fn nowhere(error: HostError) -> RestoreError {
    RestoreError { line: None, error }
}

/// Tries several times what somebody else's change can interrupt, with pauses that grow.
pub(super) fn again<T>(
    first_pause: Duration,
    mut attempt: impl FnMut() -> Result<T, RestoreError>,
) -> Result<T, RestoreError> {
    let mut pause = first_pause;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(RestoreError { error, .. }) if is_worth_another(&error) => {
                tracing::debug!(action = %error.action, said = %error.detail, "is tried again");
            }
            done => return done,
        }
        thread::sleep(pause);
        pause *= 2;
    }
    attempt()
}

fn is_worth_another(error: &HostError) -> bool {
    error.kind == HostErrorKind::Busy && !error.detail.ends_with(IN_USE)
}

fn is_not_there(error: &HostError) -> bool {
    error.kind == HostErrorKind::NotFound && error.detail.starts_with("No such file or directory")
}

/// Whether words, in small letters, tell of what the next attempt may not meet again.
fn is_interrupted(words: &str) -> bool {
    ["interrupted", "eintr", "temporarily unavailable", "eagain"].iter().any(|word| words.contains(word))
}

/// Reads what the tool says when it fails: the first error counts, the rest shows the line again.
fn refusal(stderr: &str, status: ExitStatus) -> RestoreError {
    let Said { line, words } = read(stderr);
    let words = if words.is_empty() { status.to_string() } else { words };
    let kind = if is_interrupted(&words.to_lowercase()) {
        HostErrorKind::Busy
    } else {
        xtables_words::kind_of(&words)
    };
    // Without rights the whole is refused, not the command that happens to be named.
    let line = line.filter(|_| kind != HostErrorKind::Permission);
    RestoreError { line, error: HostError::new("run `nft`", kind, words) }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    line: Option<usize>,
    words: String,
}

/// `/dev/stdin:3:14-14: Error: syntax error, unexpected newline` and, without a document, `Error: No such file or directory`.
/// Words without `Error: ` come before it when they are the cause: `Operation not permitted (you must be root)`.
fn read(stderr: &str) -> Said {
    let is_warning = |text: &&str| text.contains("Warning: ");
    let Some(text) = stderr.lines().map(str::trim).find(|text| !text.is_empty() && !is_warning(text)) else {
        return Said::default();
    };
    let Some((place, words)) = text.split_once("Error: ") else {
        return Said { line: None, words: text.to_owned() };
    };
    let line = place.trim_end().strip_suffix(':').and_then(|place| {
        let (place, _columns) = place.rsplit_once(':')?;
        place.rsplit_once(':')?.1.parse().ok()
    });
    Said { line: line.filter(|line| *line > 0), words: words.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use HostErrorKind::{Busy, Exists, NotFound, Other, Permission, Unsupported};

    fn refused(stderr: &str) -> RestoreError {
        refusal(stderr, ExitStatus::from_raw(256))
    }

    /// What nft 1.0.6 says, word for word.
    #[test]
    fn reads_the_first_error() {
        for (stderr, line, kind, words) in [
            (
                "/dev/stdin:3:14-14: Error: syntax error, unexpected newline, expecting string\n\
                 add rule ip a\n             ^\n",
                Some(3),
                Other,
                "syntax error, unexpected newline, expecting string",
            ),
            (
                "/dev/stdin:3:22-28: Error: Could not process rule: No such file or directory\n\
                 add rule ip a c jump nowhere\n                     ^^^^^^^\n",
                Some(3),
                NotFound,
                "Could not process rule: No such file or directory",
            ),
            (
                "/dev/stdin:2:18-20: Error: No such file or directory; did you mean map ‘m’ in table ip ‘b’?\n\
                 add element ip a nos { 1.2.3.4 }\n                 ^^^\n",
                Some(2),
                NotFound,
                "No such file or directory; did you mean map ‘m’ in table ip ‘b’?",
            ),
            (
                "/dev/stdin:1:22-29: Error: Could not process rule: File exists\n\
                 add element ip b d { 10.0.0.1 : 10.0.0.3 }\n                     ^^^^^^^^\n\
                 /dev/stdin:7:19-22: Error: Could not process rule: No such file or directory\n",
                Some(1),
                Exists,
                "Could not process rule: File exists",
            ),
            (
                "/dev/stdin:2:19-19: Error: Could not process rule: Device or resource busy\n\
                 delete chain ip b c\n                  ^\n",
                Some(2),
                Busy,
                "Could not process rule: Device or resource busy",
            ),
            (
                "/dev/stdin:2:14-313: Error: name too long, 256 characters maximum allowed\n",
                Some(2),
                Other,
                "name too long, 256 characters maximum allowed",
            ),
            (
                "/dev/stdin:1:1-55: Error: Could not process rule: Operation not supported\n",
                Some(1),
                Unsupported,
                "Could not process rule: Operation not supported",
            ),
            (
                "/dev/stdin:1:1-15: Error: Could not process rule: Operation not permitted\nadd table ip a\n",
                None,
                Permission,
                "Could not process rule: Operation not permitted",
            ),
            (
                "Operation not permitted (you must be root)\n\
                 netlink: Error: cache initialization failed: Operation not permitted\n",
                None,
                Permission,
                "Operation not permitted (you must be root)",
            ),
            (
                "netlink: Error: cache initialization failed: Interrupted system call\n",
                None,
                Busy,
                "cache initialization failed: Interrupted system call",
            ),
            (
                "Error: No such file or directory\nlist table ip nope\n              ^^^^\n",
                None,
                NotFound,
                "No such file or directory",
            ),
            ("", None, Other, "exit status: 1"),
        ] {
            let said = refused(stderr);
            assert_eq!((said.line, said.error.kind, said.error.detail.as_str()), (line, kind, words));
        }
    }

    #[test]
    fn tells_what_is_in_use_from_what_is_busy_now() {
        let busy = refused("/dev/stdin:2:1-9: Error: Could not process rule: Device or resource busy\n");
        assert!(is_in_use(&busy, b"add table ip a\ndelete chain ip a c\n"));
        assert!(!is_in_use(&busy, b"delete chain ip a c\nadd rule ip a c accept\n"));
        let now =
            refused("/dev/stdin:1:1-9: Error: Could not process rule: Resource temporarily unavailable\n");
        assert!(!is_in_use(&now, b"delete chain ip a c\n"));
    }

    #[test]
    fn tries_five_times_what_is_interrupted() {
        let tries = |words: &str| {
            let mut count = 0;
            let result = again(Duration::ZERO, || {
                count += 1;
                Err::<(), _>(refused(words))
            });
            assert!(result.is_err());
            count
        };
        assert_eq!(tries("netlink: Error: cache initialization failed: Interrupted system call\n"), 5);
        assert_eq!(tries("/dev/stdin:1:1-9: Error: Could not process rule: Device or resource busy\n"), 5);
        assert_eq!(
            tries(
                "/dev/stdin:1:1-9: Error: Could not process rule: Device or resource busy (still in use)\n"
            ),
            1
        );
        assert_eq!(tries("/dev/stdin:1:1-9: Error: Could not process rule: File exists\n"), 1);
        let mut count = 0;
        let result = again(Duration::ZERO, || {
            count += 1;
            if count == 3 { Ok(count) } else { Err(refused("Interrupted system call\n")) }
        });
        assert_eq!(result.unwrap(), 3);
    }
}
