//! Passwords of one guessable word and some decoration: `Summer2024!`, `Latchkey1!`, `Michael1990!`.
//!
//! Cracking tools try every common word with a year, digits and a symbol first. zxcvbn rates such passwords too high,
//! because it multiplies the guesses for each part.

use zeroize::Zeroizing;

/// A word that zxcvbn finds within this number of guesses, alone and in lower case, is guessable. The dictionaries of zxcvbn have about
/// 30,000 words each; misspellings and keyboard patterns take slightly more guesses.
const MAX_WORD_GUESSES: u64 = 100_000;

/// The estimated guesses, as a power of ten, from which even one word with decoration is strong enough.
const STRONG_GUESSES_LOG10: f64 = 10.0;

/// The shortest run of letters that counts as a word.
const MIN_WORD_CHARS: usize = 4;

/// Words that attackers guess first, although dictionaries of general English rank them low or lack them.
const COMMON_WORDS: [&str; 23] = [
    "latchkey", "summer", "winter", "spring", "autumn", "company", "welcome", "letmein", "changeme", "password",
    "passwort", "qwerty", "azerty", "qwertz", "admin", "login", "secret", "default", "office", "user", "guest", "test",
    "demo",
];

/// Whether a password is one guessable word plus decoration. `guesses_log10` is zxcvbn's estimate for the whole password, and
/// `account_words` are the words that are guessable for this account, in lower case.
pub(super) fn is_decorated_word(password: &str, guesses_log10: f64, account_words: &[String]) -> bool {
    if guesses_log10 >= STRONG_GUESSES_LOG10 {
        return false;
    }
    let Some(word) = find_only_word(password) else { return false };
    let is_listed = COMMON_WORDS.contains(&word.as_str()) || account_words.contains(&word);
    is_listed || zxcvbn::zxcvbn(&word, &[]).guesses() <= MAX_WORD_GUESSES
}

/// The only word of a password, in lower case. Reads `0`, `4`, `$` and the like as letters where they stand between letters. Returns
/// `None` if the password has no word or several different ones.
fn find_only_word(password: &str) -> Option<Zeroizing<String>> {
    let lower = Zeroizing::new(password.to_lowercase());
    let characters: Vec<char> = lower.chars().collect();
    let mut words: Vec<Zeroizing<String>> = Vec::new();
    let mut word = Zeroizing::new(String::new());
    for (index, &c) in characters.iter().enumerate() {
        let is_between_letters = index > 0
            && characters[index - 1].is_alphabetic()
            && characters.get(index + 1).is_some_and(|next| next.is_alphabetic());
        let letter = if c.is_alphabetic() {
            Some(c)
        } else if is_between_letters {
            read_as_letter(c)
        } else {
            None
        };
        match letter {
            Some(letter) => word.push(letter),
            None => words.push(std::mem::take(&mut word)),
        }
    }
    words.push(word);
    words.retain(|word| word.chars().count() >= MIN_WORD_CHARS);
    let last = words.pop()?;
    words.iter().all(|word| *word == last).then_some(last)
}

/// The letter that a digit or symbol commonly stands for.
fn read_as_letter(c: char) -> Option<char> {
    Some(match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_decorated(password: &str) -> bool {
        let guesses_log10 = zxcvbn::zxcvbn(password, &[]).guesses_log10();
        let account_words = ["initech".to_owned()];
        is_decorated_word(password, guesses_log10, &account_words)
    }

    #[test]
    fn one_word_with_year_digits_or_symbols_is_refused() {
        for weak in [
            "Summer2024!",
            "Winter2026!",
            "Company2025!",
            "Latchkey1!",
            "Letmein123!",
            "Monday123!",
            "Michael1990!",
            "2024Summer!",
            "!Autumn-2025",
            "P4ssword99!",
            "Pa$sword99!",
            "Initech2026",
            "marmalade77",
            "Qwerty2024!",
        ] {
            assert!(is_decorated(weak), "{weak}");
        }
    }

    #[test]
    fn several_words_and_random_characters_are_accepted() {
        for good in [
            "tidal engine verse marmalade",
            "summer-marmalade-7",
            "Vq7-xK2w",
            "nvkxqhzpwmtr",
            "839201746501",
            "日本語のパスワード四つ",
            "Vq7-xK2wVq7-xK2wVq7-xK2w",
            "🦀🐘🪁🧭🛶🎻🪵🥁",
            "summer 8391 0274 66",
            "correcthorse99",
        ] {
            assert!(!is_decorated(good), "{good}");
        }
    }
}
