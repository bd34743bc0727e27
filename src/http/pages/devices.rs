//! `/account/devices`: the sessions of the account, including those of apps, and the consents to apps.

use poem::{Response, Result, handler};
use uuid::Uuid;

use super::{
    account::{Owner, notice, require_owner, step_up},
    form::Form,
    visit::Visit,
};
use crate::{
    domain::{client::ClientId, ids::SessionId, mail::Device, session::Session},
    http::{
        api::session::last_used_to_the_minute,
        cookie,
        problem::{Code, ProblemError},
    },
    pages::views::{ClientConsent, Devices, SessionView},
    service::{consents, sessions},
};

/// Loads the lists that the page shows.
async fn view(visit: &Visit, owner: &Owner) -> Result<Devices, ProblemError> {
    let mut view = Devices::default();
    let sessions = sessions::list(&visit.state, &owner.caller).await?;
    for session in sessions.iter().filter(|session| session.client.is_none()) {
        view.devices.push(describe(session, session.id == owner.caller.sid));
    }
    // The current device first, then the others by their last use, newest first.
    view.devices.sort_by_key(|session| (!session.is_current, -session.last_used_at));
    for app in consents::apps(&visit.state, &owner.caller).await? {
        for session in &app.sessions {
            view.apps.push(SessionView {
                client: Some(app.name.clone()),
                open_url: app.open_url.clone(),
                ..describe(session, session.id == owner.caller.sid)
            });
        }
        if let Some(consent) = app.consent {
            view.consents.push(ClientConsent {
                name: app.name,
                client_id: consent.client_id,
                scopes: consent.scope.items().to_vec(),
                granted_at: consent.updated_at.as_millis(),
                // an app that is signed in has the link in the list above
                open_url: app.open_url.filter(|_| app.sessions.is_empty()),
            });
        }
    }
    Ok(view)
}

/// A session without the details of its app.
fn describe(session: &Session, is_current: bool) -> SessionView {
    let recognized = session.origin.user_agent.as_deref().and_then(Device::from_user_agent);
    let name = session.origin.device.clone().or_else(|| recognized.map(|device| device.to_string()));
    SessionView {
        id: session.id.0.to_string(),
        name,
        client: None,
        open_url: None,
        created_at: session.created_at.as_millis(),
        last_used_at: last_used_to_the_minute(session).as_millis(),
        ip: session.last_used_ip.or(session.origin.ip).map(|ip| ip.to_string()),
        is_current,
    }
}

/// `GET /account/devices`
#[handler]
pub(super) async fn show(mut visit: Visit) -> Result<Response> {
    let owner = require_owner!(visit, "/devices");
    let view = view(&visit, &owner).await?;
    visit.reply().notice(notice(&visit)).page(&view)
}

/// `POST /account/devices/end`: ends a session, and the app sessions beneath it.
#[handler]
pub(super) async fn end(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/devices");
    let ended = async {
        visit.check_csrf(&mut form)?;
        let id = Uuid::try_parse(&form.text("id")).map(SessionId).map_err(|_| unknown_session())?;
        if !sessions::revoke(&visit.state, &owner.caller, id, visit.client.ip).await? {
            return Err(unknown_session());
        }
        Ok(id)
    };
    match ended.await {
        Ok(id) if id == owner.caller.sid => {
            Ok(visit.reply().cookie(cookie::clear_browser()).redirect_to_page("/signed-out"))
        }
        Ok(_) => Ok(visit.reply().redirect_to_page("/devices?done=session_ended")),
        Err(problem) => reply_to_refusal(&visit, &owner, problem).await,
    }
}

/// Sends the browser to a step-up if the problem requires one, and otherwise shows the page with the problem.
async fn reply_to_refusal(visit: &Visit, owner: &Owner, problem: ProblemError) -> Result<Response> {
    match step_up(visit, problem, "/devices") {
        Ok(response) => Ok(response),
        Err(problem) => visit.reply().error(&problem).page(&view(visit, owner).await?),
    }
}

fn unknown_session() -> ProblemError {
    ProblemError::new(Code::UnknownSession, "The account has no live session with this id. It may have ended already.")
}

/// `POST /account/devices/end-others`: ends all sessions but the browser's.
#[handler]
pub(super) async fn end_others(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/devices");
    let ended = async {
        visit.check_csrf(&mut form)?;
        sessions::revoke_others(&visit.state, &owner.caller, visit.client.ip).await?;
        Ok::<(), ProblemError>(())
    };
    match ended.await {
        Ok(()) => Ok(visit.reply().redirect_to_page("/devices?done=sessions_ended")),
        Err(problem) => reply_to_refusal(&visit, &owner, problem).await,
    }
}

/// `POST /account/devices/revoke`: withdraws the consent to an app, and ends its sessions.
#[handler]
pub(super) async fn revoke(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/devices");
    let revoked = async {
        visit.check_csrf(&mut form)?;
        // no client has an invalid id: as for an app without a consent, there is nothing to withdraw
        if let Ok(client) = ClientId::parse(&form.text("client_id")) {
            consents::revoke(&visit.state, &owner.caller, &client, visit.client.ip).await?;
        }
        Ok::<(), ProblemError>(())
    };
    match revoked.await {
        Ok(()) => Ok(visit.reply().redirect_to_page("/devices?done=consent_revoked")),
        Err(problem) => reply_to_refusal(&visit, &owner, problem).await,
    }
}
