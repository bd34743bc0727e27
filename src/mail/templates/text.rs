//! Text of rendered mails: escaping, line width, and blank lines.

/// The width of text parts, in characters.
const WIDTH: usize = 76;

/// Escapes the characters that have a meaning in HTML. minijinja's own function also escapes slashes, which makes links in the
/// source of a mail unreadable.
pub(super) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Replaces the line breaks of a text, so that lines have at most [`WIDTH`] characters. A longer word has a line of its own.
pub(super) fn wrap(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + " ".len() + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// Removes blank lines, and spaces at line ends.
pub(super) fn remove_blank_lines(text: &str) -> String {
    text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Removes spaces at line ends and blank lines at both ends of the text, and replaces successive blank lines with one.
pub(super) fn collapse_blank_lines(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.trim().lines().map(str::trim_end) {
        let is_repeated_blank = line.is_empty() && lines.last().is_some_and(|last| last.is_empty());
        if !is_repeated_blank {
            lines.push(line);
        }
    }
    lines.join("\n")
}
