//! The two ConfigMaps that follow from the database: what users are recommended, and what must
//! survive the database itself. Each is written only when it changed.

use kube_client_lite::{Client, Error};
use ring::digest;

use crate::publish::{recommendations, state};
use crate::store::{Store, StoreError};
use crate::time::Time;

/// Of what was written last.
type Hash = [u8; 32];

/// Why a paper is not up to date.
#[derive(Debug)]
pub(super) enum PaperError {
    Cluster(&'static str, Error),
    Store(StoreError),
}

/// What is known of a ConfigMap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Nothing,
    Absent,
    Written(Hash),
}

pub(super) struct Papers {
    namespace: String,
    recommendations: Known,
    state: Known,
    /// The database as it was when both were written last.
    seen: Option<(i64, bool)>,
}

impl Papers {
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            recommendations: Known::Nothing,
            state: Known::Nothing,
            seen: None,
        }
    }

    /// The agent itself has changed the database.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }

    /// Whether somebody else has changed it, or the tier is another.
    pub(super) fn are_old(&self, store: &Store, is_pro: bool) -> Result<bool, StoreError> {
        Ok(self.seen != Some((store.data_version()?, is_pro)))
    }

    /// Writes what has changed.
    pub(super) fn write(
        &mut self,
        client: &Client,
        store: &Store,
        is_pro: bool,
        cluster: Option<&str>,
    ) -> Result<(), PaperError> {
        let version = store.data_version()?;
        if self.seen == Some((version, is_pro)) {
            return Ok(());
        }
        // First what cannot be made again.
        self.write_state(client, store, cluster)?;
        if is_pro {
            self.write_recommendations(client, store)?;
        } else if self.recommendations != Known::Absent {
            recommendations::remove(client, &self.namespace)
                .map_err(|error| PaperError::Cluster(recommendations::CONFIG_MAP, error))?;
            self.recommendations = Known::Absent;
        }
        self.seen = Some((version, is_pro));
        Ok(())
    }

    fn write_recommendations(&mut self, client: &Client, store: &Store) -> Result<(), PaperError> {
        let built = recommendations::build(store, Time::now())?;
        let hash = hash(&[built.panel.as_bytes(), built.insights.as_bytes()]);
        if self.recommendations == Known::Written(hash) {
            return Ok(());
        }
        recommendations::publish(client, &self.namespace, &built)
            .map_err(|error| PaperError::Cluster(recommendations::CONFIG_MAP, error))?;
        self.recommendations = Known::Written(hash);
        Ok(())
    }

    fn write_state(
        &mut self,
        client: &Client,
        store: &Store,
        cluster: Option<&str>,
    ) -> Result<(), PaperError> {
        let Some(bytes) = state::of(store, cluster)? else {
            return Ok(());
        };
        let hash = hash(&[&bytes]);
        if self.state == Known::Written(hash) {
            return Ok(());
        }
        let failed = |error| PaperError::Cluster(state::CONFIG_MAP, error);
        let there = match self.state {
            // After a start it is most likely there as it should be.
            Known::Nothing => state::read(client, &self.namespace).map_err(failed)?,
            _ => None,
        };
        if there.as_deref() != Some(bytes.as_slice()) {
            state::write(client, &self.namespace, &bytes).map_err(failed)?;
        }
        self.state = Known::Written(hash);
        Ok(())
    }

    /// Fills an empty database with what an earlier one left. A state that cannot be used is a
    /// warning: its names get new ids.
    pub(super) fn restore(
        &mut self,
        client: &Client,
        store: &mut Store,
        cluster: Option<&str>,
    ) -> Result<(), PaperError> {
        if store.identity()?.is_some() {
            return Ok(());
        }
        let bytes = match state::read(client, &self.namespace) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(()),
            Err(error) if error.is_forbidden() => {
                log::warn!("what an earlier agent left may not be read: {error}");
                return Ok(());
            }
            Err(error) => return Err(PaperError::Cluster(state::CONFIG_MAP, error)),
        };
        match state::decode(&bytes) {
            Ok(left) if left.is_of(cluster) => {
                store.import_state(&left.state)?;
                log::info!(
                    "took over what an earlier agent left in {}",
                    state::CONFIG_MAP
                );
            }
            Ok(_) => log::warn!(
                "{} is of another cluster: names get new ids",
                state::CONFIG_MAP
            ),
            Err(error) => log::warn!(
                "{} cannot be used, names get new ids: {error}",
                state::CONFIG_MAP
            ),
        }
        Ok(())
    }
}

impl From<StoreError> for PaperError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part);
    }
    let mut hash = Hash::default();
    for (byte, hashed) in hash.iter_mut().zip(context.finish().as_ref()) {
        *byte = *hashed;
    }
    hash
}
