//! `/account`: the profile, the password, and the data of the signed-in account.

use poem::{Response, Result, handler, http::header};
use poem_openapi::types::ToJSON;

use super::{form::Form, sign_in::session_reply, visit::Visit};
use crate::{
    crypto::access_token::AccessClaims,
    domain::{account::Account, profile::Profile as AccountProfile, session::AcceptedTransport},
    http::{
        api::{
            export::ExportResponse,
            me::{UpdateAccountRequest, parse_update},
        },
        cookie,
        problem::{Code, ProblemError},
    },
    pages::views::{Data, Message, Password, Profile},
    service::{
        authenticate, change_password, delete_account, export_account, recent_authentication::require_recent,
        update_account,
    },
};

/// The signed-in user of a page.
pub(super) struct Owner {
    /// The claims of the browser's session, for calls to the service layer.
    pub(super) caller: AccessClaims,
    /// The account.
    pub(super) account: Account,
    /// The profile.
    pub(super) profile: AccountProfile,
}

/// Loads the signed-in user; `None` if the browser must sign in. Sets the name, the time zone and the language of the page to the user's.
///
/// # Errors
/// [`ProblemError`]
pub(super) async fn owner(visit: &mut Visit) -> Result<Option<Owner>, ProblemError> {
    let Some(session) = &visit.browser.session else { return Ok(None) };
    let caller = session.caller(&visit.state);
    let (account, profile) = match authenticate::account_and_profile(&visit.state, &caller).await {
        Ok(found) => found,
        Err(authenticate::AuthenticateError::Service(error)) => return Err(error.into()),
        // the account was deleted
        Err(_) => return Ok(None),
    };
    visit.account = Some(profile.display_name.clone().unwrap_or_else(|| account.display_identifier()));
    visit.time_zone = profile.time_zone.as_ref().map(|zone| zone.as_str().to_owned());
    let preferred = profile.locale.as_ref().map(|tag| tag.as_str());
    if let Some(pages) = &visit.state.pages {
        let (requested, accepted) = (visit.parameter("ui_locales"), visit.origin.accept_language.as_deref());
        visit.locale = pages.locale(requested, preferred, accepted);
    }
    Ok(Some(Owner { caller, account, profile }))
}

/// Loads the signed-in user. If the browser must sign in, returns a redirect from the handler: to the sign-in page, which leads back to
/// `$page`, a path below `/account`.
macro_rules! require_owner {
    ($visit:ident, $page:literal) => {{
        match $crate::http::pages::account::owner(&mut $visit).await? {
            Some(owner) => owner,
            None => return Ok($visit.reply().redirect_to_page(concat!("/sign-in?next=", $page))),
        }
    }};
}
pub(super) use require_owner;

/// Loads the signed-in account into the visit. Returns the account's display identifier; empty if the browser must sign in.
///
/// # Errors
/// [`ProblemError`]
pub(super) async fn load_owner_identifier(visit: &mut Visit) -> Result<String, ProblemError> {
    let owner = owner(visit).await?;
    Ok(owner.map(|owner| owner.account.display_identifier()).unwrap_or_default())
}

/// The notice that the parameter `done` of a redirect names.
pub(super) fn notice(visit: &Visit) -> Option<&'static str> {
    const NOTICES: [&str; 11] = [
        "notice.saved",
        "notice.session_ended",
        "notice.sessions_ended",
        "notice.consent_revoked",
        "notice.mail_sent",
        "notice.password_changed",
        "notice.factor_added",
        "notice.factor_removed",
        "notice.primary_changed",
        "notice.address_removed",
        "notice.devices_forgotten",
    ];
    let done = visit.parameter("done")?;
    NOTICES.into_iter().find(|notice| notice.strip_prefix("notice.") == Some(done))
}

/// Redirects to the step-up page if `problem` says that the change needs a more recent or stronger authentication. The step-up page
/// leads back to `page`, a path below `/account`.
///
/// # Errors
/// `problem`, if it is another one.
pub(super) fn step_up(visit: &Visit, problem: ProblemError, page: &str) -> Result<Response, ProblemError> {
    if problem.code != Code::InsufficientUserAuthentication {
        return Err(problem);
    }
    Ok(visit.reply().redirect_to_page(&format!("/reauthenticate?next={page}")))
}

fn profile_view(owner: &Owner) -> Profile {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let Owner { account, profile, .. } = owner;
    Profile {
        email: account.email.as_str().to_owned(),
        email_verified: account.email_verified,
        username: text(account.username.as_ref().map(|name| name.as_str())),
        display_name: text(profile.display_name.as_deref()),
        locale_tag: text(profile.locale.as_ref().map(|tag| tag.as_str())),
        zone: text(profile.time_zone.as_ref().map(|zone| zone.as_str())),
        zones: ZONES.iter().map(|zone| (*zone).to_owned()).collect(),
    }
}

/// Time zones that the form suggests. The user can type any other.
const ZONES: [&str; 28] = [
    "UTC",
    "Africa/Cairo",
    "Africa/Johannesburg",
    "Africa/Lagos",
    "America/Anchorage",
    "America/Argentina/Buenos_Aires",
    "America/Bogota",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Mexico_City",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Bangkok",
    "Asia/Dubai",
    "Asia/Hong_Kong",
    "Asia/Jakarta",
    "Asia/Kolkata",
    "Asia/Seoul",
    "Asia/Singapore",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Europe/Berlin",
    "Europe/Lisbon",
    "Europe/London",
    "Europe/Madrid",
    "Europe/Paris",
    "Pacific/Auckland",
];

/// `GET /account`
#[handler]
pub(super) async fn show_profile(mut visit: Visit) -> Result<Response> {
    let owner = require_owner!(visit, "");
    visit.reply().notice(notice(&visit)).page(&profile_view(&owner))
}

/// `POST /account/profile`
#[handler]
pub(super) async fn save_profile(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "");
    let view = Profile {
        username: form.text("username"),
        display_name: form.text("display_name"),
        locale_tag: form.text("locale"),
        zone: form.text("time_zone"),
        ..profile_view(&owner)
    };
    // a block of its own, so that `?` leads to the replies below
    let saved = async {
        visit.check_csrf(&mut form)?;
        // An unchanged username is left out: only a change of the username requires a recent authentication.
        let former = owner.account.username.as_ref().map(|name| name.as_str()).unwrap_or_default();
        let update = parse_update(UpdateAccountRequest {
            username: Some(view.username.clone()).filter(|name| name != former),
            display_name: Some(view.display_name.clone()),
            locale: Some(view.locale_tag.clone()),
            time_zone: Some(view.zone.clone()),
            user_metadata: None,
        })?;
        update_account::update_account(&visit.state, &owner.caller, update, visit.client.ip).await?;
        Ok::<(), ProblemError>(())
    };
    match saved.await {
        Ok(()) => Ok(visit.reply().redirect_to_page("?done=saved")),
        Err(problem) => match step_up(&visit, problem, "") {
            Ok(response) => Ok(response),
            Err(problem) => visit.reply().error(&problem).page(&view),
        },
    }
}

/// `GET /account/password`
#[handler]
pub(super) async fn show_password(mut visit: Visit) -> Result<Response> {
    let owner = require_owner!(visit, "/password");
    visit.reply().notice(notice(&visit)).page(&Password { email: owner.account.display_identifier() })
}

/// `POST /account/password`: all sessions end, and a new one takes the place of the browser's.
#[handler]
pub(super) async fn set_password(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/password");
    let changed = async {
        visit.check_csrf(&mut form)?;
        let current = form.secret("current_password").unwrap_or_else(|| "".into());
        let new = form.secret("new_password").unwrap_or_else(|| "".into());
        // a page's session has no refresh tokens, so no transport is refused
        let (origin, accepted) = (visit.origin.clone(), AcceptedTransport::Any);
        let changed =
            change_password::change_password(&visit.state, &owner.caller, current, new, origin, accepted).await;
        changed.map_err(ProblemError::from)
    };
    match changed.await {
        Ok(tokens) => {
            let reply = session_reply(&visit, tokens.account, tokens.session);
            Ok(reply.redirect_to_page("/password?done=password_changed"))
        }
        Err(problem) => match step_up(&visit, problem, "/password") {
            Ok(response) => Ok(response),
            Err(problem) => visit.reply().error(&problem).page(&Password { email: owner.account.display_identifier() }),
        },
    }
}

fn data_view(visit: &Visit) -> Data {
    const SECONDS_PER_DAY: u64 = 24 * 3600;
    Data { grace_days: visit.state.config.account.deletion_grace.as_secs() / SECONDS_PER_DAY }
}

/// `GET /account/data`
#[handler]
pub(super) async fn show_data(mut visit: Visit) -> Result<Response> {
    // loads the user only for the redirect, and for the language and the name that the page shows
    let _ = require_owner!(visit, "/data");
    visit.reply().page(&data_view(&visit))
}

/// `POST /account/data/export`: a file with the same data as `GET /v1/me/export`.
#[handler]
pub(super) async fn export_data(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/data");
    let exported = async {
        visit.check_csrf(&mut form)?;
        require_recent(&visit.state, &owner.caller).await?;
        let exported = export_account::export_account(&visit.state, &owner.caller, visit.client.ip).await;
        exported.map_err(ProblemError::from)
    };
    match exported.await {
        Ok(export) => {
            let body = ExportResponse::from(export).to_json_string();
            let mut response = Response::builder().content_type("application/json").body(body);
            let disposition = header::HeaderValue::from_static("attachment; filename=\"account.json\"");
            response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
            Ok(response)
        }
        Err(problem) => match step_up(&visit, problem, "/data") {
            Ok(response) => Ok(response),
            Err(problem) => visit.reply().error(&problem).page(&data_view(&visit)),
        },
    }
}

/// `POST /account/data/delete`: ends all sessions and schedules the deletion.
#[handler]
pub(super) async fn schedule_deletion(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/data");
    let scheduled = async {
        visit.check_csrf(&mut form)?;
        if !form.is_checked("confirm") {
            // `require_filled` refuses the empty text, so that the page shows the error at the box.
            super::recovery::require_filled("confirm", "")?;
        }
        let scheduled = delete_account::request(&visit.state, &owner.caller, &visit.origin).await;
        scheduled.map_err(ProblemError::from)
    };
    match scheduled.await {
        Ok(deletes_at) => {
            // the page no longer names the account, which is signed out
            visit.account = None;
            let view = Message { at: Some(deletes_at.as_millis()), ..Message::new("deletion_scheduled", "sign-in") };
            visit.reply().cookie(cookie::clear_browser()).page(&view)
        }
        Err(problem) => match step_up(&visit, problem, "/data") {
            Ok(response) => Ok(response),
            Err(problem) => visit.reply().error(&problem).page(&data_view(&visit)),
        },
    }
}
