//! The kinds the agent lists, and where they live in the API. The chart's RBAC grants exactly these.

use kube_client_lite::Resource;

pub(crate) const NODES: Resource = Resource::new("", "v1", "nodes");
pub(crate) const NAMESPACES: Resource = Resource::new("", "v1", "namespaces");
pub(crate) const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");
pub(crate) const STATEFUL_SETS: Resource = Resource::new("apps", "v1", "statefulsets");
pub(crate) const DAEMON_SETS: Resource = Resource::new("apps", "v1", "daemonsets");
pub(crate) const CRON_JOBS: Resource = Resource::new("batch", "v1", "cronjobs");
pub(crate) const JOBS: Resource = Resource::new("batch", "v1", "jobs");
pub(crate) const REPLICA_SETS: Resource = Resource::new("apps", "v1", "replicasets");
pub(crate) const SERVICES: Resource = Resource::new("", "v1", "services");
pub(crate) const VOLUME_CLAIMS: Resource = Resource::new("", "v1", "persistentvolumeclaims");
pub(crate) const PODS: Resource = Resource::new("", "v1", "pods");
/// Served by metrics-server, where there is one.
pub(crate) const NODE_METRICS: Resource = Resource::new("metrics.k8s.io", "v1beta1", "nodes");
/// Served by metrics-server, where there is one.
pub(crate) const POD_METRICS: Resource = Resource::new("metrics.k8s.io", "v1beta1", "pods");

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [Resource; 13] = [
        NODES,
        NAMESPACES,
        DEPLOYMENTS,
        STATEFUL_SETS,
        DAEMON_SETS,
        CRON_JOBS,
        JOBS,
        REPLICA_SETS,
        SERVICES,
        VOLUME_CLAIMS,
        PODS,
        NODE_METRICS,
        POD_METRICS,
    ];

    /// The chart is read as text: every rule is in the flow style, `apiGroups: [apps]`.
    #[test]
    fn the_chart_grants_exactly_these() {
        let role = include_str!("../../charts/kube9-operator/templates/clusterrole.yaml");
        let (mut granted, mut group, mut resources) = (BTreeSet::new(), "", "");
        for line in role.lines() {
            let Some((key, value)) = line.trim_start_matches([' ', '-']).split_once(": [") else {
                continue;
            };
            let value = value.strip_suffix(']').unwrap();
            match key {
                "apiGroups" => group = value.trim_matches('"'),
                "resources" => resources = value,
                "verbs" if value.split(", ").any(|verb| verb == "list") => {
                    granted.extend(resources.split(", ").map(|plural| (group, plural)));
                }
                _ => {}
            }
        }
        let listed: BTreeSet<_> = ALL
            .iter()
            .map(|kind| (kind.group(), kind.plural()))
            .collect();
        assert_eq!(listed, granted);
    }
}
