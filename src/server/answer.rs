//! What an answer means. Nothing in a body is taken as it comes: it is hostile until it proved
//! otherwise.

use std::fmt;
use std::time::{Duration, SystemTime};

use kube_client_lite::parse_retry_after;
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
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

/// No server asks for more patience than this and is believed.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

const HOUR: u64 = 60 * 60;

/// 2000-01-01 and the last moment that can be written, in milliseconds since 1970.
const CREDIBLE: std::ops::RangeInclusive<i64> = 946_684_800_000..=253_402_300_799_999;

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
    id: Option<String>,
    severity: Option<String>,
    category: Option<String>,
    title: Option<String>,
    description: Option<String>,
    recommendation: Option<String>,
    affected_resources: Option<Resources>,
    created_at: Option<String>,
}

impl Item {
    fn check(self, key: &ApiKey) -> Option<InsightAnswer> {
        let id = self.id.filter(|id| {
            (1..=MAX_ID).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_graphic())
                && key.is_not_in(id)
        })?;
        let line = |text: Option<String>| key.hide(text::line(&text.unwrap_or_default()));
        let lines = |text: Option<String>| {
            bounded::cut(&key.hide(text::clean(&text.unwrap_or_default())), MAX_TEXT)
        };
        let word = |text| bounded::cut(&line(text).to_lowercase(), MAX_WORD);
        let resources = self.affected_resources.unwrap_or_default().0;
        Some(InsightAnswer {
            id,
            severity: word(self.severity),
            category: word(self.category),
            title: bounded::cut(&line(self.title), MAX_TITLE),
            description: lines(self.description),
            recommendation: lines(self.recommendation),
            affected_resources: resources
                .into_iter()
                .map(|resource| bounded::cut(&line(Some(resource)), MAX_RESOURCE))
                .collect(),
            created_at: credible(self.created_at),
        })
    }
}

/// The first of a list of texts.
#[derive(Default)]
struct Resources(Vec<String>);

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
    let time = Time::parse(&text?)?;
    CREDIBLE.contains(&time.as_millis()).then_some(time)
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| wrong(&error))
}

fn wrong(error: &serde_json::Error) -> String {
    format!("the answer is not the expected JSON: {error}")
}
