//! The names of clients, as pages and lists show them.

use crate::domain::text::{is_deceptive, mixes_lookalike_scripts};

/// The longest name that is shown, in characters.
const MAX_NAME: usize = 64;

/// A name that can be shown to users: one line without invisible or reordering characters, at most 64 characters. None for a name that
/// imitates others by mixing scripts, or has nothing to show.
pub(super) fn presentable(name: &str) -> Option<String> {
    if mixes_lookalike_scripts(name) {
        return None;
    }
    let visible: String =
        name.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !is_deceptive(*c)).collect();
    let words: Vec<&str> = visible.split(' ').filter(|word| !word.is_empty()).collect();
    let name: String = words.join(" ").chars().take(MAX_NAME).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_deceives_is_not_shown() {
        assert_eq!(presentable("  A\n nice\u{202e} App\u{200b} "), Some("A nice App".to_owned()));
        assert_eq!(presentable("\u{200b}\u{202e} "), None);
        assert_eq!(presentable("Сlaude"), None, "a Cyrillic letter");
        assert_eq!(presentable(&"x".repeat(200)).map(|name| name.len()), Some(MAX_NAME));
    }
}
