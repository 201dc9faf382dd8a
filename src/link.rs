//! Calls to the server that go by the gate in the database, which the agent and the commands
//! beside it share: what one of them learns about the server, the others know.

use std::time::Duration;

use crate::api_key::{ApiKey, Fingerprint};
use crate::backoff;
use crate::server::{Call, CallError, Server, ServerSettings};
use crate::store::{Store, StoreError};
use crate::time::Time;

/// The server, and by which key it is called.
pub(crate) struct Link {
    pub(crate) server: Server,
    pub(crate) key: Fingerprint,
}

/// How a call went.
#[derive(Debug)]
pub(crate) enum Called<T> {
    Answered(T),
    Failed(CallError),
    /// It was not made: the gate says not before then.
    NotNow(Time),
}

impl Link {
    /// Links to the server; `None` before the first collection, when there is nothing to be called by.
    pub(crate) fn new(
        settings: &ServerSettings,
        key: ApiKey,
        store: &Store,
    ) -> Result<Option<Self>, StoreError> {
        let fingerprint = fingerprint(&key, store)?;
        Ok(fingerprint.map(|fingerprint| Self {
            server: Server::new(settings, key),
            key: fingerprint,
        }))
    }

    /// Whether the gate is open to a call.
    pub(crate) fn may(&self, store: &Store, call: Call) -> Result<bool, StoreError> {
        let ready_at = store.gate()?.ready_at(call, self.key, Time::now());
        Ok(ready_at.is_none())
    }

    /// Makes a call, unless the gate is closed to it, and lets the gate learn from it.
    pub(crate) fn call<T>(
        &self,
        store: &Store,
        call: Call,
        make: impl FnOnce(&Server) -> Result<T, CallError>,
    ) -> Result<Called<T>, StoreError> {
        if let Some(at) = store.gate()?.ready_at(call, self.key, Time::now()) {
            return Ok(Called::NotNow(at));
        }
        let result = make(&self.server);
        // Somebody else may have called meanwhile.
        store.change_gate(&mut |gate| {
            let outcome = result.as_ref().map(|_| ());
            gate.note(call, outcome, self.key, Time::now(), &mut draw);
        })?;
        Ok(match result {
            Ok(answer) => Called::Answered(answer),
            Err(error) => Called::Failed(error),
        })
    }
}

/// Tells the present key from another one, by the cluster's own id.
pub(crate) fn fingerprint(key: &ApiKey, store: &Store) -> Result<Option<Fingerprint>, StoreError> {
    let identity = store.identity()?;
    Ok(identity.map(|identity| key.fingerprint(&identity.cluster_id.0)))
}

fn draw(bound: Duration) -> Duration {
    backoff::jitter(backoff::paced(bound))
}
