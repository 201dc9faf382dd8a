//! Opaque ids: what a namespace or workload is called outside of its cluster.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::cluster::WorkloadKind;

/// The kinds that have ids, each with a counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Namespace,
    Workload(WorkloadKind),
}

/// A kind and a number: `deployment_002`. The number tells when the name was first seen, and
/// nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpaqueId {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
}

/// Tells one map of names from another: 128 random bits, drawn with a new map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(pub(crate) [u8; 16]);

/// What the cluster is called: an id of the agent's own making, 128 random bits as a UUID
/// (version 4, RFC 9562).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClusterId(pub(crate) [u8; 16]);

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Workload(kind) => kind.as_str(),
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        if name == Self::Namespace.as_str() {
            return Some(Self::Namespace);
        }
        WorkloadKind::parse(name).map(Self::Workload)
    }
}

impl fmt::Display for OpaqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{:03}", self.kind.as_str(), self.number)
    }
}

impl Serialize for OpaqueId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let byte = match at {
                6 => byte & 0x0f | 0x40,
                8 => byte & 0x3f | 0x80,
                _ => *byte,
            };
            let dash = if matches!(at, 4 | 6 | 8 | 10) {
                "-"
            } else {
                ""
            };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl Serialize for ClusterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let id = |kind, number| OpaqueId { kind, number }.to_string();
        assert_eq!(id(Kind::Namespace, 1), "namespace_001");
        let deployment = Kind::Workload(WorkloadKind::Deployment);
        assert_eq!(id(deployment, 12_345), "deployment_12345");
        assert_eq!(Epoch([0xa5; 16]).to_string(), "a5".repeat(16));
        assert_eq!(
            ClusterId([0xff; 16]).to_string(),
            "ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
    }

    #[test]
    fn kinds_are_known_by_their_names() {
        for name in [
            "namespace",
            "deployment",
            "statefulset",
            "daemonset",
            "job",
            "cronjob",
        ] {
            assert_eq!(Kind::parse(name).map(Kind::as_str), Some(name));
        }
        assert_eq!(Kind::parse("secret"), None);
    }
}
