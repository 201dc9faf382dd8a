//! Faults: what a test wants to go wrong, with which requests, and how often.

use std::time::Duration;

use crate::http::{Conn, Head};
use crate::listener::After;
use crate::metadata;
use crate::out::Reply;
use crate::status::TEXT;

/// Something that goes wrong with the requests it matches.
///
/// Faults are tried in the order in which they were scripted; the first that matches and is not used up is taken.
///
/// ```
/// use kube_sim::{Fault, FaultAction};
///
/// // The second page of the Pods is refused once.
/// let fault = Fault::new(FaultAction::TooManyRequests { retry_after: Some(1) })
///     .method("GET")
///     .path("/api/v1/pods")
///     .query("continue=")
///     .once();
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which requests.
    pub matches: Matches,
    /// How many matching requests pass first.
    pub skip: u32,
    /// How many requests after that are hit; `None` is all of them.
    pub times: Option<u32>,
    /// What happens to them.
    pub action: FaultAction,
}

/// Which requests a fault is for. What is not given matches everything.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    /// The method, in capitals.
    pub method: Option<String>,
    /// What the path begins with.
    pub path: Option<String>,
    /// What the query contains, before percent-decoding.
    pub query: Option<String>,
}

/// What goes wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FaultAction {
    /// Closes without an answer; the request has no effect. A fault without predicates closes the connection before
    /// the TLS handshake.
    Refuse,
    /// Waits before the TLS handshake. Such a fault has no predicates: it counts connections.
    SlowTls(Duration),
    /// Waits before the first byte of the answer, then answers as usual. The request takes effect after the wait.
    HangBeforeHeader(Duration),
    /// Sends the header and so many bytes of the body, then nothing until the client gives up.
    HangInBody {
        /// Bytes of the body, without chunk framing.
        after_bytes: u64,
    },
    /// Sends the header and so many bytes of the body, then closes: no last chunk, no `close_notify`.
    Cut {
        /// Bytes of the body, without chunk framing. At least the last byte is kept back.
        after_bytes: u64,
    },
    /// Sends the body slowly.
    Drip {
        /// Bytes of the body in a second.
        bytes_per_second: u64,
    },
    /// Answers with bytes that are not HTTP, and closes.
    Garbage,
    /// Answers 200 and `application/json`, with bytes that are neither JSON nor UTF-8.
    GarbageBody,
    /// Answers 200 with a list that never ends.
    EndlessBody,
    /// Answers with this; the request has no effect.
    Status {
        /// HTTP status.
        code: u16,
        /// Further headers. A `Content-Length` among them is sent as it is, right or wrong.
        headers: Vec<(String, String)>,
        /// The body as it is.
        body: String,
        /// The header `Content-Type`.
        content_type: String,
    },
    /// The 429 of priority and fairness: plain text.
    TooManyRequests {
        /// The header `Retry-After`, in seconds; a real server always sends 1.
        retry_after: Option<u32>,
    },
    /// Handles the request and closes without an answer: a write is stored, and the client does not know.
    LoseAnswer,
    /// Answers as usual and closes, without saying so in the header.
    DropConnectionAfterResponse,
}

impl Fault {
    /// A fault of all requests, for ever.
    #[must_use]
    pub fn new(action: FaultAction) -> Self {
        Self {
            matches: Matches::default(),
            skip: 0,
            times: None,
            action,
        }
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.matches.method = Some(method.to_owned());
        self
    }

    /// Only requests whose path begins so.
    #[must_use]
    pub fn path(mut self, prefix: &str) -> Self {
        self.matches.path = Some(prefix.to_owned());
        self
    }

    /// Only requests whose query contains this.
    #[must_use]
    pub fn query(mut self, part: &str) -> Self {
        self.matches.query = Some(part.to_owned());
        self
    }

    /// Lets the first matching requests pass.
    #[must_use]
    pub fn skip(mut self, requests: u32) -> Self {
        self.skip = requests;
        self
    }

    /// Hits only so many requests.
    #[must_use]
    pub fn times(mut self, requests: u32) -> Self {
        self.times = Some(requests);
        self
    }

    /// Hits one request.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }
}

impl FaultAction {
    /// A failure with a `Status` body.
    #[must_use]
    pub fn status(code: u16, reason: &str, message: &str) -> Self {
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "code": code,
        });
        FaultAction::Status {
            code,
            headers: Vec::new(),
            body: format!("{body}\n"),
            content_type: "application/json".to_owned(),
        }
    }

    /// The 504 of a server whose storage hangs: no kind, and `text/plain`.
    #[must_use]
    pub fn storage_timeout() -> Self {
        FaultAction::Status {
            code: 504,
            headers: Vec::new(),
            body: concat!(
                r#"{"metadata":{},"status":"Failure","message":"Timeout: request did not complete within the "#,
                r#"allotted timeout","reason":"Timeout","details":{},"code":504}"#,
                "\n"
            )
            .to_owned(),
            content_type: "text/plain; charset=utf-8".to_owned(),
        }
    }
}

impl FaultAction {
    /// Does what comes in place of an answer, or before one. Says what becomes of the connection when that was all.
    pub fn before_answer(&self, conn: &mut Conn) -> Option<After> {
        match self {
            Self::HangBeforeHeader(time) => (!conn.idle(*time)).then_some(After::Abort),
            Self::Refuse => Some(After::Abort),
            Self::Garbage => {
                let _ = conn.send(b"\x16\x03\xff\x00SSH-2.0-OpenSSH_9.9\r\n\x00\xfe\xfd\r\n\r\n");
                Some(After::Close)
            }
            _ => None,
        }
    }

    /// The answer that it makes in place of the real one; the request has no effect then.
    #[must_use]
    pub fn reply(&self) -> Option<Reply> {
        match self {
            Self::Status {
                code,
                headers,
                body,
                content_type,
            } => Some(Reply {
                headers: headers.clone(),
                ..Reply::new(*code, content_type, body.clone().into_bytes())
            }),
            Self::TooManyRequests { retry_after } => {
                let mut reply = Reply::new(
                    429,
                    TEXT,
                    b"Too many requests, please try again later.\n".to_vec(),
                );
                let headers = &mut reply.headers;
                headers.push(("X-Content-Type-Options".to_owned(), "nosniff".to_owned()));
                headers.extend(
                    retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string())),
                );
                Some(reply)
            }
            Self::GarbageBody => {
                let noise = (0..3000_u64).map(|number| metadata::mix(number).to_le_bytes()[0]);
                Some(Reply::new(200, "application/json", noise.collect()))
            }
            _ => None,
        }
    }
}

impl Matches {
    fn is_any(&self) -> bool {
        self.method.is_none() && self.path.is_none() && self.query.is_none()
    }

    fn matches(&self, head: &Head) -> bool {
        self.method
            .as_ref()
            .is_none_or(|method| *method == head.method)
            && self
                .path
                .as_ref()
                .is_none_or(|prefix| head.path.starts_with(prefix.as_str()))
            && self
                .query
                .as_ref()
                .is_none_or(|part| head.query.contains(part.as_str()))
    }
}

/// The script: the faults and how often each was met.
#[derive(Debug, Default)]
pub struct Script(Vec<(Fault, u32)>);

impl Script {
    /// Adds a fault behind those there are.
    pub fn add(&mut self, fault: Fault) {
        self.0.push((fault, 0));
    }

    /// Takes all faults away.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault of a new connection.
    pub fn of_connection(&mut self) -> Option<FaultAction> {
        self.take(is_of_connection)
    }

    /// The fault of a request.
    pub fn of_request(&mut self, head: &Head) -> Option<FaultAction> {
        self.take(|fault| !is_of_connection(fault) && fault.matches.matches(head))
    }

    fn take(&mut self, wanted: impl Fn(&Fault) -> bool) -> Option<FaultAction> {
        for (fault, met) in self.0.iter_mut().filter(|(fault, _)| wanted(fault)) {
            let number = *met;
            *met = met.saturating_add(1);
            let begun = number >= fault.skip;
            let over = fault
                .times
                .is_some_and(|times| number >= fault.skip.saturating_add(times));
            if begun && !over {
                return Some(fault.action.clone());
            }
        }
        None
    }
}

fn is_of_connection(fault: &Fault) -> bool {
    matches!(fault.action, FaultAction::SlowTls(_))
        || (matches!(fault.action, FaultAction::Refuse) && fault.matches.is_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_counts_and_matches() {
        let mut script = Script::default();
        script.add(
            Fault::new(FaultAction::Garbage)
                .method("GET")
                .path("/api")
                .skip(1)
                .times(2),
        );
        let mut get = Head::default();
        "GET".clone_into(&mut get.method);
        "/api/v1".clone_into(&mut get.path);
        let mut put = get.clone();
        "PUT".clone_into(&mut put.method);
        let hit = |script: &mut Script, head: &Head| script.of_request(head).is_some();
        assert!(!hit(&mut script, &get) && !hit(&mut script, &put));
        assert!(hit(&mut script, &get) && hit(&mut script, &get));
        assert!(!hit(&mut script, &get));
        assert!(script.of_connection().is_none());
    }
}
