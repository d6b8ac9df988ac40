//! Kernel settings below /proc/sys; those of the network belong to the calling thread's network namespace.
#![allow(clippy::disallowed_methods, reason = "host is the folder with IO")]

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use super::error::{HostError, HostErrorKind};

/// The value, or `None` if the kernel has no such setting.
pub(super) fn read(key: &str) -> Result<Option<String>, HostError> {
    let action = || format!("read the kernel setting `{key}`");
    match fs::read_to_string(path(key, action)?) {
        Ok(text) => Ok(Some(text.trim_end_matches('\n').to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HostError::io(action(), &error)),
    }
}

/// Sets it; never makes a file.
pub(super) fn write(key: &str, value: &str) -> Result<(), HostError> {
    let action = || format!("set the kernel setting `{key}` to `{value}`");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(path(key, action)?)
        .map_err(|error| HostError::io(action(), &error))?;
    file.write_all(value.as_bytes()).map_err(|error| HostError::io(action(), &error))
}

fn path(key: &str, action: impl Fn() -> String) -> Result<PathBuf, HostError> {
    if key.is_empty() || key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(HostError::new(action(), HostErrorKind::Other, "it is no name below /proc/sys"));
    }
    Ok(PathBuf::from("/proc/sys").join(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_below_proc_sys() {
        for bad in ["", "/etc/passwd", "../cmdline", "net/../../cmdline", "net//ipv4"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read("net/no_such_setting"), Ok(None));
        assert!(read("kernel/ostype").is_ok_and(|value| value.as_deref() == Some("Linux")));
        assert_eq!(write("net/no_such_setting", "1").unwrap_err().kind, HostErrorKind::NotFound);
    }
}
