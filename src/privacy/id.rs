//! Opaque ids: what a namespace or workload is called outside of its cluster.

use std::fmt;

use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Serialize, Serializer};

use crate::cluster::WorkloadKind;

/// The kinds that have ids, each with a counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Namespace,
    Workload(WorkloadKind),
}

/// A kind and a number: `deployment_002`. The number tells the order in which names were
/// first seen, those first seen together by the alphabet, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpaqueId {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
}

/// Tells one map of names from another: 128 random bits, drawn with a new map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(pub(crate) [u8; 16]);

/// 128 bits as a UUID (version 4, RFC 9562): the version and the variant are set where it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uuid(pub(crate) [u8; 16]);

/// What the server calls the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClusterId {
    /// As the agent calls it until a server has named it, or where the server names nothing.
    Own(Uuid),
    Given(GivenId),
}

/// A name that a server gave. It is made of a server's answers alone, so it tells a server nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenId(String);

/// Tells a server that this is the cluster it knows already, and nothing else: a hash of what
/// identifies the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClusterIdentifier([u8; 32]);

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

impl OpaqueId {
    /// Reads an id in the one form it is written in: `deployment_2` is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.split_once('_')?;
        let id = Self {
            kind: Kind::parse(kind)?,
            number: number.parse().ok()?,
        };
        (id.to_string() == text).then_some(id)
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

impl Uuid {
    /// Draws one; `None` when the operating system gives no random bytes.
    pub(crate) fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Reads one back as it was written.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|byte| *byte != b'-')
            .map(|byte| char::from(byte).to_digit(16))
            .map(|digit| u8::try_from(digit?).ok())
            .collect::<Option<_>>()?;
        let mut bytes = [0; 16];
        let pairs = digits.chunks_exact(2);
        if pairs.len() != bytes.len() || !pairs.remainder().is_empty() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        Some(Self(bytes)).filter(|uuid| uuid.to_string() == text)
    }
}

impl fmt::Display for Uuid {
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

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl GivenId {
    /// A name can go into a body and a log as it is.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte));
        plain.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(uuid) => uuid.fmt(f),
            Self::Given(GivenId(id)) => f.write_str(id),
        }
    }
}

impl Serialize for ClusterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ClusterIdentifier {
    /// Of the UID of the namespace `kube-system`. The prefix keeps it from being the hash that
    /// somebody else may have made of the same UID.
    pub(crate) fn new(uid: &str) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"kube9 cluster identifier\n");
        hash.update(uid.as_bytes());
        let mut bytes = [0; 32];
        for (byte, hashed) in bytes.iter_mut().zip(hash.finish().as_ref()) {
            *byte = *hashed;
        }
        Self(bytes)
    }
}

impl fmt::Display for ClusterIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for ClusterIdentifier {
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
            Uuid([0xff; 16]).to_string(),
            "ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
        assert_eq!(
            ClusterIdentifier::new("7d4a").to_string().len(),
            "sha256:".len() + 64
        );
    }

    #[test]
    fn what_was_written_is_read_back_and_nothing_else() {
        for text in ["deployment_002", "namespace_12345", "job_4294967295"] {
            let id = OpaqueId::parse(text).map(|id| id.to_string());
            assert_eq!(id.as_deref(), Some(text));
        }
        for text in [
            "deployment_2",
            "deployment_0002",
            "deployment_+02",
            "job_4294967296",
            "secret_001",
            "deployment_",
            "_001",
            "",
        ] {
            assert_eq!(OpaqueId::parse(text), None, "{text}");
        }
        let uuid = Uuid::random().map(|uuid| uuid.to_string());
        let read = uuid.as_deref().and_then(Uuid::parse);
        assert_eq!(read.map(|uuid| uuid.to_string()), uuid);
        for text in [
            "",
            "ffffffff-ffff-4fff-bfff-fffffffffff",
            "FFFFFFFF-ffff-4fff-bfff-ffffffffffff",
            "ffffffffffff4fffbfffffffffffffff",
            "ffffffff-ffff-4fff-bfff-ffffffffffff0",
            "ffffffff-ffff-1fff-bfff-ffffffffffff",
        ] {
            assert_eq!(Uuid::parse(text), None, "{text}");
        }
        assert!(GivenId::parse("cls_7b9").is_some());
        for text in ["", "a b", "a\n", "\u{e9}", &"x".repeat(129)] {
            assert_eq!(GivenId::parse(text), None, "{text:?}");
        }
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
