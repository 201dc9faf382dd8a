//! What `helm test` runs: a pod of its own, with the agent's image and service account, that
//! looks at the agent from outside.

use std::process::ExitCode;
use std::time::Duration;

use kube_client_lite::KubeconfigOptions;
use kube_client_lite::config::Timeouts;
use serde::Deserialize;

use super::args::Check;
use super::exit::Failure;
use super::output;
use crate::agent;
use crate::config::{Config, Env};
use crate::publish::config_map;
use crate::publish::status::CONFIG_MAP;
use crate::time::Time;

/// Clients take an older status for a dead agent.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    health: String,
    error: Option<String>,
    last_update: String,
}

pub(crate) fn run(check: &Check, env: Env<'_>) -> Result<ExitCode, Failure> {
    let config = Config::new(&check.flags(), env)?;
    let options = KubeconfigOptions {
        path: config.kubeconfig.clone(),
        context: config.context.clone(),
    };
    let client = agent::client(&options, Timeouts::default()).map_err(Failure::failed)?;
    let version = client.version().map_err(Failure::failed)?;
    output::answer(&format!(
        "ok: the API server answers, version {}",
        output::printable(&version.git_version)
    ));
    let stored = config_map::read(&client, &config.namespace, CONFIG_MAP).map_err(|error| {
        Failure::failed(format!(
            "{error}: has the agent started in namespace {}?",
            config.namespace
        ))
    })?;
    output::answer(&format!("ok: ConfigMap {CONFIG_MAP} is there"));
    let status = stored.data.get("status").map_or("", String::as_str);
    let status: Status = serde_json::from_str(status).map_err(|error| {
        Failure::failed(format!("ConfigMap {CONFIG_MAP} holds no status: {error}"))
    })?;
    let now = Time::now();
    let age = Time::parse(&status.last_update).map(|at| at.elapsed(now));
    match age {
        Some(age) if age < MAX_AGE => {
            output::answer(&format!("ok: the status is {} s old", age.as_secs()))
        }
        _ => {
            return Err(Failure::failed(format!(
                "the status is of {}",
                status.last_update
            )));
        }
    };
    if status.health == "unhealthy" {
        let reason = status.error.unwrap_or_default();
        return Err(Failure::failed(format!("the agent is unhealthy: {reason}")));
    }
    Ok(output::answer(&format!(
        "ok: the agent is {}",
        output::printable(&status.health)
    )))
}
