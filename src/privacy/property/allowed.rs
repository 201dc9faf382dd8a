//! What a server may be sent, byte by byte, as README.md tells a security officer.
//!
//! Written down from the README and the contract, and from nothing else of the agent: no type, list
//! or name of `payload.rs` is used here. A field that is added there is refused here, until somebody
//! lists it in both places. What is allowed is numbers, opaque ids and fixed words, each in its
//! place: a name that happens to be one of the words cannot pass as one elsewhere.

use std::collections::{BTreeMap, BTreeSet};

/// JSON as it stands in the text, to the last digit.
#[derive(Debug)]
pub(crate) enum Json<'a> {
    /// A number, `true`, `false` or `null`.
    Word(&'a str),
    Text(&'a str),
    List(Vec<Json<'a>>),
    Object(Vec<(&'a str, Json<'a>)>),
}

/// What a value may be.
enum Rule {
    /// A whole number.
    Count,
    /// A number with at most one decimal, or null.
    Percent,
    Text(fn(&str) -> bool),
    Null,
    Either(&'static Rule, &'static Rule),
    /// Exactly these, in any order.
    Fields(&'static [(&'static str, Rule)]),
    /// These, and perhaps one more.
    FieldsAndPerhaps(
        &'static [(&'static str, Rule)],
        &'static (&'static str, Rule),
    ),
    /// Any of these words with a count, none twice.
    Counts(&'static [&'static str]),
    /// Any of these words, none twice.
    Words(&'static [&'static str]),
    /// By opaque ids of these kinds, in the order of the kinds' names and of the numbers.
    ById(&'static [&'static str], &'static Rule),
}

const SIGNALS: &[&str] = &[
    "privileged",
    "run-as-root",
    "privilege-escalation",
    "host-network",
    "host-pid",
    "host-path",
    "no-cpu-request",
    "no-memory-request",
    "no-cpu-limit",
    "no-memory-limit",
    "no-liveness-probe",
    "no-readiness-probe",
    "mutable-image-tag",
    "single-replica",
    "crash-looping",
    "image-pull-failing",
    "oom-killed",
    "unschedulable",
    "not-ready",
];

const NAMESPACES: &[&str] = &["namespace"];
const WORKLOADS: &[&str] = &["cronjob", "daemonset", "deployment", "job", "statefulset"];

static VERSION: Rule = Rule::Text(is_version);

static METRICS: Rule = Rule::Fields(&[
    ("payloadVersion", Rule::Count),
    ("clusterId", Rule::Text(is_cluster_id)),
    ("timestamp", Rule::Text(is_time)),
    ("operatorVersion", Rule::Text(is_version)),
    ("mapEpoch", Rule::Text(is_epoch)),
    (
        "cluster",
        Rule::Fields(&[
            ("kubernetesVersion", Rule::Either(&VERSION, &Rule::Null)),
            ("nodes", Rule::Count),
            ("nodesReady", Rule::Count),
            ("cpuCapacityMillicores", Rule::Count),
            ("memoryCapacityBytes", Rule::Count),
            ("avgCpuUsage", Rule::Percent),
            ("avgMemoryUsage", Rule::Percent),
        ]),
    ),
    ("resources", Rule::ById(NAMESPACES, &NAMESPACE)),
]);

static NAMESPACE: Rule = Rule::FieldsAndPerhaps(
    &[
        ("deployments", Rule::Count),
        ("statefulSets", Rule::Count),
        ("daemonSets", Rule::Count),
        ("replicaSets", Rule::Count),
        ("jobs", Rule::Count),
        ("cronJobs", Rule::Count),
        ("services", Rule::Count),
        ("persistentVolumeClaims", Rule::Count),
        ("pods", Rule::Count),
        (
            "podsByPhase",
            Rule::Fields(&[
                ("pending", Rule::Count),
                ("running", Rule::Count),
                ("succeeded", Rule::Count),
                ("failed", Rule::Count),
                ("unknown", Rule::Count),
            ]),
        ),
        ("containers", Rule::Count),
        ("containerRestarts", Rule::Count),
        ("cpuRequestsMillicores", Rule::Count),
        ("cpuLimitsMillicores", Rule::Count),
        ("memoryRequestsBytes", Rule::Count),
        ("memoryLimitsBytes", Rule::Count),
        ("avgCpuUsage", Rule::Percent),
        ("avgMemoryUsage", Rule::Percent),
        ("signals", Rule::Counts(SIGNALS)),
    ],
    &("workloads", Rule::ById(WORKLOADS, &WORKLOAD)),
);

static WORKLOAD: Rule = Rule::Fields(&[
    ("replicas", Rule::Count),
    ("readyReplicas", Rule::Count),
    ("containers", Rule::Count),
    ("restarts", Rule::Count),
    ("signals", Rule::Words(SIGNALS)),
]);

static REGISTER: Rule = Rule::FieldsAndPerhaps(
    &[
        ("operatorVersion", Rule::Text(is_version)),
        ("clusterIdentifier", Rule::Text(is_cluster_identifier)),
        ("approximateNodeCount", Rule::Count),
    ],
    &("kubernetesVersion", Rule::Text(is_version)),
);

static ANALYZE: Rule = Rule::Fields(&[
    ("requestId", Rule::Text(is_uuid)),
    ("clusterId", Rule::Text(is_cluster_id)),
    ("resourceType", Rule::Text(is_kind)),
    ("resourceId", Rule::Text(is_resource)),
    ("namespaceId", Rule::Text(is_namespace)),
]);

static ACKNOWLEDGE: Rule = Rule::Fields(&[
    ("insightId", Rule::Text(is_insight_id)),
    ("clusterId", Rule::Text(is_cluster_id)),
    ("state", Rule::Text(is_verdict)),
    ("at", Rule::Text(is_time)),
]);

/// A body of a metrics push.
pub(crate) fn metrics(body: &str) -> Result<Json<'_>, String> {
    check(body, &METRICS)
}

/// A request as it came from the agent, head and body. Says what in it is not allowed.
pub(crate) fn request(bytes: &[u8], key: &str) -> Result<(), String> {
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or("a request without a body")?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let since = first
        .strip_prefix("GET /api/v1/insights?since=")
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let rule = match first {
        "POST /api/v1/register HTTP/1.1" => Some(&REGISTER),
        "POST /api/v1/metrics HTTP/1.1" => Some(&METRICS),
        "POST /api/v1/analyze HTTP/1.1" => Some(&ANALYZE),
        "POST /api/v1/acknowledge HTTP/1.1" => Some(&ACKNOWLEDGE),
        "GET /api/v1/quota HTTP/1.1" => None,
        _ if since.is_some_and(|since| is_time(&since.replace("%3A", ":"))) => None,
        _ => return Err(format!("no call of ours: {first:?}")),
    };
    let mut seen = BTreeSet::new();
    for line in lines {
        let (name, value) = line
            .split_once(": ")
            .ok_or(format!("{line:?} is no header"))?;
        let name = name.to_ascii_lowercase();
        let allowed = match name.as_str() {
            "accept" => value == "application/json",
            "accept-encoding" => value == "identity",
            "authorization" => value.strip_prefix("Bearer ") == Some(key),
            "connection" => value == "close" || value == "keep-alive",
            "content-length" => value.parse() == Ok(body.len()),
            "content-type" => rule.is_some() && value == "application/json",
            "expect" => value == "100-continue",
            "host" => is_loopback(value),
            "idempotency-key" => {
                let same = body.contains(&format!("{{\"requestId\":\"{value}\""));
                first.contains("/analyze ") && is_uuid(value) && same
            }
            "user-agent" => value
                .strip_prefix("kube9-operator/")
                .is_some_and(is_version),
            _ => false,
        };
        if !allowed {
            return Err(format!("header {name}: {value:?}"));
        }
        if !seen.insert(name.clone()) {
            return Err(format!("header {name} twice"));
        }
    }
    match rule {
        Some(rule) => check(body, rule).map(drop),
        None if body.is_empty() => Ok(()),
        None => Err(format!("a body where there is none: {body}")),
    }
}

impl Json<'_> {
    /// In the fields and texts that are a key of `others` its value instead, and sorted by that.
    pub(crate) fn with(&self, others: &BTreeMap<String, String>) -> String {
        let other = |text: &str| others.get(text).map_or(text.to_owned(), Clone::clone);
        match self {
            Self::Word(word) => (*word).to_owned(),
            Self::Text(text) => other(text),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.with(others)).collect();
                items.join(" ")
            }
            Self::Object(entries) => {
                let entry = |(key, value): &(&str, Self)| other(key) + ":" + &value.with(others);
                let mut entries: Vec<String> = entries.iter().map(entry).collect();
                entries.sort_unstable();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }
}

fn check<'a>(body: &'a str, rule: &Rule) -> Result<Json<'a>, String> {
    let json = read(body).ok_or_else(|| format!("not JSON as it is allowed: {body}"))?;
    follow(&json, rule)?;
    Ok(json)
}

/// Says where a value is what it may not be, and what it is.
fn follow(json: &Json<'_>, rule: &Rule) -> Result<(), String> {
    let fields = |fields: &[(&str, Rule)], entries: &[&(&str, Json<'_>)]| {
        if entries.len() != fields.len() {
            let names: Vec<&str> = entries.iter().map(|(key, _)| *key).collect();
            return Err(format!(": these fields: {names:?}"));
        }
        fields.iter().try_for_each(|(name, rule)| {
            let value = entries.iter().find(|(key, _)| key == name);
            let (_, value) = value.ok_or_else(|| format!(": no field {name}"))?;
            below(name, value, rule)
        })
    };
    match (rule, json) {
        (Rule::Count, Json::Word(word)) if is_count(word) => Ok(()),
        (Rule::Percent, Json::Word(word)) if *word == "null" || is_percent(word) => Ok(()),
        (Rule::Null, Json::Word("null")) => Ok(()),
        (Rule::Text(is_it), Json::Text(text)) if is_it(text) => Ok(()),
        (Rule::Either(one, other), _) => follow(json, one).or_else(|_| follow(json, other)),
        (Rule::Fields(allowed), Json::Object(entries)) => {
            fields(allowed, &entries.iter().collect::<Vec<_>>())
        }
        (Rule::FieldsAndPerhaps(allowed, (name, rule)), Json::Object(entries)) => {
            let (more, entries): (Vec<_>, Vec<_>) =
                entries.iter().partition(|(key, _)| key == name);
            match more.as_slice() {
                [] => {}
                [(_, value)] => below(name, value, rule)?,
                _ => return Err(format!(": {name} more than once")),
            }
            fields(allowed, &entries)
        }
        (Rule::Counts(words), Json::Object(entries)) => {
            let keys: BTreeSet<_> = entries.iter().map(|(key, _)| key).collect();
            if keys.len() < entries.len() || !keys.iter().all(|key| words.contains(key)) {
                return Err(format!(": {json:?}"));
            }
            let mut counts = entries.iter();
            counts.try_for_each(|(key, value)| below(key, value, &Rule::Count))
        }
        (Rule::Words(words), Json::List(items)) => {
            let mut seen = BTreeSet::new();
            let allowed = items.iter().all(
                |item| matches!(item, Json::Text(word) if words.contains(word) && seen.insert(word)),
            );
            allowed.then_some(()).ok_or_else(|| format!(": {json:?}"))
        }
        (Rule::ById(kinds, rule), Json::Object(entries)) => {
            let mut last = None;
            entries.iter().try_for_each(|(key, value)| {
                let id = id(key).filter(|(kind, _)| kinds.contains(kind));
                if id.is_none() || id <= last {
                    return Err(format!(": {key:?} after {last:?}"));
                }
                last = id;
                below(key, value, rule)
            })
        }
        _ => Err(format!(": {json:?}")),
    }
}

fn below(name: &str, json: &Json<'_>, rule: &Rule) -> Result<(), String> {
    follow(json, rule).map_err(|wrong| format!("/{name}{wrong}"))
}

/// Reads JSON that has no white space, no escapes and nothing but ASCII: nobody hides anything in
/// its form.
fn read(text: &str) -> Option<Json<'_>> {
    let mut rest = text;
    let json = value(&mut rest)?;
    rest.is_empty().then_some(json)
}

fn value<'a>(rest: &mut &'a str) -> Option<Json<'a>> {
    match rest.as_bytes().first()? {
        b'"' => string(rest).map(Json::Text),
        b'[' => list(rest, '[', ']', value).map(Json::List),
        b'{' => list(rest, '{', '}', |rest| {
            let key = string(rest)?;
            *rest = rest.strip_prefix(':')?;
            Some((key, value(rest)?))
        })
        .map(Json::Object),
        _ => {
            let end = rest.find([',', ']', '}']).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            *rest = behind;
            let known = matches!(word, "null" | "true" | "false");
            (known || is_count(word) || is_percent(word)).then_some(Json::Word(word))
        }
    }
}

fn string<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (text, behind) = rest.strip_prefix('"')?.split_once('"')?;
    *rest = behind;
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    plain.then_some(text)
}

fn list<'a, T>(
    rest: &mut &'a str,
    open: char,
    close: char,
    item: impl Fn(&mut &'a str) -> Option<T>,
) -> Option<Vec<T>> {
    *rest = rest.strip_prefix(open)?;
    let mut items = Vec::new();
    while !rest.starts_with(close) {
        if !items.is_empty() {
            *rest = rest.strip_prefix(',')?;
        }
        items.push(item(rest)?);
    }
    *rest = rest.strip_prefix(close)?;
    Some(items)
}

/// The kind and the number of an opaque id: at least three digits, and no zero more than that takes.
fn id(text: &str) -> Option<(&str, u32)> {
    let (kind, digits) = text.split_once('_')?;
    let number: u32 = digits.parse().ok()?;
    let known = NAMESPACES.contains(&kind) || WORKLOADS.contains(&kind);
    (known && number > 0 && format!("{number:03}") == digits).then_some((kind, number))
}

fn is_resource(text: &str) -> bool {
    id(text).is_some()
}

fn is_namespace(text: &str) -> bool {
    id(text).is_some_and(|(kind, _)| NAMESPACES.contains(&kind))
}

fn is_kind(text: &str) -> bool {
    NAMESPACES.contains(&text) || WORKLOADS.contains(&text)
}

fn is_verdict(text: &str) -> bool {
    matches!(text, "acknowledged" | "dismissed")
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_count(text: &str) -> bool {
    is_digits(text) && (text == "0" || !text.starts_with('0'))
}

fn is_percent(text: &str) -> bool {
    text.split_once('.')
        .is_some_and(|(whole, tenths)| is_count(whole) && is_digits(tenths) && tenths.len() == 1)
}

/// Three numbers.
fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| is_count(part))
}

fn is_hex(text: &str, length: usize) -> bool {
    let small = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == length && text.bytes().all(small)
}

fn is_epoch(text: &str) -> bool {
    is_hex(text, 32)
}

fn is_cluster_identifier(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hash| is_hex(hash, 64))
}

/// Version 4: random.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths = [8, 4, 4, 4, 12];
    parts.len() == lengths.len()
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, length)| is_hex(part, length))
        && parts[2].starts_with('4')
        && parts[3].starts_with(['8', '9', 'a', 'b'])
}

/// What the agent drew, or what a server of the tests gave.
fn is_cluster_id(text: &str) -> bool {
    is_uuid(text)
        || text
            .strip_prefix("cls_")
            .is_some_and(|rest| is_hex(rest, 16))
}

/// What a server of the tests gives.
fn is_insight_id(text: &str) -> bool {
    text.strip_prefix("ins_").is_some_and(is_digits)
}

/// RFC 3339 in UTC, to the millisecond: digits where there may be digits.
fn is_time(text: &str) -> bool {
    let form = "0000-00-00T00:00:00.000Z";
    text.len() == form.len()
        && text
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => byte == form,
            })
}

fn is_loopback(host: &str) -> bool {
    host.strip_prefix("127.0.0.1:").is_some_and(is_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = concat!(
        r#"{"payloadVersion":1,"clusterId":"01010101-0101-4101-8101-010101010101","#,
        r#""timestamp":"1970-01-01T00:00:00.001Z","operatorVersion":"0.1.0","#,
        r#""mapEpoch":"02020202020202020202020202020202","#,
        r#""cluster":{"kubernetesVersion":"1.36.2","nodes":5,"nodesReady":5,"cpuCapacityMillicores":20000,"#,
        r#""memoryCapacityBytes":0,"avgCpuUsage":67.5,"avgMemoryUsage":null},"#,
        r#""resources":{"namespace_001":{"deployments":12,"pods":45,"avgCpuUsage":67.5,"avgMemoryUsage":null,"#,
        r#""statefulSets":0,"daemonSets":0,"replicaSets":0,"jobs":0,"cronJobs":0,"services":0,"#,
        r#""persistentVolumeClaims":0,"podsByPhase":{"pending":0,"running":45,"succeeded":0,"failed":0,"#,
        r#""unknown":0},"containers":90,"containerRestarts":3,"cpuRequestsMillicores":0,"#,
        r#""cpuLimitsMillicores":0,"memoryRequestsBytes":0,"memoryLimitsBytes":0,"#,
        r#""signals":{"run-as-root":4,"no-memory-limit":9},"#,
        r#""workloads":{"deployment_002":{"replicas":3,"readyReplicas":3,"containers":2,"restarts":0,"#,
        r#""signals":["run-as-root"]}}}}}"#,
    );

    #[test]
    fn a_body_of_the_contract_is_allowed() {
        assert!(metrics(BODY).is_ok(), "{:?}", metrics(BODY));
        let unknown = BODY.replace("\"1.36.2\"", "null");
        assert!(metrics(&unknown).is_ok());
    }

    /// Names that are words of the body are refused wherever they are not those words.
    #[test]
    fn a_name_in_any_place_is_not() {
        for (from, to) in [
            // In place of an id, or beside it.
            ("namespace_001", "api"),
            ("namespace_001", "pods"),
            ("namespace_001", "deployment_001"),
            ("namespace_001", "namespace_1"),
            ("namespace_001", "namespace_0001"),
            ("namespace_001", "namespace_000"),
            ("deployment_002", "namespace_002"),
            ("deployment_002", "running"),
            ("deployment_002", "deployment_002_api"),
            ("deployment_002", "pod_002"),
            // As a signal, or among them.
            ("{\"run-as-root\":4,", "{\"workloads\":4,"),
            ("[\"run-as-root\"]", "[\"running\"]"),
            ("[\"run-as-root\"]", "[\"run-as-root\",\"api\"]"),
            ("[\"run-as-root\"]", "[\"run-as-root\",\"run-as-root\"]"),
            ("[\"run-as-root\"]", "\"run-as-root\""),
            // Where there are numbers.
            ("\"deployments\":12", "\"deployments\":\"12\""),
            ("\"deployments\":12", "\"deployments\":012"),
            ("\"deployments\":12", "\"deployments\":12.5"),
            ("\"deployments\":12", "\"deployments\":-12"),
            ("\"deployments\":12", "\"deployments\":1e2"),
            ("\"deployments\":12", "\"deployments\":null"),
            ("\"avgCpuUsage\":67.5", "\"avgCpuUsage\":67.513122120"),
            ("\"avgCpuUsage\":67.5", "\"avgCpuUsage\":\"api\""),
            // As a field, of any value, also a known one in another place.
            ("\"replicas\":3,", "\"replicas\":3,\"name\":\"api\","),
            ("\"replicas\":3,", "\"replicas\":3,\"running\":0,"),
            ("\"replicas\":3,", "\"replicas\":3,\"replicas\":3,"),
            ("\"replicas\":3,", ""),
            ("\"services\":0,", "\"services\":0,\"labels\":[],"),
            (
                "\"nodes\":5,",
                "\"nodes\":5,\"names\":{\"namespace_001\":\"api\"},",
            ),
            ("\"pending\":0", "\"api\":0"),
            // In the texts there are.
            ("1.36.2", "1.36.2-api"),
            ("1.36.2", "v1.36.2"),
            ("0.1.0", "0.1.0+api"),
            ("00:00:00.001Z", "00:00:00.001 api"),
            ("01010101-0101-4101-8101-010101010101", "api"),
            ("0202020202", "running___"),
            // In the form.
            ("\"pods\":45", " \"pods\":45"),
            ("\"pods\":45", "\"pods\" :45"),
            ("\"pods\":45", "\"\\u0070ods\":45"),
            ("\"pods\":45", "\"p\u{f6}ds\":45"),
            ("]}}}}}", "]}}}}}\n"),
            ("]}}}}}", "]}}}}"),
        ] {
            assert!(BODY.contains(from), "{from}");
            let body = BODY.replacen(from, to, 1);
            assert!(metrics(&body).is_err(), "{to:?} for {from:?} is allowed");
        }
        assert!(metrics("").is_err() && metrics("{}").is_err());
    }

    #[test]
    fn the_order_of_ids_tells_nothing() {
        let (before, one) = BODY.split_once("\"deployment_002\":").unwrap();
        let (one, after) = one.split_at(one.len() - "}}}}".len());
        let with =
            |other: &str| format!("{before}\"deployment_002\":{one},\"{other}\":{one}{after}");
        assert!(metrics(&with("deployment_003")).is_ok());
        assert!(metrics(&with("job_001")).is_ok());
        for other in ["deployment_002", "deployment_001", "cronjob_003"] {
            assert!(metrics(&with(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn a_request_has_nothing_but_what_it_must_have() {
        const KEY: &str = "kdy_key";
        let head = "GET /api/v1/insights?since=1970-01-01T00:00:00.000Z HTTP/1.1\r\n\
            host: 127.0.0.1:8080\r\naccept: application/json\r\nuser-agent: kube9-operator/0.1.0\r\n\
            authorization: Bearer kdy_key\r\n\r\n";
        assert_eq!(request(head.as_bytes(), KEY), Ok(()));
        for (from, to) in [
            ("since=1970", "since=197a"),
            ("000Z HTTP", "000Z&namespace=api HTTP"),
            (
                "/api/v1/insights?since=1970-01-01T00:00:00.000Z",
                "/api/v1/quota?api",
            ),
            ("GET", "POST"),
            ("0.1.0", "0.1.0 (api)"),
            ("Bearer kdy_key", "Bearer kdy_other"),
            ("host: 127.0.0.1:8080", "host: api"),
            ("accept: ", "x-namespace: api\r\naccept: "),
            ("accept: ", "accept: application/json\r\naccept: "),
            ("accept: ", "cookie: a=b\r\naccept: "),
            ("\r\n\r\n", "\r\n\r\napi"),
        ] {
            assert!(head.contains(from), "{from}");
            let head = head.replacen(from, to, 1);
            assert!(
                request(head.as_bytes(), KEY).is_err(),
                "{to:?} for {from:?} is allowed"
            );
        }
    }
}
