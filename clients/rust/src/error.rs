//! The errors: [`VerifyError`] of a token's verification, [`BuildError`] of a verifier's set-up.

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token is not a valid access token of this issuer for this audience. The reason is for the log; clients learn
    /// no more than `invalid_token` (RFC 6750, section 3.1).
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The token's session has ended, or its signing key was retired.
    #[error("the token was revoked")]
    Revoked,
    /// The account's claims, such as its roles, have changed since the token was issued. The client's next refresh returns a
    /// token with the current claims. Answer 401 with `error="invalid_token"` and `reason="claims_changed"` in the challenge,
    /// as the middlewares do.
    #[error("the claims of the account have changed since the token was issued")]
    ClaimsChanged,
    /// The verifier lacks the token's key or current revocations, so it can neither accept nor refuse the token. The text says
    /// why. Answer 503 with `Retry-After`.
    #[error("the token cannot be verified now: {0}")]
    Unavailable(&'static str),
}

impl VerifyError {
    /// Whether the token could not be verified now. It may be valid, so a retry may succeed.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// A stable code for logs and metrics, the same in Latchkey's Python and JavaScript packages; `unavailable` for
    /// [`VerifyError::Unavailable`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(invalid) => invalid.reason(),
            Self::Revoked => "revoked",
            Self::ClaimsChanged => "claims_changed",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Why a token is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The token is longer than [`crate::MAX_TOKEN_BYTES`].
    #[error("the token is longer than {} bytes", crate::MAX_TOKEN_BYTES)]
    TooLong,
    /// The token does not have three parts of base64url, or its header or claims are not a JSON object, have a
    /// duplicate member or a member of a wrong type.
    #[error("the token is not a well-formed signed JWT")]
    Malformed,
    /// The header has `crit`. No extension is supported (RFC 7515, section 4.1.11).
    #[error("the token's header has crit, which is not supported")]
    CriticalHeader,
    /// The header's `typ` is not `at+jwt` (RFC 9068, section 4).
    #[error("the token is not an access token (typ is not at+jwt)")]
    WrongType,
    /// The token has no `kid`, or the issuer publishes no key with it.
    #[error("the issuer publishes no key with the token's kid")]
    UnknownKey,
    /// The header's `alg` is not the algorithm of the key. This includes `none` and unsupported algorithms.
    #[error("the token's alg is not the algorithm of its key")]
    WrongAlgorithm,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// The claim of this name, which RFC 9068 or Latchkey requires, is missing.
    #[error("the token has no {0} claim")]
    MissingClaim(&'static str),
    /// `iss` is another issuer.
    #[error("the token is from another issuer")]
    WrongIssuer,
    /// `aud` contains none of the verifier's audiences.
    #[error("the token is for another audience")]
    WrongAudience,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A service client obtained the token for itself, and [`crate::Builder::refuse_service_clients`] was called.
    #[error("the token belongs to a service client, not to a user")]
    ServiceClient,
}

impl Invalid {
    /// A stable code for logs and metrics, the same in Latchkey's Python and JavaScript packages.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::CriticalHeader => "critical_header",
            Self::WrongType => "wrong_type",
            Self::UnknownKey => "unknown_key",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::MissingClaim(_) => "missing_claim",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::ServiceClient => "service_client",
        }
    }
}

/// Why a verifier could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The issuer must be an `https` URL that has no query or fragment (RFC 8414, section 2), no credentials, and no trailing slash.
    /// Plain `http` is accepted for loopback addresses, and for others after [`crate::Builder::allow_plain_http`].
    #[error("the issuer {0} must be an https URL with no credentials, query, fragment or trailing slash")]
    Issuer(String),
    /// No audience was configured. Without an audience, the verifier would accept the issuer's tokens for all services.
    #[error("no audience is configured: call audience(name)")]
    NoAudience,
    /// Neither [`crate::Builder::client`] nor [`crate::Builder::without_revocations`] was called, or both were.
    #[error("call either client(id, secret) or without_revocations()")]
    Client,
    /// A setting is invalid. The text says which, and why.
    #[error("{0}")]
    Setting(&'static str),
    /// The issuer's metadata or keys could not be fetched, or are invalid.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// Why a document of the issuer could not be fetched.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct FetchError {
    pub(crate) url: String,
    pub(crate) reason: String,
}
