//! Checks a request against the contract: everything that can be told without knowing what came before.

use kube_sim::wire::{Head, percent_decode};
use serde_json::Value;

use crate::call::Call;
use crate::ids;
use crate::json;
use crate::shape;

/// The headers there may be. Anything else could carry something out of the cluster.
const HEADERS: [&str; 10] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "user-agent",
];

/// What a request says, as far as it could be read.
pub(crate) struct Checked {
    pub(crate) call: Option<Call>,
    pub(crate) key: Option<String>,
    /// The body of a POST; null when it is none.
    pub(crate) body: Value,
    /// `since` of a GET of insights.
    pub(crate) since: Option<jiff::Timestamp>,
    pub(crate) violations: Vec<String>,
}

/// Reads and checks a request. `complete` is whether the body came to its end.
pub(crate) fn check(head: &Head, body: &[u8], complete: bool) -> Checked {
    let mut checked = Checked {
        call: Call::of_path(&head.path),
        key: None,
        body: Value::Null,
        since: None,
        violations: Vec::new(),
    };
    let Some(call) = checked.call else {
        checked.note(format!("{}: no such call", head.path));
        return checked;
    };
    if head.method != call.method() {
        checked.note(format!("method {}, not {}", head.method, call.method()));
    }
    checked.headers(head);
    checked.query(call, &head.query);
    // A client may go in the middle of its body; that is no breach of the contract.
    if complete {
        checked.content(call, head, body);
    }
    checked
}

impl Checked {
    pub(crate) fn note(&mut self, violation: String) {
        self.violations.push(violation);
    }

    /// A text of the body; empty when it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.body
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn headers(&mut self, head: &Head) {
        if head.http10 {
            self.note("HTTP/1.0".to_owned());
        }
        for (at, (name, _)) in head.headers.iter().enumerate() {
            let name = name.to_ascii_lowercase();
            if !HEADERS.contains(&name.as_str()) {
                self.note(format!("header {name}: not in the contract"));
            }
            let mut before = head.headers.iter().take(at);
            if before.any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                self.note(format!("header {name}: there twice"));
            }
        }
        match head.header("authorization") {
            None => self.note("header authorization: is missing".to_owned()),
            Some(value) => match value.strip_prefix("Bearer ") {
                Some(key) if is_key(key) => self.key = Some(key.to_owned()),
                // Its value is a secret.
                _ => self.note("header authorization: not `Bearer <key>`".to_owned()),
            },
        }
        let agent = head.header("user-agent").unwrap_or_default();
        if !agent_version(agent).is_some_and(ids::is_version) {
            self.note(format!(
                "header user-agent: {agent:?} is not kube9-operator/MAJOR.MINOR.PATCH"
            ));
        }
        for (name, allowed) in [
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
        ] {
            if let Some(value) = head.header(name).filter(|value| *value != allowed) {
                self.note(format!("header {name}: {value:?} is not {allowed}"));
            }
        }
    }

    fn query(&mut self, call: Call, query: &str) {
        if call != Call::Insights {
            if !query.is_empty() {
                self.note(format!("query {query:?}: there is none in this call"));
            }
            return;
        }
        let since = query
            .strip_prefix("since=")
            .filter(|value| !value.contains('&'))
            .map(|value| percent_decode(value, true));
        self.since = since.as_deref().and_then(ids::time);
        if !since.as_deref().is_some_and(ids::is_time) {
            self.note(format!(
                "query {query:?}: is not since=TIME, in RFC 3339 and UTC"
            ));
        }
    }

    fn content(&mut self, call: Call, head: &Head, body: &[u8]) {
        if head.header("transfer-encoding").is_some() {
            self.note("header transfer-encoding: Content-Length says it".to_owned());
        }
        if call != Call::Analyze && head.header("idempotency-key").is_some() {
            self.note("header idempotency-key: there is none in this call".to_owned());
        }
        let shape = match call {
            Call::Register => &shape::REGISTER,
            Call::Push => &shape::METRICS,
            Call::Analyze => &shape::ANALYZE,
            Call::Acknowledge => &shape::ACKNOWLEDGE,
            Call::Insights | Call::Quota => {
                if !body.is_empty() {
                    self.note("the body: there is none in this call".to_owned());
                }
                return;
            }
        };
        if head.header("content-type") != Some("application/json") {
            let value = head.header("content-type");
            self.note(format!(
                "header content-type: {value:?} is not application/json"
            ));
        }
        if head.header("content-length") != Some(body.len().to_string().as_str()) {
            let value = head.header("content-length");
            self.note(format!(
                "header content-length: {value:?} where {} bytes came",
                body.len()
            ));
        }
        if !body.is_ascii() {
            self.note("the body: not ASCII".to_owned());
        }
        match json::parse(body) {
            Ok(value) => {
                shape.check("", &value, &mut self.violations);
                self.body = value;
            }
            Err(error) => return self.note(format!("the body: {error}")),
        }
        match call {
            Call::Push => self.metrics(head),
            Call::Register => self.same_version(head),
            Call::Analyze => self.analyze(head),
            _ => {}
        }
    }

    fn same_version(&mut self, head: &Head) {
        let agent = head.header("user-agent").and_then(agent_version);
        let version = self.text("operatorVersion").to_owned();
        if agent != Some(version.as_str()) {
            self.note(format!(
                "operatorVersion: {version:?} is not that of the header user-agent"
            ));
        }
    }

    fn metrics(&mut self, head: &Head) {
        self.same_version(head);
        let mut found = Vec::new();
        let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64);
        let cluster = self.body.get("cluster");
        let nodes = |name: &str| cluster.and_then(|cluster| number(cluster, name));
        if nodes("nodesReady") > nodes("nodes") {
            found.push("cluster.nodesReady: more than nodes".to_owned());
        }
        let mut workloads = Vec::new();
        for (id, namespace) in entries(&self.body, "resources") {
            let phases = entries(namespace, "podsByPhase");
            let sum: u64 = phases.filter_map(|(_, count)| count.as_u64()).sum();
            if number(namespace, "pods") != Some(sum) {
                found.push(format!(
                    "resources.{id}.pods: podsByPhase has {sum} together"
                ));
            }
            workloads.extend(entries(namespace, "workloads").map(|(id, _)| id));
        }
        workloads.sort_unstable();
        for pair in workloads.windows(2) {
            if let [id, other] = pair
                && id == other
            {
                found.push(format!("{id}: in two namespaces"));
            }
        }
        self.violations.append(&mut found);
    }

    fn analyze(&mut self, head: &Head) {
        let request = self.text("requestId").to_owned();
        if head.header("idempotency-key") != Some(request.as_str()) {
            let value = head.header("idempotency-key");
            self.note(format!(
                "header idempotency-key: {value:?} is not the requestId {request:?}"
            ));
        }
        let (kind, resource) = (self.text("resourceType"), self.text("resourceId"));
        let mut found = Vec::new();
        if !ids::is_opaque(resource, &[kind]) {
            found.push(format!("resourceId: {resource:?} is not a {kind}"));
        }
        if kind == "namespace" && resource != self.text("namespaceId") {
            found.push("namespaceId: another than that of the namespace itself".to_owned());
        }
        self.violations.append(&mut found);
    }
}

/// The fields of an object in a field; none where there is none.
pub(crate) fn entries<'v>(
    value: &'v Value,
    name: &str,
) -> impl Iterator<Item = (&'v String, &'v Value)> {
    let object = value.get(name).and_then(Value::as_object);
    object.into_iter().flatten()
}

fn agent_version(agent: &str) -> Option<&str> {
    agent.strip_prefix("kube9-operator/")
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())
}
