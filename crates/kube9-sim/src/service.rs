//! How a request gets its answer.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kube_sim::FaultAction;
use kube_sim::wire::{After, Conn, Frame, Head, Out, Reply, Service, Unread, after, is_length};
use rustls::ServerConfig;

use crate::call::Call;
use crate::check;
use crate::request::Request;
use crate::state::State;

/// What all connections share.
pub(crate) struct Shared {
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for Shared {
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.state().tls()
    }

    fn connection_fault(&self) -> Option<FaultAction> {
        self.state().script.of_connection()
    }

    fn idle_timeout(&self) -> Duration {
        self.state().options.idle_timeout
    }

    fn answer(&self, conn: &mut Conn, head: Head) -> After {
        let limit = self.state().options.body_limit;
        let mut unread = head.unread();
        let mut body = Vec::new();
        let read = read_body(conn, &head, &mut unread, limit, &mut body);
        let complete = read.is_ok() && unread == Unread::Length(0);
        let checked = check::check(&head, &body, complete);
        let (number, fault) = {
            let mut state = self.state();
            let fault = state.script.of_request(&head);
            let number = state.note(&checked, request(&head, body, complete));
            (number, fault)
        };
        let outcome = if read.is_err() {
            Err(After::Abort)
        } else {
            self.outcome(conn, fault.as_ref(), &checked, unread)
        };
        let next = match outcome {
            Err(next) => next,
            Ok(content) => {
                let status = content.as_ref().map_or(200, |reply| reply.status);
                self.state()
                    .log
                    .change(number, |request| request.status = status);
                send(conn, &head, content, fault.as_ref(), unread)
            }
        };
        let sent = conn.sent;
        let log = &mut self.state().log;
        log.done(number, |request| request.response_bytes = sent);
        next
    }

    fn no_request(&self, bytes: &[u8], problem: Option<&str>) {
        let mut violations = Vec::new();
        // A client that greets in TLS does what the URL says, whatever is spoken here.
        if let Some(problem) = problem
            && !bytes.starts_with(b"\x16\x03")
        {
            violations.push(format!("no request: {problem}"));
        }
        let mut request = request(&Head::default(), Vec::new(), false);
        request.head = bytes.to_vec();
        request.violations.clone_from(&violations);
        let mut state = self.state();
        let number = state.log.begin(request);
        state.log.done(number, |_| {});
        state.violations.append(&mut violations);
    }
}

impl Shared {
    /// The answer, `None` for one without end; or what becomes of the connection without one.
    fn outcome(
        &self,
        conn: &mut Conn,
        fault: Option<&FaultAction>,
        checked: &check::Checked,
        unread: Unread,
    ) -> Result<Option<Reply>, After> {
        if let Some(next) = fault.and_then(|fault| fault.before_answer(conn)) {
            return Err(next);
        }
        if let Some(reply) = fault.and_then(FaultAction::reply) {
            return Ok(Some(reply));
        }
        if matches!(fault, Some(FaultAction::EndlessBody)) {
            return Ok(None);
        }
        let reply = self.state().handle(checked, unread != Unread::Length(0));
        if matches!(fault, Some(FaultAction::LoseAnswer)) {
            return Err(After::Abort);
        }
        Ok(Some(reply))
    }
}

fn read_body(
    conn: &mut Conn,
    head: &Head,
    unread: &mut Unread,
    limit: usize,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    if head.expects_continue() {
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    conn.read_body(unread, limit, body)
}

fn request(head: &Head, body: Vec<u8>, complete: bool) -> Request {
    Request {
        at: SystemTime::now(),
        call: Call::of_path(&head.path),
        method: head.method.clone(),
        path: head.path.clone(),
        query: head.query.clone(),
        head: head.raw.clone(),
        body,
        complete,
        status: 0,
        response_bytes: 0,
        violations: Vec::new(),
    }
}

fn send(
    conn: &mut Conn,
    head: &Head,
    content: Option<Reply>,
    fault: Option<&FaultAction>,
    unread: Unread,
) -> After {
    let endless = content.is_none();
    let reply = content.unwrap_or_else(|| Reply::new(200, "application/json", Vec::new()));
    let mut headers = reply.headers;
    // After a length that is not true nobody knows where the next answer begins.
    let length = reply.body.len().to_string();
    let lies = |(name, value): &(String, String)| is_length(name) && *value != length;
    let close = head.wants_close() || unread.too_much_to_drain() || headers.iter().any(lies);
    headers.push(("Content-Type".to_owned(), reply.content_type));
    let frame = Frame {
        close,
        ..Frame::new(head, reply.status, &headers, fault)
    };
    let mut out = Out::new(conn, frame);
    let sent = if endless {
        out.endless(
            br#"{"insights":["#,
            br#"{"id":"ins_again","severity":"info","title":"again","createdAt":"2026-01-01T00:00:00Z"},"#,
        )
    } else {
        out.write(&reply.body).and_then(|()| out.finish())
    };
    after(conn, &sent, fault, (!close).then_some(unread))
}
