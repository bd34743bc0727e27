//! Authentication of service clients: HTTP Basic (RFC 7617) as OAuth 2.0 uses it (RFC 6749, section 2.3.1), and
//! [`ServiceClient`], the argument type of calls that only service clients may make.

use std::{net::IpAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use poem::{
    Request, RequestBody, Result,
    http::{HeaderMap, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use crate::http::{
    extract::{client_info, state},
    problem::{Code, ProblemError},
};
use crate::{
    domain::{client::Client, secret::SecretText},
    service::clients::{self, AuthenticateClientError, Credentials},
};

/// The name of HTTP Basic in the OpenAPI document.
pub(in crate::http) const CLIENT_BASIC: &str = "client_basic";

/// The `WWW-Authenticate` of a client that could not be authenticated.
pub(in crate::http) const CHALLENGE: &str = "Basic realm=\"latchkey\"";

/// A service client that authenticated by HTTP Basic. Other callers are refused with 401 `invalid_client`.
pub struct ServiceClient(pub Arc<Client>);

/// The client credentials in a request's headers, and the address from which the request came.
pub(in crate::http) struct HeaderCredentials {
    /// The `Authorization` header.
    pub(in crate::http) authorization: Authorization,
    /// The client's address.
    pub(in crate::http) ip: Option<IpAddr>,
}

/// The content of an `Authorization` header.
pub(in crate::http) enum Authorization {
    /// No such header.
    None,
    /// HTTP Basic.
    Basic {
        /// The `client_id`.
        client_id: String,
        /// The secret.
        secret: SecretText,
    },
    /// Another scheme, or malformed Basic credentials.
    Other,
    /// Several such headers.
    Several,
}

impl Authorization {
    /// Reads the headers of a request.
    pub(in crate::http) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::None,
            (Some(_), Some(_)) => Self::Several,
            (Some(value), None) => value.to_str().ok().and_then(parse_basic).unwrap_or(Self::Other),
        }
    }

    /// The secret of Basic credentials.
    pub(in crate::http) fn secret(&self) -> Option<&SecretText> {
        match self {
            Self::Basic { secret, .. } => Some(secret),
            Self::None | Self::Other | Self::Several => None,
        }
    }
}

/// Parses Basic credentials. The `client_id` and the secret are form-encoded (RFC 6749, section 2.3.1).
fn parse_basic(value: &str) -> Option<Authorization> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = zeroize::Zeroizing::new(BASE64_STANDARD.decode(encoded.trim()).ok()?);
    let (client_id, secret) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some(Authorization::Basic { client_id: form_decode(client_id)?, secret: form_decode(secret)?.into() })
}

/// Decodes one form-encoded value: `+` is a space, `%` and two hexadecimal digits are a byte.
pub(in crate::http) fn form_decode(text: &str) -> Option<String> {
    // Most values have nothing to decode, and the tokens in forms are long, so this check must be fast.
    if memchr::memchr2(b'+', b'%', text.as_bytes()).is_none() {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Adds HTTP Basic to the OpenAPI document.
pub(in crate::http) fn register_client_basic(registry: &mut Registry) {
    registry.create_security_scheme(
        CLIENT_BASIC,
        MetaSecurityScheme {
            ty: "http",
            description: Some(
                "The `client_id` and `client_secret` of a service client, as printed by `latchkey client add`, each \
                 form-encoded (RFC 6749, section 2.3.1). The endpoints under `/oauth2/` also accept them in the form \
                 (`client_secret_post`), or a signed JWT (`private_key_jwt`, RFC 7523).",
            ),
            name: None,
            key_in: None,
            scheme: Some("basic"),
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        },
    );
}

/// The client credentials in the headers of a call to `/oauth2/`, whose form may contain them instead. `REQUIRED` only says whether the
/// OpenAPI document requires them. The endpoint itself refuses a client that lacks required credentials.
pub(in crate::http) struct FormOrBasic<const REQUIRED: bool>(pub(in crate::http) HeaderCredentials);

/// For calls of all clients: a public client has no credentials.
pub(in crate::http) type OptionalClient = FormOrBasic<false>;

/// For calls that the endpoint refuses without credentials.
pub(in crate::http) type RequiredClient = FormOrBasic<true>;

impl<'a, const REQUIRED: bool> ApiExtractor<'a> for FormOrBasic<REQUIRED> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_client_basic(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![CLIENT_BASIC]
    }

    /// Whether the OpenAPI document also allows calls without credentials.
    fn has_security_fallback() -> bool {
        !REQUIRED
    }

    async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> Result<Self> {
        Ok(Self(HeaderCredentials {
            authorization: Authorization::of(request.headers()),
            ip: client_info::address_of(request),
        }))
    }
}

impl<'a> ApiExtractor<'a> for ServiceClient {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_client_basic(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![CLIENT_BASIC]
    }

    fn has_security_fallback() -> bool {
        false
    }

    async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> Result<Self> {
        Ok(Self(service_client(request).await?))
    }
}

/// Whether a request has Basic credentials.
pub(in crate::http) fn is_basic(request: &Request) -> bool {
    matches!(Authorization::of(request.headers()), Authorization::Basic { .. })
}

/// The service client that a request's Basic credentials authenticate.
pub(in crate::http) async fn service_client(request: &Request) -> Result<Arc<Client>, ProblemError> {
    let Authorization::Basic { client_id, secret } = Authorization::of(request.headers()) else {
        let detail = "Send the `client_id` and `client_secret` of a service client as `Authorization: Basic`.";
        return Err(ProblemError::new(Code::InvalidClient, detail));
    };
    let state = state(request)?;
    let credentials = Credentials::Secret { client_id, secret, is_in_form: false };
    let ip = client_info::address_of(request);
    let client = clients::authenticate(state, credentials, ip).await.map_err(ProblemError::from)?;
    if !client.is_service() {
        return Err(ProblemError::new(Code::InvalidClient, "The client is an app and not a service client."));
    }
    Ok(client)
}

impl From<AuthenticateClientError> for ProblemError {
    fn from(error: AuthenticateClientError) -> Self {
        match error {
            AuthenticateClientError::Invalid => {
                Self::new(Code::InvalidClient, "The client is unknown or disabled, or its secret is wrong.")
            }
            AuthenticateClientError::Service(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    /// The client id and the secret in an `Authorization` header.
    fn credentials_in(value: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        match Authorization::of(&headers) {
            Authorization::Basic { client_id, secret } => Some((client_id, secret.expose().to_owned())),
            _ => None,
        }
    }

    #[test]
    fn basic_credentials_are_form_decoded() {
        let pair = |id: &str, secret: &str| Some((id.to_owned(), secret.to_owned()));
        let basic = |text: &str| credentials_in(&format!("Basic {}", BASE64_STANDARD.encode(text)));
        assert_eq!(basic("billing:lk_cs_a-b"), pair("billing", "lk_cs_a-b"));
        assert_eq!(basic("b%69lling:lk%5Fcs%5fa%2Db"), pair("billing", "lk_cs_a-b"));
        assert_eq!(basic("a+b:c%3Ad:e"), pair("a b", "c:d:e"));
        assert_eq!(credentials_in(&format!("bAsIc {}", BASE64_STANDARD.encode("a:b"))), pair("a", "b"));
        // no colon, then incomplete or invalid escapes, and at last a byte that is not UTF-8
        for text in ["a", "a%:b", "a%4:b", "a%+1:b", "a%zz:b", "a%ff:b"] {
            assert_eq!(basic(text), None, "{text}");
        }
        let without_scheme = &BASE64_STANDARD.encode("a:b");
        for value in ["Basic", "Basic ", "Basic ?", "Bearer abc", without_scheme] {
            assert_eq!(credentials_in(value), None, "{value}");
        }
    }
}
