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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::path::Path;

    use kube9_sim::{Call as SimCall, FaultAction, Options, Server as Sim, Tls, misbehave};
    use serde_json::json;

    use super::*;
    use crate::api_key::ApiKey;
    use crate::cluster::{WorkloadKind, inventory_of};
    use crate::privacy::id::{ClusterIdentifier, Uuid};
    use crate::server::{CallError, Gate, Registration, ServerUrl};
    use crate::server::{InsightAnswer, InsightPage, InsightState, QuotaAnswer, ServerSettings};
    use crate::store::{Admission, AnalysisState, Judged, NewAnalysis, Target};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// A cluster that is registered, with one insight, and a deployment `a/web`.
    struct Home {
        sim: Sim,
        store: Store,
        link: Link,
        cluster_id: ClusterId,
    }

    impl Home {
        fn new() -> Self {
            let sim = Sim::start(Options {
                tls: Tls::Off,
                ..Options::default()
            })
            .unwrap();
            let (mut store, _) = Store::open(Path::new("/nonexistent/x.db")).unwrap();
            let now = Time::now();
            let inventory = inventory_of(&[("a", &["web"])]);
            store.save_inventory(&inventory, now).unwrap();
            sim.add_insight(json!({"id": "ins_1"}));
            let insight = InsightAnswer {
                id: "ins_1".to_owned(),
                ..InsightAnswer::default()
            };
            let page = InsightPage {
                insights: vec![insight],
                ..InsightPage::default()
            };
            store.save_insights(&page, now).unwrap();
            let settings = ServerSettings {
                url: ServerUrl::parse(&sim.url()).unwrap(),
                ..ServerSettings::default()
            };
            let key = ApiKey::parse(&sim.key()).unwrap();
            let link = Link::new(&settings, key, &store).unwrap().unwrap();
            let registered = link.server.register(&Registration {
                operator_version: "0.1.0",
                cluster_identifier: ClusterIdentifier::new("uid"),
                kubernetes_version: serde_json::from_str("\"1.36.2\"").ok(),
                approximate_node_count: 1,
            });
            sim.clear_requests();
            Self {
                sim,
                store,
                link,
                cluster_id: ClusterId::Given(registered.unwrap().cluster_id),
            }
        }

        /// Acknowledges the insight, and tells the server, whose answer is this.
        fn acknowledge(&mut self, fault: Option<FaultAction>) -> Sent {
            if let Some(fault) = fault {
                self.sim.script(SimCall::Acknowledge.fault(fault).once());
            }
            let state = InsightState::Acknowledged;
            let now = Time::now();
            let judged = self
                .store
                .judge_insight("ins_1", state, now, now.plus(LEASE));
            let Some(Judged::Taken(taken)) = judged.unwrap() else {
                unreachable!("it is news")
            };
            let (link, cluster_id) = (&self.link, &self.cluster_id);
            send_acknowledgement(&mut self.store, link, cluster_id, &taken).unwrap()
        }

        /// Asks for an analysis of the deployment, and then the server, whose answer is this.
        fn analyze(&mut self, fault: Option<FaultAction>) -> (Sent, Analysis) {
            if let Some(fault) = fault {
                self.sim.script(SimCall::Analyze.fault(fault).once());
            }
            let new = NewAnalysis {
                request_id: Uuid::random().unwrap(),
                target: Target {
                    kind: Kind::Workload(WorkloadKind::Deployment),
                    namespace: "a".to_owned(),
                    name: "web".to_owned(),
                },
            };
            let admission = self.store.request_analysis(&new, true, Time::now());
            let Admission::Submit(analysis) = admission.unwrap() else {
                unreachable!("there is quota")
            };
            let (link, cluster_id) = (&self.link, &self.cluster_id);
            let sent = send_analysis(&mut self.store, link, cluster_id, &analysis).unwrap();
            let analysis = self.store.analysis(new.request_id).unwrap().unwrap();
            (sent, analysis)
        }

        fn unsent(&self, now: Time) -> usize {
            self.store.unsent_acknowledgements(now, 10).unwrap().len()
        }
    }

    #[test]
    fn the_server_has_what_it_has_accepted() {
        let mut home = Home::new();
        assert_eq!(home.acknowledge(None), Sent::Done);
        assert_eq!(home.unsent(Time::now().plus(DAY)), 0);
        let told = home.sim.acknowledgements();
        assert_eq!(
            (told[0].insight_id.as_str(), told[0].state.as_str()),
            ("ins_1", "acknowledged")
        );

        let (sent, analysis) = home.analyze(None);
        assert_eq!(
            (sent, analysis.state),
            (Sent::Done, AnalysisState::Submitted)
        );
        assert_eq!(analysis.message, "Analysis in progress");
        let request = home.sim.requests().pop().unwrap();
        assert_eq!(
            request.json(),
            json!({
                "requestId": analysis.request_id, "clusterId": home.cluster_id,
                "resourceType": "deployment", "resourceId": "deployment_001", "namespaceId": "namespace_001",
            })
        );
        assert_eq!(
            request.header("idempotency-key"),
            Some(analysis.request_id.to_string())
        );
        assert_eq!(home.sim.violations(), [""; 0]);
    }

    #[test]
    fn what_is_rejected_leaves_the_outbox() {
        for code in [400, 404, 409, 413, 422] {
            let mut home = Home::new();
            let no = || Some(misbehave::status(code, "not like this"));
            let Sent::Rejected(why) = home.acknowledge(no()) else {
                unreachable!("{code} is final")
            };
            assert!(why.contains("not like this"), "{why}");
            assert_eq!(home.unsent(Time::now().plus(DAY)), 0);
            let (sent, analysis) = home.analyze(no());
            assert!(matches!(sent, Sent::Rejected(_)), "{sent:?}");
            let expected = (AnalysisState::Failed, Some(Reason::Rejected));
            assert_eq!((analysis.state, analysis.reason), expected);
            assert!(analysis.message.contains("not like this"));
        }
    }

    #[test]
    fn what_is_not_answered_stays_and_is_due_as_soon_as_the_gate_opens() {
        for fault in [
            FaultAction::Garbage,
            FaultAction::LoseAnswer,
            misbehave::status(500, "oh"),
            misbehave::status(503, "oh"),
            misbehave::status(408, "oh"),
            misbehave::status(401, "who?"),
            misbehave::status(403, "no"),
        ] {
            let mut home = Home::new();
            let sent = home.acknowledge(Some(fault.clone()));
            assert!(matches!(sent, Sent::Waiting(_)), "{fault:?}: {sent:?}");
            assert_eq!(home.unsent(Time::now()), 1, "{fault:?}");
            // Chance may have opened the gate again.
            let mut gate = home.store.gate().unwrap();
            let error = CallError::new(Call::Quota, Meaning::Unreachable, "down");
            let outcome = Err(&error);
            gate.note(
                Call::Quota,
                outcome,
                home.link.key,
                Time::now(),
                &mut |most| most,
            );
            home.store.set_gate(&gate).unwrap();
            // It lets nothing else pass, and that is no reason to lose it.
            let asked = home.sim.requests().len();
            let (sent, analysis) = home.analyze(None);
            assert!(matches!(sent, Sent::Waiting(_)), "{fault:?}: {sent:?}");
            assert_eq!(home.sim.requests().len(), asked);
            let expected = (AnalysisState::Queued, Some(Reason::ServerUnreachable));
            assert_eq!((analysis.state, analysis.reason), expected);
            assert_eq!(
                home.store.due_analyses(Time::now(), 10).unwrap(),
                [analysis]
            );
        }
    }

    #[test]
    fn a_redirect_is_tried_again_an_hour_later() {
        let mut home = Home::new();
        let away = || Some(misbehave::redirect("https://elsewhere.example/"));
        let sent = home.acknowledge(away());
        assert!(matches!(sent, Sent::Waiting(_)), "{sent:?}");
        let (sent, analysis) = home.analyze(away());
        assert!(matches!(sent, Sent::Waiting(_)), "{sent:?}");
        assert_eq!(analysis.state, AnalysisState::Queued);
        for (later, due) in [(Duration::ZERO, 0), (CYCLE + LEASE, 1)] {
            let at = Time::now().plus(later);
            assert_eq!(home.unsent(at), due);
            assert_eq!(home.store.due_analyses(at, 10).unwrap().len(), due);
        }
    }

    #[test]
    fn over_the_quota_an_analysis_waits_for_the_reset_or_as_long_as_the_server_says() {
        let hour = Time::now().plus(CYCLE);
        for (resets_at, retry_after, expected) in [
            (Some(hour), Some("60"), Some(hour)),
            (None, Some("7200"), None),
            (None, None, Some(midnight_after(Time::now()))),
        ] {
            let mut home = Home::new();
            if resets_at.is_some() {
                let quota = QuotaAnswer {
                    limit: Some(24),
                    used: Some(3),
                    remaining: Some(21),
                    resets_at,
                };
                home.store.set_quota(&quota, Time::now()).unwrap();
            }
            let (sent, analysis) = home.analyze(Some(misbehave::limited(retry_after)));
            let Sent::OverQuota(until) = sent else {
                unreachable!("{sent:?}")
            };
            match expected {
                Some(expected) => assert_eq!(until, expected),
                None => assert!(until > hour && until < hour.plus(CYCLE + LEASE)),
            }
            let expected = (AnalysisState::Queued, Some(Reason::QuotaExceeded));
            assert_eq!((analysis.state, analysis.reason), expected);
            assert_eq!(analysis.not_before, Some(until));
            let message = format!("Daily quota exceeded: will run after {until}");
            assert_eq!(analysis.message, message);
            assert_eq!(home.store.quota(Time::now()).unwrap().remaining, Some(0));
        }
    }

    #[test]
    fn an_acknowledgement_that_is_limited_waits_for_the_gate() {
        let mut home = Home::new();
        let sent = home.acknowledge(Some(misbehave::limited(Some("600"))));
        assert!(matches!(sent, Sent::Waiting(_)), "{sent:?}");
        assert_eq!(home.unsent(Time::now()), 1);
        let gate = home.store.gate().unwrap();
        let ready = gate.ready_at(Call::Acknowledge, home.link.key, Time::now());
        assert!(ready.is_some_and(|at| at > Time::now().plus(Duration::from_secs(500))));
    }

    #[test]
    fn a_lost_answer_is_asked_for_again_and_counts_once() {
        let mut home = Home::new();
        let (_, analysis) = home.analyze(Some(FaultAction::LoseAnswer));
        home.store.set_gate(&Gate::default()).unwrap();
        let taken = home.store.take_analysis(analysis.request_id, Time::now());
        let Some(Admission::Submit(analysis)) = taken.unwrap() else {
            unreachable!("it is due")
        };
        let (link, cluster_id) = (&home.link, &home.cluster_id);
        let sent = send_analysis(&mut home.store, link, cluster_id, &analysis);
        assert_eq!(sent.unwrap(), Sent::Done);
        let effects = home.sim.analyses();
        assert_eq!((effects.len(), effects[0].calls), (1, 2));
        assert_eq!(home.sim.violations(), [""; 0]);
    }
}
