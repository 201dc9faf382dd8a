//! The server: what all connections share, and how a request gets its answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;

use crate::faults::{FaultAction, Script};
use crate::handle::handle;
use crate::http::{Conn, Head, Unread};
use crate::kinds::Kinds;
use crate::listener::{After, Service};
use crate::log::{Log, Request};
use crate::metadata;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::out::{self, Frame, Out, Reply};
use crate::rbac::{ANONYMOUS, Attributes, Rbac};
use crate::request::{Incoming, Info, Params};
use crate::status::{Answer, Body};
use crate::store::{Change, Store};
use crate::tls::{Authority, Leaf};

/// What the server is called, besides its address: the names of the in-cluster service.
const NAMES: [&str; 5] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "host.docker.internal",
];

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) kinds: Kinds,
    pub(crate) address: SocketAddr,
    store: Mutex<Store>,
    changed: Condvar,
    controls: Mutex<Controls>,
    log: Mutex<Log<Request>>,
}

/// What a test may change while the server runs.
pub(crate) struct Controls {
    pub(crate) users: Vec<User>,
    pub(crate) metrics: Metrics,
    pub(crate) script: Script,
    pub(crate) identity: Option<Identity>,
}

/// What the server shows of itself, and the CA that vouches for it.
pub(crate) struct Identity {
    pub(crate) pem: String,
    config: Arc<ServerConfig>,
}

/// Somebody with a token.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) token: String,
    pub(crate) name: String,
    pub(crate) rbac: Rbac,
    pub(crate) expired: bool,
}

impl Shared {
    pub(crate) fn new(
        options: Options,
        address: SocketAddr,
        store: Store,
        controls: Controls,
        log: Log<Request>,
    ) -> Self {
        Self {
            options,
            kinds: Kinds::recorded(),
            address,
            store: Mutex::new(store),
            changed: Condvar::new(),
            controls: Mutex::new(controls),
            log: Mutex::new(log),
        }
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn controls(&self) -> MutexGuard<'_, Controls> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log<Request>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watches.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// The changes of a collection after a revision, waiting a little when there are none.
    pub(crate) fn wait_for_changes(
        &self,
        collection: &str,
        after: u64,
        patience: Duration,
    ) -> Vec<Change> {
        let store = self.store();
        let changes = store.changes(collection, after);
        if !changes.is_empty() || patience.is_zero() {
            return changes;
        }
        let (store, _) = self
            .changed
            .wait_timeout(store, patience)
            .unwrap_or_else(PoisonError::into_inner);
        store.changes(collection, after)
    }

    pub(crate) fn user_of(&self, token: &str) -> Option<String> {
        let controls = self.controls();
        controls
            .users
            .iter()
            .find(|user| user.token == token && !user.expired)
            .map(|user| user.name.clone())
    }

    pub(crate) fn rbac(&self, user: &str) -> Rbac {
        if user == ANONYMOUS {
            return Rbac::Rules(Vec::new());
        }
        let controls = self.controls();
        controls
            .users
            .iter()
            .find(|known| known.name == user)
            .map_or(Rbac::Rules(Vec::new()), |known| known.rbac.clone())
    }

    pub(crate) fn allows(&self, user: &str, wanted: &Attributes) -> bool {
        self.rbac(user).allows(user, wanted)
    }
}

impl Service for Shared {
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        let controls = self.controls();
        controls
            .identity
            .as_ref()
            .map(|identity| identity.config.clone())
    }

    fn connection_fault(&self) -> Option<FaultAction> {
        self.controls().script.of_connection()
    }

    fn idle_timeout(&self) -> Duration {
        self.options.idle_timeout
    }

    fn answer(&self, conn: &mut Conn, head: Head) -> After {
        answer(self, conn, head)
    }
}

impl Identity {
    /// A CA, kept in `directory` when there is one, and a certificate for this address.
    pub(crate) fn new(address: IpAddr, directory: Option<&Path>) -> io::Result<Self> {
        let authority = Authority::new("kube-sim-ca", directory)?;
        let config = authority.issue(&Leaf::new("kube-apiserver", address, &NAMES))?;
        Ok(Self {
            pem: authority.pem().to_owned(),
            config,
        })
    }
}

/// Answers one request.
fn answer(shared: &Shared, conn: &mut Conn, head: Head) -> After {
    let at = SystemTime::now();
    let fault = shared.controls().script.of_request(&head);
    let params = Params::parse(&head.query);
    let info = Info::new(&head.method, &head.path, &params);
    let unread = head.unread();
    let mut request = Incoming {
        conn,
        info,
        params,
        unread,
        continued: !head.expects_continue(),
        body: None,
        user: String::new(),
        broken: false,
        head,
    };
    let before = fault
        .as_ref()
        .and_then(|fault| fault.before_answer(request.conn));
    if let Some(after) = before {
        note(shared, &request, at, 0);
        return after;
    }
    let answer = match (&fault, fault.as_ref().and_then(FaultAction::reply)) {
        (_, Some(reply)) => Scripted::Other(reply),
        (Some(FaultAction::EndlessBody), None) => Scripted::Endless,
        _ => Scripted::Real(handle(shared, &mut request)),
    };
    if request.broken {
        note(shared, &request, at, 0);
        return After::Abort;
    }
    let status = match &answer {
        Scripted::Real(answer) => answer.status,
        Scripted::Other(reply) => reply.status,
        Scripted::Endless => 200,
    };
    if matches!(fault, Some(FaultAction::LoseAnswer)) {
        note(shared, &request, at, 0);
        return After::Abort;
    }
    let number = note(shared, &request, at, status);
    let after = send(shared, &mut request, answer, fault.as_ref());
    let sent = request.conn.sent;
    shared
        .log()
        .done(number, |request| request.response_bytes = sent);
    after
}

/// What is sent: a real answer, or one that a fault made.
enum Scripted {
    Real(Answer),
    Other(Reply),
    Endless,
}

fn send(
    shared: &Shared,
    request: &mut Incoming<'_>,
    answer: Scripted,
    fault: Option<&FaultAction>,
) -> After {
    let waiting = request.head.expects_continue() && !request.continued;
    let close = request.head.wants_close()
        || (request.unread != Unread::Length(0) && (waiting || request.unread.too_much_to_drain()));
    let drain = (!close).then_some(request.unread);
    let (status, mut headers, body) = match answer {
        Scripted::Real(answer) => {
            let mut headers: Vec<(String, String)> = answer
                .headers
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            headers.push(("Content-Type".to_owned(), answer.content_type.to_owned()));
            (answer.status, headers, Some(answer.body))
        }
        Scripted::Other(reply) => {
            let mut headers = reply.headers;
            headers.push(("Content-Type".to_owned(), reply.content_type));
            (reply.status, headers, Some(Body::Bytes(reply.body)))
        }
        Scripted::Endless => (
            200,
            vec![("Content-Type".to_owned(), "application/json".to_owned())],
            None,
        ),
    };
    headers.push(("Audit-Id".to_owned(), metadata::uuid()));
    if !headers.iter().any(|(name, _)| name == "Cache-Control") {
        headers.push(("Cache-Control".to_owned(), "no-cache, private".to_owned()));
    }
    if status != 401 {
        let (schema, level) = flow(&request.user, &request.info);
        headers.push((
            "X-Kubernetes-Pf-Flowschema-Uid".to_owned(),
            schema.to_owned(),
        ));
        headers.push((
            "X-Kubernetes-Pf-Prioritylevel-Uid".to_owned(),
            level.to_owned(),
        ));
    }
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    let frame = Frame {
        close,
        // An event is a chunk of its own.
        chunk: if matches!(body, Some(Body::Watch(_))) {
            usize::MAX
        } else {
            shared.options.chunk_bytes
        },
        ..Frame::new(&request.head, status, &headers, fault)
    };
    let mut out = Out::new(request.conn, frame);
    let sent = match &body {
        Some(Body::Bytes(bytes)) => out.write(bytes),
        Some(Body::Items(items)) => items.send(&mut out),
        Some(Body::Watch(watch)) => watch.send(shared, &mut out),
        None => out.endless(
            br#"{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":["#,
            br#"{"metadata":{"name":"again","namespace":"and-again"}},"#,
        ),
    };
    let sent = sent.and_then(|()| out.finish());
    out::after(request.conn, &sent, fault, drain)
}

/// The flow schema and the priority level that a stock server names in its headers.
fn flow(user: &str, info: &Info) -> (&'static str, &'static str) {
    if ["/healthz", "/livez", "/readyz"]
        .iter()
        .any(|path| info.path.starts_with(path))
    {
        (
            "79b78764-ea1a-4152-b9b0-1aea79c20774",
            "61831fe4-a5b2-4a61-9a16-b2df82f474ea",
        )
    } else if user == ANONYMOUS {
        (
            "812f7bd3-b807-4991-8e9d-a9ff2d094656",
            "16b47399-93ac-44d0-823e-a92275f51024",
        )
    } else {
        (
            "eb22c778-f8e9-4dd1-bc50-5afbbdd49caf",
            "1de481c6-2d55-4de5-91fa-e6b1a243f0af",
        )
    }
}

fn note(shared: &Shared, request: &Incoming<'_>, at: SystemTime, status: u16) -> u64 {
    let head = &request.head;
    let write = matches!(head.method.as_str(), "POST" | "PUT" | "PATCH" | "DELETE");
    shared.log().begin(Request {
        at,
        method: head.method.clone(),
        path: head.path.clone(),
        query: head.query.clone(),
        status,
        user_agent: head.header("user-agent").unwrap_or_default().to_owned(),
        user: request.user.clone(),
        request_bytes: request.conn.received,
        response_bytes: 0,
        body: request.body.clone().filter(|_| write),
    })
}
