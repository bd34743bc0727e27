//! Compresses `User-Agent` headers: each common phrase becomes one byte.
//!
//! The order of the phrases is part of the record format: append new ones.

/// The byte `0x80 + i` stands for phrase `i`. The first phrase that matches is used, so a phrase precedes its own prefixes.
const PHRASES: [&str; 25] = [
    "Mozilla/5.0 (",
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "Macintosh; Intel Mac OS X ",
    "X11; Linux x86_64",
    "X11; Ubuntu; Linux x86_64",
    "iPhone; CPU iPhone OS ",
    "iPad; CPU OS ",
    " like Mac OS X",
    "Linux; Android 10; K",
    "Linux; Android ",
    ") AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
    ") AppleWebKit/605.1.15 (KHTML, like Gecko) ",
    ") AppleWebKit/537.36 (KHTML, like Gecko) ",
    ".0.0.0 Mobile Safari/537.36",
    ".0.0.0 Safari/537.36",
    " Safari/537.36",
    " Mobile/15E148 Safari/604.1",
    " Mobile/15E148",
    " Safari/605.1.15",
    "Version/",
    ") Gecko/20100101 Firefox/",
    " Edg/",
    "CFNetwork/",
    " Darwin/",
];

/// Compresses a header. Characters other than printable ASCII become `?`.
pub(super) fn shorten(agent: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = agent;
    while let Some(first) = rest.chars().next() {
        if let Some(i) = PHRASES.iter().position(|phrase| rest.starts_with(phrase)) {
            bytes.push(0x80 + u8::try_from(i).unwrap_or(0));
            rest = &rest[PHRASES[i].len()..];
        } else {
            bytes.push(if matches!(first, ' '..='~') { first as u8 } else { b'?' });
            rest = &rest[first.len_utf8()..];
        }
    }
    bytes
}

/// Restores a header from the bytes of [`shorten`].
pub(super) fn restore(bytes: &[u8]) -> String {
    let mut agent = String::new();
    for &byte in bytes {
        match byte.checked_sub(0x80).map(|i| PHRASES.get(usize::from(i))) {
            None => agent.push(char::from(byte)),
            Some(Some(phrase)) => agent.push_str(phrase),
            Some(None) => agent.push('?'),
        }
    }
    agent
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";
    const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1";
    const FIREFOX: &str = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";

    /// The maximum lengths count one byte for each phrase, and one for each other character.
    #[test]
    fn shortened_common_headers_are_restored_unchanged() {
        for (agent, max_len) in [(CHROME, 7), (IPHONE, 21), (FIREFOX, 20), ("curl/8.5.0", 10), ("", 0)] {
            let short = shorten(agent);
            assert!(short.len() <= max_len, "{agent}: {} bytes", short.len());
            assert_eq!(restore(&short), agent);
        }
    }

    #[test]
    fn shorten_replaces_characters_other_than_printable_ascii() {
        assert_eq!(restore(&shorten("a\u{e9}\u{1}b")), "a??b");
    }
}
