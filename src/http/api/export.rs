//! `GET /v1/me/export`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json};
use uuid::Uuid;

use super::{Tag, me::AccountResponse};
use crate::{
    domain::{account::Email, clock::Timestamp, factor::FactorKind},
    http::{
        extract::auth::SignedIn,
        problem::{
            Code, Failed, Problems,
            groups::{RECENT, codes},
        },
        types::Time,
    },
    service::{
        export_account::{self, AccountExport},
        recent_authentication::require_recent,
        remembered_devices::DeviceEntry,
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// The data of the caller's account.
pub struct ExportApi;

/// The data of an account, without secrets.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub(in crate::http) struct ExportResponse {
    /// The account.
    account: AccountResponse,
    /// The secondary addresses.
    secondary_emails: Vec<ExportedEmail>,
    /// The address that waits for its confirmation, if any.
    pending_email: Option<String>,
    /// The former addresses of changes that can still be undone.
    former_emails: Vec<String>,
    /// The authenticator apps and the passkeys.
    factors: Vec<ExportedFactor>,
    /// Whether codes by mail are switched on as a second factor.
    email_code: bool,
    /// The devices that may skip the second factor.
    devices: Vec<ExportedDevice>,
    /// The scopes that the user has allowed apps.
    consents: Vec<ExportedConsent>,
    /// The live sessions.
    sessions: Vec<ExportedSession>,
    /// The security events, newest first.
    events: Vec<ExportedEvent>,
}

/// A secondary address in an export.
#[derive(Object)]
struct ExportedEmail {
    /// The address.
    email: String,
    /// Whether it is verified.
    verified: bool,
    /// When it was added.
    created_at: Time,
}

/// An authenticator app or a passkey in an export.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct ExportedFactor {
    /// `totp` or `passkey`.
    kind: String,
    /// The name that the owner gave it.
    name: String,
    /// When it was set up.
    created_at: Time,
    /// When it was last used.
    last_used_at: Option<Time>,
}

/// A remembered device in an export.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct ExportedDevice {
    /// The device's id.
    id: Uuid,
    /// The name that the user gave it.
    name: Option<String>,
    /// The user agent with which it was remembered.
    user_agent: Option<String>,
    /// When it showed a second factor and was remembered.
    created_at: Time,
    /// When it must show a second factor again.
    expires_at: Time,
    /// When it last skipped the second factor.
    last_used_at: Option<Time>,
}

/// The scopes that the user has allowed an app, in an export.
#[derive(Object)]
struct ExportedConsent {
    /// The app's `client_id`.
    client_id: String,
    /// The scopes that the app may have, separated by spaces.
    scope: String,
    /// When the first scope was allowed.
    created_at: Time,
    /// When the last scope was allowed.
    updated_at: Time,
}

/// A session in an export.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct ExportedSession {
    /// The session's id.
    id: Uuid,
    /// When it began.
    created_at: Time,
    /// When it was last used.
    last_used_at: Time,
    /// When it ends unless it is used before.
    expires_at: Time,
    /// The IP address that it began from.
    ip: Option<String>,
    /// The user agent that it began with.
    user_agent: Option<String>,
    /// The name of the device.
    device: Option<String>,
}

/// A security event in an export.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct ExportedEvent {
    /// When it happened.
    at: Time,
    /// The kind of event, as in the audit log.
    event: String,
    /// `success` or `refused`.
    outcome: String,
    /// The reason of a refusal, or of the end of a session.
    reason: Option<String>,
    /// Further details.
    detail: Option<String>,
    /// The id of the session that the event is about.
    session_id: Option<String>,
    /// The client's IP address.
    address: Option<String>,
    /// The number of events that this entry stands for.
    count: i64,
}

impl From<AccountExport> for ExportResponse {
    fn from(export: AccountExport) -> Self {
        let to_text = |email: &Email| email.as_str().to_owned();
        let factor = |kind: FactorKind, name, created_at: Timestamp, last_used_at: Option<Timestamp>| ExportedFactor {
            kind: kind.as_str().to_owned(),
            name,
            created_at: created_at.into(),
            last_used_at: last_used_at.map(Time::from),
        };
        let secondary_emails = export.secondary_emails.into_iter().map(|secondary| ExportedEmail {
            email: to_text(&secondary.email),
            verified: secondary.verified_at.is_some(),
            created_at: secondary.created_at.into(),
        });
        let authenticator_apps = export
            .totp_factors
            .into_iter()
            .map(|app| factor(FactorKind::Totp, app.label, app.created_at, app.last_used_at));
        let passkeys = export.passkeys.into_iter().map(|passkey| {
            let name = passkey.name.as_str().to_owned();
            factor(FactorKind::Passkey, name, passkey.created_at, passkey.last_used_at)
        });
        let devices = export.devices.into_iter().map(|DeviceEntry { device, .. }| ExportedDevice {
            id: device.id.0,
            name: device.name,
            user_agent: device.user_agent,
            created_at: device.created_at.into(),
            expires_at: device.expires_at.into(),
            last_used_at: device.last_used_at.map(Time::from),
        });
        let email_code = export.account.factors.contains(FactorKind::EmailCode);
        let consents = export.consents.into_iter().map(|consent| ExportedConsent {
            client_id: consent.client_id,
            scope: consent.scope.to_string(),
            created_at: consent.created_at.into(),
            updated_at: consent.updated_at.into(),
        });
        let sessions = export.sessions.into_iter().map(|session| ExportedSession {
            id: session.id.0,
            created_at: session.created_at.into(),
            last_used_at: session.last_used_at.into(),
            expires_at: session.expires_at().into(),
            ip: session.origin.ip.map(|ip| ip.to_string()),
            user_agent: session.origin.user_agent,
            device: session.origin.device,
        });
        let events = export.events.into_iter().map(|event| ExportedEvent {
            at: event.at.into(),
            event: event.event,
            outcome: event.outcome,
            reason: event.reason,
            detail: event.detail,
            session_id: event.session_id,
            address: event.address,
            count: event.count,
        });
        Self {
            account: AccountResponse::new(export.account, export.profile),
            secondary_emails: secondary_emails.collect(),
            pending_email: export.pending_address.map(|pending| to_text(&pending.email)),
            former_emails: export.former_addresses.iter().map(|former| to_text(&former.email)).collect(),
            factors: authenticator_apps.chain(passkeys).collect(),
            email_code,
            devices: devices.collect(),
            consents: consents.collect(),
            sessions: sessions.collect(),
            events: events.collect(),
        }
    }
}

#[derive(ApiResponse)]
enum AccountExportedResponse {
    /// The data of the account.
    #[oai(status = 200)]
    Ok(Json<ExportResponse>),
}

/// The errors of exporting the account.
struct ExportProblems;

impl Problems for ExportProblems {
    const CODES: &'static [Code] = codes![RECENT, [Code::TooManyRequests]];
}

#[OpenApi(tag = "Tag::Account")]
impl ExportApi {
    /// Export the account
    ///
    /// The data of the account, its live sessions and its security events. Passwords and tokens are not part of the export. Needs a
    /// session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/export", method = "get", operation_id = "export_me")]
    async fn export(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        SignedIn(caller): SignedIn,
    ) -> Result<AccountExportedResponse, Failed<ExportProblems>> {
        require_recent(state, &caller).await?;
        let export = export_account::export_account(state, &caller, origin.ip).await?;
        Ok(AccountExportedResponse::Ok(Json(export.into())))
    }
}
