//! Questions to the database, answered beside the running agent and without it.

use std::process::ExitCode;

use serde::Serialize;

use super::args::{Dashboard, Query, Question, Quota, Status};
use super::exit::Failure;
use super::{analyses, insights, output, privacy, pro};
use crate::agent::Pulse;
use crate::api_key;
use crate::config::{Config, Env};
use crate::publish::{dashboard, status};
use crate::store::{self, Problem, ProblemKind, Store, StoreError};
use crate::time::Time;

/// Which rows of a list an answer has.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Pagination {
    pub(super) total: u64,
    pub(super) limit: u32,
    pub(super) offset: u32,
    pub(super) returned: u32,
}

impl Pagination {
    pub(super) const fn new(limit: u32, offset: u32) -> Self {
        Self {
            total: 0,
            limit,
            offset,
            returned: 0,
        }
    }

    /// Tells people that a table is not all there is.
    pub(super) fn footer(self) -> String {
        let shown = u64::from(self.offset) + u64::from(self.returned);
        match self.total.checked_sub(shown) {
            None | Some(0) => String::new(),
            Some(rest) => format!("\n{rest} more: see --limit and --offset\n"),
        }
    }
}

pub(crate) fn run(query: Query, env: Env<'_>) -> Result<ExitCode, Failure> {
    match query.what {
        Question::Analyses(question) => analyses::run(&question.what, env),
        Question::Analyze(question) => analyses::analyze(&question, env),
        Question::Dashboard(question) => dashboard(&question, env),
        Question::Insights(question) => insights::run(question.what, env),
        Question::Privacy(question) => privacy::run(&question.what, env),
        Question::Quota(question) => quota(&question, env),
        Question::Status(question) => status(&question, env),
    }
}

fn dashboard(question: &Dashboard, env: Env<'_>) -> Result<ExitCode, Failure> {
    let config = Config::new(&question.flags(), env)?;
    let store = Store::open_read_only(&config.db)?;
    let Some(document) = store.document(dashboard::DOCUMENT)? else {
        return Err(Failure::not_found(
            "no dashboard yet: the agent has not read the cluster",
        ));
    };
    let document: serde_json::Value = serde_json::from_str(&document).map_err(Failure::failed)?;
    output::print(question.format, &document)
}

fn quota(question: &Quota, env: Env<'_>) -> Result<ExitCode, Failure> {
    let config = Config::new(&question.flags(), env)?;
    let store = Store::open_read_only(&config.db)?;
    pro::require(&config, &store)?;
    output::print(question.format, &store.quota(Time::now())?)
}

fn status(question: &Status, env: Env<'_>) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Answer {
        #[serde(flatten)]
        status: status::Status,
        database: Database,
        agent: Agent,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Database {
        path: String,
        size_bytes: u64,
        schema_version: u32,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Agent {
        running: bool,
        last_heartbeat: Option<Time>,
    }

    let config = Config::new(&question.flags(), env)?;
    let store = Store::open_read_only(&config.db)?;
    let now = Time::now();
    let pulse = Pulse::read(&config.db);
    let running = pulse.is_some_and(|pulse| pulse.is_fresh(now));
    let facts = status::Facts {
        key: api_key::read(&config.api_key_file),
        pro: status::ProFacts::read(&store, now)?,
        namespace: config.namespace,
        problems: problems(&store, running)?,
        shutting_down: false,
        stats: store.stats()?,
    };
    output::print(
        question.format,
        &Answer {
            status: status::Status::new(facts, now),
            database: Database {
                path: config.db.display().to_string(),
                size_bytes: store::size_on_disk(&config.db),
                schema_version: store.schema_version()?,
            },
            agent: Agent {
                running,
                last_heartbeat: pulse.map(|pulse| pulse.at),
            },
        },
    )
}

/// What is wrong, first of all that the agent is not there: nobody else can tell.
fn problems(store: &Store, running: bool) -> Result<Vec<Problem>, StoreError> {
    let mut problems = store.problems()?;
    if !running {
        let gone = Problem {
            kind: ProblemKind::Agent,
            message: "agent not running: see agent.lastHeartbeat".to_owned(),
        };
        problems.insert(0, gone);
    }
    Ok(problems)
}
