//! A Unix socket at which a running process is asked what it carries: whoever connects gets its status as JSON.
#![allow(clippy::disallowed_methods, reason = "host is the folder with IO")]

use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Told, nobody};
use crate::host::error::{HostError, HostErrorKind};
use crate::program::listener::Status;

/// How long either side waits for the other.
const LIMIT: Duration = Duration::from_secs(5);
/// How long the thread rests when it could not be asked.
const REST: Duration = Duration::from_millis(100);
/// The longest answer that is read.
const MAX_ANSWER: u64 = 256 << 20;

/// Answers until it is dropped; then the socket is gone.
pub(super) struct Control {
    path: PathBuf,
    /// The file that was made there.
    file: Option<(u64, u64)>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens at a path. `Busy` if another process answers there.
    pub(super) fn start(path: &Path, told: Arc<Told>) -> Result<Control, HostError> {
        let failed = |error: io::Error| HostError::io(format!("listen at `{}`", path.display()), &error);
        // One that is about to end has closed its listeners: its place is free.
        let is_free = match ask(path) {
            Ok(status) => status.draining,
            Err(error) => error.kind == HostErrorKind::NotFound,
        };
        if !is_free {
            let detail = "another `svcproxy run` is at work in this network namespace";
            return Err(HostError::new(
                format!("listen at `{}`", path.display()),
                HostErrorKind::Busy,
                detail,
            ));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            // What a process left that was killed.
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let file = identity(path);
        let stopping = Arc::new(AtomicBool::new(false));
        let asked_to_stop = Arc::clone(&stopping);
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if asked_to_stop.load(Ordering::Relaxed) {
                    return;
                }
                match stream {
                    // Whoever asked and went away is not told.
                    Ok(stream) => drop(answer(stream, &told)),
                    // For want of descriptors, say: the next question may find some.
                    Err(_) => std::thread::sleep(REST),
                }
            }
        });
        Ok(Control { path: path.to_owned(), file, stopping, thread: Some(thread.map_err(failed)?) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Another process may have taken the place by now: what is there is its then.
        let is_ours = self.file.is_some() && identity(&self.path) == self.file;
        // Wakes the thread; where that fails it is left to the end of the process.
        let is_woken = is_ours && UnixStream::connect(&self.path).is_ok();
        if is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
        if let Some(thread) = self.thread.take().filter(|_| is_woken) {
            let _ = thread.join();
        }
    }
}

/// What tells a file from others that come to its place.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn answer(mut stream: UnixStream, told: &Told) -> io::Result<()> {
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&serde_json::to_vec(&told.status())?)
}

/// Asks the process at a path. `NotFound` if none answers there.
pub(in crate::host) fn ask(path: &Path) -> Result<Status, HostError> {
    let action = || format!("ask at `{}`", path.display());
    let mut stream = UnixStream::connect(path).map_err(|error| {
        let is_nobody = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        if is_nobody { nobody(path) } else { HostError::io(action(), &error) }
    })?;
    let mut text = Vec::new();
    stream
        .set_read_timeout(Some(LIMIT))
        .and_then(|()| (&mut stream).take(MAX_ANSWER).read_to_end(&mut text))
        .map_err(|error| HostError::io(action(), &error))?;
    let unread = |error: serde_json::Error| HostError::new(action(), HostErrorKind::Other, error.to_string());
    serde_json::from_slice(&text).map_err(unread)
}
