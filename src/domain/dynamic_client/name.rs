//! The names of clients, as pages and lists show them.

use crate::domain::text::{is_deceptive, mixes_lookalike_scripts};

/// The longest name that is shown.
const MAX_NAME_CHARS: usize = 64;

/// Reduces a name to what can be shown to users: one line without invisible or reordering characters, at most 64 characters. Returns
/// `None` if the name mixes look-alike scripts, or nothing of it can be shown.
pub(super) fn sanitize(name: &str) -> Option<String> {
    if mixes_lookalike_scripts(name) {
        return None;
    }
    // Line breaks become spaces first: `is_deceptive` is true for them, so they would be removed.
    let single_line = name.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    let visible: String = single_line.filter(|c| !is_deceptive(*c)).collect();
    let words: Vec<&str> = visible.split(' ').filter(|word| !word.is_empty()).collect();
    let sanitized: String = words.join(" ").chars().take(MAX_NAME_CHARS).collect();
    (!sanitized.is_empty()).then_some(sanitized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sanitize_removes_deceptive_characters_and_refuses_mixed_scripts() {
        // U+202E reverses the direction of the text, and U+200B has no width
        assert_eq!(sanitize("  A\n nice\u{202e} App\u{200b} "), Some("A nice App".to_owned()));
        assert_eq!(sanitize("\u{200b}\u{202e} "), None);
        assert_eq!(sanitize("Сlaude"), None, "a Cyrillic С before Latin letters");
        assert_eq!(sanitize(&"x".repeat(200)), Some("x".repeat(MAX_NAME_CHARS)));
    }
}
