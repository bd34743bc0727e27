//! Issues, finds and consumes one-time tokens: the links and codes of mails (I11: each works once).
//!
//! A use case first *finds* a token. So a request that fails because of a weak password or a full queue consumes no token. The use case
//! consumes the token while it holds the lock on the account's row, and stores it again if the change then fails.

use std::{net::IpAddr, time::Duration};

use crate::{
    crypto::one_time_token::{self, Code, LinkToken},
    domain::{
        account::{Account, Email, Identifier},
        audit::{Actor, AuditEntry, AuditEvent},
        clock::Timestamp,
        ids::AccountId,
        one_time_token::{Binding, StoredToken, TokenPurpose},
        secret::SecretText,
    },
    service::error::ServiceError,
    state::AppState,
    store::redis::{FoundToken, PresentedDigests, TokenGroup},
};

/// A link or a code, as its holder presents it.
#[derive(Clone, Debug)]
pub enum PresentedToken {
    /// The token of a link.
    Link(SecretText),
    /// A code, and the account that it was sent to.
    Code {
        /// The account.
        identifier: Identifier,
        /// The code as typed.
        code: SecretText,
    },
}

/// A link and a code, as a mail shows them.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token of the link.
    pub token: SecretText,
    /// The code.
    pub code: SecretText,
    /// When both stop working.
    pub expires_at: Timestamp,
}

/// A presented token that works.
#[derive(Debug)]
pub(super) struct Claim {
    /// The account, as read when the token was found.
    pub(super) account: Account,
    /// The purpose.
    pub(super) purpose: TokenPurpose,
    /// The address that the token is about, if it is not the account's primary one.
    pub(super) about: Option<Email>,
    /// The stored tokens with which the presented token was compared.
    group: TokenGroup,
    presented: PresentedDigests,
}

/// The request secret of a token that belongs to no sign-in request.
pub(super) const NO_SIGN_IN_REQUEST: &[u8] = &[];

/// Issues a token that is bound to the current state of an account. `address` is the address that the token is about.
/// `request_secret` is the secret of the sign-in request that the token is bound to, or [`NO_SIGN_IN_REQUEST`].
pub(super) async fn issue(
    state: &AppState,
    account: &Account,
    purpose: TokenPurpose,
    address: &Email,
    request_secret: &[u8],
) -> Result<IssuedToken, ServiceError> {
    let expires_at = state.clock.now() + ttl(state, purpose);
    let random_id = state.entropy.bytes();
    issue_as(state, account, purpose, address, request_secret, random_id, expires_at).await
}

/// Issues the token of a sign-in's challenge; it replaces the challenge's former token. The token works with that challenge only, and
/// expires at `until` at the latest.
pub(super) async fn issue_for_challenge(
    state: &AppState,
    account: &Account,
    purpose: TokenPurpose,
    challenge: [u8; 16],
    until: Timestamp,
) -> Result<IssuedToken, ServiceError> {
    let expires_at = until.min(state.clock.now() + ttl(state, purpose));
    issue_as(state, account, purpose, &account.email, &challenge, challenge, expires_at).await
}

/// Issues a token with `id`. It replaces a former token with the same id.
async fn issue_as(
    state: &AppState,
    account: &Account,
    purpose: TokenPurpose,
    address: &Email,
    request_secret: &[u8],
    id: [u8; 16],
    expires_at: Timestamp,
) -> Result<IssuedToken, ServiceError> {
    let now = state.clock.now();
    let link = LinkToken::generate(&state.entropy, purpose, account.id);
    let code = Code::generate(&state.entropy);
    let stored = StoredToken {
        account: account.id,
        purpose,
        link: state.token_digests.link_digest(&link, request_secret),
        code: state.token_digests.code_digest(&code, purpose, account.id, request_secret),
        binding: binding(account, purpose, address),
        issued_at: now,
        expires_at,
    };
    state.redis.one_time_tokens.issue(&stored, id, now).await?;
    Ok(IssuedToken { token: link.to_text(), code: code.to_text(), expires_at })
}

/// The lifetime of a token.
fn ttl(state: &AppState, purpose: TokenPurpose) -> Duration {
    match purpose {
        TokenPurpose::UndoEmailChange => state.config.account.undo_window,
        purpose => purpose.ttl(),
    }
}

/// A digest of the account's state that a token is bound to. A token stops working when this state changes: the password, the address, or
/// the epoch. The links of notices are bound to the address only, because they undo an attacker's other changes.
fn binding(account: &Account, purpose: TokenPurpose, address: &Email) -> Binding {
    let purpose_byte = [purpose.byte()];
    let address_key = address.key();
    match purpose {
        // the links of notices
        TokenPurpose::UndoEmailChange | TokenPurpose::SecureAccount => {
            one_time_token::binding(&[&purpose_byte, address_key.as_bytes()])
        }
        _ => one_time_token::binding(&[
            &purpose_byte,
            address_key.as_bytes(),
            account.email.key().as_bytes(),
            &account.epoch.0.to_be_bytes(),
            &account.password_changed_at.as_millis().to_be_bytes(),
        ]),
    }
}

/// Finds a presented token that works for one of `purposes`, and its account, without consuming it. Does the same work for known and
/// unknown accounts (I12: the time of an answer does not tell which accounts exist). A wrong code counts as a failed attempt.
///
/// `request_secret` is the one given to [`issue`]. The token is about the address to which the mail was sent: the primary address, or a
/// verified secondary one. For a code, the typed identifier decides which.
pub(super) async fn find(
    state: &AppState,
    presented: &PresentedToken,
    purposes: &[TokenPurpose],
    request_secret: &[u8],
) -> Result<Option<Claim>, ServiceError> {
    match presented {
        PresentedToken::Link(text) => {
            let token = LinkToken::parse(text.expose()).filter(|token| purposes.contains(&token.purpose));
            let Some(token) = token else { return Ok(None) };
            let Some(account) = state.sql.account(token.account).await? else { return Ok(None) };
            let digests = PresentedDigests::Link(state.token_digests.link_digests(&token, request_secret));
            let group = TokenGroup::Purpose(token.purpose);
            let about_primary = None;
            let found = find_bound(state, account.clone(), group, digests.clone(), about_primary).await?;
            let may_go_to_secondary = matches!(token.purpose, TokenPurpose::ResetPassword | TokenPurpose::Login);
            if found.is_some() || !may_go_to_secondary {
                return Ok(found);
            }
            let secondary = state.sql.secondary_emails(account.id).await?;
            for verified in secondary.into_iter().filter(|email| email.verified_at.is_some()) {
                let about = Some(verified.email);
                if let Some(claim) = find_bound(state, account.clone(), group, digests.clone(), about).await? {
                    return Ok(Some(claim));
                }
            }
            Ok(None)
        }
        PresentedToken::Code { identifier, code } => {
            let Some(code) = Code::parse(code.expose()) else { return Ok(None) };
            let account = state.sql.find_account(identifier).await?;
            find_code(state, account, identifier, &code, purposes, request_secret).await
        }
    }
}

/// Finds a code for an account whose owner is signed in, without consuming it.
pub(super) async fn find_code_for_account(
    state: &AppState,
    account: Account,
    code: &SecretText,
    purpose: TokenPurpose,
    address: Option<&Email>,
) -> Result<Option<Claim>, ServiceError> {
    let Some(code) = Code::parse(code.expose()) else { return Ok(None) };
    let digests =
        PresentedDigests::Code(state.token_digests.code_digests(&code, purpose, account.id, NO_SIGN_IN_REQUEST));
    find_bound(state, account, TokenGroup::Purpose(purpose), digests, address.cloned()).await
}

/// Finds the code of a sign-in's challenge ([`issue_for_challenge`]), without consuming it.
pub(super) async fn find_code_for_challenge(
    state: &AppState,
    account: Account,
    code: &SecretText,
    purpose: TokenPurpose,
    challenge: [u8; 16],
) -> Result<Option<Claim>, ServiceError> {
    let Some(code) = Code::parse(code.expose()) else { return Ok(None) };
    let digests = PresentedDigests::Code(state.token_digests.code_digests(&code, purpose, account.id, &challenge));
    find_bound(state, account, TokenGroup::Challenge(purpose, challenge), digests, None).await
}

/// Finds a code for the account of a typed identifier. For an unknown account, looks up an id that no account has.
async fn find_code(
    state: &AppState,
    account: Option<Account>,
    identifier: &Identifier,
    code: &Code,
    purposes: &[TokenPurpose],
    request_secret: &[u8],
) -> Result<Option<Claim>, ServiceError> {
    let mut claim = None;
    // Looks up all purposes, whether or not one has matched, so that every call does the same work (I12).
    for purpose in purposes {
        let digests = |id| PresentedDigests::Code(state.token_digests.code_digests(code, *purpose, id, request_secret));
        let found = match &account {
            Some(account) => {
                let about = account.other_email(identifier);
                find_bound(state, account.clone(), TokenGroup::Purpose(*purpose), digests(account.id), about).await?
            }
            None => {
                let id = dummy_account_id(state, identifier);
                let now = state.clock.now();
                let tokens = &state.redis.one_time_tokens;
                let dummy_binding = Binding([0; 16]);
                tokens.find(id, TokenGroup::Purpose(*purpose), &digests(id), dummy_binding, now).await?;
                None
            }
        };
        claim = claim.or(found);
    }
    Ok(claim)
}

/// An id that no account has. With it, an unknown identifier costs the same work as a known one.
fn dummy_account_id(state: &AppState, identifier: &Identifier) -> AccountId {
    let pseudonym = state.pseudonymizer.pseudonym(&[b"nobody", identifier.key().as_bytes()]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&pseudonym.as_bytes()[..16]);
    AccountId::from_bytes(bytes)
}

/// Finds a presented token in Redis that is bound to the account's current state, without consuming it. The token is about the address
/// `about`, or about the primary address if that is `None`.
async fn find_bound(
    state: &AppState,
    account: Account,
    group: TokenGroup,
    presented: PresentedDigests,
    about: Option<Email>,
) -> Result<Option<Claim>, ServiceError> {
    let now = state.clock.now();
    let (TokenGroup::Purpose(purpose) | TokenGroup::Challenge(purpose, _)) = group;
    let binding = binding(&account, purpose, about.as_ref().unwrap_or(&account.email));
    let found = state.redis.one_time_tokens.find(account.id, group, &presented, binding, now).await?;
    // The token of a closed account does not work, but its lookup takes as long as any other (I12).
    if found.is_none() || account.is_closed(now) {
        return Ok(None);
    }
    Ok(Some(Claim { account, purpose, about, group, presented }))
}

/// Finds a link's token that is about one of `addresses`, without consuming it.
pub(super) async fn find_link_about(
    state: &AppState,
    account: Account,
    token: &LinkToken,
    addresses: Vec<Email>,
) -> Result<Option<Claim>, ServiceError> {
    let digests = PresentedDigests::Link(state.token_digests.link_digests(token, NO_SIGN_IN_REQUEST));
    let group = TokenGroup::Purpose(token.purpose);
    for address in addresses {
        if let Some(claim) = find_bound(state, account.clone(), group, digests.clone(), Some(address)).await? {
            return Ok(Some(claim));
        }
    }
    Ok(None)
}

/// Consumes a token. `locked` is the account as read under its lock. `None` if another request consumed the token first, or if the
/// account has changed since the token was found.
pub(super) async fn take(
    state: &AppState,
    claim: &Claim,
    locked: &Account,
) -> Result<Option<FoundToken>, ServiceError> {
    let binding = binding(locked, claim.purpose, claim.about.as_ref().unwrap_or(&locked.email));
    let (tokens, now) = (&state.redis.one_time_tokens, state.clock.now());
    Ok(tokens.take(locked.id, claim.group, &claim.presented, binding, now).await?)
}

/// Stores a token again after the change that consumed it has failed.
pub(super) async fn restore(state: &AppState, claim: &Claim, token: &FoundToken) {
    let (tokens, now) = (&state.redis.one_time_tokens, state.clock.now());
    if let Err(error) = tokens.restore(claim.account.id, claim.purpose, token, now).await {
        tracing::warn!(
            %error,
            account = %claim.account.id,
            purpose = claim.purpose.as_str(),
            "restoring a one-time token failed: its link and code no longer work, and the user must request a new one"
        );
    }
}

/// Records that a link or a code was refused.
pub(super) fn record_refusal(state: &AppState, presented: &PresentedToken, purpose: TokenPurpose, ip: Option<IpAddr>) {
    let reason = match presented {
        PresentedToken::Link(_) => "invalid_link",
        PresentedToken::Code { .. } => "invalid_code",
    };
    let entry = AuditEntry::new(state.clock.now(), AuditEvent::OneTimeToken).refused(reason).detail(purpose.as_str());
    state.audit.record(entry.actor(Actor::Anyone).address(ip));
}
