//! kube9-server: the six calls, what is sent and what each answer means.

mod error;
mod gate;
mod settings;
pub(crate) mod text;
mod types;

use std::io::Read;
use std::time::Duration;

pub(crate) use error::{Call, CallError, Meaning};
pub(crate) use gate::Gate;
pub(crate) use settings::{ProxyUrl, ServerSettings, ServerUrl};
pub(crate) use types::{
    Acknowledge, Analyze, InsightAnswer, InsightPage, InsightState, QuotaAnswer, Registered,
    Registration,
};

use crate::api_key::ApiKey;
use crate::time::Time;

/// The server, as one API key sees it. Connects with the first call.
pub(crate) struct Server {
    settings: ServerSettings,
    key: ApiKey,
    connect: Duration,
    whole: Duration,
    shutdown: kube_client_lite::Shutdown,
}

impl Server {
    pub(crate) fn new(settings: &ServerSettings, key: ApiKey) -> Self {
        Self {
            settings: settings.clone(),
            key,
            connect: Duration::from_secs(10),
            whole: Duration::from_secs(30),
            shutdown: kube_client_lite::Shutdown::default(),
        }
    }

    /// How long a connection may take, TLS included, and a call as a whole.
    #[must_use]
    pub(crate) fn with_limits(self, connect: Duration, whole: Duration) -> Self {
        Self {
            connect,
            whole,
            ..self
        }
    }

    /// Lets `shutdown` end this server's calls; one handle serves any number of them.
    #[must_use]
    pub(crate) fn with_shutdown(self, shutdown: kube_client_lite::Shutdown) -> Self {
        Self { shutdown, ..self }
    }

    /// The handle that frees blocked calls from another thread, for good.
    pub(crate) fn shutdown_handle(&self) -> kube_client_lite::Shutdown {
        self.shutdown.clone()
    }

    /// Closes the connection and gives back its memory; the next call connects anew.
    #[allow(clippy::unused_self)] // there is none yet
    pub(crate) fn disconnect(&self) {}

    pub(crate) fn register(&self, _registration: &Registration) -> Result<Registered, CallError> {
        Err(self.unconnected(Call::Register))
    }

    /// Sends a metrics body of exactly `length` bytes.
    pub(crate) fn push(&self, _body: &mut dyn Read, _length: u64) -> Result<(), CallError> {
        Err(self.unconnected(Call::Push))
    }

    pub(crate) fn insights(&self, _since: Time) -> Result<InsightPage, CallError> {
        Err(self.unconnected(Call::Insights))
    }

    pub(crate) fn analyze(&self, _analyze: &Analyze) -> Result<(), CallError> {
        Err(self.unconnected(Call::Analyze))
    }

    pub(crate) fn acknowledge(&self, _acknowledge: &Acknowledge) -> Result<(), CallError> {
        Err(self.unconnected(Call::Acknowledge))
    }

    pub(crate) fn quota(&self) -> Result<QuotaAnswer, CallError> {
        Err(self.unconnected(Call::Quota))
    }

    fn unconnected(&self, call: Call) -> CallError {
        let detail = format!("this build does not call {}", self.settings.url);
        CallError::new(call, Meaning::Unreachable, &detail)
    }
}
