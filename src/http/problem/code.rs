//! The stable codes of errors: [`Code`] for the problem, [`FieldError`](super::FieldError) codes for its fields.

use poem::http::StatusCode;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $status:ident, $title:literal;)*) => {
        /// Every kind of problem. The codes are stable: programs may compare them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[doc = $doc])* $name,)* }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// A short summary of the kind of problem.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The request is not valid HTTP or JSON.
    MalformedRequest = "malformed_request", BAD_REQUEST, "The request is malformed";
    /// The call needs credentials, and none were sent.
    AuthenticationRequired = "authentication_required", UNAUTHORIZED, "Authentication is required";
    /// The identifier or the password is wrong.
    InvalidCredentials = "invalid_credentials", UNAUTHORIZED, "The identifier or the password is wrong";
    /// The access token is not valid, or its session has ended (RFC 6750, section 3.1).
    InvalidToken = "invalid_token", UNAUTHORIZED, "The access token is not valid";
    /// The call is for service clients, and no valid client credentials were sent (RFC 6749, section 5.2).
    InvalidClient = "invalid_client", UNAUTHORIZED, "The service client could not be authenticated";
    /// The refresh token is not valid, or its session was revoked.
    InvalidRefreshToken = "invalid_refresh_token", UNAUTHORIZED, "The refresh token is not valid";
    /// The refresh token was superseded too long ago; its session has been revoked.
    RefreshTokenReused = "refresh_token_reused", UNAUTHORIZED, "The refresh token was already used";
    /// The session was idle for too long, or reached its absolute end.
    SessionExpired = "session_expired", UNAUTHORIZED, "The session has expired";
    /// Only an admin may register accounts.
    RegistrationClosed = "registration_closed", FORBIDDEN, "Registration is closed";
    /// The current password is wrong.
    WrongPassword = "wrong_password", FORBIDDEN, "The current password is wrong";
    /// A page of another site tried to use the cookie.
    CrossSiteRequest = "cross_site_request", FORBIDDEN, "The request comes from another site";
    /// The browser would reject the cookie that the sign-in sets, or never send it back.
    CookieCrossSite = "cookie_cross_site", FORBIDDEN, "The browser would not keep the cookie";
    /// No such path.
    NotFound = "not_found", NOT_FOUND, "Not found";
    /// The account has no such session.
    UnknownSession = "unknown_session", NOT_FOUND, "The account has no such session";
    /// The path does not support the method; `Allow` lists those it supports.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed";
    /// The request's body did not arrive in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The request body arrived too slowly";
    /// The e-mail address belongs to an account.
    EmailTaken = "email_taken", CONFLICT, "The e-mail address is taken";
    /// The username belongs to an account.
    UsernameTaken = "username_taken", CONFLICT, "The username is taken";
    /// The request's body exceeds the limit.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, "The request body is too large";
    /// The request's body is not JSON, or is not declared as JSON.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The content type is not supported";
    /// The request line or the headers exceed the limit.
    HeadersTooLarge = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The request headers are too large";
    /// Fields are missing or invalid; `errors` lists them.
    InvalidFields = "invalid_fields", UNPROCESSABLE_ENTITY, "Some fields are missing or invalid";
    /// The password is too easy to guess.
    WeakPassword = "weak_password", UNPROCESSABLE_ENTITY, "The password is too weak";
    /// A rate limit was reached; try again after `Retry-After`.
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, "Too many requests";
    /// An unexpected error; the log has its cause under the request's id.
    InternalError = "internal_error", INTERNAL_SERVER_ERROR, "Internal error";
    /// A temporary failure; try again after `Retry-After`.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Temporarily unavailable";
}

/// The codes of invalid fields. They are stable.
pub const FIELD_CODES: [&str; 19] = [
    "required",
    "unknown_field",
    "unknown_value",
    "wrong_type",
    "too_short",
    "too_long",
    "invalid_email",
    "invalid_username",
    "hidden_characters",
    "username_is_uuid",
    "mixed_scripts",
    "username_reserved",
    "taken",
    "wrong_password",
    "password_too_short",
    "password_too_long",
    "password_common",
    "password_banned_word",
    "password_guessable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
    }
}
