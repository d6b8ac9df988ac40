//! The watches: each lists its collection and follows it, over cut connections, forgotten versions and servers that are gone.
//!
//! kube's watcher does that: it asks for bookmarks, goes on from the last version, and lists again when that is too old (410).
//! How long is waited after a failure is decided here.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender};

use super::access::whole;
use super::document::Document;
use super::{ClusterEvent, ClusterResource, Notice, notice};

/// Whoever has this label asks to be left to another proxy (reference section 1.1).
const NO_OTHER_PROXY: &str = "!service.kubernetes.io/service-proxy-name";
/// Slices with this label are those of headless Services.
const NOT_HEADLESS: &str = "!service.kubernetes.io/headless";
/// Services that have an address, or will have one.
const WITH_CLUSTER_IP: &str = "spec.clusterIP!=None";

/// When a server that did not answer has not failed again for so long, it answers, though nothing has changed there. Longer than
/// an attempt to connect may take, 30 s.
const CALM: Duration = Duration::from_secs(45);
/// The longest wait between two attempts.
const LONGEST: Duration = Duration::from_secs(30);

/// How long is waited after a failure: longer after each one (0.8 s to 30 s, with jitter, as client-go does).
#[derive(Default)]
struct Patience {
    delays: DefaultBackoff,
    /// Whether the last answer was that a version is too old.
    has_expired: bool,
}

impl Patience {
    /// The server answers as it should.
    fn answered(&mut self) {
        self.delays.reset();
        self.has_expired = false;
    }

    /// The wait before the next attempt, after an error with this HTTP status. A version that is too old is no failure, and what
    /// is known is old, too: the list begins at once. Not again and again, though.
    fn delay(&mut self, status: Option<u16>) -> Duration {
        if is_expired(status) && !std::mem::replace(&mut self.has_expired, true) {
            self.delays.reset();
            return Duration::ZERO;
        }
        self.delays.next().unwrap_or(LONGEST)
    }
}

/// Whether a version is too old to go on from.
fn is_expired(status: Option<u16>) -> bool {
    status == Some(410)
}

/// Why a watch ended.
enum End {
    /// Nobody takes events.
    Unheard,
    /// The server does not send lists as streams.
    NoStreamingLists,
    /// The server does not have the collection, or does not show it, and that is fine.
    NotThere,
}

/// Watches all collections until nobody takes events, and sends notices.
pub(super) async fn all(client: Client, node: &str, sender: Sender<ClusterEvent>, notices: Receiver<Notice>) {
    // Where one collection comes from again, the others are asked for at once.
    let is_back = Notify::new();
    let watches = ClusterResource::ALL.map(|resource| {
        let to = Outlet { sender: &sender, is_back: &is_back };
        follow(client.clone(), resource, node, to)
    });
    tokio::select! {
        _ = join_all(watches) => {}
        () = notice::send(client.clone(), node, notices, &sender) => {}
        () = sender.closed() => {}
    }
}

/// Who is told of what a watch finds.
#[derive(Clone, Copy)]
struct Outlet<'a> {
    /// Who takes the events.
    sender: &'a Sender<ClusterEvent>,
    /// The other watches.
    is_back: &'a Notify,
}

async fn follow(client: Client, resource: ClusterResource, node: &str, to: Outlet<'_>) {
    let api: Api<Document> = Api::all_with(client, &resource);
    let config = match resource {
        ClusterResource::Services => {
            watcher::Config::default().labels(NO_OTHER_PROXY).fields(WITH_CLUSTER_IP)
        }
        ClusterResource::EndpointSlices => watcher::Config::default().labels(NOT_HEADLESS),
        ClusterResource::Nodes => watcher::Config::default().fields(&format!("metadata.name={node}")),
        ClusterResource::ServiceCidrs => watcher::Config::default(),
    };
    let end = pass_on(api.clone(), config.clone().streaming_lists(), resource, to).await;
    if matches!(end, End::NoStreamingLists) {
        tracing::debug!("the API server sends no streaming lists of {resource}: pages are asked for");
        pass_on(api, config, resource, to).await;
    }
}

/// Passes on what a watch tells until it ends.
async fn pass_on(
    api: Api<Document>,
    config: watcher::Config,
    resource: ClusterResource,
    Outlet { sender, is_back }: Outlet<'_>,
) -> End {
    let may_be_refused = config.initial_list_strategy == watcher::InitialListStrategy::StreamingList;
    let mut events = std::pin::pin!(watcher(api, config));
    let mut patience = Patience::default();
    let (mut answers, mut fails) = (false, false);
    loop {
        let limit = if fails { CALM } else { Duration::MAX };
        let Ok(event) = tokio::time::timeout(limit, events.next()).await else {
            fails = false;
            if sender.send(ClusterEvent::Recovered(resource)).await.is_err() {
                return End::Unheard;
            }
            continue;
        };
        // It has no end of its own.
        let Some(event) = event else { return End::Unheard };
        let passed = match event {
            // Of pages it is said before the server is asked.
            Ok(Event::Init) => sender.send(ClusterEvent::ListBegins(resource)).await,
            Ok(event) => {
                answers = true;
                patience.answered();
                let recovered = if std::mem::take(&mut fails) {
                    is_back.notify_waiters();
                    sender.send(ClusterEvent::Recovered(resource)).await
                } else {
                    Ok(())
                };
                match recovered {
                    Ok(()) => sender.send(converted(event, resource)).await,
                    Err(closed) => Err(closed),
                }
            }
            Err(error) => {
                let status = status(&error);
                if may_be_refused && !answers && matches!(status, Some(400 | 422)) {
                    return End::NoStreamingLists;
                }
                if resource == ClusterResource::ServiceCidrs && matches!(status, Some(403 | 404)) {
                    tracing::debug!("no ServiceCIDRs: {}", whole(&error));
                    return End::NotThere;
                }
                let words = whole(&error);
                tracing::debug!("watch of {resource}: {words}");
                let passed = if is_expired(status) || std::mem::replace(&mut fails, true) {
                    Ok(())
                } else {
                    sender.send(ClusterEvent::Failed(resource, words)).await
                };
                tokio::select! {
                    () = tokio::time::sleep(patience.delay(status)) => {}
                    () = is_back.notified() => {}
                }
                passed
            }
        };
        if passed.is_err() {
            return End::Unheard;
        }
    }
}

/// The HTTP status of an error of the server.
fn status(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    }
}

fn converted(event: Event<Document>, resource: ClusterResource) -> ClusterEvent {
    let names = |document: &Document| {
        let meta = document.meta();
        let text = |text: &Option<String>| text.clone().unwrap_or_default().into_boxed_str();
        (text(&meta.namespace), text(&meta.name))
    };
    match event {
        Event::Init => ClusterEvent::ListBegins(resource),
        Event::InitDone => ClusterEvent::ListEnds(resource),
        Event::InitApply(document) | Event::Apply(document) => {
            let (namespace, name) = names(&document);
            ClusterEvent::Applied { resource, namespace, name, json: Box::<str>::from(document.json) }
        }
        Event::Delete(document) => {
            let (namespace, name) = names(&document);
            ClusterEvent::Deleted { resource, namespace, name }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_but_a_version_that_is_too_old_needs_none() {
        let mut patience = Patience::default();
        let first = patience.delay(None);
        assert!((Duration::from_millis(800)..=Duration::from_millis(1600)).contains(&first), "{first:?}");
        let seventh = (0..6).map(|_| patience.delay(Some(500))).last().unwrap();
        assert!(seventh >= LONGEST, "{seventh:?}");
        // The server is back, and has forgotten; then again: something else is wrong with it.
        assert_eq!(patience.delay(Some(410)), Duration::ZERO);
        let again = patience.delay(Some(410));
        assert!((Duration::from_millis(800)..=Duration::from_millis(1600)).contains(&again), "{again:?}");
        patience.answered();
        assert_eq!(patience.delay(Some(410)), Duration::ZERO);
    }
}
