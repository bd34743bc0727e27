//! What can go wrong: [`VerifyError`] with a token, [`BuildError`] with a verifier.

/// Why a token isn't accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It isn't a valid access token of this issuer for this audience, or not any more. For the log: its holder is told no
    /// more than that (RFC 6750, section 3.1).
    #[error("the access token is not valid: {0}")]
    Invalid(#[from] Invalid),
    /// Its session has ended, or its signing key was taken out of use.
    #[error("the access token was revoked")]
    Revoked,
    /// Whether it was revoked can't be told now: the feed is lost, and so the policy is to refuse, or the issuer doesn't
    /// answer either. The token may be good; answer 503.
    #[error("it can't be told now whether the access token was revoked: {0}")]
    Unavailable(&'static str),
}

impl VerifyError {
    /// Whether the caller may simply try again in a moment: the token itself was not found wanting.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Longer than [`crate::MAX_TOKEN_BYTES`].
    #[error("it is longer than {} bytes", crate::MAX_TOKEN_BYTES)]
    TooLong,
    /// Not three parts of base64url, or a header or claims that aren't JSON, name a member twice or have it of a wrong
    /// type.
    #[error("it is not a well-formed signed JWT")]
    Malformed,
    /// It has a `crit` header, and no extension is understood here (RFC 7515, section 4.1.11).
    #[error("its header asks for an extension that is not understood")]
    CriticalHeader,
    /// Its `typ` isn't an access token's (RFC 9068, section 4).
    #[error("it is not an access token (typ at+jwt)")]
    WrongType,
    /// It has no `kid`, or one of no key that the issuer publishes.
    #[error("it names no key that the issuer publishes")]
    UnknownKey,
    /// Its `alg` isn't its key's, `none` and everything unheard-of included.
    #[error("its algorithm is not its key's")]
    WrongAlgorithm,
    /// Its signature isn't its key's.
    #[error("its signature is wrong")]
    BadSignature,
    /// A claim that RFC 9068 or Latchkey requires isn't there.
    #[error("it has no {0} claim")]
    MissingClaim(&'static str),
    /// Issued by someone else.
    #[error("it was issued by someone else")]
    WrongIssuer,
    /// Meant for someone else.
    #[error("it is meant for someone else")]
    WrongAudience,
    /// Its `exp` has come.
    #[error("it has expired")]
    Expired,
    /// Its `nbf` hasn't come yet, or it was issued in the future.
    #[error("it is not valid yet")]
    NotYetValid,
    /// A service got it for itself, and [`crate::Builder::refuse_clients_own`] was said.
    #[error("it is a client's own token, and those of people only are accepted")]
    ClientsOwn,
}

/// Why no verifier could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The issuer is not an `https` URL without query and fragment (RFC 8414, section 2). Plain `http` is taken for
    /// addresses of this machine, and for others where [`crate::Builder::allow_plain_http`] was said.
    #[error("the issuer {0} is not an https URL without query, fragment and slash at the end")]
    Issuer(String),
    /// No audience was given: every token of the issuer would be accepted, whomever it is meant for.
    #[error("no audience was given")]
    NoAudience,
    /// Neither [`crate::Builder::client`] nor [`crate::Builder::without_revocations`] was called, or both were.
    #[error("say either client(id, secret), or without_revocations()")]
    Client,
    /// A setting that can't work.
    #[error("{0}")]
    Setting(&'static str),
    /// The issuer's metadata or keys couldn't be had, or make no sense.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// Why something of the issuer couldn't be had.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct FetchError {
    pub(crate) url: String,
    pub(crate) reason: String,
}
