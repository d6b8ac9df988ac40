//! Watching flows in the kernel: a table that lives as long as the watch, and what `nft monitor trace` prints meanwhile.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "host is the folder with IO")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::{HostError, HostErrorKind};
use super::{nft, tool};

/// The tool.
const NFT: &str = "nft";
/// So long after the first word a packet has been told to its end.
const SETTLED: Duration = Duration::from_millis(400);
/// How often it is looked whether the table is there.
const PAUSE: Duration = Duration::from_millis(20);
/// How many times.
const LOOKS: u32 = 250;

/// A process that ends with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Ends one that is still there, and takes its status so that no zombie stays.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts a table there, one command a line, and gives every line that the kernel tells of packets to `on_line`, until a
/// moment after the first that it says is one to wait for, or until the limit is over. `family` and `table` name the table.
///
/// The table belongs to the process that made it (`flags owner`), and that one ends when this one does, however it ends: the kernel
/// then takes the table away.
pub(super) fn watch(
    document: &str,
    (family, table): (&str, &str),
    limit: Duration,
    on_line: &mut dyn FnMut(&str) -> bool,
) -> Result<(), HostError> {
    // The one that stays tells nobody what the kernel refused.
    nft::run(document.as_bytes(), true).map_err(|refused| refused.error)?;
    let mut deadline = Instant::now() + limit;
    let mut monitor = start(&["monitor", "trace"], Stdio::null(), Stdio::piped())?;
    let Some(stdout) = monitor.0.stdout.take() else { return Err(broken("it has no output")) };
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut owner = start(&["-i"], Stdio::piped(), Stdio::null())?;
    let Some(stdin) = owner.0.stdin.as_mut() else { return Err(broken("it has no input")) };
    stdin
        .write_all(document.as_bytes())
        .and_then(|()| stdin.flush())
        .map_err(|error| HostError::io("run `nft -i`", &error))?;
    appears(family, table)?;
    let mut heard = false;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if on_line(&line) && !heard {
                    heard = true;
                    deadline = deadline.min(Instant::now() + SETTLED);
                }
            }
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(broken("it ended by itself")),
        }
    }
}

fn appears(family: &str, table: &str) -> Result<(), HostError> {
    for _ in 0..LOOKS {
        if nft::list(family, table)?.is_some() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err(broken("its table did not appear"))
}

fn start(args: &[&str], stdin: Stdio, stdout: Stdio) -> Result<Running, HostError> {
    let program = tool::find(NFT).ok_or_else(|| tool::missing(NFT))?;
    Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .map(Running)
        .map_err(|error| HostError::io("run `nft`", &error))
}

fn broken(detail: &str) -> HostError {
    HostError::new("watch packets with `nft monitor trace`", HostErrorKind::Other, detail)
}
