//! Which objects of the API server are left out, and when the server is told why: once for each change of what is wrong with one,
//! not for each list that has it.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Severity};
use crate::host::cluster::{ClusterResource, Notice};
use crate::manifest::ObjectKey;
use crate::model::ServiceName;

/// What is wrong with objects, by where they are.
type Words = BTreeMap<(ClusterResource, ObjectKey), String>;

/// What is wrong, as the server has been told.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// Of what cannot be read.
    invalid: Words,
    /// The same, of collections that are being listed anew and as far as they have not come again.
    before: Words,
    /// Of Services that the machine refuses.
    refused: BTreeMap<ServiceName, String>,
}

impl Troubles {
    /// How many Services are left out.
    pub(super) fn n_services(&self) -> usize {
        let is_service =
            |(resource, _): &&(ClusterResource, ObjectKey)| *resource == ClusterResource::Services;
        self.invalid.keys().chain(self.before.keys()).filter(is_service).count() + self.refused.len()
    }

    /// A list begins: what is not in it is gone at its end.
    pub(super) fn begin_list(&mut self, resource: ClusterResource) {
        let invalid = std::mem::take(&mut self.invalid);
        let (listed, others): (Words, Words) = invalid.into_iter().partition(|((of, _), _)| *of == resource);
        self.invalid = others;
        self.before.extend(listed);
    }

    /// The list is complete.
    pub(super) fn end_list(&mut self, resource: ClusterResource) {
        self.before.retain(|(of, _), _| *of != resource);
    }

    /// An object has been read. What the server is to be told, if that is news.
    pub(super) fn read(
        &mut self,
        resource: ClusterResource,
        key: &ObjectKey,
        said: &[Diagnostic],
    ) -> Option<Notice> {
        let place = (resource, key.clone());
        let before = self.before.remove(&place).or_else(|| self.invalid.remove(&place));
        let errors = said.iter().filter(|said| said.severity == Severity::Error);
        let words: Vec<String> = errors.map(words).collect();
        if words.is_empty() {
            return None;
        }
        let words = words.join("; ");
        self.invalid.insert(place, words.clone());
        (before.as_ref() != Some(&words)).then(|| Notice {
            resource,
            namespace: (*key.namespace).into(),
            name: (*key.name).into(),
            reason: "Invalid",
            action: "LeaveOut",
            note: format!("left out: {words}"),
        })
    }

    /// An object is gone.
    pub(super) fn forget(&mut self, resource: ClusterResource, key: &ObjectKey) {
        self.invalid.remove(&(resource, key.clone()));
    }

    /// These Services, and no others, are refused by the machine. What the server is to be told that is news.
    pub(super) fn refuse(&mut self, services: &BTreeMap<ServiceName, String>) -> Vec<Notice> {
        let news = services.iter().filter(|(name, words)| self.refused.get(*name) != Some(*words));
        let notices = news.map(|(name, words)| Notice {
            resource: ClusterResource::Services,
            namespace: (*name.namespace).into(),
            name: (*name.name).into(),
            reason: "Refused",
            action: "SetAside",
            note: format!("set aside until it changes: {words}"),
        });
        let notices = notices.collect();
        self.refused.clone_from(services);
        notices
    }
}

/// What is wrong, and with which part of the object.
fn words(said: &Diagnostic) -> String {
    match &said.object {
        Some(object) => format!("{object}: {}", said.message),
        None => said.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: ClusterResource = ClusterResource::Services;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "shop".into(), name: name.into() }
    }

    fn bad(message: &str) -> [Diagnostic; 2] {
        let note = Diagnostic::note("other", "nothing is wrong with that");
        [Diagnostic::error("bad", message).about("Service shop/web spec"), note]
    }

    #[test]
    fn what_is_wrong_is_told_when_it_changes() {
        let mut troubles = Troubles::default();
        let web = key("web");
        let told = troubles.read(SERVICES, &web, &bad("no port")).unwrap();
        assert_eq!((&*told.namespace, &*told.name), ("shop", "web"));
        assert_eq!(told.note, "left out: Service shop/web spec: no port");
        assert_eq!(troubles.read(SERVICES, &web, &bad("no port")), None);
        assert!(troubles.read(SERVICES, &web, &bad("no name")).is_some());
        assert_eq!(troubles.n_services(), 1);
        assert_eq!(troubles.read(SERVICES, &web, &[]), None);
        assert_eq!(troubles.n_services(), 0);
        assert!(troubles.read(SERVICES, &web, &bad("no name")).is_some());
        troubles.forget(SERVICES, &web);
        assert!(troubles.read(SERVICES, &web, &bad("no name")).is_some());
    }

    #[test]
    fn a_list_tells_nothing_anew_and_what_is_not_in_it_is_gone() {
        let mut troubles = Troubles::default();
        let (web, api) = (key("web"), key("api"));
        for key in [&web, &api] {
            assert!(troubles.read(SERVICES, key, &bad("no port")).is_some());
        }
        troubles.begin_list(SERVICES);
        assert_eq!(troubles.read(SERVICES, &web, &bad("no port")), None);
        // The end of another list is none of its business.
        troubles.end_list(ClusterResource::EndpointSlices);
        assert_eq!(troubles.n_services(), 2);
        troubles.end_list(SERVICES);
        assert_eq!(troubles.n_services(), 1);
        assert!(troubles.read(SERVICES, &api, &bad("no port")).is_some());
    }

    #[test]
    fn a_refusal_is_told_once_while_it_lasts() {
        let mut troubles = Troubles::default();
        let name = ServiceName { namespace: "shop".into(), name: "web".into() };
        let refused = BTreeMap::from([(name, "no such thing".to_owned())]);
        let told = troubles.refuse(&refused);
        assert_eq!((told.len(), told[0].reason), (1, "Refused"));
        assert_eq!(told[0].note, "set aside until it changes: no such thing");
        assert_eq!(troubles.refuse(&refused), []);
        assert_eq!(troubles.refuse(&BTreeMap::new()), []);
        assert_eq!(troubles.refuse(&refused).len(), 1);
    }
}
