//! Views of Kubernetes objects: the fields that a figure is made of, borrowed from the page.
//!
//! Absent and `null` mean the default everywhere, because Go writes an empty map or slice as either.
//! A field of a wrong type fails its object and no other. Field names and meanings are those of the
//! [API reference](https://kubernetes.io/docs/reference/kubernetes-api/).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

/// What all objects have.
pub(crate) trait Object {
    fn metadata(&self) -> &ObjectMeta<'_>;
}

macro_rules! objects {
    ($($view:ident)*) => {
        $(impl Object for $view<'_> {
            fn metadata(&self) -> &ObjectMeta<'_> {
                &self.metadata
            }
        })*
    };
}

objects!(CronJob Named Node NodeMetrics Pod PodMetrics Workload);

/// An object of which only its name and namespace matter.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Named<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) metadata: ObjectMeta<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ObjectMeta<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) namespace: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) labels: Labels<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) owner_references: Vec<OwnerReference<'a>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Labels<'a> {
    #[serde(borrow, rename = "pod-template-hash")]
    pub(crate) pod_template_hash: Text<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct OwnerReference<'a> {
    #[serde(borrow)]
    pub(crate) api_version: Text<'a>,
    #[serde(borrow)]
    pub(crate) kind: Text<'a>,
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) controller: bool,
}

impl<'a> ObjectMeta<'a> {
    /// The one owner that manages this object, if there is one.
    pub(crate) fn controller(&self) -> Option<&OwnerReference<'a>> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}

impl OwnerReference<'_> {
    /// Whether the owner is of this group and kind, whatever the version: other groups have kinds of
    /// the same names (`Job` of `batch.volcano.sh`).
    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        let group_of = self
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        &*self.kind == kind && group_of == group
    }
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Pod<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) metadata: ObjectMeta<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) spec: PodSpec<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) status: PodStatus<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodSpec<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) containers: Vec<Container<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) init_containers: Vec<Container<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) overhead: ResourceList<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) resources: Resources<'a>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) security_context: SecurityContext,
    #[serde(deserialize_with = "or_default")]
    pub(crate) host_network: bool,
    #[serde(rename = "hostPID", deserialize_with = "or_default")]
    pub(crate) host_pid: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) volumes: Vec<Volume>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Container<'a> {
    #[serde(borrow)]
    pub(crate) image: Text<'a>,
    #[serde(borrow)]
    pub(crate) restart_policy: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) resources: Resources<'a>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) security_context: SecurityContext,
    pub(crate) liveness_probe: Option<IgnoredAny>,
    pub(crate) readiness_probe: Option<IgnoredAny>,
}

impl Container<'_> {
    /// Whether this init container runs beside the app containers.
    pub(crate) fn is_sidecar(&self) -> bool {
        is_sidecar(&self.restart_policy)
    }
}

/// An init container that is restarted always is a sidecar:
/// [KEP-753](https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/753-sidecar-containers).
fn is_sidecar(restart_policy: &str) -> bool {
    restart_policy == "Always"
}

/// The security context of a container or, with fewer fields, of a pod.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SecurityContext {
    pub(crate) privileged: Option<bool>,
    pub(crate) allow_privilege_escalation: Option<bool>,
    pub(crate) run_as_non_root: Option<bool>,
    pub(crate) run_as_user: Option<i64>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Resources<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) requests: ResourceList<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) limits: ResourceList<'a>,
}

/// Quantities as written; empty when absent.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct ResourceList<'a> {
    #[serde(borrow)]
    pub(crate) cpu: Text<'a>,
    #[serde(borrow)]
    pub(crate) memory: Text<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Volume {
    pub(crate) host_path: Option<IgnoredAny>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodStatus<'a> {
    #[serde(borrow)]
    pub(crate) phase: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) conditions: Vec<Condition<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) container_statuses: Vec<ContainerStatus<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) init_container_statuses: Vec<ContainerStatus<'a>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Text<'a>,
    #[serde(borrow)]
    pub(crate) status: Text<'a>,
    #[serde(borrow)]
    pub(crate) reason: Text<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerStatus<'a> {
    #[serde(deserialize_with = "or_default")]
    pub(crate) restart_count: i64,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) state: ContainerState<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) last_state: ContainerState<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) waiting: Reason<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) terminated: Reason<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Reason<'a> {
    #[serde(borrow)]
    pub(crate) reason: Text<'a>,
}

/// A Deployment, `StatefulSet`, `DaemonSet` or Job: what a workload says of itself, in the fields of all
/// four kinds, of which each has its own few.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Workload<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) metadata: ObjectMeta<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) spec: WorkloadSpec<'a>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) status: WorkloadStatus,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WorkloadSpec<'a> {
    /// Deployment, `StatefulSet`.
    pub(crate) replicas: Option<i64>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) template: Template<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct CronJob<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) metadata: ObjectMeta<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) spec: CronJobSpec<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CronJobSpec<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) job_template: JobTemplate<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct JobTemplate<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) spec: JobTemplateSpec<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct JobTemplateSpec<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) template: Template<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Template<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) spec: TemplateSpec<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct TemplateSpec<'a> {
    #[serde(deserialize_with = "or_default")]
    pub(crate) containers: Length,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) init_containers: Vec<InitContainer<'a>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct InitContainer<'a> {
    #[serde(borrow)]
    pub(crate) restart_policy: Text<'a>,
}

impl Template<'_> {
    /// The containers that run side by side in a pod made from this template.
    pub(crate) fn running_containers(&self) -> usize {
        let sidecars = self
            .spec
            .init_containers
            .iter()
            .filter(|c| is_sidecar(&c.restart_policy));
        self.spec.containers.0.saturating_add(sidecars.count())
    }
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WorkloadStatus {
    /// Deployment, `StatefulSet`.
    #[serde(deserialize_with = "or_default")]
    pub(crate) ready_replicas: i64,
    /// `DaemonSet`.
    #[serde(deserialize_with = "or_default")]
    pub(crate) desired_number_scheduled: i64,
    /// `DaemonSet`.
    #[serde(deserialize_with = "or_default")]
    pub(crate) number_ready: i64,
    /// Job: pods not finished yet.
    #[serde(deserialize_with = "or_default")]
    pub(crate) active: i64,
    /// Job.
    #[serde(deserialize_with = "or_default")]
    pub(crate) ready: i64,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Node<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) metadata: ObjectMeta<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) status: NodeStatus<'a>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) capacity: ResourceList<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) allocatable: ResourceList<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) conditions: Vec<Condition<'a>>,
}

/// `metrics.k8s.io`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct NodeMetrics<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) metadata: ObjectMeta<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) usage: ResourceList<'a>,
}

/// `metrics.k8s.io`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct PodMetrics<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) metadata: ObjectMeta<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) containers: Vec<ContainerMetrics<'a>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct ContainerMetrics<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(crate) usage: ResourceList<'a>,
}

/// A string, borrowed where the JSON has it without escapes; `null` is the empty one.
///
/// serde borrows for `Cow` as a field of its own, but not inside an `Option`.
#[derive(Debug, Default)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or null")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
        }

        // Not `deserialize_str`: serde_json would refuse null there.
        deserializer.deserialize_any(TextVisitor)
    }
}

/// How long a list is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Length(pub(crate) usize);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LengthVisitor;

        impl<'de> Visitor<'de> for LengthVisitor {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Length, A::Error> {
                let mut length = 0_usize;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    length = length.saturating_add(1);
                }
                Ok(Length(length))
            }
        }

        deserializer.deserialize_seq(LengthVisitor)
    }
}

/// Go writes an empty map or slice as `null` in places.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn text_is_borrowed_where_it_can_be() {
        let json = r#"{"metadata":{"name":"plain","namespace":"esc\u0061ped"}}"#;
        let named: Named = serde_json::from_str(json).unwrap();
        assert!(matches!(named.metadata.name, Text(Cow::Borrowed("plain"))));
        assert_eq!(&*named.metadata.namespace, "escaped");
        let mut stream = serde_json::Deserializer::from_reader(json.as_bytes());
        let named = Named::deserialize(&mut stream).unwrap();
        assert_eq!(&*named.metadata.name, "plain");
    }

    #[test]
    fn null_is_absent() {
        let pod = r#"{"metadata":{"name":null,"labels":null,"ownerReferences":null},
            "spec":{"containers":[{"image":null,"resources":{"requests":null,"limits":{"cpu":null}},
                "securityContext":null,"livenessProbe":null}],
                "initContainers":null,"overhead":null,"resources":null,"securityContext":null,
                "hostNetwork":null,"hostPID":null,"volumes":null},
            "status":{"phase":null,"conditions":null,"containerStatuses":[{"restartCount":null,
                "state":null,"lastState":{"waiting":null,"terminated":null}}]}}"#;
        let pod: Pod = serde_json::from_str(pod).unwrap();
        assert_eq!(pod.spec.containers.len(), 1);
        assert!(
            pod.spec
                .containers
                .iter()
                .all(|c| c.liveness_probe.is_none())
        );
        for nothing in ["{}", r#"{"metadata":null,"spec":null,"status":null}"#] {
            let pod: Pod = serde_json::from_str(nothing).unwrap();
            assert!(pod.spec.containers.is_empty(), "{nothing}");
            serde_json::from_str::<Workload>(nothing).unwrap();
            serde_json::from_str::<CronJob>(nothing).unwrap();
            serde_json::from_str::<Node>(nothing).unwrap();
            serde_json::from_str::<PodMetrics>(nothing).unwrap();
            serde_json::from_str::<NodeMetrics>(nothing).unwrap();
        }
        let workload = r#"{"spec":{"replicas":null,"template":{"spec":{"containers":null}}},
            "status":{"readyReplicas":null}}"#;
        let workload: Workload = serde_json::from_str(workload).unwrap();
        assert_eq!(workload.spec.template.running_containers(), 0);
    }

    #[test]
    fn a_wrong_type_is_an_error() {
        for wrong in [
            r#"{"metadata":{"name":1}}"#,
            r#"{"spec":{"hostNetwork":"yes"}}"#,
            r#"{"spec":{"containers":{}}}"#,
            r#"{"status":{"containerStatuses":[{"restartCount":1.5}]}}"#,
        ] {
            assert!(serde_json::from_str::<Pod>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sidecars_are_counted_with_the_containers() {
        let template = r#"{"spec":{"containers":[{},{}],
            "initContainers":[{"restartPolicy":"Always"},{"name":"once"}]}}"#;
        let template: Template = serde_json::from_str(template).unwrap();
        assert_eq!(template.running_containers(), 3);
    }

    #[test]
    fn owners_are_told_apart_by_group() {
        let owner = |version: &'static str| OwnerReference {
            api_version: Text(Cow::Borrowed(version)),
            kind: Text(Cow::Borrowed("Job")),
            ..OwnerReference::default()
        };
        assert!(owner("batch/v1").is("batch", "Job"));
        assert!(!owner("batch.volcano.sh/v1alpha1").is("batch", "Job"));
        assert!(!owner("v1").is("batch", "Job"));
    }
}
