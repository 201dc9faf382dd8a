//! How things stand with the server.

use serde::{Deserialize, Serialize};

use super::names::Identity;
use super::{Store, StoreError, document};
use crate::api_key::Fingerprint;
use crate::privacy::id::{ClusterId, GivenId};
use crate::server::Gate;
use crate::time::Time;

const GATE: &str = "gate";
const REGISTRATION: &str = "registration";
const SYNC: &str = "sync";

/// The server knows this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) cluster_id: ClusterId,
    /// With which key.
    pub(crate) key: Fingerprint,
    pub(crate) registered_at: Time,
    /// When to register again.
    pub(crate) next_at: Time,
}

/// How syncs with the server went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SyncState {
    pub(crate) last_attempt: Option<Time>,
    pub(crate) last_success: Option<Time>,
    pub(crate) next_attempt: Option<Time>,
    pub(crate) consecutive_failures: u32,
}

/// A registration as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    /// `None` where the server gave no name.
    given: Option<String>,
    key: Fingerprint,
    registered_at: Time,
    next_at: Time,
}

impl Store {
    pub(crate) fn registration(&self) -> Result<Option<Registration>, StoreError> {
        let Some(kept) = document::read::<Kept>(&self.connection, REGISTRATION)? else {
            return Ok(None);
        };
        let cluster_id = match &kept.given {
            Some(given) => GivenId::parse(given).map(ClusterId::Given),
            None => self
                .identity()?
                .map(|identity| ClusterId::Own(identity.cluster_id)),
        };
        Ok(cluster_id.map(|cluster_id| Registration {
            cluster_id,
            key: kept.key,
            registered_at: kept.registered_at,
            next_at: kept.next_at,
        }))
    }

    /// Notes a registration, or with `None` that there is none any more.
    pub(crate) fn set_registration(
        &self,
        registration: Option<&Registration>,
    ) -> Result<(), StoreError> {
        let Some(registration) = registration else {
            return Ok(document::remove(&self.connection, REGISTRATION)?);
        };
        let given = match &registration.cluster_id {
            ClusterId::Given(given) => Some(ClusterId::Given(given.clone()).to_string()),
            ClusterId::Own(_) => None,
        };
        let kept = Kept {
            given,
            key: registration.key,
            registered_at: registration.registered_at,
            next_at: registration.next_at,
        };
        document::write(&self.connection, REGISTRATION, &kept)
    }

    /// What the server calls the cluster, or would once it is registered.
    pub(super) fn cluster_id(&self, identity: Identity) -> Result<ClusterId, StoreError> {
        let own = ClusterId::Own(identity.cluster_id);
        Ok(self
            .registration()?
            .map_or(own, |registration| registration.cluster_id))
    }

    pub(crate) fn gate(&self) -> Result<Gate, StoreError> {
        Ok(document::read(&self.connection, GATE)?.unwrap_or_default())
    }

    pub(crate) fn set_gate(&self, gate: &Gate) -> Result<(), StoreError> {
        document::write(&self.connection, GATE, gate)
    }

    /// Changes the gate, and nobody else can meanwhile.
    pub(crate) fn change_gate(&self, change: &mut dyn FnMut(&mut Gate)) -> Result<(), StoreError> {
        let transaction = self.immediate()?;
        let mut gate = self.gate()?;
        change(&mut gate);
        self.set_gate(&gate)?;
        transaction.commit()?;
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<SyncState, StoreError> {
        Ok(document::read(&self.connection, SYNC)?.unwrap_or_default())
    }

    pub(crate) fn set_sync(&self, sync: &SyncState) -> Result<(), StoreError> {
        document::write(&self.connection, SYNC, sync)
    }
}
