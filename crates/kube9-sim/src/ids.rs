//! The forms of ids and times, as the contract has them.

use jiff::Timestamp;

/// The kinds of opaque ids that stand for a workload.
pub(crate) const WORKLOADS: [&str; 5] =
    ["deployment", "statefulset", "daemonset", "job", "cronjob"];

/// Whether this is `KIND_NNN`: at least three digits, and no zero more than that takes.
pub(crate) fn is_opaque(text: &str, kinds: &[&str]) -> bool {
    text.split_once('_').is_some_and(|(kind, number)| {
        kinds.contains(&kind)
            && is_digits(number)
            && (number.len() == 3 || (number.len() > 3 && !number.starts_with('0')))
            && number.bytes().any(|digit| digit != b'0')
    })
}

/// An opaque id of a namespace.
pub(crate) fn is_namespace(text: &str) -> bool {
    is_opaque(text, &["namespace"])
}

/// An opaque id of a workload.
pub(crate) fn is_workload(text: &str) -> bool {
    is_opaque(text, &WORKLOADS)
}

/// An opaque id.
pub(crate) fn is_resource(text: &str) -> bool {
    is_namespace(text) || is_workload(text)
}

/// `sha256:` and 64 hexadecimal digits.
pub(crate) fn is_cluster_identifier(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hash| hash.len() == 64 && is_hex(hash))
}

/// 32 hexadecimal digits.
pub(crate) fn is_epoch(text: &str) -> bool {
    text.len() == 32 && is_hex(text)
}

/// A random UUID (version 4), in small letters.
pub(crate) fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().all(|part| is_hex(part))
        && parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.get(2).is_some_and(|part| part.starts_with('4'))
        && parts
            .get(3)
            .is_some_and(|part| part.starts_with(['8', '9', 'a', 'b']))
}

/// MAJOR.MINOR.PATCH.
pub(crate) fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 3
        && parts.iter().all(|part| {
            is_digits(part) && part.len() <= 10 && (*part == "0" || !part.starts_with('0'))
        })
}

/// RFC 3339 in UTC.
pub(crate) fn is_time(text: &str) -> bool {
    time(text).is_some() && text.ends_with('Z') && text.contains('T')
}

/// The moment that an RFC 3339 text names.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A moment as the contract writes it, to the millisecond.
pub(crate) fn text(time: Timestamp) -> String {
    format!("{time:.3}")
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_ids_have_one_form() {
        for id in ["deployment_001", "namespace_999", "job_1000"] {
            assert!(is_resource(id), "{id}");
        }
        for id in [
            "deployment_1",
            "deployment_0001",
            "deployment_000",
            "deployment_",
            "deployment_00a",
            "Deployment_001",
            "pod_001",
            "default",
            "",
        ] {
            assert!(!is_resource(id), "{id}");
        }
        assert!(!is_namespace("deployment_001") && !is_workload("namespace_001"));
    }

    #[test]
    fn uuids_versions_and_times_have_one_form() {
        assert!(is_uuid("ffffffff-ffff-4fff-bfff-ffffffffffff"));
        for text in [
            "",
            "FFFFFFFF-ffff-4fff-bfff-ffffffffffff",
            "ffffffff-ffff-1fff-bfff-ffffffffffff",
            "ffffffff-ffff-4fff-cfff-ffffffffffff",
            "ffffffffffff4fffbfffffffffffffff",
        ] {
            assert!(!is_uuid(text), "{text}");
        }
        assert!(is_version("1.36.2") && is_version("0.1.0"));
        for text in ["1.36", "v1.36.2", "1.36.2-gke.5", "1.36.02", "1.36.", ""] {
            assert!(!is_version(text), "{text}");
        }
        assert!(is_time("2026-11-23T17:43:48Z") && is_time("2026-11-23T17:43:48.123Z"));
        for text in ["2026-11-23", "2026-11-23T17:43:48+01:00", "now", ""] {
            assert!(!is_time(text), "{text}");
        }
        assert_eq!(
            text("2026-11-23T17:43:48Z".parse().unwrap()),
            "2026-11-23T17:43:48.000Z"
        );
    }
}
