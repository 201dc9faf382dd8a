//! When the next collection is due: once an interval, at an offset that is the cluster's own, so
//! that a fleet is spread evenly over the hour and one agent keeps its place over restarts.

use std::time::Duration;

use ring::digest;

use crate::time::Time;

/// A cluster's place within the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    interval: i64,
    offset: i64,
}

impl Schedule {
    /// The offset follows from `identity`, which is the UID of the namespace `kube-system`.
    pub(crate) fn new(interval: Duration, identity: &str) -> Self {
        let interval = i64::try_from(interval.as_millis())
            .unwrap_or(i64::MAX)
            .max(1);
        let hash = digest::digest(&digest::SHA256, identity.as_bytes());
        let number = hash
            .as_ref()
            .iter()
            .take(7)
            .fold(0_i64, |number, byte| (number << 8) | i64::from(*byte));
        Self {
            interval,
            offset: number % interval,
        }
    }

    /// How long from `now` to the next turn; never zero, at most the interval.
    pub(crate) fn wait(&self, now: Time) -> Duration {
        let since = now
            .as_millis()
            .saturating_sub(self.offset)
            .rem_euclid(self.interval);
        Duration::from_millis(self.interval.saturating_sub(since).unsigned_abs())
    }

    /// Whether a collection at `last` is so old that the next must not wait for its turn.
    pub(crate) fn is_overdue(&self, last: Option<Time>, now: Time) -> bool {
        last.is_none_or(|last| {
            last > now || last.elapsed(now).as_millis() >= self.interval.unsigned_abs().into()
        })
    }

    /// Whether to wait no longer for a turn planned for `turn`: the clock went past it while the
    /// machine slept, when no timer runs, or was set back so far that it is no turn any more.
    pub(crate) fn is_missed(&self, turn: Time, now: Time) -> bool {
        let left = turn.as_millis().saturating_sub(now.as_millis());
        left <= 0 || left > self.interval
    }
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    proptest! {
        #[test]
        fn the_next_turn_is_at_the_offset(now in any::<i32>(), identity in "[0-9a-f]{8}") {
            let schedule = Schedule::new(HOUR, &identity);
            let now = Time::from_millis(i64::from(now) * 1000);
            let wait = schedule.wait(now);
            prop_assert!(wait > Duration::ZERO && wait <= HOUR);
            let turn = now.as_millis() + wait.as_millis() as i64;
            prop_assert_eq!(turn.rem_euclid(3_600_000), schedule.offset);
            prop_assert_eq!(schedule.wait(Time::from_millis(turn)), HOUR, "a turn is not taken twice");
        }
    }

    #[test]
    fn clusters_are_spread_evenly() {
        let mut buckets = [0_u32; 60];
        for cluster in 0..60_000 {
            let schedule = Schedule::new(HOUR, &format!("cluster {cluster}"));
            buckets[(schedule.offset / 60_000) as usize] += 1;
        }
        // A thousand a minute; six standard deviations are 190.
        for (minute, clusters) in buckets.iter().enumerate() {
            assert!(
                (810..=1190).contains(clusters),
                "{clusters} clusters in minute {minute}"
            );
        }
    }

    #[test]
    fn a_turn_is_missed_when_the_machine_slept_or_the_clock_was_set() {
        let schedule = Schedule::new(HOUR, "x");
        let turn = Time::from_millis(10_000_000);
        for (now, missed) in [
            (9_999_999, false),
            (10_000_000, true),
            (900_000_000_000, true),
            (6_400_000, false),
            (6_399_999, true),
            (-900_000_000_000, true),
            (i64::MIN, true),
        ] {
            assert_eq!(
                schedule.is_missed(turn, Time::from_millis(now)),
                missed,
                "{now}"
            );
        }
    }

    #[test]
    fn overdue() {
        let schedule = Schedule::new(HOUR, "x");
        let now = Time::from_millis(10_000_000);
        assert!(schedule.is_overdue(None, now));
        assert!(schedule.is_overdue(Some(Time::from_millis(10_000_000 - 3_600_000)), now));
        assert!(!schedule.is_overdue(Some(Time::from_millis(10_000_000 - 3_599_999)), now));
        assert!(
            schedule.is_overdue(Some(Time::from_millis(10_000_001)), now),
            "the clock was set back"
        );
    }
}
