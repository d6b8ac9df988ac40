//! The watch of an API server on its own: what is asked, what is told, and what becomes of cut connections, forgotten versions,
//! servers without streaming lists, and servers that are gone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use svcproxy::host::cluster::{ClusterEvent, ClusterOptions, ClusterResource, Notice};
use svcproxy::host::{Event, Host, LinuxHost};

use crate::api_server::{ApiServer, Habits, node, service, slice, uid};
use crate::live::Folder;
use crate::replay::Replay;

const LIMIT: Duration = Duration::from_secs(30);

/// Who watches a server, with what it has been told.
struct Watcher {
    host: LinuxHost,
    told: Vec<String>,
}

impl Watcher {
    fn of(server: &ApiServer) -> Watcher {
        Watcher::with(&ClusterOptions {
            kubeconfig: None,
            master: Some(server.url()),
            node: "node-1".to_owned(),
        })
    }

    fn with(options: &ClusterOptions) -> Watcher {
        let mut host = LinuxHost::new();
        host.watch(&[]).unwrap();
        host.watch_cluster(options).unwrap();
        Watcher { host, told: Vec::new() }
    }

    /// Waits until it has been told all of these; everything that it has been told since it was asked last.
    fn hears(&mut self, texts: &[&str]) -> Vec<String> {
        self.hears_often(texts, 1)
    }

    /// The same, each of them so often.
    fn hears_often(&mut self, texts: &[&str], times: usize) -> Vec<String> {
        let began = Instant::now();
        let n = |told: &[String], text: &str| told.iter().filter(|told| *told == text).count();
        while !texts.iter().all(|text| n(&self.told, text) >= times) {
            assert!(began.elapsed() < LIMIT, "not {texts:?} but {:#?}", self.told);
            if let Event::Cluster(events) = self.host.next_event(Duration::from_millis(100)).unwrap() {
                self.told.extend(events.into_iter().map(short));
            }
        }
        std::mem::take(&mut self.told)
    }
}

fn short(event: ClusterEvent) -> String {
    match event {
        ClusterEvent::ListBegins(resource) => format!("list of {resource}"),
        ClusterEvent::ListEnds(resource) => format!("end of {resource}"),
        ClusterEvent::Applied { resource, namespace, name, json } => {
            let object: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(object["metadata"]["name"], *name);
            format!("{resource} {namespace}/{name}")
        }
        ClusterEvent::Deleted { resource, namespace, name } => format!("no {resource} {namespace}/{name}"),
        ClusterEvent::Failed(resource, _) => format!("no answer for {resource}"),
        ClusterEvent::Recovered(resource) => format!("answers for {resource}"),
        ClusterEvent::NotTaken(_) => "takes no notice".to_owned(),
    }
}

const LISTED: [&str; 4] = ["end of services", "end of endpointslices", "end of nodes", "end of servicecidrs"];

fn filled(habits: Habits) -> ApiServer {
    let server = ApiServer::start(habits);
    server.put("services", service("web", "10.96.0.1"));
    server.put("services", service("headless", "None"));
    let mut foreign = service("foreign", "10.96.0.2");
    foreign["metadata"]["labels"] = serde_json::json!({"service.kubernetes.io/service-proxy-name": ""});
    server.put("services", foreign);
    server.put("endpointslices", slice("web-1", "web", &BTreeSet::from(["10.128.1.5".to_owned()])));
    let mut headless = slice("headless-1", "headless", &BTreeSet::new());
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = "".into();
    server.put("endpointslices", headless);
    server.put("nodes", node());
    let mut other = node();
    other["metadata"]["name"] = "node-2".into();
    server.put("nodes", other);
    server
}

#[test]
fn lists_come_as_streams_and_only_what_matters_is_asked_for() {
    let server = filled(Habits::default());
    let mut watcher = Watcher::of(&server);
    let told: BTreeSet<String> = watcher.hears(&LISTED).into_iter().collect();
    let objects: Vec<&String> = told.iter().filter(|told| told.contains('/')).collect();
    assert_eq!(objects, ["endpointslices shop/web-1", "nodes /node-1", "services shop/web"]);
    let requests = server.wait_for(&["servicecidrs"]);
    assert!(requests.iter().all(|request| request.contains("sendInitialEvents=true")), "{requests:#?}");
    assert!(requests.iter().all(|request| request.contains("allowWatchBookmarks=true")), "{requests:#?}");
    server.put("services", service("api", "10.96.0.3"));
    watcher.hears(&["services shop/api"]);
    server.delete("services", "shop/api");
    watcher.hears(&["no services shop/api"]);
}

#[test]
fn a_server_without_streaming_lists_is_asked_for_pages() {
    let server = filled(Habits { no_streaming_lists: true, piece: Some(7), ..Habits::default() });
    for i in 0..1200 {
        server.put("endpointslices", slice(&format!("web-{i}"), "web", &BTreeSet::new()));
    }
    let mut watcher = Watcher::of(&server);
    let told = watcher.hears(&LISTED);
    assert_eq!(told.iter().filter(|told| told.starts_with("endpointslices ")).count(), 1200);
    let requests = server.wait_for(&["continue=1000"]);
    assert!(requests.iter().filter(|request| request.contains("limit=500")).count() >= 3, "{requests:#?}");
    assert!(!told.iter().any(|told| told.starts_with("no answer")), "{told:#?}");
    // Events in pieces of seven bytes are whole for whoever is told.
    server.put("services", service("api", "10.96.0.3"));
    watcher.hears(&["services shop/api"]);
}

#[test]
fn after_a_cut_it_goes_on_and_after_a_forgotten_version_it_lists_anew() {
    let server = filled(Habits { twice: true, ..Habits::default() });
    let mut watcher = Watcher::of(&server);
    watcher.hears(&LISTED);
    server.forget_requests();
    server.cut();
    server.put("services", service("api", "10.96.0.3"));
    let told = watcher.hears(&["services shop/api"]);
    assert!(!told.iter().any(|told| told.starts_with("list of")), "{told:#?}");
    // What is gone while nobody watches is missing from the next list.
    server.wait_for(&["/services", "watch=true"]);
    server.change_unseen(|server| server.delete("services", "shop/api"));
    let told = watcher.hears(&["list of services", "end of services"]);
    let list = &told[told.iter().position(|told| told == "list of services").unwrap()..];
    assert!(list.contains(&"services shop/web".to_owned()), "{told:#?}");
    assert!(!list.contains(&"services shop/api".to_owned()), "{told:#?}");
}

#[test]
fn a_server_that_is_gone_is_told_once_and_found_again() {
    let server = filled(Habits::default());
    let mut watcher = Watcher::of(&server);
    watcher.hears(&LISTED);
    server.set_down(true);
    watcher.hears(&["no answer for services", "no answer for endpointslices", "no answer for nodes"]);
    server.put("services", service("api", "10.96.0.3"));
    server.set_down(false);
    let told = watcher.hears(&["answers for services", "services shop/api"]);
    assert!(!told.contains(&"no answer for services".to_owned()), "{told:#?}");
}

fn notice(name: &str, note: &str) -> Notice {
    Notice {
        resource: ClusterResource::Services,
        namespace: "shop".into(),
        name: name.into(),
        reason: "Invalid",
        action: "LeaveOut",
        note: note.to_owned(),
    }
}

#[test]
fn what_is_wrong_becomes_events_that_are_counted() {
    let server = filled(Habits::default());
    let mut watcher = Watcher::of(&server);
    watcher.hears(&LISTED);
    let mut report = |name: &str, note: &str| watcher.host.report_to_cluster(notice(name, note)).unwrap();
    // One of an object that is gone is of no use to anybody.
    report("nothing", "it has no port");
    report("web", &"é".repeat(600));
    report("web", "it has no port");
    server.wait_for(&["PATCH /apis/events.k8s.io/v1/namespaces/shop/events/web."]);
    let events = server.objects("events");
    let [event] = events.as_slice() else { panic!("{events:#?}") };
    let web =
        &server.objects("services").into_iter().find(|object| object["metadata"]["name"] == "web").unwrap();
    assert_eq!(event["regarding"]["uid"], uid(web));
    assert_eq!(event["regarding"]["kind"], "Service");
    assert_eq!(event["metadata"]["namespace"], "shop");
    assert_eq!((&event["type"], &event["reason"]), (&"Warning".into(), &"Invalid".into()));
    assert_eq!((&event["action"], &event["reportingInstance"]), (&"LeaveOut".into(), &"node-1".into()));
    // As much as the server takes.
    assert_eq!(event["note"].as_str().unwrap().len(), 1024);
    assert_eq!(event["series"]["count"], 2);
    // What is wrong with another version of it is another thing.
    server.put("services", service("web", "10.96.0.7"));
    server.forget_requests();
    report("web", "it has no port");
    server.wait_for(&["POST /apis/events.k8s.io/v1/namespaces/shop/events"]);
    assert_eq!(server.objects("events").len(), 2);
}

#[test]
fn a_server_that_takes_no_events_is_told_of_once() {
    let server = filled(Habits { refuses_writes: true, ..Habits::default() });
    let mut watcher = Watcher::of(&server);
    watcher.hears(&LISTED);
    // They are sent one after the other: when the third comes, all is done about the second.
    for _ in 0..3 {
        watcher.host.report_to_cluster(notice("web", "it has no port")).unwrap();
        server.wait_for(&["POST /apis/events.k8s.io/v1/namespaces/shop/events"]);
        server.forget_requests();
    }
    let told = watcher.hears(&["takes no notice"]);
    assert_eq!(told.iter().filter(|told| *told == "takes no notice").count(), 1, "{told:#?}");
    assert_eq!(server.objects("events"), Vec::<serde_json::Value>::new());
}

#[test]
fn a_kubeconfig_says_where_the_server_is_and_who_asks() {
    let server = filled(Habits::default());
    let folder = Folder::new();
    let token = folder.write("token", "secret");
    let kubeconfig = |server: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters: [{{name: one, cluster: {{server: \"{server}\"}}}}]\n\
             users: [{{name: node, user: {{tokenFile: \"{token}\"}}}}]\n\
             contexts: [{{name: here, context: {{cluster: one, user: node}}}}]\n"
        )
    };
    let by_file = folder.write("direct", &kubeconfig(&server.url()));
    let overridden = folder.write("elsewhere", &kubeconfig("http://192.0.2.99:1"));
    for (kubeconfig, master) in [(by_file, None), (overridden, Some(server.url()))] {
        server.forget_requests();
        let options = ClusterOptions { kubeconfig: Some(kubeconfig), master, node: "node-1".to_owned() };
        Watcher::with(&options).hears(&LISTED);
        let requests = server.wait_for(&["/services", "Bearer secret"]);
        assert!(requests.iter().all(|request| request.ends_with("Bearer secret")), "{requests:#?}");
    }
}

#[test]
fn what_cannot_be_reached_at_all_is_said_at_once() {
    let mut host = LinuxHost::new();
    let early = host.watch_cluster(&ClusterOptions::default());
    assert!(early.is_err(), "signals are waited for first");
    host.watch(&[]).unwrap();
    for (kubeconfig, master, said) in [
        (Some("/nowhere/config"), None, "`/nowhere/config`: "),
        (None, Some("nothing"), "`nothing` is no address like https://192.0.2.1:6443"),
        (None, None, "this is no pod of a cluster"),
    ] {
        let options = ClusterOptions {
            kubeconfig: kubeconfig.map(str::to_owned),
            master: master.map(str::to_owned),
            node: "node-1".to_owned(),
        };
        let error = host.watch_cluster(&options).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(ClusterResource::ALL.len(), 4);
}

/// What is told of a collection.
fn of<'t>(told: &'t [String], collection: &str) -> Vec<&'t str> {
    let is_of = |told: &&str| told.split(' ').any(|word| word == collection);
    told.iter().map(String::as_str).filter(is_of).collect()
}

fn replay(name: &str) -> (Replay, Watcher) {
    let server = Replay::of(name);
    let options = ClusterOptions {
        kubeconfig: None,
        master: Some(format!("http://{}", server.address)),
        node: "node-1".to_owned(),
    };
    (server, Watcher::with(&options))
}

fn about_broken() -> Notice {
    let note = "left out: Service shop/broken spec.ports[0].protocol: protocol cannot be `tcp`";
    notice("broken", note)
}

#[test]
fn a_recorded_server_is_understood() {
    let (server, mut watcher) = replay("streams.http");
    // It ends its streams after a bookmark, and has forgotten that version when it is back.
    let told = watcher.hears_often(&LISTED, 2);
    assert_eq!(
        of(&told, "services"),
        [
            "list of services",
            "services shop/api",
            "services shop/db",
            "services shop/web",
            "end of services",
            "services shop/cart",
            "no services shop/db",
            "services shop/broken",
            "list of services",
            "services shop/broken",
            "services shop/cart",
            "services shop/web",
            "end of services",
        ]
    );
    let slices = of(&told, "endpointslices");
    assert!(slices.contains(&"no endpointslices shop/db-x7k2p"), "{slices:#?}");
    assert_eq!(
        slices[slices.len() - 4..],
        [
            "list of endpointslices",
            "endpointslices shop/cart-x7k2p",
            "endpointslices shop/web-x7k2p",
            "end of endpointslices",
        ]
    );
    assert!(!told.iter().any(|told| told.starts_with("no answer")), "{told:#?}");
    // The Event is the recorded one, or nothing would be answered.
    watcher.host.report_to_cluster(about_broken()).unwrap();
    crate::api_server::until(|| {
        if server.left().is_empty() { Ok(()) } else { Err(format!("{:#?}", server.left())) }
    });
}

#[test]
fn a_recorded_server_without_streaming_lists_is_understood() {
    let (server, mut watcher) = replay("pages.http");
    let told =
        watcher.hears(&["services shop/broken", "no endpointslices shop/db-x7k2p", LISTED[2], LISTED[3]]);
    assert_eq!(
        of(&told, "services"),
        [
            "list of services",
            "services shop/api",
            "services shop/db",
            "services shop/web",
            "end of services",
            "services shop/cart",
            "no services shop/db",
            "services shop/broken",
        ]
    );
    assert!(!told.iter().any(|told| told.starts_with("no answer")), "{told:#?}");
    watcher.host.report_to_cluster(about_broken()).unwrap();
    watcher.hears(&["takes no notice"]);
    assert_eq!(server.left(), Vec::<String>::new());
}
