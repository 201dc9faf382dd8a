//! TLS to a server whose certificate has another name than its URL (`tls-server-name`).
//!
//! ureq checks the certificate against the host of the URL and has no setting for another name.
//! Only this step of making a connection is given the other name: the request, the name lookup
//! and a proxy's CONNECT keep the host of the URL.

use rustls::pki_types::ServerName;
use ureq::http::Uri;
use ureq::http::uri::Authority;
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, RustlsConnector, TcpConnector, Transport,
};

use crate::config::{Config, ConfigError};

/// Makes connections as this client does, TLS by rustls included, and through the proxy of the
/// agent's configuration. For other HTTPS clients in the same program, which then need no code of
/// their own for it.
#[must_use]
pub fn connector() -> impl Connector<(), Out = impl Transport> {
    with_tls(NamedTls {
        tls: RustlsConnector::default(),
        named: None,
    })
}

pub(crate) fn with_tls(tls: NamedTls) -> impl Connector<(), Out = impl Transport> {
    ().chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        .chain(tls)
}

#[derive(Debug)]
pub(crate) struct NamedTls {
    tls: RustlsConnector,
    named: Option<Named>,
}

#[derive(Debug)]
struct Named {
    server: Authority,
    /// `https://NAME`.
    uri: Uri,
}

impl NamedTls {
    /// Fails for a `tls-server-name` that is neither a host name nor an address.
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        let named = match &config.tls.server_name {
            None => None,
            Some(name) => Some(Named::new(config, name)?),
        };
        Ok(Self {
            tls: RustlsConnector::default(),
            named,
        })
    }
}

impl Named {
    fn new(config: &Config, name: &str) -> Result<Self, ConfigError> {
        let invalid = |field, reason: &str| ConfigError::FieldInvalid {
            origin: config.source.clone(),
            field,
            reason: reason.to_owned(),
        };
        let authority = match ServerName::try_from(name) {
            Ok(ServerName::IpAddress(_)) if name.contains(':') => format!("[{name}]"),
            Ok(_) => name.to_owned(),
            Err(_) => {
                return Err(invalid("tls-server-name", "is not a host name"));
            }
        };
        let uri = format!("https://{authority}/").parse();
        let server = config.server.parse::<Uri>().map(Uri::into_parts);
        match (uri, server.ok().and_then(|parts| parts.authority)) {
            (Ok(uri), Some(server)) => Ok(Self { server, uri }),
            (Err(_), _) => Err(invalid("tls-server-name", "is not a host name")),
            (_, None) => Err(invalid("server", "is not a URL")),
        }
    }
}

impl<In: Transport> Connector<In> for NamedTls {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let named = self
            .named
            .as_ref()
            // A proxy's own certificate has the proxy's name.
            .filter(|named| details.needs_tls() && details.uri.authority() == Some(&named.server));
        let Some(named) = named else {
            return self.tls.connect(details, chained);
        };
        let details = ConnectionDetails {
            uri: &named.uri,
            addrs: details.addrs.clone(),
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.tls.connect(&details, chained)
    }
}
