//! What an answer means. Nothing in a body is taken as it comes: it is hostile until it proved
//! otherwise.

use std::fmt;
use std::time::{Duration, SystemTime};

use kube_client_lite::parse_retry_after;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::Meaning;
use super::text;
use super::types::{InsightAnswer, InsightPage, QuotaAnswer, Registered};
use crate::api_key::ApiKey;
use crate::bounded;
use crate::privacy::id::GivenId;
use crate::time::Time;

/// More insights than this in one answer are refused altogether.
const MAX_PAGE: usize = 5000;

/// An insight affects no more resources than this; the rest are left out.
const MAX_RESOURCES: usize = 100;

const MAX_ID: usize = 128;
const MAX_WORD: usize = 32;
const MAX_TITLE: usize = 300;
const MAX_TEXT: usize = 4000;
const MAX_RESOURCE: usize = 100;

/// Of a text this much is looked at, in bytes: the longest that is shown, whatever is cleaned away.
const MAX_RAW: usize = 64 << 10;

/// A character has no more bytes.
const MAX_CHAR: usize = 4;

/// No server asks for more patience than this and is believed.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

const HOUR: u64 = 60 * 60;

/// Nothing is older than 2000-01-01. The far end is the year 9999, where what can be read ends.
const EARLIEST: Time = Time::from_millis(946_684_800_000);

/// What a status other than 2xx means.
pub(super) fn meaning(code: u16, retry_after: Option<&str>, now: SystemTime) -> Meaning {
    match code {
        401 => Meaning::Unauthorized,
        403 => Meaning::Refused,
        408 | 500.. => Meaning::Unreachable,
        413 => Meaning::TooLarge,
        429 => Meaning::Limited {
            // No time at all tells nothing, and asking again at once helps nobody.
            wait: retry_after
                .and_then(|value| parse_retry_after(value, now))
                .filter(|wait| !wait.is_zero())
                .map(|wait| wait.min(MAX_WAIT)),
        },
        code => Meaning::Final { code },
    }
}

/// What an error's body says: its `message`, or a gateway's plain words.
pub(super) fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        message: String,
    }

    if let Ok(Body { message }) = serde_json::from_slice(body) {
        return message;
    }
    match str::from_utf8(body).map(str::trim) {
        Ok(text) if !text.starts_with(['<', '{', '[', '"']) => text.to_owned(),
        _ => String::new(),
    }
}

/// Reads the answer to a registration.
pub(super) fn registered(body: &[u8], key: &ApiKey) -> Result<Registered, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        cluster_id: String,
        configuration: Option<Configuration>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Configuration {
        reregistration_interval_hours: Option<f64>,
    }

    let body: Body = parse(body)?;
    let hours = body
        .configuration
        .and_then(|configuration| configuration.reregistration_interval_hours)
        .unwrap_or(24.0)
        .clamp(1.0, 168.0);
    let cluster_id = GivenId::parse(&body.cluster_id).filter(|_| key.is_not_in(&body.cluster_id));
    Ok(Registered {
        cluster_id: cluster_id.ok_or("its clusterId is not 1 to 128 of A-Z, a-z, 0-9 and _.:-")?,
        reregister_after: Duration::from_secs(HOUR).mul_f64(hours),
    })
}

/// Reads the answer to GET quota.
pub(super) fn quota(body: &[u8]) -> Result<QuotaAnswer, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        limit: Option<u64>,
        used: Option<u64>,
        remaining: Option<u64>,
        resets_at: Option<String>,
    }

    let body: Body = parse(body)?;
    Ok(QuotaAnswer {
        limit: body.limit,
        used: body.used,
        remaining: body.remaining,
        resets_at: credible(body.resets_at),
    })
}

/// Reads a page of insights, all or nothing; an insight that could not be asked for again, for
/// want of a usable id, is left out.
pub(super) fn insights(body: &[u8], key: &ApiKey) -> Result<InsightPage, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        #[serde(borrow)]
        insights: &'a RawValue,
        quota_remaining: Option<u64>,
        quota_limit: Option<u64>,
    }

    let body: Body<'_> = parse(body)?;
    let mut list = serde_json::Deserializer::from_str(body.insights.get());
    let insights = list
        .deserialize_option(Page { key })
        .map_err(|error| wrong(&error))?;
    Ok(InsightPage {
        insights,
        quota_remaining: body.quota_remaining,
        quota_limit: body.quota_limit,
    })
}

/// The list of insights; what a Go server calls an empty list is `null`.
struct Page<'a> {
    key: &'a ApiKey,
}

impl<'de> Visitor<'de> for Page<'_> {
    type Value = Vec<InsightAnswer>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of insights")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, list: D) -> Result<Self::Value, D::Error> {
        list.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut insights = Vec::new();
        let mut seen = 0;
        while let Some(item) = list.next_element::<Item>()? {
            seen += 1;
            if seen > MAX_PAGE {
                let message = format_args!("more than {MAX_PAGE} insights");
                return Err(serde::de::Error::custom(message));
            }
            insights.extend(item.check(self.key));
        }
        if insights.len() < seen {
            let missing = seen - insights.len();
            log::warn!("kube9-server sent {missing} insights without a usable id: left out");
        }
        Ok(insights)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: Option<Text>,
    severity: Option<Text>,
    category: Option<Text>,
    title: Option<Text>,
    description: Option<Text>,
    recommendation: Option<Text>,
    affected_resources: Option<Resources>,
    created_at: Option<Text>,
}

impl Item {
    fn check(self, key: &ApiKey) -> Option<InsightAnswer> {
        let id = self.id?.0;
        let usable = (1..=MAX_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic())
            && key.is_not_in(&id);
        if !usable {
            return None;
        }
        let line = |text, most| shown(text, text::line, key, most);
        let lines = |text| shown(text, text::clean, key, MAX_TEXT);
        let word = |text| bounded::cut(&line(text, MAX_TEXT).to_lowercase(), MAX_WORD);
        let resources = self.affected_resources.unwrap_or_default().0;
        Some(InsightAnswer {
            id,
            severity: word(self.severity),
            category: word(self.category),
            title: line(self.title, MAX_TITLE),
            description: lines(self.description),
            recommendation: lines(self.recommendation),
            affected_resources: resources
                .into_iter()
                .map(|resource| line(Some(resource), MAX_RESOURCE))
                .collect(),
            created_at: credible(self.created_at.map(|text| text.0)),
        })
    }
}

/// What is shown of a text: cleaned, without the key, and cut.
fn shown(text: Option<Text>, clean: fn(&str) -> String, key: &ApiKey, most: usize) -> String {
    let Text(text) = text.unwrap_or_default();
    let mut clean = key.hide(clean(&text));
    if text.len() + MAX_CHAR > MAX_RAW {
        // Where it broke off, a part of the key may stand.
        let rest = clean.chars().count().saturating_sub(key.expose().len());
        clean = clean.chars().take(rest).collect();
    }
    bounded::cut(&clean, most)
}

/// A text, as far as any of it can be shown: what fills a whole page would be in memory several
/// times until it is cleaned and cut.
#[derive(Default)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Beginning)
    }
}

struct Beginning;

impl Visitor<'_> for Beginning {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        let most = text.len().min(MAX_RAW);
        let mut ends = (0..=most).rev();
        let beginning = ends.find_map(|end| text.get(..end));
        Ok(Text(beginning.unwrap_or_default().to_owned()))
    }
}

/// The first of a list of texts.
#[derive(Default)]
struct Resources(Vec<Text>);

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FirstResources)
    }
}

struct FirstResources;

impl<'de> Visitor<'de> for FirstResources {
    type Value = Resources;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of resources")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Resources, A::Error> {
        let mut resources = Vec::new();
        while resources.len() < MAX_RESOURCES {
            match list.next_element()? {
                Some(resource) => resources.push(resource),
                None => return Ok(Resources(resources)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Resources(resources))
    }
}

fn credible(text: Option<String>) -> Option<Time> {
    Time::parse(&text?).filter(|time| *time >= EARLIEST)
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| wrong(&error))
}

fn wrong(error: &serde_json::Error) -> String {
    format!("the answer is not the expected JSON: {error}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;

    fn key() -> ApiKey {
        ApiKey::parse("kdy_marker").unwrap()
    }

    fn page(list: &Value) -> Result<InsightPage, String> {
        insights(json!({ "insights": list }).to_string().as_bytes(), &key())
    }

    fn one(insight: &Value) -> InsightAnswer {
        let page = page(&json!([insight])).unwrap();
        assert_eq!(page.insights.len(), 1);
        page.insights[0].clone()
    }

    #[test]
    fn an_insight_as_agreed() {
        let body = json!({
            "insights": [{
                "id": "ins_1", "severity": "Critical", "category": "security", "title": "A title",
                "description": "Two\nlines", "affectedResources": ["deployment_002"],
                "recommendation": "Do\tit", "createdAt": "2026-11-23T14:30:48+01:00", "new": {},
            }],
            "quotaRemaining": 18, "quotaLimit": 24, "new": [[]],
        });
        let page = insights(body.to_string().as_bytes(), &key()).unwrap();
        assert_eq!(
            (page.quota_remaining, page.quota_limit),
            (Some(18), Some(24))
        );
        assert_eq!(
            page.insights,
            [InsightAnswer {
                id: "ins_1".to_owned(),
                severity: "critical".to_owned(),
                category: "security".to_owned(),
                title: "A title".to_owned(),
                description: "Two\nlines".to_owned(),
                recommendation: "Do\tit".to_owned(),
                affected_resources: vec!["deployment_002".to_owned()],
                created_at: Time::parse("2026-11-23T13:30:48Z"),
            }]
        );
    }

    #[test]
    fn what_is_missing_is_empty() {
        let empty = InsightAnswer {
            id: "a".to_owned(),
            ..InsightAnswer::default()
        };
        assert_eq!(one(&json!({"id": "a"})), empty);
        let nulls = json!({
            "id": "a", "severity": null, "category": null, "title": null, "description": null,
            "affectedResources": null, "recommendation": null, "createdAt": null,
        });
        assert_eq!(one(&nulls), empty);
        assert_eq!(page(&Value::Null).unwrap(), InsightPage::default());
        assert_eq!(page(&json!([])).unwrap(), InsightPage::default());
    }

    #[test]
    fn texts_are_cleaned_and_cut() {
        let long = "é".repeat(5000);
        let insight = one(&json!({
            "id": "a", "severity": "\u{1b}WARNİNG\n", "category": long, "title": long,
            "description": format!("a\u{1b}[2J\u{202e}\r\nb\u{200b}{long}"), "recommendation": long,
            "affectedResources": ["pod\n\u{7}_1", long],
        }));
        assert_eq!(insight.severity, "warni\u{307}ng");
        let length = |text: &str| (text.chars().count(), text.ends_with("é..."));
        assert_eq!(length(&insight.category), (32, true));
        assert_eq!(length(&insight.title), (300, true));
        assert_eq!(length(&insight.description), (4000, true));
        assert!(insight.description.starts_with("a[2J\nbé"));
        assert_eq!(length(&insight.recommendation), (4000, true));
        assert_eq!(insight.affected_resources[0], "pod _1");
        assert_eq!(length(&insight.affected_resources[1]), (100, true));
    }

    #[test]
    fn only_so_many_resources_are_kept() {
        let many: Vec<_> = (0..1000).map(|number| format!("pod_{number}")).collect();
        let mut resources = json!(many);
        let insight = one(&json!({"id": "a", "affectedResources": resources}));
        assert_eq!(insight.affected_resources, many[..100]);
        // What is beyond is not looked at.
        resources[500] = json!({"x": 1});
        let insight = one(&json!({"id": "a", "affectedResources": resources}));
        assert_eq!(insight.affected_resources.len(), 100);
        resources[99] = json!(7);
        assert!(page(&json!([{"id": "a", "affectedResources": resources}])).is_err());
    }

    #[test]
    fn an_insight_without_a_usable_id_is_left_out() {
        let long = "x".repeat(129);
        for id in ["", " ", "a b", "é", "a\n", "x\u{7f}", "kdy_marker", &long] {
            let page = page(&json!([{"id": id}, {"id": "b"}, {"title": "c"}])).unwrap();
            assert_eq!(page.insights.len(), 1, "{id:?}");
            assert_eq!(page.insights[0].id, "b");
        }
        let longest = "x".repeat(128);
        assert_eq!(one(&json!({"id": longest})).id, longest);
    }

    #[test]
    fn a_page_is_taken_whole_or_not_at_all() {
        let full = vec![json!({"id": "a"}); MAX_PAGE];
        assert_eq!(page(&json!(full)).unwrap().insights.len(), MAX_PAGE);
        let over = vec![json!({"id": "a"}); MAX_PAGE + 1];
        let error = page(&json!(over)).unwrap_err();
        assert!(error.contains("more than 5000 insights"), "{error}");
        for wrong in [
            json!({"id": 7}),
            json!({"id": "a", "title": 7}),
            json!({"id": "a", "title": ["x"]}),
            json!({"id": "a", "affectedResources": "pod_1"}),
            json!({"id": "a", "affectedResources": [null]}),
            json!({"id": "a", "createdAt": 7}),
            json!("a"),
            json!(null),
            json!([]),
        ] {
            let error = page(&json!([{"id": "good"}, wrong])).unwrap_err();
            assert!(
                error.starts_with("the answer is not the expected JSON"),
                "{error}"
            );
        }
        for body in [
            "{}",
            "[]",
            "{\"insights\":7}",
            "{\"insights\":\"x\"}",
            "{\"insights\":[],\"quotaLimit\":-1}",
            "{\"insights\":[]} x",
            "{\"insights\":[",
            "{\"insights\":[],\"insights\":[]}",
        ] {
            assert!(insights(body.as_bytes(), &key()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_million_of_anything_does_no_harm() {
        let many = |element: &str| {
            let list = vec![element; 100_000].join(",");
            insights(format!("{{\"insights\":[{list}]}}").as_bytes(), &key())
        };
        assert!(many("{}").is_err());
        assert!(many("null").is_err());
        let deep = "[".repeat(100_000);
        for field in ["insights", "new"] {
            let body = format!("{{\"{field}\":{deep}");
            assert!(insights(body.as_bytes(), &key()).is_err());
        }
        let nested = format!("{{\"insights\":[{{\"id\":\"a\",\"new\":{deep}");
        assert!(insights(nested.as_bytes(), &key()).is_err());
        assert_eq!(message(deep.as_bytes()), "");
    }

    #[test]
    fn incredible_times_are_none() {
        for (text, expected) in [
            ("2026-11-23T14:30:48Z", true),
            ("2000-01-01T00:00:00Z", true),
            ("9999-12-30T00:00:00Z", true),
            ("1999-12-31T23:59:59Z", false),
            ("0001-01-01T00:00:00Z", false),
            ("-000001-01-01T00:00:00Z", false),
            ("+010000-01-01T00:00:00Z", false),
            ("99999-01-01T00:00:00Z", false),
            ("yesterday", false),
            ("2026-11-23", false),
            ("", false),
        ] {
            let insight = one(&json!({"id": "a", "createdAt": text}));
            assert_eq!(insight.created_at.is_some(), expected, "{text}");
        }
    }

    #[test]
    fn registrations() {
        let answer = |body: Value| registered(body.to_string().as_bytes(), &key());
        let every = |hours| json!({"reregistrationIntervalHours": hours});
        for (configuration, hours) in [
            (json!(null), 24),
            (json!({}), 24),
            (every(json!(null)), 24),
            (every(json!(48)), 48),
            (every(json!(0)), 1),
            (every(json!(-5)), 1),
            (every(json!(9999)), 168),
            (every(json!(1e300)), 168),
        ] {
            let body = json!({"clusterId": "cls_1", "configuration": configuration, "tier": "pro"});
            let registered = answer(body).unwrap();
            assert_eq!(registered.cluster_id, GivenId::parse("cls_1").unwrap());
            assert_eq!(registered.reregister_after.as_secs(), hours * HOUR);
        }
        for body in [
            json!({}),
            json!([]),
            json!({"clusterId": null}),
            json!({"clusterId": 7}),
            json!({"clusterId": ""}),
            json!({"clusterId": "a/b"}),
            json!({"clusterId": "my-kdy_marker"}),
            json!({"clusterId": "a", "configuration": 7}),
            json!({"clusterId": "a", "configuration": every(json!("24"))}),
        ] {
            assert!(answer(body.clone()).is_err(), "{body}");
        }
    }

    #[test]
    fn quotas() {
        let answer = |body: Value| quota(body.to_string().as_bytes());
        let body = json!({
            "limit": 24, "used": 6, "remaining": 18, "resetsAt": "2026-11-24T00:00:00Z", "new": 1,
        });
        let told = QuotaAnswer {
            limit: Some(24),
            used: Some(6),
            remaining: Some(18),
            resets_at: Time::parse("2026-11-24T00:00:00Z"),
        };
        assert_eq!(answer(body), Ok(told));
        assert_eq!(answer(json!({})), Ok(QuotaAnswer::default()));
        let odd = json!({"limit": null, "resetsAt": "soon"});
        assert_eq!(answer(odd), Ok(QuotaAnswer::default()));
        for body in [
            json!({"limit": -1}),
            json!({"limit": 1.5}),
            json!({"limit": "24"}),
            json!({"resetsAt": 7}),
            json!("24"),
        ] {
            assert!(answer(body.clone()).is_err(), "{body}");
        }
    }

    #[test]
    fn patience() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let day = Some(86_400);
        for (value, expected) in [
            (None, None),
            (Some("120"), Some(120)),
            (Some(" 1 "), Some(1)),
            (Some("86400"), day),
            (Some("86401"), day),
            (Some("4294967296"), day),
            (Some("99999999999999999999"), None),
            (Some("0"), None),
            (Some("-1"), None),
            (Some("1.5"), None),
            (Some(""), None),
            (Some("soon"), None),
            (Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60)),
            (Some("Sun, 06 Nov 1994 08:00:00 GMT"), None),
            (Some("Sun, 06 Nov 2044 08:00:00 GMT"), day),
            (Some("Sun, 99 Nov 1994 08:00:00 GMT"), None),
        ] {
            let wait = expected.map(Duration::from_secs);
            assert_eq!(
                meaning(429, value, now),
                Meaning::Limited { wait },
                "{value:?}"
            );
        }
    }

    #[test]
    fn messages() {
        for (body, expected) in [
            ("{\"message\":\"so it is\",\"code\":7}", "so it is"),
            ("{\"error\":\"x\"}", ""),
            ("{\"message\":{\"x\":1}}", ""),
            ("{\"message\":\"cut", ""),
            ("upstream connect error\n", "upstream connect error"),
            ("  <!DOCTYPE html>", ""),
            ("\"quoted\"", ""),
            ("[1]", ""),
            ("", ""),
        ] {
            assert_eq!(message(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(message(b"\xff\xfe"), "");
    }
}
