//! The policy for new passwords: long enough, not common, hard to guess. There are no composition rules (NIST SP 800-63B,
//! section 3.1.1.2; OWASP ASVS 6.2).

use std::{collections::HashSet, sync::LazyLock};

use zeroize::Zeroizing;

use super::patterns;
use crate::{config::PasswordSettings, domain::secret::SecretText};

/// The most common passwords of at least eight characters, in lower case.
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common.txt").lines().filter(|line| !line.starts_with("# ")).collect());

/// The lengths of the prefixes whose strength is estimated, in characters. The time of an estimate grows with the length, so the
/// second prefix is estimated only if the first is not strong enough.
const ESTIMATED_CHARACTERS: [usize; 2] = [24, 48];

/// The characters that zxcvbn reads as letters (`p4$$word`).
const LETTER_LIKE: &str = "4@8({[<369&#!1/|0$5+7%2";

/// The maximum number of different [`LETTER_LIKE`] characters that zxcvbn receives. It tries all combinations of their meanings: with
/// nearly all characters, this takes as long as tens of hashings.
const MAX_LETTER_LIKE: usize = 12;

/// The fewest characters that a password must have besides banned words and the account's names.
const MIN_OWN_CHARACTERS: usize = 4;

/// A password that the xkcd comic 936 made common, which frequency lists lack in this spelling.
const COMMON_PHRASE: &str = "correct horse battery staple";

/// The lowest `password.min_score` that refuses one word with digits and symbols around it.
const DECORATED_WORD_MIN_SCORE: u8 = 2;

/// The advice for a password of one word with decoration.
const ONE_WORD_ADVICE: &str =
    "Attackers try one word with digits or symbols first. Use several words that don't belong together.";

/// The reason why a new password is refused. The texts are for its owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// The password has fewer characters than required.
    #[error("The password is too short: use at least {min} characters, better 15 or more.")]
    TooShort {
        /// `password.min_length`
        min: usize,
    },
    /// The password has more characters than allowed.
    #[error("The password is too long: use at most {max} characters.")]
    TooLong {
        /// `password.max_length`
        max: usize,
    },
    /// The password is in the list of common passwords.
    #[error("This password is one of the most common ones, which attackers try first. Choose another.")]
    Common,
    /// The password is little more than a banned word or one of the account's names.
    #[error("The password is little more than a name that is easy to guess here. Choose another.")]
    BannedWord,
    /// The password is estimated to be easy to guess.
    #[error("The password is easy to guess. {advice}")]
    Guessable {
        /// How to improve the password.
        advice: String,
    },
}

/// A new password that has an allowed length and is not a common one.
/// [`PasswordHasher::hash_new`](super::PasswordHasher::hash_new) checks the rest of the policy.
#[derive(Clone, Debug)]
pub struct NewPassword(pub(super) SecretText);

/// The configured policy for new passwords.
pub(super) struct Policy {
    min_length: usize,
    max_length: usize,
    min_score: u8,
    banned_words: Vec<String>,
}

impl Policy {
    pub(super) fn new(settings: &PasswordSettings) -> Self {
        Self {
            min_length: settings.min_length,
            max_length: settings.max_length,
            min_score: settings.min_score,
            banned_words: settings.banned_words.clone(),
        }
    }

    /// Checks the length and the list of common passwords, which takes almost no time.
    pub(super) fn check_new(&self, password: SecretText) -> Result<NewPassword, WeakPassword> {
        let length = char_count(password.expose());
        if length < self.min_length {
            return Err(WeakPassword::TooShort { min: self.min_length });
        }
        if length > self.max_length {
            return Err(WeakPassword::TooLong { max: self.max_length });
        }
        let lower = Zeroizing::new(password.expose().to_lowercase());
        if COMMON.contains(lower.as_str()) || *lower == COMMON_PHRASE {
            return Err(WeakPassword::Common);
        }
        Ok(NewPassword(password))
    }

    /// Checks for banned words and the account's names, and estimates the strength. This takes about as long as a hash.
    pub(super) fn check_strength(&self, password: &NewPassword, account_names: &[String]) -> Result<(), WeakPassword> {
        let password = password.0.expose();
        let words = self.forbidden_words(account_names);
        let lower = Zeroizing::new(password.to_lowercase());
        let mut rest = lower.clone();
        for word in &words {
            rest = Zeroizing::new(rest.replace(word.as_str(), ""));
        }
        let has_forbidden_word = rest.len() < lower.len();
        if has_forbidden_word && char_count(&rest) < MIN_OWN_CHARACTERS {
            return Err(WeakPassword::BannedWord);
        }
        self.estimate_strength(password, &words)
    }

    /// Estimates the strength. `words` are the forbidden words, which count as easy to guess.
    fn estimate_strength(&self, password: &str, words: &[String]) -> Result<(), WeakPassword> {
        let length = char_count(password);
        let user_inputs: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut result = Ok(());
        for characters in ESTIMATED_CHARACTERS {
            let prefix = zxcvbn_input(password, characters);
            let estimate = zxcvbn::zxcvbn(&prefix, &user_inputs);
            if u8::from(estimate.score()) >= self.min_score {
                let is_decorated_word = self.min_score >= DECORATED_WORD_MIN_SCORE
                    && patterns::is_decorated_word(&prefix, estimate.guesses_log10(), words);
                if is_decorated_word {
                    return Err(WeakPassword::Guessable { advice: ONE_WORD_ADVICE.to_owned() });
                }
                return Ok(());
            }
            result = Err(WeakPassword::Guessable { advice: advice(&estimate) });
            if length <= characters {
                // the prefix was the whole password
                break;
            }
        }
        result
    }

    /// The banned words, the account's names and the parts of both (`ada.lovelace@example.com` has four), in lower case. The
    /// longest come first, so that removing a word doesn't leave the rest of a longer one.
    fn forbidden_words(&self, account_names: &[String]) -> Vec<String> {
        let mut words = Vec::new();
        for name in self.banned_words.iter().chain(account_names) {
            let word = name.trim().to_lowercase();
            let parts = word.split(|c: char| !c.is_alphanumeric());
            // Parts of one or two characters, such as `de`, occur in strong passwords too.
            words.extend(parts.filter(|part| char_count(part) >= 3).map(str::to_owned));
            words.push(word);
        }
        // A word of one character would remove that character from every password.
        words.retain(|word| char_count(word) >= 2);
        words.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        words.dedup();
        words
    }
}

/// The first `characters` of a password, as zxcvbn receives them. Replaces letter-like characters beyond the first
/// [`MAX_LETTER_LIKE`] different ones with `~`, which zxcvbn does not read as a letter.
fn zxcvbn_input(password: &str, characters: usize) -> Zeroizing<String> {
    let mut kept = Vec::with_capacity(MAX_LETTER_LIKE);
    let replaced = password.chars().take(characters).map(|c| {
        if !LETTER_LIKE.contains(c) || kept.contains(&c) {
            c
        } else if kept.len() < MAX_LETTER_LIKE {
            kept.push(c);
            c
        } else {
            '~'
        }
    });
    Zeroizing::new(replaced.collect())
}

fn char_count(word: &str) -> usize {
    word.chars().count()
}

/// The advice of zxcvbn for a weak password, as sentences.
fn advice(estimate: &zxcvbn::Entropy) -> String {
    let texts = estimate.feedback().map(|feedback| {
        let warning = feedback.warning().map(|warning| warning.to_string());
        let suggestions = feedback.suggestions().iter().map(|suggestion| suggestion.to_string());
        warning.into_iter().chain(suggestions).collect::<Vec<_>>().join(" ")
    });
    texts.filter(|text| !text.is_empty()).unwrap_or_else(|| "Use a few words that don't belong together.".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::settings, *};

    fn check(settings: &PasswordSettings, password: &str, account_names: &[String]) -> Result<(), WeakPassword> {
        let policy = Policy::new(settings);
        let password = policy.check_new(password.into())?;
        policy.check_strength(&password, account_names)
    }

    /// The verdict of the tests' settings, whose only banned word is `latchkey`, for an account without names.
    fn verdict(password: &str) -> &'static str {
        verdict_with_names(password, &[])
    }

    fn verdict_with_names(password: &str, account_names: &[&str]) -> &'static str {
        let account_names: Vec<String> = account_names.iter().map(|&name| name.to_owned()).collect();
        match check(&settings(), password, &account_names) {
            Ok(()) => "good",
            Err(WeakPassword::TooShort { .. }) => "password_too_short",
            Err(WeakPassword::TooLong { .. }) => "password_too_long",
            Err(WeakPassword::Common) => "password_common",
            Err(WeakPassword::BannedWord) => "password_banned_word",
            Err(WeakPassword::Guessable { .. }) => "password_guessable",
        }
    }

    #[test]
    fn length_is_counted_in_characters() {
        // The settings of the tests allow 8 to 128 characters.
        assert_eq!(verdict("Vq7-xK2"), "password_too_short");
        assert_eq!(verdict("Vq7-xK2w"), "good");
        // 8 characters, 20 bytes
        assert_eq!(verdict("ÄÖÜß日本語で"), "good");
        assert_eq!(verdict(&"Vq7-xK2w".repeat(16)), "good");
        assert_eq!(verdict(&("Vq7-xK2w".repeat(16) + "x")), "password_too_long");
    }

    #[test]
    fn common_password_is_refused() {
        // ASVS 6.2.4 requires 3000.
        assert!(COMMON.len() >= 3000, "{}", COMMON.len());
        for common in COMMON.iter() {
            assert_eq!(verdict(common), "password_common");
        }
        assert_eq!(verdict("PassWord1"), "password_common");
        assert_eq!(verdict("Correct Horse Battery Staple"), "password_common");
    }

    #[test]
    fn banned_word_or_account_name_with_few_own_characters_is_refused() {
        assert_eq!(verdict("Latchkey"), "password_banned_word");
        assert_eq!(verdict("latchkey123"), "password_banned_word");
        let account_names = ["ada.lovelace@example.com", "ada.lovelace"];
        assert_eq!(verdict_with_names("ada.lovelace!", &account_names), "password_banned_word");
    }

    #[test]
    fn parts_and_repetitions_of_names_are_refused() {
        let account_names = ["Ada.Lovelace@example.com", "Ada.Lovelace", "東京", ""];
        for weak in [
            "lovelace",
            "LovelaceLovelace",
            "ADAlovelace99",
            "example.com",
            "東京東京東京東京",
            "ada.lovelace@example.com",
        ] {
            assert_eq!(verdict_with_names(weak, &account_names), "password_banned_word", "{weak}");
        }
        assert_eq!(verdict_with_names("l0v3l4ce1234", &account_names), "password_guessable");
        assert_eq!(verdict_with_names("lovelace quartz ferry", &account_names), "good");
    }

    #[test]
    fn strength_of_first_48_characters_counts() {
        let weak = "a".repeat(24);
        assert_eq!(verdict(&weak), "password_guessable");
        // The second prefix, of 48 characters, includes the words. With 64 characters before them, it doesn't.
        assert_eq!(verdict(&(weak.clone() + "tidal engine verse")), "good");
        assert_eq!(verdict(&("a".repeat(64) + "tidal engine verse")), "password_guessable");
    }

    #[test]
    fn zxcvbn_input_limits_different_letter_like_symbols() {
        assert_eq!(*zxcvbn_input("p4$$w0rd 1!1! ÄÖ", 64), "p4$$w0rd 1!1! ÄÖ");
        // The first twelve symbols stay, also where they occur again: the list has 23, so the last two of 25 are its first two.
        assert_eq!(*zxcvbn_input(&LETTER_LIKE.repeat(2), 25), "4@8({[<369&#~~~~~~~~~~~4@");
        assert_eq!(verdict("p4$$w0rd"), "password_guessable");
        assert_eq!(verdict(&LETTER_LIKE.repeat(2)), "good");
    }

    #[test]
    fn min_score_decides_on_strength_and_zero_still_refuses_common_passwords() {
        let lenient = PasswordSettings { min_score: 0, banned_words: vec![], ..settings() };
        assert_eq!(check(&lenient, "aaaaaaaaaaaaaaaa1", &[]), Ok(()));
        assert_eq!(check(&lenient, "Password1", &[]), Err(WeakPassword::Common));
        let strict = PasswordSettings { min_score: 4, ..settings() };
        assert!(matches!(check(&strict, "marmalade77", &[]), Err(WeakPassword::Guessable { .. })));
        assert_eq!(check(&strict, "tidal engine verse marmalade", &[]), Ok(()));
    }

    #[test]
    fn refusal_texts_are_sentences() {
        let Err(weak) = check(&settings(), "abcdefghijkl", &[]) else { panic!("accepted") };
        let text = weak.to_string();
        assert!(text.starts_with("The password is easy to guess. ") && text.ends_with('.'), "{text}");
        let short = WeakPassword::TooShort { min: 8 }.to_string();
        assert_eq!(short, "The password is too short: use at least 8 characters, better 15 or more.");
    }

    #[test]
    fn guessable_password_is_refused_and_any_character_accepted() {
        assert_eq!(verdict("aaaaaaaaaaaa"), "password_guessable");
        assert_eq!(verdict("abcdefghijkl"), "password_guessable");
        for pattern in ["Summer2024!", "Winter2026!", "Company2025!", "Letmein123!", "Monday123!", "Michael1990!"] {
            assert_eq!(verdict(pattern), "password_guessable", "{pattern}");
        }
        assert_eq!(verdict("tidal engine verse marmalade"), "good");
        assert_eq!(verdict("nvkxqhzpwmtr"), "good");
        assert_eq!(verdict("839201746501"), "good");
        assert_eq!(verdict("🦀🐘🪁🧭🛶🎻🪵🥁"), "good");
    }
}
