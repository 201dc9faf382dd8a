//! The server: a thread that accepts, and one for each connection.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crate::faults::{FaultAction, Script};
use crate::handle::handle;
use crate::http::{Conn, Head, HeadError, Unread};
use crate::kinds::Kinds;
use crate::log::{Log, Request};
use crate::metadata;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::out::{Frame, Out, reason_phrase};
use crate::rbac::{ANONYMOUS, Attributes, Rbac};
use crate::request::{Incoming, Info, Params};
use crate::status::{Answer, Body, TEXT};
use crate::store::{Change, Store};
use crate::tls::Authority;

/// How long a new connection may be silent, and an unfinished head may take.
const HEAD_TIME: Duration = Duration::from_secs(32);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) kinds: Kinds,
    pub(crate) address: SocketAddr,
    store: Mutex<Store>,
    changed: Condvar,
    controls: Mutex<Controls>,
    log: Mutex<Log>,
    connections: AtomicU64,
}

/// What a test may change while the server runs.
pub(crate) struct Controls {
    pub(crate) users: Vec<User>,
    pub(crate) metrics: Metrics,
    pub(crate) script: Script,
    pub(crate) authority: Option<Authority>,
}

/// Somebody with a token.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) token: String,
    pub(crate) name: String,
    pub(crate) rbac: Rbac,
    pub(crate) expired: bool,
}

/// The listening part, which can be stopped and started again.
pub(crate) struct Listener {
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<HashMap<u64, TcpStream>>>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    pub(crate) fn new(
        options: Options,
        address: SocketAddr,
        store: Store,
        controls: Controls,
        log: Log,
    ) -> Self {
        Self {
            options,
            kinds: Kinds::recorded(),
            address,
            store: Mutex::new(store),
            changed: Condvar::new(),
            controls: Mutex::new(controls),
            log: Mutex::new(log),
            connections: AtomicU64::new(0),
        }
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn controls(&self) -> MutexGuard<'_, Controls> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
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

impl Listener {
    /// Accepts connections on a socket.
    pub(crate) fn start(socket: TcpListener, shared: &Arc<Shared>) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(HashMap::new()));
        let (accept_stop, accept_open, shared) = (stop.clone(), open.clone(), shared.clone());
        let thread = thread::Builder::new()
            .name("kube-sim-accept".to_owned())
            .spawn(move || {
                let mut number = 0;
                for tcp in socket.incoming() {
                    if accept_stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(tcp) = tcp else { continue };
                    number += 1;
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    if let Ok(copy) = tcp.try_clone() {
                        lock(&accept_open).insert(number, copy);
                    }
                    let (shared, stop, open) =
                        (shared.clone(), accept_stop.clone(), accept_open.clone());
                    let connection = thread::Builder::new().name(format!("kube-sim-{number}"));
                    let _ = connection.spawn(move || {
                        serve(&shared, tcp, stop);
                        lock(&open).remove(&number);
                    });
                }
            })?;
        Ok(Self {
            stop,
            open,
            address,
            thread: Some(thread),
        })
    }

    /// Closes the listening socket and all connections at once, as a process does that is killed.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The accepting thread sits in a blocking call: a connection wakes it.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
        let _ = thread.join();
        for tcp in lock(&self.open).values() {
            let _ = tcp.shutdown(Shutdown::Both);
        }
        // Connections on their way out let their sockets go, so that the port is free.
        for _ in 0..200 {
            if lock(&self.open).is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of the connection after an answer.
#[derive(PartialEq, Eq)]
enum After {
    Keep,
    Close,
    Abort,
}

fn serve(shared: &Shared, tcp: TcpStream, stop: Arc<AtomicBool>) {
    let fault = shared.controls().script.of_connection();
    match fault {
        Some(FaultAction::Refuse) => return,
        Some(FaultAction::SlowTls(time)) => {
            let Ok(mut conn) = Conn::new(tcp, None, stop.clone()) else {
                return;
            };
            if !conn.idle(time) {
                return;
            }
            let Ok(copy) = conn.tcp().try_clone() else {
                return;
            };
            return serve_tls(shared, copy, stop);
        }
        _ => {}
    }
    serve_tls(shared, tcp, stop);
}

fn serve_tls(shared: &Shared, tcp: TcpStream, stop: Arc<AtomicBool>) {
    let config = shared
        .controls()
        .authority
        .as_ref()
        .map(|authority| authority.config.clone());
    if config.is_some() && is_plain_http(&tcp) {
        if let Ok(mut conn) = Conn::new(tcp, None, stop) {
            let _ = conn.send(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
            conn.close();
        }
        return;
    }
    let Ok(mut conn) = Conn::new(tcp, config, stop) else {
        return;
    };
    let mut patience = HEAD_TIME;
    loop {
        let head = match conn.read_head(patience, HEAD_TIME) {
            Ok(head) => head,
            Err(HeadError::Closed) => return conn.close(),
            Err(HeadError::Bad(line)) => {
                let head = format!(
                    "HTTP/1.1 {line}\r\nContent-Type: {TEXT}\r\nConnection: close\r\n\r\n{line}"
                );
                let _ = conn.send(head.as_bytes());
                return conn.close();
            }
        };
        conn.sent = 0;
        match answer(shared, &mut conn, head) {
            After::Keep => patience = shared.options.idle_timeout,
            After::Close => return conn.close(),
            After::Abort => return conn.abort(),
        }
    }
}

/// Whether the client speaks HTTP where TLS is expected.
fn is_plain_http(tcp: &TcpStream) -> bool {
    let mut byte = [0];
    let _ = tcp.set_read_timeout(Some(HEAD_TIME));
    tcp.peek(&mut byte)
        .is_ok_and(|count| count == 1 && byte[0].is_ascii_alphabetic())
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
    if let Some(FaultAction::HangBeforeHeader(time)) = &fault
        && !request.conn.idle(*time)
    {
        note(shared, &request, at, 0);
        return After::Abort;
    }
    let answer = match &fault {
        Some(FaultAction::Refuse) => {
            note(shared, &request, at, 0);
            return After::Abort;
        }
        Some(FaultAction::Garbage) => {
            note(shared, &request, at, 0);
            let _ = request
                .conn
                .send(b"\x16\x03\xff\x00SSH-2.0-OpenSSH_9.9\r\n\x00\xfe\xfd\r\n\r\n");
            return After::Close;
        }
        Some(FaultAction::Status {
            code,
            headers,
            body,
            content_type,
        }) => Scripted::Other {
            code: *code,
            headers: headers.clone(),
            content_type: content_type.clone(),
            body: body.clone().into_bytes(),
        },
        Some(FaultAction::TooManyRequests { retry_after }) => {
            let mut answer = Answer::text(429, "Too many requests, please try again later.\n");
            answer
                .headers
                .extend(retry_after.map(|seconds| ("Retry-After", seconds.to_string())));
            Scripted::Real(answer)
        }
        Some(FaultAction::GarbageBody) => Scripted::Other {
            code: 200,
            headers: Vec::new(),
            content_type: "application/json".to_owned(),
            body: (0..3000_u64)
                .map(|number| u8::try_from(metadata::mix(number) & 0xff).unwrap_or(0xff))
                .collect(),
        },
        Some(FaultAction::EndlessBody) => Scripted::Endless,
        _ => Scripted::Real(handle(shared, &mut request)),
    };
    if request.broken {
        note(shared, &request, at, 0);
        return After::Abort;
    }
    let status = match &answer {
        Scripted::Real(answer) => answer.status,
        Scripted::Other { code, .. } => *code,
        Scripted::Endless => 200,
    };
    if matches!(fault, Some(FaultAction::LoseAnswer)) {
        note(shared, &request, at, 0);
        return After::Abort;
    }
    let number = note(shared, &request, at, status);
    let after = send(shared, &mut request, answer, fault.as_ref());
    shared.log().done(number, request.conn.sent);
    after
}

/// What is sent: a real answer, or one that a fault made.
enum Scripted {
    Real(Answer),
    Other {
        code: u16,
        headers: Vec<(String, String)>,
        content_type: String,
        body: Vec<u8>,
    },
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
    let version = if request.head.http10 {
        "HTTP/1.0"
    } else {
        "HTTP/1.1"
    };
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
        Scripted::Other {
            code,
            mut headers,
            content_type,
            body,
        } => {
            headers.push(("Content-Type".to_owned(), content_type));
            (code, headers, Some(Body::Bytes(body)))
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
    let mut head = format!("{version} {status} {}\r\n", reason_phrase(status));
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!(
        "Date: {}\r\n",
        jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT")
    );
    let is_watch = matches!(body, Some(Body::Watch(_)));
    let frame = Frame {
        head: head.into_bytes(),
        close,
        http10: request.head.http10,
        without_body: request.head.method == "HEAD",
        // An event is a chunk of its own.
        chunk: if is_watch {
            usize::MAX
        } else {
            shared.options.chunk_bytes
        },
        fault,
    };
    let mut out = Out::new(request.conn, frame);
    let sent = match &body {
        Some(Body::Bytes(bytes)) => out.write(bytes),
        Some(Body::Items(items)) => items.send(&mut out),
        Some(Body::Watch(watch)) => watch.send(shared, &mut out),
        None => endless(&mut out),
    };
    if sent.and_then(|()| out.finish()).is_err()
        || matches!(fault, Some(FaultAction::DropConnectionAfterResponse))
    {
        return if matches!(fault, Some(FaultAction::DropConnectionAfterResponse)) {
            After::Close
        } else {
            After::Abort
        };
    }
    match drain {
        Some(unread) if request.conn.drain(unread).is_ok() => After::Keep,
        _ => After::Close,
    }
}

fn endless(out: &mut Out<'_>) -> io::Result<()> {
    out.write(br#"{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":["#)?;
    loop {
        out.write(br#"{"metadata":{"name":"again","namespace":"and-again"}},"#)?;
    }
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
