//! The stable codes of errors: [`Code`] for the problem, [`FieldCode`] for each of its fields.

use poem::http::StatusCode;

use crate::{
    domain::{account::NameError, profile::ProfileError},
    password::WeakPassword,
};

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
    /// An app's access token lacks a scope that the call needs (RFC 6750, section 3.1).
    InsufficientScope = "insufficient_scope", FORBIDDEN, "The access token lacks a scope";
    /// The account's claims have changed since the access token was issued: refresh the token once, and repeat the call.
    ClaimsChanged = "claims_changed", UNAUTHORIZED, "The claims of the account have changed";
    /// The call is for service clients, and no valid client credentials were sent (RFC 6749, section 5.2).
    InvalidClient = "invalid_client", UNAUTHORIZED, "The service client could not be authenticated";
    /// The refresh token is not valid, or its session was revoked.
    InvalidRefreshToken = "invalid_refresh_token", UNAUTHORIZED, "The refresh token is not valid";
    /// The refresh token was superseded, and this use counts as reuse; its session has been revoked.
    RefreshTokenReused = "refresh_token_reused", UNAUTHORIZED, "The refresh token was already used";
    /// The link or the code of a mail was used before or has expired, or what it was issued for has changed.
    InvalidCode = "invalid_code", UNAUTHORIZED, "The link or the code does not work";
    /// Sign in again: the challenge was used, has expired or belongs to another use case or device, or its account has changed.
    InvalidChallenge = "invalid_challenge", UNAUTHORIZED, "The challenge does not work";
    /// The session was authenticated too long ago or too weakly; `WWW-Authenticate` says what is needed (RFC 9470).
    InsufficientUserAuthentication = "insufficient_user_authentication", UNAUTHORIZED, "A more recent or stronger authentication is required";
    /// The response of the passkey is not valid, or its challenge was used or has expired. Or the passkey is unknown, or its account
    /// is disabled or not the one that signs in.
    InvalidPasskey = "invalid_passkey", UNAUTHORIZED, "The passkey was not accepted";
    /// The session was idle for too long, or reached its absolute end.
    SessionExpired = "session_expired", UNAUTHORIZED, "The session has expired";
    /// Only an admin may register accounts.
    RegistrationClosed = "registration_closed", FORBIDDEN, "Registration is closed";
    /// The account must verify its e-mail address before it can sign in.
    EmailNotVerified = "email_not_verified", FORBIDDEN, "The e-mail address is not verified";
    /// The first factor is right, and a second one must be presented: `challenge`, `methods` and `expires_in` say how.
    SecondFactorRequired = "second_factor_required", FORBIDDEN, "A second factor is required";
    /// The first factor is right, and the account must set up a second one: `challenge`, `methods` and `expires_in` say how.
    FactorEnrolmentRequired = "factor_enrolment_required", FORBIDDEN, "A second factor must be set up";
    /// The link or the code alone does not show that its holder set up the account: another proof is missing.
    ProofRequired = "proof_required", FORBIDDEN, "An access token, the password or a new password is required";
    /// A code by mail is a second factor only after a password. Sign in with the password, or set one before switching such codes on.
    PasswordRequired = "password_required", FORBIDDEN, "A password is required";
    /// This way to sign in is off.
    LoginMethodOff = "login_method_off", FORBIDDEN, "This way to sign in is off";
    /// The model of the authenticator is not among those that may be registered.
    PasskeyModelNotAllowed = "passkey_model_not_allowed", FORBIDDEN, "This model of authenticator can't be registered";
    /// The caller may not do this: it is for admins, or for service clients with a scope.
    Forbidden = "forbidden", FORBIDDEN, "The caller may not do this";
    /// The current password is wrong.
    WrongPassword = "wrong_password", FORBIDDEN, "The current password is wrong";
    /// A page of another site tried to use the cookie.
    CrossSiteRequest = "cross_site_request", FORBIDDEN, "The request comes from another site";
    /// The browser would reject the cookie that the sign-in sets, or never send it back.
    CookieCrossSite = "cookie_cross_site", FORBIDDEN, "The browser would not keep the cookie";
    /// The token of a page's form is missing, or is that of another browser or session.
    FormExpired = "form_expired", FORBIDDEN, "The form has expired";
    /// An authorization request has expired, or was answered before.
    RequestExpired = "request_expired", FORBIDDEN, "The sign-in has expired";
    /// No such path.
    NotFound = "not_found", NOT_FOUND, "Not found";
    /// There is no such account, or it is disabled or due for deletion.
    UnknownAccount = "unknown_account", NOT_FOUND, "There is no such account";
    /// The account has no such second factor.
    UnknownFactor = "unknown_factor", NOT_FOUND, "The account has no such second factor";
    /// The account has no such session.
    UnknownSession = "unknown_session", NOT_FOUND, "The account has no such session";
    /// The account has no such remembered device.
    UnknownDevice = "unknown_device", NOT_FOUND, "The account has no such device";
    /// The account has no such app.
    UnknownApp = "unknown_app", NOT_FOUND, "The account has no such app";
    /// The account has no such e-mail address.
    UnknownEmail = "unknown_email", NOT_FOUND, "The account has no such e-mail address";
    /// The account has no such passkey.
    UnknownPasskey = "unknown_passkey", NOT_FOUND, "The account has no such passkey";
    /// The path does not support the method; `Allow` lists those it supports.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed";
    /// The request's body did not arrive in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The request body arrived too slowly";
    /// The e-mail address belongs to an account.
    EmailTaken = "email_taken", CONFLICT, "The e-mail address is taken";
    /// The account has the e-mail address already.
    EmailExists = "email_exists", CONFLICT, "The account has this e-mail address";
    /// The account has the maximum number of e-mail addresses.
    TooManyEmails = "too_many_emails", CONFLICT, "The account has too many e-mail addresses";
    /// The primary e-mail address can't be removed: make another address primary first.
    PrimaryEmail = "primary_email", CONFLICT, "The e-mail address is the primary one";
    /// The username belongs to an account.
    UsernameTaken = "username_taken", CONFLICT, "The username is taken";
    /// The account has the maximum number of second factors of this kind.
    TooManyFactors = "too_many_factors", CONFLICT, "The account has too many second factors";
    /// The account must keep a second factor.
    FactorRequired = "factor_required", CONFLICT, "The account must have a second factor";
    /// The account has no second factor, which the call needs.
    NoSecondFactor = "no_second_factor", CONFLICT, "The account has no second factor";
    /// The passkey is registered already.
    PasskeyExists = "passkey_exists", CONFLICT, "The passkey is registered already";
    /// The account's user has allowed as many apps that no operator has registered as `dynamic_clients.max_per_account` permits.
    TooManyApps = "too_many_apps", CONFLICT, "The account allows too many apps";
    /// The account has the maximum number of passkeys.
    TooManyPasskeys = "too_many_passkeys", CONFLICT, "The account has too many passkeys";
    /// The request's body exceeds the limit.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, "The request body is too large";
    /// The request's body has another media type than the call requires.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The content type is not supported";
    /// The request line or the headers exceed the limit.
    HeadersTooLarge = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The request headers are too large";
    /// Fields are missing or invalid; `errors` lists them.
    InvalidFields = "invalid_fields", UNPROCESSABLE_ENTITY, "Some fields are missing or invalid";
    /// The password is too easy to guess.
    WeakPassword = "weak_password", UNPROCESSABLE_ENTITY, "The password is too weak";
    /// The response of the authenticator is not valid, or its challenge was used or has expired.
    PasskeyRejected = "passkey_rejected", UNPROCESSABLE_ENTITY, "The passkey could not be registered";
    /// A rate limit was reached; try again after `Retry-After`.
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, "Too many requests";
    /// An unexpected error; the log has its cause under the request's id.
    InternalError = "internal_error", INTERNAL_SERVER_ERROR, "Internal error";
    /// A temporary failure; try again after `Retry-After`.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Temporarily unavailable";
}

macro_rules! field_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal;)*) => {
        /// The kinds of errors of a field. The codes are stable: programs may compare them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FieldCode { $($(#[doc = $doc])* $name,)* }

        impl FieldCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

field_codes! {
    /// The field is missing.
    Required = "required";
    /// The request has no such field.
    UnknownField = "unknown_field";
    /// The value is not among the allowed ones.
    UnknownValue = "unknown_value";
    /// The value has another JSON type than the schema.
    WrongType = "wrong_type";
    /// The text has too few characters.
    TooShort = "too_short";
    /// The text has too many characters.
    TooLong = "too_long";
    /// See [`NameError::Email`].
    InvalidEmail = "invalid_email";
    /// See [`NameError::Username`].
    InvalidUsername = "invalid_username";
    /// See [`NameError::HiddenCharacters`].
    HiddenCharacters = "hidden_characters";
    /// See [`NameError::UsernameIsUuid`].
    UsernameIsUuid = "username_is_uuid";
    /// See [`NameError::MixedScripts`].
    MixedScripts = "mixed_scripts";
    /// Only an admin or an operator may give an account this username.
    UsernameReserved = "username_reserved";
    /// The request has neither a token nor a code. A code needs its e-mail address or identifier.
    TokenOrCode = "token_or_code";
    /// With `registration.conceal`, users choose a username after the first sign-in: a taken username would reveal an account.
    UsernameNotYet = "username_not_yet";
    /// See [`ProfileError::DisplayName`].
    InvalidDisplayName = "invalid_display_name";
    /// See [`ProfileError::LanguageTag`].
    InvalidLocale = "invalid_locale";
    /// See [`ProfileError::TimeZone`].
    InvalidTimeZone = "invalid_time_zone";
    /// See [`ProfileError::MetadataSize`].
    MetadataTooLarge = "metadata_too_large";
    /// See [`InvalidPasskeyName`](crate::domain::passkey::InvalidPasskeyName).
    InvalidPasskeyName = "invalid_passkey_name";
    /// Another account has the e-mail address or the username.
    Taken = "taken";
    /// The password is not the current one.
    WrongPassword = "wrong_password";
    /// See [`WeakPassword::TooShort`].
    PasswordTooShort = "password_too_short";
    /// See [`WeakPassword::TooLong`].
    PasswordTooLong = "password_too_long";
    /// See [`WeakPassword::Common`].
    PasswordCommon = "password_common";
    /// See [`WeakPassword::BannedWord`].
    PasswordBannedWord = "password_banned_word";
    /// See [`WeakPassword::Guessable`].
    PasswordGuessable = "password_guessable";
}

impl From<&NameError> for FieldCode {
    fn from(error: &NameError) -> Self {
        match error {
            NameError::Email => Self::InvalidEmail,
            NameError::HiddenCharacters => Self::HiddenCharacters,
            NameError::Username => Self::InvalidUsername,
            NameError::UsernameIsUuid => Self::UsernameIsUuid,
            NameError::MixedScripts => Self::MixedScripts,
        }
    }
}

impl From<ProfileError> for FieldCode {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::DisplayName => Self::InvalidDisplayName,
            ProfileError::LanguageTag => Self::InvalidLocale,
            ProfileError::TimeZone => Self::InvalidTimeZone,
            ProfileError::MetadataSize => Self::MetadataTooLarge,
        }
    }
}

impl From<&WeakPassword> for FieldCode {
    fn from(weak: &WeakPassword) -> Self {
        match weak {
            WeakPassword::TooShort { .. } => Self::PasswordTooShort,
            WeakPassword::TooLong { .. } => Self::PasswordTooLong,
            WeakPassword::Common => Self::PasswordCommon,
            WeakPassword::BannedWord => Self::PasswordBannedWord,
            WeakPassword::Guessable { .. } => Self::PasswordGuessable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let problems: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let fields: Vec<_> = FieldCode::ALL.iter().map(|code| code.as_str()).collect();
        for texts in [problems, fields] {
            let unique: std::collections::BTreeSet<_> = texts.iter().collect();
            assert_eq!(unique.len(), texts.len(), "{texts:?}");
        }
    }
}
