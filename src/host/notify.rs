//! What a service manager (systemd) is told: a datagram to the socket that it has named, as sd_notify(3) describes.
#![allow(clippy::disallowed_methods, reason = "host is the folder with IO")]

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::error::HostError;

/// Tells how this process is, as `READY=1`. Without a service manager it does nothing.
pub(super) fn notify(state: &str) -> Result<(), HostError> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return Ok(()) };
    send(path.as_bytes(), state).map_err(|error| HostError::io("notify the service manager", &error))
}

/// A path that begins with `@` is a name in the abstract namespace.
fn send(path: &[u8], state: &str) -> std::io::Result<()> {
    let address = match path {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_are_told() {
        let name = format!("svcproxy-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let sockets = [
            (path.as_os_str().as_bytes().to_vec(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{name}").into_bytes(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            ),
        ];
        for (address, socket) in sockets {
            send(&address, "READY=1").unwrap();
            let mut buffer = [0; 32];
            let n = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(send(path.as_os_str().as_bytes(), "READY=1").is_err(), "nobody listens");
    }
}
