//! Mails to the owner of an account: links, codes and notices, in the language of the account.

use crate::{
    domain::{
        account::{Account, Email},
        clock::Timestamp,
        ids::AccountId,
        locale::Locale,
        mail::{ActionOrigin, Device, LinkAndCode, Mail, MailData, Notice, OutboxMail, Recipient, Template},
        one_time_token::TokenPurpose,
        profile::Profile,
        secret::SecretText,
    },
    service::{
        error::ServiceError,
        one_time_tokens::{self, IssuedToken},
        request_origin::RequestOrigin,
    },
    state::AppState,
    store::sql::AccountChange,
};

/// When and from where an action was done.
pub(super) fn action_origin(origin: &RequestOrigin, now: Timestamp) -> ActionOrigin {
    ActionOrigin { at: now, address: origin.ip, device: origin.user_agent.as_deref().and_then(Device::from_user_agent) }
}

/// The link and the code of a token, as a mail shows them.
pub(super) fn link_and_code(state: &AppState, purpose: TokenPurpose, issued: &IssuedToken) -> LinkAndCode {
    let code = match purpose {
        // notices have a link only
        TokenPurpose::UndoEmailChange | TokenPurpose::SecureAccount => None,
        _ => Some(issued.code.clone()),
    };
    LinkAndCode { link: link(state, purpose, &issued.token), code, expires_at: issued.expires_at }
}

/// The data of the mail to the owner of an address that another person tried to use for an account.
pub(super) fn address_taken(state: &AppState, origin: &RequestOrigin) -> MailData {
    let origin = action_origin(origin, state.clock.now());
    MailData::AddressTaken { origin, sign_in: state.config.mail.links.sign_in.clone() }
}

/// The link of a token: the URL configured for its purpose in `mail.links`, with the token.
pub(super) fn link(state: &AppState, purpose: TokenPurpose, token: &SecretText) -> SecretText {
    let links = &state.config.mail.links;
    let template = match purpose {
        TokenPurpose::VerifyEmail | TokenPurpose::AddEmail => &links.verify_address,
        TokenPurpose::ChangeEmail => &links.confirm_address,
        TokenPurpose::ResetPassword => &links.reset_password,
        TokenPurpose::Invitation => &links.invitation,
        // A mail with a code as second factor has no link, so `SecondFactor` never uses this template.
        TokenPurpose::Login | TokenPurpose::SecondFactor => &links.sign_in_code,
        TokenPurpose::UndoEmailChange => &links.undo_address,
        TokenPurpose::SecureAccount => &links.not_me,
    };
    template.with_token(token)
}

/// Composes a mail to `to`, about `account` if there is one. Returns `None` if the address can't be used, or if the mail is a notice
/// that is switched off or finds the queue full.
pub(super) fn compose(
    state: &AppState,
    account: Option<AccountId>,
    to: &Email,
    profile: &Profile,
    origin: &RequestOrigin,
    data: MailData,
) -> Result<Option<OutboxMail>, ServiceError> {
    let recipient = match Recipient::new(to) {
        Ok(recipient) => recipient,
        Err(reason) => {
            let account = account.map(tracing::field::display);
            tracing::warn!(
                account,
                %reason,
                "mail not sent: the address can't be used in a mail. The account gets no mails until the address is corrected \
                 (`latchkey user set-email`)"
            );
            return Ok(None);
        }
    };
    let language_tag = profile.locale.as_ref().map(|tag| tag.as_str());
    let mail = Mail {
        to: recipient,
        locale: Locale::choose(language_tag, origin.accept_language.as_deref(), state.config.mail.default_locale),
        time_zone: profile.time_zone.as_ref().map(|zone| zone.as_str().to_owned()),
        account,
        data,
    };
    Ok(state.mailer.prepare(&mail)?)
}

/// Enqueues a mail to `to` in the transaction of a change.
pub(super) async fn enqueue(
    state: &AppState,
    change: &mut AccountChange,
    to: &Email,
    origin: &RequestOrigin,
    data: MailData,
) -> Result<(), ServiceError> {
    let profile = change.profile().await?;
    if let Some(mail) = compose(state, Some(change.account.id), to, &profile, origin, data)? {
        change.enqueue(&mail).await?;
    }
    Ok(())
}

/// Enqueues a mail in a transaction of its own.
pub(super) async fn send(
    state: &AppState,
    account: &Account,
    to: &Email,
    origin: &RequestOrigin,
    data: MailData,
) -> Result<(), ServiceError> {
    let profile = state.sql.profile(account.id).await?;
    if let Some(mail) = compose(state, Some(account.id), to, &profile, origin, data)? {
        state.sql.enqueue_mail(&mail).await?;
    }
    Ok(())
}

/// The data of a notice, with the link "this wasn't me". Issues the link's token.
pub(super) async fn notice(
    state: &AppState,
    account: &Account,
    origin: &RequestOrigin,
    now: Timestamp,
) -> Result<Notice, ServiceError> {
    let purpose = TokenPurpose::SecureAccount;
    let issued =
        one_time_tokens::issue(state, account, purpose, &account.email, one_time_tokens::NO_SIGN_IN_REQUEST).await?;
    Ok(Notice { origin: action_origin(origin, now), not_me: Some(link(state, purpose, &issued.token)) })
}

/// The data of a notice about a change by an operator, an admin or a service client. It has no link "this wasn't me".
pub(super) fn operator_notice(now: Timestamp) -> Notice {
    // the mail has the time, but not the address and device of the operator
    Notice { origin: action_origin(&RequestOrigin::default(), now), not_me: None }
}

/// Whether a notice goes to the account's address. An unverified address may not be the owner's (I13).
pub(super) fn should_notify(state: &AppState, account: &Account, template: Template) -> bool {
    account.email_verified && !state.config.mail.notices_off.contains(&template)
}
