//! Authenticator apps (RFC 6238).

use std::time::Duration;

use qrcode::{QrCode, render::svg};
use zeroize::Zeroizing;

use super::{
    CodeSearch,
    change::{self, Caller, ChangeFactorsError, ChangeSummary, FactorsChanged},
    log_undecryptable, recovery_codes,
};
use crate::{
    crypto::{
        seal::{SealError, Sealer},
        totp::{TotpCode, TotpSecret},
    },
    domain::{
        audit::AuditEvent,
        authentication::{AuthenticationMethod, AuthenticationMethods},
        clock::Timestamp,
        entropy::Entropy,
        factor::FactorKind,
        ids::{AccountId, FactorId},
        mail::{FactorChange, NoticeFactor},
        secret::SecretText,
    },
    service::{
        error::ServiceError,
        limits::{DeviceToken, FactorAttempt, LoginAttempt},
        peer_keys::require_keys_of_peers,
        token_issuer::Tokens,
    },
    state::AppState,
    store::sql::{AccountChange, TotpFactor},
};

/// The maximum number of authenticator apps of an account: an old device and a new one. Each further app would make codes
/// easier to guess.
pub const MAX_APPS: usize = 2;

/// How long the set-up of an authenticator app waits for its confirmation.
pub const CONFIRM_WITHIN: Duration = Duration::from_mins(15);

/// The name of an authenticator app whose owner gives no name.
const DEFAULT_LABEL: &str = "Authenticator app";

/// The set-up of an authenticator app, which waits for its first code.
#[derive(Clone, Debug)]
pub struct TotpEnrolment {
    /// The secret in base32, to be typed into the app.
    pub secret: SecretText,
    /// The `otpauth:` URI, to be opened by the app.
    pub uri: SecretText,
    /// The URI as a QR code: an SVG image.
    pub qr_code: SecretText,
    /// The deadline for the first code.
    pub expires_at: Timestamp,
}

/// A code that an authenticator app of the account shows now.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct MatchedCode {
    /// The authenticator app.
    pub(in crate::service) factor: FactorId,
    /// The code's time step.
    pub(in crate::service) step: u64,
}

/// The associated data of a sealed secret. It binds the secret to its row.
pub(in crate::service) fn aad(account: AccountId, factor: FactorId) -> Vec<u8> {
    [b"totp".as_slice(), account.as_bytes(), factor.as_bytes()].concat()
}

/// Starts to set up an authenticator app of the caller's account.
///
/// # Errors
/// [`ChangeFactorsError`]
pub async fn start(
    state: &AppState,
    caller: &Caller<'_>,
    label: Option<String>,
) -> Result<TotpEnrolment, ChangeFactorsError> {
    let mut change = change::begin(state, caller).await?;
    if confirmed(&mut change).await?.len() >= MAX_APPS {
        return Err(ChangeFactorsError::TooMany);
    }
    Ok(enrol(state, change, label).await?)
}

/// Stores an authenticator app that waits for its first code, and commits the change.
pub(in crate::service) async fn enrol(
    state: &AppState,
    mut change: AccountChange,
    label: Option<String>,
) -> Result<TotpEnrolment, ServiceError> {
    let now = state.clock.now();
    let account = change.account.id;
    let id = state.entropy.factor_id(now);
    let secret = TotpSecret::generate(&state.entropy);
    let factor = TotpFactor {
        id,
        account,
        label: label.filter(|label| !label.trim().is_empty()).unwrap_or_else(|| DEFAULT_LABEL.to_owned()),
        sealed: state.sealer.seal(secret.expose(), &aad(account, id), &state.entropy),
        created_at: now,
        confirmed_at: None,
        last_step: 0, // no code was used
        last_used_at: None,
    };
    change.add_totp(&factor).await?;
    let account_name = change.account.display_identifier();
    change.commit().await?;
    let uri = secret.uri(&state.config.mail.product_name, &account_name);
    let qr_code = QrCode::new(uri.expose()).map_err(|error| ServiceError::Internal(anyhow::anyhow!("{error}")))?;
    let min_pixels = 200;
    let image = qr_code.render::<svg::Color<'_>>().min_dimensions(min_pixels, min_pixels).build();
    let expires_at = now + CONFIRM_WITHIN;
    Ok(TotpEnrolment { secret: secret.to_base32(), uri, qr_code: image.into(), expires_at })
}

/// An imported authenticator app, which another system has confirmed.
pub(in crate::service) fn imported(
    sealer: &Sealer,
    entropy: &Entropy,
    account: AccountId,
    secret: &TotpSecret,
    now: Timestamp,
) -> TotpFactor {
    let id = entropy.factor_id(now);
    TotpFactor {
        id,
        account,
        label: DEFAULT_LABEL.to_owned(),
        sealed: sealer.seal(secret.expose(), &aad(account, id), entropy),
        created_at: now,
        confirmed_at: Some(now),
        last_step: 0,
        last_used_at: None,
    }
}

/// Confirms the authenticator app of the caller's account that waits for its first code.
///
/// # Errors
/// [`ChangeFactorsError`]
pub async fn confirm(
    state: &AppState,
    caller: &Caller<'_>,
    code: &SecretText,
    device: Option<&DeviceToken>,
) -> Result<FactorsChanged, ChangeFactorsError> {
    let (account, ip) = (caller.claims.sub, caller.origin.ip);
    let attempt = LoginAttempt::recognize(state, account, ip, device).await?;
    let factor_attempt = FactorAttempt::begin(state, account, FactorKind::Totp, &attempt, ip).await?;
    let confirmed = check_and_confirm(state, caller, code).await;
    match &confirmed {
        Ok(_) => factor_attempt.succeed(state).await,
        // The attempt stays counted.
        Err(ChangeFactorsError::WrongCode) => {}
        // Another error than a wrong code is no guess.
        Err(_) => factor_attempt.refund(state).await,
    }
    confirmed
}

/// Confirms the authenticator app of the caller's account. Does not count the attempt.
async fn check_and_confirm(
    state: &AppState,
    caller: &Caller<'_>,
    code: &SecretText,
) -> Result<FactorsChanged, ChangeFactorsError> {
    let now = state.clock.now();
    let mut change = change::begin(state, caller).await?;
    // If codes by mail were the only factor, the account's recovery codes stand for that weaker factor. The app needs new ones.
    let factors = change.account.factors;
    let keeps_codes = factors.has_aal2_factor() && factors.contains(FactorKind::RecoveryCode);
    if !confirm_pending(state, &mut change, code, now).await? {
        return Err(ChangeFactorsError::WrongCode);
    }
    // The account now has a second factor: the grace period for setting one up has ended.
    change.set_factor_required(None).await?;
    let recovery_codes =
        if keeps_codes { Vec::new() } else { recovery_codes::generate(state, &mut change, now).await? };
    let summary =
        ChangeSummary { event: AuditEvent::FactorAdded, change: FactorChange::Added, factor: NoticeFactor::Totp };
    let proved = AuthenticationMethods::only(AuthenticationMethod::OneTimePassword);
    let tokens = change::commit_with_proved_factor(state, change, caller, summary, proved).await?;
    Ok(FactorsChanged { tokens, recovery_codes })
}

/// Confirms the authenticator app that waits for its first code, as part of a change. Returns false if the code
/// is wrong or no app waits.
pub(in crate::service) async fn confirm_pending(
    state: &AppState,
    change: &mut AccountChange,
    code: &SecretText,
    now: Timestamp,
) -> Result<bool, ServiceError> {
    let Some(code) = TotpCode::parse(code.expose()) else { return Ok(false) };
    let factors = change.totp_factors().await?;
    let pending = factors.iter().find(|factor| factor.confirmed_at.is_none());
    let Some(pending) = pending.filter(|factor| now < factor.created_at + CONFIRM_WITHIN) else { return Ok(false) };
    let Some(secret) = open(state, pending)? else {
        Box::pin(require_keys_of_peers(state)).await?;
        log_undecryptable(pending.account, SealError::UnknownSecret);
        return Ok(false);
    };
    let Some(step) = secret.find_step(&code, now, pending.last_step) else { return Ok(false) };
    change.confirm_totp(pending.id, step, now).await?;
    change.set_factor(FactorKind::Totp, true, now).await?;
    Ok(true)
}

/// Renames an authenticator app of the caller's account.
///
/// # Errors
/// [`ChangeFactorsError`]
pub async fn rename(
    state: &AppState,
    caller: &Caller<'_>,
    id: FactorId,
    label: &str,
) -> Result<(), ChangeFactorsError> {
    let mut change = change::begin(state, caller).await?;
    if !change.rename_totp(id, label).await? {
        return Err(ChangeFactorsError::UnknownFactor);
    }
    Ok(change.commit().await?)
}

/// Removes an authenticator app of the caller's account, and the recovery codes if no other factor is left.
///
/// # Errors
/// [`ChangeFactorsError`]
pub async fn remove(state: &AppState, caller: &Caller<'_>, id: FactorId) -> Result<Tokens, ChangeFactorsError> {
    let mut change = change::begin(state, caller).await?;
    let now = state.clock.now();
    let factors = confirmed(&mut change).await?;
    if !factors.iter().any(|factor| factor.id == id) {
        return Err(ChangeFactorsError::UnknownFactor);
    }
    change.remove_totp(id).await?;
    let has_another_app = factors.len() > 1;
    change.set_factor(FactorKind::Totp, has_another_app, now).await?;
    if !change.account.factors.has_aal2_factor() {
        if state.config.factors.required.applies_to(&change.account.roles) {
            // Dropping `change` undoes the removal.
            return Err(ChangeFactorsError::FactorRequired);
        }
        recovery_codes::remove_unless_needed(&mut change, now).await?;
    }
    let summary =
        ChangeSummary { event: AuditEvent::FactorRemoved, change: FactorChange::Removed, factor: NoticeFactor::Totp };
    change::commit(state, change, caller, summary).await
}

/// Finds the authenticator app that shows this code now. Does not find a code that was used. Skips an app whose secret is
/// encrypted under a secret of the service that is not configured.
pub(in crate::service) async fn find(
    state: &AppState,
    account: AccountId,
    code: &SecretText,
    now: Timestamp,
) -> Result<CodeSearch<MatchedCode>, ServiceError> {
    let Some(code) = TotpCode::parse(code.expose()) else { return Ok(CodeSearch::Wrong) };
    let (mut decrypted, mut undecryptable) = (0, 0);
    let factors = state.sql.totp_factors(account).await?;
    for factor in factors.iter().filter(|factor| factor.confirmed_at.is_some()) {
        let Some(secret) = open(state, factor)? else {
            undecryptable += 1;
            continue;
        };
        decrypted += 1;
        if let Some(step) = secret.find_step(&code, now, factor.last_step) {
            return Ok(CodeSearch::Match(MatchedCode { factor: factor.id, step }));
        }
    }
    if undecryptable > 0 {
        log_undecryptable(account, SealError::UnknownSecret);
    }
    if undecryptable == 0 || decrypted > 0 {
        return Ok(CodeSearch::Wrong);
    }
    // Only if no app was decrypted: this error refunds the attempt, and a guess at a decrypted app must stay counted (I14). Boxed, because
    // the future is rarely needed and would enlarge that of every sign-in.
    Box::pin(require_keys_of_peers(state)).await?;
    Ok(CodeSearch::Undecryptable)
}

/// The confirmed authenticator apps of an account.
async fn confirmed(change: &mut AccountChange) -> Result<Vec<TotpFactor>, ServiceError> {
    let factors = change.totp_factors().await?;
    Ok(factors.into_iter().filter(|factor| factor.confirmed_at.is_some()).collect())
}

/// Decrypts the secret of an authenticator app; none if it is sealed under a secret that is not configured.
fn open(state: &AppState, factor: &TotpFactor) -> Result<Option<TotpSecret>, ServiceError> {
    match state.sealer.open(&factor.sealed, &aad(factor.account, factor.id)) {
        Ok(opened) => Ok(Some(TotpSecret::from_bytes(Zeroizing::new(opened.bytes.to_vec())))),
        Err(SealError::UnknownSecret) => Ok(None),
        Err(error) => {
            let error = anyhow::Error::new(error).context(format!("the secret of the factor {}", factor.id));
            Err(ServiceError::Internal(error))
        }
    }
}
