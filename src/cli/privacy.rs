//! What would leave the cluster, and under which names.

use std::io::{self, BufWriter};
use std::process::ExitCode;

use serde::Serialize;

use super::args::{Matter, Names, Preview};
use super::exit::Failure;
use super::layout::{Column, Table};
use super::output::{self, Format};
use crate::agent;
use crate::config::{Config, Env};
use crate::privacy::id::OpaqueId;
use crate::store::{Store, StoreError};
use crate::time::Time;

const COLUMNS: &[Column] = &[
    Column::new("ID"),
    Column::new("NAMESPACE"),
    Column::new("NAME"),
    Column::new("FIRST SEEN"),
];

pub(super) fn run(matter: &Matter, env: Env<'_>) -> Result<ExitCode, Failure> {
    match matter {
        Matter::Names(names) => list_names(names, env),
        Matter::Preview(preview) => show_preview(preview, env),
    }
}

fn show_preview(preview: &Preview, env: Env<'_>) -> Result<ExitCode, Failure> {
    let config = Config::new(&preview.flags(), env)?;
    let store = Store::open_read_only(&config.db)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let detail = agent::detail(&store, config.privacy_detail)?;
    let written = store.write_payload(detail, &mut out);
    let written = written.and_then(|written| Ok(io::Write::flush(&mut out).map(|()| written)?));
    match written {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Err(Failure::not_found(
            "nothing to send yet: the agent has not read the cluster",
        )),
        // A reader that has gone away has what it wanted.
        Err(StoreError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error.into()),
    }
}

fn list_names(names: &Names, env: Env<'_>) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Answer {
        names: Vec<Line>,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        id: OpaqueId,
        kind: &'static str,
        namespace: String,
        name: String,
        first_seen: Time,
    }

    let config = Config::new(&names.flags(), env)?;
    let store = Store::open_read_only(&config.db)?;
    let mut lines = Vec::new();
    store.each_name(names.kind, |name| {
        lines.push(Line {
            id: name.id,
            kind: name.id.kind.as_str(),
            namespace: name.namespace,
            name: name.name,
            first_seen: name.first_seen,
        });
    })?;
    if names.format == Format::Table {
        let mut table = Table::new(COLUMNS);
        for line in lines {
            let (id, first_seen) = (line.id.to_string(), line.first_seen.to_string());
            table.row(&[&id, &line.namespace, &line.name, &first_seen]);
        }
        return Ok(output::answer(&table.render(None)));
    }
    output::print(names.format, &Answer { names: lines })
}
