//! Whether a call may be made now. One breaker for the whole server, so that an outage costs one
//! probe and not six; no clock and no I/O, so that it can be kept, handed on and tested.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Call, CallError, Meaning};
use crate::api_key::Fingerprint;
use crate::backoff;
use crate::time::Time;

/// After this long a key that was not accepted is tried again; no other wait is longer.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// After this many failures in a row a server that this cluster is registered with counts as
/// unreachable.
const PATIENCE: u32 = 3;

/// What was learned from the calls so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Gate {
    /// Without a usable answer, in a row.
    failures: u32,
    not_before: Option<Time>,
    /// Whose the rest is: another key starts anew.
    key: Option<Fingerprint>,
    closed: Option<Closed>,
    limits: BTreeMap<Call, Limit>,
    last_error: Option<String>,
}

/// The server does not want this key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Closed {
    why: Why,
    since: Time,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Why {
    Refused,
    Unauthorized,
}

/// The server asked for patience with one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Limit {
    until: Time,
    /// In a row.
    times: u32,
}

impl Gate {
    /// When a call may be made; `None` is now. A time further ahead than it can have been set to
    /// was set by another clock, and does not count.
    pub(crate) fn ready_at(&self, call: Call, key: Fingerprint, now: Time) -> Option<Time> {
        let ahead = |until: Time, most: Duration| {
            (until > now && until <= after(now, most)).then_some(until)
        };
        let mut ready = self.not_before.and_then(|at| ahead(at, backoff::CAP));
        if self.key == Some(key) {
            let closed = self.closed.as_ref().map(|closed| after(closed.since, DAY));
            let limit = self.limits.get(&call).map(|limit| limit.until);
            ready = ready
                .max(closed.and_then(|at| ahead(at, DAY)))
                .max(limit.and_then(|at| ahead(at, DAY)));
        }
        ready
    }

    /// Learns from a call. `draw` draws a wait up to a bound: [`backoff::jitter`].
    pub(crate) fn note(
        &mut self,
        call: Call,
        result: Result<(), &CallError>,
        key: Fingerprint,
        now: Time,
        draw: &mut dyn FnMut(Duration) -> Duration,
    ) {
        if self.key != Some(key) {
            self.key = Some(key);
            self.closed = None;
            self.limits.clear();
        }
        let Err(error) = result else {
            self.answered();
            self.closed = None;
            self.limits.remove(&call);
            return;
        };
        match error.meaning {
            Meaning::Final { .. } | Meaning::TooLarge => self.answered(),
            Meaning::Limited { wait } => {
                self.answered();
                let times = self.limits.get(&call).map_or(0, |limit| limit.times);
                let times = times.saturating_add(1);
                let wait = wait.unwrap_or_else(|| draw(backoff::bound(times)));
                let until = after(now, wait.min(DAY));
                self.limits.insert(call, Limit { until, times });
            }
            Meaning::Refused => self.close(Why::Refused, error, now),
            Meaning::Shutdown | Meaning::Unsendable => {}
            Meaning::Unauthorized => self.close(Why::Unauthorized, error, now),
            Meaning::Unreachable => {
                self.failures = self.failures.saturating_add(1);
                self.not_before = Some(after(now, draw(backoff::bound(self.failures))));
                self.last_error = Some(error.to_string());
            }
        }
    }

    /// The server does not accept this key: free tier.
    pub(crate) fn is_rejected(&self, key: Fingerprint) -> bool {
        self.closed(key)
            .is_some_and(|closed| closed.why == Why::Unauthorized)
    }

    /// What a status says about the server: that it refuses the key, or cannot be reached. One
    /// that this cluster is registered with may fail now and then.
    pub(crate) fn problem(&self, key: Fingerprint, registered: bool) -> Option<&str> {
        if let Some(closed) = self.closed(key) {
            return Some(&closed.message);
        }
        let patience = if registered { PATIENCE } else { 1 };
        let failing = self.failures >= patience;
        self.last_error.as_deref().filter(|_| failing)
    }

    /// Calls without a usable answer, in a row.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    fn closed(&self, key: Fingerprint) -> Option<&Closed> {
        self.closed.as_ref().filter(|_| self.key == Some(key))
    }

    fn close(&mut self, why: Why, error: &CallError, now: Time) {
        self.answered();
        self.closed = Some(Closed {
            why,
            since: now,
            message: error.to_string(),
        });
    }

    fn answered(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.last_error = None;
    }
}

fn after(time: Time, wait: Duration) -> Time {
    let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    Time::from_millis(time.as_millis().saturating_add(wait))
}
