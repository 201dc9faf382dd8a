//! The log of requests: what tests look at, and one JSON line each in a file for the binary.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::http::target;

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
        target(&self.path, &self.query)
    }
}

impl Entry for Request {
    fn trim(&mut self) {
        if let Some(body) = &mut self.body {
            body.truncate(BODY_KEPT);
        }
    }

    fn line(&self) -> Value {
        json!({
            "at": seconds(self.at), "method": self.method, "path": self.path, "query": self.query,
            "status": self.status, "userAgent": self.user_agent, "user": self.user,
            "requestBytes": self.request_bytes, "responseBytes": self.response_bytes,
        })
    }
}

/// A request as a log keeps it.
pub trait Entry {
    /// Cuts what is too long to be remembered.
    fn trim(&mut self) {}

    /// What is written of it to a file.
    fn line(&self) -> Value;
}

/// The requests, the oldest first.
pub struct Log<T> {
    requests: VecDeque<T>,
    first: u64,
    file: Option<File>,
}

impl<T: Entry + Clone> Log<T> {
    /// An empty log, which appends to a file as well when there is one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(|path| OpenOptions::new().create(true).append(true).open(path));
        Ok(Self {
            requests: VecDeque::new(),
            first: 0,
            file: file.transpose()?,
        })
    }

    /// All that are remembered.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.requests.iter().cloned().collect()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.first += self.requests.len() as u64;
        self.requests.clear();
    }

    /// Notes a request before its answer goes out. The number is for [`Log::done`].
    pub fn begin(&mut self, mut request: T) -> u64 {
        request.trim();
        if self.requests.len() == KEPT {
            self.requests.pop_front();
            self.first += 1;
        }
        self.requests.push_back(request);
        self.first + self.requests.len() as u64 - 1
    }

    /// Changes what is known of a request under way.
    pub fn change(&mut self, number: u64, change: impl FnOnce(&mut T)) {
        if let Some(request) = self.index(number) {
            change(&mut self.requests[request]);
        }
    }

    /// Notes that the answer is complete, or broke.
    pub fn done(&mut self, number: u64, change: impl FnOnce(&mut T)) {
        let Some(index) = self.index(number) else {
            return;
        };
        let request = &mut self.requests[index];
        change(request);
        if let Some(file) = &mut self.file {
            // A log that cannot be written must not stop a demo.
            let _ = writeln!(file, "{}", request.line());
        }
    }

    fn index(&self, number: u64) -> Option<usize> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        (index < self.requests.len()).then_some(index)
    }
}

/// A time as a log line has it: seconds since 1970.
#[must_use]
pub fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}
