//! Creating, replacing, patching, applying and deleting objects.
//!
//! ConfigMaps are checked as a real server checks them; objects of other kinds are taken as they are, apart from their
//! metadata. See <https://kubernetes.io/docs/reference/using-api/api-concepts/#single-resource-api>.

use crate::accept;
use crate::apply::{Managers, Writer, tidy};
use crate::configmap;
use crate::json::{Json, object};
use crate::kinds::Kind;
use crate::list;
use crate::metadata;
use crate::patch;
use crate::rbac::Attributes;
use crate::request::{Incoming, Target};
use crate::selector::Selector;
use crate::server::Shared;
use crate::status::{Answer, Cause, Status, quote};
use crate::store::{self, Entry, Object, Range, Store};

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// A write under way.
struct Write<'a> {
    kind: &'a Kind,
    target: &'a Target,
    manager: String,
    dry_run: bool,
    time: String,
    warnings: Vec<String>,
}

/// Answers a create.
pub(crate) fn create(
    shared: &Shared,
    request: &mut Incoming<'_>,
    kind: &Kind,
    target: &Target,
) -> Result<Answer, Status> {
    let form = accept::form(&request.head, false)?;
    let mut write = Write::new(request, kind, target, "CreateOptions")?;
    let mut json = write.decode(request)?;
    write.check_names(&mut json, None)?;
    let mut store = shared.store();
    let name = json
        .text(&["metadata", "name"])
        .unwrap_or_default()
        .to_owned();
    write.check_namespace(&store, &name)?;
    let name = write.name_of(&mut json)?;
    write.validate(&json, &name)?;
    let key = store::key(write.namespace(), &name);
    if store.get(&kind.collection(), &key).is_some() {
        return Err(Status::already_exists(&kind.group, &kind.plural, &name));
    }
    metadata::begin(&mut json, &write.time);
    let mut managers = Managers::default();
    managers.update(&Json::object(), &json, &write.writer());
    let object = write.store(shared, &mut store, json, managers);
    write.answer(201, form, &object)
}

/// Answers a replace.
pub(crate) fn replace(
    shared: &Shared,
    request: &mut Incoming<'_>,
    kind: &Kind,
    target: &Target,
) -> Result<Answer, Status> {
    let form = accept::form(&request.head, false)?;
    let mut write = Write::new(request, kind, target, "UpdateOptions")?;
    let mut json = write.decode(request)?;
    write.check_names(&mut json, Some(&target.name))?;
    let mut store = shared.store();
    let Some(live) = store.get(&kind.collection(), &write.key()) else {
        // Leases and Events may be made by a replace.
        if !matches!(kind.plural.as_str(), "leases" | "events") {
            return Err(Status::not_found(&kind.group, &kind.plural, &target.name));
        }
        write.check_namespace(&store, &target.name)?;
        write.validate(&json, &target.name)?;
        metadata::begin(&mut json, &write.time);
        let mut managers = Managers::default();
        managers.update(&Json::object(), &json, &write.writer());
        let object = write.store(shared, &mut store, json, managers);
        return write.answer(201, form, &object);
    };
    let version = json
        .text(&["metadata", "resourceVersion"])
        .unwrap_or_default()
        .to_owned();
    if version.is_empty() && kind.plural == "leases" {
        let why = "Invalid value: 0: must be specified for an update";
        let cause = Cause::new("FieldValueInvalid", why, "metadata.resourceVersion");
        return Err(Status::invalid(
            &kind.group,
            &kind.plural,
            &target.name,
            &[cause],
        ));
    }
    write.check_uid(&json, &live)?;
    write.finish_update(shared, &mut store, &live, json, form)
}

/// Answers a patch of any type.
pub(crate) fn patch(
    shared: &Shared,
    request: &mut Incoming<'_>,
    kind: &Kind,
    target: &Target,
) -> Result<Answer, Status> {
    let form = accept::form(&request.head, false)?;
    let content_type = request.head.header("content-type").unwrap_or_default();
    let content_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let write = match content_type.as_str() {
        "application/apply-patch+yaml"
        | "application/merge-patch+json"
        | "application/strategic-merge-patch+json"
        | "application/json-patch+json" => Write::new(request, kind, target, "PatchOptions")?,
        _ => return Err(Status::unsupported_media_type(None)),
    };
    if content_type == "application/apply-patch+yaml" {
        return apply(shared, request, &write, form);
    }
    let body = request.read_body()?;
    let change =
        Json::parse(&body).map_err(|error| Status::bad_request(patch::parse_error(&error)))?;
    let mut store = shared.store();
    let live = store.get(&kind.collection(), &write.key());
    let live = live.ok_or_else(|| Status::not_found(&kind.group, &kind.plural, &target.name))?;
    let json = if content_type == "application/json-patch+json" {
        patch::json_patch(live.json(), &change)?
    } else {
        patch::merge(live.json(), &change)
    };
    if json.text(&["metadata", "name"]) != Some(target.name.as_str()) {
        let cause = Cause::new(
            "FieldValueInvalid",
            "Invalid value: field is immutable",
            "metadata.name",
        );
        return Err(Status::invalid("", &kind.name, &target.name, &[cause]));
    }
    write.finish_update(shared, &mut store, &live, json, form)
}

fn apply(
    shared: &Shared,
    request: &mut Incoming<'_>,
    write: &Write<'_>,
    form: accept::Form,
) -> Result<Answer, Status> {
    let (kind, target) = (write.kind, write.target);
    let manager = request.params.text("fieldManager").to_owned();
    let bad_manager = |reason, why: &str| {
        Status::invalid(
            "meta.k8s.io",
            "PatchOptions",
            "",
            &[Cause::new(reason, why, "fieldManager")],
        )
    };
    if manager.is_empty() {
        return Err(bad_manager(
            "FieldValueRequired",
            "Required value: is required for apply patch",
        ));
    }
    let body = request.read_body()?;
    let mut config = Json::parse(&body)
        .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    let given = (
        config.text(&["apiVersion"]).unwrap_or_default(),
        config.text(&["kind"]).unwrap_or_default(),
    );
    if given != (kind.api_version.as_str(), kind.name.as_str()) {
        let (group, version) = given.0.split_once('/').unwrap_or(("", given.0));
        let message = if given.0.is_empty() {
            format!("invalid object type: /, Kind={}", given.1)
        } else {
            format!("invalid object type: {group}/{version}, Kind={}", given.1)
        };
        return Err(Status::bad_request(message));
    }
    if config
        .at(&["metadata", "managedFields"])
        .is_some_and(|fields| !fields.items().is_empty())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    write.check_names(&mut config, Some(&target.name))?;
    if kind.collection() == "configmaps" {
        configmap::check_schema(&config, &target.name)?;
    }
    config.remove("kind");
    config.remove("apiVersion");
    let mut store = shared.store();
    let live = store.get(&kind.collection(), &write.key());
    let Some(live) = live else {
        check_create(shared, request)?;
        write.check_namespace(&store, &target.name)?;
        let mut json = Json::object();
        json.set("metadata", object! { "name" => target.name.as_str() });
        if kind.namespaced {
            json.get_mut("metadata")
                .expect("just set")
                .set("namespace", target.namespace.as_str());
        }
        let mut managers = Managers::default();
        let mut json = managers.apply(&json, &config, &write.writer(), true)?;
        json.get_mut("metadata")
            .expect("it has one")
            .remove("resourceVersion");
        json.get_mut("metadata").expect("it has one").remove("uid");
        write.validate(&json, &target.name)?;
        metadata::begin(&mut json, &write.time);
        let object = write.store(shared, &mut store, json, managers);
        return write.answer(201, form, &object);
    };
    if let Some(version) = config.text(&["metadata", "resourceVersion"])
        && !version.is_empty()
        && version.parse() != Ok(live.revision())
    {
        return Err(Status::modified(&kind.group, &kind.plural, &target.name));
    }
    write.check_uid(&config, &live)?;
    let mut managers = Managers::of(live.json());
    let before = managers.clone();
    let merged = managers.apply(
        live.json(),
        &config,
        &write.writer(),
        request.params.flag("force"),
    )?;
    let json = metadata::carry(merged, live.json());
    if json.same(live.json()) && managers.same(&before) {
        return write.answer(200, form, &live);
    }
    write.validate(&json, &target.name)?;
    configmap::check_immutable(kind, live.json(), &json, &target.name)?;
    let object = write.store(shared, &mut store, json, managers);
    write.answer(200, form, &object)
}

/// Answers the delete of one object.
pub(crate) fn delete(
    shared: &Shared,
    request: &mut Incoming<'_>,
    kind: &Kind,
    target: &Target,
) -> Result<Answer, Status> {
    let form = accept::form(&request.head, false)?;
    let write = Write::new(request, kind, target, "DeleteOptions")?;
    let body = request.read_body()?;
    let options = if body.is_empty() {
        Json::object()
    } else {
        Json::parse(&body).map_err(|error| Status::bad_request(patch::parse_error(&error)))?
    };
    let mut store = shared.store();
    let live = store.get(&kind.collection(), &write.key());
    let live = live.ok_or_else(|| Status::not_found(&kind.group, &kind.plural, &target.name))?;
    if let Some(uid) = options
        .text(&["preconditions", "uid"])
        .filter(|uid| *uid != live.uid())
    {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            live.uid()
        );
        return Err(Status::conflict("", &kind.name, &target.name, &why));
    }
    if let Some(version) = options.text(&["preconditions", "resourceVersion"])
        && version.parse() != Ok(live.revision())
    {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The \
             object might have been modified",
            live.revision()
        );
        return Err(Status::conflict("", &kind.name, &target.name, &why));
    }
    let held = live
        .json()
        .at(&["metadata", "finalizers"])
        .is_some_and(|finalizers| !finalizers.items().is_empty());
    if held || kind.plural == "namespaces" {
        let json = metadata::mark_deleted(live.json(), &write.time, kind.plural == "namespaces");
        let managers = Managers::of(&json);
        let object = write.store(shared, &mut store, json, managers);
        return write.answer(200, form, &object);
    }
    if !write.dry_run {
        remove(&mut store, kind, &live);
    }
    let mut details = crate::status::details(&kind.group, &kind.plural, &target.name);
    details.set("uid", live.uid());
    let status = object! {
        "kind" => "Status", "apiVersion" => "v1", "metadata" => Json::object(), "status" => "Success",
        "details" => details,
    };
    Ok(Answer::json(200, &status))
}

/// Answers the delete of a collection: the list of what was deleted.
pub(crate) fn delete_collection(
    shared: &Shared,
    request: &mut Incoming<'_>,
    kind: &Kind,
    target: &Target,
) -> Result<Answer, Status> {
    let answer = list::list(shared, request, kind, target)?;
    let selector = Selector::new(&request.params, &kind.group, &kind.plural)?;
    let mut store = shared.store();
    let prefix = format!("{}/", target.namespace);
    let prefix = if target.namespace.is_empty() {
        ""
    } else {
        prefix.as_str()
    };
    let revision = store.revision();
    let range = Range {
        collection: &kind.collection(),
        prefix,
        from: "",
        limit: usize::MAX,
        revision,
    };
    for object in store.range(&range, None).entries.iter().map(Entry::object) {
        if selector.matches(object.json(), &object.namespace, &object.name)
            && !request.params.flag("dryRun")
        {
            remove(&mut store, kind, &object);
        }
    }
    Ok(answer)
}

/// To create by apply the right to create is needed as well.
fn check_create(shared: &Shared, request: &Incoming<'_>) -> Result<(), Status> {
    let wanted = Attributes {
        verb: "create".to_owned(),
        ..Attributes::of(&request.info)
    };
    if shared.allows(&request.user, &wanted) {
        return Ok(());
    }
    Err(wanted.forbidden(&request.user).by_admission())
}

fn remove(store: &mut Store, kind: &Kind, live: &Object) {
    let mut json = live.json().clone();
    if let Some(metadata) = json.get_mut("metadata") {
        metadata.set("resourceVersion", store.next_revision().to_string());
    }
    store.put(&kind.collection(), Object::new(json), true);
}

impl<'a> Write<'a> {
    fn new(
        request: &Incoming<'_>,
        kind: &'a Kind,
        target: &'a Target,
        options: &str,
    ) -> Result<Self, Status> {
        let params = &request.params;
        let invalid = |reason, why: String, field| {
            Err(Status::invalid(
                "meta.k8s.io",
                options,
                "",
                &[Cause::new(reason, why, field)],
            ))
        };
        let dry_run: Vec<&str> = params
            .all("dryRun")
            .filter(|value| !value.is_empty())
            .collect();
        if dry_run.iter().any(|value| *value != "All") {
            let values: Vec<String> = dry_run.iter().map(|value| quote(value)).collect();
            let why = format!(
                "Unsupported value: [{}]: supported values: \"All\"",
                values.join(",")
            );
            return invalid("FieldValueNotSupported", why, "dryRun");
        }
        if params.text("fieldManager").len() > 128 {
            return invalid(
                "FieldValueTooLong",
                "Too long: may not be more than 128 bytes".to_owned(),
                "fieldManager",
            );
        }
        Ok(Self {
            kind,
            target,
            manager: request.manager(),
            dry_run: !dry_run.is_empty(),
            time: metadata::now(),
            warnings: Vec::new(),
        })
    }

    fn namespace(&self) -> &str {
        if self.kind.namespaced {
            &self.target.namespace
        } else {
            ""
        }
    }

    fn key(&self) -> String {
        store::key(self.namespace(), &self.target.name)
    }

    fn writer(&self) -> Writer<'_> {
        Writer {
            manager: &self.manager,
            api_version: &self.kind.api_version,
            subresource: &self.target.subresource,
            time: &self.time,
        }
    }

    /// Reads a whole object from the body.
    fn decode(&mut self, request: &mut Incoming<'_>) -> Result<Json, Status> {
        let content_type = request
            .head
            .header("content-type")
            .unwrap_or("application/json")
            .to_owned();
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        if content_type != "application/json" {
            return Err(Status::unsupported_media_type(Some(ACCEPTED)));
        }
        let validation = request.params.text("fieldValidation").to_owned();
        let body = request.read_body()?;
        let kind = &self.kind.name;
        let mut json = Json::parse(&body).map_err(|error| {
            let shown = if body.is_empty() { "<empty>".into() } else { String::from_utf8_lossy(&body) };
            Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: \
                 {} ({shown})",
                patch::parse_error(&error)
            ))
        })?;
        let handled = |why: &str, version: &str, given: &str| {
            Status::bad_request(format!(
                "{given} in version \"{version}\" cannot be handled as a {kind}: {why}"
            ))
        };
        let given = json.text(&["kind"]).unwrap_or(kind).to_owned();
        let version = json
            .text(&["apiVersion"])
            .unwrap_or(&self.kind.version)
            .to_owned();
        let version = version.rsplit('/').next().unwrap_or_default().to_owned();
        if given != *kind {
            let why =
                format!("converting ({version}.{given}) to (core.{kind}): unknown conversion");
            return Err(handled(&why, &version, &given));
        }
        if self.kind.collection() == "configmaps" {
            configmap::check_types(&json).map_err(|why| handled(&why, &version, &given))?;
            let problems = configmap::drop_unknown(&mut json);
            match validation.as_str() {
                "Strict" if !problems.is_empty() => {
                    return Err(handled(
                        &format!("strict decoding error: {}", problems.join(", ")),
                        &version,
                        &given,
                    ));
                }
                "Ignore" => {}
                _ => self.warnings = problems,
            }
        }
        if self.kind.is_events() {
            json = crate::events::normalise(&json);
        }
        if self.kind.plural == "leases" {
            metadata::check_micro_times(&json).map_err(|why| handled(&why, &version, &given))?;
        }
        if let Some(metadata) = json.get_mut("metadata") {
            metadata.remove("managedFields");
        }
        Ok(json)
    }

    /// The name and the namespace in the body must be those of the URL; they are filled in where they are missing.
    fn check_names(&self, json: &mut Json, name: Option<&str>) -> Result<(), Status> {
        if json
            .get("metadata")
            .is_none_or(|metadata| !metadata.is_object())
        {
            json.set("metadata", Json::object());
        }
        let metadata = json.get_mut("metadata").expect("just set");
        if let Some(name) = name {
            match metadata.text(&["name"]).unwrap_or_default() {
                "" => metadata.set("name", name),
                given if given != name => {
                    return Err(Status::bad_request(format!(
                        "the name of the object ({given}) does not match the name on the URL ({name})"
                    )));
                }
                _ => {}
            }
        }
        if !self.kind.namespaced {
            return Ok(());
        }
        match metadata.text(&["namespace"]).unwrap_or_default() {
            "" => metadata.set("namespace", self.namespace()),
            given if given != self.namespace() => {
                let why = "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Status::bad_request(why));
            }
            _ => {}
        }
        Ok(())
    }

    /// The name of a new object, made up where only `generateName` is given.
    fn name_of(&self, json: &mut Json) -> Result<String, Status> {
        let metadata = json.get_mut("metadata").expect("checked before");
        if let Some(name) = metadata.text(&["name"]).filter(|name| !name.is_empty()) {
            return Ok(name.to_owned());
        }
        let prefix = metadata.text(&["generateName"]).unwrap_or_default();
        if prefix.is_empty() {
            let why = "Required value: name or generateName is required";
            let cause = Cause::new("FieldValueRequired", why, "metadata.name");
            return Err(Status::invalid(
                &self.kind.group,
                &self.kind.name,
                "",
                &[cause],
            ));
        }
        let name = format!("{prefix}{}", metadata::suffix());
        metadata.set("name", name.as_str());
        Ok(name)
    }

    /// New content needs a namespace that is there to stay.
    fn check_namespace(&self, store: &Store, name: &str) -> Result<(), Status> {
        if !self.kind.namespaced {
            return Ok(());
        }
        let namespace = self.namespace();
        let Some(object) = store.get("namespaces", namespace) else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        if object
            .json()
            .at(&["metadata", "deletionTimestamp"])
            .is_none()
        {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let cause = format!("namespace {namespace} is being terminated");
        Err(
            Status::forbidden(&self.kind.group, &self.kind.plural, name, &why).with_causes(&[
                Cause::new("NamespaceTerminating", cause, "metadata.namespace"),
            ]),
        )
    }

    fn check_uid(&self, json: &Json, live: &Object) -> Result<(), Status> {
        let Some(uid) = json
            .text(&["metadata", "uid"])
            .filter(|uid| !uid.is_empty() && *uid != live.uid())
        else {
            return Ok(());
        };
        let Kind { group, plural, .. } = self.kind;
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: /registry/{plural}/{}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            self.key(),
            live.uid()
        );
        Err(Status::conflict(group, plural, &self.target.name, &why))
    }

    fn validate(&self, json: &Json, name: &str) -> Result<(), Status> {
        let mut causes: Vec<Cause> = metadata::check_name(name).into_iter().collect();
        if self.kind.collection() == "configmaps" {
            causes.extend(configmap::validate(json));
        }
        if self.kind.plural == "leases" {
            causes.extend(metadata::check_lease(json));
        }
        if causes.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(
            &self.kind.group,
            &self.kind.name,
            name,
            &causes,
        ))
    }

    /// The common end of a replace and a patch.
    fn finish_update(
        &self,
        shared: &Shared,
        store: &mut Store,
        live: &Object,
        json: Json,
        form: accept::Form,
    ) -> Result<Answer, Status> {
        let version = json
            .text(&["metadata", "resourceVersion"])
            .unwrap_or_default();
        if !version.is_empty() && version.parse() != Ok(live.revision()) {
            return Err(Status::modified(
                &self.kind.group,
                &self.kind.plural,
                &self.target.name,
            ));
        }
        let mut json = metadata::carry(json, live.json());
        json.remove("kind");
        json.remove("apiVersion");
        tidy(&mut json);
        self.validate(&json, &self.target.name)?;
        configmap::check_immutable(self.kind, live.json(), &json, &self.target.name)?;
        let mut managers = Managers::of(live.json());
        managers.update(live.json(), &json, &self.writer());
        if json.same(live.json()) {
            return self.answer(200, form, live);
        }
        let object = self.store(shared, store, json, managers);
        self.answer(200, form, &object)
    }

    /// Stores an object with its managers, unless it is a dry run. An object on its way out goes with its last finalizer.
    fn store(
        &self,
        shared: &Shared,
        store: &mut Store,
        mut json: Json,
        managers: Managers,
    ) -> Object {
        json.remove("kind");
        json.remove("apiVersion");
        managers.store(&mut json);
        let metadata = json.get_mut("metadata").expect("every object has metadata");
        let leaving = metadata.get("deletionTimestamp").is_some()
            && metadata
                .get("finalizers")
                .is_none_or(|finalizers| finalizers.items().is_empty())
            && self.kind.plural != "namespaces";
        if self.dry_run {
            let json = metadata::ordered(&json, self.kind);
            return Object::new(json);
        }
        if leaving {
            let shown = Object::new(metadata::ordered(&json, self.kind));
            remove(store, self.kind, &shown);
            shared.notify();
            return shown;
        }
        metadata.set("resourceVersion", store.next_revision().to_string());
        let json = metadata::ordered(&json, self.kind);
        let object = store.put(&self.kind.collection(), Object::new(json.clone()), false);
        shared.notify();
        Object::from_text(object.text.clone())
    }

    fn answer(&self, status: u16, form: accept::Form, object: &Object) -> Result<Answer, Status> {
        let mut answer = list::single(status, self.kind, form, object)?;
        for warning in &self.warnings {
            answer
                .headers
                .push(("Warning", format!("299 - {}", quote(warning))));
        }
        Ok(answer)
    }
}
