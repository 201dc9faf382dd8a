//! The log of requests: what tests look at, and one JSON line each in a file for the binary.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::time::SystemTime;

use serde_json::json;

/// How many requests are remembered.
const KEPT: usize = 100_000;
/// How much of a written body is remembered.
const BODY_KEPT: usize = 4 << 20;

/// A request that was answered, or is being answered.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its head was read.
    pub at: SystemTime,
    /// The method, in capitals.
    pub method: String,
    /// The path, percent-decoded.
    pub path: String,
    /// The query as it was sent.
    pub query: String,
    /// The status of the answer; 0 when a fault left none.
    pub status: u16,
    /// The header `User-Agent`.
    pub user_agent: String,
    /// Who asked: empty when that was not found out.
    pub user: String,
    /// Head and body.
    pub request_bytes: u64,
    /// Head and body with their framing, as far as they were sent. 0 until the answer is complete.
    pub response_bytes: u64,
    /// The body of a write, at most 4 MiB.
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// Path and query as in a request line.
    #[must_use]
    pub fn url(&self) -> String {
        if self.query.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, self.query)
        }
    }
}

/// The requests, the oldest first.
#[derive(Default)]
pub(crate) struct Log {
    requests: VecDeque<Request>,
    first: u64,
    file: Option<File>,
}

impl Log {
    pub(crate) fn new(file: Option<File>) -> Self {
        Self {
            file,
            ..Self::default()
        }
    }

    pub(crate) fn all(&self) -> Vec<Request> {
        self.requests.iter().cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.first += self.requests.len() as u64;
        self.requests.clear();
    }

    /// Notes a request before its answer goes out. The number is for [`Log::done`].
    pub(crate) fn begin(&mut self, mut request: Request) -> u64 {
        if let Some(body) = &mut request.body {
            body.truncate(BODY_KEPT);
        }
        if self.requests.len() == KEPT {
            self.requests.pop_front();
            self.first += 1;
        }
        self.requests.push_back(request);
        self.first + self.requests.len() as u64 - 1
    }

    /// Notes that the answer is complete, or broke.
    pub(crate) fn done(&mut self, number: u64, response_bytes: u64) {
        let index = number
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok());
        let Some(request) = index.and_then(|index| self.requests.get_mut(index)) else {
            return;
        };
        request.response_bytes = response_bytes;
        if let Some(file) = &mut self.file {
            let at = request
                .at
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0.0, |time| time.as_secs_f64());
            let line = json!({
                "at": at, "method": request.method, "path": request.path, "query": request.query,
                "status": request.status, "userAgent": request.user_agent, "user": request.user,
                "requestBytes": request.request_bytes, "responseBytes": response_bytes,
            });
            // A log that cannot be written must not stop a demo.
            let _ = writeln!(file, "{line}");
        }
    }
}
