//! One svcproxy at a time: two would undo each other's work.

use std::time::Duration;

use crate::host::{Host, LockGuard};

use super::options::LockArgs;
use super::{Console, Error};

/// Keeps other svcproxy out until the guard is dropped.
pub(super) fn take(
    args: LockArgs,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<LockGuard, Error> {
    let mut said = Ok(());
    let guard = host.lock(Duration::from_secs(args.lock_timeout), &mut |holder| {
        said = writeln!(console.err, "waiting for another svcproxy: {holder}");
    })?;
    said?;
    Ok(guard)
}
