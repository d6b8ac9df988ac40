//! When all that a node has is compared with all that is wanted for no other reason than that somebody may have changed it. Knows
//! no clock: all times are those of `Host::now`.

use std::time::Duration;

use crate::host::Host;
use crate::model::Mode;
use crate::plan::Step;

/// Where nobody else has changed nf_tables this is done so seldom, as kube-proxy does (reference section 4.9): changes wait for it.
const SELDOM: Duration = Duration::from_secs(3600);

/// What is known of the last time.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// When it is to be done again.
    at: Duration,
    /// How long after each time.
    period: Duration,
    /// When it is done even if nobody else has changed anything.
    at_last: Duration,
    /// In nftables mode, the generation of nf_tables as this process left it; `None` if somebody else has had a part in it.
    generation: Option<u32>,
}

impl Drift {
    /// The generation of nf_tables, before anything is read; each transaction makes the next one. `None` in other modes, whose
    /// rules are not nf_tables alone, and where the kernel does not tell.
    pub(super) fn generation(mode: Mode, host: &mut dyn Host) -> Option<u32> {
        if mode == Mode::Nftables { host.nft_generation().ok() } else { None }
    }

    /// Everything has been compared by now, and these steps taken; `before` was the generation then.
    pub(super) fn compared(
        &mut self,
        before: Option<u32>,
        steps: &[Step],
        period: Duration,
        host: &mut dyn Host,
    ) {
        let now = host.now();
        *self = Drift { at: now + period, period, at_last: now + SELDOM.max(period), generation: before };
        self.changed(steps, host);
    }

    /// These steps have been taken.
    pub(super) fn changed(&mut self, steps: &[Step], host: &mut dyn Host) {
        let n_transactions = steps.iter().filter(|step| matches!(step, Step::NftTransaction { .. })).count();
        let expected = |before: u32| before.checked_add(u32::try_from(n_transactions).ok()?);
        self.generation = self.generation.and_then(expected).filter(|expected| is_now(*expected, host));
    }

    /// Whether everything is to be compared again.
    pub(super) fn is_due(&mut self, now: Duration, host: &mut dyn Host) -> bool {
        if now < self.at {
            return false;
        }
        if now < self.at_last && self.generation.is_some_and(|generation| is_now(generation, host)) {
            self.at = now + self.period;
            return false;
        }
        true
    }
}

fn is_now(generation: u32, host: &mut dyn Host) -> bool {
    host.nft_generation().is_ok_and(|now| now == generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::FakeHost;
    use crate::net::IpFamily;

    const PERIOD: Duration = Duration::from_secs(30);

    /// Transactions of ours.
    fn take(host: &mut FakeHost, n: usize) -> Vec<Step> {
        let step = Step::NftTransaction {
            family: IpFamily::V4,
            document: crate::program::Emitted::default(),
            batch: None,
            what: "",
        };
        (0..n).for_each(|_| host.nft_run(b"", false).unwrap());
        vec![step; n]
    }

    /// What is known after everything was compared in nftables mode, and two transactions were made.
    fn compared(host: &mut FakeHost) -> Drift {
        let before = Drift::generation(Mode::Nftables, host);
        let steps = take(host, 2);
        let mut drift = Drift::default();
        drift.compared(before, &steps, PERIOD, host);
        drift
    }

    #[test]
    fn where_nobody_else_changes_anything_everything_is_compared_seldom() {
        let mut host = FakeHost::new();
        let mut drift = compared(&mut host);
        for n in 1..119 {
            assert!(!drift.is_due(PERIOD * n, &mut host), "{n}");
            let steps = take(&mut host, 1);
            drift.changed(&steps, &mut host);
        }
        assert!(drift.is_due(SELDOM, &mut host));
    }

    #[test]
    fn where_somebody_else_has_changed_something_it_is_not() {
        let mut host = FakeHost::new();
        let mut due = |change: fn(&mut Drift, &mut FakeHost)| {
            let mut drift = compared(&mut host);
            change(&mut drift, &mut host);
            assert!(!drift.is_due(PERIOD - Duration::from_secs(1), &mut host));
            drift.is_due(PERIOD, &mut host)
        };
        assert!(!due(|_, _| {}));
        assert!(due(|_, host| host.generation += 1));
        // What we do afterwards does not hide it.
        assert!(due(|drift, host| {
            host.generation += 1;
            let steps = take(host, 1);
            drift.changed(&steps, host);
        }));
        // A transaction that changed more than it should have, or was none.
        assert!(due(|drift, host| drift.changed(&take(&mut FakeHost::new(), 1), host)));
    }

    #[test]
    fn in_other_modes_it_is_always_due_after_a_period() {
        let mut host = FakeHost::new();
        for mode in [Mode::Iptables, Mode::Ipvs, Mode::Userspace] {
            let before = Drift::generation(mode, &mut host);
            assert_eq!(before, None);
            let mut drift = Drift::default();
            drift.compared(before, &[], PERIOD, &mut host);
            assert!(drift.is_due(PERIOD, &mut host));
        }
    }
}
