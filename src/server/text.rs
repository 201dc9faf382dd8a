//! Texts of the server, made harmless.

/// Removes what is not to be seen but steers: control characters but for line breaks and tabs,
/// and the format characters that turn the direction of a text, join or hide.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| matches!(c, '\n' | '\t') || !is_unseen(*c))
        .collect()
}

/// Removes the same and puts everything on one line.
pub(crate) fn line(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c })
        .filter(|c| !is_unseen(*c))
        .collect();
    text.trim().to_owned()
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_removed_and_what_is_text_stays() {
        for (text, cleaned, on_a_line) in [
            (
                "Größe 5 ≥ 3, 日本 😀",
                "Größe 5 ≥ 3, 日本 😀",
                "Größe 5 ≥ 3, 日本 😀",
            ),
            (" a\n\tb\r\n", " a\n\tb\n", "a  b"),
            ("\u{1b}[2Ja\u{7}\u{0}\u{7f}\u{9b}", "[2Ja", "[2Ja"),
            ("a\u{202e}b\u{2066}c\u{61c}\u{200f}", "abc", "abc"),
            (
                "de\u{200b}ploy\u{200d}ment\u{2060}_\u{feff}1",
                "deployment_1",
                "deployment_1",
            ),
            ("a\u{2028}b\u{2029}c\u{ad}\u{e0041}", "abc", "abc"),
            ("a\u{85}b", "ab", "ab"),
            ("\n\n", "\n\n", ""),
        ] {
            assert_eq!(clean(text), cleaned, "{text:?}");
            assert_eq!(line(text), on_a_line, "{text:?}");
            assert_eq!(line(&line(text)), on_a_line, "twice is as once");
        }
    }
}
