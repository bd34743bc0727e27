//! Accounts: who may sign in.

use std::fmt;

use super::{clock::Timestamp, ids::AccountId, secret::PasswordHash};

/// An e-mail address as its owner wrote it. Two addresses that differ only in case are the same account's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

/// Why an e-mail address, a username or a role was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not of the form `local@domain`, or with white space or control characters in it.
    #[error("is not an e-mail address (local@domain, at most 254 bytes, no spaces)")]
    Email,
    /// Not 1 to 64 of letters, digits, `.`, `_`, `-`.
    #[error("must be 1 to 64 characters out of letters, digits, '.', '_' and '-'")]
    Username,
    /// Not 1 to 64 of ASCII letters, digits, `.`, `_`, `-`, `:`.
    #[error("must be 1 to 64 characters out of ASCII letters, digits, '.', '_', '-' and ':'")]
    Role,
    /// More than [`Roles::MAX`].
    #[error("must be at most {} roles: all of them stand in every access token", Roles::MAX)]
    TooManyRoles,
}

impl Email {
    /// Checks only what every address has (RFC 5321, section 4.5.3.1: at most 254 bytes); whether it is somebody's
    /// only a letter to it can tell.
    ///
    /// # Errors
    /// [`NameError::Email`]
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let ok = text.len() <= 254
            && !text.chars().any(|c| c.is_whitespace() || c.is_control())
            && text.rsplit_once('@').is_some_and(|(local, domain)| {
                !local.is_empty() && local.len() <= 64 && !domain.is_empty() && !local.contains('@')
            });
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError::Email) }
    }

    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is compared and unique: the address in lower case.
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

/// A username as its owner wrote it. Unique without regard to case, and never holds an `@`, so that it can't be
/// taken for an e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// # Errors
    /// [`NameError::Username`]
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let length = text.chars().count();
        let ok =
            (1..=64).contains(&length) && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError::Username) }
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is compared and unique: the name in lower case.
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

/// The roles of an account, as they stand in its tokens' `roles` claim (RFC 9068, section 2.2.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(Vec<String>);

impl Roles {
    /// The role that may use Latchkey's own admin calls.
    pub const ADMIN: &'static str = "admin";
    /// How many an account may have: every access token holds them all.
    pub const MAX: usize = 32;

    /// # Errors
    /// [`NameError::Role`] if one of them isn't a role's name, [`NameError::TooManyRoles`].
    pub fn parse<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, NameError> {
        let mut roles = Vec::new();
        for name in names {
            let name = name.as_ref();
            let ok = (1..=64).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':'));
            if !ok {
                return Err(NameError::Role);
            }
            roles.push(name.to_owned());
        }
        roles.sort();
        roles.dedup();
        if roles.len() > Self::MAX { Err(NameError::TooManyRoles) } else { Ok(Self(roles)) }
    }

    /// Reads what [`Roles`]' `Display` wrote: names separated by spaces, none for no roles.
    ///
    /// # Errors
    /// See [`Roles::parse`].
    pub fn from_spaced(text: &str) -> Result<Self, NameError> {
        Self::parse(text.split(' ').filter(|name| !name.is_empty()))
    }

    /// The names, in order, each once.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `name` is among them.
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
    /// The `sub` of its tokens; never used again for another account.
    pub id: AccountId,
    /// Unique without regard to case.
    pub email: Email,
    /// Optional; unique without regard to case.
    pub username: Option<Username>,
    /// What its password is checked against.
    pub password_hash: PasswordHash,
    /// May be empty.
    pub roles: Roles,
    /// Since when it may not sign in, if it may not.
    pub disabled_at: Option<Timestamp>,
    /// When it was registered or imported.
    pub created_at: Timestamp,
    /// When anything of it was last changed.
    pub updated_at: Timestamp,
    /// When its password was last changed by its owner or an admin (a rehash doesn't count).
    pub password_changed_at: Timestamp,
    /// Grows whenever its sessions are ended because of a change to it. A sign-in that was checked against an older
    /// epoch can't create a session any more (I5).
    pub epoch: Epoch,
}

/// The number of times an account's sessions were ended by a change to the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// An account about to be stored; everything else starts at its default.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// See [`Account::id`].
    pub id: AccountId,
    /// See [`Account::email`].
    pub email: Email,
    /// See [`Account::username`].
    pub username: Option<Username>,
    /// See [`Account::password_hash`].
    pub password_hash: PasswordHash,
    /// See [`Account::roles`].
    pub roles: Roles,
    /// See [`Account::created_at`].
    pub created_at: Timestamp,
}

/// What someone signs in with: an e-mail address (it holds an `@`) or a username.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// [`Email::key`]
    Email(String),
    /// [`Username::key`]
    Username(String),
}

impl Identifier {
    /// Every text is an identifier; whether it is anybody's is for the database to say.
    pub fn parse(text: &str) -> Self {
        if text.contains('@') { Self::Email(text.to_lowercase()) } else { Self::Username(text.to_lowercase()) }
    }
}
