//! Recovery codes: each replaces a second factor once.

use zeroize::Zeroizing;

use super::{
    CodeSearch,
    change::{self, Caller, ChangeFactorsError, ChangeSummary, FactorsChanged},
    log_undecryptable,
};
use crate::{
    crypto::{
        recovery_code::{COUNT, RecoveryCode, RecoveryKey},
        seal::SealError,
    },
    domain::{
        account::Account,
        audit::{Actor, AuditEntry, AuditEvent},
        clock::Timestamp,
        factor::FactorKind,
        ids::AccountId,
        mail::{FactorChange, NoticeFactor},
        secret::SecretText,
        session::SessionOrigin,
    },
    service::{error::ServiceError, notices, peer_keys::require_keys_of_peers, request_origin::RequestOrigin},
    state::AppState,
    store::sql::AccountChange,
};

/// The number of remaining codes at which the owner gets a mail that recommends new ones.
pub const LOW_COUNT: u32 = 3;

/// A recovery code of the account, which may have been used.
#[derive(Clone, Debug)]
pub(in crate::service) struct MatchedCode {
    /// The digest under which the code is stored.
    digest: String,
}

/// The associated data with which the [`RecoveryKey`] of an account is sealed.
pub(in crate::service) fn aad(account: AccountId) -> Vec<u8> {
    [b"recovery".as_slice(), account.as_bytes()].concat()
}

/// Generates new recovery codes for the caller's account. The former codes stop working.
///
/// # Errors
/// [`ChangeFactorsError`]
pub async fn renew(state: &AppState, caller: &Caller<'_>) -> Result<FactorsChanged, ChangeFactorsError> {
    let mut change = change::begin(state, caller).await?;
    if !change.account.factors.has_any() {
        return Err(ChangeFactorsError::NoFactor);
    }
    let recovery_codes = generate(state, &mut change, state.clock.now()).await?;
    let summary = ChangeSummary {
        event: AuditEvent::RecoveryCodesMade,
        change: FactorChange::Added,
        factor: NoticeFactor::RecoveryCodes,
    };
    let tokens = change::commit(state, change, caller, summary).await?;
    Ok(FactorsChanged { tokens, recovery_codes })
}

/// Replaces the recovery codes of an account, as part of a change. Returns the new codes, which are never shown again.
pub(in crate::service) async fn generate(
    state: &AppState,
    change: &mut AccountChange,
    now: Timestamp,
) -> Result<Vec<SecretText>, ServiceError> {
    let key = RecoveryKey::generate(&state.entropy);
    let codes: Vec<RecoveryCode> = (0..COUNT).map(|_| RecoveryCode::generate(&state.entropy)).collect();
    let digests: Vec<String> = codes.iter().map(|code| key.digest(code)).collect();
    let sealed = state.sealer.seal(key.expose(), &aad(change.account.id), &state.entropy);
    change.set_recovery_codes(&sealed, &digests, now).await?;
    let has_codes = true;
    change.set_factor(FactorKind::RecoveryCode, has_codes, now).await?;
    Ok(codes.iter().map(RecoveryCode::to_text).collect())
}

/// As part of a change, removes the recovery codes of an account that has no factor left that a code could replace.
pub(in crate::service) async fn remove_unless_needed(
    change: &mut AccountChange,
    now: Timestamp,
) -> Result<(), ServiceError> {
    if change.account.factors.has_any() {
        return Ok(());
    }
    // No sealed key and no digests: the account has no codes afterwards.
    change.set_recovery_codes(&[], &[], now).await?;
    let has_codes = false;
    change.set_factor(FactorKind::RecoveryCode, has_codes, now).await?;
    Ok(())
}

/// Finds the presented code without consuming it. Only [`consume`] shows whether the code was used before.
pub(in crate::service) async fn find(
    state: &AppState,
    account: AccountId,
    code: &SecretText,
) -> Result<CodeSearch<MatchedCode>, ServiceError> {
    let Some(code) = RecoveryCode::parse(code.expose()) else { return Ok(CodeSearch::Wrong) };
    let Some((sealed, _remaining)) = state.sql.recovery_key(account).await? else { return Ok(CodeSearch::Wrong) };
    let opened = match state.sealer.open(&sealed, &aad(account)) {
        Ok(opened) => opened,
        Err(error @ SealError::UnknownSecret) => {
            // another node may have the secret: the call then fails as unavailable, because the code may be right
            Box::pin(require_keys_of_peers(state)).await?;
            log_undecryptable(account, error);
            return Ok(CodeSearch::Undecryptable);
        }
        Err(error) => {
            let error = anyhow::Error::new(error).context(format!("the recovery key of the account {account}"));
            return Err(ServiceError::Internal(error));
        }
    };
    let key = RecoveryKey::from_bytes(Zeroizing::new(opened.bytes.to_vec()));
    let digest = key.digest(&code);
    let exists = state.sql.has_recovery_code(account, &digest).await?;
    Ok(if exists { CodeSearch::Match(MatchedCode { digest }) } else { CodeSearch::Wrong })
}

/// Consumes a code, and sends the owner a notice. Returns false if the code was used before (I11: a code works once).
pub(in crate::service) async fn consume(
    state: &AppState,
    account: &Account,
    code: &MatchedCode,
    origin: &SessionOrigin,
    now: Timestamp,
) -> Result<bool, ServiceError> {
    let Some(remaining) = state.sql.use_recovery_code(account.id, &code.digest).await? else { return Ok(false) };
    let entry = AuditEntry::new(now, AuditEvent::RecoveryCodeUsed).account(account.id).actor(Actor::Account);
    state.audit.record(entry.address(origin.ip).detail(remaining.to_string()));
    let origin = RequestOrigin { ip: origin.ip, user_agent: origin.user_agent.clone(), accept_language: None };
    notices::recovery_code_used(state, account, &origin, remaining).await;
    Ok(true)
}
