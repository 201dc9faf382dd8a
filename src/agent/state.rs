//! How things are, as both threads know it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api_key;
use crate::config::Config;
use crate::publish::status::{Facts, ProFacts, Status};
use crate::store::{CollectionStats, Problem, ProblemKind};
use crate::time::Time;

/// A snapshot behind a lock that is never held across a call that could block.
#[derive(Clone)]
pub(crate) struct State {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    pro: ProFacts,
    problems: Vec<Problem>,
    stats: CollectionStats,
}

impl State {
    pub(crate) fn new(stats: CollectionStats) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                pro: ProFacts::default(),
                problems: Vec::new(),
                stats,
            })),
        }
    }

    /// Notes a problem, or that it is gone. Whether that changed anything.
    pub(crate) fn note(&self, kind: ProblemKind, message: Option<&str>) -> bool {
        let mut inner = self.lock();
        let before = inner.problems.iter().find(|problem| problem.kind == kind);
        if before.map(|problem| problem.message.as_str()) == message {
            return false;
        }
        inner.problems.retain(|problem| problem.kind != kind);
        if let Some(message) = message {
            let message = message.to_owned();
            inner.problems.push(Problem { kind, message });
            inner.problems.sort_by_key(|problem| problem.kind);
        }
        true
    }

    pub(crate) fn has(&self, kind: ProblemKind) -> bool {
        let inner = self.lock();
        inner.problems.iter().any(|problem| problem.kind == kind)
    }

    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.lock().problems.clone()
    }

    pub(crate) fn set_pro(&self, pro: ProFacts) {
        self.lock().pro = pro;
    }

    pub(crate) fn set_stats(&self, stats: CollectionStats) {
        self.lock().stats = stats;
    }

    /// The status to be written. That it could not be written before is left out: where this one is
    /// read, it could.
    pub(crate) fn status(&self, config: &Config, shutting_down: bool, now: Time) -> Status {
        let key = api_key::read(&config.api_key_file);
        let inner = self.lock();
        let mut problems = inner.problems.clone();
        problems.retain(|problem| problem.kind != ProblemKind::ConfigMap);
        let facts = Facts {
            key,
            namespace: config.namespace.clone(),
            pro: inner.pro.clone(),
            problems,
            shutting_down,
            stats: inner.stats.clone(),
        };
        drop(inner);
        Status::new(facts, now)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Flags;

    #[test]
    fn only_changes_count_as_changes() {
        let state = State::new(CollectionStats::default());
        assert!(!state.note(ProblemKind::Cluster, None));
        assert!(state.note(ProblemKind::Cluster, Some("a")));
        assert!(!state.note(ProblemKind::Cluster, Some("a")));
        assert!(state.note(ProblemKind::Cluster, Some("b")));
        assert!(state.note(ProblemKind::Cluster, None));
    }
    #[test]
    fn a_status_that_is_read_does_not_say_that_it_cannot_be_written() {
        let state = State::new(CollectionStats::default());
        state.note(ProblemKind::ConfigMap, Some("cannot write ConfigMap"));
        let flags = Flags {
            api_key_file: Some("/nonexistent/apiKey".to_owned()),
            ..Flags::default()
        };
        let config = Config::new(&flags, &|_| None).unwrap();
        let status = state.status(&config, false, Time::from_millis(0));
        assert_eq!(status.error, None);
        state.note(ProblemKind::Forbidden, Some("not allowed to list pods"));
        let status = state.status(&config, false, Time::from_millis(0));
        assert_eq!(status.error.as_deref(), Some("not allowed to list pods"));
    }
}
