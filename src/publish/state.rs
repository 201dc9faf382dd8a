//! The agent's own notes in the cluster: what a new agent on an empty volume goes on with, the map
//! of names above all.
//!
//! ```text
//! magic, version, SHA-256 of the rest cut to 16 bytes
//! blocks: length unpacked, length packed (u16, little endian), LZ4
//! unpacked: length of the head (u32), the head in JSON, names
//! names: groups of a 0, the kind and whether the last collection had them; in it for each name
//!        the differences of number, namespace and time to the name before, how many bytes of that
//!        name it shares, how many follow, and those
//! ```
//!
//! Names are most of it. In order of first sight neighbours have much in common, so that a name
//! takes about eight bytes of the cluster's store.

use std::borrow::Cow;
use std::fmt;

use kube_client_lite::{Client, Error};
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::config_map;
use crate::api_key::Fingerprint;
use crate::cluster::WorkloadKind;
use crate::json;
use crate::privacy::id::{ClusterId, ClusterIdentifier, Epoch, GivenId, Kind, OpaqueId, Uuid};
use crate::server::InsightState;
use crate::store::{
    Acknowledgement, Analysis, AnalysisState, Identity, MapName, QuotaWord, Reason, Registration,
    State, Store, StoreError, Target,
};
use crate::time::Time;

pub(crate) const CONFIG_MAP: &str = "kube9-operator-state";

const KEY: &str = "state";

const MAGIC: [u8; 4] = *b"k9st";
const VERSION: u8 = 1;

/// How much of a hash tells that nothing is damaged.
const HASH: usize = 16;

/// What may be written: 900 KiB as base64.
const MAX_PACKED: usize = 900 * 1024 / 4 * 3;

/// What is packed at a time. LZ4 looks back no further anyway.
const BLOCK: usize = 60_000;

/// The head, unpacked: half of the whole, even where nothing in it can be packed.
const MAX_HEAD: usize = 384 * 1024;

/// What is read, unpacked.
const MAX_UNPACKED: usize = 8 << 20;

/// What the names take in memory: a quarter of a million of the usual length.
const MAX_NAMES: usize = 16 << 20;

/// The longest name, in bytes.
const MAX_NAME: usize = 255;

/// The kinds by the numbers they are written as.
const KINDS: [Kind; 6] = [
    Kind::Namespace,
    Kind::Workload(WorkloadKind::Deployment),
    Kind::Workload(WorkloadKind::StatefulSet),
    Kind::Workload(WorkloadKind::DaemonSet),
    Kind::Workload(WorkloadKind::Job),
    Kind::Workload(WorkloadKind::CronJob),
];

/// A state as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) state: State,
    /// The hash of what identifies the cluster; `None` when it was not known.
    cluster: Option<String>,
}

/// Why a state cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateError {
    Damaged,
    /// A later version of the agent wrote it.
    Newer(u8),
}

/// All but the names.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    cluster: Option<String>,
    cluster_id: Cow<'a, str>,
    epoch: Cow<'a, str>,
    created_at: Time,
    counters: Vec<(Cow<'a, str>, u32)>,
    registration: Option<Link>,
    unsent: Vec<Verdict<'a>>,
    analyses: Vec<Waiting<'a>>,
    sent: Vec<Verdict<'a>>,
    quota: Option<QuotaWord>,
}

/// A registration.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    /// `None` where the server gave no name.
    given: Option<String>,
    key: Fingerprint,
    registered_at: Time,
    next_at: Time,
}

/// What a user made of an insight.
#[derive(Serialize, Deserialize)]
struct Verdict<'a>(Cow<'a, str>, InsightState, Time);

/// An analysis.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Waiting<'a> {
    id: Cow<'a, str>,
    kind: Cow<'a, str>,
    namespace: Cow<'a, str>,
    name: Cow<'a, str>,
    state: Cow<'a, str>,
    reason: Option<Cow<'a, str>>,
    requested_at: Time,
    not_before: Option<Time>,
    submitted_at: Option<Time>,
    message: Cow<'a, str>,
}

/// The state as it is to be written; `None` before the first collection. `cluster` is what
/// identifies the cluster, where that is known.
pub(crate) fn of(store: &Store, cluster: Option<&str>) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(state) = store.export_state()? else {
        return Ok(None);
    };
    let Some((bytes, left_out)) = encode(state, cluster) else {
        log::error!("cannot pack the state");
        return Ok(None);
    };
    if left_out > 0 {
        log::warn!("{CONFIG_MAP} has no room for {left_out} names and requests of this cluster");
    }
    Ok(Some(bytes))
}

/// Writes the ConfigMap.
pub(crate) fn write(client: &Client, namespace: &str, bytes: &[u8]) -> Result<(), Error> {
    config_map::apply_binary(client, namespace, CONFIG_MAP, "state", (KEY, bytes))
}

/// Reads the ConfigMap; `None` when there is none.
pub(crate) fn read(client: &Client, namespace: &str) -> Result<Option<Vec<u8>>, Error> {
    match config_map::read(client, namespace, CONFIG_MAP) {
        Ok(mut stored) => Ok(stored.binary_data.remove(KEY).map(|value| value.0)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Unpacks a state. Whatever the bytes are, it takes bounded time and memory.
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded, StateError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(StateError::Damaged)?;
    match rest.split_first() {
        Some((&VERSION, _)) => {}
        Some((version, _)) if *version > VERSION => return Err(StateError::Newer(*version)),
        _ => return Err(StateError::Damaged),
    }
    let (hash, blocks) = rest
        .get(1..)
        .and_then(|rest| rest.split_at_checked(HASH))
        .ok_or(StateError::Damaged)?;
    if hash != hash_of(blocks) {
        return Err(StateError::Damaged);
    }
    let mut unpacker = Unpacker::new(blocks);
    let json = unpacker.head()?;
    let mut head: Head<'_> = serde_json::from_slice(&json).map_err(|_| StateError::Damaged)?;
    let cluster = head.cluster.take();
    let mut state = state_of(head).ok_or(StateError::Damaged)?;
    drop(json);
    state.names = read_names(&mut unpacker)?;
    Ok(Decoded { state, cluster })
}

impl Decoded {
    /// Whether it is this cluster's, and not put back from the backup of another. What is not known
    /// is the same only as what is not known.
    pub(crate) fn is_of(&self, cluster: Option<&str>) -> bool {
        self.cluster == hashed(cluster)
    }
}

fn hashed(cluster: Option<&str>) -> Option<String> {
    cluster.map(|uid| ClusterIdentifier::new(uid).to_string())
}

/// Packs a state, and tells how many things are left out. The same state gives the same bytes.
///
/// What does not fit is left out: of verdicts that the server knows and then of the rest of the
/// head the oldest, of names those of Jobs first, then those that the last collection did not
/// have, then the newest. The counters always stay, so that no number is given again. `None` only
/// if the packing itself fails.
fn encode(mut state: State, cluster: Option<&str>) -> Option<(Vec<u8>, usize)> {
    let names = std::mem::take(&mut state.names);
    let mut packer = Packer::new();
    let mut left_out = write_head(&mut packer, &state, cluster)?;
    drop(state);
    left_out += write_names(&mut packer, names)?;
    Some((packer.finish()?, left_out))
}

/// Returns how many things are left out.
fn write_head(packer: &mut Packer, state: &State, cluster: Option<&str>) -> Option<usize> {
    let mut head = head_of(state, cluster);
    let mut left_out = 0;
    let mut json = json::to_string(&head);
    while json.len() > MAX_HEAD {
        left_out += halve(&mut head)?;
        json = json::to_string(&head);
    }
    packer.push(&u32::try_from(json.len()).ok()?.to_le_bytes())?;
    packer.push(json.as_bytes())?;
    Some(left_out)
}

/// Takes out the older half of what can best be spared; `None` when there is nothing more.
fn halve(head: &mut Head<'_>) -> Option<usize> {
    let half = |length: usize| length.div_ceil(2);
    let taken = if !head.sent.is_empty() {
        head.sent.drain(..half(head.sent.len())).count()
    } else if !head.analyses.is_empty() {
        head.analyses.drain(..half(head.analyses.len())).count()
    } else {
        head.unsent.drain(..half(head.unsent.len())).count()
    };
    (taken > 0).then_some(taken)
}

fn head_of<'a>(state: &'a State, cluster: Option<&str>) -> Head<'a> {
    let verdicts = |acks: &'a [Acknowledgement]| {
        let verdict =
            |ack: &'a Acknowledgement| Verdict(Cow::Borrowed(&ack.insight_id), ack.state, ack.at);
        acks.iter().map(verdict).collect()
    };
    Head {
        cluster: hashed(cluster),
        cluster_id: state.identity.cluster_id.to_string().into(),
        epoch: state.identity.epoch.to_string().into(),
        created_at: state.created_at,
        counters: state
            .counters
            .iter()
            .map(|(kind, last)| (kind.as_str().into(), *last))
            .collect(),
        registration: state.registration.as_ref().map(|registration| Link {
            given: match &registration.cluster_id {
                ClusterId::Own(_) => None,
                given @ ClusterId::Given(_) => Some(given.to_string()),
            },
            key: registration.key,
            registered_at: registration.registered_at,
            next_at: registration.next_at,
        }),
        unsent: verdicts(&state.unsent),
        analyses: state.analyses.iter().map(waiting).collect(),
        sent: verdicts(&state.sent),
        quota: state.quota,
    }
}

fn waiting(analysis: &Analysis) -> Waiting<'_> {
    Waiting {
        id: analysis.request_id.to_string().into(),
        kind: analysis.resource.kind.as_str().into(),
        namespace: Cow::Borrowed(&analysis.resource.namespace),
        name: Cow::Borrowed(&analysis.resource.name),
        state: analysis.state.as_str().into(),
        reason: analysis.reason.map(|reason| reason.as_str().into()),
        requested_at: analysis.requested_at,
        not_before: analysis.not_before,
        submitted_at: analysis.submitted_at,
        message: Cow::Borrowed(&analysis.message),
    }
}

/// `None` when the head holds what this version never wrote.
fn state_of(head: Head<'_>) -> Option<State> {
    let cluster_id = Uuid::parse(&head.cluster_id)?;
    let counter = |(kind, last): (Cow<'_, str>, u32)| Some((Kind::parse(&kind)?, last));
    let verdicts = |verdicts: Vec<Verdict<'_>>| {
        let acknowledgement = |Verdict(insight_id, state, at): Verdict<'_>| Acknowledgement {
            insight_id: insight_id.into_owned(),
            state,
            at,
        };
        verdicts.into_iter().map(acknowledgement).collect()
    };
    let registration = match head.registration {
        None => None,
        Some(link) => Some(Registration {
            cluster_id: match link.given {
                None => ClusterId::Own(cluster_id),
                Some(given) => ClusterId::Given(GivenId::parse(&given)?),
            },
            key: link.key,
            registered_at: link.registered_at,
            next_at: link.next_at,
        }),
    };
    Some(State {
        identity: Identity {
            cluster_id,
            epoch: Epoch(u128::from_str_radix(&head.epoch, 16).ok()?.to_be_bytes()),
        },
        created_at: head.created_at,
        counters: head
            .counters
            .into_iter()
            .map(counter)
            .collect::<Option<_>>()?,
        names: Vec::new(),
        registration,
        sent: verdicts(head.sent),
        unsent: verdicts(head.unsent),
        analyses: head
            .analyses
            .into_iter()
            .map(analysis_of)
            .collect::<Option<_>>()?,
        quota: head.quota,
    })
}

fn analysis_of(waiting: Waiting<'_>) -> Option<Analysis> {
    let reason = match waiting.reason {
        None => None,
        Some(reason) => Some(Reason::parse(&reason)?),
    };
    Some(Analysis {
        request_id: Uuid::parse(&waiting.id)?,
        resource: Target {
            kind: Kind::parse(&waiting.kind)?,
            namespace: waiting.namespace.into_owned(),
            name: waiting.name.into_owned(),
        },
        state: AnalysisState::parse(&waiting.state)?,
        reason,
        requested_at: waiting.requested_at,
        not_before: waiting.not_before,
        submitted_at: waiting.submitted_at,
        completed_at: None,
        message: waiting.message.into_owned(),
    })
}

/// Writes what fits, and returns how many names do not.
fn write_names(packer: &mut Packer, mut names: Vec<MapName>) -> Option<usize> {
    let count = names.len();
    // Kubernetes has no longer names, and the map no such number.
    names.retain(|name| name.name.len() <= MAX_NAME && name.id.number > 0);
    // What can best be spared comes last. A name is lost without that of its namespace.
    names.sort_unstable_by_key(|name| {
        let spared = match name.id.kind {
            Kind::Namespace => 0,
            Kind::Workload(WorkloadKind::Job) => 2,
            Kind::Workload(_) => 1,
        };
        (
            spared,
            !name.present,
            name.first_seen,
            code_of(name.id.kind),
            name.id.number,
        )
    });
    let mut before = Before::default();
    let mut entry = Vec::new();
    let mut held = 0;
    let mut written = 0;
    for name in &names {
        entry.clear();
        before.write(name, &mut entry)?;
        held += size_of::<MapName>() + name.name.len();
        if held > MAX_NAMES || !packer.has_room(entry.len())? {
            break;
        }
        packer.push(&entry)?;
        written += 1;
    }
    Some(count - written)
}

fn read_names(unpacker: &mut Unpacker<'_>) -> Result<Vec<MapName>, StateError> {
    let mut before = Before::default();
    let mut names = Vec::new();
    let mut held = 0;
    while !unpacker.is_at_end()? {
        let name = before.read(unpacker)?;
        held += size_of::<MapName>() + name.name.len();
        if held > MAX_NAMES {
            return Err(StateError::Damaged);
        }
        names.push(name);
    }
    Ok(names)
}

/// What the next name is told by: the one before it.
#[derive(Default)]
struct Before {
    /// Kind and whether the last collection had it; `None` before the first group.
    group: Option<(u8, bool)>,
    /// For each kind.
    numbers: [u32; KINDS.len()],
    namespace: u32,
    first_seen: i64,
    name: Vec<u8>,
}

impl Before {
    fn write(&mut self, name: &MapName, out: &mut Vec<u8>) -> Option<()> {
        let kind = code_of(name.id.kind);
        if self.group != Some((kind, name.present)) {
            self.group = Some((kind, name.present));
            out.extend([0, kind, u8::from(name.present)]);
        }
        let number = self.numbers.get_mut(usize::from(kind))?;
        let text = name.name.as_bytes();
        let pairs = text.iter().zip(&self.name);
        let shared = pairs.take_while(|(new, old)| new == old).count();
        let rest = text.get(shared..)?;
        write_difference(i64::from(*number), i64::from(name.id.number), out);
        write_difference(i64::from(self.namespace), i64::from(name.namespace), out);
        write_difference(self.first_seen, name.first_seen.as_millis(), out);
        out.push(u8::try_from(shared).ok()?);
        out.push(u8::try_from(rest.len()).ok()?);
        out.extend(rest);
        *number = name.id.number;
        self.namespace = name.namespace;
        self.first_seen = name.first_seen.as_millis();
        self.name.truncate(shared);
        self.name.extend(rest);
        Some(())
    }

    fn read(&mut self, from: &mut Unpacker<'_>) -> Result<MapName, StateError> {
        let mut number = from.difference()?;
        if number == 0 {
            let [kind, present] = from.array()?;
            self.group = Some((kind, present != 0));
            number = from.difference()?;
        }
        let (code, present) = self.group.ok_or(StateError::Damaged)?;
        let code = usize::from(code);
        let (Some(kind), Some(last)) = (KINDS.get(code), self.numbers.get_mut(code)) else {
            return Err(StateError::Damaged);
        };
        *last = moved(*last, number)?;
        self.namespace = moved(self.namespace, from.difference()?)?;
        self.first_seen = self.first_seen.wrapping_add(from.difference()?);
        let [shared, length] = from.array()?;
        if usize::from(shared) > self.name.len() {
            return Err(StateError::Damaged);
        }
        self.name.truncate(usize::from(shared));
        for _ in 0..length {
            self.name.push(from.byte()?);
        }
        let name = std::str::from_utf8(&self.name).map_err(|_| StateError::Damaged)?;
        Ok(MapName {
            id: OpaqueId {
                kind: *kind,
                number: *last,
            },
            namespace: self.namespace,
            name: name.into(),
            first_seen: Time::from_millis(self.first_seen),
            present,
        })
    }
}

fn code_of(kind: Kind) -> u8 {
    let code = KINDS.iter().position(|known| *known == kind);
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}

fn moved(number: u32, by: i64) -> Result<u32, StateError> {
    let moved = i64::from(number).checked_add(by);
    moved
        .and_then(|moved| u32::try_from(moved).ok())
        .ok_or(StateError::Damaged)
}

/// Small differences take one byte, whichever their sign.
fn write_difference(before: i64, after: i64, out: &mut Vec<u8>) {
    let difference = after.wrapping_sub(before);
    let mut rest = (difference << 1 ^ difference >> 63).cast_unsigned();
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

fn hash_of(bytes: &[u8]) -> [u8; HASH] {
    let mut hash = [0; HASH];
    for (byte, hashed) in hash.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *byte = *hashed;
    }
    hash
}

/// Packs block by block, so that what is packed is never in memory as a whole.
struct Packer {
    out: Vec<u8>,
    block: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer {
    fn new() -> Self {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        out.extend([0; HASH]);
        Self {
            out,
            block: Vec::with_capacity(BLOCK),
            packed: vec![0; get_maximum_output_size(BLOCK)],
        }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let room = BLOCK.saturating_sub(self.block.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend(now);
            bytes = later;
            if self.block.len() >= BLOCK {
                self.flush()?;
            }
        }
        Some(())
    }

    /// Whether so many bytes more fit, even if they cannot be packed at all.
    fn has_room(&mut self, length: usize) -> Option<bool> {
        loop {
            let more = self.block.len() + length;
            // At worst LZ4 adds a byte to each 255 and a few more; there may be two blocks.
            if self.out.len() + more + more / 255 + 64 <= MAX_PACKED {
                return Some(true);
            }
            if self.block.is_empty() {
                return Some(false);
            }
            // What waits takes less room once it is packed.
            self.flush()?;
        }
    }

    fn flush(&mut self) -> Option<()> {
        if self.block.is_empty() {
            return Some(());
        }
        let length = compress_into(&self.block, &mut self.packed).ok()?;
        for length in [self.block.len(), length] {
            self.out.extend(u16::try_from(length).ok()?.to_le_bytes());
        }
        self.out.extend(self.packed.get(..length)?);
        self.block.clear();
        Some(())
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        self.flush()?;
        let (front, blocks) = self.out.split_at_mut_checked(MAGIC.len() + 1 + HASH)?;
        front
            .last_chunk_mut::<HASH>()?
            .copy_from_slice(&hash_of(blocks));
        Some(self.out)
    }
}

/// Unpacks block by block.
struct Unpacker<'a> {
    packed: &'a [u8],
    block: Vec<u8>,
    /// What of the block has been read.
    at: usize,
    unpacked: usize,
}

impl<'a> Unpacker<'a> {
    fn new(packed: &'a [u8]) -> Self {
        Self {
            packed,
            block: Vec::new(),
            at: 0,
            unpacked: 0,
        }
    }

    fn head(&mut self) -> Result<Vec<u8>, StateError> {
        let length = u32::from_le_bytes(self.array()?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_HEAD {
            return Err(StateError::Damaged);
        }
        (0..length).map(|_| self.byte()).collect()
    }

    fn is_at_end(&mut self) -> Result<bool, StateError> {
        while self.at == self.block.len() {
            if self.packed.is_empty() {
                return Ok(true);
            }
            self.next_block()?;
        }
        Ok(false)
    }

    fn next_block(&mut self) -> Result<(), StateError> {
        let (head, rest) = self
            .packed
            .split_first_chunk::<4>()
            .ok_or(StateError::Damaged)?;
        let [a, b, c, d] = *head;
        let [length, packed] = [[a, b], [c, d]].map(|bytes| usize::from(u16::from_le_bytes(bytes)));
        let (packed, rest) = rest.split_at_checked(packed).ok_or(StateError::Damaged)?;
        self.packed = rest;
        self.unpacked += length;
        if self.unpacked > MAX_UNPACKED {
            return Err(StateError::Damaged);
        }
        self.block.resize(length, 0);
        self.at = 0;
        match decompress_into(packed, &mut self.block) {
            Ok(written) if written == length => Ok(()),
            _ => Err(StateError::Damaged),
        }
    }

    fn byte(&mut self) -> Result<u8, StateError> {
        if self.is_at_end()? {
            return Err(StateError::Damaged);
        }
        let byte = self.block.get(self.at).ok_or(StateError::Damaged)?;
        self.at += 1;
        Ok(*byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    fn difference(&mut self) -> Result<i64, StateError> {
        let mut folded = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            folded |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed());
            }
        }
        Err(StateError::Damaged)
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("it is damaged"),
            Self::Newer(version) => write!(
                f,
                "a later version of the agent wrote it in format {version}, this build reads \
                 {VERSION}"
            ),
        }
    }
}

impl std::error::Error for StateError {}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::path::Path;

    use kube_sim::{Options, Sim};
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: Option<&str> = Some("7d4a");

    fn deployment() -> Kind {
        Kind::parse("deployment").unwrap()
    }

    fn empty() -> State {
        State {
            identity: Identity {
                cluster_id: Uuid::parse("01010101-0101-4101-8101-010101010101").unwrap(),
                epoch: Epoch([0xa5; 16]),
            },
            created_at: Time::from_millis(1_763_908_248_120),
            counters: Vec::new(),
            names: Vec::new(),
            registration: None,
            sent: Vec::new(),
            unsent: Vec::new(),
            analyses: Vec::new(),
            quota: None,
        }
    }

    fn verdicts(count: usize, length: usize) -> Vec<Acknowledgement> {
        let verdict = |number| Acknowledgement {
            insight_id: format!("{number:0>length$}"),
            state: InsightState::Dismissed,
            at: Time::from_millis(1_763_908_248_120 + number),
        };
        (0..i64::try_from(count).unwrap()).map(verdict).collect()
    }

    fn full() -> State {
        let time = |millis: i64| Time::from_millis(1_763_908_000_000 + millis);
        let analysis = |name: &str, state, reason| Analysis {
            request_id: Uuid::parse("00000000-0000-4000-8000-000000000001").unwrap(),
            resource: Target {
                kind: deployment(),
                namespace: "production".to_owned(),
                name: name.to_owned(),
            },
            state,
            reason,
            requested_at: time(1),
            not_before: reason.map(|_| time(2)),
            submitted_at: None,
            completed_at: None,
            message: "\"Daily quota exceeded\" \u{20ac}".to_owned(),
        };
        State {
            counters: vec![(deployment(), 5), (Kind::Namespace, u32::MAX)],
            names: vec![
                name(Kind::Namespace, 2, "production", 0, true),
                name(Kind::Namespace, 7, "old", 0, false),
                name(deployment(), 1, "api", 2, true),
                name(deployment(), 4, "h\u{e4}user", 7, false),
                name(deployment(), 5, "api-gateway", 2, true),
                name(Kind::parse("job").unwrap(), 3, "", 7, false),
            ],
            registration: Some(Registration {
                cluster_id: ClusterId::Given(GivenId::parse("cls_7b9").unwrap()),
                key: serde_json::from_str("\"00000000000000ff\"").unwrap(),
                registered_at: time(3),
                next_at: time(4),
            }),
            sent: verdicts(2, 3),
            unsent: verdicts(1, 4),
            analyses: vec![
                analysis("api", AnalysisState::Queued, Some(Reason::QuotaExceeded)),
                analysis("gone", AnalysisState::Submitted, None),
            ],
            quota: Some(QuotaWord {
                limit: Some(24),
                used: None,
                remaining: Some(0),
                resets_at: Some(time(5)),
                as_of: time(6),
            }),
            ..empty()
        }
    }

    fn name(kind: Kind, number: u32, name: &str, namespace: u32, present: bool) -> MapName {
        MapName {
            id: OpaqueId { kind, number },
            namespace,
            name: name.into(),
            first_seen: Time::from_millis(1_763_908_248_120 + i64::from(number / 100)),
            present,
        }
    }

    /// What is read of what is written; in the order of the map, whatever it is written in.
    fn there_and_back(state: &State) -> State {
        let (bytes, left_out) = encode(state.clone(), CLUSTER).unwrap();
        assert_eq!(left_out, 0);
        assert!(bytes.len() <= MAX_PACKED);
        let mut back = decode(&bytes).unwrap().state;
        back.names
            .sort_by_key(|name| (code_of(name.id.kind), name.id.number));
        back
    }

    /// `count` Deployments as a cluster of `namespaces` namespaces may name them.
    fn of_a_cluster(count: u32, namespaces: u32) -> State {
        let parts = ["api", "cache", "gateway", "scheduler", "store", "worker"];
        let subjects = [
            "billing", "checkout", "identity", "ledger", "payments", "search",
        ];
        let mut names: Vec<MapName> = (1..=namespaces)
            .map(|number| name(Kind::Namespace, number, &format!("team-{number}"), 0, true))
            .collect();
        names.extend((0..count).map(|number| {
            let namespace = number / (count / namespaces).max(1);
            let subject = subjects[(namespace + number / 6) as usize % 6];
            let part = parts[number as usize % 6];
            let version = number % (count / namespaces).max(1) / 36;
            let text = format!("{subject}-{part}-v{version}");
            name(deployment(), number + 1, &text, namespace + 1, true)
        }));
        State {
            counters: vec![(deployment(), count), (Kind::Namespace, namespaces)],
            names,
            ..empty()
        }
    }

    /// Names that cannot be packed.
    fn unpackable(kind: &str, count: u32, present: bool) -> Vec<MapName> {
        let kind = Kind::parse(kind).unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(count);
        let mut letter = move |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'a' + u8::try_from((state >> 40) % 26).unwrap())
        };
        (1..=count)
            .map(|number| {
                let text: String = (0..40).map(&mut letter).collect();
                name(kind, number, &text, 1, present)
            })
            .collect()
    }

    #[test]
    fn what_was_written_is_read_back() {
        assert_eq!(there_and_back(&empty()), empty());
        assert_eq!(there_and_back(&full()), full());
        let own = State {
            registration: full().registration.map(|registration| Registration {
                cluster_id: ClusterId::Own(empty().identity.cluster_id),
                ..registration
            }),
            ..empty()
        };
        assert_eq!(there_and_back(&own), own);
        let bytes = |state| encode(state, CLUSTER).unwrap().0;
        assert_eq!(bytes(full()), bytes(full()));
    }

    #[test]
    fn a_new_database_goes_on_with_it() {
        let store = || Store::open(Path::new("/nonexistent/x.db")).unwrap().0;
        let mut new = store();
        assert_eq!(of(&new, CLUSTER).unwrap(), None);
        assert!(new.import_state(&there_and_back(&full())).unwrap());
        let bytes = of(&new, CLUSTER).unwrap().unwrap();
        let mut newer = store();
        let state = decode(&bytes).unwrap().state;
        assert!(newer.import_state(&state).unwrap());
        assert_eq!(newer.export_state().unwrap(), new.export_state().unwrap());
    }

    #[test]
    fn another_clusters_is_known_as_such() {
        for written in [CLUSTER, Some("other"), None] {
            let bytes = encode(full(), written).unwrap().0;
            let decoded = decode(&bytes).unwrap();
            for own in [CLUSTER, Some("other"), None] {
                assert_eq!(decoded.is_of(own), own == written);
            }
            assert!(!String::from_utf8_lossy(&bytes).contains("7d4a"));
        }
    }

    #[test]
    fn that_of_a_later_version_is_told_from_a_damaged_one() {
        let mut bytes = encode(full(), CLUSTER).unwrap().0;
        bytes[4] = VERSION + 1;
        assert_eq!(decode(&bytes), Err(StateError::Newer(2)));
        bytes[4] = 0;
        assert_eq!(decode(&bytes), Err(StateError::Damaged));
        assert_eq!(
            StateError::Newer(2).to_string(),
            "a later version of the agent wrote it in format 2, this build reads 1"
        );
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_seen() {
        let bytes = encode(full(), CLUSTER).unwrap().0;
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                assert!(decode(&damaged).is_err(), "{at}");
            }
            assert!(decode(&bytes[..at]).is_err(), "{at}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(decode(&longer), Err(StateError::Damaged));
    }

    /// Packs what no packer would.
    fn forged(blocks: &[u8]) -> Vec<u8> {
        let hash = hash_of(blocks);
        [MAGIC.as_slice(), &[VERSION], &hash, blocks].concat()
    }

    fn packed(unpacked: &[u8]) -> Vec<u8> {
        let mut packer = Packer::new();
        packer.push(unpacked).unwrap();
        packer.finish().unwrap()
    }

    /// The head alone, as it stands before the names.
    fn head() -> Vec<u8> {
        let json = json::to_string(&head_of(&empty(), CLUSTER));
        let length = u32::try_from(json.len()).unwrap().to_le_bytes();
        [length.as_slice(), json.as_bytes()].concat()
    }

    #[test]
    fn a_bomb_is_left_unpacked() {
        // A byte and a match of 60,000 with it: 240 bytes that unpack to 60,000.
        let mut packer = Packer::new();
        packer.push(&vec![b' '; BLOCK]).unwrap();
        packer.flush().unwrap();
        let block = packer.out[MAGIC.len() + 1 + HASH..].to_vec();
        assert!(block.len() < 300);
        let bomb = forged(&block.repeat(3000));
        assert_eq!(decode(&bomb), Err(StateError::Damaged));

        // Names of 255 bytes in six each.
        let mut unpacked = head();
        unpacked.extend([0, 1, 1, 2, 0, 0, 0, 255]);
        unpacked.extend([b'x'; 255]);
        unpacked.extend([2, 0, 0, 255, 0].repeat(1_000_000));
        assert!(unpacked.len() < MAX_UNPACKED);
        assert_eq!(decode(&packed(&unpacked)), Err(StateError::Damaged));
        // As many as are held are read.
        let held = MAX_NAMES / (size_of::<MapName>() + MAX_NAME);
        unpacked.truncate(head().len() + 263 + 5 * (held - 1));
        let state = decode(&packed(&unpacked)).unwrap().state;
        assert_eq!(state.names.len(), held);
    }

    #[test]
    fn a_head_that_is_none_is_damaged() {
        for unpacked in [
            b"".as_slice(),
            b"\x00\x00\x00",
            b"\x00\x00\x00\x00",
            b"\x02\x00\x00\x00{}",
            b"\xff\xff\xff\xff{}",
        ] {
            assert_eq!(decode(&packed(unpacked)), Err(StateError::Damaged));
        }
        let of_a_cluster = String::from_utf8(head()[4..].to_vec()).unwrap();
        for (right, wrong) in [
            ("01010101-0101-4101-8101-010101010101", "x"),
            ("\"counters\":[]", "\"counters\":[[\"secret\",1]]"),
            ("a5a5", "xx"),
        ] {
            let json = of_a_cluster.replace(right, wrong);
            assert_ne!(json, of_a_cluster);
            let length = u32::try_from(json.len()).unwrap().to_le_bytes();
            let unpacked = [length.as_slice(), json.as_bytes()].concat();
            let result = decode(&packed(&unpacked));
            assert_eq!(result, Err(StateError::Damaged), "{wrong}");
        }
    }

    #[test]
    fn fifty_thousand_names_of_the_usual_kind_fit() {
        let state = of_a_cluster(50_000, 500);
        assert_eq!(there_and_back(&state).names.len(), 50_500);
    }

    #[test]
    fn what_does_not_fit_is_what_can_best_be_spared() {
        let mut state = full();
        state.names = vec![name(Kind::Namespace, 1, "all", 0, true)];
        state.names.extend(unpackable("job", 20_000, true));
        state.names.extend(unpackable("statefulset", 20_000, false));
        state.names.extend(unpackable("deployment", 10_000, true));
        let count = state.names.len();
        let (bytes, left_out) = encode(state.clone(), CLUSTER).unwrap();
        assert!(bytes.len() <= MAX_PACKED);
        assert!(bytes.len() > MAX_PACKED - 100, "{}", bytes.len());
        let back = decode(&bytes).unwrap().state;
        assert_eq!(back.names.len() + left_out, count);
        let kept = |kind: &str| {
            let of_kind = back
                .names
                .iter()
                .filter(|name| name.id.kind.as_str() == kind);
            of_kind.map(|name| name.id.number).collect::<Vec<_>>()
        };
        assert_eq!(kept("namespace"), [1]);
        assert_eq!(kept("deployment"), (1..=10_000).collect::<Vec<_>>());
        assert!(kept("job").is_empty());
        let statefulsets = kept("statefulset");
        let last = u32::try_from(statefulsets.len()).unwrap();
        assert!((1000..20_000).contains(&last));
        assert_eq!(statefulsets, (1..=last).collect::<Vec<_>>());
        state.names.clear();
        assert_eq!(
            State {
                names: Vec::new(),
                ..back
            },
            state
        );
    }

    #[test]
    fn a_head_without_measure_keeps_what_matters() {
        let mut state = full();
        state.sent = verdicts(2000, 128);
        state.unsent = verdicts(1800, 128);
        state.names = unpackable("deployment", 10_000, true);
        state.names.push(name(Kind::Namespace, 1, "all", 0, true));
        let (bytes, left_out) = encode(state.clone(), CLUSTER).unwrap();
        assert!(bytes.len() <= MAX_PACKED);
        let back = decode(&bytes).unwrap().state;
        assert_eq!(back.counters, state.counters);
        assert_eq!(back.unsent, state.unsent);
        assert_eq!(back.analyses, state.analyses);
        // The newest of those that can be spared.
        assert!(!back.sent.is_empty() && back.sent.len() < 2000);
        assert!(state.sent.ends_with(&back.sent));
        let lost = state.sent.len() - back.sent.len() + state.names.len() - back.names.len();
        assert_eq!(left_out, lost);

        state.unsent = verdicts(6000, 128);
        let (bytes, _) = encode(state.clone(), CLUSTER).unwrap();
        let back = decode(&bytes).unwrap().state;
        assert_eq!(back.counters, state.counters);
        assert_eq!(back.identity, state.identity);
        assert!(back.sent.is_empty() && back.unsent.len() > 1000);
    }

    #[test]
    fn names_that_kubernetes_has_not_are_left_out() {
        let state = State {
            names: vec![
                name(deployment(), 0, "api", 0, true),
                name(deployment(), 1, &"x".repeat(256), 0, true),
                name(deployment(), 2, &"x".repeat(255), 0, true),
            ],
            ..empty()
        };
        let (bytes, left_out) = encode(state, CLUSTER).unwrap();
        assert_eq!(left_out, 2);
        let back = decode(&bytes).unwrap().state;
        assert_eq!(back.names.len(), 1);
    }

    #[test]
    fn the_api_server_takes_the_largest_and_gives_it_back() {
        let sim = Sim::start(Options::default()).unwrap();
        let client = config_map::tests::client(&sim);
        assert_eq!(read(&client, "default").unwrap(), None);
        let mut largest = empty();
        largest.names = vec![name(Kind::Namespace, 1, "all", 0, true)];
        largest.names.extend(unpackable("deployment", 30_000, true));
        for state in [largest, full()] {
            let (bytes, _) = encode(state, CLUSTER).unwrap();
            write(&client, "default", &bytes).unwrap();
            let stored = read(&client, "default").unwrap();
            assert_eq!(stored.as_deref(), Some(bytes.as_slice()));
        }
    }

    fn any_name() -> impl Strategy<Value = (usize, u32, String, bool, i64)> {
        let number = prop_oneof![1..20_u32, Just(u32::MAX), any::<u32>()];
        (
            0..KINDS.len(),
            number,
            ".{0,60}",
            any::<bool>(),
            any::<i64>(),
        )
    }

    proptest! {
        #[test]
        fn any_names_are_read_back(names in prop::collection::vec(any_name(), 0..30)) {
            let mut state = empty();
            for (kind, number, text, present, millis) in names {
                let number = number.max(1);
                let mut new = name(KINDS[kind], number, &text, number.rotate_left(7), present);
                new.first_seen = Time::from_millis(millis);
                let taken = state.names.iter().any(|other| other.id == new.id);
                if !taken && text.len() <= MAX_NAME {
                    state.names.push(new);
                }
            }
            state.names.sort_by_key(|name| (code_of(name.id.kind), name.id.number));
            prop_assert_eq!(there_and_back(&state), state);
        }

        /// Behind a right hash, too: whoever may write the ConfigMap can make one.
        #[test]
        fn no_bytes_are_too_much(
            blocks in prop::collection::vec(any::<u8>(), 0..200),
            unpacked in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let _ = decode(&blocks);
            prop_assert!(decode(&forged(&blocks)).is_err());
            let names = [head().as_slice(), &unpacked].concat();
            let _ = decode(&packed(&names));
            let bytes = encode(full(), CLUSTER).unwrap().0;
            let mut blocks = bytes[MAGIC.len() + 1 + HASH..].to_vec();
            let at = at.index(blocks.len());
            blocks[at] = byte;
            let _ = decode(&forged(&blocks));
        }
    }
}
