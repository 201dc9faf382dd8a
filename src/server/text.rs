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
