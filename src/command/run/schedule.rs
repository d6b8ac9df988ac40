//! When the next sync is due: soon after a change, but not too soon after the last one; again after a failure; and now and then
//! without any reason, to repair what somebody else has changed. Between them it is looked, shortly, whether somebody has taken
//! all of it away. Knows no clock: all times are those of `Host::now`.

use std::time::Duration;

use clap::Args;

use crate::manifest;
use crate::model::SyncPeriods;

use super::super::Error;

/// How often the node is looked at.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sync")]
pub struct PeriodArgs {
    /// At least how often all rules are compared with those that are wanted, like 30s; less often if that takes more than a
    /// twentieth of the time, and in nftables mode, as long as nobody else changes anything in nf_tables, every hour
    /// [default: syncPeriod of the mode in --config, else 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration, aliases = ["iptables-sync-period", "ipvs-sync-period"])]
    pub sync_period: Option<Duration>,

    /// How long changes are gathered after a sync, like 1s [default: minSyncPeriod of the mode in --config, else 1s]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        aliases = ["iptables-min-sync-period", "ipvs-min-sync-period"]
    )]
    pub min_sync_period: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    manifest::parse_duration(text).ok_or_else(|| "not a duration like 30s or 500ms".to_owned())
}

impl PeriodArgs {
    /// The configuration's periods with those that are given laid over them.
    pub(super) fn lay_over(&self, mut periods: SyncPeriods) -> Result<SyncPeriods, Error> {
        periods.sync = self.sync_period.unwrap_or(periods.sync);
        periods.min_sync = self.min_sync_period.unwrap_or(periods.min_sync);
        if periods.sync.is_zero() {
            return Err(Error::usage("the sync period must be more than 0"));
        }
        if periods.min_sync > periods.sync {
            return Err(Error::usage("the minimal sync period must not be longer than the sync period"));
        }
        Ok(periods)
    }
}

/// How long after a failure it is tried again. It doubles with each further one, up to the sync period.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A look at the whole node without any reason may take one part in so many of the time.
pub(super) const IDLE_SHARE: u32 = 20;

/// How often it is looked whether the landmarks stand.
const LOOK: Duration = Duration::from_secs(1);
/// That may take one part in so many of the time.
const LOOK_SHARE: u32 = 100;

/// When the next sync is due (reference section 6.7).
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    periods: SyncPeriods,
    /// Whether something has changed since the last sync began.
    wanted: bool,
    /// When the last one ended.
    ended: Option<Duration>,
    /// How long it took.
    took: Duration,
    /// How many in a row have failed.
    failures: u32,
    /// When the landmarks are looked at next; `None` if the last sync failed.
    look_at: Option<Duration>,
}

impl Schedule {
    /// One whose first sync is due at once.
    pub(super) fn new(periods: SyncPeriods) -> Schedule {
        Schedule { periods, wanted: true, ended: None, took: Duration::ZERO, failures: 0, look_at: None }
    }

    /// Goes by other periods from now on.
    pub(super) fn set_periods(&mut self, periods: SyncPeriods) {
        self.periods = periods;
    }

    /// Something has changed.
    pub(super) fn request(&mut self) {
        self.wanted = true;
    }

    /// When the next sync is due.
    pub(super) fn due(&self) -> Duration {
        let Some(ended) = self.ended else { return Duration::ZERO };
        let wait = if self.wanted {
            Duration::ZERO
        } else if self.failures > 0 {
            let doublings = self.failures.saturating_sub(1).min(16);
            (FIRST_RETRY * (1 << doublings)).min(self.periods.sync)
        } else {
            self.periods.sync.max(self.took * IDLE_SHARE)
        };
        ended + wait.max(self.periods.min_sync)
    }

    /// A sync begins, with all that has changed until now.
    pub(super) fn begins(&mut self) {
        self.wanted = false;
    }

    /// It has ended.
    pub(super) fn ends(&mut self, began: Duration, now: Duration, succeeded: bool) {
        self.ended = Some(now);
        self.took = now.saturating_sub(began);
        self.failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
        self.look_at = succeeded.then_some(now + LOOK);
    }

    /// When the landmarks are to be looked at.
    pub(super) fn look_due(&self) -> Option<Duration> {
        self.look_at
    }

    /// They have been.
    pub(super) fn looked(&mut self, began: Duration, now: Duration) {
        self.look_at = Some(now + LOOK.max(now.saturating_sub(began) * LOOK_SHARE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn schedule() -> Schedule {
        Schedule::new(SyncPeriods { sync: seconds(30), min_sync: seconds(1) })
    }

    /// A sync from one second to another.
    fn sync(schedule: &mut Schedule, began: u64, ended: u64, succeeded: bool) {
        schedule.begins();
        schedule.ends(seconds(began), seconds(ended), succeeded);
    }

    #[test]
    fn changes_wait_for_the_minimal_period_and_are_taken_together() {
        let mut schedule = schedule();
        assert_eq!(schedule.due(), Duration::ZERO);
        sync(&mut schedule, 5, 6, true);
        assert_eq!(schedule.due(), seconds(36));
        schedule.request();
        schedule.request();
        assert_eq!(schedule.due(), seconds(7));
        schedule.begins();
        // What comes while it is under way is for the next one.
        schedule.request();
        schedule.ends(seconds(7), seconds(8), true);
        assert_eq!(schedule.due(), seconds(9));
        sync(&mut schedule, 9, 9, true);
        assert_eq!(schedule.due(), seconds(39));
    }

    #[test]
    fn failures_are_tried_again_ever_later_and_at_once_when_something_changes() {
        let mut schedule = schedule();
        let mut waits = Vec::new();
        for _ in 0..8 {
            sync(&mut schedule, 100, 100, false);
            waits.push((schedule.due() - seconds(100)).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        schedule.request();
        assert_eq!(schedule.due(), seconds(101));
        sync(&mut schedule, 101, 101, true);
        assert_eq!(schedule.due(), seconds(131));
    }

    #[test]
    fn landmarks_are_looked_at_between_syncs_and_seldom_if_that_takes_long() {
        let mut schedule = schedule();
        assert_eq!(schedule.look_due(), None);
        sync(&mut schedule, 1, 2, false);
        assert_eq!(schedule.look_due(), None);
        sync(&mut schedule, 3, 4, true);
        assert_eq!(schedule.look_due(), Some(seconds(5)));
        schedule.looked(seconds(5), seconds(5));
        assert_eq!(schedule.look_due(), Some(seconds(6)));
        schedule.looked(seconds(6), seconds(7));
        assert_eq!(schedule.look_due(), Some(seconds(107)));
        assert_eq!(schedule.due(), seconds(34));
        sync(&mut schedule, 8, 9, false);
        assert_eq!(schedule.look_due(), None);
    }

    #[test]
    fn a_slow_look_without_a_reason_is_rare() {
        let mut schedule = schedule();
        sync(&mut schedule, 10, 15, true);
        assert_eq!(schedule.due(), seconds(15 + 100));
        schedule.set_periods(SyncPeriods { sync: seconds(600), min_sync: seconds(20) });
        assert_eq!(schedule.due(), seconds(615));
        schedule.request();
        assert_eq!(schedule.due(), seconds(35));
    }
}
