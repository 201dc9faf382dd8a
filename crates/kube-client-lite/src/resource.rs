//! Where a kind of object lives in the API: group, version, plural name, and the paths made of them.

use std::fmt::Write as _;

use crate::Error;

/// A kind of object as the API addresses it: API group, version and plural resource name.
///
/// Kubernetes: [API groups and versioning](https://kubernetes.io/docs/reference/using-api/#api-groups).
///
/// ```
/// use kube_client_lite::Resource;
///
/// const PODS: Resource = Resource::new("", "v1", "pods");
/// const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");
/// assert_eq!(DEPLOYMENTS.to_string(), "deployments.apps");
/// # let _ = PODS;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
}

impl Resource {
    /// Names a resource; the core group is the empty string.
    #[must_use]
    pub const fn new(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self {
            group,
            version,
            plural,
        }
    }

    /// The API group, empty for the core group.
    #[must_use]
    pub const fn group(&self) -> &'static str {
        self.group
    }

    /// The version within the group, such as `v1`.
    #[must_use]
    pub const fn version(&self) -> &'static str {
        self.version
    }

    /// The plural name as it stands in a path, such as `deployments`.
    #[must_use]
    pub const fn plural(&self) -> &'static str {
        self.plural
    }

    /// The path of the collection, in one namespace or in all.
    pub(crate) fn collection_path(&self, namespace: Option<&str>) -> Result<String, Error> {
        let mut path = group_version_path(self.group, self.version);
        if let Some(namespace) = namespace {
            path.push_str("/namespaces/");
            push_segment(&mut path, "namespace", namespace)?;
        }
        path.push('/');
        path.push_str(self.plural);
        Ok(path)
    }

    /// The path of one object.
    pub(crate) fn object_path(&self, namespace: Option<&str>, name: &str) -> Result<String, Error> {
        let mut path = self.collection_path(namespace)?;
        path.push('/');
        push_segment(&mut path, "name", name)?;
        Ok(path)
    }
}

/// The form people write: `deployments.apps`, and `pods` for the core group.
impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.plural)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// `/api/v1` for the core group, `/apis/GROUP/VERSION` for every other.
fn group_version_path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

/// Appends one path segment, refusing what would change the meaning of the path.
///
/// The rule is Kubernetes' own for path segment names: not `.`, not `..`, no `/`, no `%`.
pub(crate) fn push_segment(
    path: &mut String,
    what: &'static str,
    segment: &str,
) -> Result<(), Error> {
    let harmless = !segment.is_empty()
        && segment.len() <= 253
        && segment != "."
        && segment != ".."
        && !segment.contains(['/', '%']);
    if !harmless {
        return Err(Error::InvalidName {
            what,
            name: segment.chars().take(64).collect(),
        });
    }
    push_encoded(path, segment);
    Ok(())
}

/// Appends `text` with everything outside RFC 3986's unreserved characters percent-encoded.
pub(crate) fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

/// A query string under construction.
pub(crate) struct Query {
    path: String,
    separator: char,
}

impl Query {
    pub(crate) fn new(path: String) -> Self {
        Self {
            path,
            separator: '?',
        }
    }

    pub(crate) fn add(&mut self, key: &str, value: &str) -> &mut Self {
        self.path.push(self.separator);
        self.separator = '&';
        self.path.push_str(key);
        self.path.push('=');
        push_encoded(&mut self.path, value);
        self
    }

    pub(crate) fn add_some(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.add(key, value);
        }
        self
    }

    pub(crate) fn finish(self) -> String {
        self.path
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PODS: Resource = Resource::new("", "v1", "pods");
    const CRON_JOBS: Resource = Resource::new("batch", "v1", "cronjobs");

    #[test]
    fn paths() {
        assert_eq!(PODS.collection_path(None).unwrap(), "/api/v1/pods");
        assert_eq!(
            CRON_JOBS.collection_path(Some("production")).unwrap(),
            "/apis/batch/v1/namespaces/production/cronjobs"
        );
        assert_eq!(
            PODS.object_path(Some("a"), "system:x y").unwrap(),
            "/api/v1/namespaces/a/pods/system%3Ax%20y"
        );
    }

    #[test]
    fn names_that_would_change_the_path_are_refused() {
        for bad in ["", ".", "..", "a/b", "a%2fb", &"x".repeat(254)] {
            let error = PODS.object_path(Some("ns"), bad).unwrap_err();
            assert!(
                matches!(error, Error::InvalidName { what: "name", .. }),
                "{bad}"
            );
            let error = PODS.collection_path(Some(bad)).unwrap_err();
            assert!(matches!(
                error,
                Error::InvalidName {
                    what: "namespace",
                    ..
                }
            ));
        }
    }

    #[test]
    fn query_values_are_encoded() {
        let mut query = Query::new("/x".to_owned());
        query
            .add("labelSelector", "app=web,tier!=db")
            .add_some("continue", None);
        query.add("limit", "5");
        assert_eq!(
            query.finish(),
            "/x?labelSelector=app%3Dweb%2Ctier%21%3Ddb&limit=5"
        );
    }
}
