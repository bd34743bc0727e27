//! Compresses `User-Agent` headers: each common phrase becomes one byte.
//!
//! The order of the phrases is part of the format of stored sessions: append new phrases.

/// The byte that stands for the first phrase, after all ASCII characters. The following bytes stand for the following phrases.
const FIRST_PHRASE: u8 = 0x80;

/// The phrases. The first phrase that matches is used, so a phrase precedes its own prefixes.
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
        if let Some(index) = PHRASES.iter().position(|phrase| rest.starts_with(phrase)) {
            // `try_from` cannot fail: there are fewer than 128 phrases
            bytes.push(FIRST_PHRASE + u8::try_from(index).unwrap_or(0));
            rest = &rest[PHRASES[index].len()..];
        } else {
            let is_printable = matches!(first, ' '..='~');
            bytes.push(if is_printable { first as u8 } else { b'?' });
            rest = &rest[first.len_utf8()..];
        }
    }
    bytes
}

/// Restores a header from the bytes of [`shorten`]. A phrase that only a later release knows becomes `?`.
pub(super) fn restore(bytes: &[u8]) -> String {
    let mut agent = String::new();
    for &byte in bytes {
        if byte < FIRST_PHRASE {
            agent.push(char::from(byte));
        } else {
            let index = usize::from(byte - FIRST_PHRASE);
            agent.push_str(PHRASES.get(index).copied().unwrap_or("?"));
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

    /// The lengths count one byte for each phrase, and one for each other character: 4 phrases and the characters `131` for Chrome.
    #[test]
    fn shortened_common_headers_are_restored_unchanged() {
        for (agent, expected_len) in [(CHROME, 7), (IPHONE, 16), (FIREFOX, 18), ("curl/8.5.0", 10), ("", 0)] {
            let short = shorten(agent);
            assert_eq!(short.len(), expected_len, "{agent}");
            assert_eq!(restore(&short), agent);
        }
    }

    #[test]
    fn shorten_replaces_characters_other_than_printable_ascii() {
        assert_eq!(restore(&shorten("a\u{e9}\u{1}b")), "a??b");
    }
}
