//! The status: one small document that says how the agent is doing.
//!
//! It is computed from the database and the key file alone, so that `query status` says what the
//! ConfigMap says.

use kube_client_lite::{Client, Error};
use serde::Serialize;

use super::config_map;
use crate::store::{CollectionStats, Problem, ProblemKind};
use crate::time::Time;
use crate::{bounded, json};

pub(crate) const CONFIG_MAP: &str = "kube9-operator-status";

/// Clients refuse a longer one.
const MAX_BYTES: usize = 4096;

/// In characters.
const MAX_ERROR: usize = 500;

const UNUSED_KEY: &str = "API key configured, but this version of the agent is free tier only";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    mode: Mode,
    tier: Tier,
    version: &'static str,
    pub(crate) health: Health,
    last_update: Time,
    registered: bool,
    api_key_configured: bool,
    pub(crate) error: Option<String>,
    namespace: String,
    collection_stats: CollectionStats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Operated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Tier {
    Free,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    Healthy,
    Degraded,
    Unhealthy,
}

/// What the status is made of.
pub(crate) struct Facts {
    pub(crate) api_key_configured: bool,
    pub(crate) namespace: String,
    /// The most serious first.
    pub(crate) problems: Vec<Problem>,
    pub(crate) shutting_down: bool,
    pub(crate) stats: CollectionStats,
}

impl Status {
    pub(crate) fn new(facts: Facts, now: Time) -> Self {
        let mut problems: Vec<&str> = facts
            .problems
            .iter()
            .map(|problem| problem.message.as_str())
            .collect();
        let mut health = facts
            .problems
            .iter()
            .map(|problem| health_of(problem.kind))
            .max();
        if facts.api_key_configured {
            // Until this agent can register, saying nothing would look like Pro at work.
            problems.push(UNUSED_KEY);
            health = health.max(Some(Health::Degraded));
        }
        if facts.shutting_down {
            problems.insert(0, "shutting down");
            health = Some(Health::Unhealthy);
        }
        Self {
            mode: Mode::Operated,
            tier: Tier::Free,
            version: env!("CARGO_PKG_VERSION"),
            health: health.unwrap_or(Health::Healthy),
            last_update: now,
            registered: false,
            api_key_configured: facts.api_key_configured,
            error: (!problems.is_empty()).then(|| bounded::cut(&problems.join("; "), MAX_ERROR)),
            namespace: facts.namespace,
            collection_stats: facts.stats,
        }
    }

    /// The document as it stands in the ConfigMap. Escapes can make five hundred characters six
    /// times as many bytes, so the error is cut until the whole fits.
    pub(crate) fn to_json(&self) -> String {
        let mut status = self.clone();
        loop {
            let text = json::to_string(&status);
            let length = status
                .error
                .as_ref()
                .map_or(0, |error| error.chars().count());
            if text.len() <= MAX_BYTES || length <= 3 {
                return text;
            }
            status.error = status.error.map(|error| bounded::cut(&error, length / 2));
        }
    }

    /// Writes the ConfigMap.
    pub(crate) fn publish(&self, client: &Client) -> Result<(), Error> {
        let data = [
            ("namespace", self.namespace.as_str()),
            ("status", &self.to_json()),
        ];
        config_map::apply(client, &self.namespace, CONFIG_MAP, "status", &data)
    }
}

const fn health_of(kind: ProblemKind) -> Health {
    match kind {
        ProblemKind::Agent | ProblemKind::Cluster | ProblemKind::NoDatabase => Health::Unhealthy,
        ProblemKind::Collection
        | ProblemKind::ConfigMap
        | ProblemKind::Dashboard
        | ProblemKind::Database
        | ProblemKind::Forbidden => Health::Degraded,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn facts(problems: &[(ProblemKind, &str)]) -> Facts {
        Facts {
            api_key_configured: false,
            namespace: "kube9-system".to_owned(),
            problems: problems
                .iter()
                .map(|(kind, message)| Problem {
                    kind: *kind,
                    message: (*message).to_owned(),
                })
                .collect(),
            shutting_down: false,
            stats: CollectionStats::default(),
        }
    }

    #[test]
    fn a_healthy_agent_has_no_error() {
        let status = Status::new(facts(&[]), Time::from_millis(0));
        let value: serde_json::Value = serde_json::from_str(&status.to_json()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "mode": "operated", "tier": "free", "version": env!("CARGO_PKG_VERSION"),
                "health": "healthy", "lastUpdate": "1970-01-01T00:00:00.000Z",
                "registered": false, "apiKeyConfigured": false, "error": null,
                "namespace": "kube9-system",
                "collectionStats": {
                    "totalSuccessCount": 0, "totalFailureCount": 0,
                    "collectionsStoredCount": 0, "lastSuccessTime": null
                }
            })
        );
    }

    #[test]
    fn the_worst_problem_decides_and_all_are_told() {
        let problems = [
            (ProblemKind::Cluster, "cluster API unreachable"),
            (ProblemKind::Forbidden, "not allowed to list pods"),
        ];
        let status = Status::new(facts(&problems), Time::from_millis(0));
        assert_eq!(status.health, Health::Unhealthy);
        assert_eq!(
            status.error.as_deref(),
            Some("cluster API unreachable; not allowed to list pods")
        );
        let status = Status::new(facts(&problems[1..]), Time::from_millis(0));
        assert_eq!(status.health, Health::Degraded);
    }

    #[test]
    fn a_key_without_pro_is_told() {
        let mut facts = facts(&[]);
        facts.api_key_configured = true;
        let status = Status::new(facts, Time::from_millis(0));
        assert_eq!(
            (status.health, status.error.as_deref()),
            (Health::Degraded, Some(UNUSED_KEY))
        );
    }

    #[test]
    fn shutting_down_comes_first() {
        let mut facts = facts(&[(ProblemKind::Cluster, "x")]);
        facts.shutting_down = true;
        let status = Status::new(facts, Time::from_millis(0));
        assert_eq!(status.error.as_deref(), Some("shutting down; x"));
        assert_eq!(status.health, Health::Unhealthy);
    }

    #[test]
    fn it_fits_whatever_the_error_is() {
        for filler in ["x", "é", "😀", "\u{1}"] {
            let long = filler.repeat(10_000);
            let status = Status::new(
                facts(&[(ProblemKind::Database, &long)]),
                Time::from_millis(0),
            );
            let error = status.error.as_ref().unwrap();
            assert!(error.chars().count() <= MAX_ERROR && error.ends_with("..."));
            let json = status.to_json();
            assert!(json.len() <= MAX_BYTES, "{}", json.len());
            assert!(json.contains(r#"...","#) && json.is_ascii());
        }
    }
}
