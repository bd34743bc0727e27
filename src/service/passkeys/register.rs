//! Registers a passkey for the caller's account. The sign-in of an account that must add a second factor uses the same steps.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{PasskeyError, PasskeyOptions, ceremonies, challenge};
use crate::{
    crypto::{
        access_token::AccessClaims,
        passkeys::{NewCredential, PasskeyOwner, PasskeyRefusal, PresentedRegistration},
    },
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        clock::Timestamp,
        factor::FactorKind,
        ids::{PasskeyId, SessionId},
        mail::{FactorChange, NoticeFactor},
        passkey::{Passkey, PasskeyName, PasskeyPurpose},
        secret::SecretText,
    },
    service::{
        error::{ServiceError, from_store_errors},
        factors::{
            change::{self, Caller, ChangeFactorsError, ChangeSummary},
            recovery_codes,
        },
        limits,
        token_issuer::Tokens,
    },
    state::AppState,
    store::{
        redis::ChallengeBinding,
        sql::{AccountChange, AddPasskeyError},
    },
};

/// A passkey that was registered.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The passkey.
    pub passkey: Passkey,
    /// The tokens of the session that replaces the caller's.
    pub tokens: Tokens,
    /// Recovery codes, if the account had none. They are never shown again.
    pub recovery_codes: Vec<SecretText>,
}

/// Why a passkey was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterPasskeyError {
    /// The response of the authenticator is not valid, or responds to no live challenge of this session.
    #[error("the passkey was not accepted")]
    Refused,
    /// The model of the authenticator is not among `passkeys.allowed_aaguids`.
    #[error("the model of the authenticator is not allowed")]
    ModelNotAllowed,
    /// The credential is registered already, for this account or another.
    #[error("the passkey is registered already")]
    Exists,
    /// The account has the maximum number of passkeys. Carries that number.
    #[error("the account has the maximum of {0} passkeys")]
    TooMany(usize),
    /// Passkeys are off, or the issuer has no domain that they could belong to.
    #[error("passkeys are off")]
    Off,
    /// See [`ChangeFactorsError`].
    #[error(transparent)]
    Change(#[from] ChangeFactorsError),
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

/// Binds a challenge to the caller's session.
fn binding(caller: &AccessClaims) -> ChallengeBinding {
    ChallengeBinding {
        purpose: PasskeyPurpose::Registration,
        account: Some(caller.sub),
        context: *caller.sid.as_bytes(),
    }
}

/// Returns the options of a registration. Their challenge works for the caller's session only.
///
/// # Errors
/// [`RegisterPasskeyError`]
pub async fn options(state: &AppState, caller: &Caller<'_>) -> Result<PasskeyOptions, RegisterPasskeyError> {
    check_may_register_passkey(state, caller.origin.ip).await?;
    let change = change::begin(state, caller).await?;
    begin_registration(state, change, &binding(caller.claims)).await
}

/// Registers the passkey that an authenticator has made, and ends all sessions of the account. The session that replaces the caller's counts
/// the passkey as a second factor.
///
/// # Errors
/// [`RegisterPasskeyError`]
pub async fn register(
    state: &AppState,
    caller: &Caller<'_>,
    credential: Map<String, Value>,
    name: PasskeyName,
) -> Result<Registered, RegisterPasskeyError> {
    check_may_register_passkey(state, caller.origin.ip).await?;
    let claims = caller.claims;
    let sender = Sender { session: Some(claims.sid), ip: caller.origin.ip };
    let new_credential = verify_credential(state, &binding(claims), credential, sender).await?;
    let now = state.clock.now();
    let mut change = change::begin(state, caller).await?;
    // Recovery codes are kept only if the account already has an authenticator app or a passkey. If it has only codes by mail, its recovery
    // codes are renewed.
    let factors = change.account.factors;
    let keeps_codes = factors.has_aal2_factor() && factors.contains(FactorKind::RecoveryCode);
    let user_verified = new_credential.user_verified;
    let passkey = store_passkey(state, &mut change, new_credential, name, now).await?;
    let recovery_codes =
        if keeps_codes { Vec::new() } else { recovery_codes::generate(state, &mut change, now).await? };
    let summary =
        ChangeSummary { event: AuditEvent::FactorAdded, change: FactorChange::Added, factor: NoticeFactor::Passkey };
    let proved_methods = passkey.methods(user_verified);
    let tokens = change::commit_with_proved_factor(state, change, caller, summary, proved_methods).await?;
    Ok(Registered { passkey, tokens, recovery_codes })
}

/// The sender of a credential, for the audit log.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Sender {
    /// The sender's session; `None` during a sign-in.
    pub(in crate::service) session: Option<SessionId>,
    /// The IP address.
    pub(in crate::service) ip: Option<IpAddr>,
}

/// Checks that passkeys are on, and that the rate limit is not exceeded.
pub(in crate::service) async fn check_may_register_passkey(
    state: &AppState,
    ip: Option<IpAddr>,
) -> Result<(), RegisterPasskeyError> {
    // an error if passkeys are off
    ceremonies(state)?;
    Ok(limits::check_passkey(state, ip).await?)
}

/// Begins a registration for the account that `change` has locked, unlocks the account, and returns the options.
pub(in crate::service) async fn begin_registration(
    state: &AppState,
    mut change: AccountChange,
    binding: &ChallengeBinding,
) -> Result<PasskeyOptions, RegisterPasskeyError> {
    let existing = change.passkeys().await?;
    check_below_maximum(state, existing.len())?;
    let account = change.account.clone();
    let profile = change.profile().await?;
    // unlocks the account
    drop(change);
    let identifier = account.display_identifier();
    let display_name = profile.display_name.as_deref().filter(|name| !name.trim().is_empty()).unwrap_or(&identifier);
    let owner = PasskeyOwner { account: account.id, name: &identifier, display_name };
    let begun = ceremonies(state)?.begin_registration(owner, &existing);
    Ok(challenge::issue(state, binding, begun).await?)
}

/// Verifies the credential that an authenticator has made, and consumes its challenge.
pub(in crate::service) async fn verify_credential(
    state: &AppState,
    binding: &ChallengeBinding,
    credential: Map<String, Value>,
    sender: Sender,
) -> Result<NewCredential, RegisterPasskeyError> {
    let record_refusal = |reason: &'static str| {
        let mut entry = AuditEntry::new(state.clock.now(), AuditEvent::PasskeyRefused).refused(reason);
        entry.facts.account = binding.account;
        entry.facts.session = sender.session;
        let actor = if sender.session.is_some() { Actor::Account } else { Actor::Anyone };
        state.audit.record(entry.detail(binding.purpose.as_str()).actor(actor).address(sender.ip));
    };
    let refuse = |error: PasskeyRefusal| {
        record_refusal(error.as_str());
        if error == PasskeyRefusal::Model {
            RegisterPasskeyError::ModelNotAllowed
        } else {
            RegisterPasskeyError::Refused
        }
    };
    let presented = PresentedRegistration::parse(credential).map_err(refuse)?;
    let taken = state.redis.passkey_challenges.take(presented.challenge(), binding).await?;
    let Some(ceremony) = taken else {
        record_refusal("no_such_challenge");
        return Err(RegisterPasskeyError::Refused);
    };
    ceremonies(state)?.finish_registration(&ceremony, &presented).map_err(refuse)
}

/// Stores a new passkey, as part of a change of its account.
pub(in crate::service) async fn store_passkey(
    state: &AppState,
    change: &mut AccountChange,
    new_credential: NewCredential,
    name: PasskeyName,
    now: Timestamp,
) -> Result<Passkey, RegisterPasskeyError> {
    let existing = change.passkeys().await?;
    check_below_maximum(state, existing.len())?;
    let passkey = Passkey {
        id: PasskeyId(state.entropy.ordered_uuid(now)),
        account: change.account.id,
        credential: new_credential.credential,
        public_key: new_credential.public_key,
        name,
        aaguid: new_credential.aaguid,
        transports: new_credential.transports,
        discoverable: new_credential.discoverable,
        backup_eligible: new_credential.backup_eligible,
        backed_up: new_credential.backed_up,
        counter: new_credential.counter,
        created_at: now,
        last_used_at: None,
    };
    change.add_passkey(&passkey).await.map_err(|error| match error {
        AddPasskeyError::Exists => RegisterPasskeyError::Exists,
        AddPasskeyError::Sql(error) => error.into(),
    })?;
    // The account has a second factor now: the grace period for adding one ends.
    change.set_factor_required(None).await?;
    Ok(passkey)
}

/// Checks that the account may have one more passkey.
fn check_below_maximum(state: &AppState, existing_count: usize) -> Result<(), RegisterPasskeyError> {
    let max = state.config.passkeys.max_per_account;
    if existing_count < max { Ok(()) } else { Err(RegisterPasskeyError::TooMany(max)) }
}
