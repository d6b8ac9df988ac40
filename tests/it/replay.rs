//! What a real API server said (`testdata/api-server`), said again to whoever asks the same.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::http::{self, Asked};

/// One request with its response.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// Method, path with query, version.
    pub(crate) request: String,
    /// What was sent with it.
    sent: Option<Value>,
    status: u16,
    /// The lines of the response.
    pub(crate) lines: Vec<String>,
}

/// The exchanges of a recording, in their order.
pub(crate) fn exchanges(name: &str) -> Vec<Exchange> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/api-server").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let exchange = |text: &str| {
        let mut lines = text.lines().map(str::to_owned).peekable();
        let request = lines.next().unwrap();
        let sent = lines.next_if(|line| line.starts_with('{'));
        let status = lines.next().unwrap().parse().unwrap();
        let sent = sent.map(|sent| serde_json::from_str(&sent).unwrap());
        Exchange { request, sent, status, lines: lines.collect() }
    };
    text.split("\n\n").map(exchange).collect()
}

/// What is left to say, by the line of the request.
type Left = BTreeMap<String, VecDeque<Exchange>>;

/// A server that answers the n-th time that something is asked as the real one did then. To what was not asked of that one, or
/// not so often, it listens and says nothing.
pub(crate) struct Replay {
    pub(crate) address: SocketAddr,
    left: Arc<Mutex<Left>>,
}

impl Replay {
    /// One that says what is in a recording.
    pub(crate) fn of(name: &str) -> Replay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut left = Left::new();
        for exchange in exchanges(name) {
            left.entry(exchange.request.clone()).or_default().push_back(exchange);
        }
        let left = Arc::new(Mutex::new(left));
        http::answer(listener, &left, serve);
        Replay { address, left }
    }

    /// What has not been asked for.
    pub(crate) fn left(&self) -> Vec<String> {
        let left = self.left.lock().unwrap();
        left.values().flatten().map(|exchange| exchange.request.clone()).collect()
    }
}

fn serve(mut stream: &TcpStream, left: &Mutex<Left>) -> std::io::Result<()> {
    let Some(Asked { line, body, .. }) = http::read(stream)? else { return Ok(()) };
    let next = left.lock().unwrap().get_mut(&line).and_then(VecDeque::pop_front);
    let same = next.filter(|exchange| match &exchange.sent {
        Some(sent) => without_names(sent.clone()) == without_names(serde_json::from_slice(&body).unwrap()),
        None => body.is_empty(),
    });
    let Some(exchange) = same else {
        stream.read_to_end(&mut Vec::new())?;
        return Ok(());
    };
    write!(
        stream,
        "HTTP/1.1 {} Recorded\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        exchange.status
    )?;
    for line in &exchange.lines {
        write!(stream, "{:x}\r\n{line}\n\r\n", line.len() + 1)?;
    }
    stream.write_all(b"0\r\n\r\n")
}

/// An Event without what is another each time.
fn without_names(mut event: Value) -> Value {
    event["metadata"]["name"].take();
    event["eventTime"].take();
    event
}
