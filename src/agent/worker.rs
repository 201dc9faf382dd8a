//! The worker: collects the cluster, keeps the database, publishes what follows from it, and has
//! kube9-server told.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use kube_client_lite::{Client, Error, RetryPolicy};

use super::beat::Nudge;
use super::explained;
use super::papers::{PaperError, Papers};
use super::pro::Pro;
use super::schedule::Schedule;
use super::state::State;
use crate::backoff::{Backoff, jitter, paced};
use crate::cluster::{self, CollectOptions, Collected};
use crate::config::Config;
use crate::publish::dashboard;
use crate::publish::status::ProFacts;
use crate::store::{Opened, ProblemKind, Store, StoreError};
use crate::time::Time;

const DASHBOARD_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How soon the worker sees that the key's file or, by a command, the database has changed.
const TICK: Duration = Duration::from_secs(5);

/// What the status says of Pro is looked up at least this often: a quota is back by itself.
const FACTS_INTERVAL: Duration = Duration::from_secs(60);

/// After a ConfigMap could not be written, and another one at least as long.
const PAPER_RETRY: Duration = Duration::from_secs(30);

/// The worker's inbox.
pub(crate) enum Message {
    /// The cluster API answers again after it did not.
    ClusterAnswers,
    /// A problem of the beat's is to be kept in the database.
    Persist(ProblemKind, Option<String>),
}

pub(crate) struct Worker {
    client: Client,
    db: PathBuf,
    excluded: BTreeSet<String>,
    /// What tells this cluster from others, once it is known.
    identity: Option<String>,
    inbox: Receiver<Message>,
    namespace: String,
    papers: Papers,
    papers_at: Instant,
    pro: Pro,
    state: State,
    store: Store,
    sync_interval: Duration,
    to_beat: Sender<Nudge>,
    backoff: Backoff,
    /// What is wrong inside of the database, until it is rebuilt.
    damage: Option<StoreError>,
    /// There is no file, so far.
    in_memory: bool,
    /// The agent before this one left with something wrong.
    inherited: bool,
    /// When the next collection is due, by the clock; none while failures put it off.
    turn: Option<Time>,
    /// Why the last collection failed.
    failure: Option<String>,
    /// The last refresh of the dashboard reached nobody.
    dashboard_is_old: bool,
}

impl Worker {
    pub(crate) fn new(
        config: &Config,
        client: Client,
        store: Store,
        state: State,
        to_beat: Sender<Nudge>,
        inbox: Receiver<Message>,
    ) -> Self {
        Self {
            pro: Pro::new(config, client.shutdown_handle()),
            papers: Papers::new(&config.namespace),
            papers_at: Instant::now(),
            client,
            db: config.db.clone(),
            excluded: config.exclude_namespaces.clone(),
            identity: None,
            inbox,
            namespace: config.namespace.clone(),
            state,
            store,
            sync_interval: config.sync_interval,
            to_beat,
            backoff: Backoff::default(),
            damage: None,
            in_memory: false,
            inherited: false,
            turn: None,
            failure: None,
            dashboard_is_old: false,
        }
    }

    pub(crate) fn run(mut self) {
        // Not before: the first status does not wait for a slow disk.
        let verified = self.store.verify(&self.db);
        if !self.in_memory {
            self.kept(verified);
        }
        let widened = Pro::widen(&self.store);
        self.kept(widened);
        let mut collect_at = self.first_collection();
        let mut refresh_at = Instant::now();
        let mut facts_at = Instant::now();
        while !self.client.shutdown_handle().is_shut_down() {
            self.mend_database();
            let mut news = self.take_key();
            let now = Instant::now();
            if now >= collect_at || self.missed_its_turn() {
                let wait = self.collect();
                collect_at = Instant::now() + wait;
                if !self.backoff.is_failing() {
                    refresh_at = Instant::now() + DASHBOARD_INTERVAL;
                }
                news |= self.take_key();
            } else if now >= refresh_at {
                self.refresh_dashboard();
                refresh_at = Instant::now() + DASHBOARD_INTERVAL;
            }
            // First, so that no id is told that would be given again if the database were lost now.
            news |= self.write_papers();
            self.talk_to_server();
            news |= self.write_papers();
            if news || Instant::now() >= facts_at {
                self.tell_facts();
                facts_at = Instant::now() + FACTS_INTERVAL;
            }
            // Idle for minutes: the beat keeps a connection, and one is enough.
            self.client.disconnect();
            self.store.shrink();
            let until = collect_at.min(refresh_at).min(Instant::now() + paced(TICK));
            match self
                .inbox
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(Message::ClusterAnswers) => {
                    // Not all agents' API servers come back at once, but this one has just.
                    let soon = Instant::now() + jitter(Duration::from_secs(5));
                    if self.backoff.is_failing() {
                        collect_at = soon;
                    }
                    if self.dashboard_is_old || self.state.has(ProblemKind::Cluster) {
                        refresh_at = soon;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Persist(kind, message)) => self.persist(kind, message.as_deref()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Yesterday's problems are not today's, but whether they are gone only a collection can tell.
    pub(crate) fn forget_problems(&mut self) {
        self.inherited = self
            .store
            .problems()
            .is_ok_and(|problems| !problems.is_empty());
        let forgotten = self.store.forget_problems();
        self.kept(forgotten);
    }

    /// Notes a problem, or that it is gone, where both the status and queries see it.
    /// Whether that is news.
    pub(crate) fn note(&mut self, kind: ProblemKind, message: Option<&str>) -> bool {
        let news = self.state.note(kind, message);
        if news {
            self.persist(kind, message);
            drop(self.to_beat.send(Nudge::Changed));
        }
        news
    }

    /// The agent goes on without what could not be kept, and says so until a collection can be.
    fn kept(&mut self, result: Result<(), StoreError>) {
        if let Err(error) = result {
            log::error!("{error}");
            let message = format!("database cannot be written: {error}");
            self.note(ProblemKind::Database, Some(&message));
            if error.is_damage() {
                self.damage = Some(error);
            }
        }
    }

    /// Rebuilds a database that turned out to be damaged, and looks whether one can be kept on
    /// disk by now where none could: a disk that was full, a lock that was held.
    fn mend_database(&mut self) {
        let opened = match self.damage.take() {
            Some(damage) => Store::rebuild(&self.db, &damage),
            None if self.in_memory => Store::open(&self.db),
            None => return,
        };
        match opened {
            Ok((_, Opened::InMemory { .. })) if self.in_memory => {}
            Ok((store, opened)) => self.take_database(store, opened),
            Err(error) => log::error!("{error}"),
        }
    }

    fn take_database(&mut self, store: Store, opened: Opened) {
        self.store = store;
        self.forget_problems();
        for problem in self.state.problems() {
            self.persist(problem.kind, Some(&problem.message));
        }
        self.note_opened(opened);
        self.update_stats();
    }

    /// Tells how opening the database went, unless it went well.
    pub(crate) fn note_opened(&mut self, opened: Opened) {
        self.in_memory = matches!(opened, Opened::InMemory { .. });
        match opened {
            Opened::Usable => {
                self.note(ProblemKind::NoDatabase, None);
            }
            Opened::Rebuilt { reason } => {
                log::warn!("{reason}; started a new one");
                let message = format!("database rebuilt: {reason}");
                self.note(ProblemKind::NoDatabase, None);
                self.note(ProblemKind::Database, Some(&message));
            }
            Opened::InMemory { reason } => {
                log::error!("{reason}; going on without a file, queries will not work");
                let message = format!("database unusable, nothing survives a restart: {reason}");
                self.note(ProblemKind::NoDatabase, Some(&message));
            }
        }
    }

    /// Takes the key that is there now. Whether it is another one.
    fn take_key(&mut self) -> bool {
        match self.pro.take_key(&self.store) {
            Ok(changed) => changed,
            Err(error) => {
                self.kept(Err(error));
                false
            }
        }
    }

    /// Does what is due with the server.
    fn talk_to_server(&mut self) {
        // Namespaces that are left out from now on are in the inventory until the next collection.
        let may_push = self.has_exclusions();
        let identity = self.identity.clone();
        let outcome = match self
            .pro
            .round(&mut self.store, identity.as_deref(), may_push)
        {
            Ok(outcome) => outcome,
            Err(error) => {
                self.kept(Err(error));
                self.tell_facts();
                return;
            }
        };
        if outcome.called {
            // Before what was refused, which would be told with the facts of before.
            self.tell_facts();
            self.papers.forget();
        }
        if let Some(refused) = &outcome.refused {
            self.note(ProblemKind::Sync, Some(&refused.to_string()));
        } else if outcome.synced {
            self.note(ProblemKind::Sync, None);
        }
    }

    /// Writes the ConfigMaps that follow from the database. Whether it was changed beside us.
    fn write_papers(&mut self) -> bool {
        if Instant::now() < self.papers_at {
            return false;
        }
        let is_pro = self.pro.is_pro(&self.store).unwrap_or_default();
        if !self.papers.are_old(&self.store, is_pro).unwrap_or_default() {
            return false;
        }
        let identity = self.identity.clone();
        let written = self
            .papers
            .write(&self.client, &self.store, is_pro, identity.as_deref());
        match written {
            Ok(()) => {
                self.note(ProblemKind::Papers, None);
            }
            Err(PaperError::Store(error)) => self.kept(Err(error)),
            Err(PaperError::Cluster(_, Error::Shutdown)) => {}
            Err(PaperError::Cluster(name, error)) => {
                self.papers_at = Instant::now() + paced(PAPER_RETRY);
                let message = format!("cannot write ConfigMap {name}: {error}");
                // No answer is the beat's to tell.
                let told = error.status_code().is_some().then_some(message.as_str());
                if self.note(ProblemKind::Papers, told) {
                    log::warn!("{message}");
                }
            }
        }
        true
    }

    /// Lets the status know what the database says of Pro.
    fn tell_facts(&mut self) {
        let planned = self.pro.plan(&self.store, self.turn);
        self.kept(planned);
        match ProFacts::read(&self.store, Time::now()) {
            Ok(facts) => {
                self.state.set_pro(facts);
                drop(self.to_beat.send(Nudge::Changed));
            }
            Err(error) => self.kept(Err(error)),
        }
    }

    fn persist(&self, kind: ProblemKind, message: Option<&str>) {
        if let Err(error) = self.store.set_problem(kind, message, Time::now()) {
            log::error!("{error}");
        }
    }

    /// At once when the last good collection is older than the interval, left problems, or left out
    /// other namespaces; else at the next turn.
    fn first_collection(&mut self) -> Instant {
        let now = Time::now();
        let schedule = Schedule::new(self.sync_interval, "");
        let last = self
            .store
            .stats()
            .ok()
            .and_then(|stats| stats.last_success_time);
        if self.inherited || !self.has_exclusions() || schedule.is_overdue(last, now) {
            return Instant::now();
        }
        Instant::now() + self.next_turn()
    }

    /// How long to wait for the next turn.
    fn next_turn(&mut self) -> Duration {
        let schedule = self.schedule();
        let now = Time::now();
        let wait = schedule.wait(now);
        self.turn = Some(now.plus(wait));
        wait
    }

    fn missed_its_turn(&self) -> bool {
        let schedule = Schedule::new(self.sync_interval, "");
        self.turn
            .is_some_and(|turn| schedule.is_missed(turn, Time::now()))
    }

    /// Whether the kept inventory leaves out what it should.
    fn has_exclusions(&self) -> bool {
        self.store.has_exclusions(&self.excluded).unwrap_or(false)
    }

    /// The cluster's place in the interval.
    fn schedule(&mut self) -> Schedule {
        if let Err(error) = self.identify() {
            log::debug!("the cluster's identity is not known yet: {error}");
        }
        let place = self
            .identity
            .as_ref()
            .unwrap_or(&self.client.config().server);
        Schedule::new(self.sync_interval, place)
    }

    /// Asks what tells this cluster from others, until it is known.
    fn identify(&mut self) -> Result<(), Error> {
        if self.identity.is_none() {
            self.identity = Some(cluster::identity(&self.client)?);
        }
        Ok(())
    }

    /// Collects once. How long to wait for the next time.
    fn collect(&mut self) -> Duration {
        let options = CollectOptions {
            exclude: self.excluded.clone(),
        };
        let started = Instant::now();
        self.turn = None;
        match self
            .restore()
            .and_then(|()| cluster::collect(&self.client, &options))
        {
            Ok(collected) => {
                self.backoff.reset();
                self.keep(&collected);
                self.pro.want_sync();
                log::info!("collected the cluster in {:?}", started.elapsed());
                self.next_turn()
            }
            Err(Error::Shutdown) => Duration::ZERO,
            Err(error) => {
                let wait = self.backoff.next();
                let told = explained(&error, &self.client);
                log::warn!("the collection failed, next in {}s: {told}", wait.as_secs());
                let recorded = self.store.record_failure();
                self.kept(recorded);
                self.note_failure(&error);
                self.update_stats();
                wait
            }
        }
    }

    /// Before the first collection of a new database: names keep the ids they had in the one before.
    fn restore(&mut self) -> Result<(), Error> {
        if let Err(error) = self.identify()
            && !error.is_forbidden()
        {
            // Whether what is left there is of this cluster could not be told.
            return Err(error);
        }
        let identity = self.identity.clone();
        match self
            .papers
            .restore(&self.client, &mut self.store, identity.as_deref())
        {
            Ok(()) => Ok(()),
            Err(PaperError::Cluster(_, error)) => Err(error),
            Err(PaperError::Store(error)) => {
                self.kept(Err(error));
                Ok(())
            }
        }
    }

    fn keep(&mut self, collected: &Collected) {
        let now = Time::now();
        self.failure = None;
        self.note(ProblemKind::Cluster, None);
        self.note(ProblemKind::Collection, None);
        let forbidden = forbidden(collected);
        if self.note(ProblemKind::Forbidden, forbidden.as_deref())
            && let Some(message) = forbidden
        {
            log::warn!("{message}");
        }
        let saved = self
            .store
            .save_inventory(&collected.inventory, now)
            .and_then(|()| self.store.set_exclusions(&self.excluded, now));
        match saved {
            Ok(()) => {
                self.note(ProblemKind::Database, None);
            }
            failed => self.kept(failed),
        }
        self.papers.forget();
        self.update_stats();
        self.refresh_dashboard();
    }

    /// Counts again what the dashboard shows: a dozen small requests.
    fn refresh_dashboard(&mut self) {
        let document = match cluster::dashboard(&self.client) {
            Ok((figures, _)) => {
                // The API answers, and still the collection failed: that is not forgotten.
                if let Some(failure) = self.failure.clone() {
                    self.note(ProblemKind::Collection, Some(&failure));
                }
                self.note(ProblemKind::Cluster, None);
                dashboard::to_json(&figures, Time::now())
            }
            Err(Error::Shutdown) => return,
            Err(error) => {
                let told = explained(&error, &self.client);
                log::warn!("the dashboard was not refreshed: {told}");
                if unusable(&error) && !self.answers() {
                    self.note(
                        ProblemKind::Cluster,
                        Some(&format!("cluster API unusable: {told}")),
                    );
                }
                self.dashboard_is_old = true;
                return;
            }
        };
        let put = self
            .store
            .put_document(dashboard::DOCUMENT, &document, Time::now());
        self.kept(put);
        match dashboard::publish(&self.client, &self.namespace, &document) {
            Ok(()) => {
                self.dashboard_is_old = false;
                self.note(ProblemKind::Dashboard, None);
            }
            Err(Error::Shutdown) => {}
            Err(error) => {
                log::warn!("the dashboard was not written: {error}");
                self.dashboard_is_old = true;
                // No answer is the beat's to tell.
                if error.status_code().is_some() {
                    let message =
                        format!("cannot write ConfigMap {}: {error}", dashboard::CONFIG_MAP);
                    self.note(ProblemKind::Dashboard, Some(&message));
                }
            }
        }
    }

    fn note_failure(&mut self, error: &Error) {
        let told = explained(error, &self.client);
        let failure = format!("collection failed: {told}");
        if unusable(error) && !self.answers() {
            self.note(
                ProblemKind::Cluster,
                Some(&format!("cluster API unusable: {told}")),
            );
            self.note(ProblemKind::Collection, None);
        } else {
            self.note(ProblemKind::Collection, Some(&failure));
            self.note(ProblemKind::Cluster, None);
        }
        self.failure = Some(failure);
    }

    /// Whether the API has an answer to the smallest of questions: one list that breaks off is not
    /// a cluster that is gone.
    fn answers(&self) -> bool {
        let version = self.client.with_retry(RetryPolicy::NEVER).version();
        !version.is_err_and(|error| unusable(&error))
    }

    fn update_stats(&self) {
        match self.store.stats() {
            Ok(stats) => self.state.set_stats(stats),
            Err(error) => log::error!("{error}"),
        }
    }
}

/// Whether the API gave no answer at all, or none to us.
fn unusable(error: &Error) -> bool {
    error.status_code().is_none_or(|code| code == 401)
}

/// All that may not be listed, in one clause.
fn forbidden(collected: &Collected) -> Option<String> {
    let kinds: Vec<String> = collected
        .problems
        .iter()
        .map(|problem| problem.resource.to_string())
        .collect();
    (!kinds.is_empty()).then(|| format!("not allowed to list {}", kinds.join(", ")))
}
