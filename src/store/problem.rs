use super::{Store, StoreError};
use crate::time::Time;

/// What keeps the agent from being healthy, the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProblemKind {
    /// There is no agent; only a query can say so.
    Agent,
    /// No database can be kept on disk.
    NoDatabase,
    /// The cluster API does not answer, or not to us.
    Cluster,
    /// The database was rebuilt.
    Database,
    /// The last collection failed, though the cluster API answers.
    Collection,
    /// Some kinds may not be listed.
    Forbidden,
    /// kube9-server cannot be reached, or does not want this agent; told by the gate, never kept.
    Server,
    /// kube9-server would not have something of the last sync.
    Sync,
    /// The ConfigMap of the status cannot be written.
    ConfigMap,
    /// The ConfigMap of the dashboard cannot be written.
    Dashboard,
    /// Another of the agent's ConfigMaps cannot be written.
    Papers,
}

/// One problem, as the status tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemKind,
    pub(crate) message: String,
}

impl ProblemKind {
    const ALL: [Self; 11] = [
        Self::Agent,
        Self::NoDatabase,
        Self::Cluster,
        Self::Database,
        Self::Collection,
        Self::Forbidden,
        Self::Server,
        Self::Sync,
        Self::ConfigMap,
        Self::Dashboard,
        Self::Papers,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::NoDatabase => "no-database",
            Self::Cluster => "cluster",
            Self::Database => "database",
            Self::Collection => "collection",
            Self::Forbidden => "forbidden",
            Self::Server => "server",
            Self::Sync => "sync",
            Self::ConfigMap => "configmap",
            Self::Dashboard => "dashboard",
            Self::Papers => "papers",
        }
    }
}

impl Store {
    /// The present problems, the most serious first.
    pub(crate) fn problems(&self) -> Result<Vec<Problem>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT kind, message FROM problem")?;
        let mut rows = statement.query([])?;
        let mut problems = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let kind = ProblemKind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == name);
            if let Some(kind) = kind {
                let message = row.get(1)?;
                problems.push(Problem { kind, message });
            }
        }
        problems.sort_by_key(|problem| problem.kind);
        Ok(problems)
    }

    /// Forgets all problems: those of an agent that is gone.
    pub(crate) fn forget_problems(&self) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM problem", [])?;
        Ok(())
    }

    /// Notes a problem, or with `None` that it is gone. Nothing is written when nothing changed.
    pub(crate) fn set_problem(
        &self,
        kind: ProblemKind,
        message: Option<&str>,
        now: Time,
    ) -> Result<(), StoreError> {
        match message {
            Some(message) => self.connection.execute(
                "INSERT INTO problem (kind, message, since) VALUES (?1, ?2, ?3)
                 ON CONFLICT (kind) DO UPDATE SET message = excluded.message
                 WHERE message <> excluded.message",
                (kind.as_str(), message, now.as_millis()),
            )?,
            None => self
                .connection
                .execute("DELETE FROM problem WHERE kind = ?1", [kind.as_str()])?,
        };
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_most_serious_comes_first_and_goes_when_it_is_over() {
        let (store, _) = Store::open(Path::new("/nonexistent/x.db")).unwrap();
        let now = Time::from_millis(1);
        store
            .set_problem(ProblemKind::Forbidden, Some("f"), now)
            .unwrap();
        store
            .set_problem(ProblemKind::Cluster, Some("c"), now)
            .unwrap();
        store
            .set_problem(ProblemKind::Cluster, Some("c2"), now)
            .unwrap();
        let messages = |store: &Store| -> Vec<String> {
            let problems = store.problems().unwrap();
            problems
                .into_iter()
                .map(|problem| problem.message)
                .collect()
        };
        assert_eq!(messages(&store), ["c2", "f"]);
        store.set_problem(ProblemKind::Cluster, None, now).unwrap();
        assert_eq!(messages(&store), ["f"]);
    }

    #[test]
    fn every_kind_survives_the_database() {
        let (store, _) = Store::open(Path::new("/nonexistent/x.db")).unwrap();
        for kind in ProblemKind::ALL {
            store
                .set_problem(kind, Some(kind.as_str()), Time::from_millis(1))
                .unwrap();
        }
        assert_eq!(store.problems().unwrap().len(), ProblemKind::ALL.len());
    }
}
