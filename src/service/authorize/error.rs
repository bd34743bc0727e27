//! The errors of authorization requests: a response for the client, or a message for the user.

use crate::{
    domain::authorization::{AuthorizationRequest, AuthorizationResponse, ResponseMode},
    service::error::{ServiceError, from_store_errors},
    state::AppState,
};

/// An error that an authorization response reports to the client (RFC 6749, section 4.1.2.1; OpenID Connect Core 1.0, section 3.1.2.6; RFC 8707, section 2; RFC 9470,
/// section 5; OpenID Connect Core Error Code unmet_authentication_requirements 1.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationError {
    /// A parameter is missing, repeated or malformed.
    InvalidRequest(&'static str),
    /// The client may not use this grant.
    UnauthorizedClient,
    /// The user has refused.
    AccessDenied,
    /// The `response_type` is not `code`.
    UnsupportedResponseType,
    /// The client has none of the requested scopes, or they exceed what a session can store.
    InvalidScope,
    /// A resource is malformed, or not among the client's audiences.
    InvalidTarget,
    /// `prompt=none`, and the user would have to authenticate.
    LoginRequired,
    /// `prompt=none`, and the user would have to choose an account.
    AccountSelectionRequired,
    /// `prompt=none`, and the user would have to consent.
    ConsentRequired,
    /// The user can't authenticate at the requested level.
    UnmetAuthenticationRequirements,
    /// Request objects (`request`) are not supported.
    RequestNotSupported,
    /// Request objects by reference (`request_uri`) are not supported.
    RequestUriNotSupported,
    /// Registration by the parameter `registration` is not supported.
    RegistrationNotSupported,
}

impl AuthorizationError {
    /// The value of the response parameter `error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::AccessDenied => "access_denied",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::LoginRequired => "login_required",
            Self::AccountSelectionRequired => "account_selection_required",
            Self::ConsentRequired => "consent_required",
            Self::UnmetAuthenticationRequirements => "unmet_authentication_requirements",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
            Self::RegistrationNotSupported => "registration_not_supported",
        }
    }

    /// The value of the response parameter `error_description`.
    pub const fn description(self) -> &'static str {
        match self {
            Self::InvalidRequest(description) => description,
            Self::UnauthorizedClient => "The client may not use the authorization_code grant.",
            Self::AccessDenied => "The user has refused.",
            Self::UnsupportedResponseType => "The only supported response_type is code.",
            Self::InvalidScope => "The client may not have any of these scopes, or there are too many.",
            Self::InvalidTarget => "A resource is not an absolute URI, or not among the client's audiences.",
            Self::LoginRequired => "The user has to authenticate.",
            Self::AccountSelectionRequired => "The user has to choose an account.",
            Self::ConsentRequired => "The user has to consent.",
            Self::UnmetAuthenticationRequirements => "The user can't authenticate at the requested level.",
            Self::RequestNotSupported => "The parameter request is not supported.",
            Self::RequestUriNotSupported => "The parameter request_uri is not supported.",
            Self::RegistrationNotSupported => "The parameter registration is not supported.",
        }
    }

    /// The error response for the client of a request.
    pub fn response(self, state: &AppState, request: &AuthorizationRequest) -> AuthorizationResponse {
        self.response_to_uri(state, &request.redirect_uri, request.response_mode, request.state.clone())
    }

    /// The error response for a trusted redirect URI, with the issuer (RFC 9207). `client_state` is the request's parameter `state`.
    pub(super) fn response_to_uri(
        self,
        state: &AppState,
        redirect_uri: &str,
        mode: ResponseMode,
        client_state: Option<String>,
    ) -> AuthorizationResponse {
        let mut parameters =
            vec![("error", self.as_str().to_owned()), ("error_description", self.description().to_owned())];
        parameters.extend(client_state.map(|text| ("state", text)));
        parameters.push(("iss", state.config.issuer.clone()));
        AuthorizationResponse { redirect_uri: redirect_uri.to_owned(), mode, parameters }
    }
}

/// Why a request gets no redirect to its client: a page shows the error to the user (RFC 6749, section 4.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UntrustedRequest {
    /// `client_id` is missing or repeated, or names no enabled client.
    #[error("the request names no client of this service")]
    UnknownClient,
    /// The metadata document of the client can't be used. Contains the reason, such as `it can't be fetched`.
    #[error("the description of the app can't be used: {0}")]
    ClientDocument(&'static str),
    /// `redirect_uri` is missing or repeated, or is not registered for the client.
    #[error("the address to return to is not registered for the client")]
    RedirectUri,
    /// The handle of a stored request is unknown, was used, or has expired.
    #[error("the request has expired or was answered already")]
    Expired,
}

impl UntrustedRequest {
    /// The code of the error's text on the page.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownClient => "unknown_client",
            Self::ClientDocument(_) => "client_document",
            Self::RedirectUri => "unregistered_redirect_uri",
            Self::Expired => "request_expired",
        }
    }
}

/// Why an authorization request failed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// The client or its redirect URI can't be trusted: a page shows the error to the user.
    #[error(transparent)]
    Untrusted(#[from] UntrustedRequest),
    /// The account has allowed the maximum number of clients that no operator has registered (`dynamic_clients.max_per_account`).
    #[error("the account has allowed too many apps that are not registered")]
    TooManyApps,
    /// The request is refused with an error response for the client.
    #[error("the request is refused with an error response for the client")]
    Refused(Box<AuthorizationResponse>),
    /// The request is refused with an error response for a dynamic client that the browser's user has not allowed. A page shows the error,
    /// with a link to the client (RFC 9700, section 4.11.2).
    #[error("the request is refused with an error response for a client that the user has not allowed")]
    Unconfirmed(Box<AuthorizationResponse>),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(AuthorizeError: crate::store::redis::RedisError, crate::store::sql::SqlError,
    crate::state::error::StateError);
