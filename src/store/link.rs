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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api_key::ApiKey;
    use crate::cluster::inventory_of;
    use crate::server::{Call, CallError, Meaning};

    fn key() -> Fingerprint {
        ApiKey::parse("key").unwrap().fingerprint(b"salt")
    }

    #[test]
    fn a_registration_is_read_back_under_either_name() {
        let mut store = Store::for_tests();
        let now = Time::from_millis(1);
        assert_eq!(store.registration().unwrap(), None);
        store.save_inventory(&inventory_of(&[]), now).unwrap();
        let own = store.identity().unwrap().unwrap().cluster_id;
        let given = GivenId::parse("cls_7b9").unwrap();
        for cluster_id in [ClusterId::Given(given), ClusterId::Own(own)] {
            let registration = Registration {
                cluster_id,
                key: key(),
                registered_at: now,
                next_at: now.plus(Duration::from_secs(60)),
            };
            store.set_registration(Some(&registration)).unwrap();
            assert_eq!(store.registration().unwrap(), Some(registration));
        }
        store.set_registration(None).unwrap();
        assert_eq!(store.registration().unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_is_as_good_as_none() {
        let store = Store::for_tests();
        for name in [GATE, REGISTRATION, SYNC, "quota", "cursor"] {
            for body in [
                "",
                "7",
                "{\"failures\":\"many\",\"lastAttempt\":\"yesterday\"}",
            ] {
                store
                    .put_document(name, body, Time::from_millis(1))
                    .unwrap();
                assert_eq!(store.gate().unwrap(), Gate::default());
                assert_eq!(store.registration().unwrap(), None);
                assert_eq!(store.sync().unwrap(), SyncState::default());
                let now = Time::from_millis(5);
                assert_eq!(store.quota(now).unwrap().limit, None);
                assert_eq!(store.since(now).unwrap(), Time::from_millis(0));
            }
        }
    }

    #[test]
    fn what_did_not_change_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        let (store, _) = Store::open(&path).unwrap();
        let other = Store::open_read_only(&path).unwrap();
        let sync = SyncState {
            last_attempt: Some(Time::from_millis(5)),
            consecutive_failures: 2,
            ..SyncState::default()
        };
        store.set_sync(&sync).unwrap();
        store.set_gate(&Gate::default()).unwrap();
        assert_eq!(store.sync().unwrap(), sync);
        let before = other.data_version().unwrap();
        store.set_sync(&sync).unwrap();
        store.set_gate(&Gate::default()).unwrap();
        store.change_gate(&mut |_| {}).unwrap();
        assert_eq!(other.data_version().unwrap(), before);
        store.set_sync(&SyncState::default()).unwrap();
        assert_ne!(other.data_version().unwrap(), before);
    }

    #[test]
    fn two_processes_at_the_gate_lose_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        drop(Store::open(&path).unwrap());
        let error = CallError::new(Call::Quota, Meaning::Unreachable, "no answer");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let store = Store::open_for_command(&path).unwrap();
                    for _ in 0..20 {
                        let now = Time::from_millis(1);
                        let mut note = |gate: &mut Gate| {
                            gate.note(Call::Quota, Err(&error), key(), now, &mut |wait| wait);
                        };
                        store.change_gate(&mut note).unwrap();
                    }
                });
            }
        });
        let store = Store::open_read_only(&path).unwrap();
        assert_eq!(store.gate().unwrap().failures(), 40);
    }
}
