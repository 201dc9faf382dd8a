//! Server-side apply and the bookkeeping of field managers.
//!
//! The rules are those of `structured-merge-diff`: an applied configuration owns its leaves, takes away what it no
//! longer names and nobody else owns, and conflicts where it would change what another manager owns.
//! See <https://kubernetes.io/docs/reference/using-api/server-side-apply/>.

use crate::fields::{self, Comparison, FieldSet, Path};
use crate::json::{Json, object};
use crate::status::{Cause, Status, quote};

/// The owners of an object's fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managers(Vec<Manager>);

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq)]
struct Manager {
    name: String,
    operation: String,
    api_version: String,
    time: String,
    subresource: String,
    fields: FieldSet,
}

/// Who writes, in which way, and when.
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    pub(crate) api_version: &'a str,
    pub(crate) subresource: &'a str,
    /// RFC 3339, whole seconds.
    pub(crate) time: &'a str,
}

impl Managers {
    /// Those of an object.
    pub(crate) fn of(json: &Json) -> Self {
        let entries = json
            .at(&["metadata", "managedFields"])
            .map(Json::items)
            .unwrap_or_default();
        let text = |entry: &Json, name: &str| entry.text(&[name]).unwrap_or_default().to_owned();
        let managers = entries.iter().map(|entry| Manager {
            name: text(entry, "manager"),
            operation: text(entry, "operation"),
            api_version: text(entry, "apiVersion"),
            time: text(entry, "time"),
            subresource: text(entry, "subresource"),
            fields: entry
                .get("fieldsV1")
                .map(FieldSet::parse)
                .unwrap_or_default(),
        });
        Self(managers.collect())
    }

    /// Writes them into an object.
    pub(crate) fn store(mut self, json: &mut Json) {
        self.0.retain(|manager| !manager.fields.is_empty());
        self.0.sort_by(|a, b| {
            (&a.operation, &a.time, &a.name, &a.api_version).cmp(&(
                &b.operation,
                &b.time,
                &b.name,
                &b.api_version,
            ))
        });
        let entries: Vec<Json> = self.0.iter().map(Manager::json).collect();
        if let Some(metadata) = json.get_mut("metadata") {
            if entries.is_empty() {
                metadata.remove("managedFields");
            } else {
                metadata.set("managedFields", entries);
            }
        }
    }

    /// Notes a create, update or patch that turned one object into another.
    pub(crate) fn update(&mut self, old: &Json, new: &Json, writer: &Writer<'_>) {
        let comparison = Comparison::new(old, new);
        let taken = comparison.written();
        for manager in &mut self.0 {
            manager.fields = manager.fields.minus(&taken).minus(&comparison.removed);
        }
        if !taken.is_empty() {
            let own = self.entry("Update", writer);
            own.fields = own.fields.union(&taken);
            writer.time.clone_into(&mut own.time);
        }
    }

    /// Notes the fields of an access review: its attributes are owned as a pointer to a struct is, itself included.
    pub(crate) fn update_attributes(&mut self, json: &Json, field: &str, writer: &Writer<'_>) {
        self.update(&Json::object(), json, writer);
        self.entry("Update", writer)
            .fields
            .0
            .insert(vec!["f:spec".to_owned(), format!("f:{field}")]);
    }

    /// Lays a configuration over an object. Fails with the conflicts, unless they are to be forced.
    pub(crate) fn apply(
        &mut self,
        live: &Json,
        config: &Json,
        writer: &Writer<'_>,
        force: bool,
    ) -> Result<Json, Status> {
        let before = self.clone();
        let named = FieldSet::of(config);
        let dropped = self.entry("Apply", writer).fields.minus(&named);
        let mut merged = fields::merge(live, config);
        let others: Vec<&Manager> = self
            .0
            .iter()
            .filter(|manager| !manager.is(writer, "Apply"))
            .collect();
        for path in dropped.0.iter().rev() {
            if !others.iter().any(|manager| manager.fields.0.contains(path)) {
                fields::remove(&mut merged, path);
            }
        }
        tidy(&mut merged);

        let comparison = Comparison::new(live, &merged);
        let written = comparison.written();
        let conflicts: Vec<(String, Path)> = others
            .iter()
            .flat_map(|manager| {
                manager
                    .fields
                    .both(&written)
                    .0
                    .into_iter()
                    .map(|path| (manager.display(), path))
            })
            .collect();
        if !conflicts.is_empty() && !force {
            return Err(conflict(conflicts));
        }
        for manager in self
            .0
            .iter_mut()
            .filter(|manager| !manager.is(writer, "Apply"))
        {
            manager.fields = manager.fields.minus(&written).minus(&comparison.removed);
        }
        let own = self.entry("Apply", writer);
        own.fields = named;
        self.0.retain(|manager| !manager.fields.is_empty());
        if !comparison.is_empty() || !self.same(&before) {
            let own = self.entry("Apply", writer);
            writer.time.clone_into(&mut own.time);
        }
        Ok(merged)
    }

    /// Whether the same managers own the same fields.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let known = |manager: &Manager, all: &Self| {
            all.0.iter().any(|other| {
                (&other.name, &other.operation, &other.fields)
                    == (&manager.name, &manager.operation, &manager.fields)
            })
        };
        self.0.len() == other.0.len() && self.0.iter().all(|manager| known(manager, other))
    }

    fn entry(&mut self, operation: &str, writer: &Writer<'_>) -> &mut Manager {
        let index = self
            .0
            .iter()
            .position(|manager| manager.is(writer, operation))
            .unwrap_or_else(|| {
                self.0.push(Manager {
                    name: writer.manager.to_owned(),
                    operation: operation.to_owned(),
                    api_version: writer.api_version.to_owned(),
                    time: writer.time.to_owned(),
                    subresource: writer.subresource.to_owned(),
                    fields: FieldSet::default(),
                });
                self.0.len() - 1
            });
        &mut self.0[index]
    }
}

impl Manager {
    fn is(&self, writer: &Writer<'_>, operation: &str) -> bool {
        self.name == writer.manager
            && self.operation == operation
            && self.api_version == writer.api_version
            && self.subresource == writer.subresource
    }

    fn json(&self) -> Json {
        let mut json = object! {
            "manager" => self.name.as_str(), "operation" => self.operation.as_str(),
            "apiVersion" => self.api_version.as_str(), "time" => self.time.as_str(), "fieldsType" => "FieldsV1",
            "fieldsV1" => self.fields.json(),
        };
        if !self.subresource.is_empty() {
            json.set("subresource", self.subresource.as_str());
        }
        json
    }

    /// As conflicts name it.
    fn display(&self) -> String {
        let mut text = quote(&self.name);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {}", quote(&self.subresource));
        }
        if self.operation == "Update" {
            text += &format!(" using {}", self.api_version);
        }
        text
    }
}

fn conflict(mut conflicts: Vec<(String, Path)>) -> Status {
    conflicts.sort();
    let causes: Vec<Cause> = conflicts
        .iter()
        .map(|(manager, path)| {
            Cause::new(
                "FieldManagerConflict",
                format!("conflict with {manager}"),
                fields::display(path),
            )
        })
        .collect();
    let text = if let [cause] = causes.as_slice() {
        format!("1 conflict: {}: {}", cause.message, cause.field)
    } else {
        let mut lines = format!("{} conflicts: ", causes.len());
        let mut last = "";
        for (manager, path) in &conflicts {
            if manager != last {
                let line_break = if last.is_empty() { "" } else { "\n" };
                lines += &format!("{line_break}conflicts with {manager}:");
                last = manager;
            }
            lines += &format!("\n- {}", fields::display(path));
        }
        lines
    };
    Status::new(409, "Conflict", format!("Apply failed with {text}")).with_causes(&causes)
}

/// Drops the maps that a Go server would not write because they are empty.
pub(crate) fn tidy(json: &mut Json) {
    let empty = |value: Option<&Json>| {
        value.is_some_and(|value| match value {
            Json::Object(fields) => fields.is_empty(),
            Json::Array(items) => items.is_empty(),
            Json::Null => true,
            Json::String(text) => text.is_empty(),
            _ => false,
        })
    };
    for name in ["data", "binaryData", "immutable"] {
        if empty(json.get(name)) {
            json.remove(name);
        }
    }
    if let Some(metadata) = json.get_mut("metadata") {
        for name in [
            "labels",
            "annotations",
            "finalizers",
            "ownerReferences",
            "managedFields",
            "generateName",
            "selfLink",
        ] {
            if empty(metadata.get(name)) {
                metadata.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(manager: &str) -> Writer<'_> {
        Writer {
            manager,
            api_version: "v1",
            subresource: "",
            time: "2026-01-01T00:00:00Z",
        }
    }

    fn config(data: &str) -> Json {
        Json::parse(format!(r#"{{"metadata":{{"name":"x"}},"data":{data}}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn a_field_shared_by_two_managers_stays_until_both_let_it_go() {
        let mut managers = Managers::default();
        let live = managers
            .apply(
                &config("{}"),
                &config(r#"{"a":"1","b":"1"}"#),
                &writer("one"),
                false,
            )
            .unwrap();
        let live = managers
            .apply(&live, &config(r#"{"a":"1"}"#), &writer("two"), false)
            .unwrap();
        let live = managers
            .apply(&live, &config(r#"{"b":"1"}"#), &writer("one"), false)
            .unwrap();
        assert!(live.at(&["data", "a"]).is_some());
        let live = managers
            .apply(&live, &config(r#"{"c":"1"}"#), &writer("two"), false)
            .unwrap();
        assert!(
            live.get("data")
                .unwrap()
                .same(&Json::parse(br#"{"b":"1","c":"1"}"#).unwrap())
        );
    }

    #[test]
    fn an_update_takes_fields_over() {
        let mut managers = Managers::default();
        let live = managers
            .apply(
                &config("{}"),
                &config(r#"{"a":"1","b":"1"}"#),
                &writer("one"),
                false,
            )
            .unwrap();
        let new = config(r#"{"a":"2","b":"1"}"#);
        managers.update(&live, &new, &writer("two"));
        let status = managers
            .clone()
            .apply(&new, &config(r#"{"a":"3"}"#), &writer("one"), false)
            .unwrap_err();
        assert_eq!(
            status.json().text(&["message"]),
            Some("Apply failed with 1 conflict: conflict with \"two\" using v1: .data.a")
        );
        // The same value is no conflict, and becomes shared.
        assert!(
            managers
                .apply(&new, &config(r#"{"a":"2"}"#), &writer("one"), false)
                .is_ok()
        );
    }
}
