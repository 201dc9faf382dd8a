//! What the queries of the Pro tier share: whether there is Pro, and the way to the server.

use std::time::Duration;

use super::exit::Failure;
use crate::api_key::{self, ApiKey};
use crate::config::Config;
use crate::link::{self, Link};
use crate::privacy::id::ClusterId;
use crate::store::{Store, StoreError};

/// A person waits for the answer; what takes longer, the agent does.
const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);

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
