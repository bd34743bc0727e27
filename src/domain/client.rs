//! Clients: services that introspect tokens and may have tokens of their own, and apps that sign users in.

use std::fmt;

use subtle::ConstantTimeEq;

use super::{
    app_client::{AppSettings, ClientAuthMethod, ClientKind, GrantType},
    clock::Timestamp,
    dynamic_client::DynamicClient,
};

/// A `client_id` (RFC 6749, section 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(String);

/// Why a text is not a valid `client_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientIdError {
    /// The text is empty, too long, or contains a character that is not allowed.
    #[error("must have 1 to 64 ASCII letters, digits, dots, underscores or hyphens")]
    Form,
    /// The text is a UUID, and so could be mistaken for the `sub` of an account (RFC 9068, section 5).
    #[error("must not be a UUID: account ids are UUIDs")]
    Uuid,
}

impl ClientId {
    /// Parses a `client_id`.
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

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A list of scopes (RFC 6749, section 3.3) or audiences, printed with spaces between the items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpaceSeparated(Vec<String>);

/// An item is empty or has a character that is not allowed. Contains the item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} must be printable ASCII characters without spaces, double quotes and backslashes")]
pub struct InvalidItem(pub String);

impl SpaceSeparated {
    /// Checks each item. The list keeps the order of the items and drops duplicates.
    ///
    /// # Errors
    /// [`InvalidItem`]
    pub fn parse<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Result<Self, InvalidItem> {
        let mut unique = Vec::new();
        for item in items {
            let item = item.as_ref();
            // the characters of a scope (RFC 6749, section 3.3): printable ASCII except space, `"` and `\`
            let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            if item.is_empty() || !item.bytes().all(allowed) {
                return Err(InvalidItem(item.to_owned()));
            }
            if !unique.iter().any(|earlier| earlier == item) {
                unique.push(item.to_owned());
            }
        }
        Ok(Self(unique))
    }

    /// Parses items separated by single spaces; an empty text has no items.
    ///
    /// # Errors
    /// [`InvalidItem`]
    pub fn from_spaced(text: &str) -> Result<Self, InvalidItem> {
        // `split` would return one empty item
        if text.is_empty() { Ok(Self::default()) } else { Self::parse(text.split(' ')) }
    }

    /// The items.
    pub fn items(&self) -> &[String] {
        &self.0
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list contains `item`.
    pub fn contains(&self, item: &str) -> bool {
        self.0.iter().any(|own| own == item)
    }

    /// Whether the list contains every item of `other`.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.0.iter().all(|item| self.contains(item))
    }
}

impl fmt::Display for SpaceSeparated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// The SHA-256 of a client's secret. The secret has 256 random bits, so it needs no salt and no slow hash. Compared in
/// constant time; `Debug` does not print it.
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

/// The previous secret, which is accepted for a grace period so that a service can switch to the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerSecret {
    /// The hash.
    pub hash: ClientSecretHash,
    /// When the secret expires.
    pub until: Timestamp,
}

/// A registered client: a service or an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The `client_id`, if an operator has registered the client. Otherwise the `client_id` ([`Client::client_id`]) may be long, and
    /// this id contains a digest of it.
    pub id: ClientId,
    /// The kind.
    pub kind: ClientKind,
    /// How the client signs users in; empty for services.
    pub app: AppSettings,
    /// The scopes that the client's own tokens, and those of its users, may have.
    pub scopes: SpaceSeparated,
    /// The audiences of the client's tokens. A service may also introspect and revoke tokens with these audiences; an app may
    /// request them as resources (RFC 8707).
    pub audiences: SpaceSeparated,
    /// The public keys with which the client authenticates: a JWK Set (RFC 7517, section 5).
    pub jwks: Option<String>,
    /// The hash of the current secret. A public client has one as well, but can't authenticate with it ([`Client::accepts`]).
    pub secret: ClientSecretHash,
    /// The previous secret, if any.
    pub former_secret: Option<FormerSecret>,
    /// When the client was created.
    pub created_at: Timestamp,
    /// When the client was disabled; none while it is enabled.
    pub disabled_at: Option<Timestamp>,
    /// The `client_id` and the metadata of a client that no operator has registered; none for all others.
    pub dynamic: Option<Box<DynamicClient>>,
}

impl Client {
    /// Whether the client is enabled.
    pub const fn is_enabled(&self) -> bool {
        self.disabled_at.is_none()
    }

    /// The `client_id` that the client sends, and that tokens and lists show.
    pub fn client_id(&self) -> &str {
        self.dynamic.as_ref().map_or(self.id.as_str(), |dynamic| &dynamic.client_id)
    }

    /// Whether the client is a service. Only services may introspect tokens and follow the revocation feed.
    pub const fn is_service(&self) -> bool {
        matches!(self.kind, ClientKind::Service)
    }

    /// Whether the client may exchange a grant of this type for tokens.
    pub fn may_use(&self, grant: GrantType) -> bool {
        self.app.grant_types.contains(&grant)
    }

    /// Whether the client may authenticate by this method. A client with credentials but no configured method may use any.
    pub fn accepts(&self, method: ClientAuthMethod) -> bool {
        match (self.kind, self.app.auth_method) {
            (ClientKind::Public, _) => method == ClientAuthMethod::None,
            (_, Some(only)) => method == only,
            (_, None) => method != ClientAuthMethod::None,
        }
    }

    /// The name to show to users, or the `client_id` if the client has no name.
    pub fn display_name(&self) -> &str {
        self.app.name.as_deref().unwrap_or_else(|| self.client_id())
    }

    /// Whether `hash` is the hash of the current secret, or of the previous secret within its grace period.
    pub fn has_secret(&self, hash: &ClientSecretHash, now: Timestamp) -> bool {
        let is_current = self.secret == *hash;
        let is_former = self.former_secret.as_ref().is_some_and(|former| former.hash == *hash && now < former.until);
        is_current || is_former
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn client_id_is_plain_ascii_and_no_uuid() {
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
    fn space_separated_accepts_the_characters_of_rfc_6749_only() {
        let list = SpaceSeparated::parse(["read", "https://api.example.com/", "read"]).unwrap();
        assert_eq!(list.to_string(), "read https://api.example.com/");
        assert_eq!(SpaceSeparated::from_spaced("read https://api.example.com/"), Ok(list.clone()));
        assert_eq!(SpaceSeparated::from_spaced(""), Ok(SpaceSeparated::default()));
        for text in [" ", "a  b", " a", "a ", "a\"b", "a\\b", "a\nb", "ä"] {
            assert!(SpaceSeparated::from_spaced(text).is_err(), "{text:?}");
        }
        assert!(list.contains_all(&SpaceSeparated::parse(["read"]).unwrap()));
        assert!(!list.contains_all(&SpaceSeparated::parse(["read", "write"]).unwrap()));
    }

    #[test]
    fn client_has_both_secrets_until_the_former_expires() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let expiry = now + Duration::from_secs(60);
        let (old, new) = (ClientSecretHash::new([1; 32]), ClientSecretHash::new([2; 32]));
        let client = Client {
            id: ClientId::parse("billing").unwrap(),
            kind: ClientKind::Service,
            app: AppSettings::default(),
            scopes: SpaceSeparated::default(),
            audiences: SpaceSeparated::parse(["latchkey"]).unwrap(),
            jwks: None,
            secret: new.clone(),
            former_secret: Some(FormerSecret { hash: old.clone(), until: expiry }),
            created_at: now,
            disabled_at: None,
            dynamic: None,
        };
        assert!(client.has_secret(&new, now));
        assert!(client.has_secret(&old, now));
        assert!(!client.has_secret(&ClientSecretHash::new([3; 32]), now));
        assert!(client.has_secret(&new, expiry));
        assert!(!client.has_secret(&old, expiry));
        assert!(!format!("{client:?}").contains("1, 1"), "the bytes of a hash are not printed");
    }
}
