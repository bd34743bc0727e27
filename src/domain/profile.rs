//! The profile of an account: display name, locale, time zone and metadata.

use serde_json::{Map, Value};

use super::text::is_deceptive;

/// The maximum size of each kind of metadata, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 4096;

/// The maximum length of a display name.
const MAX_DISPLAY_NAME_CHARS: usize = 100;

/// The maximum length of a language tag: RFC 5646, section 4.4.1, requires room for 35 characters.
const MAX_LANGUAGE_TAG_BYTES: usize = 35;

/// The maximum length of a time zone's name, twice that of the longest name in the IANA database.
const MAX_TIME_ZONE_BYTES: usize = 64;

/// The profile of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The name that is shown to people.
    pub display_name: Option<String>,
    /// The language of mails (BCP 47).
    pub locale: Option<LanguageTag>,
    /// The time zone of times in mails (IANA).
    pub time_zone: Option<TimeZoneName>,
    /// Metadata that only operators and service clients write.
    pub app_metadata: Metadata,
    /// Metadata that the owner writes.
    pub user_metadata: Metadata,
}

/// Why a value of a profile is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The display name is empty, is too long, or has invisible characters.
    #[error("must have 1 to {MAX_DISPLAY_NAME_CHARS} characters, none of them invisible")]
    DisplayName,
    /// The text does not have the form of a language tag.
    #[error("must be a language tag, such as en or pt-BR")]
    LanguageTag,
    /// The text does not have the form of a time zone's name.
    #[error("must have the form of an IANA time zone, such as Europe/Berlin")]
    TimeZone,
    /// The metadata is too large.
    #[error("must have at most {MAX_METADATA_BYTES} bytes of JSON")]
    MetadataSize,
}

/// Checks a display name.
///
/// # Errors
/// [`ProfileError::DisplayName`]
pub fn parse_display_name(text: &str) -> Result<String, ProfileError> {
    let text = text.trim();
    let is_valid = (1..=MAX_DISPLAY_NAME_CHARS).contains(&text.chars().count()) && !text.contains(is_deceptive);
    if is_valid { Ok(text.to_owned()) } else { Err(ProfileError::DisplayName) }
}

/// A language tag (RFC 5646, section 2.1): subtags of ASCII letters and digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanguageTag(String);

impl LanguageTag {
    /// Checks the form of a language tag.
    ///
    /// # Errors
    /// [`ProfileError::LanguageTag`]
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let is_language =
            |tag: &str| (2..=3).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_subtag =
            |tag: &str| (1..=8).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let mut subtags = text.split('-');
        let has_form = subtags.next().is_some_and(is_language) && subtags.all(is_subtag);
        if has_form && text.len() <= MAX_LANGUAGE_TAG_BYTES {
            Ok(Self(text.to_owned()))
        } else {
            Err(ProfileError::LanguageTag)
        }
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of an IANA time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZoneName(String);

impl TimeZoneName {
    /// Checks the form of a name: parts of letters, digits, `_`, `+` and `-`, separated by slashes. Does not look the zone up: a
    /// node may lack a zone that another node has.
    ///
    /// # Errors
    /// [`ProfileError::TimeZone`]
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-'))
        };
        if text.len() <= MAX_TIME_ZONE_BYTES && text.split('/').all(is_part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ProfileError::TimeZone)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A JSON object of at most [`MAX_METADATA_BYTES`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// Checks the size of an object.
    ///
    /// # Errors
    /// [`ProfileError::MetadataSize`]
    pub fn new(object: Map<String, Value>) -> Result<Self, ProfileError> {
        let metadata = Self(object);
        if metadata.to_json().len() <= MAX_METADATA_BYTES { Ok(metadata) } else { Err(ProfileError::MetadataSize) }
    }

    /// Reads stored JSON, whose size has been checked; `None` if it is not an object.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    /// The members.
    pub const fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Metadata with only the members that have these names.
    #[must_use]
    pub fn only(&self, names: &[String]) -> Self {
        let members = self.0.iter().filter(|(name, _)| names.contains(name));
        Self(members.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The members.
    pub fn into_members(self) -> Map<String, Value> {
        self.0
    }

    /// The JSON to store.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locale_must_have_the_form_of_a_language_tag() {
        for good in ["en", "pt-BR", "zh-Hant-TW", "de-CH-1996", "sl-rozaj-biske"] {
            assert!(LanguageTag::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "e", "engl", "en_US", "en-", "-en", "en-\u{e4}", "en\r\nBcc: x", "en-abcdefghi"] {
            assert_eq!(LanguageTag::parse(bad), Err(ProfileError::LanguageTag), "{bad:?}");
        }
    }

    #[test]
    fn time_zone_must_have_the_form_of_a_name() {
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+7", "Unknown/Zone"] {
            assert!(TimeZoneName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "../etc/passwd", "Europe/", "+7", "Europe/Ber lin"] {
            assert_eq!(TimeZoneName::parse(bad), Err(ProfileError::TimeZone), "{bad:?}");
        }
        // The zone is not looked up, so the message must not say that it is unknown.
        assert_eq!(
            ProfileError::TimeZone.to_string(),
            "must have the form of an IANA time zone, such as Europe/Berlin"
        );
    }

    #[test]
    fn metadata_over_its_limit_is_refused() {
        let metadata_with_text_of = |length: usize| {
            let mut object = Map::new();
            object.insert("a".to_owned(), Value::String("x".repeat(length)));
            Metadata::new(object)
        };
        // The JSON around the text, `{"a":""}`, has 8 bytes.
        assert!(metadata_with_text_of(MAX_METADATA_BYTES - 8).is_ok());
        assert_eq!(metadata_with_text_of(MAX_METADATA_BYTES - 7), Err(ProfileError::MetadataSize));
    }

    #[test]
    fn display_name_is_trimmed_and_has_no_invisible_characters() {
        assert_eq!(parse_display_name(" Ada Lovelace "), Ok("Ada Lovelace".to_owned()));
        for bad in ["", " ", "a\nb", "a\u{202e}b", &"x".repeat(MAX_DISPLAY_NAME_CHARS + 1)] {
            assert_eq!(parse_display_name(bad), Err(ProfileError::DisplayName), "{bad:?}");
        }
    }
}
