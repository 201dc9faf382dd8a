//! The client: one connection pool, fresh credentials on every request, and what answers mean.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;

use crate::access::{AccessReview, ResourceAttributes, Review, ReviewAnswer};
use crate::api::Api;
use crate::config::{
    Auth, ClientIdentity, Config, ConfigError, Credentials, Current, LoadedTls, Secret, Stamp,
};
use crate::error::{ApiError, Error, Request};
use crate::meta::{ApiResourceList, ListMeta, Status, Version};
use crate::resource::{Resource, push_segment};
use crate::retry::{RetryPolicy, parse_retry_after};
use crate::shutdown::Shutdown;
use crate::tls::{NamedTls, with_tls};

/// One TLS record is at most 16 KiB; ureq's default of 128 KiB would be a tenth of a small
/// tool's memory.
const INPUT_BUFFER: usize = 16 << 10;
const OUTPUT_BUFFER: usize = 8 << 10;

/// Of an error's body this much is read; the rest is of no use to anyone.
const MAX_ERROR_BODY: u64 = 64 << 10;

/// Of a plain-text error body this much is kept, in characters.
const MAX_ERROR_TEXT: usize = 1024;

/// The API server closes an idle connection after 90 s; a connection that is asked again before
/// saves a TLS handshake.
const MAX_IDLE: Duration = Duration::from_secs(80);

/// A blocking client of one Kubernetes API server. Cloning is cheap and shares everything.
///
/// Every request takes up-to-date credentials: token files are read again when they change,
/// credential plugins run again when their answer expires, and changed CA or client certificate
/// files make new connections. Proxies in the environment are never used.
///
/// ```no_run
/// use kube_client_lite::{Client, Config, KubeconfigOptions};
///
/// let client = Client::new(Config::infer(&KubeconfigOptions::default())?)?;
/// println!("{}", client.version()?.git_version);
/// # Ok::<(), kube_client_lite::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    retry: RetryPolicy,
}

struct Inner {
    config: Config,
    shutdown: Shutdown,
    connection: Mutex<Connection>,
}

/// The agent in use and what it was made of.
struct Connection {
    credentials: Credentials,
    agent: Option<AgentOf>,
}

struct AgentOf {
    agent: ureq::Agent,
    stamp: Stamp,
    generation: u64,
    /// By which the shutdown handle knows it.
    number: u64,
    /// The files have changed into something unusable, and that was said.
    stale: bool,
}

/// What the body of an answer should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accept {
    Json,
    Metadata,
    MetadataList,
}

/// What the body of a request is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    ApplyPatch,
    Json,
    JsonPatch,
    MergePatch,
    StrategicMergePatch,
}

impl Inner {
    /// Reads certificates and keys. A plain-HTTP server (`kubectl proxy`) needs none, and an empty
    /// image has no system roots to load for it.
    fn load_tls(&self) -> Result<LoadedTls, ConfigError> {
        if self.config.server.starts_with("http://") {
            return Ok(LoadedTls {
                roots: Vec::new(),
                client: None,
            });
        }
        self.config.tls.load()
    }
}

/// One request.
pub(crate) struct Call {
    verb: &'static str,
    pub(crate) method: &'static str,
    path: String,
    pub(crate) accept: Accept,
    content: Option<Content>,
    body: Vec<u8>,
    /// Whether sending it twice does what sending it once does.
    pub(crate) repeatable: bool,
    /// A watch: silence up to this is normal, and the whole may last as long as it likes.
    pub(crate) patience: Option<Duration>,
}

impl Client {
    /// Makes a client. Certificates and keys are read and checked now; nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Config`] for certificates, keys, a proxy or a user agent that cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        let inner = Inner {
            shutdown: Shutdown::default(),
            connection: Mutex::new(Connection {
                credentials: Credentials::new(&config.auth),
                agent: None,
            }),
            config,
        };
        // A bad CA, key, proxy or header should be told at the start, not at the first request.
        build_agent(&inner.config, &inner.load_tls()?, None)?;
        Ok(Self {
            inner: Arc::new(inner),
            retry: RetryPolicy::default(),
        })
    }

    /// The same client with another retry policy; connections and shutdown stay shared.
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            retry,
        }
    }

    /// The handle that ends this client and all its clones from another thread.
    #[must_use]
    pub fn shutdown_handle(&self) -> Shutdown {
        self.inner.shutdown.clone()
    }

    /// What the client was made of.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Closes idle connections and forgets the TLS state behind them, some 150 KiB; the next call
    /// connects anew. For tools that call seldom.
    ///
    /// A call that is under way on another thread goes on, but [`Shutdown`] can no longer free it.
    pub fn disconnect(&self) {
        let agent = self.connection().agent.take();
        if let Some(agent) = agent {
            self.inner.shutdown.forget(agent.number);
        }
    }

    /// The verbs on a resource, in all namespaces.
    #[must_use]
    pub fn api(&self, resource: Resource) -> Api {
        Api::new(self.clone(), resource)
    }

    /// Asks the server's version.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn version(&self) -> Result<Version, Error> {
        self.fetch(&Call::read("get", "/version".to_owned()), 64 << 10)
    }

    /// Asks what a group-version serves; `None` when the server does not have it.
    ///
    /// # Errors
    /// See [`Error`]; 503 when the group is an aggregated API whose backend is away.
    pub fn discover(&self, group: &str, version: &str) -> Result<Option<ApiResourceList>, Error> {
        let mut path = "/api".to_owned();
        if !group.is_empty() {
            path.push_str("s/");
            push_segment(&mut path, "group", group)?;
        }
        path.push('/');
        push_segment(&mut path, "version", version)?;
        let call = Call::read("get", path);
        match self.fetch(&call, 1 << 20) {
            Ok(list) => Ok(Some(list)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks whether the caller may do something (`SelfSubjectAccessReview`).
    ///
    /// # Errors
    /// See [`Error`]; anonymous callers get 403.
    pub fn access_review(
        &self,
        attributes: &ResourceAttributes<'_>,
    ) -> Result<AccessReview, Error> {
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
        let mut call = Call::write("create", "POST", path, Content::Json);
        call.repeatable = true;
        let answer: ReviewAnswer = self.send_object(call, &Review::new(attributes), 64 << 10)?;
        Ok(answer.status)
    }

    /// Sends `object` and parses the answer.
    pub(crate) fn send_object<T: DeserializeOwned>(
        &self,
        mut call: Call,
        object: &impl Serialize,
        limit: u64,
    ) -> Result<T, Error> {
        call.body = serde_json::to_vec(object).map_err(|source| Error::Encode {
            request: call.request(),
            source,
        })?;
        self.fetch(&call, limit)
    }

    /// Sends a call and parses its whole answer.
    pub(crate) fn fetch<T: DeserializeOwned>(&self, call: &Call, limit: u64) -> Result<T, Error> {
        let mut body = Vec::new();
        self.fetch_into(call, limit, &mut body)?;
        serde_json::from_slice(&body).map_err(|source| self.decode_error(call, source))
    }

    /// An answer that is not what was expected. Without a length an answer that the shutdown
    /// cut off looks complete.
    pub(crate) fn decode_error(&self, call: &Call, source: serde_json::Error) -> Error {
        self.unless_shut_down(Error::Decode {
            request: call.request(),
            source,
        })
    }

    /// Sends a call and reads its whole answer into `body`, whose memory is used again.
    ///
    /// An answer that breaks off is asked for once more where that does no harm: a kept-alive
    /// connection may have been closed by the server in the very moment it was used.
    pub(crate) fn fetch_into(
        &self,
        call: &Call,
        limit: u64,
        body: &mut Vec<u8>,
    ) -> Result<(), Error> {
        match self.fetch_once(call, limit, body) {
            Err(Error::Transport { kind, .. })
                if kind == crate::TransportKind::Protocol
                    && call.repeatable
                    && self.retry.attempts > 1 =>
            {
                self.fetch_once(call, limit, body)
            }
            other => other,
        }
    }

    fn fetch_once(&self, call: &Call, limit: u64, body: &mut Vec<u8>) -> Result<(), Error> {
        let response = self.send(call)?;
        read_body(call, response, limit, body).map_err(|error| self.unless_shut_down(error))
    }

    /// Sends a call until it is answered with 2xx, or with an error that is not worth a retry.
    pub(crate) fn send(&self, call: &Call) -> Result<http::Response<ureq::Body>, Error> {
        let mut attempt = 1;
        let mut unauthorized = false;
        loop {
            let response = self
                .send_once(call)
                .map_err(|error| self.unless_shut_down(error))?;
            let code = response.status().as_u16();
            if response.status().is_success() {
                return Ok(response);
            }
            let error = read_error(call, response);
            let rotates = matches!(self.inner.config.auth, Auth::Exec(_) | Auth::TokenFile(_));
            if code == 401 && rotates && !unauthorized {
                // The token may have been rotated since it was read.
                unauthorized = true;
                self.connection().credentials.rejected();
                continue;
            }
            match self
                .retry
                .wait(attempt, code, call.repeatable, error.retry_after)
            {
                Some(wait) => {
                    log::debug!("{error}; asking again in {wait:?}");
                    if !self.inner.shutdown.sleep(wait) {
                        return Err(Error::Shutdown);
                    }
                    attempt += 1;
                }
                None => return Err(Error::Api(Box::new(error))),
            }
        }
    }

    fn send_once(&self, call: &Call) -> Result<http::Response<ureq::Body>, Error> {
        if self.inner.shutdown.is_shut_down() {
            return Err(Error::Shutdown);
        }
        let config = &self.inner.config;
        let (agent, authorization) = self.agent()?;
        let mut builder = http::Request::builder()
            .method(call.method)
            .uri(format!(
                "{}{}",
                config.server.trim_end_matches('/'),
                call.path
            ))
            .header(http::header::ACCEPT, call.accept.media_type());
        if let Some(authorization) = authorization {
            builder = builder.header(http::header::AUTHORIZATION, authorization.expose());
        }
        if let Some(content) = call.content {
            builder = builder.header(http::header::CONTENT_TYPE, content.media_type());
        }
        let transport = |error| Error::transport(&call.request(), error);
        let run = |agent: &ureq::Agent| {
            if call.content.is_some() {
                let request = builder.body(call.body.as_slice())?;
                agent.run(call.timed(agent, request))
            } else {
                agent.run(call.timed(agent, builder.body(())?))
            }
        };
        run(&agent).map_err(transport)
    }

    /// The agent to use, made anew when a certificate changed, and the `Authorization` header.
    fn agent(&self) -> Result<(ureq::Agent, Option<Secret>), Error> {
        let mut connection = self.connection();
        let Current {
            authorization,
            client,
            generation,
        } = connection.credentials.current(Instant::now())?;
        let config = &self.inner.config;
        let stamp = config.tls.stamp();
        if let Some(current) = &connection.agent
            && current.generation == generation
            && current.stamp == stamp
        {
            return Ok((current.agent.clone(), authorization));
        }
        let loaded = match (self.inner.load_tls(), &mut connection.agent) {
            (Ok(loaded), _) => loaded,
            // Files are replaced one after another; for a moment they may not fit together.
            (Err(error), Some(current)) if current.generation == generation => {
                if !std::mem::replace(&mut current.stale, true) {
                    log::warn!("keeping the connection's certificates: {error}");
                }
                return Ok((current.agent.clone(), authorization));
            }
            (Err(error), _) => return Err(error.into()),
        };
        let agent = build_agent(config, &loaded, client.as_deref())?;
        let number = self.inner.shutdown.register(&agent);
        connection.agent = Some(AgentOf {
            agent: agent.clone(),
            stamp,
            generation,
            number,
            stale: false,
        });
        Ok((agent, authorization))
    }

    fn connection(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.inner
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that broke because of the shutdown says so.
    pub(crate) fn unless_shut_down(&self, error: Error) -> Error {
        if self.inner.shutdown.is_shut_down() {
            Error::Shutdown
        } else {
            error
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.inner.config.server)
            .finish_non_exhaustive()
    }
}

impl Call {
    pub(crate) fn read(verb: &'static str, path: String) -> Self {
        Self {
            verb,
            method: "GET",
            path,
            accept: Accept::Json,
            content: None,
            body: Vec::new(),
            repeatable: true,
            patience: None,
        }
    }

    pub(crate) fn write(
        verb: &'static str,
        method: &'static str,
        path: String,
        content: Content,
    ) -> Self {
        Self {
            verb,
            method,
            path,
            accept: Accept::Json,
            content: Some(content),
            body: Vec::new(),
            repeatable: false,
            patience: None,
        }
    }

    /// What errors say about this call.
    pub(crate) fn request(&self) -> Request {
        let path = self.path.split('?').next().unwrap_or_default();
        Request {
            verb: self.verb,
            path: path.to_owned(),
        }
    }

    /// A watch has timeouts of its own: its header comes at once, its body when it likes.
    fn timed<B: ureq::AsSendBody>(
        &self,
        agent: &ureq::Agent,
        request: http::Request<B>,
    ) -> http::Request<B> {
        match self.patience {
            None => request,
            Some(patience) => agent
                .configure_request(request)
                .timeout_per_read(Some(patience))
                .timeout_recv_response(agent.config().timeout_per_read())
                .timeout_recv_body(None)
                .build(),
        }
    }
}

impl Accept {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            // The plain form comes second for aggregated APIs that know no other.
            Self::Metadata => {
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"
            }
            Self::MetadataList => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json"
            }
        }
    }
}

impl Content {
    fn media_type(self) -> &'static str {
        match self {
            // JSON is YAML; a media type for JSON alone exists only since Kubernetes 1.34 or so
            // and older servers answer it with 415.
            Self::ApplyPatch => "application/apply-patch+yaml",
            Self::Json => "application/json",
            Self::JsonPatch => "application/json-patch+json",
            Self::MergePatch => "application/merge-patch+json",
            Self::StrategicMergePatch => "application/strategic-merge-patch+json",
        }
    }
}

fn build_agent(
    config: &Config,
    tls: &LoadedTls,
    plugin_identity: Option<&ClientIdentity>,
) -> Result<ureq::Agent, ConfigError> {
    let roots: Vec<_> = tls
        .roots
        .iter()
        .map(|root| Certificate::from_der(root).to_owned())
        .collect();
    let invalid = |field, reason: &str| ConfigError::FieldInvalid {
        origin: config.source.clone(),
        field,
        reason: reason.to_owned(),
    };
    if http::HeaderValue::from_str(&config.user_agent).is_err() {
        return Err(invalid(
            "user agent",
            "has a character that no header may have",
        ));
    }
    let identity = plugin_identity
        .or(tls.client.as_ref())
        .map(client_cert)
        .transpose()
        .map_err(|error| invalid("client-key", &format!("cannot be used: {error}")))?;
    let tls_config = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .disable_verification(config.tls.insecure_skip_verify)
        .client_cert(identity)
        .build();
    let proxy = config.proxy.as_deref().map(ureq::Proxy::new);
    let proxy = proxy
        .transpose()
        .map_err(|_| invalid("proxy-url", "is not the URL of an HTTP proxy"))?;
    let timeouts = config.timeouts;
    let agent_config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy)
        .tls_config(tls_config)
        .accept_encoding("")
        .user_agent(&config.user_agent)
        .timeout_connect(Some(timeouts.connect))
        .timeout_per_read(Some(timeouts.read))
        .timeout_per_write(Some(timeouts.read))
        .timeout_recv_body(Some(timeouts.answer))
        .timeout_recv_response(Some(timeouts.answer))
        .input_buffer_size(INPUT_BUFFER)
        .output_buffer_size(OUTPUT_BUFFER)
        .max_idle_age(MAX_IDLE)
        .max_idle_connections(1)
        .build();
    let connector = with_tls(NamedTls::new(config)?);
    let resolver = DefaultResolver::default();
    Ok(ureq::Agent::with_parts(agent_config, connector, resolver))
}

fn client_cert(identity: &ClientIdentity) -> Result<ClientCert, ureq::Error> {
    use rustls::pki_types::PrivateKeyDer;

    let chain: Vec<_> = identity
        .chain
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    let label = match identity.key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    // ureq takes the kind of a key only from PEM: the type that names it is not public.
    let der = base64::engine::general_purpose::STANDARD.encode(identity.key.secret_der());
    let pem = format!("-----BEGIN {label}-----\n{der}\n-----END {label}-----\n");
    let key = PrivateKey::from_pem(pem.as_bytes())?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// Reads a whole body into `into`, refusing one that is larger than `limit` bytes.
fn read_body(
    call: &Call,
    response: http::Response<ureq::Body>,
    limit: u64,
    into: &mut Vec<u8>,
) -> Result<(), Error> {
    into.clear();
    let expected = response.body().content_length().unwrap_or(0);
    let too_large = || Error::BodyTooLarge {
        request: call.request(),
        limit,
    };
    if expected > limit {
        return Err(too_large());
    }
    response
        .into_body()
        .into_reader()
        .take(limit.saturating_add(1))
        .read_to_end(into)
        .map_err(|error| Error::body(&call.request(), error))?;
    if into.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(())
}

/// Makes an error of an answer; a body that cannot be read or parsed only makes it terser.
fn read_error(call: &Call, response: http::Response<ureq::Body>) -> ApiError {
    /// The `metadata` of a 410's Status carries a fresh continue token.
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Body {
        #[serde(flatten)]
        status: Status,
        metadata: ListMeta,
    }

    let code = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(http::header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| parse_retry_after(value, SystemTime::now()));
    let mut text = Vec::new();
    // Read to the end where possible: then the connection can be used again.
    let read = response
        .into_body()
        .into_reader()
        .take(MAX_ERROR_BODY)
        .read_to_end(&mut text);
    if let Err(error) = read {
        log::debug!(
            "{}: {code}, and its body broke off: {error}",
            call.request()
        );
    }
    let mut body: Body = serde_json::from_slice(&text).unwrap_or_default();
    // Whatever stands between client and server answers in forms of its own.
    if body.status.message.is_empty() && body.status.reason.is_empty() {
        body.status.code = code;
        body.status.message = String::from_utf8_lossy(&text)
            .trim()
            .chars()
            .take(MAX_ERROR_TEXT)
            .collect();
    }
    ApiError {
        request: call.request(),
        code,
        status: body.status,
        retry_after,
        continue_token: body.metadata.continue_token,
    }
}
