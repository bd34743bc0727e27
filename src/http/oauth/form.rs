//! Form-encoded bodies. [`Parameters`] refuses a repeated parameter, since parsers disagree about which value counts
//! (RFC 6749, section 3.2).

use poem::{Request, RequestBody, Result};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, Registry},
    types::Type,
};

use super::error::OAuthError;
use crate::http::{extract::client_auth::form_decode, types::Secret};

/// The media type of forms.
pub(in crate::http) const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// The largest number of parameters in a form, so that the search for repeated ones stays cheap.
const MAX_PARAMETERS: usize = 64;

/// The form of an endpoint, with its schema in the OpenAPI document.
pub(super) trait FormBody: Type + Sized {
    /// Takes the form's known parameters. Unknown parameters are ignored (RFC 6749, section 3.2).
    fn read(parameters: &mut Parameters) -> Result<Self, OAuthError>;
}

/// A handler's argument: the form of the request's body.
pub(super) struct Form<T>(pub(super) T);

/// The parameters of a form. A parameter without a value counts as absent (RFC 6749, section 3.2). The values are wiped from memory
/// on drop, because some are secrets.
pub(in crate::http) struct Parameters(Vec<(String, zeroize::Zeroizing<String>)>);

const MALFORMED: OAuthError = OAuthError::invalid_request("The parameters are not form-encoded.");
const REPEATED: OAuthError = OAuthError::invalid_request("A parameter is repeated.");
const TOO_MANY: OAuthError = OAuthError::invalid_request("There are more than 64 parameters.");

/// Decodes the form-encoded parameters of a body or a query, in order. Names may be repeated.
pub(super) fn parse_pairs(text: &str) -> Result<Vec<(String, String)>, OAuthError> {
    let mut pairs = Vec::new();
    // `pair.is_empty()` would be the method of poem-openapi's `Type`
    for pair in text.split('&').filter(|pair| !str::is_empty(pair)) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = form_decode(name).ok_or(MALFORMED)?;
        let value = form_decode(value).ok_or(MALFORMED)?;
        if pairs.len() == MAX_PARAMETERS {
            return Err(TOO_MANY);
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// The parameters of a form, in order. Names may be repeated.
///
/// # Errors
/// The outer error if the body can't be read, the inner one if the body is not a form.
pub(super) async fn body_pairs(
    request: &Request,
    body: &mut RequestBody,
) -> Result<Result<Vec<(String, String)>, OAuthError>> {
    let form = form_bytes(request, body).await?;
    Ok(form.and_then(|bytes| {
        let text = std::str::from_utf8(&bytes).map_err(|_| MALFORMED)?;
        parse_pairs(text)
    }))
}

/// The body, if its media type is that of a form. The errors are those of [`body_pairs`].
async fn form_bytes(request: &Request, body: &mut RequestBody) -> Result<Result<Vec<u8>, OAuthError>> {
    let bytes = body.take()?.into_vec().await?;
    let media_type = request.content_type().and_then(|text| text.split(';').next()).map(str::trim);
    if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(CONTENT_TYPE)) {
        let description = "Send the body as a form, with the header Content-Type: application/x-www-form-urlencoded.";
        return Ok(Err(OAuthError::invalid_request(description)));
    }
    Ok(Ok(bytes))
}

impl Parameters {
    /// Parses a body.
    ///
    /// # Errors
    /// For a malformed body, a repeated parameter, or too many.
    pub(in crate::http) fn parse(bytes: &[u8]) -> Result<Self, OAuthError> {
        let text = std::str::from_utf8(bytes).map_err(|_| MALFORMED)?;
        let mut parameters: Vec<(String, zeroize::Zeroizing<String>)> = Vec::new();
        for (name, value) in parse_pairs(text)? {
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(REPEATED);
            }
            parameters.push((name, value.into()));
        }
        Ok(Self(parameters))
    }

    /// Takes the value of a parameter, and leaves an empty value, which counts as absent: a second call returns `None`.
    pub(in crate::http) fn take(&mut self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter_mut().find(|(other, value)| other == name && !value.is_empty())?;
        Some(std::mem::take::<String>(value))
    }

    /// Takes the value of a secret parameter.
    pub(super) fn take_secret(&mut self, name: &str) -> Option<Secret> {
        self.take(name).map(|value| Secret(value.into()))
    }
}

impl<'a, T: FormBody> ApiExtractor<'a> for Form<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: CONTENT_TYPE, schema: T::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let form = form_bytes(request, body).await?;
        let mut parameters = Parameters::parse(&form?)?;
        Ok(Self(T::read(&mut parameters)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Vec<(String, String)>> {
        let parameters = Parameters::parse(text.as_bytes()).ok()?;
        Some(parameters.0.into_iter().map(|(name, value)| (name, value.to_string())).collect())
    }

    #[test]
    fn form_with_encoded_values_is_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parse(""), Some(vec![]));
        assert_eq!(parse("a=b&c=d+e%20f%2b"), Some(vec![pair("a", "b"), pair("c", "d e f+")]));
        assert_eq!(parse("&a=b&&c&"), Some(vec![pair("a", "b"), pair("c", "")]));
        assert_eq!(parse("a=b=c"), Some(vec![pair("a", "b=c")]));
        assert_eq!(parse("%C3%A4=%E2%82%AC"), Some(vec![pair("ä", "€")]));
    }

    #[test]
    fn parameter_is_taken_once_and_an_empty_one_is_absent() {
        let mut parameters = Parameters::parse(b"a=b&c=").unwrap();
        assert_eq!(parameters.take("a"), Some("b".to_owned()));
        assert_eq!(parameters.take("a"), None);
        assert_eq!(parameters.take("c"), None);
    }

    #[test]
    fn ambiguous_or_malformed_form_is_refused() {
        // %61 is an `a`, and the byte ff occurs in no UTF-8
        for text in ["a=1&a=1", "a=1&%61=2", "a&a", "a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(Parameters::parse(b"a=\xff").is_err());
        let many = |count: usize| (0..count).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        assert!(parse(&many(MAX_PARAMETERS)).is_some());
        assert!(parse(&many(MAX_PARAMETERS + 1)).is_none());
    }
}
