//! Insights that the server makes itself, in the words of opaque ids: it knows no others.

use serde_json::{Value, json};

use crate::check::entries;
use crate::state::Analysis;

/// What is said about a signal: severity, category, what the resource does, what would be better.
struct Words {
    signal: &'static str,
    severity: &'static str,
    category: &'static str,
    title: &'static str,
    better: &'static str,
}

const fn words(
    signal: &'static str,
    severity: &'static str,
    category: &'static str,
    title: &'static str,
    better: &'static str,
) -> Words {
    Words {
        signal,
        severity,
        category,
        title,
        better,
    }
}

/// The worst first.
#[rustfmt::skip]
const SIGNALS: [Words; 12] = [
    words("privileged", "critical", "security", "runs privileged", "Take `privileged: true` away"),
    words("oom-killed", "critical", "reliability", "runs out of memory", "Raise the memory limit"),
    words("crash-looping", "critical", "reliability", "crashes again and again", "Look at the last log lines"),
    words("image-pull-failing", "critical", "reliability", "cannot pull its image", "Check the image and its pull secret"),
    words("run-as-root", "warning", "security", "runs as root", "Set `runAsNonRoot: true`"),
    words("host-network", "warning", "security", "uses the network of its node", "Use a Service"),
    words("no-memory-limit", "warning", "reliability", "has no memory limit", "Set a memory limit"),
    words("not-ready", "warning", "availability", "is not ready", "Look at its readiness probe"),
    words("no-readiness-probe", "info", "reliability", "has no readiness probe", "Add a readiness probe"),
    words("no-cpu-request", "info", "cost", "requests no CPU", "Request what it uses"),
    words("single-replica", "info", "availability", "has a single replica", "Run two"),
    words("mutable-image-tag", "info", "security", "runs an image that can change", "Name the image by its digest"),
];

/// The worst that a push shows, at most so many: workload, signal and the insight.
pub(crate) fn of_push(body: &Value, most: usize) -> Vec<(String, String, Value)> {
    let mut made = Vec::new();
    for words in &SIGNALS {
        for (namespace, numbers) in entries(body, "resources") {
            for (workload, numbers) in entries(numbers, "workloads") {
                if made.len() == most {
                    return made;
                }
                if shows(numbers, words.signal) {
                    let insight = insight(words, workload, namespace);
                    made.push((workload.clone(), words.signal.to_owned(), insight));
                }
            }
        }
    }
    made
}

/// What an analysis finds: the worst that the last push shows of the resource, or that all is well.
pub(crate) fn of_analysis(analysis: &Analysis, push: Option<&Value>) -> Value {
    let Analysis {
        resource_id,
        namespace_id,
        ..
    } = analysis;
    let path = format!("/resources/{namespace_id}/workloads/{resource_id}");
    let numbers = push.and_then(|push| push.pointer(&path));
    let mut worst = SIGNALS.iter();
    match worst.find(|words| numbers.is_some_and(|numbers| shows(numbers, words.signal))) {
        Some(words) => insight(words, resource_id, namespace_id),
        None => json!({
            "severity": "info", "category": "optimization",
            "title": format!("{resource_id} is in good order"),
            "description": format!("The analysis of {resource_id} in {namespace_id} found nothing to mend."),
            "recommendation": "", "affectedResources": [resource_id],
        }),
    }
}

fn shows(numbers: &Value, signal: &str) -> bool {
    let signals = numbers.get("signals").and_then(Value::as_array);
    signals.is_some_and(|signals| signals.iter().any(|shown| shown == signal))
}

fn insight(words: &Words, resource: &str, namespace: &str) -> Value {
    json!({
        "severity": words.severity, "category": words.category,
        "title": format!("{resource} {}", words.title),
        "description": format!("A container of {resource} in {namespace} shows the signal {}.", words.signal),
        "recommendation": format!("{} in {resource}.", words.better),
        "affectedResources": [resource],
    })
}
