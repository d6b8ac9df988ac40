//! What a process that stays waits for: changed manifests, signals, the time of the next look at the kernel.
#![allow(clippy::disallowed_methods, reason = "host is the folder with IO")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::cluster::{ClusterEvent, Connection, Notice, QUEUE};
use super::error::{HostError, HostErrorKind};

/// A change is told once nothing more has happened for this long: editors and kubelets write in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// Yet not later than this.
const LATEST: Duration = Duration::from_secs(2);
const ACTION: &str = "watch manifests";

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something that is watched may have other content, or somebody asks to look (SIGHUP).
    Changed,
    /// The API server has told something: all that it has told since, in its order.
    Cluster(Vec<ClusterEvent>),
    /// The process is to end (SIGTERM, SIGINT).
    Stop,
    /// Nothing, for as long as was to be waited.
    TimeUp,
}

/// Which entries of a folder matter.
type Names = Option<BTreeSet<OsString>>;

/// A watch over files and folders, and signals.
#[derive(Debug)]
pub(super) struct Watch {
    runtime: Runtime,
    inotify: AsyncFd<OwnedFd>,
    paths: Vec<PathBuf>,
    folders: BTreeMap<i32, Names>,
    /// Since when there is a change that has not been told.
    untold: Option<Instant>,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    cluster: Option<Connection>,
}

impl Watch {
    /// Watches files and folders; from now on signals end nothing by themselves.
    pub(super) fn start(paths: &[String]) -> Result<Watch, HostError> {
        let failed = |error: io::Error| HostError::io(ACTION, &error);
        if paths.iter().any(|path| path == "-") {
            return Err(HostError::new(ACTION, HostErrorKind::Other, "standard input cannot be watched"));
        }
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(failed)?;
        let entered = runtime.enter();
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(|error| failed(error.into()))?;
        #[allow(
            deprecated,
            reason = "its successor is unsafe for types that may change their descriptor; this cannot"
        )]
        let inotify = AsyncFd::new(fd).map_err(failed)?;
        let on = |kind| signal(kind).map_err(failed);
        let (terminate, interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        let hang_up = on(SignalKind::hangup())?;
        drop(entered);
        let paths = paths.iter().map(PathBuf::from).collect();
        let folders = BTreeMap::new();
        let (untold, cluster) = (None, None);
        let mut watch =
            Watch { runtime, inotify, paths, folders, untold, terminate, interrupt, hang_up, cluster };
        watch.look_around()?;
        Ok(watch)
    }

    /// Has what a cluster tells be events, too.
    pub(super) fn attach(&mut self, cluster: Connection) {
        self.cluster = Some(cluster);
    }

    /// Has the cluster be told something, as soon as that can be. It is lost if much else waits.
    pub(super) fn report(&self, notice: Notice) {
        let sent = self.cluster.as_ref().map(|cluster| cluster.notices.try_send(notice));
        if let Some(Err(error)) = sent {
            tracing::debug!("a notice is lost: {error}");
        }
    }

    /// Watches every folder that there is now. A path that is not there is watched by its parent.
    fn look_around(&mut self) -> Result<(), HostError> {
        for path in self.paths.clone() {
            if path.is_dir() {
                self.add_tree(&path)?;
            } else {
                let parent =
                    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
                self.add(parent, path.file_name().map(|name| BTreeSet::from([name.to_owned()])))?;
            }
        }
        Ok(())
    }

    fn add_tree(&mut self, folder: &Path) -> Result<(), HostError> {
        self.add(folder, None)?;
        // What vanishes meanwhile is told as a change.
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            self.add_tree(&entry.path())?;
        }
        Ok(())
    }

    fn add(&mut self, folder: &Path, names: Names) -> Result<(), HostError> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let id = match inotify::add_watch(&self.inotify, folder, flags) {
            Ok(id) => id,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => {
                return Err(HostError::io(format!("watch `{}`", folder.display()), &error.into()));
            }
        };
        match (self.folders.entry(id).or_insert_with(|| Some(BTreeSet::new())), names) {
            (Some(known), Some(names)) => known.extend(names),
            (all, None) => *all = None,
            (None, Some(_)) => {}
        }
        Ok(())
    }

    /// Waits for the next event.
    pub(super) fn next(&mut self, limit: Duration) -> Result<Event, HostError> {
        let Watch { runtime, inotify, folders, untold, terminate, interrupt, hang_up, cluster, .. } = self;
        let event = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = terminate.recv() => Ok(Event::Stop),
                _ = interrupt.recv() => Ok(Event::Stop),
                _ = hang_up.recv() => Ok(Event::Changed),
                changed = settled(inotify, folders, untold) => changed.map(|()| Event::Changed),
                told = told(cluster) => Ok(Event::Cluster(told)),
                () = tokio::time::sleep(limit) => Ok(Event::TimeUp),
            }
        });
        let event = event.map_err(|error| HostError::io(ACTION, &error))?;
        if event == Event::Changed {
            self.look_around()?;
        }
        Ok(event)
    }

    /// Whether the process has been told to end in the meantime.
    pub(super) fn is_stopped(&mut self) -> bool {
        let Watch { runtime, terminate, interrupt, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = terminate.recv() => true,
                _ = interrupt.recv() => true,
                () = tokio::time::sleep(Duration::from_millis(1)) => false,
            }
        })
    }
}

/// Waits for what a cluster tells. Ends never if none is watched.
async fn told(cluster: &mut Option<Connection>) -> Vec<ClusterEvent> {
    let mut events = Vec::new();
    match cluster {
        Some(cluster) => {
            if cluster.events.recv_many(&mut events, QUEUE).await == 0 {
                std::future::pending::<()>().await;
            }
            events
        }
        None => std::future::pending().await,
    }
}

/// Ends when something has changed and nothing more follows. Whoever waits for something else meanwhile loses no change: what
/// has been read is in `untold`.
async fn settled(
    inotify: &AsyncFd<OwnedFd>,
    folders: &BTreeMap<i32, Names>,
    untold: &mut Option<Instant>,
) -> io::Result<()> {
    let since = loop {
        match *untold {
            Some(since) => break since,
            None if drained(inotify, folders).await? => *untold = Some(Instant::now()),
            None => {}
        }
    };
    let until = since + LATEST;
    loop {
        let quiet = Instant::now() + QUIET;
        match tokio::time::timeout_at(quiet.min(until), drained(inotify, folders)).await {
            Ok(read) => read?,
            Err(_) => break,
        };
    }
    *untold = None;
    Ok(())
}

/// Waits for events and reads all there are; whether one of them matters.
async fn drained(inotify: &AsyncFd<OwnedFd>, folders: &BTreeMap<i32, Names>) -> io::Result<bool> {
    let mut ready = inotify.readable().await?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(inotify.get_ref(), &mut buffer);
    let mut matters = false;
    loop {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
                matters |= is_of_interest(folders.get(&event.wd()), name);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => break,
            Err(error) => return Err(error.into()),
        }
    }
    ready.clear_ready();
    Ok(matters)
}

/// Whether an entry of a folder is a manifest, or may lead to one: a kubelet swaps `..data` below its links.
fn is_of_interest(names: Option<&Names>, name: Option<OsString>) -> bool {
    match (names, name) {
        (Some(Some(names)), Some(name)) => {
            names.contains(&name) || name.as_encoded_bytes().starts_with(b"..")
        }
        (Some(None) | None, _) | (Some(Some(_)), None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("svcproxy-watch-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn files_in_folders_old_and_new_are_watched() {
        let folder = Folder::new("tree");
        std::fs::create_dir(folder.0.join("old")).unwrap();
        let mut watch = Watch::start(&[folder.0.to_string_lossy().into_owned()]).unwrap();
        assert_eq!(watch.next(SHORT).unwrap(), Event::TimeUp);
        std::fs::write(folder.0.join("old/a.yaml"), "a").unwrap();
        assert_eq!(watch.next(LONG).unwrap(), Event::Changed);
        assert_eq!(watch.next(SHORT).unwrap(), Event::TimeUp);
        std::fs::create_dir(folder.0.join("new")).unwrap();
        assert_eq!(watch.next(LONG).unwrap(), Event::Changed);
        std::fs::write(folder.0.join("new/b.yaml"), "b").unwrap();
        assert_eq!(watch.next(LONG).unwrap(), Event::Changed);
        std::fs::remove_file(folder.0.join("old/a.yaml")).unwrap();
        assert_eq!(watch.next(LONG).unwrap(), Event::Changed);
    }

    #[test]
    fn a_file_is_watched_through_its_replacement_and_its_neighbours_are_not() {
        let folder = Folder::new("file");
        let file = folder.0.join("cluster.yaml");
        std::fs::write(&file, "1").unwrap();
        let mut watch = Watch::start(&[file.to_string_lossy().into_owned()]).unwrap();
        std::fs::write(folder.0.join("other"), "1").unwrap();
        assert_eq!(watch.next(SHORT).unwrap(), Event::TimeUp);
        for text in ["2", "3"] {
            let draft = folder.0.join("draft");
            std::fs::write(&draft, text).unwrap();
            std::fs::rename(&draft, &file).unwrap();
            assert_eq!(watch.next(LONG).unwrap(), Event::Changed);
        }
    }

    #[test]
    fn a_change_is_told_although_the_wait_for_it_was_over_before() {
        let folder = Folder::new("patience");
        let mut watch = Watch::start(&[folder.0.to_string_lossy().into_owned()]).unwrap();
        std::fs::write(folder.0.join("a.yaml"), "a").unwrap();
        assert_eq!(watch.next(SHORT).unwrap(), Event::TimeUp);
        assert_eq!(watch.next(LONG).unwrap(), Event::Changed);
        assert_eq!(watch.next(SHORT).unwrap(), Event::TimeUp);
    }

    #[test]
    fn standard_input_cannot_be_watched() {
        assert!(Watch::start(&["-".to_owned()]).is_err());
    }
}
