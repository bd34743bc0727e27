//! What a password must be: long enough, not among the commonest, and hard to guess. No composition rules
//! (NIST SP 800-63B, section 3.1.1.2; OWASP ASVS 6.2).

use std::{collections::HashSet, sync::LazyLock};

use crate::config::PasswordSettings;

/// The commonest passwords of at least eight characters, in lower case.
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common.txt").lines().filter(|line| !line.starts_with("# ")).collect());

/// How much of a password is looked at to estimate its strength; estimating takes long for long ones, which are strong.
const ESTIMATED_CHARACTERS: usize = 64;

/// The fewest characters that a password must have beside words that are known to be guessed.
const OWN_CHARACTERS: usize = 4;

/// Why a password was refused. The texts are for its owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Fewer characters than are needed.
    #[error("The password is too short: use at least {min} characters, better 15 or more.")]
    TooShort {
        /// As configured.
        min: usize,
    },
    /// More characters than are accepted.
    #[error("The password is too long: use at most {max} characters.")]
    TooLong {
        /// As configured.
        max: usize,
    },
    /// Among the commonest.
    #[error("This password is among the most common ones, which are tried first. Choose another.")]
    Common,
    /// Little more than a word that is known to be guessed: the product's name, the account's own.
    #[error("The password is little more than a name that is easily guessed here. Choose another.")]
    BannedWord,
    /// Easy to guess otherwise.
    #[error("The password is easy to guess. {advice}")]
    Guessable {
        /// What would make it better.
        advice: String,
    },
}

impl WeakPassword {
    /// The reason, for programs. Stable.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooShort { .. } => "password_too_short",
            Self::TooLong { .. } => "password_too_long",
            Self::Common => "password_common",
            Self::BannedWord => "password_banned_word",
            Self::Guessable { .. } => "password_guessable",
        }
    }
}

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
            banned_words: settings.banned_words.iter().map(|word| word.to_lowercase()).collect(),
        }
    }

    pub(super) fn check(&self, password: &str, context: &[String]) -> Result<(), WeakPassword> {
        let length = password.chars().count();
        if length < self.min_length {
            return Err(WeakPassword::TooShort { min: self.min_length });
        }
        if length > self.max_length {
            return Err(WeakPassword::TooLong { max: self.max_length });
        }
        let lower = password.to_lowercase();
        if COMMON.contains(lower.as_str()) {
            return Err(WeakPassword::Common);
        }
        let mut words: Vec<String> = self.banned_words.clone();
        words.extend(context.iter().map(|word| word.to_lowercase()));
        // the longest first, so that a word within another doesn't leave its rest
        words.retain(|word| word.chars().count() >= 3);
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let rest = words.iter().fold(lower.clone(), |rest, word| rest.replace(word.as_str(), ""));
        if rest.len() < lower.len() && rest.chars().count() < OWN_CHARACTERS {
            return Err(WeakPassword::BannedWord);
        }
        let start: String = password.chars().take(ESTIMATED_CHARACTERS).collect();
        let inputs: Vec<&str> = words.iter().map(String::as_str).collect();
        let estimate = zxcvbn::zxcvbn(&start, &inputs);
        if u8::from(estimate.score()) < self.min_score {
            return Err(WeakPassword::Guessable { advice: advice(&estimate) });
        }
        Ok(())
    }
}

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

    fn verdict(password: &str, context: &[&str]) -> &'static str {
        let context: Vec<String> = context.iter().map(|&word| word.to_owned()).collect();
        match Policy::new(&settings()).check(password, &context) {
            Ok(()) => "good",
            Err(weak) => weak.code(),
        }
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert_eq!(verdict("Vq7-xK2", &[]), "password_too_short");
        assert_eq!(verdict("Vq7-xK2w", &[]), "good");
        assert_eq!(verdict("ÄÖÜß日本語で", &[]), "good");
        assert_eq!(verdict(&"Vq7-xK2w".repeat(16), &[]), "good");
        assert_eq!(verdict(&("Vq7-xK2w".repeat(16) + "x"), &[]), "password_too_long");
    }

    #[test]
    fn every_common_password_is_refused() {
        assert!(COMMON.len() >= 3000, "{}", COMMON.len());
        for common in COMMON.iter() {
            assert_eq!(verdict(common, &[]), "password_common");
        }
        assert_eq!(verdict("PassWord1", &[]), "password_common");
    }

    #[test]
    fn names_that_are_known_here_are_refused() {
        assert_eq!(verdict("Latchkey", &[]), "password_banned_word");
        assert_eq!(verdict("latchkey123", &[]), "password_banned_word");
        assert_eq!(verdict("ada.lovelace!", &["ada.lovelace@example.com", "ada.lovelace"]), "password_banned_word");
    }

    #[test]
    fn the_guessable_is_refused_and_any_kind_of_character_accepted() {
        assert_eq!(verdict("aaaaaaaaaaaa", &[]), "password_guessable");
        assert_eq!(verdict("abcdefghijkl", &[]), "password_guessable");
        assert_eq!(verdict("tidal engine verse marmalade", &[]), "good");
        assert_eq!(verdict("nvkxqhzpwmtr", &[]), "good");
        assert_eq!(verdict("839201746501", &[]), "good");
        assert_eq!(verdict("🦀🐘🪁🧭🛶🎻🪵🥁", &[]), "good");
    }
}
