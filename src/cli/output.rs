//! How commands print: JSON lines for programs, text without control characters for people.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a value as one line of JSON.
///
/// # Errors
/// If standard output can't be written.
pub fn json_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)
}

/// Replaces characters that a terminal interprets or that hide what a name is (controls, bidirectional and other format
/// characters) by `\u{…}`.
pub fn visible(text: &str) -> String {
    let escape = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if escape(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_escaped() {
        assert_eq!(visible("a\u{202e}moc.live@x"), "a\\u{202e}moc.live@x");
        assert_eq!(visible("a\u{1b}[31m\n"), "a\\u{1b}[31m\\u{a}");
        assert_eq!(visible("josé \u{1F600} 中文"), "josé \u{1F600} 中文");
    }
}
