//! Service clients: other services that check tokens, and may have tokens of their own.

use std::fmt;

use subtle::ConstantTimeEq;

use super::clock::Timestamp;

/// A client's name, the `client_id` of OAuth 2.0 (RFC 6749, section 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(String);

/// Why a text can't be a client's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientIdError {
    /// Too short, too long, or with characters that aren't allowed.
    #[error("must have 1 to 64 ASCII letters, digits, dots, underscores or hyphens")]
    Form,
    /// It could be taken for an account's id, which is what the `sub` of other tokens is (RFC 9068, section 5).
    #[error("must not look like a UUID: accounts are named so")]
    Uuid,
}

impl ClientId {
    /// Takes a name that is fit to be one.
    ///
    /// # Errors
    /// [`ClientIdError`]
    pub fn parse(text: &str) -> Result<Self, ClientIdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=64).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(ClientIdError::Form);
        }
        if uuid::Uuid::try_parse(text).is_ok() {
            return Err(ClientIdError::Uuid);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SpaceSeparated that may stand in a list separated by spaces: scopes (RFC 6749, section 3.3) or audiences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpaceSeparated(Vec<String>);

/// The text isn't a list of words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a word of printable ASCII characters without spaces, quotes and backslashes")]
pub struct InvalidItem(pub String);

impl SpaceSeparated {
    /// Takes words, each once, in the order given.
    ///
    /// # Errors
    /// [`InvalidItem`]
    pub fn parse<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> Result<Self, InvalidItem> {
        let mut taken = Vec::new();
        for word in words {
            let word = word.as_ref();
            let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            if word.is_empty() || !word.bytes().all(allowed) {
                return Err(InvalidItem(word.to_owned()));
            }
            if !taken.iter().any(|known| known == word) {
                taken.push(word.to_owned());
            }
        }
        Ok(Self(taken))
    }

    /// Reads what [`SpaceSeparated`] prints: words with single spaces between them; nothing for none.
    ///
    /// # Errors
    /// [`InvalidItem`]
    pub fn from_spaced(text: &str) -> Result<Self, InvalidItem> {
        if text.is_empty() { Ok(Self::default()) } else { Self::parse(text.split(' ')) }
    }

    /// The words.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this word is among them.
    pub fn contains(&self, word: &str) -> bool {
        self.0.iter().any(|known| known == word)
    }

    /// Whether all of these are among them.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.0.iter().all(|word| self.contains(word))
    }
}

impl fmt::Display for SpaceSeparated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// The SHA-256 of a client's secret. The secret has 256 random bits, so that this needs no salt and no slow hash.
/// Compared in constant time; doesn't print.
#[derive(Clone)]
pub struct ClientSecretHash([u8; 32]);

impl ClientSecretHash {
    /// Wraps a SHA-256.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for ClientSecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for ClientSecretHash {}

impl fmt::Debug for ClientSecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[client secret hash]")
    }
}

/// The secret before the present one, which is accepted for a while so that a service can change over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerSecret {
    /// Its hash.
    pub hash: ClientSecretHash,
    /// From when on it isn't accepted any more.
    pub until: Timestamp,
}

/// Another service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its name.
    pub id: ClientId,
    /// What its own tokens may be used for.
    pub scopes: SpaceSeparated,
    /// Whom its own tokens are for, and whose tokens it may ask about.
    pub audiences: SpaceSeparated,
    /// Its public keys, a JWK Set (RFC 7517, section 5).
    pub jwks: Option<String>,
    /// The hash of its secret.
    pub secret: ClientSecretHash,
    /// The hash of the one before.
    pub former_secret: Option<FormerSecret>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it may do nothing any more.
    pub disabled_at: Option<Timestamp>,
}

impl Client {
    /// Whether it may do anything.
    pub const fn is_enabled(&self) -> bool {
        self.disabled_at.is_none()
    }

    /// Whether the secret of this hash is its own, now.
    pub fn has_secret(&self, hash: &ClientSecretHash, now: Timestamp) -> bool {
        let former = self.former_secret.as_ref().is_some_and(|former| former.hash == *hash && now < former.until);
        self.secret == *hash || former
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_are_plain_and_no_uuids() {
        for name in ["a", "billing", "A.b_c-9", &"x".repeat(64)] {
            assert_eq!(ClientId::parse(name).map(|id| id.to_string()), Ok(name.to_owned()));
        }
        for name in ["", "a b", "a:b", "ä", "a/b", "a%", &"x".repeat(65)] {
            assert_eq!(ClientId::parse(name), Err(ClientIdError::Form), "{name}");
        }
        for name in ["0192f0c1-2345-7abc-8def-0123456789ab", "0192F0C123457ABC8DEF0123456789AB"] {
            assert_eq!(ClientId::parse(name), Err(ClientIdError::Uuid), "{name}");
        }
    }

    #[test]
    fn words_are_those_of_rfc_6749() {
        let words = SpaceSeparated::parse(["read", "https://api.example.com/", "read"]).unwrap();
        assert_eq!(words.to_string(), "read https://api.example.com/");
        assert_eq!(SpaceSeparated::from_spaced("read https://api.example.com/"), Ok(words.clone()));
        assert_eq!(SpaceSeparated::from_spaced(""), Ok(SpaceSeparated::default()));
        for text in [" ", "a  b", " a", "a ", "a\"b", "a\\b", "a\nb", "ä"] {
            assert!(SpaceSeparated::from_spaced(text).is_err(), "{text:?}");
        }
        assert!(words.contains_all(&SpaceSeparated::parse(["read"]).unwrap()));
        assert!(!words.contains_all(&SpaceSeparated::parse(["read", "write"]).unwrap()));
    }

    #[test]
    fn two_secrets_are_valid_until_the_former_is_outlived() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let (old, new) = (ClientSecretHash::new([1; 32]), ClientSecretHash::new([2; 32]));
        let client = Client {
            id: ClientId::parse("billing").unwrap(),
            scopes: SpaceSeparated::default(),
            audiences: SpaceSeparated::parse(["latchkey"]).unwrap(),
            jwks: None,
            secret: new.clone(),
            former_secret: Some(FormerSecret { hash: old.clone(), until: now + Duration::from_secs(60) }),
            created_at: now,
            disabled_at: None,
        };
        assert!(client.has_secret(&new, now) && client.has_secret(&old, now));
        assert!(!client.has_secret(&ClientSecretHash::new([3; 32]), now));
        let later = now + Duration::from_secs(60);
        assert!(client.has_secret(&new, later) && !client.has_secret(&old, later));
        assert!(!format!("{client:?}").contains("1, 1"));
    }
}
