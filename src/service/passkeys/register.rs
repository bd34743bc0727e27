//! Registers a passkey for the caller's account.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{PasskeyError, PasskeyOptions, ceremonies, challenge};
use crate::{
    crypto::{
        access_token::AccessClaims,
        passkeys::{PasskeyOwner, PasskeyRefusal, PresentedRegistration},
    },
    domain::{
        account::Account,
        audit::{Actor, AuditEvent, Entry},
        ids::PasskeyId,
        mail::{FactorChange, FactorKind},
        passkey::{Passkey, PasskeyName, PasskeyPurpose},
    },
    service::{
        error::{ServiceError, from_store_errors},
        factor_change::{self, FactorChangeError, FactorChanger},
        limits,
        recent_authentication::require_recent,
        token_issuer::Tokens,
    },
    state::AppState,
    store::{redis::ChallengeBinding, sql::AddPasskeyError},
};

/// Why a passkey was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterPasskeyError {
    /// The account was deleted or disabled.
    #[error("the account was deleted or disabled")]
    NoAccount,
    /// The response of the authenticator is not valid, or responds to no live challenge of this session.
    #[error("the passkey was not accepted")]
    Refused,
    /// The model of the authenticator is not among `passkeys.allowed_aaguids`.
    #[error("the model of the authenticator is not allowed")]
    ModelNotAllowed,
    /// The credential is registered already, for this account or another.
    #[error("the passkey is registered already")]
    Exists,
    /// The account has as many passkeys as it may.
    #[error("the account has {0} passkeys, as many as it may")]
    TooMany(usize),
    /// Passkeys are off.
    #[error("passkeys are off")]
    Off,
    /// The change could not be finished.
    #[error(transparent)]
    Change(#[from] FactorChangeError),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(RegisterPasskeyError);

impl From<PasskeyError> for RegisterPasskeyError {
    fn from(error: PasskeyError) -> Self {
        match error {
            PasskeyError::Off => Self::Off,
            PasskeyError::Refused => Self::Refused,
            PasskeyError::Service(error) => Self::Service(error),
        }
    }
}

fn binding(caller: &AccessClaims) -> ChallengeBinding {
    ChallengeBinding {
        purpose: PasskeyPurpose::Registration,
        account: Some(caller.sub),
        context: *caller.sid.as_bytes(),
    }
}

/// The options of a registration. Their challenge works for the caller's session only.
///
/// # Errors
/// [`RegisterPasskeyError`]
pub async fn options(
    state: &AppState,
    caller: &AccessClaims,
    ip: Option<IpAddr>,
) -> Result<PasskeyOptions, RegisterPasskeyError> {
    let ceremonies = ceremonies(state)?;
    require_recent(state, caller).await?;
    limits::passkey(state, ip).await?;
    let account = state.sql.account(caller.sub).await?;
    let account = account.filter(|account| account.disabled_at.is_none()).ok_or(RegisterPasskeyError::NoAccount)?;
    let existing = state.sql.passkeys(account.id).await?;
    check_number(state, existing.len())?;
    let profile = state.sql.profile(account.id).await?;
    let name = name_of(&account);
    let display_name = profile.display_name.as_deref().filter(|name| !name.trim().is_empty()).unwrap_or(&name);
    let owner = PasskeyOwner { account: account.id, name: &name, display_name };
    Ok(challenge::issue(state, &binding(caller), ceremonies.begin_registration(owner, &existing)).await?)
}

/// Registers the passkey that an authenticator has made. It can be used from now on, and all other sessions of the account have
/// ended. Returns it with the tokens of the session that takes the place of the caller's.
///
/// # Errors
/// [`RegisterPasskeyError`]
pub async fn register(
    state: &AppState,
    by: FactorChanger<'_>,
    credential: Map<String, Value>,
    name: PasskeyName,
) -> Result<(Passkey, Tokens), RegisterPasskeyError> {
    let ceremonies = ceremonies(state)?;
    let caller = by.caller;
    require_recent(state, caller).await?;
    limits::passkey(state, by.origin.ip).await?;
    let refuse = |reason: &'static str| {
        let entry = Entry::new(state.clock.now(), AuditEvent::PasskeyAdded).account(caller.sub).session(caller.sid);
        state.audit.record(entry.refused(reason).by(Actor::Account).from(by.origin.ip));
    };
    let refused = |error: PasskeyRefusal| {
        refuse(error.as_str());
        if error == PasskeyRefusal::Model {
            RegisterPasskeyError::ModelNotAllowed
        } else {
            RegisterPasskeyError::Refused
        }
    };
    let presented = PresentedRegistration::parse(credential).map_err(refused)?;
    let taken = state.redis.passkey_challenges.take(presented.challenge(), &binding(caller)).await?;
    let Some(ceremony) = taken else {
        refuse("no_such_challenge");
        return Err(RegisterPasskeyError::Refused);
    };
    let made = ceremonies.finish_registration(&ceremony, &presented).map_err(refused)?;

    let now = state.clock.now();
    let change = state.sql.change_account(caller.sub).await?;
    let mut change =
        change.filter(|change| change.account.disabled_at.is_none()).ok_or(RegisterPasskeyError::NoAccount)?;
    check_number(state, change.passkeys().await?.len())?;
    let passkey = Passkey {
        id: PasskeyId(state.entropy.ordered_uuid(now)),
        account: caller.sub,
        credential: made.credential,
        public_key: made.public_key,
        name,
        aaguid: made.aaguid,
        transports: made.transports,
        discoverable: made.discoverable,
        backup_eligible: made.backup_eligible,
        backed_up: made.backed_up,
        counter: made.counter,
        created_at: now,
        last_used_at: None,
    };
    change.add_passkey(&passkey).await.map_err(|error| match error {
        AddPasskeyError::Exists => RegisterPasskeyError::Exists,
        AddPasskeyError::Sql(error) => error.into(),
    })?;
    let entry = Entry::new(now, AuditEvent::PasskeyAdded).detail(passkey.id.to_string());
    let tokens = factor_change::finish(state, change, by, entry, (FactorKind::Passkey, FactorChange::Added)).await?;
    Ok((passkey, tokens))
}

fn check_number(state: &AppState, existing: usize) -> Result<(), RegisterPasskeyError> {
    let most = state.config.passkeys.max_per_account;
    if existing < most { Ok(()) } else { Err(RegisterPasskeyError::TooMany(most)) }
}

/// The identifier that authenticators show. Never empty, as an address that another person has verified leaves it.
fn name_of(account: &Account) -> String {
    let email = Some(account.email.as_str()).filter(|email| !email.is_empty());
    let username = account.username.as_ref().map(|name| name.as_str());
    email.or(username).map_or_else(|| account.id.to_string(), str::to_owned)
}
