//! The running agent: two threads that block in plain calls, and one that waits for a signal.
//!
//! The **beat** writes the heartbeat and the status every minute and does nothing that could
//! hold it up: it never touches the database. The **worker** reads the cluster, keeps the
//! database and publishes what it finds. They share a small snapshot of how things are, and
//! nudge each other when something changed that the other should not find out a minute later.

mod beat;
mod heartbeat;
mod papers;
mod pro;
mod schedule;
mod state;
mod worker;

use std::fmt;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kube_client_lite::config::Timeouts;
use kube_client_lite::{Client, Error, KubeconfigOptions, RetryPolicy, TransportKind};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub(crate) use heartbeat::{Heartbeat, Pulse};
pub(crate) use pro::detail;

use crate::config::Config;
use crate::publish::status::ProFacts;
use crate::store::{Store, StoreError};
use crate::time::Time;
use beat::{Beat, Nudge};
use state::State;
use worker::Worker;

/// After a signal the last status may take this long.
const FAREWELL: Duration = Duration::from_millis(700);

/// From the signal to the end of the process, whatever does not answer.
const GRACE: Duration = Duration::from_millis(900);

/// How long a beat may take, all together well below what `health` takes for dead: a server that
/// drips a byte a second would hold it up for minutes.
const OF_A_BEAT: Timeouts = Timeouts {
    connect: Duration::from_secs(10),
    read: Duration::from_secs(15),
    answer: Duration::from_secs(20),
};

/// Why the agent cannot start. Whatever may mend itself later is no reason not to.
#[derive(Debug)]
pub(crate) enum StartError {
    Client(Error),
    Signals(std::io::Error),
    Store(StoreError),
    Thread(std::io::Error),
}

/// An agent that is up, and what it is stopped by.
struct Running {
    beat: thread::JoinHandle<()>,
    clients: [Client; 2],
    state: State,
    to_beat: mpsc::Sender<Nudge>,
}

/// Runs until SIGTERM or SIGINT.
///
/// This thread only waits for the signal and for what is done about it, for a moment. All that
/// could block is left to others: opening the database on a slow disk, a log that nobody reads.
pub(crate) fn run(config: &Config) -> Result<(), StartError> {
    // First, so that a signal is not lost however early it comes.
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(StartError::Signals)?;
    let (outcome, started) = mpsc::channel();
    let (settings, no_signals) = (config.clone(), signals.handle());
    let worker = spawn("worker", move || match start(&settings) {
        Ok((running, worker)) => {
            drop(outcome.send(Ok(running)));
            worker.run();
        }
        Err(error) => {
            drop(outcome.send(Err(error)));
            no_signals.close();
        }
    })?;
    let signal = signals.forever().next();
    let end = Instant::now() + GRACE;
    let Ok(running) = started.recv_timeout(GRACE / 3) else {
        // Still starting: there is nothing to take leave of.
        return Ok(());
    };
    let running = running?;
    let settings = config.clone();
    let (done, wait) = mpsc::channel();
    let stopping = spawn("stop", move || {
        stop(&settings, &running, &worker, signal);
        // Nobody waits any more when this is too late.
        let _ = done.send(());
    });
    if stopping.is_ok() {
        let _ = wait.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Brings the agent up, all but the worker, which takes over the thread.
fn start(config: &Config) -> Result<(Running, Worker), StartError> {
    log::info!(
        "kube9-operator {} starting in namespace {}",
        env!("CARGO_PKG_VERSION"),
        config.namespace
    );
    let heartbeat = Heartbeat::claim(&config.db);
    let beat_client = connect(config, OF_A_BEAT).map_err(StartError::Client)?;
    let worker_client = connect(config, Timeouts::default()).map_err(StartError::Client)?;
    log::info!("cluster API: {}", beat_client.config().source);
    let (store, opened) = Store::open(&config.db).map_err(StartError::Store)?;
    let state = State::new(store.stats().map_err(StartError::Store)?);
    // The first status, too, says how things stand with the server.
    state.set_pro(ProFacts::read(&store, Time::now()).map_err(StartError::Store)?);
    let (to_beat, beat_inbox) = mpsc::channel();
    let (to_worker, worker_inbox) = mpsc::channel();

    let mut worker = Worker::new(
        config,
        worker_client.clone(),
        store,
        state.clone(),
        to_beat.clone(),
        worker_inbox,
    );
    worker.forget_problems();
    worker.note_opened(opened);
    let beat = Beat::new(
        config,
        &beat_client,
        heartbeat,
        state.clone(),
        to_worker,
        beat_inbox,
    );
    let running = Running {
        // The beat runs on until its channel says stop or closes, the worker until its client does.
        beat: spawn("beat", move || beat.run())?,
        clients: [worker_client, beat_client],
        state,
        to_beat,
    };
    Ok((running, worker))
}

fn stop(config: &Config, running: &Running, worker: &thread::JoinHandle<()>, signal: Option<i32>) {
    drop(running.to_beat.send(Nudge::Stop));
    for client in &running.clients {
        client.shutdown_handle().shutdown();
    }
    log::info!(
        "shutting down on {}",
        if signal == Some(SIGINT) {
            "SIGINT"
        } else {
            "SIGTERM"
        }
    );
    say_farewell(config, &running.state);
    // Both have been freed from whatever they were blocked in; one that is still in a name
    // lookup ends with the process, and a transaction under way is rolled back by the next.
    for thread in [&running.beat, worker] {
        if !thread.is_finished() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn connect(config: &Config, timeouts: Timeouts) -> Result<Client, Error> {
    let options = KubeconfigOptions {
        path: config.kubeconfig.clone(),
        context: config.context.clone(),
    };
    client(&options, timeouts)
}

/// A client of the cluster the settings name.
pub(crate) fn client(options: &KubeconfigOptions, timeouts: Timeouts) -> Result<Client, Error> {
    let mut config = kube_client_lite::Config::infer(options)?;
    config.user_agent = format!("kube9-operator/{}", env!("CARGO_PKG_VERSION"));
    config.timeouts = timeouts;
    Client::new(config)
}

/// A failure as logs and status tell it: with what to do, where the message alone does not say.
fn explained(error: &Error, client: &Client) -> String {
    match error {
        Error::Transport {
            kind: TransportKind::Tls,
            ..
        } => format!(
            "{error}: the certificate of the API server does not fit the CA of {}; \
             a new CA is taken as soon as its file is there",
            client.config().source
        ),
        other => other.to_string(),
    }
}

fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, StartError> {
    thread::Builder::new()
        .name(name.to_owned())
        // Ample: the deepest stack is serde_json's, bounded by its recursion limit.
        .stack_size(512 << 10)
        .spawn(run)
        .map_err(StartError::Thread)
}

/// Tells the clients that the agent is going, if the API server answers at once.
fn say_farewell(config: &Config, state: &State) {
    let timeouts = Timeouts {
        connect: FAREWELL / 2,
        read: FAREWELL / 2,
        answer: FAREWELL / 2,
    };
    let status = state.status(config, true, Time::now());
    let config = config.clone();
    let (done, wait) = mpsc::channel();
    let farewell = move || {
        let result = connect(&config, timeouts)
            .and_then(|client| status.publish(&client.with_retry(RetryPolicy::NEVER)));
        drop(done.send(result));
    };
    // On a thread of its own, because a name lookup has no timeout.
    if spawn("farewell", farewell).is_err() {
        return;
    }
    match wait.recv_timeout(FAREWELL) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::warn!("the last status was not written: {error}"),
        Err(_) => log::warn!("the last status was not written: no answer within {FAREWELL:?}"),
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Signals(error) => write!(f, "cannot wait for signals: {error}"),
            Self::Store(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_that_is_dripped_at_is_over_before_the_agent_looks_dead() {
        let Timeouts {
            connect,
            read,
            answer,
        } = OF_A_BEAT;
        // To send it, and to hear the header and then the body.
        let slowest = connect + read + answer + answer;
        assert!(beat::PULSE + slowest < heartbeat::MAX_AGE);
    }
}
