//! Codes by mail as the second factor of a sign-in (`factors.email_code`).
//!
//! A code works only with the challenge that it was sent for, and only wrong codes for that challenge count against it. So an attacker who
//! knows the password can neither use the owner's code nor use up its attempts.

use super::{challenge::OpenChallenge, policy};
use crate::{
    domain::{
        account::Account,
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::{AuthenticationMethod, AuthenticationMethods},
        clock::Timestamp,
        factor::FactorKind,
        mail::MailData,
        one_time_token::TokenPurpose,
        secret::SecretText,
    },
    service::{
        account_mail,
        error::ServiceError,
        limits::{self, LoginAttempt},
        one_time_tokens::{self, Claim},
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// The purpose of the codes.
const PURPOSE: TokenPurpose = TokenPurpose::SecondFactor;

/// The methods that a code by mail adds: a one-time code, over another channel (RFC 8176, section 2: `otp`, `mca`).
pub(super) const METHODS: AuthenticationMethods =
    AuthenticationMethods::only(AuthenticationMethod::OneTimePassword).with(AuthenticationMethod::MultipleChannels);

/// Sends a code, which replaces the former code of the challenge. Returns when the code stops working.
pub(super) async fn send(
    state: &AppState,
    open: &OpenChallenge,
    attempt: &LoginAttempt,
    origin: &RequestOrigin,
) -> Result<Timestamp, ServiceError> {
    let (account, now) = (&open.account, state.clock.now());
    limits::check_factor_mail(state, account.id, attempt, origin.ip).await?;
    let challenge_expires_at = open.pending().expires_at;
    let issued =
        one_time_tokens::issue_for_challenge(state, account, PURPOSE, open.context(), challenge_expires_at).await?;
    let data = MailData::SecondFactorCode {
        code: issued.code,
        expires_at: issued.expires_at,
        origin: account_mail::action_origin(origin, now),
    };
    account_mail::send(state, account, &account.email, origin, data).await?;
    let entry = AuditEntry::new(now, AuditEvent::OneTimeToken).account(account.id).detail(PURPOSE.as_str());
    // The client that requests the code has shown only the first factor.
    state.audit.record(entry.actor(Actor::Anyone).address(origin.ip));
    Ok(issued.expires_at)
}

/// Finds a code that was sent for a challenge, without consuming it. Returns `None` if the code is wrong, or if the sign-in can't continue
/// with a code by mail.
pub(super) async fn find(
    state: &AppState,
    open: &OpenChallenge,
    code: &SecretText,
) -> Result<Option<Claim>, ServiceError> {
    let accepted_kinds = policy::methods(&state.config.factors, &open.account, &open.pending().proved);
    if !accepted_kinds.contains(&FactorKind::EmailCode) {
        return Ok(None);
    }
    one_time_tokens::find_code_for_challenge(state, open.account.clone(), code, PURPOSE, open.context()).await
}

/// Accepts codes by mail again, if they were suspended and the owner has shown the password and a factor other than a mail
/// ([`Factors::with_email_code_suspended`](crate::domain::factor::Factors::with_email_code_suspended)). `proved` are the methods of the
/// sign-in's first step, `shown` the methods of the second factor. A failure does not fail the sign-in.
pub(super) async fn lift_suspension(
    state: &AppState,
    account: &Account,
    proved: AuthenticationMethods,
    shown: AuthenticationMethods,
) {
    let has_shown_password = proved.contains(AuthenticationMethod::Password);
    let has_shown_mail_code = shown.contains(AuthenticationMethod::MultipleChannels);
    if !account.factors.is_email_code_suspended() || !has_shown_password || has_shown_mail_code {
        return;
    }
    let resumed = async {
        let change = state.sql.change_account(account.id).await?;
        // The password must still be the one that was shown: a password that was set by mail since then suspends the codes again.
        if let Some(mut change) = change
            && change.account.password_changed_at == account.password_changed_at
        {
            change.resume_email_code().await?;
            change.commit().await?;
        }
        Ok::<_, ServiceError>(())
    };
    if let Err(error) = resumed.await {
        tracing::warn!(
            %error,
            account = %account.id,
            "codes by mail as a second factor could not be allowed again for an account: they stay suspended until \
             its next sign-in with another factor"
        );
    }
}
