//! Accounts: names, roles, and the record of an account.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use super::{
    clock::Timestamp,
    factor::{Factors, FactorsVersion},
    ids::AccountId,
    secret::PasswordHash,
    text::{comparison_key, is_deceptive, mixes_lookalike_scripts},
};

/// An e-mail address as its owner wrote it. Addresses are compared by [`Email::key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

/// The reason why an e-mail address or a username is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is not of the form `local@domain`.
    #[error("is not an e-mail address (local@domain.example, at most 254 bytes, no spaces)")]
    Email,
    /// The name contains format characters or other invisible ones. For control characters, the error is [`Self::Email`] or
    /// [`Self::Username`].
    #[error("contains invisible or direction-changing characters")]
    HiddenCharacters,
    /// The name is not 1 to 64 letters, digits, `.`, `_` or `-`.
    #[error("must be 1 to 64 characters out of letters, digits, '.', '_' and '-'")]
    Username,
    /// The username has the form of a UUID, so it could be mistaken for an account id.
    #[error("must not have the form of a UUID")]
    UsernameIsUuid,
    /// The username mixes scripts whose letters look alike.
    #[error("must not mix Latin letters with Greek or Cyrillic ones")]
    MixedScripts,
}

/// Whether a name has characters that are not visible. Control characters have other errors.
fn has_hidden_characters(name: &str) -> bool {
    name.contains(|c: char| is_deceptive(c) && !c.is_control())
}

impl Email {
    /// Checks the form of an address (RFC 5321, section 4.5.3.1: at most 254 bytes, 64 before the `@`). Only a mail
    /// to the address can show whether it exists.
    ///
    /// The domain must contain a dot, be `localhost`, or be an address literal (`[192.0.2.1]`). Another domain without a dot
    /// is nearly always a typing error: no public mail server has one.
    ///
    /// # Errors
    /// [`NameError::Email`], [`NameError::HiddenCharacters`]
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if has_hidden_characters(text) {
            return Err(NameError::HiddenCharacters);
        }
        let is_domain = |domain: &str| {
            let has_no_empty_label = domain.split('.').all(|label| !label.is_empty());
            let is_literal = domain.starts_with('[') && domain.ends_with(']') && domain.len() > 2;
            is_literal || domain.eq_ignore_ascii_case("localhost") || (has_no_empty_label && domain.contains('.'))
        };
        let is_valid = text.len() <= 254
            && !text.contains(|c: char| c.is_whitespace() || c.is_control())
            && text.rsplit_once('@').is_some_and(|(local, domain)| {
                !local.is_empty() && local.len() <= 64 && !local.contains('@') && is_domain(domain)
            });
        if is_valid { Ok(Self(text.to_owned())) } else { Err(NameError::Email) }
    }

    /// An address that an earlier release accepted and stored. The rules for new addresses don't apply to it.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that is compared and unique: lower case, Unicode NFC.
    pub fn key(&self) -> String {
        comparison_key(&self.0)
    }
}

/// A username as its owner wrote it, compared by [`Username::key`]. It contains no `@` and does not have the form of a UUID, so it
/// can't be mistaken for an e-mail address or an account id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// Checks the form of a username.
    ///
    /// # Errors
    /// [`NameError::Username`], [`NameError::UsernameIsUuid`], [`NameError::MixedScripts`],
    /// [`NameError::HiddenCharacters`]
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if has_hidden_characters(text) {
            return Err(NameError::HiddenCharacters);
        }
        // The check is on the composed form (NFC), so that letters with combining marks count as letters.
        let key = comparison_key(text);
        let is_valid = (1..=64).contains(&text.chars().count())
            && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if !is_valid {
            return Err(NameError::Username);
        }
        if Uuid::try_parse(text).is_ok() {
            return Err(NameError::UsernameIsUuid);
        }
        if mixes_lookalike_scripts(text) {
            return Err(NameError::MixedScripts);
        }
        Ok(Self(text.to_owned()))
    }

    /// A username that an earlier release accepted and stored. The rules for new usernames don't apply to it.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that is compared and unique: lower case, Unicode NFC.
    pub fn key(&self) -> String {
        comparison_key(&self.0)
    }
}

/// The reason why a list of roles is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolesError {
    /// A name is not 1 to 64 ASCII letters, digits, `.`, `_`, `-` or `:`.
    #[error("must be 1 to 64 characters out of ASCII letters, digits, '.', '_', '-' and ':'")]
    Name,
    /// More than [`Roles::MAX`] roles.
    #[error("must be at most {} roles, because every access token contains all of them", Roles::MAX)]
    TooMany,
}

/// The roles of an account: the `roles` claim of its access tokens (RFC 9068, section 2.2.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(Vec<String>);

impl Roles {
    /// The role that may use Latchkey's own admin calls.
    pub const ADMIN: &'static str = "admin";
    /// The maximum number of roles of an account: every access token contains all of them.
    pub const MAX: usize = 32;

    /// Checks, sorts and deduplicates role names.
    ///
    /// # Errors
    /// [`RolesError`]
    pub fn parse<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, RolesError> {
        let mut roles = Vec::new();
        for name in names {
            let name = name.as_ref();
            let is_valid = (1..=64).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':'));
            if !is_valid {
                return Err(RolesError::Name);
            }
            roles.push(name.to_owned());
        }
        roles.sort();
        roles.dedup();
        if roles.len() > Self::MAX { Err(RolesError::TooMany) } else { Ok(Self(roles)) }
    }

    /// Reads role names separated by spaces, as `Display` writes them.
    ///
    /// # Errors
    /// See [`Roles::parse`].
    pub fn from_spaced(text: &str) -> Result<Self, RolesError> {
        Self::parse(text.split(' ').filter(|name| !name.is_empty()))
    }

    /// The names, sorted, each once.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether the account has no roles.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `name` is one of the roles.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|role| role == name)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// An account as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The `sub` of the account's tokens. Never reused for another account.
    pub id: AccountId,
    /// The primary address, unique by [`Email::key`]. Empty after another account has verified the address.
    pub email: Email,
    /// Whether the primary address was shown to belong to the account's owner, here or at the system the account was imported from.
    /// An address that is not verified belongs to nobody (I13).
    pub email_verified: bool,
    /// The username, if any; unique by [`Username::key`].
    pub username: Option<Username>,
    /// The hash of the password; `None` if the account has no password.
    pub password_hash: Option<PasswordHash>,
    /// The roles; may be empty.
    pub roles: Roles,
    /// The time at which the account was disabled; `None` while it is enabled.
    pub disabled_at: Option<Timestamp>,
    /// When the account will be deleted, if its owner asked for that. A sign-in before then cancels the deletion.
    pub deletion_at: Option<Timestamp>,
    /// The time of registration, here or at the system the account was imported from.
    pub created_at: Timestamp,
    /// The time of the last change to the account.
    pub updated_at: Timestamp,
    /// The time of the last password change by the owner or an admin. A rehash doesn't count.
    pub password_changed_at: Timestamp,
    /// Incremented by every change that ends the account's sessions (I5) or changes the claims of its access tokens (I16). A sign-in that
    /// was checked against an older epoch can't create a session.
    pub epoch: Epoch,
    /// Incremented by every change to a claim of the account's access tokens, such as its roles (I16).
    pub claims_version: ClaimsVersion,
    /// The kinds of second factors that the account has.
    pub factors: Factors,
    /// Incremented by every change of the account's factors.
    pub factors_version: FactorsVersion,
    /// When a sign-in first found that the account has no second factor, although `factors.required` demands one.
    pub factor_required_at: Option<Timestamp>,
}

/// The number of changes to the claims of an account. Access tokens with an older version are refused (I16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ClaimsVersion(pub u32);

impl ClaimsVersion {
    /// The next version.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The version of an account's claims, and the time of their last change, as Redis holds them beside the account's sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimsStamp {
    /// The current version.
    pub version: ClaimsVersion,
    /// When the version became current, by the clock of the node that changed the claims. None if a sign-in stored the version.
    pub changed_at: Option<Timestamp>,
}

impl ClaimsStamp {
    /// Whether the claims of an access token may be older than the account's. `token_version` is the token's version of claims,
    /// and `issued_at` its `iat`, in seconds since the Unix epoch. Tokens that a release before 0.2 has issued have no version:
    /// their `iat` decides.
    pub fn outdates(&self, token_version: Option<ClaimsVersion>, issued_at: i64) -> bool {
        match token_version {
            Some(token_version) => token_version < self.version,
            None => self.changed_at.is_some_and(|changed_at| issued_at <= changed_at.as_secs()),
        }
    }
}

impl Account {
    /// The primary address; `None` after another account has verified it.
    pub fn primary_email(&self) -> Option<&Email> {
        let has_address = !self.email.as_str().is_empty();
        has_address.then_some(&self.email)
    }

    /// The name by which messages, pages and authenticators show the account: the primary address, or else the username, or else
    /// the id.
    pub fn display_identifier(&self) -> String {
        let username = self.username.as_ref().map(Username::as_str);
        let name = self.primary_email().map(Email::as_str).or(username);
        name.map_or_else(|| self.id.to_string(), str::to_owned)
    }

    /// The e-mail address in `identifier`, if it is not the account's primary address. A lookup by an address finds an account only
    /// by its primary address or by a verified secondary one: so if the lookup has found this account, the address is verified.
    pub fn other_email(&self, identifier: &Identifier) -> Option<Email> {
        match identifier {
            Identifier::Email(typed) if identifier.key() != self.email.key() => Some(Email(typed.clone())),
            Identifier::Email(_) | Identifier::Username(_) => None,
        }
    }

    /// Whether the account owns the identifier by which a lookup has found it. An unverified primary address belongs to nobody
    /// (I13).
    pub fn owns(&self, identifier: &Identifier) -> bool {
        self.email_verified || self.other_email(identifier).is_some()
    }

    /// Whether the account may not be used any more at `now`: it is disabled, or its deletion is due.
    pub fn is_closed(&self, now: Timestamp) -> bool {
        self.disabled_at.is_some() || self.deletion_at.is_some_and(|at| at <= now)
    }
}

/// A counter of an account: the number of changes that have ended its sessions or changed the claims of its access tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The next epoch.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// An account to insert. Its epoch starts at zero.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// See [`Account::id`].
    pub id: AccountId,
    /// See [`Account::email`].
    pub email: Email,
    /// See [`Account::email_verified`].
    pub email_verified: bool,
    /// See [`Account::username`].
    pub username: Option<Username>,
    /// See [`Account::password_hash`].
    pub password_hash: Option<PasswordHash>,
    /// See [`Account::roles`].
    pub roles: Roles,
    /// See [`Account::disabled_at`].
    pub disabled_at: Option<Timestamp>,
    /// See [`Account::created_at`].
    pub created_at: Timestamp,
    /// See [`Account::updated_at`].
    pub updated_at: Timestamp,
}

/// A name typed at sign-in, in lower case: an e-mail address if it contains an `@`, else a username.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// An e-mail address.
    Email(String),
    /// A username.
    Username(String),
}

impl From<&Email> for Identifier {
    fn from(email: &Email) -> Self {
        Self::Email(email.0.to_lowercase())
    }
}

impl Identifier {
    /// Reads an identifier. Every text is one; the database decides whether an account has it.
    pub fn parse(text: &str) -> Self {
        if text.contains('@') { Self::Email(text.to_lowercase()) } else { Self::Username(text.to_lowercase()) }
    }

    /// The form in which names are compared: [`Email::key`] or [`Username::key`].
    pub fn key(&self) -> String {
        comparison_key(self.lower_case())
    }

    /// The name in lower case, without Unicode normalization: the key that early releases stored.
    pub fn lower_case(&self) -> &str {
        let (Self::Email(text) | Self::Username(text)) = self;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_with_dotted_domain_localhost_or_literal_is_accepted() {
        for good in ["a@b.c", "ann@localhost", "ann@[192.0.2.1]", "Zoë.Q@exämple.com", "o'brien+x@mail.example.co.uk"]
        {
            assert!(Email::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn email_of_another_form_is_refused() {
        for bad in
            ["", "a", "a@b", "@b.c", "a@", "a@b..c", "a@.c", "a@b.", "a b@c.d", "a@b@c.d", "a\u{0}@b.c", "a\n@b.c"]
        {
            assert_eq!(Email::parse(bad), Err(NameError::Email), "{bad:?}");
        }
    }

    #[test]
    fn names_with_hidden_characters_are_refused() {
        // a change of the direction of text, a zero-width space, a byte order mark
        for bad in ["a\u{202e}moc.live@x.example", "\u{200b}ada@x.example", "a\u{feff}@x.example"] {
            assert_eq!(Email::parse(bad), Err(NameError::HiddenCharacters), "{bad:?}");
        }
        // a zero-width joiner
        assert_eq!(Username::parse("ada\u{200d}"), Err(NameError::HiddenCharacters));
    }

    #[test]
    fn invalid_username_is_refused_with_the_reason() {
        for (bad, why) in [
            ("ann@example", NameError::Username),
            ("8281cec3-5b48-46eb-a41d-72c15ec3f9e2", NameError::UsernameIsUuid),
            ("8281CEC35B4846EBA41D72C15EC3F9E2", NameError::UsernameIsUuid),
            ("\u{430}dmin", NameError::MixedScripts), // the first letter is Cyrillic
            ("", NameError::Username),
            ("a b", NameError::Username),
        ] {
            assert_eq!(Username::parse(bad), Err(why), "{bad}");
        }
        // `u{301}` combines with the letter before it; `deadbeef` is hexadecimal, but no UUID
        for good in ["ann", "Zoë_Q", "jose\u{301}", "мария", "deadbeef"] {
            assert!(Username::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn display_identifier_is_the_address_or_else_the_username_or_else_the_id() {
        let (id, time) = (AccountId::from_bytes([7; 16]), Timestamp::from_millis(0));
        let account = |email: &str, username: Option<&str>| Account {
            id,
            email: Email::from_stored(email.to_owned()),
            email_verified: false,
            username: username.map(|name| Username::parse(name).unwrap()),
            password_hash: None,
            roles: Roles::default(),
            disabled_at: None,
            deletion_at: None,
            created_at: time,
            updated_at: time,
            password_changed_at: time,
            epoch: Epoch(0),
            claims_version: ClaimsVersion(0),
            factors: Factors::NONE,
            factors_version: FactorsVersion::default(),
            factor_required_at: None,
        };
        assert_eq!(account("Ann@example.com", Some("ann")).display_identifier(), "Ann@example.com");
        let without_address = account("", Some("ann"));
        assert_eq!(without_address.primary_email(), None);
        assert_eq!(without_address.display_identifier(), "ann");
        assert_eq!(account("", None).display_identifier(), id.to_string());
    }

    #[test]
    fn token_of_older_claims_is_outdated() {
        // The claims have changed in second 7. A token without a version that was issued in this second may have the older claims.
        let stamp = ClaimsStamp { version: ClaimsVersion(2), changed_at: Some(Timestamp::from_millis(7_900)) };
        let issued_at = 100; // has no effect on tokens with a version
        let outdated = [1, 2, 3].map(|version| stamp.outdates(Some(ClaimsVersion(version)), issued_at));
        assert_eq!(outdated, [true, false, false]);
        assert_eq!([6, 7, 8].map(|issued_at| stamp.outdates(None, issued_at)), [true, true, false]);
        // claims that have never changed
        assert!(!ClaimsStamp::default().outdates(None, 1));
    }

    #[test]
    fn identifier_keys_match_account_keys() {
        let email = "Jose\u{301}@Example.com";
        assert_eq!(Identifier::parse(email).key(), Email::parse(email).unwrap().key());
        let username = "Jose\u{301}";
        assert_eq!(Identifier::parse(username).key(), Username::parse(username).unwrap().key());
    }
}
