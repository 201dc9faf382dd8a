//! The beat: heartbeat and status, every minute or so, whatever else the agent is doing.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use kube_client_lite::{Client, Error, RetryPolicy};

use super::explained;
use super::heartbeat::{Heartbeat, Pulse};
use super::state::State;
use super::worker::Message;
use crate::backoff::doubled;
use crate::config::Config;
use crate::publish::status::{self, Status};
use crate::store::ProblemKind;
use crate::time::Time;

/// After a status that could not be written the next try comes this soon, then twice as late,
/// up to the usual interval: an API server that is away for a moment at the start must not cost
/// a whole minute.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// A heartbeat is written this often, however seldom the status is: `health` takes one of three
/// minutes for a dead agent, and a status may be four apart.
pub(super) const PULSE: Duration = Duration::from_secs(60);

/// The beat's inbox.
pub(crate) enum Nudge {
    /// Something that the status tells has changed.
    Changed,
    Stop,
}

pub(crate) struct Beat {
    client: Client,
    config: Config,
    heartbeat: Heartbeat,
    inbox: Receiver<Nudge>,
    state: State,
    to_worker: Sender<Message>,
    pulse_every: Duration,
    /// Whether a status was ever written.
    ready: bool,
    failures: u32,
    last: Option<Status>,
}

impl Beat {
    pub(crate) fn new(
        config: &Config,
        client: &Client,
        heartbeat: Heartbeat,
        state: State,
        to_worker: Sender<Message>,
        inbox: Receiver<Nudge>,
    ) -> Self {
        Self {
            // A beat that waits out a Retry-After is a beat that is missed: the next is near.
            client: client.with_retry(RetryPolicy::NEVER),
            config: config.clone(),
            heartbeat,
            inbox,
            state,
            to_worker,
            pulse_every: PULSE,
            ready: false,
            failures: 0,
            last: None,
        }
    }

    pub(crate) fn run(mut self) {
        let mut next = Instant::now();
        loop {
            let started = Instant::now();
            self.pulse(false);
            self.write_status();
            self.pulse(false);
            next = if self.failures == 0 {
                // Counted from the beat before, so that slow writes do not add up.
                let planned = next + self.config.status_interval;
                planned.max(started)
            } else {
                Instant::now() + self.retry_wait()
            };
            loop {
                let wait = next.saturating_duration_since(Instant::now());
                match self.inbox.recv_timeout(wait.min(self.pulse_every)) {
                    Ok(Nudge::Changed) if self.changed() => {
                        // Counted from here: a status out of turn must not put off the next.
                        next = Instant::now();
                        break;
                    }
                    Ok(Nudge::Changed) => {}
                    Ok(Nudge::Stop) | Err(RecvTimeoutError::Disconnected) => {
                        self.pulse(true);
                        return;
                    }
                    Err(RecvTimeoutError::Timeout) if wait > self.pulse_every => {
                        self.pulse(false);
                        // A key that has come or gone must not wait for the next status.
                        if self.changed() {
                            next = Instant::now();
                            break;
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
        }
    }

    fn pulse(&mut self, stopped: bool) {
        let pulse = Pulse {
            at: Time::now(),
            ready: self.ready,
            stopped,
        };
        self.heartbeat.write(pulse);
    }

    fn write_status(&mut self) {
        let status = self.state.status(&self.config, false, Time::now());
        let result = status.publish(&self.client);
        self.last = Some(status);
        let refused = match &result {
            Ok(()) => {
                if self.failures > 0 {
                    log::info!("the status can be written again");
                    drop(self.to_worker.send(Message::ClusterAnswers));
                }
                self.ready = true;
                self.failures = 0;
                None
            }
            Err(Error::Shutdown) => return,
            Err(failure) => {
                // Every failure of a long outage is the same line: told once, then whispered.
                let level = if self.failures == 0 {
                    log::Level::Warn
                } else {
                    log::Level::Debug
                };
                let error = explained(failure, &self.client);
                log::log!(level, "the status was not written: {error}");
                self.failures = self.failures.saturating_add(1);
                failure
                    .api()
                    .filter(|answer| answer.code < 500)
                    .map(|_| format!("cannot write ConfigMap {}: {error}", status::CONFIG_MAP))
            }
        };
        // No status can tell that no status can be written, but `query status` can.
        let silent = match &result {
            Err(failure) if failure.api().is_none() && self.failures > 1 => {
                let error = explained(failure, &self.client);
                Some(format!("cluster API unusable: {error}"))
            }
            _ => None,
        };
        // Whether it is usable for all else, the worker looks when told that it answers.
        if silent.is_some() && self.state.note(ProblemKind::Cluster, silent.as_deref()) {
            drop(
                self.to_worker
                    .send(Message::Persist(ProblemKind::Cluster, silent)),
            );
        }
        if self.state.note(ProblemKind::ConfigMap, refused.as_deref()) {
            drop(
                self.to_worker
                    .send(Message::Persist(ProblemKind::ConfigMap, refused)),
            );
        }
    }

    /// Whether what the status would say now differs from what it said last.
    fn changed(&self) -> bool {
        let status = self.state.status(&self.config, false, Time::now());
        !self
            .last
            .as_ref()
            .is_some_and(|last| last.says_the_same(&status))
    }

    fn retry_wait(&self) -> Duration {
        doubled(FIRST_RETRY, self.failures, self.config.status_interval)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;

    use kube_client_lite::KubeconfigOptions;
    use kube_client_lite::config::Timeouts;
    use kube_sim::{Options, Sim};

    use super::*;
    use crate::config::Flags;
    use crate::store::CollectionStats;

    #[test]
    fn the_heart_beats_between_statuses_that_are_far_apart() {
        let sim = Sim::start(Options::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let text = |name: &str| Some(dir.path().join(name).to_str().unwrap().to_owned());
        std::fs::write(dir.path().join("kubeconfig"), sim.kubeconfig()).unwrap();
        let flags = Flags {
            api_key_file: text("apiKey"),
            db: text("kube9.db"),
            namespace: Some("kube9-system".to_owned()),
            status_interval: Some("240s".to_owned()),
            ..Flags::default()
        };
        let config = Config::new(&flags, &|_| None).unwrap();
        let options = KubeconfigOptions {
            path: Some(dir.path().join("kubeconfig")),
            context: None,
        };
        let client = super::super::client(&options, Timeouts::default()).unwrap();
        let heartbeat = Heartbeat::claim(&config.db);
        let (to_worker, _worker) = mpsc::channel();
        let (to_beat, inbox) = mpsc::channel();
        let state = State::new(CollectionStats::default());
        let mut beat = Beat::new(&config, &client, heartbeat, state, to_worker, inbox);
        beat.pulse_every = Duration::from_millis(20);
        let beat = std::thread::spawn(move || beat.run());
        let mut seen = Vec::new();
        let since = Instant::now();
        while seen.len() < 5 && since.elapsed() < Duration::from_secs(60) {
            let pulse = Pulse::read(&config.db)
                .filter(|pulse| pulse.ready)
                .map(|pulse| pulse.at);
            if pulse.is_some() && seen.last() != Some(&pulse) {
                seen.push(pulse);
            }
        }
        to_beat.send(Nudge::Stop).unwrap();
        beat.join().unwrap();
        assert_eq!(seen.len(), 5);
        let writes = sim
            .requests()
            .iter()
            .filter(|request| request.method == "PATCH")
            .count();
        assert_eq!(writes, 1, "the status was not due");
    }
}
