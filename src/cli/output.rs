//! The output of commands: JSON lines for programs, text without control characters for people.

use std::io::{self, Write};

use serde::Serialize;

use crate::domain::text::Printable;

/// Writes a value as one line of JSON.
///
/// # Errors
/// If the output can't be written.
pub fn write_json_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)
}

/// Writes as `\u{…}` the characters that a terminal interprets, or that make a name look like another.
pub fn escape(text: &str) -> String {
    Printable(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_escaped() {
        // U+202E makes a terminal show the rest from right to left.
        assert_eq!(escape("a\u{202e}moc.live@x"), "a\\u{202e}moc.live@x");
        // U+001B starts a terminal sequence, here for red text.
        assert_eq!(escape("a\u{1b}[31m\n"), "a\\u{1b}[31m\\u{a}");
        assert_eq!(escape("josé \u{1F600} 中文"), "josé \u{1F600} 中文", "not changed");
    }
}
