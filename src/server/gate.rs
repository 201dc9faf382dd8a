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
    #[cfg(test)]
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api_key::ApiKey;

    const MINUTE: Duration = Duration::from_secs(60);

    fn key(name: &str) -> Fingerprint {
        ApiKey::parse(name).unwrap().fingerprint(b"salt")
    }

    fn error(call: Call, meaning: Meaning) -> CallError {
        CallError::new(call, meaning, "so it is")
    }

    fn at(seconds: u64) -> Time {
        after(
            Time::from_millis(1_800_000_000_000),
            Duration::from_secs(seconds),
        )
    }

    /// A gate that has seen these, one a second, waiting as long as it may.
    fn gate(notes: &[(Call, Option<Meaning>)]) -> Gate {
        let mut gate = Gate::default();
        for (second, (call, meaning)) in (0..).zip(notes) {
            let error = meaning.map(|meaning| error(*call, meaning));
            let result = error.as_ref().map_or(Ok(()), Err);
            gate.note(*call, result, key("a"), at(second), &mut |bound| bound);
        }
        gate
    }

    #[test]
    fn an_outage_closes_it_to_all_calls_for_longer_and_longer() {
        let down = (Call::Push, Some(Meaning::Unreachable));
        for (failures, seconds) in [(1, 30), (2, 60), (3, 120), (5, 480), (6, 900), (99, 900)] {
            let gate = gate(&vec![down; failures]);
            let last = u64::try_from(failures).unwrap() - 1;
            for call in Call::ALL {
                let ready = |key, now| gate.ready_at(call, key, now);
                assert_eq!(ready(key("a"), at(last)), Some(at(last + seconds)));
                assert_eq!(ready(key("b"), at(last)), Some(at(last + seconds)));
                assert_eq!(ready(key("a"), at(last + seconds)), None);
            }
        }
    }

    #[test]
    fn any_answer_ends_an_outage() {
        let down = (Call::Push, Some(Meaning::Unreachable));
        for meaning in [
            None,
            Some(Meaning::Final { code: 404 }),
            Some(Meaning::TooLarge),
            Some(Meaning::Limited { wait: None }),
        ] {
            let gate = gate(&[down, down, (Call::Analyze, meaning)]);
            assert_eq!(gate.ready_at(Call::Push, key("a"), at(2)), None);
            assert_eq!((gate.failures(), gate.problem(key("a"), false)), (0, None));
        }
        for meaning in [Meaning::Shutdown, Meaning::Unsendable] {
            let gate = gate(&[down, (Call::Push, Some(meaning))]);
            assert_eq!(gate.failures(), 1, "that was no answer");
        }
    }

    #[test]
    fn a_key_that_is_not_accepted_closes_it_for_a_day_or_until_there_is_another() {
        for meaning in [Meaning::Unauthorized, Meaning::Refused] {
            let gate = gate(&[(Call::Quota, Some(meaning))]);
            let day = DAY.as_secs();
            for call in Call::ALL {
                let ready = |key, now| gate.ready_at(call, key, now);
                assert_eq!(ready(key("a"), at(1)), Some(at(day)));
                assert_eq!(ready(key("a"), at(day - 1)), Some(at(day)));
                assert_eq!(ready(key("a"), at(day)), None, "the daily try");
                assert_eq!(ready(key("b"), at(1)), None);
            }
            let rejected = meaning == Meaning::Unauthorized;
            assert_eq!(gate.is_rejected(key("a")), rejected);
            assert!(!gate.is_rejected(key("b")));
            let problem = gate.problem(key("a"), true).unwrap();
            let begin = if rejected {
                "API key invalid"
            } else {
                "kube9-server refused"
            };
            assert!(problem.starts_with(begin), "{problem}");
            assert_eq!(gate.problem(key("b"), true), None);
        }
    }

    #[test]
    fn only_success_opens_what_a_key_has_closed() {
        let closed = (Call::Quota, Some(Meaning::Unauthorized));
        for (meaning, open) in [
            (None, true),
            (Some(Meaning::Unreachable), false),
            (Some(Meaning::Final { code: 400 }), false),
        ] {
            let gate = gate(&[closed, (Call::Push, meaning)]);
            assert_eq!(gate.is_rejected(key("a")), !open, "{meaning:?}");
        }
        // Another key leaves nothing of it, also not for the first one.
        let mut gate = gate(&[closed]);
        gate.note(Call::Push, Ok(()), key("b"), at(1), &mut |bound| bound);
        assert_eq!(gate.ready_at(Call::Push, key("a"), at(1)), None);
    }

    #[test]
    fn a_limit_is_for_one_call() {
        let wait = Some(Duration::from_secs(100));
        let limited = |wait| (Call::Analyze, Some(Meaning::Limited { wait }));
        let ready = |gate: &Gate, call, second| gate.ready_at(call, key("a"), at(second));
        let gate = gate(&[limited(wait)]);
        assert_eq!(ready(&gate, Call::Analyze, 0), Some(at(100)));
        assert_eq!(ready(&gate, Call::Analyze, 100), None);
        assert_eq!(ready(&gate, Call::Push, 0), None);
        assert_eq!(gate.ready_at(Call::Analyze, key("b"), at(0)), None);
        assert_eq!(gate.problem(key("a"), false), None, "the server is well");

        let gate = self::gate(&[limited(None), limited(None)]);
        assert_eq!(ready(&gate, Call::Analyze, 1), Some(at(61)), "it doubles");
        let gate = self::gate(&[limited(None), limited(None), (Call::Analyze, None)]);
        assert_eq!(ready(&gate, Call::Analyze, 2), None);
        let gate = self::gate(&[limited(Some(DAY * 9))]);
        assert_eq!(ready(&gate, Call::Analyze, 0), Some(at(DAY.as_secs())));
    }

    #[test]
    fn a_server_may_fail_twice_before_it_is_a_problem() {
        let down = (Call::Push, Some(Meaning::Unreachable));
        for (failures, registered, expected) in [
            (0, false, false),
            (1, false, true),
            (1, true, false),
            (2, true, false),
            (3, true, true),
        ] {
            let gate = gate(&vec![down; failures]);
            let problem = gate.problem(key("a"), registered);
            assert_eq!(
                problem,
                expected.then_some("kube9-server unreachable: so it is"),
                "{failures} {registered}"
            );
        }
    }

    #[test]
    fn it_is_kept_as_json() {
        let gate = gate(&[
            (Call::Analyze, Some(Meaning::Limited { wait: None })),
            (Call::Push, Some(Meaning::Unauthorized)),
            (Call::Quota, Some(Meaning::Unreachable)),
        ]);
        let json = serde_json::to_string(&gate).unwrap();
        assert_eq!(serde_json::from_str::<Gate>(&json).unwrap(), gate, "{json}");
        assert_eq!(serde_json::from_str::<Gate>("{}").unwrap(), Gate::default());
    }

    fn any_call() -> impl Strategy<Value = Call> {
        prop::sample::select(Call::ALL.to_vec())
    }

    fn any_meaning() -> impl Strategy<Value = Option<Meaning>> {
        let wait = prop::option::of((0..=u64::MAX).prop_map(Duration::from_secs));
        prop_oneof![
            Just(None),
            Just(Some(Meaning::Unreachable)),
            Just(Some(Meaning::Unauthorized)),
            Just(Some(Meaning::Refused)),
            Just(Some(Meaning::TooLarge)),
            Just(Some(Meaning::Shutdown)),
            (300..500_u16).prop_map(|code| Some(Meaning::Final { code })),
            wait.prop_map(|wait| Some(Meaning::Limited { wait })),
        ]
    }

    proptest! {
        /// Whatever happened, and whatever became of the clock since: nobody waits longer than a
        /// day, and for an outage never more than a quarter of an hour.
        #[test]
        fn no_wait_is_longer_than_it_can_be(
            notes in prop::collection::vec(
                (any_call(), any_meaning(), any::<bool>(), any::<i64>(), 0.0..=1.0),
                0..20,
            ),
            call in any_call(),
            now in any::<i64>(),
        ) {
            let mut gate = Gate::default();
            for (call, meaning, other, now, part) in notes {
                let key = key(if other { "b" } else { "a" });
                let error = meaning.map(|meaning| error(call, meaning));
                let result = error.as_ref().map_or(Ok(()), Err);
                let draw = &mut |bound: Duration| bound.mul_f64(part);
                gate.note(call, result, key, Time::from_millis(now), draw);
            }
            let now = Time::from_millis(now);
            for key in [key("a"), key("b"), key("c")] {
                if let Some(ready) = gate.ready_at(call, key, now) {
                    prop_assert!(ready > now && ready <= after(now, DAY));
                    prop_assert_eq!(gate.ready_at(call, key, ready), None);
                }
            }
            if let Some(ready) = gate.ready_at(call, key("c"), now) {
                prop_assert!(ready <= after(now, backoff::CAP));
            }
        }

        /// An outage costs one probe a window, however many calls are waiting: here all six are
        /// tried every second.
        #[test]
        fn one_probe_a_window(
            draws in prop::collection::vec(0.0..=1.0, 40),
            outage in 1..3600_u64,
        ) {
            let key = key("a");
            let mut gate = Gate::default();
            let mut draws = draws.into_iter().cycle();
            let mut windows = Vec::new();
            let mut probes = Vec::new();
            for second in 0..outage {
                for call in Call::ALL {
                    if gate.ready_at(call, key, at(second)).is_some() {
                        continue;
                    }
                    probes.push(second);
                    let error = error(call, Meaning::Unreachable);
                    gate.note(call, Err(&error), key, at(second), &mut |bound| {
                        // At least the second between two tries, or there is no window.
                        let wait = bound.mul_f64(draws.next().unwrap()).as_secs().max(1);
                        let wait = Duration::from_secs(wait);
                        windows.push((bound, wait));
                        wait
                    });
                }
            }
            prop_assert_eq!(probes.len(), windows.len());
            let next = probes.iter().skip(1);
            for ((probe, next), (bound, wait)) in probes.iter().zip(next).zip(&windows) {
                prop_assert_eq!(Duration::from_secs(next - probe), *wait);
                prop_assert!(*bound <= backoff::CAP);
            }
            // The server is back: the first call through opens it to all.
            let later = after(at(outage), 15 * MINUTE);
            prop_assert_eq!(gate.ready_at(Call::Push, key, later), None);
            gate.note(Call::Push, Ok(()), key, later, &mut |bound| bound);
            for call in Call::ALL {
                prop_assert_eq!(gate.ready_at(call, key, later), None);
            }
        }

        /// A clock that was set back, however far, holds nobody up for longer than the wait was.
        #[test]
        fn a_clock_that_was_set_back_holds_nobody_up(back in 901..100_000_000_u64) {
            let gate = gate(&[(Call::Push, Some(Meaning::Unreachable))]);
            let now = at(0).as_millis() - i64::try_from(back * 1000).unwrap();
            prop_assert_eq!(
                gate.ready_at(Call::Push, key("a"), Time::from_millis(now)),
                None
            );
        }
    }
}
