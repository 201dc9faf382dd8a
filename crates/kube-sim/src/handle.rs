//! From a request to its answer: who asks, may they, what is there, and who handles it.

use crate::accept;
use crate::discovery;
use crate::kinds::Kind;
use crate::list;
use crate::metrics::{self, Metrics};
use crate::rbac::{ANONYMOUS, Attributes};
use crate::request::{Incoming, Target};
use crate::reviews;
use crate::server::Shared;
use crate::status::{Answer, JSON, Status};
use crate::watch;
use crate::write;

const READYZ: &str = include_str!("../recorded/readyz-verbose.txt");

/// Answers a request.
pub(crate) fn handle(shared: &Shared, request: &mut Incoming<'_>) -> Answer {
    let answer = authenticate(shared, request)
        .and_then(|()| {
            let wanted = Attributes::of(&request.info);
            if shared.allows(&request.user, &wanted) {
                Ok(())
            } else {
                Err(wanted.forbidden(&request.user))
            }
        })
        .and_then(|()| route(shared, request));
    let status_pretty = accept::only_other_forms(&request.head);
    let pretty = accept::pretty(&request.head, request.params.get("pretty"));
    match answer {
        Ok(answer) if pretty => indent(answer),
        Ok(answer) => answer,
        Err(status) if (pretty || status_pretty) && status.code != 401 => {
            Answer::from(status).pretty()
        }
        Err(status) => status.into(),
    }
}

fn authenticate(shared: &Shared, request: &mut Incoming<'_>) -> Result<(), Status> {
    let Some(credentials) = request.head.header("authorization") else {
        ANONYMOUS.clone_into(&mut request.user);
        return Ok(());
    };
    let token = credentials.strip_prefix("Bearer ").map(str::trim);
    match token.and_then(|token| shared.user_of(token)) {
        Some(user) => {
            request.user = user;
            Ok(())
        }
        None => Err(Status::unauthorized()),
    }
}

fn route(shared: &Shared, request: &mut Incoming<'_>) -> Result<Answer, Status> {
    let Some(target) = request.info.target.clone() else {
        return other_path(shared, request);
    };
    if target.group == metrics::GROUP {
        return match shared.controls().metrics {
            Metrics::Absent => Ok(Answer::no_such_path()),
            Metrics::Broken => Ok(metrics::broken()),
            Metrics::Present if target.version != metrics::VERSION => {
                Err(Status::no_such_resource())
            }
            Metrics::Present => {
                metrics::answer(shared, &request.info.verb, &target, &request.params)
            }
        };
    }
    if !shared.kinds.has_group(&target.group) {
        return Ok(Answer::no_such_path());
    }
    let kind = shared
        .kinds
        .find(&target.group, &target.version, &target.resource)
        .ok_or_else(Status::no_such_resource)?;
    // A namespaced resource by name needs the namespace in the path.
    if (kind.namespaced && target.named && target.namespace.is_empty())
        || (!kind.namespaced && !target.namespace.is_empty() && kind.plural != "namespaces")
    {
        return Err(Status::no_such_resource());
    }
    dispatch(shared, request, kind, &target)
}

fn dispatch(
    shared: &Shared,
    request: &mut Incoming<'_>,
    kind: &Kind,
    target: &Target,
) -> Result<Answer, Status> {
    if request.head.method == "HEAD" {
        return Err(Status::method_not_allowed());
    }
    let verb = request.info.verb.clone();
    if !kind.verbs.contains(&verb) {
        return Err(Status::method_not_allowed());
    }
    let status = target.subresource == "status";
    if !target.subresource.is_empty() && !status {
        return Err(Status::no_such_resource());
    }
    match (verb.as_str(), target.named) {
        ("list", false) => list::list(shared, request, kind, target),
        ("watch", false) => watch::watch(shared, request, kind, target),
        ("get", true) => list::get(shared, request, kind, target),
        ("create", false) if kind.namespaced && target.namespace.is_empty() => {
            Err(Status::method_not_allowed())
        }
        ("create", false) => match reviews::review(shared, request, kind) {
            Some(answer) => answer,
            None => write::create(shared, request, kind, target),
        },
        ("update", true) => write::replace(shared, request, kind, target),
        ("patch", true) => write::patch(shared, request, kind, target),
        ("delete", true) if !status => write::delete(shared, request, kind, target),
        ("deletecollection", false) => write::delete_collection(shared, request, kind, target),
        _ => Err(Status::method_not_allowed()),
    }
}

fn other_path(shared: &Shared, request: &Incoming<'_>) -> Result<Answer, Status> {
    let head = &request.head;
    let parts: Vec<&str> = head.path.trim_end_matches('/').split('/').skip(1).collect();
    let answer = match parts.as_slice() {
        ["version"] => version(shared),
        ["livez" | "readyz"] if request.params.get("verbose").is_some() => Answer::text(
            200,
            &READYZ.replace("readyz", parts.first().copied().unwrap_or_default()),
        ),
        ["healthz" | "livez" | "readyz"] => Answer::text(200, "ok"),
        ["api"] => discovery::core(shared, head),
        ["apis"] => discovery::groups(shared, head),
        ["api", version] => discovery::resources(shared, "", version),
        ["apis", group] => discovery::group(shared, group),
        ["apis", metrics::GROUP, metrics::VERSION] => match shared.controls().metrics {
            Metrics::Absent => Answer::no_such_path(),
            Metrics::Present => metrics::resources(),
            Metrics::Broken => metrics::broken(),
        },
        ["apis", group, version] => discovery::resources(shared, group, version),
        _ => return Ok(Answer::no_such_path()),
    };
    if head.method == "GET" {
        Ok(answer)
    } else {
        Err(Status::method_not_allowed())
    }
}

/// `/version`, indented for everybody.
fn version(shared: &Shared) -> Answer {
    let git = &shared.options.kubernetes_version;
    let mut numbers = git.trim_start_matches('v').split('.');
    let major = numbers.next().unwrap_or("1");
    let minor: u32 = numbers
        .next()
        .and_then(|minor| minor.parse().ok())
        .unwrap_or(36);
    let older = minor.saturating_sub(1);
    let text = format!(
        r#"{{
  "major": "{major}",
  "minor": "{minor}",
  "emulationMajor": "{major}",
  "emulationMinor": "{minor}",
  "minCompatibilityMajor": "{major}",
  "minCompatibilityMinor": "{older}",
  "gitVersion": "{git}",
  "gitCommit": "98b35193b2ac7a23a673325f5e9b830ecd5ba406",
  "gitTreeState": "clean",
  "buildDate": "2026-08-21T00:00:00Z",
  "goVersion": "go1.26.6",
  "compiler": "gc",
  "platform": "linux/amd64"
}}"#
    );
    Answer::bytes(200, JSON, text.into_bytes())
}

/// Indents what is an API object; lists are gathered for it.
fn indent(mut answer: Answer) -> Answer {
    if let crate::status::Body::Items(items) = &answer.body {
        answer.body = crate::status::Body::Bytes(items.to_bytes());
    }
    answer.pretty()
}
