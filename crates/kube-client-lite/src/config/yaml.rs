//! YAML as a tree of text.
//!
//! A kubeconfig has text and a few booleans in it, so a scalar stays the text it was written as:
//! a namespace `007` or a context `1.10` keeps its name. `granit-parser` gives the events: it has
//! no `unsafe`, takes what libyaml takes, and its memory does not grow with the length of a line.
//! The bounds on depth and on what aliases repeat are ours.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::Value;

/// Deeper than any kubeconfig, and far from the end of a stack.
const MAX_DEPTH: usize = 64;
/// Bytes of memory a document may take with all its aliases written out.
const MAX_WEIGHT: usize = 16 << 20;
/// About what a value takes besides its text.
const NODE_WEIGHT: usize = 64;

#[derive(Clone)]
pub(super) enum Node {
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    Null,
    /// `plain` is text without quotes, which may stand for a boolean or a number.
    Scalar {
        text: String,
        plain: bool,
    },
}

impl Node {
    /// Parses the first document; the others are passed over, as kubectl does.
    pub(super) fn parse(text: &str) -> Result<Node, String> {
        let mut builder = Builder::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| error.to_string())?;
            match builder.event(event) {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(root),
                Err(problem) => return Err(format!("{problem} at line {}", span.start.line())),
            }
        }
        Ok(Node::Null)
    }

    /// The value of a key, `None` when it is absent or null. Of a repeated key the last one counts.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Node::Map(entries) = self else {
            return None;
        };
        let (_, node) = entries.iter().rev().find(|(name, _)| name == key)?;
        if matches!(node, Node::Null) {
            None
        } else {
            Some(node)
        }
    }

    /// The tree as JSON, plain scalars read as YAML 1.2 does.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Node::List(items) => items.iter().map(Node::to_json).collect(),
            Node::Map(entries) => entries
                .iter()
                .map(|(key, node)| (key.clone(), node.to_json()))
                .collect(),
            Node::Null => Value::Null,
            Node::Scalar { text, plain: false } => text.as_str().into(),
            Node::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => true.into(),
                "false" | "False" | "FALSE" => false.into(),
                text => match (text.parse::<i64>(), text.parse::<f64>()) {
                    (Ok(integer), _) => integer.into(),
                    (_, Ok(float)) if float.is_finite() => float.into(),
                    _ => text.into(),
                },
            },
        }
    }
}

#[derive(Default)]
struct Builder {
    /// The lists and maps that are not closed yet.
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Built>>,
    weight: usize,
}

struct Open {
    node: Node,
    /// The key whose value comes next.
    key: Option<String>,
    anchor: usize,
    /// The builder's weight before it.
    before: usize,
    /// How deep its values are so far.
    height: usize,
}

#[derive(Clone)]
struct Built {
    node: Node,
    weight: usize,
    height: usize,
}

impl Builder {
    /// Takes one event; gives the root once it is complete.
    fn event(&mut self, event: Event<'_>) -> Result<Option<Node>, &'static str> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let weight = NODE_WEIGHT + text.len();
                self.spend(weight)?;
                let node = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Node::Null,
                    _ => Node::Scalar {
                        text: text.into_owned(),
                        plain,
                    },
                };
                self.complete(
                    Built {
                        node,
                        weight,
                        height: 0,
                    },
                    anchor,
                )
            }
            Event::Alias(anchor) => {
                let Some(built) = self.anchors.get(&anchor).map(Rc::clone) else {
                    return Err("an alias inside of what it stands for");
                };
                if self.open.len() + built.height > MAX_DEPTH {
                    return Err(TOO_DEEP);
                }
                self.spend(built.weight)?;
                self.complete(Built::clone(&built), 0)
            }
            Event::SequenceStart(_, anchor, _) => self.open(Node::List(Vec::new()), anchor),
            Event::MappingStart(_, anchor, _) => self.open(Node::Map(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open {
                    node,
                    anchor,
                    before,
                    height,
                    ..
                }) = self.open.pop()
                else {
                    return Ok(None);
                };
                let weight = self.weight - before;
                self.complete(
                    Built {
                        node: merge(node),
                        weight,
                        height: height + 1,
                    },
                    anchor,
                )
            }
            _ => Ok(None),
        }
    }

    fn open(&mut self, node: Node, anchor: usize) -> Result<Option<Node>, &'static str> {
        if self.open.len() == MAX_DEPTH {
            return Err(TOO_DEEP);
        }
        let before = self.weight;
        self.spend(NODE_WEIGHT)?;
        self.open.push(Open {
            node,
            key: None,
            anchor,
            before,
            height: 0,
        });
        Ok(None)
    }

    fn complete(&mut self, built: Built, anchor: usize) -> Result<Option<Node>, &'static str> {
        if anchor != 0 {
            self.spend(built.weight)?;
            self.anchors.insert(anchor, Rc::new(built.clone()));
        }
        let Some(parent) = self.open.last_mut() else {
            return Ok(Some(built.node));
        };
        parent.height = parent.height.max(built.height);
        match &mut parent.node {
            Node::Map(entries) => match (parent.key.take(), built.node) {
                (Some(key), node) => entries.push((key, node)),
                (None, Node::Scalar { text, .. }) => parent.key = Some(text),
                (None, Node::Null) => parent.key = Some("null".to_owned()),
                (None, Node::List(_) | Node::Map(_)) => return Err("a key that is not text"),
            },
            Node::List(items) => items.push(built.node),
            Node::Null | Node::Scalar { .. } => {}
        }
        Ok(None)
    }

    /// Counts memory before it is taken.
    fn spend(&mut self, weight: usize) -> Result<(), &'static str> {
        self.weight += weight;
        if self.weight > MAX_WEIGHT {
            Err(TOO_LARGE)
        } else {
            Ok(())
        }
    }
}

const TOO_DEEP: &str = "nested too deeply";
const TOO_LARGE: &str = "too many values, or aliases that repeat too much";

/// Writes out the merge key: `<<: *defaults` gives the entries that the map does not have itself.
fn merge(node: Node) -> Node {
    let Node::Map(entries) = node else {
        return node;
    };
    let (merged, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key == "<<");
    // The last of a repeated key counts, so what is merged goes first, and of several maps the
    // first one last.
    let mut all = Vec::new();
    for (_, node) in merged {
        match node {
            Node::Map(entries) => all.extend(entries),
            Node::List(maps) => {
                for map in maps.into_iter().rev() {
                    if let Node::Map(entries) = map {
                        all.extend(entries);
                    }
                }
            }
            Node::Null | Node::Scalar { .. } => {}
        }
    }
    all.extend(own);
    Node::Map(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn json(text: &str) -> String {
        match Node::parse(text) {
            Ok(node) => node.to_json().to_string(),
            Err(error) => error,
        }
    }

    #[test]
    fn documents() {
        for (text, expected) in [
            ("", "null"),
            ("# nothing\n", "null"),
            (
                "{\"a\": [1, \"1\", true, null]}",
                r#"{"a":[1,"1",true,null]}"#,
            ),
            (
                "a: 1.5\nb: 007x\nc: ~\nd: 'null'\ne: !!str 5\n",
                r#"{"a":1.5,"b":"007x","c":null,"d":"null","e":"5"}"#,
            ),
            ("a: &x {b: c}\nd: *x\n", r#"{"a":{"b":"c"},"d":{"b":"c"}}"#),
            (
                "x: &x {a: 1, b: 2}\ny: {b: 3, <<: *x}\n",
                r#"{"x":{"a":1,"b":2},"y":{"a":1,"b":3}}"#,
            ),
            (
                "y: {<<: [{a: 1}, {a: 2, b: 2}]}\n",
                r#"{"y":{"a":1,"b":2}}"#,
            ),
            ("a: 1\na: 2\n", r#"{"a":2}"#),
            (
                "a:\n  b: [\n    c,\n  ]\nd: e\n",
                r#"{"a":{"b":["c"]},"d":"e"}"#,
            ),
            ("a:\n- b\n- c\n", r#"{"a":["b","c"]}"#),
            ("a: 1\n---\nb: 2\n", r#"{"a":1}"#),
            ("a: |\n  b\n  c\n", r#"{"a":"b\nc\n"}"#),
            ("[a]: b", "a key that is not text at line 1"),
            (
                "a: &x [*x]",
                "an alias inside of what it stands for at line 1",
            ),
        ] {
            assert_eq!(json(text), expected, "{text}");
        }
        assert!(json("a: [").contains("line"), "{}", json("a: ["));
        assert!(json("a: *b").contains("anchor"), "{}", json("a: *b"));
    }

    #[test]
    fn text_stays_as_written() {
        let node = Node::parse("1.10: 0x1F").unwrap();
        assert!(matches!(node.get("1.10"), Some(Node::Scalar { text, .. }) if text == "0x1F"));
    }

    #[test]
    fn alias_bomb() {
        let mut bomb = "l0: &l0 [lol]\n".to_owned();
        for level in 1..12 {
            let below = vec![format!("*l{}", level - 1); 10].join(",");
            writeln!(bomb, "l{level}: &l{level} [{below}]").unwrap();
        }
        assert_eq!(json(&bomb), format!("{TOO_LARGE} at line 6"));
    }

    #[test]
    fn deep_nesting() {
        // Aliases that stack up: each of them is allowed by itself.
        let (open, close) = ("[".repeat(MAX_DEPTH / 2), "]".repeat(MAX_DEPTH / 2));
        let stacked = format!("[&x {open}{close}, {open}*x{close}]");
        for text in [
            "[".repeat(100_000),
            "- ".repeat(100_000),
            "{a: ".repeat(100_000),
            stacked,
        ] {
            let error = json(&text);
            let limits = [TOO_DEEP, "recursion limit exceeded"];
            assert!(
                limits.iter().any(|limit| error.starts_with(limit)),
                "{error}"
            );
        }
        let fits = format!("[&x {open}{close}, [*x]]");
        assert!(Node::parse(&fits).is_ok());
    }
}
