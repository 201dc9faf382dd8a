//! The way back: opaque ids in a server's text become names again, for whoever reads it in the
//! cluster.

use super::id::OpaqueId;

/// Puts names in the place of opaque ids.
///
/// Whole words only: `deployment_002` does not occur in `deployment_0021`, nor in
/// `my_deployment_002`. What was put in is not looked at again, since a name may look like an id.
pub(crate) fn reveal(text: &str, lookup: &mut dyn FnMut(OpaqueId) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_of_a_word) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_of_a_word(c)).unwrap_or(from.len());
        let (word, behind) = from.split_at(end);
        out.push_str(before);
        match OpaqueId::parse(word).and_then(&mut *lookup) {
            Some(name) => out.push_str(&name),
            None => out.push_str(word),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// Names of the cluster are joined by `-`, `.` and `/`; ids are not.
fn is_of_a_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn revealed(text: &str) -> String {
        reveal(text, &mut |id| match id.to_string().as_str() {
            "deployment_001" => Some("deployment_002".to_owned()),
            "deployment_002" => Some("api".to_owned()),
            "namespace_001" => Some("production".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn whole_words_become_names_once() {
        for (text, expected) in [
            ("", ""),
            ("deployment_002", "api"),
            ("deployment_002.", "api."),
            ("namespace_001/deployment_002-x", "production/api-x"),
            ("(deployment_002, deployment_002)", "(api, api)"),
            ("deployment_001", "deployment_002"),
            ("deployment_001 deployment_002", "deployment_002 api"),
            // Longer words that begin or end like one.
            ("deployment_0021", "deployment_0021"),
            ("deployment_00", "deployment_00"),
            ("my_deployment_002", "my_deployment_002"),
            ("deployment_002_x", "deployment_002_x"),
            ("éadeployment_002", "éadeployment_002"),
            ("deployment_002é", "deployment_002é"),
            ("é deployment_002 é", "é api é"),
            // Other forms are other words.
            ("Deployment_002", "Deployment_002"),
            ("deployment_2", "deployment_2"),
            ("deployment_0002", "deployment_0002"),
            // Nobody of that name.
            ("deployment_003 pod_001", "deployment_003 pod_001"),
        ] {
            assert_eq!(revealed(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_ids_stays_as_it_is(text in ".*") {
            prop_assume!(!text.contains('_'));
            prop_assert_eq!(revealed(&text), text);
        }

        #[test]
        fn what_is_between_words_does_not_matter(
            separators in proptest::collection::vec("[^\\p{L}\\p{N}_]{1,3}", 4),
        ) {
            // Some marks are of a word, too.
            prop_assume!(!separators.iter().any(|text| text.contains(is_of_a_word)));
            let text = |id: &str, other: &str| {
                let [a, b, c, d] = &separators[..] else { unreachable!() };
                format!("{a}{id}{b}{other}{c}{id}{d}")
            };
            prop_assert_eq!(
                revealed(&text("deployment_002", "deployment_0021")),
                text("api", "deployment_0021")
            );
        }
    }
}
