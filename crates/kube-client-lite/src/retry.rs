//! When a refused call is tried again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// How often and how long a call may be tried again when the server says "later" (429, or any
/// 5xx with `Retry-After`), as client-go does it.
///
/// Kubernetes: [API Priority and Fairness](https://kubernetes.io/docs/concepts/cluster-administration/flow-control/).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Calls in all, the first included.
    pub attempts: u32,
    /// The longest single wait. A server that asks for more gets its error handed to the caller.
    pub max_wait: Duration,
}

impl RetryPolicy {
    /// Every call is made once.
    pub const NEVER: Self = Self {
        attempts: 1,
        max_wait: Duration::ZERO,
    };

    /// Makes a policy.
    #[must_use]
    pub const fn new(attempts: u32, max_wait: Duration) -> Self {
        Self { attempts, max_wait }
    }

    /// The wait before attempt `attempt + 1`, or `None` when the error is the caller's.
    ///
    /// Without a header: full jitter between nothing and 1 s, 2 s, 4 s, ...
    pub(crate) fn wait(
        &self,
        attempt: u32,
        code: u16,
        repeatable: bool,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let wait = match (code, retry_after) {
            (429, Some(after)) => after,
            (500..=599, Some(after)) if repeatable => after,
            (429, None) => full_jitter(Duration::from_secs(1), attempt, self.max_wait),
            _ => return None,
        };
        (wait <= self.max_wait).then_some(wait)
    }
}

/// Five calls, waiting at most 30 s before each.
impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new(5, Duration::from_secs(30))
    }
}

/// A wait drawn evenly from zero to `base * 2^(attempt - 1)`, the upper end at most `cap`.
///
/// Full jitter spreads clients that failed together evenly over the window, which a fixed or
/// half-jittered wait does not.
pub(crate) fn full_jitter(base: Duration, attempt: u32, cap: Duration) -> Duration {
    let factor = 1_u32
        .checked_shl(attempt.saturating_sub(1))
        .unwrap_or(u32::MAX);
    let upper = base.saturating_mul(factor).min(cap);
    let nanos = u64::try_from(upper.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random() % nanos.max(1))
}

/// Randomness for spreading load, not for secrets: the standard library's hash keys, drawn from
/// the operating system once per thread, stirred with the clock.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};

    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    RandomState::new().hash_one(now)
}

/// Reads `Retry-After` in both its forms, seconds and HTTP date (RFC 9110, 10.2.3); a date in
/// the past is no wait at all.
#[must_use]
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let now = Timestamp::try_from(now).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("99999999999999999999", None),
            ("soon", None),
        ] {
            assert_eq!(
                parse_retry_after(value, now),
                expected.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }

    #[test]
    fn who_waits_and_who_does_not() {
        let policy = RetryPolicy::new(3, Duration::from_secs(10));
        let second = Some(Duration::from_secs(1));
        assert_eq!(policy.wait(1, 429, false, second), second);
        assert_eq!(policy.wait(1, 503, true, second), second);
        assert_eq!(
            policy.wait(1, 503, false, second),
            None,
            "a create is not repeated"
        );
        assert_eq!(
            policy.wait(1, 503, true, None),
            None,
            "a broken aggregated API stays broken"
        );
        assert_eq!(
            policy.wait(3, 429, true, second),
            None,
            "attempts are used up"
        );
        let long = Some(Duration::from_secs(11));
        assert_eq!(
            policy.wait(1, 429, true, long),
            None,
            "longer than the caller would wait"
        );
        assert!(policy.wait(1, 429, true, None).is_some());
        assert_eq!(RetryPolicy::NEVER.wait(1, 429, true, second), None);
    }

    #[test]
    fn jitter_stays_below_the_doubling_bound() {
        let cap = Duration::from_secs(30);
        for attempt in [1, 2, 5, 31, 32, 33, u32::MAX] {
            for _ in 0..100 {
                let bound = Duration::from_secs(1).saturating_mul(
                    1_u32
                        .checked_shl(attempt.saturating_sub(1))
                        .unwrap_or(u32::MAX),
                );
                assert!(full_jitter(Duration::from_secs(1), attempt, cap) < bound.min(cap));
            }
        }
    }
}
