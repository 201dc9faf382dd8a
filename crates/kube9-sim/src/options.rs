//! How a server is set up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The settings of a server. `Options::default()` is HTTPS on a free port, one key, nothing wrong.
///
/// [`Server::change`](crate::Server::change) changes them while it runs; only `addr`, `directory` and `log` are settled
/// with the start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// HTTPS with its own CA, plain HTTP, or what no client may accept.
    pub tls: Tls,
    /// The accepted API keys. Others are answered 401.
    pub keys: Vec<String>,
    /// Whether there is registration; without it the call is answered 404, and clusters name themselves by a UUID.
    pub registration: bool,
    /// `configuration.reregistrationIntervalHours` of a registration.
    pub reregistration_hours: u64,
    /// Analyses in a day.
    pub quota_limit: u64,
    /// How many of them are used up. It counts.
    pub quota_used: u64,
    /// `resetsAt` as it is told. `None` is the next midnight in UTC. The count starts again when it has passed.
    pub quota_resets_at: Option<String>,
    /// The header `Retry-After` of the 429 that an analysis over the quota gets.
    pub retry_after: Option<String>,
    /// An analysis makes an insight about its resource.
    pub insight_when_analysed: bool,
    /// How many insights at most are made of the signals that a push shows, the worst first. Pushed again, a signal of a
    /// workload makes no other.
    pub insights_of_a_push: usize,
    /// A longer body is answered 413.
    pub body_limit: usize,
    /// How long an idle connection is kept after an answer.
    pub idle_timeout: Duration,
    /// Keeps the CA here, so that the next start has the same.
    pub directory: Option<PathBuf>,
    /// Appends a JSON line for each request to this file, with its body and without its key.
    pub log: Option<PathBuf>,
}

/// How connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tls {
    /// Plain HTTP, and the URL says so.
    Off,
    /// A good certificate.
    On,
    /// A good certificate, and TLS 1.2 only.
    Only12,
    /// A certificate for another host.
    WrongName,
    /// A certificate that ended years ago.
    Expired,
    /// A certificate by another CA than [`Server::ca_pem`](crate::Server::ca_pem).
    UnknownCa,
    /// Plain HTTP where the URL says `https`.
    PlainHttp,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: Tls::On,
            keys: vec!["kube9-sim-key".to_owned()],
            registration: true,
            reregistration_hours: 24,
            quota_limit: 24,
            quota_used: 0,
            quota_resets_at: None,
            retry_after: None,
            insight_when_analysed: false,
            insights_of_a_push: 0,
            body_limit: 16 << 20,
            idle_timeout: Duration::from_secs(90),
            directory: None,
            log: None,
        }
    }
}
