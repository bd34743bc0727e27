//! The access tokens of service clients themselves (the `client_credentials` grant): the profile of RFC 9068 without a
//! session and without a sign-in.

use serde::{Deserialize, Serialize, Serializer};

/// What a service client's own access token says (RFC 9068, section 2.2). Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientClaims {
    /// Who issued it; compared as a string.
    pub iss: String,
    /// Whose it is: the client's name.
    pub sub: String,
    /// Whom it is for.
    #[serde(serialize_with = "one_or_several")]
    pub aud: Vec<String>,
    /// The client's name again.
    pub client_id: String,
    /// When it was issued.
    pub iat: i64,
    /// From when on it is no longer valid.
    pub exp: i64,
    /// Its own id.
    pub jti: String,
    /// What it may be used for, separated by spaces; left out where that is nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
}

/// One audience or several (RFC 7519, section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub(super) fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }

    pub(super) fn into_list(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Several(several) => several,
        }
    }
}

fn one_or_several<S: Serializer>(audiences: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match audiences {
        [one] => one.serialize(serializer),
        several => several.serialize(serializer),
    }
}
