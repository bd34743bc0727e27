//! `GET /v1/me/factors`, `/v1/me/factors/totp`, `/v1/me/factors/email-code`, `POST /v1/me/recovery-codes`, `POST /v1/users/factors/reset`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, param::Path, payload::Json, types::Example};
use serde::Serialize;
use uuid::Uuid;

use super::{
    Tag,
    invitation::find_account,
    login::{TokensResponse, printable},
};
use crate::{
    domain::{clock::Timestamp, factor::FactorKind, ids::FactorId, secret::SecretText, session::Accepted},
    http::{
        extract::{
            auth::{AdminOrClient, CookieCheck, CsrfCheck, SignedIn},
            client_info::{ClientInfo, MailOrigin},
            json::Body,
        },
        problem::{Code, Failed, ProblemError, Problems},
        raw_json::RawJson,
        types::{Secret, Time},
    },
    service::{
        authenticate::AuthenticateError,
        factors::{
            self, FactorList,
            change::{Caller, ChangeFactorsError},
            email_code, recovery_codes, reset,
            totp::{self, Confirmed, TotpEnrolment},
        },
        token_issuer::Tokens,
    },
    state::AppState,
};

/// The second factors of the caller's account.
pub struct FactorsApi;

/// A kind of second factor.
#[derive(Enum, Clone, Copy, Debug)]
#[oai(rename = "FactorKind", rename_all = "snake_case")]
enum FactorKindName {
    /// An authenticator app.
    Totp,
    /// A passkey.
    Passkey,
}

/// A second factor.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct FactorResponse {
    /// The id.
    id: Uuid,
    /// The kind.
    kind: FactorKindName,
    /// The name that the owner gave it.
    label: String,
    /// When it was set up.
    created_at: Time,
    /// When it was last used.
    last_used_at: Option<Time>,
}

/// The second factors of an account.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct FactorsResponse {
    /// Authenticator apps and passkeys, oldest first.
    factors: Vec<FactorResponse>,
    /// How many recovery codes are left.
    recovery_codes_left: u32,
    /// Whether codes by mail are on. Absent if they are off for all accounts (`factors.email_code`).
    email_code: Option<bool>,
}

impl From<FactorList> for FactorsResponse {
    fn from(list: FactorList) -> Self {
        let factors = list.factors.into_iter().map(|factor| FactorResponse {
            id: factor.id.0,
            kind: if factor.kind == FactorKind::Passkey { FactorKindName::Passkey } else { FactorKindName::Totp },
            label: factor.label,
            created_at: factor.created_at.into(),
            last_used_at: factor.last_used_at.map(Time::from),
        });
        let (recovery_codes_left, email_code) = (list.recovery_codes, list.email_code);
        Self { factors: factors.collect(), recovery_codes_left, email_code }
    }
}

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
    /// The secret in base32, to be typed into the app: SHA-1, six digits, 30 seconds.
    secret: String,
    /// The secret as a URI, to be opened by an app on this device.
    uri: String,
    /// The URI as a QR code, to be scanned by an app on another device: an SVG image.
    qr_code: String,
    /// When the first code must have arrived.
    expires_at: Time,
}

impl Example for TotpEnrolmentResponse {
    fn example() -> Self {
        Self {
            secret: "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".to_owned(),
            uri: "otpauth://totp/Latchkey:ada@example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Latchkey"
                .to_owned(),
            qr_code: "<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_owned(),
            expires_at: Timestamp::from_millis(1_767_225_600_000).into(),
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
        Self { code: Secret("".into()) }
    }
}

/// A new name.
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

/// The account whose factors are removed.
#[derive(Object)]
#[oai(example)]
struct ResetFactorsRequest {
    /// The account's id, e-mail address or username.
    #[oai(validator(min_length = 1, max_length = 320))]
    account: String,
}

impl Example for ResetFactorsRequest {
    fn example() -> Self {
        Self { account: "grace@example.com".to_owned() }
    }
}

/// The tokens of the session that takes the place of the caller's session, and new recovery codes.
#[derive(Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct FactorTokensResponse {
    #[oai(flatten)]
    #[serde(flatten)]
    tokens: TokensResponse,
    /// Ten recovery codes, if new ones were made: each replaces a second factor once. They are never shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_codes: Option<Vec<String>>,
}

impl FactorTokensResponse {
    /// The body, and the cookie with the refresh token of a cookie session.
    pub(super) fn with_cookie(tokens: Tokens, codes: Vec<SecretText>) -> (RawJson<Self>, Option<String>) {
        let (tokens, cookie) = TokensResponse::split(tokens);
        let codes: Vec<String> = codes.iter().map(|code| code.expose().to_owned()).collect();
        let recovery_codes = Some(codes).filter(|codes| !codes.is_empty());
        (RawJson::of(&Self { tokens, recovery_codes }), cookie)
    }
}

#[derive(ApiResponse)]
enum ListedResponse {
    /// The factors.
    #[oai(status = 200)]
    Ok(Json<FactorsResponse>),
}

#[derive(ApiResponse)]
enum StartedResponse {
    /// The secret, to be opened in an authenticator app. It has no effect until the app's first code has arrived.
    #[oai(status = 200)]
    Ok(Json<TotpEnrolmentResponse>),
}

#[derive(ApiResponse)]
enum ChangedResponse {
    /// The factors are changed. All sessions have ended. The tokens are those of a new session, which takes the place of the
    /// caller's session.
    #[oai(status = 200)]
    Ok(
        RawJson<FactorTokensResponse>,
        /// The new refresh cookie, for a cookie session.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
enum DoneResponse {
    /// Done.
    #[oai(status = 204)]
    Done,
}

/// The errors of listing factors.
struct ListProblems;

impl Problems for ListProblems {
    const CODES: &'static [Code] = &[Code::AuthenticationRequired, Code::InvalidToken, Code::ClaimsChanged];
}

/// The errors of changing factors.
struct ChangeProblems;

impl Problems for ChangeProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::AuthenticationRequired,
        Code::InvalidToken,
        Code::ClaimsChanged,
        Code::InsufficientUserAuthentication,
        Code::InvalidCode,
        Code::CrossSiteRequest,
        Code::CookieCrossSite,
        Code::UnknownFactor,
        Code::TooManyFactors,
        Code::FactorRequired,
        Code::NoSecondFactor,
        Code::EmailNotVerified,
        Code::PasswordRequired,
        Code::LoginMethodOff,
        Code::UnsupportedMediaType,
        Code::InvalidFields,
        Code::TooManyRequests,
    ];
}

impl From<ChangeFactorsError> for Failed<ChangeProblems> {
    fn from(error: ChangeFactorsError) -> Self {
        match error {
            ChangeFactorsError::NoAccount | ChangeFactorsError::SessionEnded => {
                ProblemError::from(AuthenticateError::InvalidToken).into()
            }
            ChangeFactorsError::CookieNotAccepted => {
                Self::new(Code::CrossSiteRequest, "A page of another site must not replace the cookie of the session.")
            }
            ChangeFactorsError::UnknownFactor => Self::new(Code::UnknownFactor, "The account has no such factor."),
            ChangeFactorsError::TooMany => {
                let detail = format!("An account may have {} authenticator apps. Remove one first.", totp::MAX);
                Self::new(Code::TooManyFactors, detail)
            }
            ChangeFactorsError::WrongCode => {
                let detail = "The code is wrong, or the authenticator app was not started. Check the device's clock.";
                Self::new(Code::InvalidCode, detail)
            }
            ChangeFactorsError::MustKeep => {
                Self::new(Code::FactorRequired, "The account must have a second factor. Add another one first.")
            }
            ChangeFactorsError::NoFactor => {
                Self::new(Code::NoSecondFactor, "Recovery codes replace a second factor, and the account has none.")
            }
            ChangeFactorsError::EmailCodeOff => {
                Self::new(Code::LoginMethodOff, "Codes by mail are off (factors.email_code).")
            }
            ChangeFactorsError::EmailCodeOn => Self::new(Code::TooManyFactors, "Codes by mail are on already."),
            ChangeFactorsError::EmailNotVerified => {
                Self::new(Code::EmailNotVerified, "Verify the e-mail address first: POST /v1/email/verification.")
            }
            ChangeFactorsError::NoPassword => {
                Self::new(Code::PasswordRequired, "The account has no password that a code by mail could add to.")
            }
            ChangeFactorsError::Service(error) => error.into(),
        }
    }
}

/// The errors of a reset.
struct ResetProblems;

impl Problems for ResetProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::AuthenticationRequired,
        Code::InvalidToken,
        Code::ClaimsChanged,
        Code::InsufficientUserAuthentication,
        Code::InvalidClient,
        Code::Forbidden,
        Code::UnknownAccount,
        Code::UnsupportedMediaType,
        Code::InvalidFields,
        Code::TooManyRequests,
    ];
}

/// Runs a change that may set the cookie of a cookie session.
async fn changing<T>(
    refused: Option<ProblemError>,
    change: impl AsyncFnOnce(Accepted) -> Result<T, ChangeFactorsError>,
) -> Result<T, Failed<ChangeProblems>> {
    let accepted = if refused.is_some() { Accepted::Bearer } else { Accepted::Any };
    match (change(accepted).await, refused) {
        (Err(ChangeFactorsError::CookieNotAccepted), Some(refused)) => Err(refused.into()),
        (outcome, _) => Ok(outcome?),
    }
}

fn changed(confirmed: Confirmed) -> ChangedResponse {
    let (body, cookie) = FactorTokensResponse::with_cookie(confirmed.tokens, confirmed.recovery_codes);
    ChangedResponse::Ok(body, cookie)
}

#[OpenApi(tag = "Tag::Factors")]
impl FactorsApi {
    /// List the second factors
    ///
    /// The account's authenticator apps and passkeys, and the number of recovery codes that are left.
    #[oai(path = "/v1/me/factors", method = "get", operation_id = "list_factors")]
    async fn list(
        &self,
        Data(state): Data<&Arc<AppState>>,
        SignedIn(caller): SignedIn,
    ) -> Result<ListedResponse, Failed<ListProblems>> {
        Ok(ListedResponse::Ok(Json(factors::list(state, caller.sub).await?.into())))
    }

    /// Start to set up an authenticator app
    ///
    /// Returns a secret for an authenticator app. `POST /v1/me/factors/totp/confirm` with the app's first code makes it a second
    /// factor; a further start replaces the secret. An account may have two. Needs a session that was authenticated within the last
    /// {session.recent}.
    #[oai(path = "/v1/me/factors/totp", method = "post", operation_id = "start_totp")]
    async fn start_totp(
        &self,
        Data(state): Data<&Arc<AppState>>,
        MailOrigin(origin): MailOrigin,
        SignedIn(caller): SignedIn,
        Body(request): Body<StartTotpRequest>,
    ) -> Result<StartedResponse, Failed<ChangeProblems>> {
        let caller = Caller { claims: &caller, origin: &origin, accepted: Accepted::Any };
        let enrolment = totp::start(state, &caller, request.label.map(printable)).await?;
        Ok(StartedResponse::Ok(Json(enrolment.into())))
    }

    /// Confirm an authenticator app
    ///
    /// The app becomes a second factor. With the first one, the response has ten recovery codes, which are never shown again. All
    /// sessions of the account end, and a new one of the level `aal2` takes the place of the calling session. The owner gets a
    /// mail.
    #[oai(path = "/v1/me/factors/totp/confirm", method = "post", operation_id = "confirm_totp")]
    #[expect(clippy::too_many_arguments, reason = "each is read from the request by its type")]
    async fn confirm_totp(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        MailOrigin(origin): MailOrigin,
        CsrfCheck(cross_site): CsrfCheck,
        CookieCheck(unusable): CookieCheck,
        SignedIn(caller): SignedIn,
        Body(request): Body<ConfirmTotpRequest>,
    ) -> Result<ChangedResponse, Failed<ChangeProblems>> {
        let confirmed = changing(cross_site.or(unusable), async |accepted| {
            let caller = Caller { claims: &caller, origin: &origin, accepted };
            totp::confirm(state, &caller, &request.code.0, client.device_token.as_ref()).await
        });
        Ok(changed(confirmed.await?))
    }

    /// Rename an authenticator app
    ///
    /// Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/factors/totp/:id", method = "patch", operation_id = "rename_totp")]
    async fn rename_totp(
        &self,
        Data(state): Data<&Arc<AppState>>,
        MailOrigin(origin): MailOrigin,
        SignedIn(caller): SignedIn,
        /// The factor's id.
        Path(id): Path<Uuid>,
        Body(request): Body<RenameFactorRequest>,
    ) -> Result<DoneResponse, Failed<ChangeProblems>> {
        let caller = Caller { claims: &caller, origin: &origin, accepted: Accepted::Any };
        totp::rename(state, &caller, FactorId(id), &printable(request.label)).await?;
        Ok(DoneResponse::Done)
    }

    /// Remove an authenticator app
    ///
    /// With the last second factor the recovery codes go too. All sessions of the account end, and a new one takes the place of the
    /// calling session. The last factor of an account that must have one can't be removed. Needs a session that was authenticated
    /// within the last {session.recent}.
    #[oai(path = "/v1/me/factors/totp/:id", method = "delete", operation_id = "remove_totp")]
    async fn remove_totp(
        &self,
        Data(state): Data<&Arc<AppState>>,
        MailOrigin(origin): MailOrigin,
        CsrfCheck(cross_site): CsrfCheck,
        CookieCheck(unusable): CookieCheck,
        SignedIn(caller): SignedIn,
        /// The factor's id.
        Path(id): Path<Uuid>,
    ) -> Result<ChangedResponse, Failed<ChangeProblems>> {
        let tokens = changing(cross_site.or(unusable), async |accepted| {
            let caller = Caller { claims: &caller, origin: &origin, accepted };
            totp::remove(state, &caller, FactorId(id)).await
        });
        Ok(changed(Confirmed { tokens: tokens.await?, recovery_codes: Vec::new() }))
    }

    /// Switch codes by mail on
    ///
    /// A sign-in with the password asks for a code from a mail to the account's verified address from now on, unless the account has
    /// another second factor. With the first factor, the response has ten recovery codes, which are never shown again. All other
    /// sessions of the account end. Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/factors/email-code", method = "post", operation_id = "enable_email_code")]
    async fn enable_email_code(
        &self,
        Data(state): Data<&Arc<AppState>>,
        MailOrigin(origin): MailOrigin,
        CsrfCheck(cross_site): CsrfCheck,
        CookieCheck(unusable): CookieCheck,
        SignedIn(caller): SignedIn,
    ) -> Result<ChangedResponse, Failed<ChangeProblems>> {
        let confirmed = changing(cross_site.or(unusable), async |accepted| {
            let caller = Caller { claims: &caller, origin: &origin, accepted };
            email_code::enable(state, &caller).await
        });
        Ok(changed(confirmed.await?))
    }

    /// Switch codes by mail off
    ///
    /// With the last second factor the recovery codes go too. All other sessions of the account end. Needs a session that was
    /// authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/factors/email-code", method = "delete", operation_id = "disable_email_code")]
    async fn disable_email_code(
        &self,
        Data(state): Data<&Arc<AppState>>,
        MailOrigin(origin): MailOrigin,
        CsrfCheck(cross_site): CsrfCheck,
        CookieCheck(unusable): CookieCheck,
        SignedIn(caller): SignedIn,
    ) -> Result<ChangedResponse, Failed<ChangeProblems>> {
        let tokens = changing(cross_site.or(unusable), async |accepted| {
            let caller = Caller { claims: &caller, origin: &origin, accepted };
            email_code::disable(state, &caller).await
        });
        Ok(changed(Confirmed { tokens: tokens.await?, recovery_codes: Vec::new() }))
    }

    /// Make new recovery codes
    ///
    /// Ten codes, each of which replaces a second factor once. They are never shown again, and the former codes stop working. All
    /// sessions of the account end, and a new one takes the place of the calling session. Needs a session that was authenticated
    /// within the last {session.recent}.
    #[oai(path = "/v1/me/recovery-codes", method = "post", operation_id = "make_recovery_codes")]
    async fn make_recovery_codes(
        &self,
        Data(state): Data<&Arc<AppState>>,
        MailOrigin(origin): MailOrigin,
        CsrfCheck(cross_site): CsrfCheck,
        CookieCheck(unusable): CookieCheck,
        SignedIn(caller): SignedIn,
    ) -> Result<ChangedResponse, Failed<ChangeProblems>> {
        let confirmed = changing(cross_site.or(unusable), async |accepted| {
            let caller = Caller { claims: &caller, origin: &origin, accepted };
            recovery_codes::renew(state, &caller).await
        });
        Ok(changed(confirmed.await?))
    }

    /// Remove all second factors of an account
    ///
    /// Admins and service clients with the scope `accounts:recover` help an owner who has lost all factors and recovery codes.
    /// First verify that the owner asks for it. Ends all sessions of the account, and sends its owner a mail. An account that
    /// must have a second factor sets one up at its next sign-in.
    #[oai(path = "/v1/users/factors/reset", method = "post", operation_id = "reset_factors")]
    async fn reset(
        &self,
        Data(state): Data<&Arc<AppState>>,
        MailOrigin(origin): MailOrigin,
        AdminOrClient(caller): AdminOrClient,
        Body(request): Body<ResetFactorsRequest>,
    ) -> Result<DoneResponse, Failed<ResetProblems>> {
        let (initiator, _) = super::invitation::authorise(state, &caller, None).await?;
        let account = find_account(state, &request.account).await?;
        let unknown = || Failed::new(Code::UnknownAccount, "There is no such account.");
        let account = account.ok_or_else(unknown)?;
        if !reset::reset(state, &account, &initiator, &origin).await? {
            return Err(unknown());
        }
        Ok(DoneResponse::Done)
    }
}
