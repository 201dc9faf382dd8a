//! Insights, and what a user makes of them.

use std::process::ExitCode;

use serde::Serialize;

use super::args::{GetInsight, InsightMatter, ListInsights, Verdict};
use super::exit::Failure;
use super::layout::{self, Column, Page, Table};
use super::output::{self, Format, Rows};
use super::pro::{self, Tier};
use super::query::Pagination;
use crate::api_key::ApiKey;
use crate::config::{Config, Env};
use crate::outbox::{self, Sent};
use crate::server::InsightState;
use crate::store::{Acknowledgement, Insight, InsightFilter, Judged, Store, StoreError};
use crate::time::Time;

const COLUMNS: &[Column] = &[
    Column::new("SEVERITY"),
    Column::new("STATE"),
    Column::new("AGE"),
    Column::wrapped("TITLE"),
    Column::wrapped("AFFECTED"),
    Column::new("ID"),
];

/// In a table so many resources of an insight are named, and the rest counted.
const NAMED: usize = 2;

pub(super) fn run(matter: InsightMatter, env: Env<'_>) -> Result<ExitCode, Failure> {
    match matter {
        InsightMatter::Ack(ack) => judge(&ack.verdict(), env),
        InsightMatter::Dismiss(dismiss) => judge(&dismiss.verdict(), env),
        InsightMatter::Get(get) => show(&get, env),
        InsightMatter::List(question) => list(question, env),
    }
}

fn list(question: ListInsights, env: Env<'_>) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Rest {
        pagination: Pagination,
        last_sync: Option<Time>,
        notice: Option<String>,
    }

    let config = Config::new(&question.flags(), env)?;
    let store = Store::open_read_only(&config.db)?;
    let last_sync = store.sync()?.last_success;
    let (limit, format) = (question.limit, question.format);
    let mut pagination = Pagination::new(limit, question.offset);
    let filter = InsightFilter {
        severities: question.severity.map(|words| words.0).unwrap_or_default(),
        category: question.category,
        namespace: question.namespace,
        state: question.state.0,
        since: question.since,
    };
    let tier = pro::tier(&config, &store)?;
    let notice = notice(&tier, last_sync);
    // What an earlier key brought is not shown without one.
    let limit = match tier {
        Tier::Free(_) => None,
        Tier::Pro(_) => Some(limit),
    };
    let mut each = |visit: &mut dyn FnMut(Insight)| -> Result<(), StoreError> {
        if let Some(limit) = limit {
            pagination.total =
                store.insights(&filter, limit, pagination.offset, &mut |insight| {
                    pagination.returned += 1;
                    visit(insight);
                })?;
        }
        Ok(())
    };
    if format == Format::Table {
        let now = Time::now();
        let mut table = Table::new(COLUMNS);
        each(&mut |insight| {
            let age = layout::age(insight.created_at.unwrap_or(insight.received_at), now);
            let affected = summary(&insight.affected_resources);
            let state = insight.state.as_str();
            table.row(&[
                &insight.severity,
                state,
                &age,
                &insight.title,
                &affected,
                &insight.id,
            ]);
        })?;
        let text = table.render(layout::terminal_width(env));
        let notice = notice.map(|notice| format!("\n{notice}\n"));
        return Ok(output::answer(
            &(text + &pagination.footer() + &notice.unwrap_or_default()),
        ));
    }
    let mut rows = Rows::new(format, "insights");
    each(&mut |insight| rows.push(&insight))?;
    rows.finish(&Rest {
        pagination,
        last_sync,
        notice,
    })
}

/// What there is to know about a list besides its rows.
fn notice(tier: &Tier, last_sync: Option<Time>) -> Option<String> {
    match tier {
        Tier::Free(why) => Some(format!(
            "Free tier: insights about this cluster, analyses on demand and recommendations come with \
             Pro; {why}"
        )),
        Tier::Pro(_) if last_sync.is_none() => Some(
            "No sync with kube9-server yet: insights come with the first one; see `query status`"
                .to_owned(),
        ),
        Tier::Pro(_) => None,
    }
}

fn summary(resources: &[String]) -> String {
    let named = resources.iter().take(NAMED);
    let mut text = named.map(String::as_str).collect::<Vec<_>>().join(", ");
    if let Some(rest @ 1..) = resources.len().checked_sub(NAMED) {
        text += &format!(" and {rest} more");
    }
    text
}

fn show(question: &GetInsight, env: Env<'_>) -> Result<ExitCode, Failure> {
    let config = Config::new(&question.flags(), env)?;
    let store = Store::open_read_only(&config.db)?;
    pro::require(&config, &store)?;
    let Some(insight) = store.insight(&question.id)? else {
        return Err(unknown(&question.id));
    };
    if question.format == Format::Table {
        return Ok(output::answer(&page(
            &insight,
            Time::now(),
            layout::terminal_width(env),
        )));
    }
    output::print(question.format, &insight)
}

/// The insight to read.
fn page(insight: &Insight, now: Time, width: Option<usize>) -> String {
    let ago = |at: Time| format!("{at} ({} ago)", layout::age(at, now));
    let created = insight.created_at.map_or("-".to_owned(), ago);
    let mut page = Page::new(width);
    page.field("Title", &insight.title);
    page.field("ID", &insight.id);
    page.field("Severity", &insight.severity);
    page.field("Category", &insight.category);
    page.field("State", insight.state.as_str());
    page.field("Created", &created);
    page.field("Received", &ago(insight.received_at));
    for (name, text) in [
        ("Description", &insight.description),
        ("Recommendation", &insight.recommendation),
        ("Affected", &insight.affected_resources.join("\n")),
    ] {
        if !text.is_empty() {
            page.text(name, text);
        }
    }
    page.finish()
}

/// Keeps what the user makes of an insight, then tells the server if that can be done at once.
fn judge(verdict: &Verdict<'_>, env: Env<'_>) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Answer<'a> {
        id: &'a str,
        state: InsightState,
        /// Whether the server knows.
        synced: bool,
    }

    let Verdict { id, state, .. } = *verdict;
    let config = Config::new(&verdict.flags, env)?;
    let mut store = Store::open_for_command(&config.db)?;
    let key = pro::require(&config, &store)?;
    let now = Time::now();
    let judged = store.judge_insight(id, state, now, now.plus(outbox::LEASE))?;
    let synced = match judged.ok_or_else(|| unknown(id))? {
        Judged::Known => true,
        // It is kept, whatever happens now: the agent goes on with it.
        Judged::Taken(taken) => tell_server(&config, &mut store, key, &taken).unwrap_or(false),
        Judged::Waiting => false,
    };
    if !synced {
        pro::keep(&config, &store);
    }
    output::print(verdict.format, &Answer { id, state, synced })
}

fn tell_server(
    config: &Config,
    store: &mut Store,
    key: ApiKey,
    acknowledgement: &Acknowledgement,
) -> Result<bool, StoreError> {
    if let Ok((link, cluster_id)) = pro::link(config, store, key)? {
        let sent = outbox::send_acknowledgement(store, &link, &cluster_id, acknowledgement)?;
        return Ok(sent == Sent::Done);
    }
    // Whoever can first, does.
    store.acknowledgement_wait(acknowledgement, Time::now())?;
    Ok(false)
}

fn unknown(id: &str) -> Failure {
    Failure::not_found(format!(
        "there is no insight {id:?}: `query insights list` shows those there are"
    ))
}
