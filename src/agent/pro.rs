//! What the worker does with kube9-server while there is an API key: it registers, pushes the
//! numbers, pulls the insights, and sends what users asked for.
//!
//! All of that is a short list of what is due. A round does what may be done now and ends at the
//! first call that finds the server away, since one probe is enough to know. What failed stays
//! due. The gate, which says what may be done, is kept in the database: commands beside the agent
//! go by it too.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube_client_lite::Shutdown;

use crate::api_key::{self, Fingerprint};
use crate::backoff::{jitter, paced};
use crate::config::Config;
use crate::link::{self, Called, Link};
use crate::outbox;
use crate::privacy::Detail;
use crate::privacy::id::{ClusterId, ClusterIdentifier};
use crate::server::{self, Call, CallError, Gate, Meaning, Server};
use crate::store::{Admission, AnalysisState, Reason, Registration, Store, StoreError};
use crate::time::Time;

/// Agents that start together (a node pool that comes back) come to the server spread over this.
const START_JITTER: Duration = Duration::from_secs(30);

/// A registration is never further away than this; one that is was planned by another clock.
const LONGEST_REGISTRATION: Duration = Duration::from_secs(168 * 60 * 60);

/// How long a registration holds where the server has none to give.
const REGISTRATION: Duration = Duration::from_secs(24 * 60 * 60);

/// What a sync consists of, in this order.
const SYNC: [Call; 4] = [Call::Register, Call::Push, Call::Insights, Call::Quota];

/// So many acknowledgements, and as many analyses, are sent in a round.
const BATCH: u32 = 50;

/// After an analysis its insight is looked for this soon, then after as long again as the user has
/// waited already: an hour is long for somebody who asked.
const FIRST_LOOK: Duration = Duration::from_secs(30);

/// The document that says that less is pushed than the settings allow, until the agent starts anew.
const NARROWED: &str = "narrowed";

pub(super) struct Pro {
    config: Config,
    shutdown: Shutdown,
    link: Option<Link>,
    /// The calls of a sync that are still to be made.
    due: BTreeSet<Call>,
    /// Not before this, after a start.
    not_before: Instant,
    /// The kept inventory has nothing that the settings leave out.
    may_push: bool,
    /// What failed last: an outage is one line in the log, not one a round.
    told: Option<String>,
    /// When insights were asked for last.
    looked: Option<Time>,
}

/// How a call of a round went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Done,
    /// The server will not have it: not again in this cycle.
    Dropped,
    /// It may not be made now, or did not succeed: still due.
    Later,
    /// The server is away, or does not want us: no further call makes sense.
    Away,
}

/// What came of a round, beyond what the database says.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Calls were made: clients may see something else now.
    pub(super) called: bool,
    /// The server would not have something.
    pub(super) refused: Option<CallError>,
    /// A sync is over, and all of it went well.
    pub(super) synced: bool,
    failed: bool,
}

impl Pro {
    pub(super) fn new(config: &Config, shutdown: Shutdown) -> Self {
        Self {
            config: config.clone(),
            shutdown,
            link: None,
            due: BTreeSet::new(),
            not_before: Instant::now() + jitter(paced(START_JITTER)),
            may_push: false,
            told: None,
            looked: None,
        }
    }

    /// The key in use, if any.
    pub(super) fn key(&self) -> Option<Fingerprint> {
        self.link.as_ref().map(|link| link.key)
    }

    /// Takes the key that its file holds now. Whether that is another one than before.
    pub(super) fn take_key(&mut self, store: &Store) -> Result<bool, StoreError> {
        // That it cannot be read is told by every status.
        let key = api_key::read(&self.config.api_key_file).ok().flatten();
        let before = self.key();
        let now = match &key {
            Some(key) => link::fingerprint(key, store)?,
            None => None,
        };
        if now == before {
            return Ok(false);
        }
        self.link = match key {
            Some(key) => Link::new(&self.config.server, key, store)?.map(|link| Link {
                server: link.server.with_shutdown(self.shutdown.clone()),
                ..link
            }),
            None => None,
        };
        self.told = None;
        self.due.clear();
        if now.is_none() {
            // A key that comes back after it was taken away is tried again.
            store.set_gate(&Gate::default())?;
        }
        if let Some(key) = now {
            let known = registration(store, key)?.is_some();
            if !known {
                // Somebody waits to see it work.
                self.not_before = Instant::now();
            }
            if !known || self.is_overdue(store)? {
                self.want_sync();
            }
        }
        Ok(true)
    }

    /// Whether the last good sync is older than the interval, or of a time that is still to come.
    fn is_overdue(&self, store: &Store) -> Result<bool, StoreError> {
        let now = Time::now();
        let last = store.sync()?.last_success;
        Ok(last.is_none_or(|last| last > now || last.elapsed(now) >= self.config.sync_interval))
    }

    /// A new cycle: everything is due.
    pub(super) fn want_sync(&mut self) {
        self.due = BTreeSet::from(SYNC);
    }

    /// Whether a sync is under way that is not over yet.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether the server has anything to do with this agent: there is a key, and it was not
    /// rejected.
    pub(super) fn is_pro(&self, store: &Store) -> Result<bool, StoreError> {
        match self.key() {
            Some(key) => Ok(!store.gate()?.is_rejected(key)),
            None => Ok(false),
        }
    }

    /// Keeps when the server is called next: as soon as what is due may be done, else with the
    /// next collection.
    pub(super) fn plan(&self, store: &Store, turn: Option<Time>) -> Result<(), StoreError> {
        let Some(key) = self.key() else {
            return Ok(());
        };
        let now = Time::now();
        let next = if self.is_due() {
            let gate = store.gate()?;
            let due = self.due.iter();
            let ready = due.map(|call| gate.ready_at(*call, key, now));
            // What could be done now and is not waits for the next collection.
            ready.min().flatten().or(turn)
        } else {
            turn
        };
        let mut sync = store.sync()?;
        if sync.next_attempt == next {
            return Ok(());
        }
        sync.next_attempt = next;
        store.set_sync(&sync)
    }

    /// Starts anew with the detail that the settings allow.
    pub(super) fn widen(store: &Store) -> Result<(), StoreError> {
        store.put_document(NARROWED, "false", Time::now())
    }

    /// Does what is due and may be done now. `identity` tells the cluster, where it is known;
    /// `may_push` is whether the kept inventory may be told.
    pub(super) fn round(
        &mut self,
        store: &mut Store,
        identity: Option<&str>,
        may_push: bool,
    ) -> Result<Outcome, StoreError> {
        let mut outcome = Outcome::default();
        let Some(link) = self.link.take() else {
            return Ok(outcome);
        };
        let result = if Instant::now() < self.not_before {
            Ok(())
        } else {
            self.may_push = may_push;
            self.steps(&link, store, identity, &mut outcome)
        };
        if outcome.called {
            link.server.disconnect();
        }
        self.link = Some(link);
        result.map(|()| outcome)
    }

    fn steps(
        &mut self,
        link: &Link,
        store: &mut Store,
        identity: Option<&str>,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let started = Time::now();
        let was_due = self.is_due();
        let step = self.sync(link, store, identity, outcome)?;
        if was_due && outcome.called {
            let mut sync = store.sync()?;
            sync.last_attempt = Some(started);
            if outcome.failed {
                sync.consecutive_failures = sync.consecutive_failures.saturating_add(1);
            } else if !self.is_due() {
                sync.consecutive_failures = 0;
                sync.last_success = Some(started);
                outcome.synced = true;
                log::info!("synced with {}", self.config.server.url);
            }
            store.set_sync(&sync)?;
        }
        if step != Step::Away {
            self.send_waiting(link, store, outcome)?;
            self.look_for_results(link, store, outcome)?;
        }
        Ok(())
    }

    /// Sends what users asked for and no command could send itself.
    fn send_waiting(
        &self,
        link: &Link,
        store: &mut Store,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let Some(known) = registration(store, link.key)? else {
            return Ok(());
        };
        for waiting in store.unsent_acknowledgements(Time::now(), BATCH)? {
            if !link.may(store, Call::Acknowledge)? {
                break;
            }
            let now = Time::now();
            let lease = now.plus(outbox::LEASE);
            if let Some(taken) = store.lease_acknowledgement(&waiting.insight_id, now, lease)? {
                outbox::send_acknowledgement(store, link, &known.cluster_id, &taken)?;
                outcome.called = true;
            }
        }
        for waiting in store.due_analyses(Time::now(), BATCH)? {
            let home = waiting.resource.home();
            if self.config.exclude_namespaces.contains(home) {
                // Since it was asked for, or the command did not know.
                let why = format!("namespace {home} is left out: nothing about it is sent");
                store.analysis_failed(waiting.request_id, Reason::Rejected, &why)?;
                outcome.called = true;
                continue;
            }
            if !link.may(store, Call::Analyze)? {
                break;
            }
            match store.take_analysis(waiting.request_id, Time::now())? {
                Some(Admission::Submit(taken)) => {
                    outbox::send_analysis(store, link, &known.cluster_id, &taken)?;
                    outcome.called = true;
                }
                Some(Admission::Queued(_) | Admission::Refused { .. }) => outcome.called = true,
                None => {}
            }
        }
        Ok(())
    }

    /// Pulls between two syncs while somebody waits for an analysis.
    fn look_for_results(
        &mut self,
        link: &Link,
        store: &mut Store,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let mut submitted = None;
        store.analyses(Some(AnalysisState::Submitted), 1, 0, &mut |analysis| {
            submitted = analysis.submitted_at;
        })?;
        let Some(submitted) = submitted else {
            return Ok(());
        };
        let now = Time::now();
        let since = self
            .looked
            .map_or(submitted, |looked| looked.max(submitted));
        let waited = submitted.elapsed(now);
        let wait = paced(FIRST_LOOK).max(waited / 2);
        if since.elapsed(now) >= wait {
            self.pull(link, store, outcome)?;
        }
        Ok(())
    }

    /// Registers when it is time to, and does what of a sync is due.
    fn sync(
        &mut self,
        link: &Link,
        store: &mut Store,
        identity: Option<&str>,
        outcome: &mut Outcome,
    ) -> Result<Step, StoreError> {
        for call in SYNC {
            if self.due.contains(&call) {
                let step = match call {
                    Call::Register => self.register_in_time(link, store, identity, outcome)?,
                    Call::Push => self.push(link, store, outcome)?,
                    Call::Insights => self.pull(link, store, outcome)?,
                    _ => self.quota(link, store, outcome)?,
                };
                match step {
                    Step::Done | Step::Dropped => {
                        self.due.remove(&call);
                    }
                    Step::Later => {}
                    Step::Away => return Ok(Step::Away),
                }
            }
            if call == Call::Register && registration(store, link.key)?.is_none() {
                if !self.due.contains(&call) {
                    // Nothing can be sent for a cluster that the server does not know.
                    self.due.clear();
                }
                return Ok(Step::Away);
            }
        }
        Ok(Step::Done)
    }

    fn register_in_time(
        &mut self,
        link: &Link,
        store: &mut Store,
        identity: Option<&str>,
        outcome: &mut Outcome,
    ) -> Result<Step, StoreError> {
        let known = store.registration()?;
        if is_registration_due(known.as_ref(), link.key, Time::now()) {
            self.register(link, store, identity, outcome)
        } else {
            Ok(Step::Done)
        }
    }

    fn register(
        &mut self,
        link: &Link,
        store: &mut Store,
        identity: Option<&str>,
        outcome: &mut Outcome,
    ) -> Result<Step, StoreError> {
        let (Some(identity), Some(cluster)) = (identity, store.cluster_numbers()?) else {
            return Ok(Step::Away);
        };
        let body = server::Registration {
            operator_version: env!("CARGO_PKG_VERSION"),
            cluster_identifier: ClusterIdentifier::new(identity),
            kubernetes_version: cluster.kubernetes_version(),
            approximate_node_count: cluster.nodes(),
        };
        let called = link.call(store, Call::Register, |server| server.register(&body))?;
        let (cluster_id, wait) = match called {
            Called::Answered(answer) => {
                (ClusterId::Given(answer.cluster_id), answer.reregister_after)
            }
            Called::Failed(error) if error.meaning == (Meaning::Final { code: 404 }) => {
                // This server keeps no registrations: one that tells the quota to this key knows it.
                outcome.called = true;
                match self.quota(link, store, outcome)? {
                    Step::Done => {}
                    step => return Ok(step),
                }
                self.due.remove(&Call::Quota);
                let Some(map) = store.identity()? else {
                    return Ok(Step::Away);
                };
                (ClusterId::Own(map.cluster_id), REGISTRATION)
            }
            other => return Ok(self.judge(other, outcome).0),
        };
        outcome.called = true;
        let now = Time::now();
        if registration(store, link.key)?.is_none() {
            log::info!("registered with {} as {cluster_id}", self.config.server.url);
        }
        store.set_registration(Some(&Registration {
            cluster_id,
            key: link.key,
            registered_at: now,
            next_at: now.plus(wait),
        }))?;
        Ok(Step::Done)
    }

    fn push(
        &mut self,
        link: &Link,
        store: &mut Store,
        outcome: &mut Outcome,
    ) -> Result<Step, StoreError> {
        // To measure a body that cannot be sent now would be work for nothing.
        if !self.may_push || !link.may(store, Call::Push)? {
            return Ok(Step::Later);
        }
        let detail = detail(store, self.config.privacy_detail)?;
        let called = push(link, store, detail)?;
        if let Called::Failed(error) = &called
            && error.meaning == (Meaning::Final { code: 404 })
            && let Some(known) = registration(store, link.key)?
        {
            // It may have forgotten this cluster: the next cycle begins with a registration.
            store.set_registration(Some(&Registration {
                next_at: Time::now(),
                ..known
            }))?;
        }
        if let Called::Failed(error) = &called
            && error.meaning == Meaning::TooLarge
            && detail == Detail::Workloads
        {
            log::warn!("{error}: sending the numbers of namespaces only, until the next start");
            store.put_document(NARROWED, "true", Time::now())?;
            let again = push(link, store, Detail::Namespaces)?;
            return Ok(self.judge(again, outcome).0);
        }
        Ok(self.judge(called, outcome).0)
    }

    fn pull(
        &mut self,
        link: &Link,
        store: &mut Store,
        outcome: &mut Outcome,
    ) -> Result<Step, StoreError> {
        self.looked = Some(Time::now());
        let since = store.since(Time::now())?;
        let called = link.call(store, Call::Insights, |server| server.insights(since))?;
        let (step, page) = self.judge(called, outcome);
        if let Some(page) = page {
            let saved = store.save_insights(&page, Time::now())?;
            if saved.new > 0 {
                log::info!("{} new insights", saved.new);
            }
        }
        Ok(step)
    }

    fn quota(
        &mut self,
        link: &Link,
        store: &mut Store,
        outcome: &mut Outcome,
    ) -> Result<Step, StoreError> {
        let asked = Time::now();
        let called = link.call(store, Call::Quota, Server::quota)?;
        let (step, quota) = self.judge(called, outcome);
        if let Some(quota) = quota {
            store.set_quota(&quota, asked)?;
        }
        Ok(step)
    }

    /// What a call means for the round, and the answer if there is one.
    fn judge<T>(&mut self, called: Called<T>, outcome: &mut Outcome) -> (Step, Option<T>) {
        let error = match called {
            Called::NotNow(_) => return (Step::Later, None),
            Called::Answered(answer) => {
                outcome.called = true;
                self.told = None;
                return (Step::Done, Some(answer));
            }
            Called::Failed(error) => error,
        };
        if error.meaning == Meaning::Shutdown {
            return (Step::Away, None);
        }
        outcome.called = true;
        outcome.failed = true;
        let text = error.to_string();
        if self.told.as_ref() == Some(&text) {
            log::debug!("{text}");
        } else {
            log::warn!("{text}");
            self.told = Some(text);
        }
        let step = match error.meaning {
            Meaning::Final { .. } | Meaning::TooLarge => {
                outcome.refused = Some(error);
                Step::Dropped
            }
            Meaning::Limited { .. } | Meaning::Unsendable => Step::Later,
            Meaning::Refused | Meaning::Shutdown | Meaning::Unauthorized | Meaning::Unreachable => {
                Step::Away
            }
        };
        (step, None)
    }
}

fn push(link: &Link, store: &Store, detail: Detail) -> Result<Called<()>, StoreError> {
    let Some(mut body) = store.payload(detail)? else {
        // The first collection is still to come.
        return Ok(Called::NotNow(Time::now()));
    };
    let length = body.length()?;
    link.call(store, Call::Push, |server| server.push(&mut body, length))
}

/// How much the next push tells: what the settings allow, or less after the server found it too
/// large.
pub(crate) fn detail(store: &Store, allowed: Detail) -> Result<Detail, StoreError> {
    let narrowed = store.document(NARROWED)?.is_some_and(|it| it == "true");
    Ok(if narrowed {
        Detail::Namespaces
    } else {
        allowed
    })
}

/// The registration of this cluster with this key.
fn registration(store: &Store, key: Fingerprint) -> Result<Option<Registration>, StoreError> {
    Ok(store.registration()?.filter(|known| known.key == key))
}

/// Without one for this key, when it has run out, and when it would run out later than it can.
fn is_registration_due(known: Option<&Registration>, key: Fingerprint, now: Time) -> bool {
    known.is_none_or(|known| {
        known.key != key || known.next_at <= now || known.next_at > now.plus(LONGEST_REGISTRATION)
    })
}
