//! The status: one small document that says how the agent is doing.
//!
//! It is computed from the database and the key file alone, so that `query status` says what the
//! ConfigMap says.

use kube_client_lite::{Client, Error};
use serde::Serialize;

use super::config_map;
use crate::api_key::{ApiKey, Fingerprint, KeyError};
use crate::privacy::id::{ClusterId, Uuid};
use crate::server::Gate;
use crate::store::{
    AnalysisCounts, CollectionStats, InsightCounts, Problem, ProblemKind, Quota, Registration,
    Store, StoreError, SyncState,
};
use crate::time::Time;
use crate::{bounded, json};

pub(crate) const CONFIG_MAP: &str = "kube9-operator-status";

/// Clients refuse a longer one.
const MAX_BYTES: usize = 4096;

/// In characters.
const MAX_ERROR: usize = 500;

const UNREGISTERED: &str = "not registered with kube9-server yet";

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
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<ClusterId>,
    collection_stats: CollectionStats,
    #[serde(flatten)]
    pro: Option<ProFigures>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Enabled,
    Operated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Tier {
    Free,
    Pro,
}

/// What only Pro has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProFigures {
    sync: SyncState,
    quota: QuotaFigures,
    insights: InsightCounts,
    analyses: AnalysisCounts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct QuotaFigures {
    limit: Option<u64>,
    used: Option<u64>,
    remaining: Option<u64>,
    resets_at: Option<Time>,
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
    /// What the key's file holds now.
    pub(crate) key: Result<Option<ApiKey>, KeyError>,
    pub(crate) namespace: String,
    pub(crate) pro: ProFacts,
    /// The most serious first.
    pub(crate) problems: Vec<Problem>,
    pub(crate) shutting_down: bool,
    pub(crate) stats: CollectionStats,
}

/// What the database says of Pro, whether or not there is a key now.
#[derive(Clone, Default)]
pub(crate) struct ProFacts {
    /// By which keys are told apart; none before the first collection.
    salt: Option<Uuid>,
    registration: Option<Registration>,
    gate: Gate,
    sync: SyncState,
    quota: Quota,
    insights: InsightCounts,
    analyses: AnalysisCounts,
}

/// How the agent stands with the server.
pub(crate) struct Standing {
    /// A key is there, and the server has not rejected it.
    pub(crate) is_pro: bool,
    /// The server knows this cluster by this key.
    registration: Option<Registration>,
    problem: Option<String>,
}

impl ProFacts {
    pub(crate) fn read(store: &Store, now: Time) -> Result<Self, StoreError> {
        Ok(Self {
            salt: store.identity()?.map(|identity| identity.cluster_id),
            registration: store.registration()?,
            gate: store.gate()?,
            sync: store.sync()?,
            quota: store.quota(now)?,
            insights: store.insight_counts()?,
            analyses: store.analysis_counts()?,
        })
    }

    /// What the facts come to with the key that is there now.
    pub(crate) fn standing(&self, key: &Result<Option<ApiKey>, KeyError>) -> Standing {
        let free = |problem| Standing {
            is_pro: false,
            registration: None,
            problem,
        };
        let key = match key {
            Err(error) => return free(Some(error.to_string())),
            Ok(None) => return free(None),
            Ok(Some(key)) => self.salt.map(|salt| key.fingerprint(&salt.0)),
        };
        let of_server =
            |key: Fingerprint, registered| self.gate.problem(key, registered).map(str::to_owned);
        if let Some(key) = key.filter(|key| self.gate.is_rejected(*key)) {
            return free(of_server(key, false));
        }
        let known = self.registration.as_ref();
        let registration = known.filter(|known| Some(known.key) == key).cloned();
        let problem = key.and_then(|key| of_server(key, registration.is_some()));
        Standing {
            is_pro: true,
            problem: problem.or_else(|| {
                let unknown = registration.is_none();
                unknown.then(|| UNREGISTERED.to_owned())
            }),
            registration,
        }
    }

    fn figures(self) -> ProFigures {
        let Quota {
            limit,
            used,
            remaining,
            resets_at,
            ..
        } = self.quota;
        ProFigures {
            sync: self.sync,
            quota: QuotaFigures {
                limit,
                used,
                remaining,
                resets_at,
            },
            insights: self.insights,
            analyses: self.analyses,
        }
    }
}

impl Status {
    pub(crate) fn new(facts: Facts, now: Time) -> Self {
        let standing = facts.pro.standing(&facts.key);
        let mut problems = facts.problems;
        problems.retain(|problem| standing.is_pro || problem.kind != ProblemKind::Sync);
        if let Some(message) = standing.problem {
            let kind = ProblemKind::Server;
            problems.push(Problem { kind, message });
            problems.sort_by_key(|problem| problem.kind);
        }
        let worst = problems.iter().map(|problem| health_of(problem.kind)).max();
        let mut texts: Vec<&str> = problems
            .iter()
            .map(|problem| problem.message.as_str())
            .collect();
        let mut health = worst.unwrap_or(Health::Healthy);
        if facts.shutting_down {
            texts.insert(0, "shutting down");
            health = Health::Unhealthy;
        }
        let (mode, tier) = if standing.is_pro {
            (Mode::Enabled, Tier::Pro)
        } else {
            (Mode::Operated, Tier::Free)
        };
        Self {
            mode,
            tier,
            version: env!("CARGO_PKG_VERSION"),
            health,
            last_update: now,
            registered: standing.registration.is_some(),
            api_key_configured: !matches!(facts.key, Ok(None) | Err(KeyError::Unreadable { .. })),
            error: (!texts.is_empty()).then(|| bounded::cut(&texts.join("; "), MAX_ERROR)),
            namespace: facts.namespace,
            cluster_id: standing.registration.map(|known| known.cluster_id),
            collection_stats: facts.stats,
            pro: standing.is_pro.then(|| facts.pro.figures()),
        }
    }

    /// Whether a client that reads this one knows what it would know from the other.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        (self.health, self.tier, self.registered) == (other.health, other.tier, other.registered)
            && self.error == other.error
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
        | ProblemKind::Forbidden
        | ProblemKind::Papers
        | ProblemKind::Server
        | ProblemKind::Sync => Health::Degraded,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::server::{Call, CallError, Meaning};

    fn facts(problems: &[(ProblemKind, &str)]) -> Facts {
        Facts {
            key: Ok(None),
            namespace: "kube9-system".to_owned(),
            pro: ProFacts::default(),
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
    fn a_key_is_pro_until_the_server_rejects_it() {
        let key = ApiKey::parse("kdy_1").unwrap();
        let with = |pro: &ProFacts, key: &ApiKey| {
            let mut facts = facts(&[(ProblemKind::Sync, "kube9-server refused something")]);
            facts.key = Ok(Some(key.clone()));
            facts.pro = pro.clone();
            let status = Status::new(facts, Time::from_millis(0));
            serde_json::from_str::<serde_json::Value>(&status.to_json()).unwrap()
        };
        let mut pro = ProFacts {
            salt: Some(Uuid([7; 16])),
            ..ProFacts::default()
        };
        let status = with(&pro, &key);
        assert_eq!(
            (&status["mode"], &status["tier"], &status["registered"]),
            (&"enabled".into(), &"pro".into(), &false.into())
        );
        assert_eq!(status["health"], "degraded");
        assert!(status["error"].as_str().unwrap().starts_with(UNREGISTERED));
        assert!(status["sync"]["consecutiveFailures"] == 0 && status["quota"]["limit"].is_null());

        let error = CallError {
            call: Call::Register,
            meaning: Meaning::Unauthorized,
            detail: "unknown key".to_owned(),
        };
        let print = key.fingerprint(&[7; 16]);
        let now = Time::from_millis(0);
        pro.gate
            .note(error.call, Err(&error), print, now, &mut |bound| bound);
        let status = with(&pro, &key);
        assert_eq!(
            (&status["mode"], &status["tier"], &status["registered"]),
            (&"operated".into(), &"free".into(), &false.into())
        );
        assert_eq!(status["apiKeyConfigured"], true);
        assert!(status.get("sync").is_none() && status.get("quota").is_none());
        let text = status["error"].as_str().unwrap();
        assert!(
            text.starts_with("API key invalid") && !text.contains(';'),
            "{text}"
        );

        let other = with(&pro, &ApiKey::parse("kdy_2").unwrap());
        assert_eq!(other["mode"], "enabled", "another key is another chance");
    }

    #[test]
    fn a_key_that_cannot_be_used_is_told() {
        let mut facts = facts(&[]);
        facts.key = Err(KeyError::NotVisible {
            path: "/etc/kube9/api-key/apiKey".into(),
        });
        let status = Status::new(facts, Time::from_millis(0));
        assert_eq!(
            (status.health, status.mode),
            (Health::Degraded, Mode::Operated)
        );
        assert!(status.api_key_configured);
        assert!(status.error.unwrap().starts_with("API key file"));
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
