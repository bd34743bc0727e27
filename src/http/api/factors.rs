//! `GET /v1/me/factors`, `/v1/me/factors/email-code`, `POST /v1/me/recovery-codes`: the second factors of the caller's account.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, payload::Json};
use serde::Serialize;
use uuid::Uuid;

use super::{Tag, login::TokensResponse};
use crate::{
    domain::{factor::FactorKind, secret::SecretText},
    http::{
        extract::{auth::SignedIn, cookie_refusal::CookieRefusal},
        problem::{
            Code, Failed, ProblemError, Problems,
            groups::{COOKIE, RECENT, SIGNED_IN, codes},
        },
        raw_json::RawJson,
        types::Time,
    },
    service::{
        authenticate::AuthenticateError,
        factors::{
            self, FactorList,
            change::{Caller, ChangeFactorsError, FactorsChanged},
            email_code, recovery_codes, totp,
        },
        request_origin::RequestOrigin,
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
    /// The name that the owner gave to the factor.
    label: String,
    /// When the factor was set up.
    created_at: Time,
    /// When the factor was last used.
    last_used_at: Option<Time>,
}

/// The second factors of an account.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct FactorsResponse {
    /// Authenticator apps and passkeys, oldest first.
    factors: Vec<FactorResponse>,
    /// The number of recovery codes that are left.
    recovery_codes_left: u32,
    /// Whether codes by mail are on. Absent if they are off for all accounts (`factors.email_code`).
    email_code: Option<bool>,
}

impl From<FactorList> for FactorsResponse {
    fn from(list: FactorList) -> Self {
        // the list has no other kinds than authenticator apps and passkeys
        let factors = list.factors.into_iter().map(|factor| FactorResponse {
            id: factor.id.0,
            kind: if factor.kind == FactorKind::Passkey { FactorKindName::Passkey } else { FactorKindName::Totp },
            label: factor.label,
            created_at: factor.created_at.into(),
            last_used_at: factor.last_used_at.map(Time::from),
        });
        Self { factors: factors.collect(), recovery_codes_left: list.recovery_codes, email_code: list.email_code }
    }
}

/// The tokens of a new session, and new recovery codes.
#[derive(Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct FactorTokensResponse {
    #[oai(flatten)]
    #[serde(flatten)]
    tokens: TokensResponse,
    /// Ten recovery codes, each of which replaces a second factor once. Absent if no new ones were made. They are never shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_codes: Option<Vec<String>>,
}

impl FactorTokensResponse {
    /// The body, and the `Set-Cookie` header with the refresh token of a cookie session.
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
pub(super) enum ChangedResponse {
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

/// The errors of listing factors.
struct ListProblems;

impl Problems for ListProblems {
    const CODES: &'static [Code] = SIGNED_IN;
}

/// The errors of changing codes by mail and recovery codes.
struct ChangeProblems;

impl Problems for ChangeProblems {
    const CODES: &'static [Code] = codes![
        RECENT,
        COOKIE,
        [
            Code::UnknownFactor,
            Code::TooManyFactors,
            Code::NoSecondFactor,
            Code::EmailNotVerified,
            Code::PasswordRequired,
            Code::LoginMethodOff,
            Code::TooManyRequests
        ]
    ];
}

impl From<ChangeFactorsError> for ProblemError {
    fn from(error: ChangeFactorsError) -> Self {
        match error {
            ChangeFactorsError::NoAccount | ChangeFactorsError::SessionEnded => AuthenticateError::InvalidToken.into(),
            ChangeFactorsError::CookieNotAccepted => ProblemError::cookie_not_accepted(),
            ChangeFactorsError::UnknownFactor => Self::new(Code::UnknownFactor, "The account has no such factor."),
            ChangeFactorsError::TooMany => {
                let detail = format!("An account may have {} authenticator apps. Remove one first.", totp::MAX_APPS);
                Self::new(Code::TooManyFactors, detail)
            }
            ChangeFactorsError::WrongCode => {
                let detail = "The code is wrong, or no authenticator app is being set up. Check the device's clock.";
                Self::new(Code::InvalidCode, detail)
            }
            ChangeFactorsError::FactorRequired => {
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
            ChangeFactorsError::NoPassword => Self::new(
                Code::PasswordRequired,
                "The account has no password. A code by mail is only asked for after a password.",
            ),
            ChangeFactorsError::Service(error) => error.into(),
        }
    }
}

pub(super) fn changed_response(change: FactorsChanged) -> ChangedResponse {
    let (body, cookie) = FactorTokensResponse::with_cookie(change.tokens, change.recovery_codes);
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

    /// Switch codes by mail on
    ///
    /// From now on, a sign-in with the password asks for a code from a mail to the account's verified address, unless the account has
    /// another second factor. If the account has no recovery codes, the response has ten, which are never shown again. All other sessions
    /// of the account end, and a new one takes the place of the calling session. Needs a session that was authenticated within the last
    /// {session.recent}.
    #[oai(path = "/v1/me/factors/email-code", method = "post", operation_id = "enable_email_code")]
    async fn enable_email_code(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        SignedIn(caller): SignedIn,
    ) -> Result<ChangedResponse, Failed<ChangeProblems>> {
        let caller = Caller { claims: &caller, origin: &origin, accepted: cookie_refusal.accepted_transport() };
        let change = email_code::enable(state, &caller).await.map_err(|error| cookie_refusal.with_reason(error))?;
        Ok(changed_response(change))
    }

    /// Switch codes by mail off
    ///
    /// If the account has no other second factor, its recovery codes are removed, too. All other sessions of the account end, and a
    /// new one takes the place of the calling session. Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/factors/email-code", method = "delete", operation_id = "disable_email_code")]
    async fn disable_email_code(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        SignedIn(caller): SignedIn,
    ) -> Result<ChangedResponse, Failed<ChangeProblems>> {
        let caller = Caller { claims: &caller, origin: &origin, accepted: cookie_refusal.accepted_transport() };
        let tokens = email_code::disable(state, &caller).await.map_err(|error| cookie_refusal.with_reason(error))?;
        Ok(changed_response(FactorsChanged { tokens, recovery_codes: Vec::new() }))
    }

    /// Make new recovery codes
    ///
    /// The response has ten codes, each of which replaces a second factor once. They are never shown again, and the former codes stop
    /// working. All other sessions of the account end, and a new one takes the place of the calling session. Needs a session that was
    /// authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/recovery-codes", method = "post", operation_id = "make_recovery_codes")]
    async fn make_recovery_codes(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        SignedIn(caller): SignedIn,
    ) -> Result<ChangedResponse, Failed<ChangeProblems>> {
        let caller = Caller { claims: &caller, origin: &origin, accepted: cookie_refusal.accepted_transport() };
        let change = recovery_codes::renew(state, &caller).await.map_err(|error| cookie_refusal.with_reason(error))?;
        Ok(changed_response(change))
    }
}
