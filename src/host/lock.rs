//! One svcproxy at a time in a network namespace: a lock file that the kernel frees when its process ends.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "host is the folder with IO")]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::error::{HostError, HostErrorKind};

/// Where system services keep such files.
const FOLDER: &str = "/run/svcproxy";
/// How much of its command line the holder shows to others.
const COMMAND_MAX: usize = 200;
const ACTION: &str = "lock this network namespace";

/// Keeps every other svcproxy out of the network namespace while it lives.
#[derive(Debug)]
#[must_use = "the lock is free as soon as this is dropped"]
pub struct LockGuard {
    _held: Option<Held>,
}

impl LockGuard {
    /// A guard of nothing, for a host in memory.
    pub(super) fn of_nothing() -> LockGuard {
        LockGuard { _held: None }
    }
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// Closing it frees the lock.
    _file: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // While it is still locked: whoever waits finds the file gone and makes a new one.
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes the lock of the calling thread's network namespace.
pub(super) fn lock(limit: Duration, on_wait: &mut dyn FnMut(&str)) -> Result<LockGuard, HostError> {
    lock_file(&namespace_path("lock")?, limit, on_wait)
}

/// The path of a file of this kind that belongs to the network namespace of the calling thread.
pub(super) fn namespace_path(extension: &str) -> Result<PathBuf, HostError> {
    let failed = |error: io::Error| HostError::io("find the files of this network namespace", &error);
    let namespace = fs::metadata("/proc/thread-self/ns/net").map_err(failed)?.ino();
    Ok(folder().map_err(failed)?.join(format!("{namespace}.{extension}")))
}

fn lock_file(path: &Path, limit: Duration, on_wait: &mut dyn FnMut(&str)) -> Result<LockGuard, HostError> {
    let failed = |error: io::Error| HostError::io(format!("{ACTION} with `{}`", path.display()), &error);
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    let mut told = false;
    loop {
        let mut file = open(path).map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            if !is_at(&file, path) {
                // The one before deleted it after we had opened it.
                continue;
            }
            sign(&mut file).map_err(failed)?;
            // The tools that are run inherit it: should this process be killed, the lock lasts as long as their work.
            rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())
                .map_err(|error| failed(error.into()))?;
            return Ok(LockGuard { _held: Some(Held { path: path.to_owned(), _file: file }) });
        }
        let holder = holder(&mut file);
        if Instant::now() >= deadline {
            let detail = format!("held by {holder}; waited {} s", limit.as_secs());
            return Err(HostError::new(ACTION, HostErrorKind::Busy, detail));
        }
        if !told {
            on_wait(&holder);
            told = true;
        }
        std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// The folder of lock files: without the right to make it in /run, one that belongs to this user alone.
fn folder() -> io::Result<PathBuf> {
    let own = || std::env::temp_dir().join(format!("svcproxy-{}", rustix::process::geteuid().as_raw()));
    let run = PathBuf::from(FOLDER);
    if make_folder(&run).is_ok() && rustix::fs::access(&run, rustix::fs::Access::WRITE_OK).is_ok() {
        return Ok(run);
    }
    let own = own();
    make_folder(&own)?;
    if fs::symlink_metadata(&own)?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} belongs to another", own.display()),
        ));
    }
    Ok(own)
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn open(path: &Path) -> io::Result<File> {
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(no_link)
        .open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    let same =
        |here: fs::Metadata, there: fs::Metadata| (here.dev(), here.ino()) == (there.dev(), there.ino());
    file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(|(here, there)| same(here, there))
}

/// Writes process, time and command: what `holder` reads.
fn sign(file: &mut File) -> io::Result<()> {
    let mut command: String = std::env::args_os()
        .enumerate()
        .map(|(index, arg)| match (index, Path::new(&arg).file_name()) {
            (0, Some(name)) => name.to_string_lossy().into_owned(),
            (_, _) => format!(" {}", arg.to_string_lossy()),
        })
        .collect::<String>()
        .replace(char::is_control, " ");
    if let Some((cut, _)) = command.char_indices().nth(COMMAND_MAX) {
        command.truncate(cut);
        command.push('…');
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{} {} {command}", std::process::id(), seconds())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let mut parts = text.trim_end().splitn(3, ' ');
    match (parts.next(), parts.next().and_then(|since| since.parse::<u64>().ok()), parts.next()) {
        (Some(process), Some(since), Some(command)) => {
            format!("process {process} (`{command}`) for {} s", seconds().saturating_sub(since))
        }
        _ => "another svcproxy".to_owned(),
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("svcproxy-test-{}-{name}.lock", std::process::id()))
    }

    #[test]
    fn a_second_waits_and_is_told_by_whom() {
        let path = path("second");
        let first = lock_file(&path, Duration::ZERO, &mut |_| {}).unwrap();
        let mut holders = Vec::new();
        let busy = lock_file(&path, Duration::from_millis(40), &mut |holder| holders.push(holder.to_owned()));
        let error = busy.unwrap_err();
        assert_eq!(error.kind, HostErrorKind::Busy);
        assert_eq!(holders.len(), 1);
        assert!(holders[0].starts_with(&format!("process {} (`", std::process::id())), "{}", holders[0]);
        assert!(error.detail.starts_with("held by process "), "{}", error.detail);
        drop(first);
        assert!(!path.exists());
        drop(lock_file(&path, Duration::ZERO, &mut |_| {}).unwrap());
    }

    #[test]
    fn many_take_turns() {
        let path = path("many");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let guard = lock_file(&path, Duration::from_secs(60), &mut |_| {}).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(guard);
                    }
                });
            }
        });
    }

    #[test]
    fn a_file_left_by_a_killed_process_is_free() {
        let path = path("left");
        fs::write(&path, "4000000 1 svcproxy apply\n").unwrap();
        let guard = lock_file(&path, Duration::ZERO, &mut |_| {}).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with(&format!("{} ", std::process::id())));
        drop(guard);
    }
}
