//! Challenges with which a sign-in continues (I11: each works once; I14: none skips the second factor). A challenge is bound to its
//! purpose, the account, the account's epoch, the version of the account's factors, the first factor, the device and the transport.

use aws_lc_rs::digest::{SHA256, digest};

use super::{Authenticated, IssuedChallenge, policy};
use crate::{
    crypto::challenge::ChallengeToken,
    domain::{
        account::Account,
        challenge::{ChallengePurpose, PendingSignIn},
        factor::FactorKind,
        secret::SecretText,
    },
    service::{error::ServiceError, limits::DeviceToken},
    state::AppState,
    store::redis::FoundChallenge,
};

/// Issues a challenge for a sign-in that can't be finished yet. The client can continue with the factors `methods`.
pub(super) async fn issue(
    state: &AppState,
    purpose: ChallengePurpose,
    input: &Authenticated<'_>,
    methods: Vec<FactorKind>,
) -> Result<IssuedChallenge, ServiceError> {
    let now = state.clock.now();
    let lifetime = state.config.factors.challenge_ttl;
    let account = &input.account;
    let token = ChallengeToken::generate(&state.entropy, purpose, account.id);
    let pending = PendingSignIn {
        purpose,
        account: account.id,
        epoch: account.epoch,
        factors_version: account.factors_version,
        proved: input.authentication,
        transport: input.transport,
        device: input.device.map(device_digest),
        device_name: input.origin.device.clone(),
        expires_at: now + lifetime,
    };
    state.redis.challenges.put(&token.name(), &pending, now).await?;
    let remember_for = match purpose {
        ChallengePurpose::SecondFactor => policy::remember_for(&state.config.factors, account),
        // Only accounts that must have a second factor enrol one at a sign-in, and their devices may not skip it.
        ChallengePurpose::Enrolment => None,
    };
    Ok(IssuedChallenge { challenge: token.to_text(), methods, expires_in: lifetime.as_secs(), remember_for })
}

/// A presented challenge that is valid.
#[derive(Debug)]
pub(in crate::service) struct OpenChallenge {
    /// The account, as read when the challenge was opened. Its epoch and the version of its factors are those of the challenge.
    pub(in crate::service) account: Account,
    /// The name under which Redis stores the challenge.
    name: String,
    /// The challenge as Redis stores it.
    found: FoundChallenge,
}

/// Opens a challenge without consuming it. `None` if the challenge has another purpose or device, was used, or has expired, or if the
/// account has changed or is closed.
pub(in crate::service) async fn open(
    state: &AppState,
    text: &SecretText,
    purpose: ChallengePurpose,
    device: Option<&DeviceToken>,
) -> Result<Option<OpenChallenge>, ServiceError> {
    let Some(token) = ChallengeToken::parse(text.expose()) else { return Ok(None) };
    if token.purpose != purpose {
        return Ok(None);
    }
    let name = token.name();
    let now = state.clock.now();
    let Some(found) = state.redis.challenges.find(token.account, &name, now).await? else { return Ok(None) };
    // The stored purpose decides. A client can change the purpose in the text, whose check only saves this lookup.
    if found.pending.purpose != purpose || found.pending.device != device.map(device_digest) {
        return Ok(None);
    }
    let Some(account) = state.sql.account(token.account).await? else { return Ok(None) };
    let is_unchanged = account.epoch == found.pending.epoch && account.factors_version == found.pending.factors_version;
    Ok((is_unchanged && !account.is_closed(now)).then_some(OpenChallenge { account, name, found }))
}

impl OpenChallenge {
    /// The pending sign-in.
    pub(in crate::service) fn pending(&self) -> &PendingSignIn {
        &self.found.pending
    }

    /// A digest of the challenge, to which the challenge of a passkey and a code by mail are bound.
    pub(in crate::service) fn context(&self) -> [u8; 16] {
        short_digest(self.name.as_bytes())
    }

    /// Consumes the challenge. Of several concurrent requests, exactly one gets true.
    pub(in crate::service) async fn take(&self, state: &AppState) -> Result<bool, ServiceError> {
        Ok(state.redis.challenges.take(&self.name, &self.found).await?)
    }

    /// Stores the challenge again after the operation that consumed it has failed.
    pub(in crate::service) async fn restore(&self, state: &AppState) {
        if let Err(error) = state.redis.challenges.restore(&self.name, &self.found, state.clock.now()).await {
            tracing::warn!(
                %error,
                account = %self.account.id,
                "a sign-in failed between its steps, and its challenge could not be restored: the user must start \
                 the sign-in again"
            );
        }
    }
}

fn device_digest(token: &DeviceToken) -> [u8; 16] {
    short_digest(token.expose().as_bytes())
}

/// The first half of the SHA-256 of `bytes`.
fn short_digest(bytes: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..16]);
    half
}
