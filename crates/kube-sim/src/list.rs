//! Lists and single objects: pages, continue tokens, counts, and the forms in which objects are shown.
//!
//! See <https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks>.

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

use crate::accept::{self, Form};
use crate::events;
use crate::json::{Json, object, write_string};
use crate::kinds::Kind;
use crate::out::Out;
use crate::request::{Incoming, Params, Target};
use crate::selector::Selector;
use crate::server::Shared;
use crate::status::{Answer, Body, Cause, JSON, Status, quote};
use crate::store::{self, Entry, Range, Store};

/// As lenient with the last bits as Go is.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    NO_PAD.with_decode_allow_trailing_bits(true),
);

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a \
    new list without the continue parameter, or use the continue token in this response to retrieve the remainder of \
    the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
    modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// A list being written.
pub(crate) struct Items {
    before: Vec<u8>,
    entries: Vec<Entry>,
    view: View,
    after: &'static [u8],
}

/// How objects of a kind are shown.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) kind: String,
    pub(crate) api_version: String,
    pub(crate) metadata_only: bool,
    new_events: bool,
}

/// Answers a list.
pub(crate) fn list(
    shared: &Shared,
    request: &Incoming<'_>,
    kind: &Kind,
    target: &Target,
) -> Result<Answer, Status> {
    let form = accept::form(&request.head, true)?;
    if form == Form::Metadata {
        return Err(Status::not_acceptable(
            "you requested PartialObjectMetadata, but the requested object is a list",
        ));
    }
    let params = &request.params;
    let options = Options::new(params, kind)?;
    let prefix = if target.namespace.is_empty() {
        String::new()
    } else {
        format!("{}/", target.namespace)
    };

    let mut store = shared.store();
    let (revision, from) = options.position(&mut store, shared.options.continue_ttl, &prefix)?;

    let selector = &options.selector;
    let wanted = |entry: &Entry| {
        let object = entry.object();
        selector.matches(object.json(), &object.namespace, &object.name)
    };
    let range = Range {
        collection: &kind.collection(),
        prefix: &prefix,
        from: &from,
        limit: options.limit,
        revision,
    };
    let page = if selector.is_empty() {
        store.range(&range, None)
    } else {
        store.range(&range, Some(&wanted))
    };
    let mut metadata = object! { "resourceVersion" => revision.to_string() };
    let last = page.entries.last().filter(|_| page.remaining > 0);
    if let Some(last) = last {
        let key = last.key();
        let slash = if kind.is_events() { "" } else { "/" };
        let start = format!(
            "{slash}{}\0",
            key.strip_prefix(prefix.as_str()).unwrap_or(&key)
        );
        store.issue(revision);
        metadata.set(
            "continue",
            encode(i64::try_from(revision).unwrap_or(i64::MAX), &start),
        );
        if selector.is_empty() {
            metadata.set(
                "remainingItemCount",
                i64::try_from(page.remaining).unwrap_or(i64::MAX),
            );
        }
    }
    drop(store);

    let view = View::new(kind, form);
    let (list_kind, list_version) = if view.metadata_only {
        (
            "PartialObjectMetadataList".to_owned(),
            "meta.k8s.io/v1".to_owned(),
        )
    } else {
        (format!("{}List", kind.name), kind.api_version.clone())
    };
    let mut before =
        object! { "kind" => list_kind, "apiVersion" => list_version, "metadata" => metadata }
            .to_bytes();
    before.pop();
    before.extend_from_slice(b",\"items\":[");
    let items = Items {
        before,
        entries: page.entries,
        view,
        after: b"]}\n",
    };
    let mut answer = Answer {
        status: 200,
        content_type: JSON,
        headers: Vec::new(),
        body: Body::Items(items),
    };
    answer.headers.extend(warning(kind));
    Ok(answer)
}

/// Answers a get.
pub(crate) fn get(
    shared: &Shared,
    request: &Incoming<'_>,
    kind: &Kind,
    target: &Target,
) -> Result<Answer, Status> {
    let form = accept::form(&request.head, false)?;
    let key = store::key(
        if kind.namespaced {
            &target.namespace
        } else {
            ""
        },
        &target.name,
    );
    let object = shared.store().get(&kind.collection(), &key);
    let object =
        object.ok_or_else(|| Status::not_found(&kind.group, &kind.plural, &target.name))?;
    single(200, kind, form, &object)
}

/// An answer with one object.
pub(crate) fn single(
    status: u16,
    kind: &Kind,
    form: Form,
    object: &store::Object,
) -> Result<Answer, Status> {
    if form == Form::MetadataList {
        let why = "you requested PartialObjectMetadataList, but the requested object is not a list";
        return Err(Status::not_acceptable(why));
    }
    let mut body = Vec::with_capacity(object.text.len() + 64);
    View::new(kind, form).write_object(&object.text, &mut body);
    body.push(b'\n');
    let mut answer = Answer::bytes(status, JSON, body);
    answer.headers.extend(warning(kind));
    Ok(answer)
}

impl Items {
    /// Writes the list, an item at a time.
    pub(crate) fn send(&self, out: &mut Out<'_>) -> io::Result<()> {
        out.write(&self.before)?;
        let mut text = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            text.clear();
            if index > 0 {
                text.push(b',');
            }
            match entry {
                Entry::Object(object) => self.view.write_item(&object.text, &mut text),
                Entry::Pod(pods, index) if !self.view.metadata_only => {
                    pods.write(*index, &mut text);
                }
                Entry::Pod(..) => self.view.write_item(&entry.object().text, &mut text),
            }
            out.write(&text)?;
        }
        out.write(self.after)
    }

    /// The list as text, for what must be changed before it is sent.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut body = self.before.clone();
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            self.view.write_item(&entry.object().text, &mut body);
        }
        body.extend_from_slice(self.after);
        body
    }
}

impl View {
    pub(crate) fn new(kind: &Kind, form: Form) -> Self {
        let metadata_only = form != Form::Full;
        Self {
            kind: if metadata_only {
                "PartialObjectMetadata".to_owned()
            } else {
                kind.name.clone()
            },
            api_version: if metadata_only {
                "meta.k8s.io/v1".to_owned()
            } else {
                kind.api_version.clone()
            },
            metadata_only,
            new_events: kind.is_new_events(),
        }
    }

    /// Writes an object as an item of a list.
    fn write_item(&self, text: &[u8], out: &mut Vec<u8>) {
        if self.metadata_only {
            self.write_object(text, out);
        } else if self.new_events {
            out.extend_from_slice(&events::to_new(text));
        } else {
            out.extend_from_slice(text);
        }
    }

    /// Writes an object by itself, with kind and apiVersion.
    pub(crate) fn write_object(&self, text: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"kind\":");
        write_string(&self.kind, out);
        out.extend_from_slice(b",\"apiVersion\":");
        write_string(&self.api_version, out);
        out.push(b',');
        if self.metadata_only {
            out.extend_from_slice(b"\"metadata\":");
            out.extend_from_slice(store::metadata(text));
            out.push(b'}');
        } else if self.new_events {
            out.extend_from_slice(&events::to_new(text)[1..]);
        } else {
            out.extend_from_slice(&text[1..]);
        }
    }
}

/// What a list asks for.
struct Options {
    limit: usize,
    token: Option<Token>,
    revision: u64,
    exact: bool,
    selector: Selector,
}

struct Token {
    /// `None` goes on at the present revision.
    revision: Option<u64>,
    start: String,
}

impl Options {
    fn new(params: &Params, kind: &Kind) -> Result<Self, Status> {
        let number = |name: &str| match params.text(name) {
            "" => Ok(0),
            text => text
                .parse::<i64>()
                .map_err(|_| Status::bad_request(parse_error("ParseInt", text))),
        };
        let limit = number("limit")?;
        number("timeoutSeconds")?;
        let selector = Selector::new(params, &kind.group, &kind.plural)?;
        let version = params.text("resourceVersion");
        let matching = params.text("resourceVersionMatch");
        if !matching.is_empty() && version.is_empty() {
            let why =
                "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(invalid_options(why));
        }
        let revision = if version.is_empty() {
            0
        } else {
            parse_revision(version)
                .map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?
        };
        let from_memory = version == "0" && matching != "Exact" && !kind.is_events();
        let token = match params.text("continue") {
            "" => None,
            _ if !version.is_empty() && version != "0" => {
                let why = "specifying resource version is not allowed when using continue";
                return Err(Status::bad_request(why));
            }
            text => Some(decode(text).map_err(|why| {
                Status::bad_request(format!(
                    "invalid continue token: continue key is not valid: {why}"
                ))
            })?),
        };
        Ok(Self {
            limit: if from_memory {
                usize::MAX
            } else {
                usize::try_from(limit)
                    .ok()
                    .filter(|&l| l > 0)
                    .unwrap_or(usize::MAX)
            },
            exact: matching == "Exact",
            token,
            revision,
            selector,
        })
    }
}

impl Options {
    /// The revision to read at, and the first key.
    fn position(
        &self,
        store: &mut Store,
        ttl: Option<Duration>,
        prefix: &str,
    ) -> Result<(u64, String), Status> {
        let current = store.fresh_revision(ttl);
        if let Some(token) = &self.token {
            let start = token.start.trim_start_matches('/');
            let from = format!("{prefix}{start}");
            return match token.revision {
                Some(wanted) if store.is_compacted(wanted, ttl) => {
                    Err(Status::expired(EXPIRED, Some(encode(-1, start))))
                }
                wanted => Ok((wanted.unwrap_or(current), from)),
            };
        }
        if self.exact && self.revision < current {
            if store.is_compacted(self.revision, None) {
                let why = "The resourceVersion for the provided list is too old.";
                return Err(Status::expired(why, None));
            }
            return Ok((self.revision, String::new()));
        }
        if self.revision > current {
            // A real server waits three seconds for the revision to come.
            return Err(too_large(self.revision, current));
        }
        Ok((current, String::new()))
    }
}

/// Reads a resourceVersion, or says what Go says.
pub(crate) fn parse_revision(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        format!(
            "resourceVersion: Invalid value: {}: {}",
            quote(text),
            parse_error("ParseUint", text)
        )
    })
}

/// 422 for options that exclude each other.
pub(crate) fn invalid_options(why: &str) -> Status {
    Status::invalid(
        "meta.k8s.io",
        "ListOptions",
        "",
        &[Cause::new(
            "FieldValueForbidden",
            why,
            "resourceVersionMatch",
        )],
    )
}

fn parse_error(function: &str, text: &str) -> String {
    format!(
        "strconv.{function}: parsing {}: invalid syntax",
        quote(text)
    )
}

fn too_large(wanted: u64, current: u64) -> Status {
    let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
    Status::new(504, "Timeout", message)
        .with_causes(&[Cause::new(
            "ResourceVersionTooLarge",
            "Too large resource version",
            "",
        )])
        .with_retry_after(1)
}

fn encode(revision: i64, start: &str) -> String {
    let token = object! { "v" => "meta.k8s.io/v1", "rv" => revision, "start" => start };
    BASE64.encode(token.to_bytes())
}

fn decode(text: &str) -> Result<Token, String> {
    let bytes = BASE64
        .decode(text)
        .map_err(|_| "illegal base64 data at input byte 0".to_owned())?;
    let json = Json::parse(&bytes).map_err(|_| match bytes.first() {
        None => "unexpected end of JSON input".to_owned(),
        Some(byte @ 0x20..0x7f) => format!(
            "invalid character '{}' looking for beginning of value",
            char::from(*byte)
        ),
        Some(byte) => format!("invalid character '\\u{byte:04x}' looking for beginning of value"),
    })?;
    let version = json.text(&["v"]).unwrap_or_default();
    if version != "meta.k8s.io/v1" {
        return Err(format!(
            "server does not recognize this encoded version {version}"
        ));
    }
    let revision = match json.get("rv") {
        Some(Json::Number(number)) => number.as_i64().unwrap_or(0),
        _ => 0,
    };
    if revision == 0 {
        return Err("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned());
    }
    let start = json.text(&["start"]).unwrap_or_default();
    if start.is_empty() {
        return Err("incorrect encoded start key (version meta.k8s.io/v1)".to_owned());
    }
    Ok(Token {
        revision: u64::try_from(revision).ok(),
        start: start.to_owned(),
    })
}

/// The warning of a deprecated API.
fn warning(kind: &Kind) -> Option<(&'static str, String)> {
    let text = match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "endpoints") => {
            "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
        }
        ("", "componentstatuses") => "v1 ComponentStatus is deprecated in v1.19+",
        _ => return None,
    };
    Some(("Warning", format!("299 - \"{text}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_a_real_server() {
        let real = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MzM5OCwic3RhcnQiOiIvYXBpL2FwaS01YzY4ZDc2YzU3LXQ2NDl2XHUwMDAwIn0";
        assert_eq!(encode(3398, "/api/api-5c68d76c57-t649v\0"), real);
        let token = decode(real).unwrap();
        assert_eq!(
            (token.revision, token.start.as_str()),
            (Some(3398), "/api/api-5c68d76c57-t649v\0")
        );
        assert_eq!(
            decode("eyJ2IjoiIn0").err().unwrap(),
            "server does not recognize this encoded version "
        );
        for text in ["", "?", "e30", "not-a-token", "bnVsbA"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
