//! What the audit log tells: security events, who caused them, and whom they concern. Never a secret, nor what somebody
//! typed where a name was asked for: people type passwords there.

use std::{fmt, net::IpAddr};

use super::{
    client::ClientId,
    clock::Timestamp,
    ids::{AccountId, SessionId},
};

/// Declares an enum with a word for each variant.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Reads what [`Self::as_str`] wrote.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }
    };
}

words! {
    /// What happened.
    AuditEvent {
        /// A user signed in, or was refused.
        SignIn = "sign_in",
        /// An account was made, by its owner or by somebody else.
        AccountAdded = "account_added",
        /// Accounts were imported; one row per batch, `count` says how many.
        AccountsImported = "accounts_imported",
        /// An account may not sign in any more, and its sessions have ended.
        AccountDisabled = "account_disabled",
        /// An account may sign in again.
        AccountEnabled = "account_enabled",
        /// An account was deleted, and its sessions have ended.
        AccountDeleted = "account_deleted",
        /// The roles of an account were changed; `detail` lists the new ones.
        RolesChanged = "roles_changed",
        /// The e-mail address of an account was changed.
        EmailChanged = "email_changed",
        /// A password was changed, or a change was refused.
        PasswordChange = "password_change",
        /// A session was ended before its time.
        SessionEnded = "session_ended",
        /// Several sessions of an account were ended; `count` says how many.
        SessionsEnded = "sessions_ended",
        /// A superseded refresh token was presented, and its session was ended.
        RefreshReuse = "refresh_reuse",
        /// A signing key was made; `detail` is its id.
        KeyMade = "key_made",
        /// A signing key was taken out of use at once.
        KeyRetired = "key_retired",
        /// A service client was made.
        ClientAdded = "client_added",
        /// A service client was disabled.
        ClientDisabled = "client_disabled",
        /// A disabled service client was enabled.
        ClientEnabled = "client_enabled",
        /// A service client was deleted.
        ClientDeleted = "client_deleted",
        /// A service client was given a new secret.
        ClientSecretRotated = "client_secret_rotated",
        /// A service client was refused; its successes aren't told.
        ClientAuthentication = "client_authentication",
        /// Something was asked for too often; `detail` is the limit's name.
        RateLimit = "rate_limit",
        /// Events that could not be written down; `count` says how many.
        Lost = "lost",
    }
}

words! {
    /// How it ended.
    Outcome {
        /// It was done.
        Success = "success",
        /// It was refused.
        Refused = "refused",
    }
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Somebody who hasn't shown who they are.
    Anyone,
    /// The account that the event concerns.
    Account,
    /// An account with the role `admin`.
    Admin(AccountId),
    /// A service client.
    Client(ClientId),
    /// Somebody at the command line, by the name that the machine has for them.
    Operator(String),
    /// The service by itself.
    Service,
}

impl Actor {
    /// Somebody at the command line. Of the name so much is kept as a name can hold.
    pub fn operator(name: &str) -> Self {
        let fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
        Self::Operator(name.chars().filter(fit).take(64).collect())
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

/// How much of a client's address the audit log keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// All of it.
    Full,
    /// The network: a /24 of IPv4, a /48 of IPv6.
    Truncated,
    /// Nothing.
    None,
}

impl Addresses {
    /// What is kept of an address.
    pub fn keep(self, ip: IpAddr) -> Option<IpAddr> {
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

/// An event, as it will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// How many like it there were.
    pub count: u64,
    /// All that makes two of them alike.
    pub what: What,
}

/// What happened, to whom, by whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct What {
    /// What happened.
    pub event: AuditEvent,
    /// How it ended.
    pub outcome: Outcome,
    /// Why: a word of ours.
    pub reason: Option<&'static str>,
    /// The account it concerns.
    pub account: Option<AccountId>,
    /// The session it concerns.
    pub session: Option<SessionId>,
    /// The service client it concerns.
    pub client: Option<ClientId>,
    /// A key's id or a limit's name.
    pub detail: Option<String>,
    /// Who; none for whoever works with the database.
    pub actor: Option<Actor>,
    /// The client's address.
    pub address: Option<IpAddr>,
}

impl Entry {
    /// Something that was done, at `at`.
    pub const fn new(at: Timestamp, event: AuditEvent) -> Self {
        let what = What {
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
        Self { at, count: 1, what }
    }

    /// It was refused, and why.
    #[must_use]
    pub const fn refused(mut self, reason: &'static str) -> Self {
        self.what.outcome = Outcome::Refused;
        self.what.reason = Some(reason);
        self
    }

    /// Why it was done.
    #[must_use]
    pub const fn because(mut self, reason: &'static str) -> Self {
        self.what.reason = Some(reason);
        self
    }

    /// It concerns this account.
    #[must_use]
    pub const fn account(mut self, account: AccountId) -> Self {
        self.what.account = Some(account);
        self
    }

    /// It concerns this session.
    #[must_use]
    pub const fn session(mut self, session: SessionId) -> Self {
        self.what.session = Some(session);
        self
    }

    /// It concerns this service client.
    #[must_use]
    pub fn client(mut self, client: ClientId) -> Self {
        self.what.client = Some(client);
        self
    }

    /// A key's id or a limit's name.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.what.detail = Some(detail.into());
        self
    }

    /// Who did it.
    #[must_use]
    pub fn by(mut self, actor: Actor) -> Self {
        self.what.actor = Some(actor);
        self
    }

    /// From where.
    #[must_use]
    pub const fn from(mut self, address: Option<IpAddr>) -> Self {
        self.what.address = address;
        self
    }

    /// How many things were done at once.
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
    fn addresses_are_kept_as_far_as_wanted() {
        let keep = |how: Addresses, text: &str| how.keep(text.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(keep(Addresses::Full, "::ffff:192.0.2.77").as_deref(), Some("192.0.2.77"));
        assert_eq!(keep(Addresses::Truncated, "192.0.2.77").as_deref(), Some("192.0.2.0"));
        assert_eq!(keep(Addresses::Truncated, "2001:db8:1:2::3").as_deref(), Some("2001:db8:1::"));
        assert_eq!(keep(Addresses::None, "192.0.2.77"), None);
    }

    #[test]
    fn operators_have_names_that_fit_a_line() {
        assert_eq!(Actor::operator("ann\n; b").to_string(), "operator:annb");
    }
}
