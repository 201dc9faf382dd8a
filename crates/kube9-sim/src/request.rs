//! A request as it came.

use std::time::SystemTime;

use kube_sim::wire::{Entry, seconds, target};
use serde_json::{Value, json};

use crate::call::Call;

/// What came on a connection: a request, or bytes that are none.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it was read.
    pub at: SystemTime,
    /// Which call it is, whatever its method.
    pub call: Option<Call>,
    /// The method; empty when it is no request.
    pub method: String,
    /// The path, percent-decoded.
    pub path: String,
    /// The query as it was sent.
    pub query: String,
    /// Every byte of the head, or of what is no request.
    pub head: Vec<u8>,
    /// Every byte of the body that came.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub complete: bool,
    /// The status of the answer; 0 when a fault left none, or while it is not decided.
    pub status: u16,
    /// Head and body of the answer, as far as they were sent. 0 until the answer is complete.
    pub response_bytes: u64,
    /// What of it does not fit the contract.
    pub violations: Vec<String>,
}

impl Request {
    /// Path and query.
    #[must_use]
    pub fn url(&self) -> String {
        target(&self.path, &self.query)
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let head = String::from_utf8_lossy(&self.head);
        let mut lines = head.split("\r\n").skip(1);
        lines.find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Entry for Request {
    fn line(&self) -> Value {
        json!({
            "at": seconds(self.at), "method": self.method, "path": self.path, "query": self.query,
            "status": self.status, "userAgent": self.header("user-agent"),
            "requestBytes": self.head.len() + self.body.len(), "responseBytes": self.response_bytes,
            "body": self.json(), "violations": self.violations,
        })
    }
}
