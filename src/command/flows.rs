//! Has the kernel forget UDP flows that go where rules would not send them any more (reference sections 5.5 and 6.1).

use crate::host::Host;
use crate::program::conntrack::Answerers;

/// What became of them, in words.
pub(super) enum Forgotten {
    /// There were none.
    None,
    /// That they are forgotten.
    Told(String),
    /// Why they are not: that is a warning. The rules are right, and such flows end by themselves when nobody sends any more.
    Refused(String),
}

/// Forgets them, after the rules are in: `before` are the answerers of earlier rules, as far as these are known.
pub(super) fn forget_stale(wanted: &Answerers, before: &Answerers, host: &mut dyn Host) -> Forgotten {
    let mut kinds = wanted.kinds();
    kinds.extend(before.kinds());
    match host.conntrack_forget_those(&kinds, &|flow| wanted.is_stale(flow, before)) {
        Ok(0) => Forgotten::None,
        Ok(n) => Forgotten::Told(format!("{n} stale UDP flow{} forgotten", if n == 1 { "" } else { "s" })),
        Err(error) => Forgotten::Refused(format!("UDP flows may go on to endpoints that are gone: {error}")),
    }
}
