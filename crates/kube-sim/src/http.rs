//! HTTP/1.1 by hand: reading a request from a connection, and nothing hidden in between, so that every fault can be
//! put at the byte where it belongs.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The largest request head a Go server accepts.
const HEAD_LIMIT: usize = 1 << 20;
/// How much of an unread request body a Go server reads before it gives the connection up.
const DRAIN_LIMIT: u64 = 256 << 10;

/// A connection, encrypted or not.
pub struct Conn {
    stream: Stream,
    buffer: Vec<u8>,
    at: usize,
    stop: Arc<AtomicBool>,
    /// Bytes of HTTP received for the present request, before encryption.
    pub received: u64,
    /// Bytes of HTTP sent for it, before encryption.
    pub sent: u64,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// A request head.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The method, as it was sent.
    pub method: String,
    /// The path, percent-decoded.
    pub path: String,
    /// The query, as it was sent.
    pub query: String,
    /// Whether the client speaks HTTP/1.0.
    pub http10: bool,
    /// The headers in their order.
    pub headers: Vec<(String, String)>,
    /// Every byte of it, the empty line included.
    pub raw: Vec<u8>,
}

/// Why there is no request head.
pub enum HeadError {
    /// The client closed, the time is over, or the connection broke.
    Closed,
    /// To be answered with this status line and closed.
    Bad(&'static str),
}

/// What is still to be read of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// So many bytes.
    Length(u64),
    /// Chunks, up to an empty one.
    Chunked,
}

impl Head {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether the client asked for the connection to be closed.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.http10
            || self
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Whether the client waits for `100 Continue` before it sends its body.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }

    /// The framing of the body.
    #[must_use]
    pub fn unread(&self) -> Unread {
        if self
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            return Unread::Chunked;
        }
        Unread::Length(
            self.header("content-length")
                .and_then(|value| value.trim().parse().ok())
                .unwrap_or(0),
        )
    }
}

impl Unread {
    /// Whether the rest is too much to be read before the next request.
    #[must_use]
    pub fn too_much_to_drain(self) -> bool {
        match self {
            Unread::Length(rest) => rest > DRAIN_LIMIT,
            Unread::Chunked => true,
        }
    }
}

impl Conn {
    /// Takes a connection over, with TLS when there is a configuration.
    ///
    /// # Errors
    /// When the socket or the configuration is unusable.
    pub fn new(
        tcp: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        stop: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(Duration::from_secs(60)))?;
        let stream = match tls {
            Some(config) => {
                let connection = ServerConnection::new(config).map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(connection, tcp)))
            }
            None => Stream::Plain(tcp),
        };
        Ok(Self {
            stream,
            buffer: Vec::new(),
            at: 0,
            stop,
            received: 0,
            sent: 0,
        })
    }

    /// The socket below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    /// Reads the next request head. `idle` is how long to wait for its first byte, `unfinished` for its last.
    ///
    /// # Errors
    /// When there is none; see [`Conn::rest`] for what came instead.
    pub fn read_head(&mut self, idle: Duration, unfinished: Duration) -> Result<Head, HeadError> {
        let mut deadline = Instant::now() + idle;
        let mut begun = self.at < self.buffer.len();
        if begun {
            deadline = Instant::now() + unfinished;
        }
        loop {
            let text = &self.buffer[self.at..];
            if let Some(length) = head_length(text) {
                let head = parse_head(&text[..length]);
                self.at += length;
                self.received = length as u64;
                return head.map_err(|line| {
                    self.at -= length;
                    HeadError::Bad(line)
                });
            }
            if text.len() > HEAD_LIMIT {
                return Err(HeadError::Bad("431 Request Header Fields Too Large"));
            }
            if text.len() >= 3
                && !text
                    .iter()
                    .take(16)
                    .all(|byte| byte.is_ascii_graphic() || b" \r\n".contains(byte))
            {
                return Err(HeadError::Bad("400 Bad Request"));
            }
            match self.fill(deadline) {
                Ok(0) | Err(_) => return Err(HeadError::Closed),
                Ok(_) if !begun => {
                    begun = true;
                    deadline = Instant::now() + unfinished;
                }
                Ok(_) => {}
            }
        }
    }

    /// What was received and is not read.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Reads up to `limit` bytes of a body, and says what is left of it. A body over the limit is cut off there. What
    /// came before an error is in `body` too.
    ///
    /// # Errors
    /// When the body breaks off, or its chunks are none.
    pub fn read_body(
        &mut self,
        unread: &mut Unread,
        limit: usize,
        body: &mut Vec<u8>,
    ) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(140);
        let result = self.read_pieces(unread, limit, body, deadline);
        self.received += body.len() as u64;
        result
    }

    fn read_pieces(
        &mut self,
        unread: &mut Unread,
        limit: usize,
        body: &mut Vec<u8>,
        deadline: Instant,
    ) -> io::Result<()> {
        match *unread {
            Unread::Length(length) => {
                let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(limit);
                while body.len() < wanted {
                    self.need(deadline)?;
                    let piece = self.take(wanted - body.len());
                    body.extend_from_slice(piece);
                }
                *unread = Unread::Length(length - body.len() as u64);
            }
            Unread::Chunked => loop {
                let size = self.read_line(deadline)?;
                let size = size.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if size == 0 {
                    while !self.read_line(deadline)?.is_empty() {}
                    *unread = Unread::Length(0);
                    break;
                }
                if body.len().saturating_add(size) > limit {
                    body.resize(limit, b' ');
                    break;
                }
                let end = body.len() + size;
                while body.len() < end {
                    self.need(deadline)?;
                    let piece = self.take(end - body.len());
                    body.extend_from_slice(piece);
                }
                self.read_line(deadline)?;
            },
        }
        Ok(())
    }

    /// Reads and forgets the rest of a body.
    ///
    /// # Errors
    /// When it breaks off, or does not say how long it is.
    pub fn drain(&mut self, unread: Unread) -> io::Result<()> {
        let mut unread = unread;
        while unread != Unread::Length(0) {
            if unread == Unread::Chunked {
                return Err(io::Error::other("a chunked body was left unread"));
            }
            self.read_body(&mut unread, 64 << 10, &mut Vec::new())?;
        }
        Ok(())
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sent += bytes.len() as u64;
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    /// Whether the client has gone or the server stops.
    pub fn is_over(&mut self) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            return true;
        }
        let result = match &mut self.stream {
            Stream::Plain(tcp) => {
                let mut byte = [0];
                let _ = tcp.set_nonblocking(true);
                let result = tcp.peek(&mut byte);
                let _ = tcp.set_nonblocking(false);
                result
            }
            Stream::Tls(tls) => {
                let _ = tls.sock.set_nonblocking(true);
                let result = tls.conn.read_tls(&mut tls.sock);
                let _ = tls.sock.set_nonblocking(false);
                match (&result, tls.conn.process_new_packets()) {
                    (Ok(_), Ok(state)) if state.peer_has_closed() => Ok(0),
                    (_, Err(error)) => Err(io::Error::other(error)),
                    _ => result,
                }
            }
        };
        match result {
            Ok(count) => count == 0,
            Err(error) => {
                error.kind() != io::ErrorKind::WouldBlock
                    && error.kind() != io::ErrorKind::Interrupted
            }
        }
    }

    /// Does nothing for a while, or until the client goes or the server stops. Says whether the time passed.
    pub fn idle(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            if self.is_over() {
                return false;
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return true;
            }
            std::thread::sleep(rest.min(Duration::from_millis(20)));
        }
    }

    /// Closes as a Go server does: `close_notify`, then a moment for the client to read before the socket goes.
    pub fn close(mut self) {
        if let Stream::Tls(tls) = &mut self.stream {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        let tcp = self.tcp();
        let _ = tcp.shutdown(std::net::Shutdown::Write);
        let _ = tcp.set_read_timeout(Some(Duration::from_millis(100)));
        let deadline = Instant::now() + Duration::from_millis(500);
        let mut waste = [0; 16 << 10];
        let mut tcp = tcp;
        while Instant::now() < deadline && tcp.read(&mut waste).is_ok_and(|count| count > 0) {}
    }

    /// Closes without a word, as a process does that was killed.
    pub fn abort(self) {
        let _ = self.tcp().shutdown(std::net::Shutdown::Both);
    }

    fn read_line(&mut self, deadline: Instant) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer[self.at..]
                .iter()
                .position(|&byte| byte == b'\n')
            {
                let line = String::from_utf8_lossy(&self.buffer[self.at..self.at + end])
                    .trim_end()
                    .to_owned();
                self.at += end + 1;
                return Ok(line);
            }
            if self.buffer.len() - self.at > 8 << 10 {
                return Err(io::Error::other("a line of a chunked body is too long"));
            }
            if self.fill(deadline)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn need(&mut self, deadline: Instant) -> io::Result<()> {
        if self.at == self.buffer.len() && self.fill(deadline)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn take(&mut self, most: usize) -> &[u8] {
        let from = self.at;
        self.at = self.buffer.len().min(from + most);
        &self.buffer[from..self.at]
    }

    /// Reads more into the buffer, until the deadline.
    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() || self.stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.tcp().set_read_timeout(Some(rest))?;
        let old = self.buffer.len();
        self.buffer.resize(old + (16 << 10), 0);
        let result = match &mut self.stream {
            Stream::Plain(tcp) => tcp.read(&mut self.buffer[old..]),
            Stream::Tls(tls) => tls.read(&mut self.buffer[old..]),
        };
        self.buffer
            .truncate(old + result.as_ref().copied().unwrap_or(0));
        result
    }
}

/// The length of a complete request head, its empty line included.
fn head_length(text: &[u8]) -> Option<usize> {
    text.windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

fn parse_head(text: &[u8]) -> Result<Head, &'static str> {
    const BAD: &str = "400 Bad Request";
    let text = std::str::from_utf8(text).map_err(|_| BAD)?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD);
    };
    if method.is_empty() || !target.starts_with('/') || !version.starts_with("HTTP/1.") {
        return Err(BAD);
    }
    let mut headers = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(BAD)?;
        if name.is_empty() || name.contains(' ') {
            return Err(BAD);
        }
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let head = Head {
        method: method.to_owned(),
        path: percent_decode(path, false),
        query: query.to_owned(),
        http10: version == "HTTP/1.0",
        headers,
        raw: text.as_bytes().to_vec(),
    };
    if !head.http10 && head.header("host").is_none() {
        return Err("400 Bad Request: missing required Host header");
    }
    if head
        .header("content-length")
        .is_some_and(|value| value.trim().parse::<u64>().is_err())
    {
        return Err(BAD);
    }
    Ok(head)
}

/// Path and query as in a request line.
#[must_use]
pub fn target(path: &str, query: &str) -> String {
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

/// Decodes `%XX`, and `+` as a space where it is the query.
#[must_use]
pub fn percent_decode(text: &str, query: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                rest = &tail[2..];
            }
            (b'+', _) if query => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_head() {
        let head =
            parse_head(b"GET /a%20b?x=1&y=%2F HTTP/1.1\r\nhost: x\r\nContent-length: 5\r\n\r\n")
                .unwrap();
        assert_eq!(
            (
                head.method.as_str(),
                head.path.as_str(),
                head.query.as_str()
            ),
            ("GET", "/a b", "x=1&y=%2F")
        );
        assert_eq!(head.header("HOST"), Some("x"));
        assert_eq!(head.unread(), Unread::Length(5));
    }

    #[test]
    fn refuses_what_is_not_a_head() {
        for text in [
            "GET\r\n\r\n",
            "GET / HTTP/2\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET x HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert!(parse_head(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn decodes_percent() {
        assert_eq!(percent_decode("a%3Db%2fc+d%zz%", true), "a=b/c d%zz%");
    }
}
