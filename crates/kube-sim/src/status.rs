//! Answers, and the errors among them: the `Status` object of the Kubernetes API in the words of a real server.
//!
//! See <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>.

use crate::json::{Json, object};
use crate::list::Items;
use crate::watch::Watch;

/// What is answered to a request.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

/// The body of an answer.
pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// Written while it is sent, an item at a time.
    Items(Items),
    /// A stream of events.
    Watch(Watch),
}

/// The media type of nearly everything.
pub(crate) const JSON: &str = "application/json";
/// The media type of what is not an API object.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

impl Answer {
    /// An object, compact and with a newline at its end.
    pub(crate) fn json(status: u16, json: &Json) -> Self {
        let mut body = json.to_bytes();
        body.push(b'\n');
        Self::bytes(status, JSON, body)
    }

    /// Plain text, as the server sends it for what is not an API object.
    pub(crate) fn text(status: u16, text: &str) -> Self {
        let mut answer = Self::bytes(status, TEXT, text.as_bytes().to_vec());
        answer
            .headers
            .push(("X-Content-Type-Options", "nosniff".to_owned()));
        answer
    }

    /// The 404 of a path or an API group that nobody serves.
    pub(crate) fn no_such_path() -> Self {
        Self::text(404, "404 page not found\n")
    }

    pub(crate) fn bytes(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            body: Body::Bytes(body),
        }
    }

    /// Indents a JSON body.
    pub(crate) fn pretty(mut self) -> Self {
        if let (Body::Bytes(body), JSON) = (&mut self.body, self.content_type)
            && let Ok(json) = Json::parse(body)
        {
            body.clear();
            json.write_pretty(0, body);
        }
        self
    }
}

/// A failure, as the API server reports it.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) code: u16,
    reason: &'static str,
    message: String,
    details: Option<Json>,
    continue_token: Option<String>,
    retry_after: Option<u32>,
    nosniff: bool,
    /// Written with indentation whatever was asked for.
    pretty: bool,
}

/// One of the things that are wrong with an object.
#[derive(Debug)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) field: String,
}

impl Cause {
    pub(crate) fn new(
        reason: &'static str,
        message: impl Into<String>,
        field: impl Into<String>,
    ) -> Self {
        Self {
            reason,
            message: message.into(),
            field: field.into(),
        }
    }

    fn json(&self) -> Json {
        let mut json = object! { "reason" => self.reason, "message" => self.message.as_str() };
        if !self.field.is_empty() {
            json.set("field", self.field.as_str());
        }
        json
    }
}

impl Status {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            continue_token: None,
            retry_after: None,
            nosniff: false,
            pretty: false,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// A 500 as the server gives it for errors it does not know: without a reason.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// Refused by the authorizer.
    pub(crate) fn unauthorized_user(mut self) -> Self {
        self.nosniff = true;
        self
    }

    /// Refused by the same rules, but later: without the authorizer's header.
    pub(crate) fn by_admission(mut self) -> Self {
        self.nosniff = false;
        self
    }

    /// 403 with the name of what was refused.
    pub(crate) fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let what = if name.is_empty() {
            qualified(group, plural)
        } else {
            format!("{} {}", qualified(group, plural), quote(name))
        };
        Self::new(403, "Forbidden", format!("{what} is forbidden: {why}"))
            .with_details(details(group, plural, name))
    }

    pub(crate) fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualified(group, plural), quote(name));
        Self::new(404, "NotFound", message).with_details(details(group, plural, name))
    }

    /// 404 for a resource that is not served in a group that is.
    pub(crate) fn no_such_resource() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .with_details(Json::object())
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message).with_details(Json::object())
    }

    pub(crate) fn not_acceptable(available: &str) -> Self {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {available}");
        let mut status = Self::new(406, "NotAcceptable", message).with_details(Json::object());
        status.pretty = true;
        status
    }

    pub(crate) fn unsupported_media_type(accepted: Option<&str>) -> Self {
        match accepted {
            Some(accepted) => Self::new(
                415,
                "UnsupportedMediaType",
                format!(
                    "the body of the request was in an unknown format - accepted media types include: {accepted}"
                ),
            ),
            None => Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type")
                .with_details(Json::object()),
        }
    }

    pub(crate) fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!(
            "{} {} already exists",
            qualified(group, plural),
            quote(name)
        );
        Self::new(409, "AlreadyExists", message).with_details(details(group, plural, name))
    }

    /// 409: somebody else has written in the meantime.
    pub(crate) fn modified(group: &str, plural: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, plural, name, why)
    }

    pub(crate) fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {}: {why}",
            qualified(group, plural),
            quote(name)
        );
        Self::new(409, "Conflict", message).with_details(details(group, plural, name))
    }

    pub(crate) fn expired(message: &str, continue_token: Option<String>) -> Self {
        let mut status = Self::new(410, "Expired", message);
        status.continue_token = continue_token;
        status
    }

    pub(crate) fn too_large() -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 3145728",
        )
    }

    /// 422 with what is wrong, `kind` with its group where the server says it.
    pub(crate) fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let what: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let what = if what.len() == 1 {
            what.concat()
        } else {
            format!("[{}]", what.join(", "))
        };
        let message = format!(
            "{} {} is invalid: {what}",
            qualified(group, kind),
            quote(name)
        );
        let mut details = details(group, kind, name);
        details.set("causes", causes.iter().map(Cause::json).collect::<Vec<_>>());
        Self::new(422, "Invalid", message).with_details(details)
    }

    pub(crate) fn with_details(mut self, details: Json) -> Self {
        self.details = Some(details);
        self
    }

    pub(crate) fn with_causes(mut self, causes: &[Cause]) -> Self {
        let mut details = self.details.take().unwrap_or(Json::object());
        details.set("causes", causes.iter().map(Cause::json).collect::<Vec<_>>());
        self.details = Some(details);
        self
    }

    /// With the header `Retry-After` and its field in the details.
    pub(crate) fn with_retry_after(mut self, seconds: u32) -> Self {
        let mut details = self.details.take().unwrap_or(Json::object());
        details.set("retryAfterSeconds", i64::from(seconds));
        self.details = Some(details);
        self.retry_after = Some(seconds);
        self
    }

    /// The `Status` object.
    pub(crate) fn json(&self) -> Json {
        let mut metadata = Json::object();
        if let Some(token) = &self.continue_token {
            metadata.set("continue", token.as_str());
        }
        let mut json = object! {
            "kind" => "Status", "apiVersion" => "v1", "metadata" => metadata, "status" => "Failure",
            "message" => self.message.as_str(),
        };
        if !self.reason.is_empty() {
            json.set("reason", self.reason);
        }
        if let Some(details) = &self.details {
            json.set("details", details.clone());
        }
        json.set("code", i64::from(self.code));
        json
    }
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        let mut answer = Answer::json(status.code, &status.json());
        if status.nosniff {
            answer
                .headers
                .push(("X-Content-Type-Options", "nosniff".to_owned()));
        }
        if let Some(seconds) = status.retry_after {
            answer.headers.push(("Retry-After", seconds.to_string()));
        }
        if status.pretty {
            answer.pretty()
        } else {
            answer
        }
    }
}

/// The `details` of a status.
pub(crate) fn details(group: &str, kind: &str, name: &str) -> Json {
    let mut details = Json::object();
    for (field, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.set(field, value);
        }
    }
    details
}

/// `configmaps`, or `deployments.apps`.
pub(crate) fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

/// A string in Go's quotes.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if char < ' ' || char == '\u{7f}' => {
                out.push_str(&format!("\\x{:02x}", u32::from(char)));
            }
            char if char.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}
