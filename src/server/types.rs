//! What is said to the server and what it answers, as the rest of the agent sees it: checked,
//! cleaned and cut.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::privacy::id::{ClusterId, ClusterIdentifier, GivenId, Kind, OpaqueId, Uuid};
use crate::privacy::payload::Version;
use crate::time::Time;

/// The body of POST register.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Registration {
    pub(crate) operator_version: &'static str,
    pub(crate) cluster_identifier: ClusterIdentifier,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kubernetes_version: Option<Version>,
    pub(crate) approximate_node_count: u32,
}

/// The server knows this cluster by that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) cluster_id: GivenId,
    /// Between an hour and a week.
    pub(crate) reregister_after: Duration,
}

/// The insights since a point in time, and the quota where the server told it along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InsightPage {
    pub(crate) insights: Vec<InsightAnswer>,
    pub(crate) quota_remaining: Option<u64>,
    pub(crate) quota_limit: Option<u64>,
}

/// One insight as the server tells it: with opaque ids. Nothing in it steers a terminal, and
/// everything in it is short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InsightAnswer {
    pub(crate) id: String,
    pub(crate) severity: String,
    pub(crate) category: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) recommendation: String,
    pub(crate) affected_resources: Vec<String>,
    pub(crate) created_at: Option<Time>,
}

/// The body of POST analyze. The request id makes it one request however often it is sent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Analyze {
    pub(crate) request_id: Uuid,
    pub(crate) cluster_id: ClusterId,
    #[serde(serialize_with = "kind")]
    pub(crate) resource_type: Kind,
    pub(crate) resource_id: OpaqueId,
    pub(crate) namespace_id: OpaqueId,
}

/// The body of POST acknowledge.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Acknowledge {
    pub(crate) insight_id: String,
    pub(crate) cluster_id: ClusterId,
    pub(crate) state: InsightState,
    pub(crate) at: Time,
}

/// What a user made of an insight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InsightState {
    #[default]
    Open,
    Acknowledged,
    Dismissed,
}

/// The answer to GET quota; `None` is not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QuotaAnswer {
    pub(crate) limit: Option<u64>,
    pub(crate) used: Option<u64>,
    pub(crate) remaining: Option<u64>,
    pub(crate) resets_at: Option<Time>,
}

impl InsightState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Dismissed => "dismissed",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Acknowledged, Self::Dismissed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

// serde hands fields over by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn kind<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::WorkloadKind;

    #[test]
    fn bodies_have_the_fields_of_the_contract() {
        let registration = Registration {
            operator_version: "0.1.0",
            cluster_identifier: ClusterIdentifier::new("uid"),
            kubernetes_version: serde_json::from_str("\"1.36.2\"").ok(),
            approximate_node_count: 5,
        };
        assert_eq!(
            json!(registration),
            json!({
                "operatorVersion": "0.1.0",
                "clusterIdentifier": ClusterIdentifier::new("uid").to_string(),
                "kubernetesVersion": "1.36.2",
                "approximateNodeCount": 5,
            })
        );
        let deployment = Kind::Workload(WorkloadKind::Deployment);
        let id = |kind, number| OpaqueId { kind, number };
        let analyze = Analyze {
            request_id: Uuid([0; 16]),
            cluster_id: ClusterId::Own(Uuid([1; 16])),
            resource_type: deployment,
            resource_id: id(deployment, 2),
            namespace_id: id(Kind::Namespace, 1),
        };
        assert_eq!(
            json!(analyze),
            json!({
                "requestId": "00000000-0000-4000-8000-000000000000",
                "clusterId": "01010101-0101-4101-8101-010101010101",
                "resourceType": "deployment",
                "resourceId": "deployment_002",
                "namespaceId": "namespace_001",
            })
        );
        let acknowledge = Acknowledge {
            insight_id: "ins_1".to_owned(),
            cluster_id: ClusterId::Own(Uuid([1; 16])),
            state: InsightState::Dismissed,
            at: Time::from_millis(0),
        };
        assert_eq!(
            json!(acknowledge),
            json!({
                "insightId": "ins_1",
                "clusterId": "01010101-0101-4101-8101-010101010101",
                "state": "dismissed",
                "at": "1970-01-01T00:00:00.000Z",
            })
        );
    }

    #[test]
    fn states_are_known_by_their_words() {
        for state in ["open", "acknowledged", "dismissed"] {
            assert_eq!(
                InsightState::parse(state).map(InsightState::as_str),
                Some(state)
            );
        }
        assert_eq!(InsightState::parse("Open"), None);
    }
}
