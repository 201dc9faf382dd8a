//! Analyses on demand.

use std::process::ExitCode;

use kube_client_lite::Error;
use serde::Serialize;

use super::args::{AnalysisMatter, Analyze, ListAnalyses};
use super::exit::Failure;
use super::layout::{self, Column, Page, Table};
use super::output::{self, Format, Rows};
use super::pro;
use super::query::Pagination;
use super::resource::{Typed, Wanted};
use crate::api_key::ApiKey;
use crate::cluster::{self, Found, Named};
use crate::config::{Config, Env};
use crate::outbox::{self, Sent};
use crate::privacy::id::{Kind, Uuid};
use crate::store::{
    Admission, Analysis, AnalysisState, NewAnalysis, Reason, Store, StoreError, Target,
};
use crate::time::Time;

const COLUMNS: &[Column] = &[
    Column::new("STATE"),
    Column::new("AGE"),
    Column::wrapped("RESOURCE"),
    Column::wrapped("MESSAGE"),
    Column::new("REQUEST ID"),
];

pub(super) fn analyze(question: &Analyze, env: Env<'_>) -> Result<ExitCode, Failure> {
    let config = Config::new(&question.flags(), env)?;
    let wanted = Wanted::new(Typed {
        words: &question.resource,
        kind: question.kind.as_deref(),
        name: question.name.as_deref(),
        namespace: question.namespace.as_deref(),
    })
    .map_err(Failure::usage)?;
    let mut store = Store::open_for_command(&config.db)?;
    let key = pro::require(&config, &store)?;
    if config.exclude_namespaces.contains(wanted.home()) {
        return Err(Failure::failed(format!(
            "namespace {} is left out by --exclude-namespaces (KUBE9_EXCLUDE_NAMESPACES): nothing about \
             it is sent",
            wanted.home()
        )));
    }
    let new = NewAnalysis {
        request_id: Uuid::random().ok_or(StoreError::NoRandomness)?,
        target: locate(&config, &store, &wanted)?,
    };
    let analysis = match store.request_analysis(&new, !question.no_queue, Time::now())? {
        Admission::Queued(analysis) => analysis,
        Admission::Refused { resets_at } if question.no_queue => {
            return Err(over_quota(resets_at));
        }
        Admission::Refused { .. } => {
            return Err(Failure::quota(
                "too many requests are waiting already: see `query analyses list --state queued`",
            ));
        }
        Admission::Submit(analysis) => {
            submit(&config, &mut store, key, &analysis, !question.no_queue)?
        }
    };
    if analysis.state == AnalysisState::Queued {
        pro::keep(&config, &store);
    }
    if question.format == Format::Table {
        return Ok(output::answer(&page(
            &analysis,
            layout::terminal_width(env),
        )));
    }
    output::print(question.format, &analysis)
}

fn page(analysis: &Analysis, width: Option<usize>) -> String {
    let mut page = Page::new(width);
    page.field("Resource", &analysis.resource.to_string());
    page.field("State", analysis.state.as_str());
    page.field("Request ID", &analysis.request_id.to_string());
    page.text("Message", &analysis.message);
    page.finish()
}

/// Asks the server, and tells how the request stands then.
fn submit(
    config: &Config,
    store: &mut Store,
    key: ApiKey,
    analysis: &Analysis,
    queue: bool,
) -> Result<Analysis, Failure> {
    let id = analysis.request_id;
    // It is kept, whatever happens now: when the database fails, the agent goes on with it.
    let sent =
        send(config, store, key, analysis).unwrap_or_else(|error| Sent::Waiting(error.to_string()));
    match sent {
        Sent::Rejected(why) => return Err(Failure::failed(why)),
        Sent::OverQuota(until) if !queue => {
            store.withdraw_analysis(id)?;
            return Err(over_quota(until));
        }
        Sent::Waiting(why) if !queue => {
            store.analysis_failed(id, Reason::ServerUnreachable, &why)?;
            return Err(Failure::failed(why));
        }
        Sent::Done | Sent::OverQuota(_) | Sent::Waiting(_) => {}
    }
    let now = store.analysis(id).ok().flatten();
    Ok(now.unwrap_or_else(|| analysis.clone()))
}

fn send(
    config: &Config,
    store: &mut Store,
    key: ApiKey,
    analysis: &Analysis,
) -> Result<Sent, StoreError> {
    let target = &analysis.resource;
    let why = match pro::link(config, store, key)? {
        // It may be left out by a flag that this command was not given: the agent knows.
        Ok(_)
            if !store.has_exclusions(&config.exclude_namespaces)?
                && !store.has_resource(Kind::Namespace, "", target.home())? =>
        {
            format!("the agent has not read namespace {}", target.home())
        }
        Ok((link, cluster_id)) => {
            let (kind, namespace, name) = (target.kind, &target.namespace, &target.name);
            if store.id_of(kind, namespace, name)?.is_none() {
                store.assign_id(kind, namespace, name, Time::now())?;
                // What the server has heard of must not stand for something else one day.
                pro::keep(config, store);
            }
            return outbox::send_analysis(store, &link, &cluster_id, analysis);
        }
        Err(why) => why,
    };
    let reason = Reason::ServerUnreachable;
    store.analysis_queued(analysis.request_id, reason, Time::now(), &why)?;
    Ok(Sent::Waiting(why))
}

/// What is to be analysed, if it is there: as the cluster API says, or when that does not answer, as
/// the agent read last.
fn locate(config: &Config, store: &Store, wanted: &Wanted) -> Result<Target, Failure> {
    if !wanted.is_possible() {
        return Err(missing(wanted));
    }
    let found = match look_up(config, wanted) {
        Ok(found) => found,
        Err(error) => return remember(store, wanted, &error),
    };
    let (kind, name) = match found {
        Found::Namespace => (Kind::Namespace, wanted.name.clone()),
        Found::Workload(kind, name) => (Kind::Workload(kind), name),
        Found::Missing => return Err(missing(wanted)),
        Found::Bare { controller } => {
            let why = controller.map_or_else(
                || "belongs to no workload".to_owned(),
                |controller| {
                    format!("belongs to {controller}, which is no kind that can be analysed")
                },
            );
            return Err(Failure::not_found(format!(
                "{wanted} {why}: analyse its namespace instead, ns/{}",
                wanted.namespace
            )));
        }
    };
    Ok(Target {
        kind,
        namespace: wanted.namespace.clone(),
        name,
    })
}

fn look_up(config: &Config, wanted: &Wanted) -> Result<Found, Error> {
    let client = pro::client(config)?;
    cluster::find(&client, wanted.kind, &wanted.namespace, &wanted.name)
}

/// Whether the last collection had it.
fn remember(store: &Store, wanted: &Wanted, error: &Error) -> Result<Target, Failure> {
    let kind = match wanted.kind {
        Named::Namespace => Kind::Namespace,
        Named::Workload(kind) => Kind::Workload(kind),
        Named::Pod => {
            return Err(Failure::failed(format!(
                "cannot find the workload of {wanted}: {error}; name the workload itself"
            )));
        }
    };
    if store.has_resource(kind, &wanted.namespace, &wanted.name)? {
        return Ok(Target {
            kind,
            namespace: wanted.namespace.clone(),
            name: wanted.name.clone(),
        });
    }
    Err(Failure::not_found(format!(
        "there was no {wanted} when the agent last read the cluster, and the cluster API cannot be asked \
         now: {error}"
    )))
}

fn missing(wanted: &Wanted) -> Failure {
    Failure::not_found(format!("there is no {wanted}"))
}

fn over_quota(resets_at: Time) -> Failure {
    Failure::quota(format!(
        "Daily quota exceeded: it is reset at {resets_at}; without --no-queue the request waits for that"
    ))
}

pub(super) fn run(matter: &AnalysisMatter, env: Env<'_>) -> Result<ExitCode, Failure> {
    let AnalysisMatter::List(question) = matter;
    list(question, env)
}

fn list(question: &ListAnalyses, env: Env<'_>) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Rest {
        pagination: Pagination,
    }

    let config = Config::new(&question.flags(), env)?;
    let store = Store::open_read_only(&config.db)?;
    pro::require(&config, &store)?;
    let mut pagination = Pagination::new(question.limit, question.offset);
    let mut each = |visit: &mut dyn FnMut(Analysis)| -> Result<(), StoreError> {
        let (limit, offset) = (question.limit, question.offset);
        pagination.total = store.analyses(question.state, limit, offset, &mut |analysis| {
            pagination.returned += 1;
            visit(analysis);
        })?;
        Ok(())
    };
    if question.format == Format::Table {
        let now = Time::now();
        let mut table = Table::new(COLUMNS);
        each(&mut |analysis| {
            let age = layout::age(analysis.requested_at, now);
            let id = analysis.request_id.to_string();
            let resource = analysis.resource.to_string();
            let state = analysis.state.as_str();
            table.row(&[state, &age, &resource, &analysis.message, &id]);
        })?;
        let text = table.render(layout::terminal_width(env)) + &pagination.footer();
        return Ok(output::answer(&text));
    }
    let mut rows = Rows::new(question.format, "analyses");
    each(&mut |analysis| rows.push(&analysis))?;
    rows.finish(&Rest { pagination })
}
