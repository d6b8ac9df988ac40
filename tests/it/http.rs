//! The server's side of HTTP, as far as servers of tests need it: one request a connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// A request.
pub(crate) struct Asked {
    /// Method, path with query, version.
    pub(crate) line: String,
    /// By their names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// Reads a request; `None` if its client went away before all of it was there.
pub(crate) fn read(stream: &TcpStream) -> std::io::Result<Option<Asked>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        match reader.read_line(&mut header)? {
            0 => return Ok(None),
            1 | 2 => break,
            _ => {}
        }
        if let Some((name, value)) = header.trim_end().split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Asked { line: line.trim_end().to_owned(), headers, body }))
}

/// Has every connection answered on a thread of its own, until nobody holds the state of the server any more.
pub(crate) fn answer<S: Send + Sync + 'static>(
    listener: TcpListener,
    state: &Arc<S>,
    serve: fn(&TcpStream, &S) -> std::io::Result<()>,
) {
    let of_thread = Arc::downgrade(state);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Some(state), Ok(stream)) = (of_thread.upgrade(), stream) else { return };
            std::thread::spawn(move || {
                // A client that goes away is no failure.
                let _ = serve(&stream, &state);
            });
        }
    });
}
