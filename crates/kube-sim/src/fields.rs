//! Sets of fields and who owns them: the `FieldsV1` of `metadata.managedFields`.
//!
//! A field is a path of elements as `FieldsV1` writes them: `f:name` for a field, `v:"value"` for a member of a set,
//! `k:{"uid":"..."}` for an item of a keyed list. A map that is itself owned is in the set as its own path, and is
//! written with the element `.` when it has children.
//! See <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>.

use std::collections::BTreeSet;

use crate::json::Json;

/// The way to a field.
pub(crate) type Path = Vec<String>;

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet(pub(crate) BTreeSet<Path>);

/// What differs between two objects.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

/// What stands at a path, as far as ownership is concerned.
enum Node<'j> {
    /// Owned as a whole.
    Leaf,
    /// Its members are owned, not itself.
    Struct(Vec<(String, &'j Json)>),
    /// Its members are owned, and itself too by whoever made it.
    Map(Vec<(String, &'j Json)>),
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).cloned().collect())
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).cloned().collect())
    }

    pub(crate) fn both(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// The fields that an applied configuration names: its leaves.
    pub(crate) fn of(json: &Json) -> Self {
        let mut set = Self::default();
        set.gather(&mut Vec::new(), json, false);
        set
    }

    /// Reads `FieldsV1`.
    pub(crate) fn parse(json: &Json) -> Self {
        fn walk(set: &mut FieldSet, path: &mut Path, json: &Json) {
            if json.fields().is_empty() {
                set.0.insert(path.clone());
            }
            for (element, child) in json.fields() {
                if element == "." {
                    set.0.insert(path.clone());
                } else {
                    path.push(element.clone());
                    walk(set, path, child);
                    path.pop();
                }
            }
        }
        let mut set = Self::default();
        if !json.fields().is_empty() {
            walk(&mut set, &mut Vec::new(), json);
        }
        set
    }

    /// Writes `FieldsV1`.
    pub(crate) fn json(&self) -> Json {
        let mut root = Json::object();
        for path in &self.0 {
            let mut node = &mut root;
            for element in path {
                if node.get(element).is_none() {
                    node.set(element, Json::object());
                }
                node = node.get_mut(element).expect("just set");
            }
        }
        // A path that has children stands before them in the set, so the dot is put in afterwards.
        for path in &self.0 {
            let mut node = &mut root;
            for element in path {
                node = node.get_mut(element).expect("set above");
            }
            if let Json::Object(fields) = node
                && !fields.is_empty()
            {
                fields.insert(0, (".".to_owned(), Json::object()));
            }
        }
        root
    }

    /// All fields of a value, the maps in it too when they are wanted.
    fn gather(&mut self, path: &mut Path, json: &Json, maps: bool) {
        let (members, is_map) = match node(path, json) {
            Node::Leaf => {
                self.0.insert(path.clone());
                return;
            }
            Node::Struct(members) => (members, false),
            Node::Map(members) => (members, true),
        };
        if is_map && (maps || members.is_empty()) {
            self.0.insert(path.clone());
        }
        for (element, child) in members {
            path.push(element);
            self.gather(path, child, maps);
            path.pop();
        }
    }
}

impl Comparison {
    /// Compares an object with what becomes of it.
    pub(crate) fn new(old: &Json, new: &Json) -> Self {
        let mut comparison = Self::default();
        comparison.walk(&mut Vec::new(), old, new);
        comparison
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What the new object has that the old had not, or not so.
    pub(crate) fn written(&self) -> FieldSet {
        self.added.union(&self.modified)
    }

    fn walk(&mut self, path: &mut Path, old: &Json, new: &Json) {
        let (
            Node::Struct(old_members) | Node::Map(old_members),
            Node::Struct(new_members) | Node::Map(new_members),
        ) = (node(path, old), node(path, new))
        else {
            if !old.same(new) {
                self.modified.0.insert(path.clone());
            }
            return;
        };
        for (element, new_child) in &new_members {
            path.push(element.clone());
            match old_members.iter().find(|(name, _)| name == element) {
                Some((_, old_child)) => self.walk(path, old_child, new_child),
                None => self.added.gather(path, new_child, true),
            }
            path.pop();
        }
        for (element, old_child) in &old_members {
            if new_members.iter().all(|(name, _)| name != element) {
                path.push(element.clone());
                self.removed.gather(path, old_child, true);
                path.pop();
            }
        }
    }
}

/// Fields of the metadata that belong to nobody.
const NOBODYS: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "selfLink",
];

fn node<'j>(path: &[String], json: &'j Json) -> Node<'j> {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let members = || {
        json.fields()
            .iter()
            .map(|(name, value)| (format!("f:{name}"), value))
    };
    match (names.as_slice(), json) {
        ([], _) => Node::Struct(
            members()
                .filter(|(name, _)| name != "f:kind" && name != "f:apiVersion")
                .collect(),
        ),
        (["f:metadata"], _) => Node::Struct(
            members()
                .filter(|(name, _)| !NOBODYS.contains(&&name[2..]))
                .collect(),
        ),
        (
            ["f:metadata", "f:labels" | "f:annotations"] | ["f:data" | "f:binaryData"],
            Json::Object(_),
        ) => Node::Map(members().collect()),
        (["f:metadata", "f:finalizers"], Json::Array(items)) => Node::Map(
            items
                .iter()
                .map(|item| {
                    (
                        format!("v:{}", String::from_utf8_lossy(&item.to_bytes())),
                        item,
                    )
                })
                .collect(),
        ),
        (["f:metadata", "f:ownerReferences"], Json::Array(items)) => Node::Map(
            items
                .iter()
                .map(|item| {
                    (
                        format!(
                            "k:{{\"uid\":\"{}\"}}",
                            item.text(&["uid"]).unwrap_or_default()
                        ),
                        item,
                    )
                })
                .collect(),
        ),
        (
            ["f:metadata", "f:ownerReferences" | "f:finalizers", _]
            | ["f:involvedObject" | "f:regarding"],
            _,
        ) => Node::Leaf,
        (_, Json::Object(fields)) if !fields.is_empty() => Node::Struct(members().collect()),
        _ => Node::Leaf,
    }
}

/// The live object with an applied configuration laid over it.
pub(crate) fn merge(live: &Json, config: &Json) -> Json {
    fn walk(path: &mut Path, live: &Json, config: &Json) -> Json {
        let (Node::Struct(_) | Node::Map(_), Node::Struct(_) | Node::Map(_)) =
            (node(path, live), node(path, config))
        else {
            return config.clone();
        };
        let mut out = live.clone();
        match (&mut out, config) {
            (Json::Array(items), Json::Array(new)) => {
                for item in new {
                    let uid = item.text(&["uid"]);
                    match items
                        .iter_mut()
                        .find(|old| old.same(item) || (uid.is_some() && old.text(&["uid"]) == uid))
                    {
                        Some(old) => *old = item.clone(),
                        None => items.push(item.clone()),
                    }
                }
            }
            (out, config) => {
                for (name, value) in config.fields() {
                    path.push(format!("f:{name}"));
                    let merged = match live.get(name) {
                        Some(old) => walk(path, old, value),
                        None => value.clone(),
                    };
                    path.pop();
                    out.set(name, merged);
                }
            }
        }
        out
    }
    walk(&mut Vec::new(), live, config)
}

/// Takes a field out of an object.
pub(crate) fn remove(json: &mut Json, path: &[String]) {
    let [element, rest @ ..] = path else { return };
    if let Some(name) = element.strip_prefix("f:") {
        if rest.is_empty() {
            json.remove(name);
        } else if let Some(child) = json.get_mut(name) {
            remove(child, rest);
        }
    } else if let Json::Array(items) = json {
        items.retain(|item| {
            let by_value = format!("v:{}", String::from_utf8_lossy(&item.to_bytes()));
            let by_uid = format!(
                "k:{{\"uid\":\"{}\"}}",
                item.text(&["uid"]).unwrap_or_default()
            );
            *element != by_value && *element != by_uid
        });
    }
}

/// A path as it is written in messages: `.data.phase`.
pub(crate) fn display(path: &[String]) -> String {
    path.iter()
        .map(|element| match element.split_at(2) {
            ("f:", name) => format!(".{name}"),
            ("k:", key) => format!(
                "[{}]",
                key.trim_matches(['{', '}'])
                    .replacen(':', "=", 1)
                    .replacen('"', "", 2)
            ),
            (_, value) => format!("[={value}]"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn reads_and_writes_fields_v1() {
        let text =
            r#"{"f:data":{".":{},"f:a":{}},"f:metadata":{"f:finalizers":{".":{},"v:\"x\"":{}}}}"#;
        let set = FieldSet::parse(&json(text));
        assert_eq!(set.0.len(), 4);
        assert_eq!(String::from_utf8(set.json().to_bytes()).unwrap(), text);
        assert!(FieldSet::parse(&json("{}")).is_empty());
    }

    #[test]
    fn compares() {
        let old =
            json(r#"{"metadata":{"name":"x","labels":{"a":"1"}},"data":{"k":"1","gone":"1"}}"#);
        let new = json(r#"{"metadata":{"name":"y"},"data":{"k":"2","new":"1"}}"#);
        let comparison = Comparison::new(&old, &new);
        let shown = |set: &FieldSet| {
            set.0
                .iter()
                .map(|path| display(path))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(shown(&comparison.added), ".data.new");
        assert_eq!(shown(&comparison.modified), ".data.k");
        assert_eq!(
            shown(&comparison.removed),
            ".data.gone .metadata.labels .metadata.labels.a"
        );
    }

    #[test]
    fn merges_and_removes() {
        let live = json(r#"{"metadata":{"finalizers":["a"],"labels":{"x":"1"}},"data":{"k":"1"}}"#);
        let config = json(r#"{"metadata":{"finalizers":["b","a"]},"data":{"k":"2","l":"3"}}"#);
        let mut merged = merge(&live, &config);
        assert!(merged.same(&json(
            r#"{"metadata":{"finalizers":["a","b"],"labels":{"x":"1"}},"data":{"k":"2","l":"3"}}"#
        )));
        for path in FieldSet::of(&json(
            r#"{"metadata":{"finalizers":["a"]},"data":{"l":""}}"#,
        ))
        .0
        {
            remove(&mut merged, &path);
        }
        assert!(merged.same(&json(
            r#"{"metadata":{"finalizers":["b"],"labels":{"x":"1"}},"data":{"k":"2"}}"#
        )));
    }
}
