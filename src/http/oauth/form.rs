//! Form-encoded bodies, read strictly: a parameter that stands there twice means different things to different readers, so
//! it is refused (RFC 6749, section 3.2), as is what isn't a form.

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

/// Parameters in one form; more are refused, so that looking for repeated ones stays cheap.
const MAX_PARAMETERS: usize = 64;

/// A form that an endpoint takes; its schema in the API document is that of the type.
pub(super) trait FormBody: Type + Sized {
    /// Takes what it needs of the parameters. Others are ignored (RFC 6749, section 3.2).
    fn read(parameters: &mut Parameters) -> Result<Self, OAuthError>;
}

/// The argument of handlers.
pub(super) struct Form<T>(pub(super) T);

/// The parameters of a form, each once. Those without a value are not there (RFC 6749, section 3.2).
pub(super) struct Parameters(Vec<(String, zeroize::Zeroizing<String>)>);

impl Parameters {
    fn parse(bytes: &[u8]) -> Result<Self, OAuthError> {
        const MALFORMED: OAuthError = OAuthError::invalid_request("The body is not form-encoded.");
        let text = std::str::from_utf8(bytes).map_err(|_| MALFORMED)?;
        let mut parameters: Vec<(String, zeroize::Zeroizing<String>)> = Vec::new();
        // not `pair.is_empty()`: that would be poem-openapi's, which is about something else
        for pair in text.split('&').filter(|pair| !str::is_empty(pair)) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = form_decode(name).zip(form_decode(value)).ok_or(MALFORMED)?;
            if parameters.len() == MAX_PARAMETERS || parameters.iter().any(|(known, _)| *known == name) {
                return Err(OAuthError::invalid_request("A parameter is repeated, or there are too many of them."));
            }
            parameters.push((name, value.into()));
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter, if it is there.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, value)| known == name && !value.is_empty())?;
        Some(std::mem::take(&mut *self.0[at].1))
    }

    /// The same for one that is a secret.
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
        let bytes = body.take()?.into_bytes().await?;
        let essence = request.content_type().and_then(|text| text.split(';').next()).map(str::trim);
        if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case(CONTENT_TYPE)) {
            let description =
                "Send the body as a form, with the header Content-Type: application/x-www-form-urlencoded.";
            return Err(OAuthError::invalid_request(description).into());
        }
        Ok(Self(T::read(&mut Parameters::parse(&bytes)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<(String, String)>> {
        let parameters = Parameters::parse(text.as_bytes()).ok()?;
        Some(parameters.0.into_iter().map(|(name, value)| (name, value.to_string())).collect())
    }

    #[test]
    fn forms_are_read() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read(""), Some(vec![]));
        assert_eq!(read("a=b&c=d+e%20f%2b"), Some(vec![pair("a", "b"), pair("c", "d e f+")]));
        assert_eq!(read("&a=b&&c&"), Some(vec![pair("a", "b"), pair("c", "")]));
        assert_eq!(read("a=b=c"), Some(vec![pair("a", "b=c")]));
        assert_eq!(read("%C3%A4=%E2%82%AC"), Some(vec![pair("ä", "€")]));
        let mut parameters = Parameters::parse(b"a=b&c=").unwrap();
        assert_eq!(
            (parameters.take("a"), parameters.take("a"), parameters.take("c")),
            (Some("b".to_owned()), None, None)
        );
    }

    #[test]
    fn what_is_ambiguous_or_no_form_is_refused() {
        for text in ["a=1&a=1", "a=1&%61=2", "a&a", "a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(Parameters::parse(b"a=\xff").is_err());
        let many = |count: usize| (0..count).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        assert!(read(&many(64)).is_some());
        assert!(read(&many(65)).is_none());
    }
}
