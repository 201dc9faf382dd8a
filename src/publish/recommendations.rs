//! The recommendations: what users are to see of the insights, with the names of their cluster.
//!
//! One document is for the extension's panel, which takes texts for HTML; the other is for `kubectl`
//! and `jq`. Both tell the same insights.

use kube_client_lite::{Client, Error};
use serde::Serialize;

use super::config_map;
use crate::bounded;
use crate::json;
use crate::server::InsightState;
use crate::store::{Insight, InsightFilter, Quota, Store, StoreError};
use crate::time::Time;

pub(crate) const CONFIG_MAP: &str = "kube9-ai-recommendations";

/// The insights in both documents together, in bytes: 512 KiB less the frame, the notices, and the
/// ConfigMap around them.
const MAX_BYTES: usize = 480 * 1024;

/// The longest text in the panel, in characters: names may have made a text longer than the server
/// may send it.
const MAX_TEXT: usize = 4000;

/// The longest details, in characters: the panel does not show them. With these bounds there is room
/// for any single insight.
const MAX_DETAILS: usize = 1000;

/// Resources in the panel; the other document has all.
const MAX_RESOURCES: usize = 20;

/// Both documents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recommendations {
    /// For the panel.
    pub(crate) panel: String,
    /// As `query insights list` shows them.
    pub(crate) insights: String,
    /// Insights for which there was no room.
    pub(crate) truncated: u64,
}

/// What the panel shows.
#[derive(Serialize)]
struct Item<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    category: &'static str,
    severity: &'static str,
    title: &'a str,
    description: &'a str,
    actionable: bool,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    category: &'a str,
    summary: &'a str,
    details: &'a str,
}

/// Makes both documents of what the store holds. The same content gives the same documents.
pub(crate) fn build(store: &Store, now: Time) -> Result<Recommendations, StoreError> {
    let filter = InsightFilter {
        state: Some(InsightState::Open),
        ..InsightFilter::default()
    };
    let mut documents = Documents::default();
    let total = store.insights(&filter, u32::MAX, 0, &mut |insight| documents.add(&insight))?;
    let submitted = store.analysis_counts()?.submitted;
    Ok(documents.finish(total, submitted, &store.quota(now)?))
}

/// Writes the ConfigMap.
pub(crate) fn publish(
    client: &Client,
    namespace: &str,
    documents: &Recommendations,
) -> Result<(), Error> {
    let data = [
        ("insights", documents.insights.as_str()),
        ("recommendations", documents.panel.as_str()),
    ];
    config_map::apply(client, namespace, CONFIG_MAP, "recommendations", &data)
}

/// Removes the ConfigMap, if it is there.
pub(crate) fn remove(client: &Client, namespace: &str) -> Result<(), Error> {
    config_map::remove(client, namespace, CONFIG_MAP)
}

/// The documents while they grow: members of arrays, each ending in a comma.
#[derive(Default)]
struct Documents {
    items: String,
    entries: String,
    insights: String,
    shown: u64,
    full: bool,
}

impl Documents {
    /// Adds an insight to both, or to neither. After the first for which there is no room nothing is
    /// added, since what comes later is less severe or older.
    fn add(&mut self, insight: &Insight) {
        if self.full {
            return;
        }
        let item = item(insight);
        let entry = entry(insight);
        let whole = json::to_string(insight);
        let held = self.items.len() + self.entries.len() + self.insights.len();
        if held + item.len() + entry.len() + whole.len() + 3 > MAX_BYTES {
            self.full = true;
            return;
        }
        push(&mut self.items, &item);
        push(&mut self.entries, &entry);
        push(&mut self.insights, &whole);
        self.shown += 1;
    }

    fn finish(mut self, total: u64, submitted: u64, quota: &Quota) -> Recommendations {
        let truncated = total.saturating_sub(self.shown);
        if truncated > 0 {
            push(&mut self.items, &more_findings(truncated));
        }
        if submitted > 0 {
            push(&mut self.items, &in_progress(submitted));
        }
        if quota.remaining == Some(0) {
            push(&mut self.items, &quota_exceeded(quota.resets_at));
        }
        if self.items.is_empty() {
            push(&mut self.items, &no_findings());
        }
        let end = format!("],\"truncated\":{truncated}}}");
        // In place: a copy of half a MiB would be a tenth of the agent.
        let Self {
            items: mut panel,
            entries,
            mut insights,
            ..
        } = self;
        panel.pop();
        panel.insert_str(0, "{\"items\":[");
        panel += "],\"insights\":[";
        panel += entries.trim_end_matches(',');
        panel += &end;
        insights.pop();
        insights.insert_str(0, "{\"insights\":[");
        insights += &end;
        Recommendations {
            panel,
            insights,
            truncated,
        }
    }
}

fn push(members: &mut String, member: &str) {
    members.push_str(member);
    members.push(',');
}

fn item(insight: &Insight) -> String {
    json::to_string(&Item {
        id: &escaped(&insight.id),
        category: category(&insight.category),
        severity: severity(&insight.severity),
        title: &escaped(&insight.title),
        description: &escaped(&description(insight)),
        actionable: false,
    })
}

fn entry(insight: &Insight) -> String {
    json::to_string(&Entry {
        id: &escaped(&insight.id),
        category: &escaped(&insight.category),
        summary: &escaped(&insight.title),
        details: &escaped(&bounded::cut(&insight.description, MAX_DETAILS)),
    })
}

/// What is wrong, what to do, and where.
fn description(insight: &Insight) -> String {
    let mut parts = Vec::new();
    if !insight.description.is_empty() {
        parts.push(bounded::cut(&insight.description, MAX_TEXT));
    }
    if !insight.recommendation.is_empty() {
        let recommendation = bounded::cut(&insight.recommendation, MAX_TEXT);
        parts.push(["Recommendation: ", &recommendation].concat());
    }
    let affected = &insight.affected_resources;
    if !affected.is_empty() {
        let mut shown = affected.clone();
        shown.truncate(MAX_RESOURCES);
        if let more @ 1.. = affected.len() - shown.len() {
            shown.push(format!("{more} more"));
        }
        parts.push(["Affected: ", &shown.join(", ")].concat());
    }
    parts.join("\n\n")
}

fn severity(severity: &str) -> &'static str {
    match severity {
        "critical" | "error" | "high" => "high",
        "info" | "low" => "low",
        _ => "medium",
    }
}

fn category(category: &str) -> &'static str {
    match category {
        "cost" => "cost",
        "availability" | "reliability" => "reliability",
        "security" => "security",
        _ => "optimization",
    }
}

fn more_findings(truncated: u64) -> String {
    let description = format!(
        "Less severe or older: {truncated}. All of them: kube9-operator query insights list."
    );
    notice("notice-more-findings", "More findings", &description)
}

fn in_progress(submitted: u64) -> String {
    let description = match submitted {
        1 => "An analysis is under way. What it finds appears here.".to_owned(),
        more => format!("{more} analyses are under way. What they find appears here."),
    };
    notice(
        "notice-analysis-in-progress",
        "Analysis in progress",
        &description,
    )
}

fn quota_exceeded(resets_at: Option<Time>) -> String {
    let mut description = "Further analyses wait for the next day of the quota.".to_owned();
    // 2026-11-24T00:00:00.000Z
    let resets_at = resets_at.map(|at| at.to_string());
    let parts = resets_at.as_ref().map(|at| (at.get(..10), at.get(11..16)));
    if let Some((Some(day), Some(minute))) = parts {
        description = format!("Further analyses run after {day} {minute} UTC.");
    }
    notice(
        "notice-quota-exceeded",
        "Daily quota exceeded",
        &description,
    )
}

fn no_findings() -> String {
    notice(
        "notice-no-findings",
        "No findings",
        "Nothing in this cluster needs attention at present.",
    )
}

/// The panel shows nothing but items.
fn notice(id: &str, title: &str, description: &str) -> String {
    json::to_string(&Item {
        id,
        category: "optimization",
        severity: "low",
        title,
        description,
        actionable: false,
    })
}

/// As HTML shows it. Whatever the text is, it opens no tag, and ends no attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::path::Path;

    use kube_sim::{Options, Sim};
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::inventory_of;
    use crate::server::{InsightAnswer, InsightPage};

    const NOW: Time = Time::from_millis(1_763_908_248_120);

    fn answer(id: usize, severity: &str) -> InsightAnswer {
        InsightAnswer {
            id: format!("ins_{id}"),
            severity: severity.to_owned(),
            category: "cost".to_owned(),
            title: format!("Title {id}"),
            description: "Too much".to_owned(),
            recommendation: "Less".to_owned(),
            affected_resources: vec!["deployment_001".to_owned()],
            created_at: Some(Time::from_millis(
                NOW.as_millis() - 1_000_000 + i64::try_from(id).unwrap(),
            )),
        }
    }

    fn store(insights: Vec<InsightAnswer>) -> Store {
        let mut store = Store::open(Path::new("/nonexistent/x.db")).unwrap().0;
        let page = InsightPage {
            insights,
            ..InsightPage::default()
        };
        store.save_insights(&page, NOW).unwrap();
        store
    }

    /// Both documents, parsed, once it is sure that they hold together.
    fn documents(store: &Store) -> (Value, Value) {
        let built = build(store, NOW).unwrap();
        assert!(built.panel.len() + built.insights.len() < 512 * 1024 - 4096);
        assert!(built.panel.is_ascii() && built.insights.is_ascii());
        let panel: Value = serde_json::from_str(&built.panel).unwrap();
        let whole: Value = serde_json::from_str(&built.insights).unwrap();
        assert_eq!(panel["truncated"], whole["truncated"]);
        let told = ids(&whole["insights"]).into_iter().map(escaped);
        let told: Vec<String> = told.collect();
        assert_eq!(ids(&panel["insights"]), told);
        let mut items = ids(&panel["items"]);
        assert!(!items.is_empty());
        items.retain(|id| !id.starts_with("notice-"));
        assert_eq!(items, told);
        let mut keys: Vec<&String> = panel.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["insights", "items", "truncated"]);
        (panel, whole)
    }

    fn ids(list: &Value) -> Vec<&str> {
        let list = list.as_array().unwrap();
        list.iter()
            .map(|item| item["id"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn an_insight_in_both_forms() {
        let mut insight = answer(1, "critical");
        insight.category = "availability".to_owned();
        insight.title = "<b>\"It's\" R&D</b>".to_owned();
        let store = store(vec![insight]);
        let (panel, whole) = documents(&store);
        let title = "&lt;b&gt;&quot;It&#39;s&quot; R&amp;D&lt;/b&gt;";
        assert_eq!(
            panel,
            json!({
                "items": [{
                    "id": "ins_1", "type": "reliability", "severity": "high", "title": title,
                    "description": "Too much\n\nRecommendation: Less\n\nAffected: deployment_001",
                    "actionable": false,
                }],
                "insights": [{
                    "id": "ins_1", "category": "availability", "summary": title,
                    "details": "Too much",
                }],
                "truncated": 0,
            })
        );
        let insight = serde_json::to_value(store.insight("ins_1").unwrap().unwrap()).unwrap();
        assert_eq!(whole, json!({"insights": [insight], "truncated": 0}));
        assert_eq!(whole["insights"][0]["title"], "<b>\"It's\" R&D</b>");
    }

    #[test]
    fn words_nobody_knows_are_shown_as_something() {
        for (word, expected) in [
            ("critical", "high"),
            ("error", "high"),
            ("high", "high"),
            ("warning", "medium"),
            ("medium", "medium"),
            ("info", "low"),
            ("low", "low"),
            ("catastrophic", "medium"),
            ("", "medium"),
        ] {
            assert_eq!(severity(word), expected, "{word}");
        }
        for (word, expected) in [
            ("security", "security"),
            ("reliability", "reliability"),
            ("availability", "reliability"),
            ("cost", "cost"),
            ("performance", "optimization"),
            ("", "optimization"),
        ] {
            assert_eq!(category(word), expected, "{word}");
        }
    }

    #[test]
    fn the_most_severe_come_first_then_the_newest() {
        let severities = ["info", "warning", "critical"];
        let insights = (0..6).map(|id| answer(id, severities[id % 3])).collect();
        let (_, whole) = documents(&store(insights));
        assert_eq!(
            ids(&whole["insights"]),
            ["ins_5", "ins_2", "ins_4", "ins_1", "ins_3", "ins_0"]
        );
    }

    #[test]
    fn what_users_are_done_with_is_left_out() {
        let mut store = store((0..3).map(|id| answer(id, "info")).collect());
        for (id, state) in [
            ("ins_0", InsightState::Acknowledged),
            ("ins_1", InsightState::Dismissed),
        ] {
            store.set_insight_state(id, state, NOW).unwrap().unwrap();
        }
        let (_, whole) = documents(&store);
        assert_eq!(ids(&whole["insights"]), ["ins_2"]);
        assert_eq!(whole["truncated"], 0);
        store
            .set_insight_state("ins_2", InsightState::Dismissed, NOW)
            .unwrap()
            .unwrap();
        let (panel, _) = documents(&store);
        assert_eq!(ids(&panel["items"]), ["notice-no-findings"]);
    }

    #[test]
    fn notices_are_items_too() {
        let quota = |remaining, resets_at| Quota {
            remaining,
            resets_at,
            ..Quota::default()
        };
        let items = |submitted, quota: &Quota| {
            let built = Documents::default().finish(0, submitted, quota);
            let panel: Value = serde_json::from_str(&built.panel).unwrap();
            panel["items"].clone()
        };
        assert_eq!(
            items(0, &quota(None, None)),
            json!([{
                "id": "notice-no-findings", "type": "optimization", "severity": "low",
                "title": "No findings",
                "description": "Nothing in this cluster needs attention at present.",
                "actionable": false,
            }])
        );
        let both = items(2, &quota(Some(0), Some(NOW)));
        assert_eq!(
            ids(&both),
            ["notice-analysis-in-progress", "notice-quota-exceeded"]
        );
        assert_eq!(
            both[0]["description"],
            "2 analyses are under way. What they find appears here."
        );
        assert_eq!(
            both[1]["description"],
            "Further analyses run after 2025-11-23 14:30 UTC."
        );
        assert_eq!(
            ids(&items(1, &quota(Some(1), None))),
            ["notice-analysis-in-progress"]
        );
        assert_eq!(
            ids(&items(0, &quota(Some(0), None))),
            ["notice-quota-exceeded"]
        );
    }

    #[test]
    fn many_resources_are_counted() {
        let mut insight = answer(1, "info");
        insight.affected_resources = (1..=100).map(|id| format!("job_{id:03}")).collect();
        let (panel, whole) = documents(&store(vec![insight]));
        let description = panel["items"][0]["description"].as_str().unwrap();
        assert!(description.ends_with(" job_020, 80 more"), "{description}");
        let resources = whole["insights"][0]["affectedResources"].as_array();
        assert_eq!(resources.unwrap().len(), 100);
    }

    #[test]
    fn the_bound_holds_whatever_the_texts_are() {
        let longest = |filler: &str, id: usize| InsightAnswer {
            id: format!("{id:&>128}"),
            severity: if id.is_multiple_of(2) {
                "critical"
            } else {
                "info"
            }
            .to_owned(),
            category: filler.repeat(32),
            title: filler.repeat(300),
            description: filler.repeat(4000),
            recommendation: filler.repeat(4000),
            affected_resources: vec![filler.repeat(100); 100],
            ..answer(id, "")
        };
        for (filler, count) in [
            ("<", 2000),
            ("x", 60),
            ("\"", 60),
            ("\\", 60),
            ("\n", 60),
            ("é", 60),
            ("😀", 60),
        ] {
            let store = store((0..count).map(|id| longest(filler, id)).collect());
            let (panel, whole) = documents(&store);
            let shown = whole["insights"].as_array().unwrap();
            assert!(!shown.is_empty(), "{filler:?}");
            assert_eq!(whole["truncated"], json!(count - shown.len()));
            assert_eq!(panel["items"][shown.len()]["id"], "notice-more-findings");
            // Not one is left out but the least severe and the oldest.
            for (place, insight) in shown.iter().enumerate() {
                let id = insight["id"].as_str().unwrap().trim_start_matches('&');
                assert_eq!(id, (count - 2 - 2 * place).to_string());
            }
        }
    }

    #[test]
    fn an_insight_fits_however_long_the_names_in_it_are() {
        let mut store = Store::open(Path::new("/nonexistent/x.db")).unwrap().0;
        let (namespace, name) = ("n".repeat(63), "x".repeat(253));
        let inventory = inventory_of(&[(&namespace, &[&name])]);
        store
            .save_inventory(&inventory, Time::from_millis(0))
            .unwrap();
        let text: String = "deployment_001 ".repeat(300).chars().take(4000).collect();
        let page = InsightPage {
            insights: vec![InsightAnswer {
                title: text.chars().take(300).collect(),
                description: text.clone(),
                recommendation: text,
                affected_resources: vec!["deployment_001".to_owned(); 100],
                ..answer(1, "info")
            }],
            ..InsightPage::default()
        };
        store.save_insights(&page, NOW).unwrap();
        let (_, whole) = documents(&store);
        let insight = &whole["insights"][0];
        assert!(insight["description"].as_str().unwrap().len() > 60_000);
        let path = format!("{namespace}/deployment/{name}");
        assert_eq!(insight["affectedResources"][99], path);
    }

    #[test]
    fn the_room_there_is_is_used() {
        let store = store((0..2000).map(|id| answer(id, "info")).collect());
        let built = build(&store, NOW).unwrap();
        assert!(built.truncated > 0);
        let length = built.panel.len() + built.insights.len();
        assert!(
            (MAX_BYTES - 2048..MAX_BYTES + 2048).contains(&length),
            "{length}"
        );
    }

    #[test]
    fn the_api_server_takes_the_largest_and_removes_it() {
        let sim = Sim::start(Options::default()).unwrap();
        let client = config_map::tests::client(&sim);
        let store = store((0..2000).map(|id| answer(id, "info")).collect());
        let built = build(&store, NOW).unwrap();
        publish(&client, "default", &built).unwrap();
        let stored = config_map::read(&client, "default", CONFIG_MAP).unwrap();
        assert_eq!(stored.data["recommendations"], built.panel);
        assert_eq!(stored.data["insights"], built.insights);
        assert_eq!(stored.data.len(), 2);
        remove(&client, "default").unwrap();
        remove(&client, "default").unwrap();
        let error = config_map::read(&client, "default", CONFIG_MAP).err();
        assert!(error.unwrap().is_not_found());
    }

    #[test]
    fn the_same_content_gives_the_same_documents() {
        let store = store((0..10).map(|id| answer(id, "info")).collect());
        let later = Time::from_millis(NOW.as_millis() + 60_000);
        assert_eq!(build(&store, NOW).unwrap(), build(&store, later).unwrap());
    }
}
