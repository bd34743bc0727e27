//! `POST /v1/login/passkey/options`, `POST /v1/login/passkey`, `GET /.well-known/webauthn`: sign-in with a passkey alone.

use std::{sync::Arc, time::Duration};

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json, types::Example};
use serde_json::json;

use super::{
    Tag,
    login::{SignedInResponse, TransportName, printable},
    passkey_objects::{OptionsResponse, credential_example},
    passkeys::invalid_passkey,
};
use crate::{
    domain::session::Transport,
    http::{
        extract::{auth::ReplacedCookie, client_info::ClientInfo, cookie_refusal::CookieRefusal, json::Body},
        problem::{
            Code, Failed, ProblemError, Problems,
            groups::{COOKIE, JSON_BODY, codes},
        },
        types::JsonObject,
    },
    service::{
        passkeys::{
            related_origins,
            sign_in::{self, PasskeySignIn},
            verify::{self, PasskeyTask},
        },
        sign_in::SignInStep,
    },
    state::AppState,
};

/// How long browsers may cache the related origins.
const ORIGINS_MAX_AGE: Duration = Duration::from_hours(1);

/// Sign-in with a passkey, and the origins whose pages can use passkeys.
pub struct PasskeyLoginApi;

/// A sign-in with a passkey.
#[derive(Object)]
#[oai(example)]
struct PasskeyLoginRequest {
    /// The `PublicKeyCredential` of `navigator.credentials.get`, in its JSON form (`toJSON`).
    credential: JsonObject,
    /// How the refresh token is delivered. Default: `bearer`.
    transport: Option<TransportName>,
    /// A name for the device, shown in the list of sessions.
    #[oai(validator(max_length = 64))]
    device: Option<String>,
}

impl Example for PasskeyLoginRequest {
    fn example() -> Self {
        let response = json!({
            "clientDataJSON": "eyJ0eXBlIjoid2ViYXV0aG4uZ2V0Iiwi…",
            "authenticatorData": "SZYN5YgOjGh0NBcPZHZgW4_krrmihjLHmVzzuoMdl2M…",
            "signature": "MEUCIQDmG9wLk…",
            "userHandle": "AZt6YywAex6MVQ1vOhueIQ",
        });
        Self {
            credential: credential_example(&response),
            transport: Some(TransportName::Bearer),
            device: Some("Ada's laptop".to_owned()),
        }
    }
}

/// The origins of pages that can use the passkeys of this relying party (WebAuthn, section 5.11).
#[derive(Object)]
#[oai(example)]
struct RelatedOriginsResponse {
    /// The origins.
    origins: Vec<String>,
}

impl Example for RelatedOriginsResponse {
    fn example() -> Self {
        Self { origins: vec!["https://auth.example.com".to_owned(), "https://app.example.org".to_owned()] }
    }
}

#[derive(ApiResponse)]
enum OriginsResponse {
    /// The origins.
    #[oai(status = 200)]
    Ok(
        Json<RelatedOriginsResponse>,
        /// How long the list may be cached.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

/// The errors of beginning a sign-in.
struct LoginOptionsProblems;

impl Problems for LoginOptionsProblems {
    const CODES: &'static [Code] = &[Code::LoginMethodOff, Code::TooManyRequests];
}

/// The errors of a sign-in with a passkey.
struct LoginProblems;

impl Problems for LoginProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        COOKIE,
        [
            Code::InvalidPasskey,
            Code::EmailNotVerified,
            Code::SecondFactorRequired,
            Code::FactorEnrolmentRequired,
            Code::LoginMethodOff,
            Code::TooManyRequests
        ]
    ];
}

/// The errors of reading the origins.
struct OriginsProblems;

impl Problems for OriginsProblems {
    const CODES: &'static [Code] = &[Code::NotFound];
}

#[OpenApi]
impl PasskeyLoginApi {
    /// Begin a sign-in with a passkey
    ///
    /// Options for `navigator.credentials.get`, also with `mediation: "conditional"`. They name no account, so they reveal
    /// nothing about accounts. Their challenge works once, within {passkeys.timeout}.
    #[oai(
        path = "/v1/login/passkey/options",
        method = "post",
        operation_id = "passkey_login_options",
        tag = "Tag::SignIn"
    )]
    async fn login_options(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
    ) -> Result<OptionsResponse, Failed<LoginOptionsProblems>> {
        let options = verify::options(state, PasskeyTask::SignIn, client.ip).await?;
        Ok(OptionsResponse::Ok(Json(options.into())))
    }

    /// Sign in with a passkey
    ///
    /// Starts a session for the account of the passkey. If the authenticator has verified its user, by a PIN or biometrics, `acr`
    /// is `aal2`. Without this verification, `acr` is `aal1` if `passkeys.user_verification` is `preferred`, and otherwise the sign-in is
    /// refused.
    #[oai(path = "/v1/login/passkey", method = "post", operation_id = "passkey_login", tag = "Tag::SignIn")]
    async fn login(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        cookie_refusal: CookieRefusal,
        ReplacedCookie(replaced): ReplacedCookie,
        Body(request): Body<PasskeyLoginRequest>,
    ) -> Result<SignedInResponse, Failed<LoginProblems>> {
        let transport = request.transport.map_or(Transport::Bearer, Transport::from);
        cookie_refusal.check(transport)?;
        let device_name = request.device.map(printable);
        let input = PasskeySignIn {
            credential: request.credential.0,
            transport,
            device: client.device_token.clone(),
            origin: client.into_session_origin_with_device(device_name),
            // the browser keeps its cookie, and so its session, unless this sign-in sets another
            replaces: replaced.filter(|_| transport == Transport::Cookie),
        };
        let step = sign_in::sign_in(state, &input).await?;
        respond(state, step)
    }

    /// Get the related origins
    ///
    /// The origins whose pages can use the passkeys of this service (WebAuthn, section 5.11). Browsers read this document.
    #[oai(path = "/.well-known/webauthn", method = "get", operation_id = "related_origins", tag = "Tag::Services")]
    async fn related_origins(
        &self,
        Data(state): Data<&Arc<AppState>>,
    ) -> Result<OriginsResponse, Failed<OriginsProblems>> {
        let origins = related_origins(state).ok_or_else(|| Failed::new(Code::NotFound, "Passkeys are off."))?;
        let cache_control = format!("public, max-age={}", ORIGINS_MAX_AGE.as_secs());
        Ok(OriginsResponse::Ok(Json(RelatedOriginsResponse { origins }), cache_control))
    }
}

/// Issues the tokens if the sign-in is complete, and otherwise returns the problem that names the missing step.
fn respond(state: &AppState, step: SignInStep) -> Result<SignedInResponse, Failed<LoginProblems>> {
    match step {
        SignInStep::SignedIn(signed_in) => {
            let tokens = signed_in.issue_tokens(state)?;
            Ok(SignedInResponse::new(tokens, Some(signed_in.device)))
        }
        // With `registration.conceal`, no response reveals that an unverified account exists.
        SignInStep::EmailVerificationRequired if state.config.registration.conceal => Err(invalid_passkey().into()),
        SignInStep::EmailVerificationRequired => {
            let detail = "Verify the e-mail address first. POST /v1/email/verification sends the mail again.";
            Err(Failed::new(Code::EmailNotVerified, detail))
        }
        SignInStep::SecondFactorRequired(challenge) => Err(ProblemError::second_factor_required(*challenge).into()),
        SignInStep::EnrolmentRequired(challenge) => Err(ProblemError::enrolment_required(*challenge).into()),
        // Unreachable: only a sign-in by mail requires a password, and `sign_in` converts `AccountChanged` to an error.
        SignInStep::PasswordRequired | SignInStep::AccountChanged => Err(invalid_passkey().into()),
    }
}
