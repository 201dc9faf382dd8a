//! What the queries of the Pro tier share: whether there is Pro, and the way to the server.

use std::time::Duration;

use kube_client_lite::config::Timeouts;
use kube_client_lite::{Client, Error, KubeconfigOptions, RetryPolicy};

use super::exit::Failure;
use crate::api_key::{self, ApiKey};
use crate::config::Config;
use crate::link::{self, Link};
use crate::privacy::id::ClusterId;
use crate::publish::state;
use crate::store::{Store, StoreError};
use crate::{agent, cluster};

/// A person waits for the answer; what takes longer, the agent does.
const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);

/// When the cluster API is slower than this, it is done without.
const OF_A_LOOK: Timeouts = Timeouts {
    connect: Duration::from_secs(3),
    read: Duration::from_secs(3),
    answer: Duration::from_secs(5),
};

/// The agent does not change the database more often than this in a row.
const MAX_WRITES: u32 = 5;

pub(super) enum Tier {
    /// There is no usable key, and why.
    Free(String),
    Pro(ApiKey),
}

/// The tier as the agent sees it: Pro with a key that the server has not rejected.
pub(super) fn tier(config: &Config, store: &Store) -> Result<Tier, StoreError> {
    let file = config.api_key_file.display();
    let key = match api_key::read(&config.api_key_file) {
        Ok(Some(key)) => key,
        Ok(None) => {
            return Ok(Tier::Free(format!(
                "there is no API key in {file} (Helm value apiKey)"
            )));
        }
        Err(error) => return Ok(Tier::Free(error.to_string())),
    };
    let rejected = match link::fingerprint(&key, store)? {
        Some(fingerprint) => store.gate()?.is_rejected(fingerprint),
        None => false,
    };
    Ok(if rejected {
        Tier::Free(format!(
            "kube9-server does not accept the API key in {file}"
        ))
    } else {
        Tier::Pro(key)
    })
}

/// The API key, for what only Pro can do.
pub(super) fn require(config: &Config, store: &Store) -> Result<ApiKey, Failure> {
    match tier(config, store)? {
        Tier::Free(why) => Err(Failure::needs_pro(format!(
            "this needs the Pro tier: {why}"
        ))),
        Tier::Pro(key) => Ok(key),
    }
}

/// A client of the cluster that gives up soon.
pub(super) fn client(config: &Config) -> Result<Client, Error> {
    let options = KubeconfigOptions {
        path: config.kubeconfig.clone(),
        context: config.context.clone(),
    };
    let client = agent::client(&options, OF_A_LOOK)?;
    Ok(client.with_retry(RetryPolicy::NEVER))
}

/// Puts what could not be sent where it outlives the database: the pod may be gone before the agent
/// gets to it. As well as can be done now; the agent does it again.
pub(super) fn keep(config: &Config, store: &Store) {
    let Ok(client) = client(config) else {
        return;
    };
    let Ok(cluster) = cluster::identity(&client) else {
        return;
    };
    for _ in 0..MAX_WRITES {
        let Ok(version) = store.data_version() else {
            return;
        };
        let Ok(Some(state)) = state::of(store, Some(&cluster)) else {
            return;
        };
        let written = state::write(&client, &config.namespace, &state);
        // What the agent has kept and written meanwhile must not be lost under an older state.
        if written.is_err() || store.data_version().is_ok_and(|now| now == version) {
            return;
        }
    }
}

/// The way to the server, and what it calls the cluster; or why there is none: the agent has not
/// registered the cluster with this key.
pub(super) fn link(
    config: &Config,
    store: &Store,
    key: ApiKey,
) -> Result<Result<(Link, ClusterId), String>, StoreError> {
    let Some(link) = Link::new(&config.server, key, store)? else {
        return Ok(Err("the cluster has not been read yet".to_owned()));
    };
    let registration = store.registration()?;
    let Some(registration) = registration.filter(|registration| registration.key == link.key)
    else {
        let gate = store.gate()?;
        let unregistered = "this cluster is not registered with kube9-server yet";
        let why = gate.problem(link.key, false).unwrap_or(unregistered);
        return Ok(Err(why.to_owned()));
    };
    let link = Link {
        server: link.server.with_limits(CONNECT, WHOLE),
        key: link.key,
    };
    Ok(Ok((link, registration.cluster_id)))
}
