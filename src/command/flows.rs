//! Has the kernel forget UDP flows that go where rules would not send them any more (reference sections 5.5 and 6.1).

use crate::host::{Host, HostError};
use crate::program::conntrack::{Answerers, Flow};

use super::{Console, Error};

/// Forgets them, after the rules are in: `before` are the answerers of earlier rules, as far as these are known. That it
/// cannot be done is a warning: the rules are right, and such flows end by themselves when nobody sends any more.
pub(super) fn forget_stale(
    wanted: &Answerers,
    before: &Answerers,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    match try_to_forget(wanted, before, host) {
        Ok(0) => Ok(()),
        Ok(n) => {
            writeln!(console.out, "{n} stale UDP flow{} forgotten", if n == 1 { "" } else { "s" })?;
            Ok(console.out.flush()?)
        }
        Err(error) => console.warn(&format!("UDP flows may go on to endpoints that are gone: {error}")),
    }
}

fn try_to_forget(wanted: &Answerers, before: &Answerers, host: &mut dyn Host) -> Result<usize, HostError> {
    let mut kinds = wanted.kinds();
    kinds.extend(before.kinds());
    let mut stale: Vec<Flow> = Vec::new();
    for (protocol, family) in kinds {
        let flows = host.conntrack_flows(family, protocol)?;
        stale.extend(flows.into_iter().filter(|flow| wanted.is_stale(flow, before)));
    }
    if !stale.is_empty() {
        host.conntrack_forget(&stale)?;
    }
    Ok(stale.len())
}
