//! Sending an answer: the framing of a Go server, and the faults of a body at the byte where they belong.
//!
//! An answer of less than 2048 bytes has `Content-Length`; a longer one goes out in chunks of that size, which fall
//! anywhere in the JSON.

use std::io;
use std::time::Duration;

use crate::faults::FaultAction;
use crate::http::{Conn, Head, Unread};
use crate::listener::After;

/// How many bytes of framed body are gathered before they are sent.
const GATHER: usize = 64 << 10;
/// Longer bodies than this are chunked.
const BUFFERED: usize = 2048;

/// An answer whose body is known.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The header `Content-Type`.
    pub content_type: String,
    /// The body as it is.
    pub body: Vec<u8>,
}

/// A body being sent.
pub struct Out<'c> {
    conn: &'c mut Conn,
    head: Vec<u8>,
    framing: Framing,
    close: bool,
    without_body: bool,
    chunk: usize,
    pending: Vec<u8>,
    frames: Vec<u8>,
    fault: BodyFault,
    payload: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Nothing was sent: the length may still become known.
    Open,
    Chunked,
    /// Said in the head already; or nowhere, in HTTP/1.0: the body ends with the connection.
    Given,
}

#[derive(Clone, Copy)]
enum BodyFault {
    None,
    Cut(u64),
    Hang(u64),
    Drip(u64),
}

/// How an answer is framed.
pub struct Frame<'a> {
    /// Status line and headers, without those of the framing.
    pub head: Vec<u8>,
    /// Says `Connection: close`.
    pub close: bool,
    /// The headers say how long the body is, or the end of the connection does.
    pub framed: bool,
    /// The answer to HEAD: headers only.
    pub without_body: bool,
    /// Bytes of a chunk.
    pub chunk: usize,
    /// What goes wrong with the body.
    pub fault: Option<&'a FaultAction>,
}

impl Reply {
    /// An answer without further headers.
    #[must_use]
    pub fn new(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content_type: content_type.to_owned(),
            body,
        }
    }
}

impl<'a> Frame<'a> {
    /// The frame of an answer to this request, with these headers and the date.
    #[must_use]
    pub fn new(
        request: &Head,
        status: u16,
        headers: &[(String, String)],
        fault: Option<&'a FaultAction>,
    ) -> Self {
        let version = if request.http10 {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        };
        let mut head = format!("{version} {status} {}\r\n", reason_phrase(status));
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!(
            "Date: {}\r\n",
            jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT")
        );
        Self {
            head: head.into_bytes(),
            close: request.wants_close(),
            framed: request.http10 || headers.iter().any(|(name, _)| is_length(name)),
            without_body: request.method == "HEAD",
            chunk: BUFFERED,
            fault,
        }
    }
}

/// Whether this is the header that says how long a body is.
#[must_use]
pub fn is_length(header: &str) -> bool {
    header.eq_ignore_ascii_case("content-length")
}

/// What becomes of a connection on which an answer was sent, or broke; `drain` is what is unread of the request's body,
/// `None` where the connection was to be closed anyway.
#[must_use]
pub fn after(
    conn: &mut Conn,
    sent: &io::Result<()>,
    fault: Option<&FaultAction>,
    drain: Option<Unread>,
) -> After {
    if matches!(fault, Some(FaultAction::DropConnectionAfterResponse)) {
        return After::Close;
    }
    match (sent, drain) {
        (Err(_), _) => After::Abort,
        (Ok(()), Some(unread)) if conn.drain(unread).is_ok() => After::Keep,
        _ => After::Close,
    }
}

impl<'c> Out<'c> {
    /// Begins an answer; nothing is sent yet.
    #[must_use]
    pub fn new(conn: &'c mut Conn, frame: Frame<'_>) -> Self {
        let fault = match frame.fault {
            Some(FaultAction::Cut { after_bytes }) => BodyFault::Cut(*after_bytes),
            Some(FaultAction::HangInBody { after_bytes }) => BodyFault::Hang(*after_bytes),
            Some(FaultAction::Drip { bytes_per_second }) => {
                BodyFault::Drip((*bytes_per_second).max(1))
            }
            _ => BodyFault::None,
        };
        Self {
            conn,
            head: frame.head,
            framing: if frame.framed {
                Framing::Given
            } else {
                Framing::Open
            },
            close: frame.close,
            without_body: frame.without_body,
            chunk: frame.chunk.max(1),
            pending: Vec::new(),
            frames: Vec::new(),
            fault,
            payload: 0,
        }
    }

    /// Adds to the body.
    ///
    /// # Errors
    /// When the client has gone, or a fault cuts the body here.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.framing == Framing::Open {
            if self.pending.len() <= BUFFERED {
                return Ok(());
            }
            self.start_chunked();
        }
        if self.pending.len() < self.chunk.max(GATHER) {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let whole = pending.len() - pending.len() % self.chunk;
        for piece in pending[..whole].chunks(self.chunk) {
            self.frame(piece)?;
        }
        self.pending = pending;
        self.pending.drain(..whole);
        self.send_frames()
    }

    /// Sends what there is, as a chunk of its own, and the headers when nothing was sent yet.
    ///
    /// # Errors
    /// When the client has gone, or a fault cuts the body here.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.framing == Framing::Open {
            self.start_chunked();
        }
        self.frame_pending()?;
        self.send_frames()
    }

    /// Ends the body.
    ///
    /// # Errors
    /// When the client has gone, or a fault cuts the body here.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.framing == Framing::Open {
            let length = self.pending.len();
            self.end_head(&format!("Content-Length: {length}\r\n"));
            self.frames.append(&mut self.head);
            if !self.without_body {
                let body = std::mem::take(&mut self.pending);
                self.limited(&body, b"", b"")?;
                self.trip_at_end()?;
            }
            return self.send_frames();
        }
        self.frame_pending()?;
        self.trip_at_end()?;
        if self.framing == Framing::Chunked && !self.without_body {
            self.frames.extend_from_slice(b"0\r\n\r\n");
        }
        self.send_frames()
    }

    /// Sends an opening, and then the same again until the client gives up.
    ///
    /// # Errors
    /// Always: the client has gone.
    pub fn endless(&mut self, opening: &[u8], again: &[u8]) -> io::Result<()> {
        self.write(opening)?;
        loop {
            self.write(again)?;
        }
    }

    /// The connection below, to look whether the client is still there.
    pub fn conn(&mut self) -> &mut Conn {
        self.conn
    }

    fn frame_pending(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        for piece in pending.chunks(self.chunk) {
            self.frame(piece)?;
        }
        Ok(())
    }

    fn start_chunked(&mut self) {
        self.framing = Framing::Chunked;
        self.end_head("Transfer-Encoding: chunked\r\n");
    }

    fn end_head(&mut self, framing: &str) {
        self.head.extend_from_slice(framing.as_bytes());
        if self.close {
            self.head.extend_from_slice(b"Connection: close\r\n");
        }
        self.head.extend_from_slice(b"\r\n");
    }

    fn frame(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.framing == Framing::Given && self.payload == 0 && !self.head.is_empty() {
            self.end_head("");
        }
        self.frames.append(&mut self.head);
        if self.without_body {
            return Ok(());
        }
        match self.framing {
            Framing::Chunked => {
                self.limited(piece, format!("{:x}\r\n", piece.len()).as_bytes(), b"\r\n")
            }
            _ => self.limited(piece, b"", b""),
        }
    }

    /// Adds a piece of the body, up to where it is cut.
    fn limited(&mut self, piece: &[u8], before: &[u8], after: &[u8]) -> io::Result<()> {
        self.frames.extend_from_slice(before);
        if let BodyFault::Cut(limit) | BodyFault::Hang(limit) = self.fault {
            let rest = limit.saturating_sub(self.payload);
            if piece.len() as u64 > rest {
                self.frames
                    .extend_from_slice(&piece[..usize::try_from(rest).unwrap_or(0)]);
                return self.trip();
            }
        }
        self.frames.extend_from_slice(piece);
        self.payload += piece.len() as u64;
        self.frames.extend_from_slice(after);
        if self.frames.len() >= GATHER {
            self.send_frames()
        } else {
            Ok(())
        }
    }

    /// A body shorter than where it was to be cut loses its end.
    fn trip_at_end(&mut self) -> io::Result<()> {
        if matches!(self.fault, BodyFault::Cut(_) | BodyFault::Hang(_)) {
            let kept = self
                .frames
                .len()
                .saturating_sub(if self.framing == Framing::Chunked {
                    3
                } else {
                    1
                });
            self.frames.truncate(kept);
            return self.trip();
        }
        Ok(())
    }

    fn trip(&mut self) -> io::Result<()> {
        self.send_frames()?;
        if matches!(self.fault, BodyFault::Hang(_)) {
            self.conn.idle(Duration::from_secs(3600));
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn send_frames(&mut self) -> io::Result<()> {
        if self.framing == Framing::Given && !self.head.is_empty() {
            self.end_head("");
        }
        self.frames.append(&mut self.head);
        let frames = std::mem::take(&mut self.frames);
        if frames.is_empty() {
            return Ok(());
        }
        if let BodyFault::Drip(rate) = self.fault {
            // Twenty pieces a second, or one byte at a time where that is too fast.
            let piece = (rate / 20).clamp(1, 1 << 30);
            let pause = Duration::from_micros(piece * 1_000_000 / rate);
            let piece = usize::try_from(piece).unwrap_or(1);
            for part in frames.chunks(piece) {
                self.conn.send(part)?;
                if !self.conn.idle(pause) {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            return Ok(());
        }
        self.conn.send(&frames)?;
        self.frames = frames;
        self.frames.clear();
        Ok(())
    }
}

/// The words of a status line.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
