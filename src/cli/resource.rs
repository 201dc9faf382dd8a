//! How a namespace, a workload or a pod is named on the command line: as kubectl takes it.

use crate::cluster::{Named, WorkloadKind};

const KINDS: &str = "namespace, deployment, statefulset, daemonset, job, cronjob or pod";

/// What the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) kind: Named,
    /// Empty for a namespace.
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What was typed: `KIND/NAME` or `KIND NAME`, or else both as flags.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Typed<'a> {
    pub(super) words: &'a [String],
    pub(super) kind: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
}

impl Wanted {
    /// Makes sense of what was typed; the error is a sentence for the user.
    pub(super) fn new(typed: Typed<'_>) -> Result<Self, String> {
        let (kind, name) = match (typed.words, typed.kind, typed.name) {
            ([resource], None, None) => resource.split_once('/').ok_or_else(|| {
                format!("{resource:?} does not say of what kind it is: write KIND/NAME, such as deploy/web")
            })?,
            ([kind, name], None, None) => (kind.as_str(), name.as_str()),
            ([], Some(kind), Some(name)) => (kind, name),
            _ => {
                return Err(
                    "name one resource, as KIND/NAME or with both --kind and --name".to_owned(),
                );
            }
        };
        let kind = parse_kind(kind)?;
        if name.is_empty() || name.contains('/') {
            return Err(format!(
                "{name:?} is not a name: write KIND/NAME, such as deploy/web"
            ));
        }
        let namespace = match (kind, typed.namespace) {
            // As kubectl takes it: a namespace is in none.
            (Named::Namespace, _) => "",
            (_, Some(namespace)) if !namespace.is_empty() => namespace,
            _ => return Err(format!("in which namespace is {name}? Add -n NAMESPACE")),
        };
        Ok(Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Whether there can be such a resource at all: names are RFC 1123 subdomains.
    pub(super) fn is_possible(&self) -> bool {
        let possible = |name: &str| {
            name.len() <= 253
                && name
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
                && name.split('.').all(|label| {
                    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
                })
        };
        possible(&self.name) && (self.kind == Named::Namespace || possible(&self.namespace))
    }

    /// The namespace that it is or is in.
    pub(super) fn home(&self) -> &str {
        match self.kind {
            Named::Namespace => &self.name,
            Named::Pod | Named::Workload(_) => &self.namespace,
        }
    }
}

/// For messages: `deployment web in namespace production`.
impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Named::Namespace => return write!(f, "namespace {}", self.name),
            Named::Pod => "pod",
            Named::Workload(kind) => kind.as_str(),
        };
        write!(f, "{kind} {} in namespace {}", self.name, self.namespace)
    }
}

/// Kinds in the singular, the plural, the short form, and with their API group.
fn parse_kind(text: &str) -> Result<Named, String> {
    let lower = text.to_ascii_lowercase();
    let (word, group) = lower.split_once('.').unwrap_or((&lower, ""));
    let (kind, own_group) = match word {
        "ns" | "namespace" | "namespaces" => (Named::Namespace, ""),
        "po" | "pod" | "pods" => (Named::Pod, ""),
        "deploy" | "deployment" | "deployments" => {
            (Named::Workload(WorkloadKind::Deployment), "apps")
        }
        "sts" | "statefulset" | "statefulsets" => {
            (Named::Workload(WorkloadKind::StatefulSet), "apps")
        }
        "ds" | "daemonset" | "daemonsets" => (Named::Workload(WorkloadKind::DaemonSet), "apps"),
        "job" | "jobs" => (Named::Workload(WorkloadKind::Job), "batch"),
        "cj" | "cronjob" | "cronjobs" => (Named::Workload(WorkloadKind::CronJob), "batch"),
        _ => return Err(format!("{text:?} is not one of {KINDS}")),
    };
    let group = group
        .strip_prefix("v1")
        .map_or(group, |group| group.trim_start_matches('.'));
    if group.is_empty() || group == own_group {
        Ok(kind)
    } else {
        Err(format!("{text:?} is not one of {KINDS}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(words: &[&str], namespace: Option<&str>) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let wanted = Wanted::new(Typed {
            words: &words,
            namespace,
            ..Typed::default()
        });
        wanted.map(|wanted| wanted.to_string())
    }

    #[test]
    fn the_forms_of_kubectl() {
        for (kind, full) in [
            ("deploy", "deployment"),
            ("deployment", "deployment"),
            ("deployments", "deployment"),
            ("Deployment", "deployment"),
            ("deployments.apps", "deployment"),
            ("deployments.v1.apps", "deployment"),
            ("sts", "statefulset"),
            ("statefulsets", "statefulset"),
            ("ds", "daemonset"),
            ("DaemonSet", "daemonset"),
            ("job", "job"),
            ("jobs.batch", "job"),
            ("cj", "cronjob"),
            ("CronJob.v1.batch", "cronjob"),
            ("po", "pod"),
            ("pods", "pod"),
            ("pod.v1", "pod"),
        ] {
            let expected = Ok(format!("{full} web in namespace a"));
            assert_eq!(wanted(&[&format!("{kind}/web")], Some("a")), expected);
            assert_eq!(wanted(&[kind, "web"], Some("a")), expected);
            let flags = Typed {
                kind: Some(kind),
                name: Some("web"),
                namespace: Some("a"),
                words: &[],
            };
            assert_eq!(
                Wanted::new(flags).map(|wanted| wanted.to_string()),
                expected
            );
        }
        for namespace in [None, Some("b")] {
            for kind in ["ns", "namespace", "Namespaces"] {
                let expected = Ok("namespace a".to_owned());
                assert_eq!(wanted(&[&format!("{kind}/a")], namespace), expected);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (words, namespace, told) in [
            ([].as_slice(), Some("a"), "name one resource"),
            (&["web"], Some("a"), "of what kind"),
            (&["deploy/web"], None, "-n NAMESPACE"),
            (&["deploy/web"], Some(""), "-n NAMESPACE"),
            (&["deploy/"], Some("a"), "not a name"),
            (&["deploy/a/b"], Some("a"), "not a name"),
            (&["/web"], Some("a"), "not one of"),
            (&["secret/web"], Some("a"), "not one of"),
            (&["rs/web"], Some("a"), "not one of"),
            (&["job.batch.volcano.sh/web"], Some("a"), "not one of"),
            (&["deploy", "a", "b"], Some("a"), "name one resource"),
            (&["deploy/a", "deploy/b"], Some("a"), "not one of"),
        ] {
            let error = wanted(words, namespace).err().unwrap_or_default();
            assert!(error.contains(told), "{words:?}: {error}");
        }
        let words = ["deploy/web".to_owned()];
        let both = Typed {
            words: &words,
            kind: Some("job"),
            ..Typed::default()
        };
        assert!(Wanted::new(both).is_err());
    }

    #[test]
    fn names_that_cannot_be() {
        let possible = |namespace: &str, name: &str| {
            Wanted {
                kind: Named::Pod,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }
            .is_possible()
        };
        assert!(possible("a", "web-0.x1"));
        for name in [
            "Web",
            "a_b",
            "-a",
            "a-",
            "a..b",
            ".",
            "..",
            "%2e",
            "é",
            &"x".repeat(254),
        ] {
            assert!(!possible("a", name) && !possible(name, "a"), "{name}");
        }
    }
}
