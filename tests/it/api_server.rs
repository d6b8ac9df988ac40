//! An API server for tests: objects in memory that are listed by pages, or as a stream, and watched; with the troubles that a
//! real one has, on demand: cut connections, versions that are forgotten, events in pieces and twice, no answers at all. Its
//! bookmarks and refusals are those that a real one sent (`testdata/api-server`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{self, Asked};
use crate::replay;

/// How long a request may be waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a node may take to come in step, on a machine that has much else to do.
const SETTLED: Duration = Duration::from_secs(120);
/// How often a watch looks whether its client is still there.
const IDLE: Duration = Duration::from_millis(500);

/// What it does otherwise than a server at its best.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Habits {
    /// It refuses lists as streams, as servers before 1.27 do.
    pub(crate) no_streaming_lists: bool,
    /// It sends every event twice.
    pub(crate) twice: bool,
    /// It sends events in pieces of so many bytes.
    pub(crate) piece: Option<usize>,
    /// It lets nobody create objects.
    pub(crate) refuses_writes: bool,
}

#[derive(Default)]
struct State {
    habits: Habits,
    version: u64,
    /// By collection, then by namespace and name.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// What has happened: version, collection, type, object.
    events: Vec<(u64, String, &'static str, Value)>,
    /// Who asks for what came before this is told that it is gone.
    oldest: u64,
    /// Watches of an older generation are cut.
    generation: u64,
    /// Whether it answers nobody.
    is_down: bool,
    /// The requests that came, each with its line and by whose authority it says it is.
    requests: Vec<String>,
}

/// The server.
pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl ApiServer {
    /// One that serves on a listener.
    pub(crate) fn on(listener: TcpListener, habits: Habits) -> ApiServer {
        let address = listener.local_addr().unwrap();
        let state = State { habits, version: 1, ..State::default() };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        http::answer(listener, &shared, serve);
        ApiServer { address, shared }
    }

    /// One on a loopback port.
    pub(crate) fn start(habits: Habits) -> ApiServer {
        ApiServer::on(TcpListener::bind("127.0.0.1:0").unwrap(), habits)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.0.lock().unwrap());
        self.shared.1.notify_all();
    }

    /// Creates or changes an object; `json` needs no version.
    pub(crate) fn put(&self, collection: &str, mut object: Value) {
        self.change(|state| {
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            object["metadata"]["uid"] = json!(uid(&object));
            let of_kind = state.objects.entry(collection.to_owned()).or_default();
            let old = of_kind.insert(key(&object), object.clone());
            let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
            state.events.push((state.version, collection.to_owned(), kind, object));
        });
    }

    /// Deletes an object, if it is there.
    pub(crate) fn delete(&self, collection: &str, name: &str) {
        self.change(|state| {
            let Some(mut object) = state.objects.get_mut(collection).and_then(|of_kind| of_kind.remove(name))
            else {
                return;
            };
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.events.push((state.version, collection.to_owned(), "DELETED", object));
        });
    }

    /// All objects of a collection.
    pub(crate) fn objects(&self, collection: &str) -> Vec<Value> {
        let state = self.shared.0.lock().unwrap();
        state.objects.get(collection).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Cuts all watches in the middle of what they say.
    pub(crate) fn cut(&self) {
        self.change(|state| state.generation += 1);
    }

    /// Forgets what has happened until now: whoever goes on from there must list anew.
    pub(crate) fn forget(&self) {
        self.change(|state| {
            state.version += 1;
            state.oldest = state.version;
            state.generation += 1;
        });
    }

    /// Changes something while nobody watches, and forgets it.
    pub(crate) fn change_unseen(&self, change: impl FnOnce(&ApiServer)) {
        self.set_down(true);
        change(self);
        self.forget();
        self.set_down(false);
    }

    /// Answers nobody, or everybody again.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.change(|state| {
            state.is_down = is_down;
            state.generation += 1;
        });
    }

    /// Waits until a request has come that contains all of these texts; all requests until then.
    pub(crate) fn wait_for(&self, texts: &[&str]) -> Vec<String> {
        let has_come = |state: &State| {
            state.requests.iter().any(|request| texts.iter().all(|text| request.contains(text)))
        };
        let (state, _) = self
            .shared
            .1
            .wait_timeout_while(self.shared.0.lock().unwrap(), LIMIT, |state| !has_come(state))
            .unwrap();
        assert!(has_come(&state), "no request with {texts:?} in {:#?}", state.requests);
        state.requests.clone()
    }

    /// Forgets which requests have come.
    pub(crate) fn forget_requests(&self) {
        self.change(|state| state.requests.clear());
    }
}

/// What tells an object from others that had or will have its name; here there is but one of each.
pub(crate) fn uid(object: &Value) -> String {
    format!("uid-of-{}", key(object))
}

fn key(object: &Value) -> String {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    match text("namespace") {
        "" => text("name").to_owned(),
        namespace => format!("{namespace}/{}", text("name")),
    }
}

/// What a request asks for.
struct Request {
    method: String,
    collection: String,
    /// What a path names within its collection.
    name: String,
    query: BTreeMap<String, String>,
}

impl Request {
    fn parse(line: &str) -> Request {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
        let mut parts =
            path.trim_start_matches('/').split('/').skip_while(|part| *part != "v1").skip(1).peekable();
        if parts.peek() == Some(&"namespaces") {
            parts.nth(1);
        }
        let mut part = || parts.next().unwrap_or_default().to_owned();
        Request { method: method.to_owned(), collection: part(), name: part(), query }
    }

    fn get(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    fn selects(&self, object: &Value) -> bool {
        let labels = self.get("labelSelector").split(',').filter(|term| !term.is_empty());
        let without = |term: &str| object["metadata"]["labels"].get(term.trim_start_matches('!')).is_none();
        let fields = match self.get("fieldSelector") {
            "" => true,
            "spec.clusterIP!=None" => object["spec"]["clusterIP"] != "None",
            name => name == format!("metadata.name={}", object["metadata"]["name"].as_str().unwrap()),
        };
        labels.into_iter().all(without) && fields
    }
}

/// Without the escapes of a URL.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = tail;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn serve(stream: &TcpStream, shared: &(Mutex<State>, Condvar)) -> std::io::Result<()> {
    let Some(Asked { line, headers, body }) = http::read(stream)? else { return Ok(()) };
    let request = Request::parse(&line);
    let mut state = shared.0.lock().unwrap();
    if state.is_down {
        return Ok(());
    }
    let authorization = headers.get("authorization").map_or("", String::as_str);
    state.requests.push(format!("{line} {authorization}"));
    shared.1.notify_all();
    if request.method != "GET" {
        let answer = write(&request, &body, &mut state);
        shared.1.notify_all();
        respond(stream, answer.0, &answer.1)
    } else if request.get("watch") == "true" {
        watch(stream, &request, state, shared)
    } else {
        list(stream, &request, &state)
    }
}

fn respond(mut stream: &TcpStream, status: &str, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Creates an object, or merges a patch into one.
fn write(request: &Request, body: &[u8], state: &mut State) -> (&'static str, Value) {
    let Request { method, collection, name, .. } = request;
    if state.habits.refuses_writes {
        return ("403 Forbidden", refusal(403));
    }
    let mut object: Value = serde_json::from_slice(body).unwrap();
    let of_kind = state.objects.entry(collection.clone()).or_default();
    match (method.as_str(), of_kind.values_mut().find(|object| object["metadata"]["name"] == **name)) {
        ("POST", _) => {
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            of_kind.insert(key(&object), object.clone());
            ("201 Created", object)
        }
        ("PATCH", Some(old)) => {
            let fields = object.as_object_mut().unwrap();
            old.as_object_mut().unwrap().append(&mut std::mem::take(fields));
            ("200 OK", old.clone())
        }
        _ => panic!("nobody asks for {method} {collection}/{name}"),
    }
}

/// All that a real server said, each with the collection that was asked for.
static RECORDED: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| {
    let all = ["streams.http", "pages.http"].into_iter().flat_map(replay::exchanges);
    let said = all.flat_map(|exchange| {
        let collection = Request::parse(&exchange.request).collection;
        let line = move |line: &String| (collection.clone(), serde_json::from_str(line).unwrap());
        exchange.lines.iter().map(line).collect::<Vec<_>>()
    });
    said.collect()
});

/// Why a real server refused something.
fn refusal(code: u16) -> Value {
    let status = |said: &'static Value| if said["type"] == "ERROR" { &said["object"] } else { said };
    let mut statuses = RECORDED.iter().map(|(_, said)| status(said));
    statuses.find(|status| status["kind"] == "Status" && status["code"] == code).unwrap().clone()
}

fn list(stream: &TcpStream, request: &Request, state: &State) -> std::io::Result<()> {
    let none = BTreeMap::new();
    let of_kind = state.objects.get(&request.collection).unwrap_or(&none);
    let selected: Vec<&Value> = of_kind.values().filter(|object| request.selects(object)).collect();
    let from: usize = request.get("continue").parse().unwrap_or(0);
    let limit: usize = request.get("limit").parse().unwrap_or(usize::MAX);
    let page: Vec<&Value> = selected.iter().skip(from).take(limit).copied().collect();
    let mut metadata = json!({"resourceVersion": state.version.to_string()});
    if from + page.len() < selected.len() {
        metadata["continue"] = json!((from + page.len()).to_string());
    }
    respond(
        stream,
        "200 OK",
        &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page}),
    )
}

fn watch<'s>(
    stream: &TcpStream,
    request: &Request,
    state: MutexGuard<'s, State>,
    shared: &'s (Mutex<State>, Condvar),
) -> std::io::Result<()> {
    let generation = state.generation;
    let initial = request.get("sendInitialEvents") == "true";
    if initial && state.habits.no_streaming_lists {
        return respond(stream, "422 Unprocessable Entity", &refusal(422));
    }
    let mut out = Out { stream, habits: state.habits };
    let mut pending: Vec<Value> = Vec::new();
    let mut version: u64 = request.get("resourceVersion").parse().unwrap_or(0);
    if initial {
        let of_kind = state.objects.get(&request.collection).into_iter().flat_map(BTreeMap::values);
        let selected = of_kind.filter(|object| request.selects(object));
        pending.extend(selected.map(|object| event("ADDED", object)));
        pending.push(bookmark(&request.collection, state.version, true));
        version = state.version;
    } else if version < state.oldest {
        pending.push(event("ERROR", &refusal(410)));
    }
    drop(state);
    out.head()?;
    loop {
        let ends = pending.iter().any(|event| event["type"] == "ERROR");
        for event in pending.drain(..) {
            out.event(&event)?;
        }
        if ends {
            return out.end();
        }
        let has_news = |state: &State| state.version > version || state.generation != generation;
        let guard = shared.0.lock().unwrap();
        let (state, waited) = shared.1.wait_timeout_while(guard, IDLE, |state| !has_news(state)).unwrap();
        if state.generation != generation || is_closed(stream) {
            return Ok(());
        }
        let news = state
            .events
            .iter()
            .filter(|(of, collection, ..)| *of > version && *collection == request.collection);
        let news = news.filter(|(.., object)| request.selects(object));
        pending.extend(news.map(|(_, _, kind, object)| event(kind, object)));
        version = state.version;
        if pending.is_empty() && !waited.timed_out() {
            pending.push(bookmark(&request.collection, version, false));
        }
    }
}

fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut byte = [0];
    let read = (&mut &*stream).read(&mut byte);
    stream.set_nonblocking(false).unwrap();
    matches!(read, Ok(0))
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

/// A bookmark of a real server, with another version.
fn bookmark(collection: &str, version: u64, ends_list: bool) -> Value {
    let mut of = RECORDED.iter().filter(|(of, said)| of == collection && said["type"] == "BOOKMARK");
    let mut bookmark = of.next().unwrap().1.clone();
    let metadata = bookmark["object"]["metadata"].as_object_mut().unwrap();
    metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
    // The first one of each collection ends a list.
    if !ends_list {
        assert!(metadata.remove("annotations").is_some());
    }
    bookmark
}

/// A response in chunks.
struct Out<'s> {
    stream: &'s TcpStream,
    habits: Habits,
}

impl Out<'_> {
    fn head(&mut self) -> std::io::Result<()> {
        write!(
            self.stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
    }

    /// A line for an event. The type comes first, as a real server has it.
    fn event(&mut self, event: &Value) -> std::io::Result<()> {
        let line = format!("{{\"type\":{},\"object\":{}}}\n", event["type"], event["object"]);
        let times = if self.habits.twice && event["type"] != "ERROR" { 2 } else { 1 };
        for _ in 0..times {
            for piece in line.as_bytes().chunks(self.habits.piece.unwrap_or(line.len())) {
                write!(self.stream, "{:x}\r\n", piece.len())?;
                self.stream.write_all(piece)?;
                self.stream.write_all(b"\r\n")?;
                self.stream.flush()?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.stream.write_all(b"0\r\n\r\n")
    }
}

/// A Service of namespace `shop` with one port.
pub(crate) fn service(name: &str, cluster_ip: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"},
           "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ipFamilies": ["IPv4"],
                    "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]}})
}

/// A slice of a Service of namespace `shop`.
pub(crate) fn slice(name: &str, service: &str, addresses: &BTreeSet<String>) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": "node-1"}))
        .collect();
    json!({"metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
           "addressType": "IPv4", "endpoints": endpoints,
           "ports": [{"name": "http", "protocol": "TCP", "port": 8080}]})
}

/// The Node of the tests.
pub(crate) fn node() -> Value {
    json!({"metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "a"}},
           "spec": {"podCIDRs": ["10.128.1.0/24"]},
           "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})
}

/// Waits until something is so.
pub(crate) fn until(mut is_so: impl FnMut() -> Result<(), String>) {
    let began = Instant::now();
    loop {
        let Err(why) = is_so() else { return };
        assert!(began.elapsed() < SETTLED, "{why}");
        std::thread::yield_now();
    }
}
