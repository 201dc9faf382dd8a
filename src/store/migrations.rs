//! The schema, as the steps that lead to it. Steps are only ever added at the end.

use rusqlite::Connection;

/// Step N brings schema version N to N + 1.
const STEPS: &[&str] = &[
    "CREATE TABLE stats (
         id           INTEGER PRIMARY KEY CHECK (id = 1),
         successes    INTEGER NOT NULL DEFAULT 0,
         failures     INTEGER NOT NULL DEFAULT 0,
         stored       INTEGER NOT NULL DEFAULT 0,
         last_success INTEGER            -- ms since 1970
     ) STRICT;
     INSERT INTO stats (id) VALUES (1);
     CREATE TABLE problem (
         kind    TEXT PRIMARY KEY,
         message TEXT NOT NULL,
         since   INTEGER NOT NULL        -- ms since 1970
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE document (
         name       TEXT PRIMARY KEY,
         body       TEXT NOT NULL,       -- JSON
         updated_at INTEGER NOT NULL     -- ms since 1970
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE inventory_namespace (
         name    TEXT PRIMARY KEY,
         figures TEXT NOT NULL           -- JSON, numbers only
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE inventory_workload (
         namespace      TEXT NOT NULL,
         kind           TEXT NOT NULL,
         name           TEXT NOT NULL,
         replicas       INTEGER NOT NULL,
         ready_replicas INTEGER NOT NULL,
         containers     INTEGER NOT NULL,
         restarts       INTEGER NOT NULL,
         signals        TEXT NOT NULL,   -- words separated by commas
         PRIMARY KEY (namespace, kind, name)
     ) STRICT, WITHOUT ROWID;",
    // Which opaque id stands for which name; stays in the cluster.
    "CREATE TABLE map (
         id         INTEGER PRIMARY KEY CHECK (id = 1),
         cluster_id BLOB NOT NULL,       -- 16 random bytes
         epoch      BLOB NOT NULL,       -- 16 random bytes
         created_at INTEGER NOT NULL     -- ms since 1970
     ) STRICT;
     CREATE TABLE name (
         kind       TEXT NOT NULL,
         namespace  TEXT NOT NULL,       -- empty for a namespace
         name       TEXT NOT NULL,
         number     INTEGER NOT NULL,    -- never given twice in one kind
         first_seen INTEGER NOT NULL,    -- ms since 1970
         PRIMARY KEY (kind, namespace, name)
     ) STRICT, WITHOUT ROWID;
     CREATE UNIQUE INDEX name_number ON name (kind, number);
     CREATE TABLE counter (
         kind TEXT PRIMARY KEY,
         last INTEGER NOT NULL           -- the number given last
     ) STRICT, WITHOUT ROWID;",
    // Workloads go by their numbers: a body has them in that order, and is read piece by piece.
    // Those of version 1 have none, and are kept again with the next collection.
    "CREATE TABLE workload (
         namespace      TEXT NOT NULL,
         kind           TEXT NOT NULL,
         number         INTEGER NOT NULL,
         replicas       INTEGER NOT NULL,
         ready_replicas INTEGER NOT NULL,
         containers     INTEGER NOT NULL,
         restarts       INTEGER NOT NULL,
         signals        TEXT NOT NULL,   -- words separated by commas
         PRIMARY KEY (namespace, kind, number)
     ) STRICT, WITHOUT ROWID;
     INSERT INTO workload
         SELECT namespace, kind, number, replicas, ready_replicas, containers, restarts, signals
         FROM inventory_workload JOIN name USING (kind, namespace, name);
     DROP TABLE inventory_workload;
     ALTER TABLE workload RENAME TO inventory_workload;
     CREATE TABLE insight (              -- as the server told it, with opaque ids
         id             TEXT NOT NULL PRIMARY KEY,
         severity       TEXT NOT NULL,
         rank           INTEGER NOT NULL, -- 0 critical, 1 warning, 2 info
         category       TEXT NOT NULL,
         title          TEXT NOT NULL,
         description    TEXT NOT NULL,
         recommendation TEXT NOT NULL,
         affected       TEXT NOT NULL,   -- JSON, a list of texts
         created_at     INTEGER,         -- ms since 1970, by the server's clock
         received_at    INTEGER NOT NULL, -- ms since 1970
         at             INTEGER NOT NULL, -- the earlier of the two
         state          TEXT NOT NULL
     ) STRICT;
     CREATE INDEX insight_order ON insight (rank, at DESC, id);
     CREATE TABLE insight_resource (     -- of what an insight affects, that which is an opaque id
         insight TEXT NOT NULL,
         kind    TEXT NOT NULL,
         number  INTEGER NOT NULL,
         PRIMARY KEY (insight, kind, number)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX insight_resource_id ON insight_resource (kind, number);
     CREATE TABLE acknowledgement (      -- what users made of insights, also of those that are gone
         insight    TEXT PRIMARY KEY,
         state      TEXT NOT NULL,
         at         INTEGER NOT NULL,    -- ms since 1970
         sent       INTEGER NOT NULL,    -- 1 once the server knows
         not_before INTEGER              -- ms since 1970
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX acknowledgement_unsent ON acknowledgement (sent, at);
     CREATE TABLE analysis (
         request_id   TEXT PRIMARY KEY,  -- a UUID
         kind         TEXT NOT NULL,
         namespace    TEXT NOT NULL,     -- empty for a namespace
         name         TEXT NOT NULL,
         state        TEXT NOT NULL,
         reason       TEXT,
         charged      INTEGER NOT NULL,  -- 1: takes a share of the quota that the server's word does not tell
         requested_at INTEGER NOT NULL,  -- this and the rest: ms since 1970
         not_before   INTEGER,
         submitted_at INTEGER,
         completed_at INTEGER,
         message      TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX analysis_state ON analysis (state, requested_at);",
];

/// The version this build reads and writes.
#[allow(clippy::cast_possible_truncation)] // a handful of steps
pub(crate) const LATEST: u32 = STEPS.len() as u32;

/// Brings a database from version `found` to [`LATEST`], all at once: a query beside it sees the
/// one or the other.
pub(crate) fn run(connection: &mut Connection, found: u32) -> rusqlite::Result<()> {
    if found == LATEST {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in STEPS.iter().skip(found as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", LATEST)?;
    transaction.commit()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn running_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, 0).unwrap();
        run(&mut connection, LATEST).unwrap();
        let version: u32 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(version, LATEST);
    }

    /// A database as a version of the agent left it that knew only the first steps.
    fn of_version(version: usize) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for step in STEPS.iter().take(version) {
            connection.execute_batch(step).unwrap();
        }
        connection
            .execute_batch(
                "UPDATE stats SET successes = 7, last_success = 5;
                 INSERT INTO problem VALUES ('cluster', 'gone', 3);
                 INSERT INTO document VALUES ('dashboard', '{}', 4);
                 INSERT INTO inventory_namespace VALUES ('a', '{}');
                 INSERT INTO inventory_workload VALUES
                     ('a', 'deployment', 'api', 3, 2, 1, 9, 'host-path'),
                     ('a', 'deployment', 'web', 1, 1, 1, 0, '');",
            )
            .unwrap();
        if version > 1 {
            connection
                .execute_batch(
                    "INSERT INTO map VALUES (1, x'01', x'02', 6);
                     INSERT INTO name VALUES ('namespace', '', 'a', 1, 6),
                         ('deployment', 'a', 'web', 1, 6), ('deployment', 'a', 'api', 2, 6),
                         ('deployment', 'b', 'api', 3, 6);
                     INSERT INTO counter VALUES ('namespace', 1), ('deployment', 3);",
                )
                .unwrap();
        }
        connection
    }

    fn text(connection: &Connection, select: &str) -> String {
        let select = format!("SELECT group_concat(line, '; ') FROM ({select})");
        let text: Option<String> = connection.query_row(&select, [], |row| row.get(0)).unwrap();
        text.unwrap_or_default()
    }

    #[test]
    fn older_databases_keep_their_rows() {
        for version in 1..=2 {
            let mut connection = of_version(version);
            run(&mut connection, u32::try_from(version).unwrap()).unwrap();
            for (select, expected) in [
                (
                    "SELECT successes || ' ' || last_success AS line FROM stats",
                    "7 5",
                ),
                (
                    "SELECT kind || ' ' || message || ' ' || since AS line FROM problem",
                    "cluster gone 3",
                ),
                (
                    "SELECT name || ' ' || body AS line FROM document",
                    "dashboard {}",
                ),
                (
                    "SELECT name || ' ' || figures AS line FROM inventory_namespace",
                    "a {}",
                ),
            ] {
                assert_eq!(text(&connection, select), expected, "version {version}");
            }
            let workloads = text(
                &connection,
                "SELECT concat_ws(' ', namespace, kind, number, replicas, ready_replicas, containers,
                     restarts, signals) AS line FROM inventory_workload ORDER BY number",
            );
            let names = text(
                &connection,
                "SELECT concat_ws(' ', kind, number, namespace, name, first_seen) AS line FROM name",
            );
            if version == 1 {
                assert_eq!((workloads.as_str(), names.as_str()), ("", ""));
            } else {
                assert_eq!(
                    workloads,
                    "a deployment 1 1 1 1 0 ; a deployment 2 3 2 1 9 host-path"
                );
                assert_eq!(
                    names,
                    "deployment 2 a api 6; deployment 1 a web 6; deployment 3 b api 6; namespace 1  a 6"
                );
                assert_eq!(
                    text(&connection, "SELECT kind || last AS line FROM counter"),
                    "deployment3; namespace1"
                );
            }
        }
    }
}
