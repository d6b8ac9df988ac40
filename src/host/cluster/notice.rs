//! What the API server is told of objects: Events (`events.k8s.io/v1`), as `kubectl describe` shows them. Best effort: one that
//! cannot be sent is lost, and nobody waits for any.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::ListParams;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc::{Receiver, Sender};

use super::access::whole;
use super::document::Document;
use super::{ClusterEvent, Notice};

/// Who says it.
const CONTROLLER: &str = "svcproxy";
/// How long the name of who says it may be, in bytes (validation of `reportingInstance`).
const MAX_INSTANCE: usize = 128;
/// How long the text may be, in bytes (validation of `note`).
const MAX_NOTE: usize = 1024;
/// How long a server may take for one.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends one after the other, until nobody has more. Why the server takes none is told once for each of its reasons.
pub(super) async fn send(
    client: Client,
    node: &str,
    mut notices: Receiver<Notice>,
    sender: &Sender<ClusterEvent>,
) {
    let instance = Some(cut(node, MAX_INSTANCE).to_owned());
    let recorder = Recorder::new(client.clone(), Reporter { controller: CONTROLLER.to_owned(), instance });
    let mut told = BTreeSet::new();
    while let Some(notice) = notices.recv().await {
        let sent = tokio::time::timeout(LIMIT, publish(&client, &recorder, &notice)).await;
        let (status, words) = match sent {
            Ok(Ok(())) => continue,
            Ok(Err(kube::Error::Api(status))) => (Some(status.code), status.message.clone()),
            Ok(Err(error)) => (None, whole(&error)),
            Err(_) => (None, "it does not answer".to_owned()),
        };
        tracing::debug!("no Event about {} {}/{}: {words}", notice.resource, notice.namespace, notice.name);
        if told.insert(status) && sender.send(ClusterEvent::NotTaken(words)).await.is_err() {
            return;
        }
    }
}

/// Creates an Event, or counts one up that has been created for the same version of the object.
async fn publish(client: &Client, recorder: &Recorder, notice: &Notice) -> Result<(), kube::Error> {
    let api: Api<Document> = if notice.namespace.is_empty() {
        Api::all_with(client.clone(), &notice.resource)
    } else {
        Api::namespaced_with(client.clone(), &notice.namespace, &notice.resource)
    };
    // An Event is found by the UID of its object, which is nothing to keep for all objects. A list may be had: the account may
    // list what it watches.
    let named = ListParams::default().fields(&format!("metadata.name={}", notice.name)).match_any();
    let Some(object) = api.list_metadata(&named).await?.items.pop() else { return Ok(()) };
    let event = Event {
        type_: EventType::Warning,
        reason: notice.reason.to_owned(),
        note: Some(cut(&notice.note, MAX_NOTE).to_owned()),
        action: notice.action.to_owned(),
        secondary: None,
    };
    let mut regarding = object.object_ref(&notice.resource);
    regarding.resource_version.clone_from(&object.meta().resource_version);
    recorder.publish(&event, &regarding).await
}

/// The first bytes of a text, whole characters.
fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!((cut("abc", 3), cut("abc", 2), cut("aé", 2), cut("", 4)), ("abc", "ab", "a", ""));
    }
}
