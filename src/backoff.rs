//! Exponential backoff with full jitter: every wait is drawn evenly between nothing and a bound
//! that doubles with each failure. Agents that failed together come back spread over the whole
//! window, not in waves.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// The bound after the first failure.
pub(crate) const BASE: Duration = Duration::from_secs(30);

/// The bound never grows beyond this.
pub(crate) const CAP: Duration = Duration::from_secs(15 * 60);

/// Counts failures in a row and says how long to wait after each.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        jitter(bound(self.failures))
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

/// 30 s, 1 min, 2 min, 4 min, 8 min, 15 min, 15 min, ...
pub(crate) fn bound(failures: u32) -> Duration {
    doubled(BASE, failures, CAP)
}

/// `base` after the first failure, twice as much after each further one, `cap` at most.
pub(crate) fn doubled(base: Duration, failures: u32, cap: Duration) -> Duration {
    let factor = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(cap)
}

/// A wait as it is; in builds for tests `KUBE9_TEST_PACE` says how many times shorter, so that what
/// takes the agent minutes takes a test a moment. The shipped binary does not know the variable.
pub(crate) fn paced(wait: Duration) -> Duration {
    #[cfg(debug_assertions)]
    if let Some(pace) = std::env::var("KUBE9_TEST_PACE")
        .ok()
        .and_then(|pace| pace.parse::<u32>().ok())
    {
        return wait.checked_div(pace).unwrap_or(wait);
    }
    wait
}

/// Drawn evenly from zero to `bound`.
pub(crate) fn jitter(bound: Duration) -> Duration {
    let mut bytes = [0; 4];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        // Without randomness the whole wait is the safe one.
        return bound;
    }
    bound.mul_f64(f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let seconds: Vec<u64> = (1..=8).map(|failures| bound(failures).as_secs()).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 900, 900, 900]);
        assert_eq!(bound(u32::MAX), CAP);
    }

    #[test]
    fn waits_are_spread_over_the_whole_window() {
        let waits: Vec<f64> = (0..10_000).map(|_| jitter(BASE).as_secs_f64()).collect();
        assert!(waits.iter().all(|wait| (0.0..=30.0).contains(wait)));
        // Ten buckets of a thousand each; six standard deviations are 180.
        for bucket in 0..10 {
            let from = f64::from(bucket) * 3.0;
            let inside = waits
                .iter()
                .filter(|wait| (from..from + 3.0).contains(*wait))
                .count();
            assert!(
                (820..=1180).contains(&inside),
                "{inside} waits from {from} s"
            );
        }
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::default();
        assert!(!backoff.is_failing());
        for _ in 0..20 {
            assert!(backoff.next() <= CAP);
        }
        assert!(backoff.is_failing());
        backoff.reset();
        assert!(backoff.next() <= BASE);
    }
}
