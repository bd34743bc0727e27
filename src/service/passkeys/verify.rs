//! Verifies the response of a passkey: for a sign-in, as a second factor, or for step-up.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{PasskeyError, PasskeyOptions, ceremonies, challenge};
use crate::{
    crypto::passkeys::{PasskeyRefusal, PresentedAssertion},
    domain::{
        account::Account,
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::AuthenticationMethods,
        ids::{AccountId, PasskeyId, SessionId},
        passkey::{Passkey, PasskeyPurpose, PasskeyUse},
    },
    service::{limits, notices, request_origin::RequestOrigin},
    state::AppState,
    store::redis::ChallengeBinding,
};

/// The purpose of an authentication with a passkey. A challenge for one purpose works for no other (I11: a challenge works
/// once, for what it was issued for).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasskeyTask {
    /// To sign in without a username, with any passkey of any account.
    SignIn,
    /// To complete the sign-in to an account. Carries the account and the digest of the challenge that this sign-in continues with.
    SecondFactor(AccountId, [u8; 16]),
    /// To authenticate a session of an account again.
    StepUp(AccountId, SessionId),
}

impl PasskeyTask {
    /// The binding of the challenge. For a sign-in, the challenge is bound to the purpose only.
    fn binding(self) -> ChallengeBinding {
        match self {
            Self::SignIn => ChallengeBinding { purpose: PasskeyPurpose::SignIn, account: None, context: [0; 16] },
            Self::SecondFactor(account, context) => {
                ChallengeBinding { purpose: PasskeyPurpose::SecondFactor, account: Some(account), context }
            }
            Self::StepUp(account, session) => ChallengeBinding {
                purpose: PasskeyPurpose::StepUp,
                account: Some(account),
                context: *session.as_bytes(),
            },
        }
    }
}

/// A passkey whose response was verified.
#[derive(Clone, Debug)]
pub struct VerifiedPasskey {
    /// The passkey.
    pub passkey: PasskeyId,
    /// The account of the passkey.
    pub account: Account,
    /// Whether the authenticator has verified its user. The passkey then counts as two factors.
    pub user_verified: bool,
    /// The methods of this authentication (RFC 8176).
    pub methods: AuthenticationMethods,
}

/// Returns the options of an authentication with a passkey. The options for a sign-in name no account, and so do not reveal
/// which accounts exist (I12).
///
/// # Errors
/// [`PasskeyError`]
pub async fn options(state: &AppState, task: PasskeyTask, ip: Option<IpAddr>) -> Result<PasskeyOptions, PasskeyError> {
    let ceremonies = ceremonies(state)?;
    limits::check_passkey(state, ip).await?;
    let begun = match task {
        PasskeyTask::SignIn => ceremonies.begin_sign_in(),
        PasskeyTask::SecondFactor(account, _) | PasskeyTask::StepUp(account, _) => {
            ceremonies.begin_authentication(&state.sql.passkeys(account).await?)
        }
    };
    challenge::issue(state, &task.binding(), begun).await
}

/// Verifies the response of a passkey and consumes its challenge. Stores the counter and the backup state.
///
/// `is_complete` returns whether this passkey completes the authentication. Its argument is whether the authenticator has verified its user.
/// If it returns true, the time of the passkey's last use is stored. Otherwise the caller stores that time after the remaining steps.
///
/// # Errors
/// [`PasskeyError`]. A counter that did not grow is refused, recorded, and reported to the owner: the authenticator may have been copied.
pub async fn verify(
    state: &AppState,
    task: PasskeyTask,
    credential: Map<String, Value>,
    origin: &RequestOrigin,
    is_complete: impl FnOnce(bool) -> bool,
) -> Result<VerifiedPasskey, PasskeyError> {
    let ceremonies = ceremonies(state)?;
    limits::check_passkey(state, origin.ip).await?;
    // writes the refusal to the audit log, with the passkey if the response names a known one, and returns the error
    let refuse = |reason: &'static str, passkey: Option<&Passkey>| {
        let binding = task.binding();
        let detail = passkey.map_or_else(
            || binding.purpose.as_str().to_owned(),
            |passkey| format!("{} {}", binding.purpose.as_str(), passkey.id),
        );
        let mut entry = AuditEntry::new(state.clock.now(), AuditEvent::PasskeyRefused).refused(reason).detail(detail);
        entry.facts.account = passkey.map(|passkey| passkey.account).or(binding.account);
        state.audit.record(entry.actor(Actor::Anyone).address(origin.ip));
        PasskeyError::Refused
    };
    let presented = PresentedAssertion::parse(credential).map_err(|error| refuse(error.as_str(), None))?;
    // The challenge is consumed before the response is verified: it serves one response, valid or not.
    let taken = state.redis.passkey_challenges.take(presented.challenge(), &task.binding()).await?;
    let Some(ceremony) = taken else {
        return Err(refuse("no_such_challenge", None));
    };
    let Some((passkey, account)) = state.sql.find_passkey(presented.credential()).await? else {
        return Err(refuse("unknown_passkey", None));
    };
    let expected_account = task.binding().account;
    if expected_account.is_some_and(|expected| expected != passkey.account) {
        let not_recorded = None; // the passkey belongs to another account than the one that the entry names
        return Err(refuse("other_account", not_recorded));
    }
    // The response must name the account if the challenge is bound to none (WebAuthn, section 7.2, step 6).
    match presented.user_handle() {
        Some(handle) if handle == passkey.account.as_bytes() => {}
        None if expected_account.is_some() => {}
        _ => return Err(refuse("wrong_user_handle", Some(&passkey))),
    }
    let assertion = match ceremonies.finish_authentication(&ceremony, &presented, &passkey) {
        Ok(assertion) => assertion,
        Err(error) => {
            let refusal = refuse(error.as_str(), Some(&passkey));
            if error == PasskeyRefusal::Counter {
                notices::passkey_copied(state, &account, origin).await;
            }
            return Err(refusal);
        }
    };
    if account.is_closed(state.clock.now()) {
        return Err(refuse("disabled", Some(&passkey)));
    }
    let used = PasskeyUse {
        counter: assertion.counter,
        backed_up: assertion.backed_up,
        used_at: is_complete(assertion.user_verified).then(|| state.clock.now()),
    };
    if !state.sql.record_passkey_use(passkey.id, used).await? {
        // Meanwhile another response with this counter was stored, or the passkey was removed.
        return Err(refuse(PasskeyRefusal::Counter.as_str(), Some(&passkey)));
    }
    Ok(VerifiedPasskey {
        passkey: passkey.id,
        user_verified: assertion.user_verified,
        methods: passkey.methods(assertion.user_verified),
        account,
    })
}
