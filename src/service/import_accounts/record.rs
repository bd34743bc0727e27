//! One record of an import, from any system, and its validation.

use crate::{
    config::PasswordSettings,
    crypto::totp::TotpSecret,
    domain::{
        account::{Email, NameError, NewAccount, Roles, RolesError, Username},
        clock::Timestamp,
        entropy::Entropy,
        ids::AccountId,
    },
    password::{BadHash, import_hash},
};

use super::records::MAX_RECORD_BYTES;

/// The fields of an account, read from a record and not validated yet.
#[derive(Clone, Default)]
pub(super) struct Record {
    pub(super) id: Option<String>,
    pub(super) email: Option<String>,
    pub(super) email_verified: bool,
    pub(super) secondary_emails: Vec<RecordEmail>,
    pub(super) username: Option<String>,
    /// The hash, in any format that [`import_hash`] reads. `None` for an account without a password.
    pub(super) password_hash: Option<String>,
    pub(super) roles: Vec<String>,
    pub(super) disabled: bool,
    pub(super) created_at: Option<Timestamp>,
    pub(super) updated_at: Option<Timestamp>,
    /// The secret of an authenticator app, in base32.
    pub(super) totp_secret: Option<String>,
}

/// A secondary address of a record, not validated yet.
#[derive(Clone)]
pub(super) struct RecordEmail {
    pub(super) email: String,
    pub(super) verified: bool,
}

/// The reason why a record wasn't imported. The texts never quote a value, so that no hash reaches a terminal or a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The record is longer than [`MAX_RECORD_BYTES`].
    #[error("the record is longer than {MAX_RECORD_BYTES} bytes")]
    TooLong,
    /// The record is not JSON, or not UTF-8.
    #[error("the record is not valid JSON at byte {column}")]
    NotJson {
        /// The byte, counted from 1.
        column: usize,
    },
    /// The CSV record does not have as many fields as the header, or is not UTF-8.
    #[error("the record does not have one field for each column of the header")]
    NotCsv,
    /// The record is JSON, but not an object.
    #[error("the record is not a JSON object")]
    NotAnObject,
    /// The object has a field that an account doesn't have.
    #[error(
        "unknown field {0}; an account has id, email, email_verified, username, password_hash, roles, disabled, \
         created_at, updated_at, totp_secret and secondary_emails"
    )]
    UnknownField(String),
    /// The object has a field twice.
    #[error("the field {0} is repeated")]
    RepeatedField(&'static str),
    /// A required field is missing.
    #[error("the field {0} is missing")]
    MissingField(&'static str),
    /// `password_hash` is missing. An account without a password must have null.
    #[error("the field password_hash is missing; write null for an account without a password")]
    MissingHash,
    /// A field has a value of the wrong type.
    #[error("the field {field} must be {expected}")]
    WrongType {
        /// The field.
        field: &'static str,
        /// The expected type, with an article.
        expected: &'static str,
    },
    /// The id is not a UUID, or the nil UUID.
    #[error("id is not a UUID")]
    Id,
    /// The e-mail address is invalid.
    #[error("email {0}")]
    Email(NameError),
    /// A secondary address is invalid.
    #[error("an address of secondary_emails {0}")]
    SecondaryEmail(NameError),
    /// The record has the same address twice.
    #[error("an e-mail address is repeated")]
    RepeatedEmail,
    /// The record has more addresses than an account may have.
    #[error("the account has more e-mail addresses than account.max_emails allows")]
    TooManyEmails,
    /// The username is invalid.
    #[error("username {0}")]
    Username(NameError),
    /// A role is invalid.
    #[error("a role {0}")]
    Role(RolesError),
    /// The password hash can't be verified by this service.
    #[error("password_hash can't be used: {0}")]
    PasswordHash(BadHash),
    /// The secret of the authenticator app can't be used.
    #[error("totp_secret is not the secret of an authenticator app in base32, of 10 to 64 bytes")]
    TotpSecret,
    /// The time is not in the form of RFC 3339, or not between 1970 and 9999. Carries the field.
    #[error("{0} is not a time since 1970 in the form 2026-01-31T12:00:00Z (RFC 3339)")]
    Time(&'static str),
    /// The time is not in milliseconds since 1970, or after 9999. Carries the field.
    #[error("{0} is not a time in milliseconds since 1970")]
    Millis(&'static str),
    /// Another account, perhaps from an earlier record, has the e-mail address.
    #[error("an account with this e-mail address exists")]
    EmailTaken,
    /// Another account, perhaps from an earlier record, has the username.
    #[error("an account with this username exists")]
    UsernameTaken,
    /// Another account, perhaps from an earlier record, has the id.
    #[error("an account with this id exists")]
    IdTaken,
}

impl BadRecord {
    /// The reason as a stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "line_too_long",
            Self::NotJson { .. } => "not_json",
            Self::NotCsv => "not_csv",
            Self::NotAnObject => "not_an_object",
            Self::UnknownField(_) => "unknown_field",
            Self::RepeatedField(_) => "repeated_field",
            Self::MissingField(_) | Self::MissingHash => "missing_field",
            Self::WrongType { .. } => "wrong_type",
            Self::Id => "invalid_id",
            Self::Email(_) | Self::SecondaryEmail(_) => "invalid_email",
            Self::RepeatedEmail => "repeated_email",
            Self::TooManyEmails => "too_many_emails",
            Self::Username(_) => "invalid_username",
            Self::Role(_) => "invalid_role",
            Self::PasswordHash(_) => "invalid_password_hash",
            Self::TotpSecret => "invalid_totp_secret",
            Self::Time("updated_at") => "invalid_updated_at",
            // fields of export files that become `created_at`, as all times in milliseconds do
            Self::Time("created_at" | "date_joined") | Self::Millis(_) => "invalid_created_at",
            Self::Time(_) => "invalid_time",
            Self::EmailTaken => "email_taken",
            Self::UsernameTaken => "username_taken",
            Self::IdTaken => "id_taken",
        }
    }
}

impl Record {
    /// The secret of the account's authenticator app, if it has one.
    pub(super) fn totp_secret(&self) -> Result<Option<TotpSecret>, BadRecord> {
        match self.totp_secret.as_deref() {
            None | Some("") => Ok(None),
            Some(secret) => TotpSecret::from_base32(secret).map(Some).ok_or(BadRecord::TotpSecret),
        }
    }

    /// Validates the secondary addresses: each must differ from the primary one and occur once. Returns each address, and
    /// whether the address is verified. `max` is the highest number of addresses of an account, the primary one included.
    pub(super) fn secondary_emails(&self, max: usize) -> Result<Vec<(Email, bool)>, BadRecord> {
        // A record without secondary addresses is within any limit.
        if !self.secondary_emails.is_empty() && 1 + self.secondary_emails.len() > max {
            return Err(BadRecord::TooManyEmails);
        }
        let mut keys: Vec<String> = Vec::new();
        if let Some(primary) = &self.email {
            // `validate` parses the primary address. A key needs no valid address.
            keys.push(Email::from_stored(primary.clone()).key());
        }
        let mut emails = Vec::new();
        for secondary in &self.secondary_emails {
            let email = Email::parse(&secondary.email).map_err(BadRecord::SecondaryEmail)?;
            let key = email.key();
            if keys.contains(&key) {
                return Err(BadRecord::RepeatedEmail);
            }
            keys.push(key);
            emails.push((email, secondary.verified));
        }
        Ok(emails)
    }

    /// Validates the record. An account without an id gets a version 7 UUID with its creation time.
    pub(super) fn validate(
        self,
        now: Timestamp,
        entropy: &Entropy,
        settings: &PasswordSettings,
    ) -> Result<NewAccount, BadRecord> {
        let email = self.email.filter(|email| !email.is_empty()).ok_or(BadRecord::MissingField("email"))?;
        let email = Email::parse(&email).map_err(BadRecord::Email)?;
        let username = self.username.map(|name| Username::parse(&name)).transpose().map_err(BadRecord::Username)?;
        let hash_result = self.password_hash.map(|hash| import_hash(&hash, settings));
        let password_hash = hash_result.transpose().map_err(BadRecord::PasswordHash)?;
        let created_at = self.created_at.unwrap_or(now);
        let id = match self.id {
            Some(id) => id.parse::<AccountId>().ok().filter(|id| !id.0.is_nil()).ok_or(BadRecord::Id)?,
            None => entropy.account_id(created_at),
        };
        Ok(NewAccount {
            id,
            email,
            email_verified: self.email_verified,
            username,
            password_hash,
            roles: Roles::parse(self.roles).map_err(BadRecord::Role)?,
            disabled_at: self.disabled.then_some(now),
            created_at,
            // `created_at` may be the time of the import, which is later than the record's `updated_at`.
            updated_at: self.updated_at.unwrap_or(created_at).max(created_at),
        })
    }
}

/// Reads an RFC 3339 time. Refuses a time before 1970, because a version 7 UUID can't hold it (RFC 9562, section 5.7).
pub(super) fn parse_time(field: &'static str, text: &str) -> Result<Timestamp, BadRecord> {
    let time: jiff::Timestamp = text.parse().map_err(|_| BadRecord::Time(field))?;
    time_from_millis(field, time.as_millisecond())
}

/// The last millisecond of the year 9999, the last year of RFC 3339.
const LATEST_MILLIS: i64 = 253_402_300_799_999;

/// The time at `millis` since 1970. Refuses a time outside the years 1970 to 9999.
pub(super) fn time_from_millis(field: &'static str, millis: i64) -> Result<Timestamp, BadRecord> {
    let in_range = (0..=LATEST_MILLIS).contains(&millis);
    if in_range { Ok(Timestamp::from_millis(millis)) } else { Err(BadRecord::Time(field)) }
}
