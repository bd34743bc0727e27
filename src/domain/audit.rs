//! Entries of the audit log: security events, their actors and their subjects. Entries contain no secrets and no login names:
//! users sometimes type their password into the field for the login name.

use std::{fmt, net::IpAddr};

use super::{
    client::ClientId,
    clock::Timestamp,
    ids::{AccountId, SessionId},
};

/// Declares an enum whose variants have a text. The texts are stored, so they never change.
macro_rules! named_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All variants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The text to store.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Parses the text of [`Self::as_str`].
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|variant| variant.as_str() == text)
            }
        }
    };
}

named_enum! {
    /// The kind of a security event.
    AuditEvent {
        /// A user signed in, or a sign-in was refused. The reason `remembered_device` means that a remembered device replaced the
        /// second factor.
        SignIn = "sign_in",
        /// An account was created.
        AccountAdded = "account_added",
        /// Accounts were imported; one entry per batch with their number in `count`.
        AccountsImported = "accounts_imported",
        /// An account was disabled, and its sessions ended.
        AccountDisabled = "account_disabled",
        /// An account was enabled.
        AccountEnabled = "account_enabled",
        /// An account was deleted, and its sessions ended.
        AccountDeleted = "account_deleted",
        /// The roles of an account were changed; `detail` lists the new ones.
        RolesChanged = "roles_changed",
        /// The primary e-mail address of an account was changed; the reason is `made_primary` if the new one was secondary.
        EmailChanged = "email_changed",
        /// A password was changed, or a change was refused.
        PasswordChange = "password_change",
        /// A mail with a link or code was requested, or a link or code was refused; `detail` is the purpose of the link or code.
        OneTimeToken = "one_time_token",
        /// An e-mail address was verified.
        EmailVerified = "email_verified",
        /// A secondary e-mail address was added and verified.
        EmailAdded = "email_added",
        /// A secondary e-mail address was removed; the reason is `unverified` if it had not been verified.
        EmailRemoved = "email_removed",
        /// A change of the e-mail address was undone by the owner of the former address.
        EmailChangeUndone = "email_change_undone",
        /// The profile, the username or the metadata of an account was changed.
        ProfileChanged = "profile_changed",
        /// The owner reported an action as not theirs: the password was removed and all sessions ended.
        AccountSecured = "account_secured",
        /// The owner asked for the deletion of the account.
        DeletionRequested = "deletion_requested",
        /// A sign-in cancelled the deletion of the account.
        DeletionCancelled = "deletion_cancelled",
        /// The owner exported the account's data.
        AccountExported = "account_exported",
        /// The user of a session authenticated again (step-up), or tried to; the reason is the `acr` reached, or why it was refused.
        Reauthentication = "reauthentication",
        /// An account was invited to set its password.
        AccountInvited = "account_invited",
        /// A passkey was refused; `detail` is the purpose of its use, and the id of the passkey if that is known. The reason
        /// `counter_went_backwards` means that there may be a copy of the authenticator.
        PasskeyRefused = "passkey_refused",
        /// A second factor of a sign-in was refused; `detail` is its kind.
        SecondFactor = "second_factor",
        /// A second factor was added; `detail` is its kind.
        FactorAdded = "factor_added",
        /// A second factor was removed; `detail` is its kind.
        FactorRemoved = "factor_removed",
        /// An operator, an admin or a service client removed all second factors of an account.
        FactorsReset = "factors_reset",
        /// Recovery codes were made; the former ones stopped working.
        RecoveryCodesMade = "recovery_codes_made",
        /// A recovery code was used in place of a second factor; `detail` is the number of unused codes.
        RecoveryCodeUsed = "recovery_code_used",
        /// A device was remembered, and may skip the second factor for a time; `detail` is its id.
        DeviceRemembered = "device_remembered",
        /// The account's owner removed remembered devices; `count` is their number, and `detail` the id of a single one.
        DeviceForgotten = "device_forgotten",
        /// A session was ended before it expired; `reason` is the cause.
        SessionEnded = "session_ended",
        /// Sessions of an account were ended; `count` is their number and `reason` the cause.
        SessionsEnded = "sessions_ended",
        /// A superseded refresh token was presented, and its session was ended (I2: reuse ends the session).
        RefreshReuse = "refresh_reuse",
        /// A superseded refresh token was presented from another network or user agent than the session's last refresh. The
        /// request was answered with the current token. Several such requests end the session (I2).
        RefreshRepeat = "refresh_repeat",
        /// A signing key was created; `detail` is its id.
        KeyMade = "key_made",
        /// A signing key was retired; `detail` is its id.
        KeyRetired = "key_retired",
        /// A client was created.
        ClientAdded = "client_added",
        /// The scopes, audiences or public keys of a client were changed.
        ClientChanged = "client_changed",
        /// A client was disabled.
        ClientDisabled = "client_disabled",
        /// A disabled client was enabled.
        ClientEnabled = "client_enabled",
        /// A client was deleted.
        ClientDeleted = "client_deleted",
        /// A client was given a new secret.
        ClientSecretRotated = "client_secret_rotated",
        /// The owner of an account allowed a client to sign them in; `detail` lists the scopes.
        ConsentGiven = "consent_given",
        /// The owner of an account withdrew the consent to a client.
        ConsentWithdrawn = "consent_withdrawn",
        /// An authorization code was issued to a client.
        CodeIssued = "code_issued",
        /// An authorization code was used again: the use was refused, and the session of the first use was ended.
        CodeReuse = "code_reuse",
        /// The authentication of a client failed; successful ones are not recorded.
        ClientAuthentication = "client_authentication",
        /// A rate limit was exceeded; `detail` is its name.
        RateLimit = "rate_limit",
        /// Events were not recorded; `count` is their number and `detail` their kind.
        Lost = "lost",
    }
}

named_enum! {
    /// The outcome of an event.
    Outcome {
        /// The action was done.
        Success = "success",
        /// The action was refused.
        Refused = "refused",
    }
}

/// The actor of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// An unauthenticated caller.
    Anyone,
    /// The account that is the event's subject.
    Account,
    /// An account with the role `admin`.
    Admin(AccountId),
    /// An OAuth client, by its own credentials.
    Client(ClientId),
    /// An operator at the command line, by the name of their system account.
    Operator(String),
    /// Latchkey itself.
    Service,
}

impl Actor {
    /// An operator of this name, reduced to at most 64 characters that are safe in a log.
    pub fn operator(name: &str) -> Self {
        let is_safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
        Self::Operator(name.chars().filter(is_safe).take(64).collect())
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Account => f.write_str("account"),
            Self::Admin(id) => write!(f, "admin:{id}"),
            Self::Client(id) => write!(f, "client:{id}"),
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Service => f.write_str("service"),
        }
    }
}

/// The part of an IP address that the audit log stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPrecision {
    /// The full address.
    Full,
    /// The network: the /24 of an IPv4 address, the /48 of an IPv6 address.
    Truncated,
    /// No address.
    None,
}

impl AddressPrecision {
    /// The part of an address to store. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn apply(self, ip: IpAddr) -> Option<IpAddr> {
        match (self, ip.to_canonical()) {
            (Self::Full, ip) => Some(ip),
            (Self::Truncated, IpAddr::V4(ip)) => {
                let [a, b, c, _] = ip.octets();
                Some(IpAddr::from([a, b, c, 0]))
            }
            (Self::Truncated, IpAddr::V6(ip)) => {
                let [a, b, c, ..] = ip.segments();
                Some(IpAddr::from([a, b, c, 0, 0, 0, 0, 0]))
            }
            (Self::None, _) => None,
        }
    }
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// The time of the event.
    pub at: Timestamp,
    /// The number of events with the same facts, or of the sessions, accounts or devices that the event concerns.
    pub count: u64,
    /// The facts, which are identical for all events that share an entry.
    pub facts: EventFacts,
}

/// The event, its outcome, its subject and its actor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventFacts {
    /// The kind of event.
    pub event: AuditEvent,
    /// The outcome.
    pub outcome: Outcome,
    /// The cause of the action or of its refusal, one of a fixed set of texts.
    pub reason: Option<&'static str>,
    /// The account that is the subject.
    pub account: Option<AccountId>,
    /// The session that is the subject.
    pub session: Option<SessionId>,
    /// The client that is the subject.
    pub client: Option<ClientId>,
    /// The `detail` that [`AuditEvent`] describes for the event, such as the id of a key or the name of a limit. For the end of a
    /// session that was replaced, the id of the new session.
    pub detail: Option<String>,
    /// The actor. Without one, the entry gets the actor of the database handle that writes it (`Sql::acting_as`).
    pub actor: Option<Actor>,
    /// The IP address from which the request came.
    pub address: Option<IpAddr>,
}

impl AuditEntry {
    /// An action that was done at `at`.
    pub const fn new(at: Timestamp, event: AuditEvent) -> Self {
        let facts = EventFacts {
            event,
            outcome: Outcome::Success,
            reason: None,
            account: None,
            session: None,
            client: None,
            detail: None,
            actor: None,
            address: None,
        };
        Self { at, count: 1, facts }
    }

    /// Marks the action as refused.
    #[must_use]
    pub const fn refused(mut self, reason: &'static str) -> Self {
        self.facts.outcome = Outcome::Refused;
        self.facts.reason = Some(reason);
        self
    }

    /// Sets the reason.
    #[must_use]
    pub const fn because(mut self, reason: &'static str) -> Self {
        self.facts.reason = Some(reason);
        self
    }

    /// Sets the account.
    #[must_use]
    pub const fn account(mut self, account: AccountId) -> Self {
        self.facts.account = Some(account);
        self
    }

    /// Sets the session.
    #[must_use]
    pub const fn session(mut self, session: SessionId) -> Self {
        self.facts.session = Some(session);
        self
    }

    /// Sets the client.
    #[must_use]
    pub fn client(mut self, client: ClientId) -> Self {
        self.facts.client = Some(client);
        self
    }

    /// Sets the detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.facts.detail = Some(detail.into());
        self
    }

    /// Sets the actor.
    #[must_use]
    pub fn actor(mut self, actor: Actor) -> Self {
        self.facts.actor = Some(actor);
        self
    }

    /// Sets the IP address.
    #[must_use]
    pub const fn address(mut self, address: Option<IpAddr>) -> Self {
        self.facts.address = address;
        self
    }

    /// Sets the count.
    #[must_use]
    pub const fn count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_truncated_as_configured() {
        let apply =
            |precision: AddressPrecision, text: &str| precision.apply(text.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(apply(AddressPrecision::Full, "::ffff:192.0.2.77").as_deref(), Some("192.0.2.77"));
        assert_eq!(apply(AddressPrecision::Truncated, "192.0.2.77").as_deref(), Some("192.0.2.0"));
        assert_eq!(apply(AddressPrecision::Truncated, "2001:db8:1:2::3").as_deref(), Some("2001:db8:1::"));
        assert_eq!(apply(AddressPrecision::None, "192.0.2.77"), None);
    }

    #[test]
    fn operator_name_is_reduced_to_safe_characters() {
        assert_eq!(Actor::operator("ann\n; b").to_string(), "operator:annb");
    }
}
