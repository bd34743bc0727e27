//! Invitations and password resets that an admin, an operator or a service client starts. None of them learns or sets a password. The
//! account's owner sets one with a link or a code.

use crate::{
    domain::{
        account::{Account, Email, Identifier, NewAccount, Roles, Username},
        audit::{AuditEntry, AuditEvent},
        clock::Timestamp,
        ids::AccountId,
        mail::MailData,
        one_time_token::TokenPurpose,
        secret::SecretText,
    },
    service::{
        account_mail, change_email,
        error::{ServiceError, from_store_errors},
        initiator::Initiator,
        one_time_tokens,
        request_origin::RequestOrigin,
    },
    state::AppState,
    store::sql::InsertError,
};

/// The scope that a service client needs to invite accounts and to start resets.
pub const SCOPE: &str = "accounts:recover";

/// How the link and the code reach the account's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// By mail.
    Mail,
    /// In the response, for an app that sends its own mails.
    ToCaller,
}

/// An account to invite.
#[derive(Clone, Debug)]
pub struct Invite {
    /// The address.
    pub email: Email,
    /// The username, if any.
    pub username: Option<Username>,
    /// The roles, which only an operator may set.
    pub roles: Roles,
}

/// Why an account was not invited, or a reset not started.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// An account has verified the address, or a closed account (disabled, or due for deletion) has it.
    #[error("an account with this e-mail address exists")]
    EmailTaken,
    /// Another account has the username.
    #[error("an account with this username exists")]
    UsernameTaken,
    /// There is no such account, or it is closed.
    #[error("there is no such account, or it is disabled or due for deletion")]
    NotFound,
    /// The account has no address to which the mail could be sent.
    #[error("the account has no e-mail address, so the link can't be mailed")]
    NoAddress,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(InviteError);

/// A started invitation or reset.
#[derive(Clone, Debug)]
pub struct InviteOrReset {
    /// The account.
    pub account: Account,
    /// The link and the code, for [`Delivery::ToCaller`].
    pub returned: Option<ReturnedCredentials>,
}

/// A link and a code for an app that sends its own mails.
#[derive(Clone, Debug)]
pub struct ReturnedCredentials {
    /// The link (`mail.links`).
    pub link: SecretText,
    /// The token of the link.
    pub token: SecretText,
    /// The code.
    pub code: SecretText,
    /// When the link and the code stop working.
    pub expires_at: Timestamp,
}

/// Creates an account without a password, and issues a link and a code with which its owner sets one.
///
/// If an account has the address and has not verified it, that account is invited as it is. Accepting the invitation removes the credentials
/// and sessions that were set up before (I13: they may be those of a person who does not own the address).
///
/// # Errors
/// [`InviteError`]
pub async fn invite(
    state: &AppState,
    input: Invite,
    delivery: Delivery,
    initiator: &Initiator,
    origin: &RequestOrigin,
) -> Result<InviteOrReset, InviteError> {
    let now = state.clock.now();
    let identifier = Identifier::from(&input.email);
    let account = match state.sql.find_account(&identifier).await? {
        // Nobody can use a closed account, so a link to it would be of no use.
        Some(account) if account.owns(&identifier) || account.is_closed(now) => return Err(InviteError::EmailTaken),
        Some(account) => account,
        None => {
            let new_account = NewAccount {
                id: state.entropy.account_id(now),
                email: input.email,
                email_verified: false,
                username: input.username,
                password_hash: None,
                roles: input.roles,
                disabled_at: None,
                created_at: now,
                updated_at: now,
            };
            let mut entry = AuditEntry::new(now, AuditEvent::AccountAdded).account(new_account.id).address(origin.ip);
            // `None` for an operator, whom the command's database handle adds.
            entry.facts.actor = initiator.actor();
            state.sql.insert_account_with_entry(&new_account, &entry).await.map_err(|error| match error {
                InsertError::EmailTaken => InviteError::EmailTaken,
                InsertError::UsernameTaken => InviteError::UsernameTaken,
                InsertError::Sql(error) => error.into(),
            })?
        }
    };
    issue(state, account, TokenPurpose::Invitation, delivery, initiator, origin).await
}

/// Finds the account with an id.
///
/// # Errors
/// [`ServiceError`]
pub async fn find_by_id(state: &AppState, id: AccountId) -> Result<Option<Account>, ServiceError> {
    Ok(state.sql.account(id).await?)
}

/// Finds the account with an e-mail address or a username.
///
/// # Errors
/// [`ServiceError`]
pub async fn find_by_identifier(state: &AppState, identifier: &Identifier) -> Result<Option<Account>, ServiceError> {
    Ok(state.sql.find_account(identifier).await?)
}

/// Issues a link and a code with which the owner of an account sets a new password. The current password works until then.
///
/// # Errors
/// [`InviteError`]
pub async fn start_reset(
    state: &AppState,
    account: Account,
    delivery: Delivery,
    initiator: &Initiator,
    origin: &RequestOrigin,
) -> Result<InviteOrReset, InviteError> {
    if account.is_closed(state.clock.now()) {
        return Err(InviteError::NotFound);
    }
    issue(state, account, TokenPurpose::ResetPassword, delivery, initiator, origin).await
}

/// Issues the link and the code of an invitation or a reset, and mails or returns them. Nobody learns them if the transaction fails.
async fn issue(
    state: &AppState,
    account: Account,
    purpose: TokenPurpose,
    delivery: Delivery,
    initiator: &Initiator,
    origin: &RequestOrigin,
) -> Result<InviteOrReset, InviteError> {
    if delivery == Delivery::Mail && account.primary_email().is_none() {
        return Err(InviteError::NoAddress);
    }
    let now = state.clock.now();
    let issued =
        one_time_tokens::issue(state, &account, purpose, &account.email, one_time_tokens::NO_SIGN_IN_REQUEST).await?;
    let mut entry = AuditEntry::new(now, AuditEvent::AccountInvited).account(account.id).detail(purpose.as_str());
    entry.facts.actor = initiator.actor();
    let mut change = state.sql.change_account(account.id).await?.ok_or(InviteError::NotFound)?;
    change.record(&entry.address(origin.ip)).await?;
    // If the account's address was restored, the links of the addresses that had replaced it must not undo the restoration.
    change_email::forget_later_addresses(&mut change, now).await?;
    let returned = match delivery {
        Delivery::ToCaller => Some(ReturnedCredentials {
            link: account_mail::link(state, purpose, &issued.token),
            token: issued.token,
            code: issued.code,
            expires_at: issued.expires_at,
        }),
        Delivery::Mail => {
            let challenge = account_mail::link_and_code(state, purpose, &issued);
            let data = match purpose {
                TokenPurpose::Invitation => MailData::Invitation { challenge },
                _ => MailData::PasswordReset {
                    challenge,
                    // The IP address and the device of the admin do not concern the owner.
                    origin: account_mail::action_origin(&RequestOrigin::default(), now),
                },
            };
            account_mail::enqueue(state, &mut change, &account.email, origin, data).await?;
            None
        }
    };
    change.commit().await?;
    tracing::info!(
        account = %account.id,
        purpose = purpose.as_str(),
        "an admin, a client or an operator has issued a link and a code for the account's owner; the audit log names the actor"
    );
    Ok(InviteOrReset { account, returned })
}
