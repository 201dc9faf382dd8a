use std::process::ExitCode;

use super::args::Health;
use super::exit::Failure;
use super::output;
use crate::agent::Pulse;
use crate::config::{Config, Env};
use crate::time::Time;

/// For probes: looks at one small file, and at nothing that a cluster or a server could hold up.
pub(crate) fn run(health: &Health, env: Env<'_>) -> Result<ExitCode, Failure> {
    let config = Config::new(&health.flags(), env)?;
    let now = Time::now();
    let Some(pulse) = Pulse::read(&config.db) else {
        return Err(Failure::failed(format!(
            "no heartbeat beside {}: the agent is not running, or keeps its database elsewhere",
            config.db.display()
        )));
    };
    if pulse.stopped {
        return Err(Failure::failed("the agent has stopped"));
    }
    if !pulse.is_fresh(now) {
        let age = pulse.at.elapsed(now).as_secs();
        return Err(Failure::failed(format!(
            "the last heartbeat was {age} s ago"
        )));
    }
    if health.ready && !pulse.ready {
        return Err(Failure::failed(
            "not ready: the first status is not written yet",
        ));
    }
    Ok(output::answer("ok"))
}
