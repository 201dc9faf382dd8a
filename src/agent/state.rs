//! How things are, as both threads know it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api_key;
use crate::config::Config;
use crate::publish::status::{Facts, Status};
use crate::store::{CollectionStats, Problem, ProblemKind};
use crate::time::Time;

/// A snapshot behind a lock that is never held across a call that could block.
#[derive(Clone)]
pub(crate) struct State {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    problems: Vec<Problem>,
    stats: CollectionStats,
}

impl State {
    pub(crate) fn new(stats: CollectionStats) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
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

    pub(crate) fn set_stats(&self, stats: CollectionStats) {
        self.lock().stats = stats;
    }

    pub(crate) fn status(&self, config: &Config, shutting_down: bool, now: Time) -> Status {
        let api_key_configured = api_key::is_configured(&config.api_key_file);
        let inner = self.lock();
        let facts = Facts {
            api_key_configured,
            namespace: config.namespace.clone(),
            problems: inner.problems.clone(),
            shutting_down,
            stats: inner.stats.clone(),
        };
        Status::new(facts, now)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_count_as_changes() {
        let state = State::new(CollectionStats::default());
        assert!(!state.note(ProblemKind::Cluster, None));
        assert!(state.note(ProblemKind::Cluster, Some("a")));
        assert!(!state.note(ProblemKind::Cluster, Some("a")));
        assert!(state.note(ProblemKind::Cluster, Some("b")));
        assert!(state.note(ProblemKind::Cluster, None));
    }
}
