//! What a server keeps, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use kube_sim::wire::{Authority, Leaf, Log, Reply, Script};
use rustls::ServerConfig;
use serde_json::{Value, json};

use crate::call::Call;
use crate::check::Checked;
use crate::ids;
use crate::insight;
use crate::options::{Options, Tls};
use crate::request::Request;

const DAY: i64 = 24 * 60 * 60;

/// A registered cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `sha256:<64 hex>`.
    pub identifier: String,
    /// What the server calls it.
    pub id: String,
    /// How often it was registered.
    pub registrations: u32,
}

/// An analysis that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// The UUID of the request.
    pub request_id: String,
    /// Who asked.
    pub cluster_id: String,
    /// The kind of the resource.
    pub resource_type: String,
    /// Its opaque id.
    pub resource_id: String,
    /// The opaque id of its namespace.
    pub namespace_id: String,
    /// How often it was posted; it counted once.
    pub calls: u32,
}

/// An acknowledgement or a dismissal that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The insight.
    pub insight_id: String,
    /// Who tells.
    pub cluster_id: String,
    /// `acknowledged` or `dismissed`.
    pub state: String,
    /// When the user did it.
    pub at: String,
    /// How often the same was posted.
    pub calls: u32,
}

/// Everything behind the one lock.
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) script: Script,
    pub(crate) log: Log<Request>,
    pub(crate) violations: Vec<String>,
    pub(crate) clusters: Vec<Cluster>,
    /// The ids of clusters that were ever right.
    known: BTreeSet<String>,
    pub(crate) pushes: u64,
    pub(crate) last_push: Option<Value>,
    pub(crate) insights: Vec<Value>,
    /// The workloads and signals that have an insight from a push.
    found: BTreeSet<(String, String)>,
    pub(crate) analyses: Vec<Analysis>,
    pub(crate) acknowledgements: Vec<Acknowledgement>,
    /// When the quota starts again, in seconds.
    resets_at: i64,
    pub(crate) authority: Authority,
    configs: BTreeMap<Tls, Arc<ServerConfig>>,
}

impl State {
    pub(crate) fn new(options: Options) -> io::Result<Self> {
        let authority = Authority::new("kube9-sim-ca", options.directory.as_deref())?;
        let stranger = Authority::new("kube9-sim-stranger", None)?;
        let good = Leaf::new("kube9-server", options.addr.ip(), &["host.docker.internal"]);
        let expired = Leaf {
            expired: true,
            ..good.clone()
        };
        let elsewhere = Leaf {
            names: vec!["elsewhere.example".to_owned()],
            ..good.clone()
        };
        let older = Leaf {
            only_tls12: true,
            ..good.clone()
        };
        let configs = BTreeMap::from([
            (Tls::On, authority.issue(&good)?),
            (Tls::Only12, authority.issue(&older)?),
            (Tls::WrongName, authority.issue(&elsewhere)?),
            (Tls::Expired, authority.issue(&expired)?),
            (Tls::UnknownCa, stranger.issue(&good)?),
        ]);
        Ok(Self {
            log: Log::new(options.log.as_deref())?,
            options,
            script: Script::default(),
            violations: Vec::new(),
            clusters: Vec::new(),
            known: BTreeSet::new(),
            pushes: 0,
            last_push: None,
            insights: Vec::new(),
            found: BTreeSet::new(),
            analyses: Vec::new(),
            acknowledgements: Vec::new(),
            resets_at: next_midnight(),
            authority,
            configs,
        })
    }

    /// What the next connection is encrypted with.
    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.configs.get(&self.options.tls).cloned()
    }

    /// Takes a request into the log, with all that is wrong with it. The number is the log's.
    pub(crate) fn note(&mut self, checked: &Checked, mut request: Request) -> u64 {
        request.violations.clone_from(&checked.violations);
        if let Some(id) = checked.body.get("clusterId").and_then(Value::as_str) {
            if !self.options.registration && ids::is_uuid(id) {
                self.known.insert(id.to_owned());
            }
            if !self.known.contains(id) {
                let violation = format!("clusterId: {id:?} was never given to anybody");
                request.violations.push(violation);
            }
        }
        if let Some(before) = self.analysis(checked)
            && *before != analysis(checked, before.calls)
        {
            let violation = format!("requestId: {} was another analysis", before.request_id);
            request.violations.push(violation);
        }
        let place = format!("{} {}", request.method, request.path);
        let new = request.violations.iter();
        self.violations
            .extend(new.map(|violation| format!("{place}: {violation}")));
        self.log.begin(request)
    }

    /// Does what a request asks for. `too_large` is whether its body was not read to its end.
    pub(crate) fn handle(&mut self, checked: &Checked, too_large: bool) -> Reply {
        if too_large {
            return error(413, "the body is too large");
        }
        let Some(call) = checked.call else {
            return error(404, "no such call");
        };
        let key = checked.key.as_ref();
        if !key.is_some_and(|key| self.options.keys.contains(key)) {
            return error(401, "this API key is not known");
        }
        if let Some(violation) = checked.violations.first() {
            return error(400, violation);
        }
        let cluster = checked.text("clusterId");
        let speaks_for_one = matches!(call, Call::Push | Call::Analyze | Call::Acknowledge);
        if speaks_for_one && !self.is_registered(cluster) {
            return error(404, "this cluster is not registered");
        }
        match call {
            Call::Register => self.register(checked),
            Call::Push => self.push(&checked.body),
            Call::Insights => self.page(checked.since),
            Call::Analyze => self.analyze(checked),
            Call::Acknowledge => self.acknowledge(checked),
            Call::Quota => self.quota(),
        }
    }

    /// Adds an insight; one that lacks them gets an id and the present time.
    pub(crate) fn add_insight(&mut self, mut insight: Value) -> Value {
        if let Some(fields) = insight.as_object_mut() {
            let number = self.insights.len() + 1;
            fields
                .entry("id")
                .or_insert_with(|| format!("ins_{number:03}").into());
            fields
                .entry("createdAt")
                .or_insert_with(|| ids::text(Timestamp::now()).into());
        }
        self.insights.push(insight.clone());
        insight
    }

    fn is_registered(&self, cluster: &str) -> bool {
        !self.options.registration || self.clusters.iter().any(|known| known.id == cluster)
    }

    fn register(&mut self, checked: &Checked) -> Reply {
        if !self.options.registration {
            return error(404, "this server has no registration");
        }
        let identifier = checked.text("clusterIdentifier");
        let mut known = self.clusters.iter_mut();
        let known = known.find(|cluster| cluster.identifier == identifier);
        let cluster = if let Some(cluster) = known {
            cluster.registrations += 1;
            cluster.clone()
        } else {
            let hash = identifier.trim_start_matches("sha256:");
            let new = Cluster {
                identifier: identifier.to_owned(),
                id: format!("cls_{}", hash.get(..16).unwrap_or(hash)),
                registrations: 1,
            };
            self.clusters.push(new.clone());
            new
        };
        self.known.insert(cluster.id.clone());
        let (status, message) = if cluster.registrations == 1 {
            ("registered", "Cluster registered")
        } else {
            ("reregistered", "Cluster was known already")
        };
        answer(
            200,
            &json!({
                "status": status, "clusterId": cluster.id, "tier": "pro", "message": message,
                "configuration": {
                    "statusUpdateIntervalSeconds": 60,
                    "reregistrationIntervalHours": self.options.reregistration_hours,
                },
            }),
        )
    }

    fn push(&mut self, body: &Value) -> Reply {
        self.pushes += 1;
        self.last_push = Some(body.clone());
        for (workload, signal, insight) in insight::of_push(body, self.options.insights_of_a_push) {
            if self.found.insert((workload, signal)) {
                self.add_insight(insight);
            }
        }
        answer(200, &json!({"status": "accepted"}))
    }

    fn page(&mut self, since: Option<Timestamp>) -> Reply {
        self.restart_quota();
        let created = |insight: &Value| insight.get("createdAt")?.as_str().and_then(ids::time);
        // One whose time says nothing is always new.
        let is_new = |insight: &&Value| created(insight) >= since || created(insight).is_none();
        let insights: Vec<&Value> = self.insights.iter().filter(is_new).collect();
        answer(
            200,
            &json!({
                "insights": insights, "quotaRemaining": self.remaining(),
                "quotaLimit": self.options.quota_limit,
            }),
        )
    }

    fn analyze(&mut self, checked: &Checked) -> Reply {
        self.restart_quota();
        let request_id = checked.text("requestId");
        let accepted = answer(202, &json!({"status": "accepted", "requestId": request_id}));
        let mut known = self.analyses.iter_mut();
        if let Some(before) = known.find(|before| before.request_id == request_id) {
            if *before != analysis(checked, before.calls) {
                return error(409, "this requestId was another analysis");
            }
            before.calls += 1;
            return accepted;
        }
        if self.remaining() == 0 {
            let mut reply = error(429, "Daily quota exceeded");
            let retry_after = self.options.retry_after.iter();
            reply
                .headers
                .extend(retry_after.map(|value| ("Retry-After".to_owned(), value.clone())));
            return reply;
        }
        self.options.quota_used += 1;
        let analysis = analysis(checked, 1);
        if self.options.insight_when_analysed {
            let insight = insight::of_analysis(&analysis, self.last_push.as_ref());
            self.add_insight(insight);
        }
        self.analyses.push(analysis);
        accepted
    }

    fn acknowledge(&mut self, checked: &Checked) -> Reply {
        let new = Acknowledgement {
            insight_id: checked.text("insightId").to_owned(),
            cluster_id: checked.text("clusterId").to_owned(),
            state: checked.text("state").to_owned(),
            at: checked.text("at").to_owned(),
            calls: 1,
        };
        let is_it =
            |insight: &Value| insight.get("id").and_then(Value::as_str) == Some(&new.insight_id);
        if !self.insights.iter().any(is_it) {
            return error(404, "there is no such insight");
        }
        let same = |before: &&mut Acknowledgement| {
            **before
                == Acknowledgement {
                    calls: before.calls,
                    ..new.clone()
                }
        };
        match self.acknowledgements.iter_mut().find(same) {
            Some(before) => before.calls += 1,
            None => self.acknowledgements.push(new),
        }
        answer(200, &json!({"status": "ok"}))
    }

    fn quota(&mut self) -> Reply {
        self.restart_quota();
        let resets_at = self.options.quota_resets_at.clone().unwrap_or_else(|| {
            Timestamp::from_second(self.resets_at).map_or_else(|_| String::new(), ids::text)
        });
        answer(
            200,
            &json!({
                "limit": self.options.quota_limit, "used": self.options.quota_used,
                "remaining": self.remaining(), "resetsAt": resets_at,
            }),
        )
    }

    fn remaining(&self) -> u64 {
        let Options {
            quota_limit,
            quota_used,
            ..
        } = self.options;
        quota_limit.saturating_sub(quota_used)
    }

    /// Counts from nothing again once the time for it has passed.
    fn restart_quota(&mut self) {
        let told = self.options.quota_resets_at.as_deref().and_then(ids::time);
        let resets_at = told.map_or(self.resets_at, Timestamp::as_second);
        if Timestamp::now().as_second() >= resets_at {
            self.options.quota_used = 0;
            self.options.quota_resets_at = None;
            self.resets_at = next_midnight();
        }
    }

    fn analysis(&self, checked: &Checked) -> Option<&Analysis> {
        let request_id = checked.text("requestId");
        let mut known = self.analyses.iter();
        known.find(|before| before.request_id == request_id)
    }
}

fn analysis(checked: &Checked, calls: u32) -> Analysis {
    Analysis {
        request_id: checked.text("requestId").to_owned(),
        cluster_id: checked.text("clusterId").to_owned(),
        resource_type: checked.text("resourceType").to_owned(),
        resource_id: checked.text("resourceId").to_owned(),
        namespace_id: checked.text("namespaceId").to_owned(),
        calls,
    }
}

fn next_midnight() -> i64 {
    (Timestamp::now().as_second().div_euclid(DAY) + 1) * DAY
}

fn answer(status: u16, body: &Value) -> Reply {
    Reply::new(status, "application/json", body.to_string().into_bytes())
}

fn error(status: u16, message: &str) -> Reply {
    answer(
        status,
        &json!({"error": status.to_string(), "message": message}),
    )
}
