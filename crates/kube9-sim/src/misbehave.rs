//! What a server of this kind does when it misbehaves.

use kube_sim::FaultAction;
use serde_json::{Value, json};

/// Any status, with a message as this server words one.
#[must_use]
pub fn status(code: u16, message: &str) -> FaultAction {
    answer(
        code,
        &json!({"error": code.to_string(), "message": message}),
    )
}

/// Any status and any JSON; 200 makes right JSON of the wrong shape.
#[must_use]
pub fn answer(code: u16, body: &Value) -> FaultAction {
    raw(code, &[], "application/json", &body.to_string())
}

/// Any status, headers and body.
#[must_use]
pub fn raw(code: u16, headers: &[(&str, &str)], content_type: &str, body: &str) -> FaultAction {
    let headers = headers.iter();
    FaultAction::Status {
        code,
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body.to_owned(),
        content_type: content_type.to_owned(),
    }
}

/// 429, with any `Retry-After`: seconds, a date, or nonsense.
#[must_use]
pub fn limited(retry_after: Option<&str>) -> FaultAction {
    let headers: Vec<_> = retry_after
        .map(|value| ("Retry-After", value))
        .into_iter()
        .collect();
    let body = r#"{"error":"rate_limited","message":"Too many requests"}"#;
    raw(429, &headers, "application/json", body)
}

/// 301 to another address.
#[must_use]
pub fn redirect(location: &str) -> FaultAction {
    raw(
        301,
        &[("Location", location)],
        "text/html",
        "<h1>Moved</h1>",
    )
}

/// Good JSON, and more of it than a client takes: a little over 4 MiB, in chunks.
#[must_use]
pub fn oversized() -> FaultAction {
    raw(200, &[], "application/json", &much())
}

/// The same, and the header says at once how much it is.
#[must_use]
pub fn oversized_with_length() -> FaultAction {
    let body = much();
    with_length(body.len(), &body)
}

/// 200, a JSON body, and this length in the header, right or wrong.
#[must_use]
pub fn with_length(length: usize, body: &str) -> FaultAction {
    let length = length.to_string();
    let headers = [("Content-Length", length.as_str())];
    raw(200, &headers, "application/json", body)
}

/// An error message that repeats the key.
#[must_use]
pub fn echo(code: u16, key: &str) -> FaultAction {
    status(code, &format!("the key {key} (Bearer {key}) is not valid"))
}

/// The page of a proxy on the way, in place of the server's own answer.
#[must_use]
pub fn proxy_page(code: u16) -> FaultAction {
    let body = format!("<html><head><title>{code}</title></head><body>nginx</body></html>\r\n");
    raw(code, &[], "text/html", &body)
}

fn much() -> String {
    json!({"insights": [], "message": "x".repeat(4 << 20)}).to_string()
}
