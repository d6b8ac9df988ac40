//! Runs a program: arguments, standard input, what it printed, a time limit.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "host is the folder with IO")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

use super::error::{HostError, HostErrorKind};

/// Where system tools are, also when `PATH` of an ordinary user does not say so.
const SYSTEM_FOLDERS: &str = "/usr/sbin:/sbin";

/// What a program said and how it ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

/// The path of an installed program.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path()).map(|folder| folder.join(program)).find(|path| is_program(path))
}

/// Runs a program to its end with `input` as its standard input, and kills it when the time is over.
///
/// The input is a file in memory that is complete before the program begins: should this process be killed, the program
/// still reads all of it. Nobody is left with the half of a document.
pub(super) fn run(
    program: &Path,
    args: &[&str],
    input: &[u8],
    limit: Duration,
) -> Result<Finished, HostError> {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let action = || format!("run `{name}`");
    let stdin = in_memory(input).map_err(|error| HostError::io(action(), &error))?;
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .env("PATH", search_path())
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            if is_missing { missing(&name) } else { HostError::io(action(), &error) }
        })?;
    listen(&mut child, limit).map_err(|error| {
        // Ends a child that is still there, and takes its status so that no zombie stays.
        let _ = child.kill();
        let _ = child.wait();
        if error.kind() != io::ErrorKind::TimedOut {
            return HostError::io(action(), &error);
        }
        let detail = format!("no end after {} s, stopped", limit.as_secs());
        HostError::new(action(), HostErrorKind::TimedOut, detail)
    })
}

/// The error for a program that is not installed.
pub(super) fn missing(program: &str) -> HostError {
    let package = if program.starts_with("ip6tables") { "iptables" } else { package_of(program) };
    let detail = format!("`{program}` is not installed (Debian package `{package}`)");
    HostError::new(format!("run `{program}`"), HostErrorKind::MissingTool, detail)
}

/// Reads the `1.8.9` of `iptables v1.8.9 (nf_tables)`.
pub(super) fn version(text: &str) -> Option<(u32, u32, u32)> {
    let (_, rest) = text.split_once(" v")?;
    let number = rest.split_whitespace().next()?;
    let mut parts = number.split('.').map(|part| {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().unwrap_or(0)
    });
    Some((parts.next()?, parts.next()?, parts.next().unwrap_or(0)))
}

fn package_of(program: &str) -> &str {
    match program {
        "nft" => "nftables",
        "ip" | "ss" => "iproute2",
        "modprobe" => "kmod",
        other if other.starts_with("iptables") => "iptables",
        other => other,
    }
}

fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    path.push(":");
    path.push(SYSTEM_FOLDERS);
    path
}

fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

fn in_memory(input: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(input)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// Reads both outputs at the same time, each in its own thread: neither can fill up.
fn listen(child: &mut Child, limit: Duration) -> io::Result<Finished> {
    let deadline = Instant::now() + limit;
    let (stdout_done, stdout) = mpsc::channel();
    let (stderr_done, stderr) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        thread::spawn(move || stdout_done.send(read_all(pipe)));
    }
    if let Some(pipe) = child.stderr.take() {
        thread::spawn(move || stderr_done.send(read_all(pipe)));
    }
    let stdout = before(deadline, &stdout)?;
    let stderr = before(deadline, &stderr)?;
    let status = wait(child, deadline)?;
    Ok(Finished { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
}

fn read_all(mut pipe: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn before(deadline: Instant, pipe: &mpsc::Receiver<io::Result<Vec<u8>>>) -> io::Result<Vec<u8>> {
    match pipe.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(bytes) => bytes,
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Its pipes are closed, so it is about to end: looks often at first.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &[u8], limit: Duration) -> Result<Finished, HostError> {
        run(&find("sh").expect("a shell is everywhere"), &["-c", script], input, limit)
    }

    #[test]
    fn carries_more_than_a_pipe_holds_both_ways() {
        let input = vec![b'x'; 1 << 20];
        let done = shell("cat; echo $LC_ALL >&2", &input, Duration::from_secs(60)).unwrap();
        assert!(done.status.success());
        assert_eq!(done.stdout.len(), input.len());
        assert_eq!(done.stderr, "C\n");
    }

    #[test]
    fn a_program_that_ends_early_keeps_its_words() {
        let done = shell("echo no >&2; exit 3", &vec![b'x'; 1 << 20], Duration::from_secs(60)).unwrap();
        assert_eq!((done.status.code(), done.stderr.as_str()), (Some(3), "no\n"));
    }

    #[test]
    fn ends_what_takes_too_long() {
        let error = shell("exec sleep 60", b"", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind, HostErrorKind::TimedOut);
    }

    #[test]
    fn reads_versions() {
        for (text, expected) in [
            ("nftables v1.0.6 (Lester Gooch #5)\n", Some((1, 0, 6))),
            ("nftables v1.1 (x)\n", Some((1, 1, 0))),
            ("nftables v0.9.8-rc1", Some((0, 9, 8))),
            ("ipset v7.17, protocol version: 7\n", Some((7, 17, 0))),
            ("nft: not found", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn names_the_package_of_a_missing_tool() {
        assert_eq!(find("no-such-program"), None);
        let error = run(Path::new("/nowhere/ip6tables-nft"), &[], b"", Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind, HostErrorKind::MissingTool);
        assert_eq!(
            error.to_string(),
            "cannot run `ip6tables-nft`: `ip6tables-nft` is not installed (Debian package `iptables`)"
        );
    }
}
