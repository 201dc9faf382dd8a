//! The listening part: a thread that accepts, and one for each connection.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConfig;

use crate::faults::FaultAction;
use crate::http::{Conn, Head, HeadError};

/// How long a connection to oneself may take.
const WAKE: Duration = Duration::from_secs(1);

/// How long a new connection may be silent, and an unfinished head may take.
const HEAD_TIME: Duration = Duration::from_secs(32);
/// How long a client that speaks the wrong protocol has for the rest of its head.
const MOMENT: Duration = Duration::from_millis(500);

/// What answers the requests.
pub trait Service: Send + Sync + 'static {
    /// What the next connection is encrypted with; `None` is plain HTTP.
    fn tls(&self) -> Option<Arc<ServerConfig>>;

    /// What goes wrong with the next connection.
    fn connection_fault(&self) -> Option<FaultAction>;

    /// How long an idle connection is kept after an answer.
    fn idle_timeout(&self) -> Duration;

    /// Answers one request.
    fn answer(&self, conn: &mut Conn, head: Head) -> After;

    /// Is told what came on a connection where a request was expected: why it is none, or nothing where the client only
    /// went too early.
    fn no_request(&self, _bytes: &[u8], _problem: Option<&str>) {}
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is ready for the next request.
    Keep,
    /// It is closed in order.
    Close,
    /// It breaks.
    Abort,
}

/// An address and what answers there: it can stop listening and start again. It stops when it is dropped.
pub struct Host {
    service: Arc<dyn Service>,
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    listener: Option<Listener>,
}

struct Listener {
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<HashMap<u64, TcpStream>>>,
    address: SocketAddr,
    thread: Option<JoinHandle<TcpListener>>,
    /// Keeps the port while nobody listens.
    reserved: Option<(TcpStream, TcpStream)>,
}

impl Host {
    /// Accepts connections on a socket.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(socket: TcpListener, service: Arc<dyn Service>) -> io::Result<Self> {
        let mut host = Self {
            service,
            address: socket.local_addr()?,
            connections: Arc::default(),
            listener: None,
        };
        host.listen(socket)?;
        Ok(host)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://HOST:PORT`, or `http://`.
    #[must_use]
    pub fn url(&self, tls: bool) -> String {
        let scheme = if tls { "https" } else { "http" };
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
            ip if ip.is_ipv6() => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        format!("{scheme}://{host}:{}", self.address.port())
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Closes the listening socket and all connections at once, as a process does that is killed. Nobody else is given
    /// the port, so that it is there to listen on again.
    pub fn stop(&mut self) {
        if let Some(listener) = &mut self.listener {
            listener.stop();
        }
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    /// When somebody else has taken the port.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        self.listen(TcpListener::bind(self.address)?)
    }

    fn listen(&mut self, socket: TcpListener) -> io::Result<()> {
        let (service, connections) = (self.service.clone(), self.connections.clone());
        self.listener = Some(Listener::start(socket, service, connections)?);
        Ok(())
    }
}

impl Listener {
    fn start(
        socket: TcpListener,
        service: Arc<dyn Service>,
        connections: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(HashMap::new()));
        let (accept_stop, accept_open) = (stop.clone(), open.clone());
        let thread = thread::Builder::new()
            .name("sim-accept".to_owned())
            .spawn(move || {
                let mut number = 0;
                for tcp in socket.incoming() {
                    if accept_stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let Ok(tcp) = tcp else { continue };
                    number += 1;
                    connections.fetch_add(1, Ordering::Relaxed);
                    if let Ok(copy) = tcp.try_clone() {
                        lock(&accept_open).insert(number, copy);
                    }
                    let (service, stop, open) =
                        (service.clone(), accept_stop.clone(), accept_open.clone());
                    let connection = thread::Builder::new().name(format!("sim-{number}"));
                    let _ = connection.spawn(move || {
                        serve(service.as_ref(), tcp, stop);
                        lock(&open).remove(&number);
                    });
                }
                socket
            })?;
        Ok(Self {
            stop,
            open,
            address,
            thread: Some(thread),
            reserved: None,
        })
    }

    /// Keeps the port until this is dropped.
    fn stop(&mut self) {
        if let Some(socket) = self.end() {
            self.reserved = reserve(&socket);
            close(socket);
            self.wait_for_connections();
        }
    }

    /// Accepts no more and breaks what was accepted.
    fn end(&mut self) -> Option<TcpListener> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        // The accepting thread sits in a blocking call: a connection wakes it.
        let _ = TcpStream::connect_timeout(&loopback(self.address), WAKE);
        let socket = thread.join().ok()?;
        for tcp in lock(&self.open).values() {
            let _ = tcp.shutdown(Shutdown::Both);
        }
        Some(socket)
    }

    /// Connections on their way out let their sockets go, so that the port is free.
    fn wait_for_connections(&self) {
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
        if let Some(socket) = self.end() {
            close(socket);
            self.wait_for_connections();
        }
    }
}

/// A connection to oneself: a port that has one is not given to others who ask for any, and can still be listened on.
fn reserve(socket: &TcpListener) -> Option<(TcpStream, TcpStream)> {
    let client = TcpStream::connect_timeout(&loopback(socket.local_addr().ok()?), WAKE).ok()?;
    let own = client.local_addr().ok()?;
    loop {
        // Others that come now are turned away.
        let (server, peer) = socket.accept().ok()?;
        if peer == own {
            return Some((client, server));
        }
    }
}

/// Ends listening, also where a process that is being started holds a copy of the socket until its program runs.
fn close(socket: TcpListener) {
    let _ = TcpStream::from(OwnedFd::from(socket)).shutdown(Shutdown::Both);
}

/// Where one's own address can be connected to.
fn loopback(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(service: &dyn Service, tcp: TcpStream, stop: Arc<AtomicBool>) {
    match service.connection_fault() {
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
            return serve_tls(service, copy, stop);
        }
        _ => {}
    }
    serve_tls(service, tcp, stop);
}

fn serve_tls(service: &dyn Service, tcp: TcpStream, stop: Arc<AtomicBool>) {
    let config = service.tls();
    if config.is_some() && is_plain_http(&tcp) {
        if let Ok(mut conn) = Conn::new(tcp, None, stop) {
            if let Ok(head) = conn.read_head(HEAD_TIME, MOMENT) {
                service.no_request(&head.raw, Some("plain HTTP where TLS is expected"));
            }
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
            Err(error) => {
                let problem = match error {
                    HeadError::Bad(line) => Some(line),
                    HeadError::Closed => None,
                };
                if !conn.rest().is_empty() {
                    service.no_request(conn.rest(), problem);
                }
                if let Some(line) = problem {
                    let answer = format!(
                        "HTTP/1.1 {line}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{line}"
                    );
                    let _ = conn.send(answer.as_bytes());
                }
                return conn.close();
            }
        };
        conn.sent = 0;
        match service.answer(&mut conn, head) {
            After::Keep => patience = service.idle_timeout(),
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
