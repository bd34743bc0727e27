//! `/v1/me/factors/totp`: the authenticator apps of the caller's account.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json, types::Example};
use uuid::Uuid;

use super::{
    Tag,
    factors::{ChangedResponse, changed_response},
    login::printable,
};
use crate::{
    domain::{clock::Timestamp, ids::FactorId, session::AcceptedTransport},
    http::{
        extract::{auth::SignedIn, client_info::ClientInfo, cookie_refusal::CookieRefusal, json::Body},
        problem::{
            Code, Failed, Problems,
            groups::{COOKIE, JSON_BODY, RECENT, codes},
        },
        types::{Secret, Time},
    },
    service::{
        factors::{
            change::{Caller, FactorsChanged},
            totp::{self, TotpEnrolment},
        },
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// The authenticator apps of the caller's account.
pub struct TotpApi;

/// An authenticator app to set up.
#[derive(Object, Default)]
#[oai(example)]
struct StartTotpRequest {
    /// A name for the app or the device that it is on.
    #[oai(validator(max_length = 64))]
    label: Option<String>,
}

impl Example for StartTotpRequest {
    fn example() -> Self {
        Self { label: Some("Ada's phone".to_owned()) }
    }
}

/// An authenticator app that waits for its first code.
#[derive(Object)]
#[oai(example)]
pub(super) struct TotpEnrolmentResponse {
    /// The secret in base32, to be typed into the app. The codes have six digits, change every 30 seconds and use SHA-1.
    secret: String,
    /// The secret as a URI, to be opened by an app on this device.
    uri: String,
    /// The URI as a QR code, to be scanned by an app on another device: an SVG image.
    qr_code: String,
    /// Until when the first code must arrive.
    expires_at: Time,
}

impl Example for TotpEnrolmentResponse {
    fn example() -> Self {
        Self {
            // base32 of the secret of RFC 6238's examples, "12345678901234567890"
            secret: "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".to_owned(),
            uri: "otpauth://totp/Latchkey:ada@example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Latchkey"
                .to_owned(),
            qr_code: "<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_owned(),
            expires_at: Timestamp::from_millis(1_767_225_600_000).into(), // 2026-01-01T00:00:00Z
        }
    }
}

impl From<TotpEnrolment> for TotpEnrolmentResponse {
    fn from(enrolment: TotpEnrolment) -> Self {
        Self {
            secret: enrolment.secret.expose().to_owned(),
            uri: enrolment.uri.expose().to_owned(),
            qr_code: enrolment.qr_code.expose().to_owned(),
            expires_at: enrolment.expires_at.into(),
        }
    }
}

/// The first code of an authenticator app.
#[derive(Object)]
#[oai(example)]
struct ConfirmTotpRequest {
    /// The code that the app shows.
    code: Secret,
}

impl Example for ConfirmTotpRequest {
    fn example() -> Self {
        Self { code: Secret::masked() }
    }
}

/// A new name of an authenticator app.
#[derive(Object)]
#[oai(example)]
struct RenameFactorRequest {
    /// A name for the app or the device that it is on.
    #[oai(validator(min_length = 1, max_length = 64))]
    label: String,
}

impl Example for RenameFactorRequest {
    fn example() -> Self {
        Self { label: "Ada's new phone".to_owned() }
    }
}

#[derive(ApiResponse)]
enum StartedResponse {
    /// The secret, to be opened in an authenticator app. It has no effect until the app's first code has arrived.
    #[oai(status = 200)]
    Ok(Json<TotpEnrolmentResponse>),
}

#[derive(ApiResponse)]
enum RenamedResponse {
    /// The app has the new name.
    #[oai(status = 204)]
    Done,
}

/// The errors of setting up and renaming an authenticator app.
struct SetUpProblems;

impl Problems for SetUpProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        RECENT,
        COOKIE,
        [Code::InvalidCode, Code::UnknownFactor, Code::TooManyFactors, Code::TooManyRequests]
    ];
}

/// The errors of removing an authenticator app.
struct RemoveProblems;

impl Problems for RemoveProblems {
    const CODES: &'static [Code] = codes![
        RECENT,
        COOKIE,
        [Code::MalformedRequest, Code::UnknownFactor, Code::FactorRequired, Code::TooManyRequests]
    ];
}

#[OpenApi(tag = "Tag::Factors")]
impl TotpApi {
    /// Start to set up an authenticator app
    ///
    /// Returns a secret for an authenticator app. `POST /v1/me/factors/totp/confirm` with the app's first code makes it a second
    /// factor. Until then, another call replaces the secret. An account may have two apps. Needs a session that was authenticated within
    /// the last {session.recent}.
    #[oai(path = "/v1/me/factors/totp", method = "post", operation_id = "start_totp")]
    async fn start_totp(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        SignedIn(caller): SignedIn,
        Body(request): Body<StartTotpRequest>,
    ) -> Result<StartedResponse, Failed<SetUpProblems>> {
        // This call replaces no session, so the caller's session may have any transport.
        let caller = Caller { claims: &caller, origin: &origin, accepted: AcceptedTransport::Any };
        let label = request.label.map(printable);
        let enrolment = totp::start(state, &caller, label).await?;
        Ok(StartedResponse::Ok(Json(enrolment.into())))
    }

    /// Confirm an authenticator app
    ///
    /// The app becomes a second factor. If it is the account's first one of the level `aal2`, or the account has no recovery codes, the
    /// response has ten new ones, which are never shown again. All sessions of the account end, and a new one of the level `aal2` takes the
    /// place of the calling session. The owner gets a mail.
    #[oai(path = "/v1/me/factors/totp/confirm", method = "post", operation_id = "confirm_totp")]
    async fn confirm_totp(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        SignedIn(caller): SignedIn,
        Body(request): Body<ConfirmTotpRequest>,
    ) -> Result<ChangedResponse, Failed<SetUpProblems>> {
        let caller = Caller { claims: &caller, origin: &origin, accepted: cookie_refusal.accepted_transport() };
        let confirmed = totp::confirm(state, &caller, &request.code.0, client.device_token.as_ref()).await;
        let confirmed = confirmed.map_err(|error| cookie_refusal.with_reason(error))?;
        Ok(changed_response(confirmed))
    }

    /// Rename an authenticator app
    ///
    /// Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/factors/totp/:id", method = "patch", operation_id = "rename_totp")]
    async fn rename_totp(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        SignedIn(caller): SignedIn,
        /// The factor's id.
        Path(id): Path<Uuid>,
        Body(request): Body<RenameFactorRequest>,
    ) -> Result<RenamedResponse, Failed<SetUpProblems>> {
        // This call replaces no session, so the caller's session may have any transport.
        let caller = Caller { claims: &caller, origin: &origin, accepted: AcceptedTransport::Any };
        let label = printable(request.label);
        totp::rename(state, &caller, FactorId(id), &label).await?;
        Ok(RenamedResponse::Done)
    }

    /// Remove an authenticator app
    ///
    /// If the account has no other second factor, its recovery codes are removed, too. All sessions of the account end, and a new one
    /// takes the place of the calling session. If the account must have a second factor, the last one can't be removed. Needs a
    /// session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/factors/totp/:id", method = "delete", operation_id = "remove_totp")]
    async fn remove_totp(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        SignedIn(caller): SignedIn,
        /// The factor's id.
        Path(id): Path<Uuid>,
    ) -> Result<ChangedResponse, Failed<RemoveProblems>> {
        let caller = Caller { claims: &caller, origin: &origin, accepted: cookie_refusal.accepted_transport() };
        let tokens = totp::remove(state, &caller, FactorId(id)).await;
        let tokens = tokens.map_err(|error| cookie_refusal.with_reason(error))?;
        // A removal creates no recovery codes.
        Ok(changed_response(FactorsChanged { tokens, recovery_codes: Vec::new() }))
    }
}
