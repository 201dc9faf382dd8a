//! How the server is connected to, and how long a call may take.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube_client_lite::Shutdown;
use kube_client_lite::config::{Ca, ConfigError, FileStamp};
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, Transport, time,
};

use super::settings::ServerSettings;

/// One TLS record is at most 16 KiB.
const BUFFER: usize = 16 << 10;

/// Servers close idle connections after five seconds and more; one that is used in that very
/// moment is lost with its call.
const MAX_IDLE: Duration = Duration::from_secs(4);

/// Of an answer's header this much is read.
const MAX_HEADER: usize = 16 << 10;

const USER_AGENT: &str = concat!("kube9-operator/", env!("CARGO_PKG_VERSION"));

/// When the call under way must be over, whatever drips in meanwhile. ureq's own limit of that
/// kind would start a thread for every name lookup. Making a connection has a limit of its own.
#[derive(Clone, Debug)]
pub(super) struct Deadline(Arc<Mutex<Instant>>);

impl Deadline {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn set(&self, from_now: Duration) {
        *self.lock() = Instant::now() + from_now;
    }

    /// The same or sooner.
    pub(super) fn advance(&self, from_now: Duration) {
        let mut at = self.lock();
        *at = (*at).min(Instant::now() + from_now);
    }

    /// ureq's limit for the next step, or what is left of this one.
    fn cap(&self, timeout: NextTimeout) -> Result<NextTimeout, ureq::Error> {
        let left = self.lock().saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ureq::Error::Timeout(ureq::Timeout::Global));
        }
        if *timeout.after <= left {
            return Ok(timeout);
        }
        Ok(NextTimeout {
            after: time::Duration::Exact(left),
            reason: ureq::Timeout::Global,
            ..timeout
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<In: Transport> Connector<In> for Deadline {
    type Out = Timed<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(|transport| Timed {
            transport,
            deadline: self.clone(),
        }))
    }
}

/// A connection whose every step ends by the deadline.
#[derive(Debug)]
pub(super) struct Timed<T> {
    transport: T,
    deadline: Deadline,
}

impl<T: Transport> Transport for Timed<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let timeout = self.deadline.cap(timeout)?;
        self.transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = self.deadline.cap(timeout)?;
        self.transport.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }

    fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }
}

/// Looks names up on the thread that asks. The system's resolver has limits of its own, some
/// seconds; to hold it to others takes a thread a lookup.
#[derive(Debug, Default)]
struct Lookup(DefaultResolver);

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.0.resolve(uri, config, NextTimeout::default())
    }
}

/// What makes connections, with the certificates it was given.
pub(super) struct Connection {
    agent: ureq::Agent,
    /// By which the shutdown handle knows it.
    number: u64,
    stamp: Option<FileStamp>,
    /// The file has changed into something unusable, and that was said.
    stale: bool,
}

impl Connection {
    /// What is to be used now: the present one, or another where the file of authorities has
    /// changed. One that was replaced by something unusable is held on to.
    pub(super) fn current(
        present: &mut Option<Self>,
        settings: &ServerSettings,
        connect: Duration,
        deadline: &Deadline,
        shutdown: &Shutdown,
    ) -> Result<ureq::Agent, ConfigError> {
        let stamp = settings.ca_file.as_deref().and_then(FileStamp::of);
        if let Some(present) = present
            && present.stamp == stamp
        {
            return Ok(present.agent.clone());
        }
        let roots = match (roots(settings), &mut *present) {
            (Ok(roots), _) => roots,
            (Err(error), None) => return Err(error),
            (Err(error), Some(present)) => {
                if !std::mem::replace(&mut present.stale, true) {
                    log::warn!("going on with the certificates as they were: {error}");
                }
                return Ok(present.agent.clone());
            }
        };
        if let Some(past) = present.take() {
            past.end(shutdown);
        }
        let agent = agent(settings, roots, connect, deadline.clone());
        *present = Some(Self {
            agent: agent.clone(),
            number: shutdown.register(&agent),
            stamp,
            stale: false,
        });
        Ok(agent)
    }

    pub(super) fn end(self, shutdown: &Shutdown) {
        shutdown.forget(self.number);
    }
}

/// Whom to trust: the public authorities, compiled in, unless there is a file. A server on this
/// very machine may do without.
fn roots(settings: &ServerSettings) -> Result<RootCerts, ConfigError> {
    let Some(path) = settings.ca_file.as_ref().filter(|_| settings.url.is_tls()) else {
        return Ok(RootCerts::WebPki);
    };
    let authorities = Ca::File(path.clone()).load()?;
    let certificates: Vec<_> = authorities
        .iter()
        .map(|authority| Certificate::from_der(authority).to_owned())
        .collect();
    Ok(RootCerts::new_with_certs(&certificates))
}

fn agent(
    settings: &ServerSettings,
    roots: RootCerts,
    connect: Duration,
    deadline: Deadline,
) -> ureq::Agent {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(roots)
        .build();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(settings.proxy.as_ref().map(|proxy| proxy.ureq().clone()))
        .tls_config(tls)
        .accept_encoding("")
        .user_agent(USER_AGENT)
        .timeout_connect(Some(connect))
        .max_response_header_size(MAX_HEADER)
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .max_idle_age(MAX_IDLE)
        .max_idle_connections(1)
        .build();
    let connector = kube_client_lite::connector().chain(deadline);
    ureq::Agent::with_parts(config, connector, Lookup::default())
}
