//! What a user asked for and the server must be told: acknowledgements and analyses. Each is in the
//! database before anybody tries to send it, and leaves the outbox only when the server has answered
//! for good. The agent and the commands beside it send them by these functions.

use std::time::Duration;

use crate::link::{Called, Link};
use crate::privacy::id::{ClusterId, Kind};
use crate::server::{Acknowledge, Analyze, Call, Meaning};
use crate::store::{Acknowledgement, Analysis, Reason, Store, StoreError, midnight_after};
use crate::time::Time;

/// What somebody is sending is nobody else's to send for so long: longer than a call can take.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// An answer that says neither yes nor no, such as a redirect, may be another one in the next cycle.
const CYCLE: Duration = Duration::from_secs(60 * 60);

/// What became of something that was to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The server has it.
    Done,
    /// The quota is used up until then; it is queued.
    OverQuota(Time),
    /// The server will never have it, and why.
    Rejected(String),
    /// It is in the outbox still, and why.
    Waiting(String),
}

/// What an answer means for what was sent.
enum Answer {
    Taken,
    Never(String),
    /// As soon as the gate is open, but not before.
    Later(Time, String),
    Limited(Option<Duration>, String),
}

/// Tells the server what a user made of an insight.
pub(crate) fn send_acknowledgement(
    store: &mut Store,
    link: &Link,
    cluster_id: &ClusterId,
    acknowledgement: &Acknowledgement,
) -> Result<Sent, StoreError> {
    let body = Acknowledge {
        insight_id: acknowledgement.insight_id.clone(),
        cluster_id: cluster_id.clone(),
        state: acknowledgement.state,
        at: acknowledgement.at,
    };
    let called = link.call(store, Call::Acknowledge, |server| server.acknowledge(&body))?;
    let now = Time::now();
    let (until, why) = match answer(called, store, link, now)? {
        Answer::Taken => {
            store.acknowledgement_done(acknowledgement)?;
            return Ok(Sent::Done);
        }
        Answer::Never(why) => {
            log::warn!("insight {}: {why}", acknowledgement.insight_id);
            store.acknowledgement_done(acknowledgement)?;
            return Ok(Sent::Rejected(why));
        }
        Answer::Later(until, why) => (until, why),
        // The gate knows for how long.
        Answer::Limited(_, why) => (now, why),
    };
    store.acknowledgement_wait(acknowledgement, until)?;
    Ok(Sent::Waiting(why))
}

/// Asks the server for an analysis that has been admitted.
pub(crate) fn send_analysis(
    store: &mut Store,
    link: &Link,
    cluster_id: &ClusterId,
    analysis: &Analysis,
) -> Result<Sent, StoreError> {
    let target = &analysis.resource;
    let mut id_of =
        |kind, namespace: &str, name: &str| store.assign_id(kind, namespace, name, Time::now());
    let resource_id = id_of(target.kind, &target.namespace, &target.name)?;
    let namespace_id = match target.kind {
        Kind::Namespace => resource_id,
        Kind::Workload(_) => id_of(Kind::Namespace, "", &target.namespace)?,
    };
    let (Some(resource_id), Some(namespace_id)) = (resource_id, namespace_id) else {
        // Without a map there is no link either; it has just been lost.
        return Ok(Sent::Waiting(
            "the cluster has not been read yet".to_owned(),
        ));
    };
    let body = Analyze {
        request_id: analysis.request_id,
        cluster_id: cluster_id.clone(),
        resource_type: target.kind,
        resource_id,
        namespace_id,
    };
    let called = link.call(store, Call::Analyze, |server| server.analyze(&body))?;
    let now = Time::now();
    let id = analysis.request_id;
    Ok(match answer(called, store, link, now)? {
        Answer::Taken => {
            store.analysis_submitted(id, now)?;
            Sent::Done
        }
        Answer::Never(why) => {
            log::warn!("analysis {id}: {why}");
            store.analysis_failed(id, Reason::Rejected, &why)?;
            Sent::Rejected(why)
        }
        Answer::Later(until, why) => {
            store.analysis_queued(id, Reason::ServerUnreachable, until, &why)?;
            Sent::Waiting(why)
        }
        Answer::Limited(wait, _) => {
            let until = exhausted_until(store, wait, now)?;
            store.exhaust_quota(until, now)?;
            let message = format!("Daily quota exceeded: will run after {until}");
            store.analysis_queued(id, Reason::QuotaExceeded, until, &message)?;
            Sent::OverQuota(until)
        }
    })
}

/// When the server will take analyses again: when the quota is reset, or when it said.
fn exhausted_until(store: &Store, wait: Option<Duration>, now: Time) -> Result<Time, StoreError> {
    let resets_at = store.quota(now)?.resets_at;
    Ok(resets_at
        .or_else(|| wait.map(|wait| now.plus(wait)))
        .unwrap_or_else(|| midnight_after(now)))
}

fn answer(called: Called<()>, store: &Store, link: &Link, now: Time) -> Result<Answer, StoreError> {
    let error = match called {
        Called::Answered(()) => return Ok(Answer::Taken),
        Called::NotNow(at) => {
            let gate = store.gate()?;
            let why = gate.problem(link.key, false).map_or_else(
                || format!("kube9-server asks for patience until {at}"),
                str::to_owned,
            );
            return Ok(Answer::Later(now, why));
        }
        Called::Failed(error) => error,
    };
    let why = error.to_string();
    Ok(match error.meaning {
        Meaning::Final { code: 400..500 } | Meaning::TooLarge => Answer::Never(why),
        Meaning::Final { .. } => Answer::Later(now.plus(CYCLE), why),
        Meaning::Limited { wait } => Answer::Limited(wait, why),
        Meaning::Refused
        | Meaning::Shutdown
        | Meaning::Unauthorized
        | Meaning::Unreachable
        | Meaning::Unsendable => Answer::Later(now, why),
    })
}
