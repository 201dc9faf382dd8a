//! The resources the server serves: those of a real Kubernetes 1.36, taken from its recorded discovery document.

use crate::json::Json;

/// A resource of one group and version.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) name: String,
    /// `v1`, or `apps/v1`.
    pub(crate) api_version: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
    /// The entry of the discovery document.
    pub(crate) json: Json,
}

/// All of them, in the order of discovery.
#[derive(Clone, Debug)]
pub(crate) struct Kinds {
    pub(crate) kinds: Vec<Kind>,
}

impl Kinds {
    /// The resources of a stock server.
    pub(crate) fn recorded() -> Self {
        let mut kinds = Vec::new();
        for text in [
            &include_bytes!("../recorded/discovery-core.json")[..],
            include_bytes!("../recorded/discovery-all.json"),
        ] {
            let json = Json::parse(text).expect("the recorded discovery is JSON");
            for group in json.get("items").map(Json::items).unwrap_or_default() {
                let name = group.text(&["metadata", "name"]).unwrap_or_default();
                for version in group.get("versions").map(Json::items).unwrap_or_default() {
                    for entry in version
                        .get("resources")
                        .map(Json::items)
                        .unwrap_or_default()
                    {
                        kinds.push(Kind::new(
                            name,
                            version.text(&["version"]).unwrap_or_default(),
                            entry,
                        ));
                    }
                }
            }
        }
        Self { kinds }
    }

    /// A resource by its plural.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
    }

    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.kinds.iter().any(|kind| kind.group == group)
    }

    pub(crate) fn has_version(&self, group: &str, version: &str) -> bool {
        self.kinds
            .iter()
            .any(|kind| kind.group == group && kind.version == version)
    }
}

impl Kind {
    fn new(group: &str, version: &str, entry: &Json) -> Self {
        let text = |path: &[&str]| entry.text(path).unwrap_or_default().to_owned();
        let verbs = entry.get("verbs").map(Json::items).unwrap_or_default();
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: text(&["resource"]),
            name: text(&["responseKind", "kind"]),
            api_version: if group.is_empty() {
                version.to_owned()
            } else {
                format!("{group}/{version}")
            },
            namespaced: text(&["scope"]) == "Namespaced",
            verbs: verbs
                .iter()
                .filter_map(Json::as_str)
                .map(str::to_owned)
                .collect(),
            json: entry.clone(),
        }
    }

    /// Where its objects are stored: both groups of Events share them, and all versions of a group do.
    pub(crate) fn collection(&self) -> String {
        collection(&self.group, &self.plural)
    }

    /// Events are not held in the server's memory, which shows in many details.
    pub(crate) fn is_events(&self) -> bool {
        self.plural == "events"
    }

    /// Whether it is shown in the form of `events.k8s.io`.
    pub(crate) fn is_new_events(&self) -> bool {
        self.group == "events.k8s.io" && self.is_events()
    }
}

/// The name under which a resource is stored.
pub(crate) fn collection(group: &str, plural: &str) -> String {
    match (group, plural) {
        ("events.k8s.io", "events") => "events".to_owned(),
        ("", plural) => plural.to_owned(),
        (group, plural) => format!("{plural}.{group}"),
    }
}
