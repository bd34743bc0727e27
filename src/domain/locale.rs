//! The languages of mails and pages, and the choice between them.

use std::{fmt, num::ParseFloatError, str::FromStr};

use serde::{Deserialize, Serialize};

/// A language of mails and pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Locale {
    /// English.
    #[default]
    En,
    /// German.
    De,
    /// French.
    Fr,
    /// Spanish.
    Es,
    /// Portuguese.
    Pt,
}

/// The text names no supported language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of en, de, fr, es, pt")]
pub struct UnknownLocale;

impl Locale {
    /// All languages.
    pub const ALL: [Self; 5] = [Self::En, Self::De, Self::Fr, Self::Es, Self::Pt];

    /// The language's code (ISO 639-1), which is also its BCP 47 tag.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
            Self::Fr => "fr",
            Self::Es => "es",
            Self::Pt => "pt",
        }
    }

    /// The language of a BCP 47 tag (RFC 5646) such as `de` or `de-AT`, also with an underscore (`pt_BR`). Region and script are
    /// ignored. `None` for a language that is not supported.
    pub fn from_tag(tag: &str) -> Option<Self> {
        let language = tag.split(['-', '_']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|locale| locale.as_str().eq_ignore_ascii_case(language))
    }

    /// The best language of an `Accept-Language` header (RFC 9110, section 12.5.4): the supported language with the highest
    /// weight, and the first of several with equal weights. Entries with the weight 0 or an invalid one, and `*`, are ignored. Only
    /// the first 32 entries count, so that a long header costs little.
    pub fn from_accept_language(header: &str) -> Option<Self> {
        let mut best: Option<(Self, f32)> = None;
        for entry in header.split(',').take(32) {
            let mut parts = entry.split(';');
            let Some(locale) = parts.next().and_then(|tag| Self::from_tag(tag.trim())) else { continue };
            let weight = match parts.find_map(parse_weight) {
                None => 1.0,
                Some(Ok(weight)) => weight.clamp(0.0, 1.0),
                Some(Err(_)) => continue,
            };
            let best_weight = best.map_or(0.0, |(_, weight)| weight);
            if weight > best_weight {
                best = Some((locale, weight));
            }
        }
        best.map(|(locale, _)| locale)
    }

    /// The language for a user: the one that the account's tag names, else the best one of `Accept-Language`, else `default`.
    /// Unsupported languages are skipped.
    pub fn choose(account_tag: Option<&str>, accept_language: Option<&str>, default: Self) -> Self {
        let of_account = account_tag.and_then(Self::from_tag);
        of_account.or_else(|| accept_language.and_then(Self::from_accept_language)).unwrap_or(default)
    }
}

/// Parses a parameter of a header's entry as its weight (RFC 9110, section 12.4.2). `None` for another parameter
/// than `q`, which may be in upper case.
pub fn parse_weight(parameter: &str) -> Option<Result<f32, ParseFloatError>> {
    let (name, weight) = parameter.split_once('=')?;
    name.trim().eq_ignore_ascii_case("q").then(|| weight.trim().parse())
}

impl FromStr for Locale {
    type Err = UnknownLocale;

    /// Accepts the codes of [`Locale::as_str`] only: no region, no upper case.
    fn from_str(text: &str) -> Result<Self, UnknownLocale> {
        Self::ALL.into_iter().find(|locale| locale.as_str() == text).ok_or(UnknownLocale)
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_language_with_weights_gives_best_supported_language() {
        for (header, expected) in [
            ("de-AT,de;q=0.9,en;q=0.8", Some(Locale::De)),
            ("nl, fr-CA;q=0.5, es;q=0.7", Some(Locale::Es)),
            ("en;q=0.1, PT-br;q=1.0", Some(Locale::Pt)),
            ("de;q=0", None),
            ("de;Q=0", None),
            ("de;Q=0.1, fr;q=0.2", Some(Locale::Fr)),
            ("de;q=x, fr", Some(Locale::Fr)),
            ("", None),
            ("*", None),
            ("nl", None),
        ] {
            assert_eq!(Locale::from_accept_language(header), expected, "{header}");
        }
    }

    #[test]
    fn account_language_wins_over_header_and_default() {
        assert_eq!(Locale::choose(Some("fr-CH"), Some("de"), Locale::En), Locale::Fr);
        assert_eq!(Locale::choose(Some("nl"), Some("de"), Locale::En), Locale::De);
        assert_eq!(Locale::choose(None, None, Locale::Es), Locale::Es);
    }
}
