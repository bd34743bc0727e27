//! Reads the metadata of a client (RFC 7591, section 2) from a document or a registration.

use serde_json::{Map, Value};
use url::Url;

use super::{ClientMetadata, client::kind_of, document_url::check_document_url, name::sanitize};
use crate::domain::{
    app_client::{ClientAuthMethod, GrantType, RedirectUriError, check_link_uri, check_redirect_uri},
    client::SpaceSeparated,
};

/// The maximum number of items of a list, such as the redirect URIs.
const MAX_ITEMS: usize = 16;
/// The longest text outside of lists, in bytes.
const MAX_TEXT_BYTES: usize = 1024;

/// Why client metadata is refused. The texts are for the developer of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// A redirect URI, also one for after a sign-out, is invalid (`invalid_redirect_uri`).
    #[error("{0}")]
    RedirectUri(&'static str),
    /// Another part of the metadata is invalid (`invalid_client_metadata`).
    #[error("{0}")]
    Metadata(&'static str),
}

/// The members of a metadata object. The caller of a method passes the error for a member of the wrong type or size.
struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    /// A text of at most [`MAX_TEXT_BYTES`]; none if the member is absent or null.
    fn text(&self, name: &str, error: &'static str) -> Result<Option<&'a str>, MetadataError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_TEXT_BYTES => Ok(Some(text)),
            Some(_) => Err(MetadataError::Metadata(error)),
        }
    }

    /// A list of at most [`MAX_ITEMS`] texts; none if the member is absent or null.
    fn list(&self, name: &str, error: MetadataError) -> Result<Option<Vec<&'a str>>, MetadataError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) if items.len() <= MAX_ITEMS => {
                items.iter().map(|item| item.as_str().ok_or(error)).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(error),
        }
    }

    /// `jwks` and `jwks_uri`. At most one of them is present (RFC 7591, section 2).
    fn keys(&self) -> Result<(Option<String>, Option<&'a str>), MetadataError> {
        use MetadataError::Metadata;
        let jwks = match self.0.get("jwks") {
            None | Some(Value::Null) => None,
            Some(set @ Value::Object(_)) => Some(set.to_string()),
            Some(_) => return Err(Metadata("jwks must be a JWK Set.")),
        };
        let error = "jwks_uri must be an https URL in its normal form, with a host name and of at most 512 bytes.";
        let jwks_uri = self.text("jwks_uri", error)?;
        if jwks_uri.is_some_and(|uri| check_document_url(uri).is_err()) {
            return Err(Metadata(error));
        }
        if jwks.is_some() && jwks_uri.is_some() {
            return Err(Metadata("jwks and jwks_uri must not both be present."));
        }
        Ok((jwks, jwks_uri))
    }

    /// Whether `jwks` contains the private part of a key (`d`) or a symmetric key (`k`; RFC 7518, section 6).
    fn has_secret_key(&self) -> bool {
        let keys = self.0.get("jwks").and_then(|set| set.get("keys")).and_then(Value::as_array);
        keys.into_iter().flatten().any(|key| key.get("d").is_some() || key.get("k").is_some())
    }
}

impl ClientMetadata {
    /// Reads metadata. Unknown members are ignored (RFC 7591, section 2). `default_method` is the authentication method of a
    /// client whose metadata names none.
    ///
    /// # Errors
    /// [`MetadataError`]
    fn read(members: &Map<String, Value>, default_method: ClientAuthMethod) -> Result<Self, MetadataError> {
        use MetadataError::{Metadata, RedirectUri};
        let members = Members(members);
        let auth_method = members.text("token_endpoint_auth_method", "token_endpoint_auth_method must be a text.")?;
        let auth_method = match auth_method {
            None => default_method,
            Some(name) => {
                ClientAuthMethod::parse(name).ok_or(Metadata("The token_endpoint_auth_method is not supported."))?
            }
        };
        let error = RedirectUri("redirect_uris must be a list of at most 16 URIs.");
        let redirect_uris = members.list("redirect_uris", error)?.unwrap_or_default();
        if redirect_uris.is_empty() {
            return Err(RedirectUri("redirect_uris is missing."));
        }
        let error = RedirectUri("post_logout_redirect_uris must be a list of at most 16 URIs.");
        let post_logout_redirect_uris = members.list("post_logout_redirect_uris", error)?.unwrap_or_default();
        let kind = kind_of(auth_method);
        for uri in redirect_uris.iter().chain(&post_logout_redirect_uris) {
            check_redirect_uri(kind, uri).map_err(|refusal| RedirectUri(describe(refusal)))?;
        }
        let error = Metadata("grant_types must be a list of at most 16 texts.");
        let grant_types = members.list("grant_types", error)?;
        let grant_types = grant_types.unwrap_or_else(|| vec![GrantType::AuthorizationCode.as_str()]);
        if !grant_types.contains(&GrantType::AuthorizationCode.as_str()) {
            return Err(Metadata("grant_types must contain authorization_code."));
        }
        let error = Metadata("response_types must be a list of at most 16 texts.");
        if members.list("response_types", error)?.is_some_and(|types| !types.contains(&"code")) {
            return Err(Metadata("response_types must contain code."));
        }
        let scope =
            members.text("scope", "scope must be a text of at most 1024 bytes.")?.filter(|text| !text.is_empty());
        if scope.is_some_and(|scope| SpaceSeparated::from_spaced(scope).is_err()) {
            return Err(Metadata("scope must be a list of scopes, separated by single spaces."));
        }
        let (jwks, jwks_uri) = members.keys()?;
        let uses_key = auth_method == ClientAuthMethod::PrivateKeyJwt;
        if uses_key && jwks.is_none() && jwks_uri.is_none() {
            return Err(Metadata("private_key_jwt requires jwks or jwks_uri."));
        }
        let error = "initiate_login_uri must be an https URL of at most 512 bytes without a fragment.";
        let initiate_login_uri = members.text("initiate_login_uri", error)?;
        if initiate_login_uri.is_some_and(|uri| !is_https(uri) || check_link_uri(uri).is_err()) {
            return Err(Metadata(error));
        }
        let name = members.text("client_name", "client_name must be a text of at most 1024 bytes.")?;
        let client_uri = members.text("client_uri", "client_uri must be a text of at most 1024 bytes.")?;
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        Ok(Self {
            name: name.and_then(sanitize),
            redirect_uris: owned(redirect_uris),
            post_logout_redirect_uris: owned(post_logout_redirect_uris),
            refreshes: grant_types.contains(&GrantType::RefreshToken.as_str()),
            auth_method: auth_method.as_str().to_owned(),
            scope: scope.map(str::to_owned),
            // The link is only shown to users, so an unsuitable one is omitted.
            client_uri: client_uri.filter(|uri| is_https(uri)).map(str::to_owned),
            // Keys that the client does not authenticate with are not stored.
            jwks: jwks.filter(|_| uses_key),
            jwks_uri: jwks_uri.filter(|_| uses_key).map(str::to_owned),
            initiate_login_uri: initiate_login_uri.map(str::to_owned),
        })
    }

    /// Reads the metadata document at the URL `client_id` (draft-ietf-oauth-client-id-metadata-document, section 4). Its https
    /// redirect URIs and its `initiate_login_uri` must have the origin of the document: the owner of one host must not get the codes
    /// of another host's apps.
    ///
    /// # Errors
    /// [`MetadataError`]
    pub fn from_document(members: &Map<String, Value>, client_id: &Url) -> Result<Self, MetadataError> {
        use MetadataError::{Metadata, RedirectUri};
        if members.get("client_id").and_then(Value::as_str) != Some(client_id.as_str()) {
            return Err(Metadata("client_id is not the URL of the document."));
        }
        if members.contains_key("client_secret") || members.contains_key("client_secret_expires_at") {
            return Err(Metadata("The document contains a client_secret, which everyone can read."));
        }
        if Members(members).has_secret_key() {
            return Err(Metadata("jwks in the document has a private key, which everyone can read."));
        }
        let metadata = Self::read(members, ClientAuthMethod::None)?;
        if !matches!(metadata.method(), ClientAuthMethod::None | ClientAuthMethod::PrivateKeyJwt) {
            return Err(Metadata("token_endpoint_auth_method must be none or private_key_jwt."));
        }
        let origin = client_id.origin();
        let has_other_origin = |uri: &String| is_https(uri) && Url::parse(uri).is_ok_and(|url| url.origin() != origin);
        if metadata.redirect_uris.iter().chain(&metadata.post_logout_redirect_uris).any(has_other_origin) {
            return Err(RedirectUri("An https redirect URI does not have the origin of the document."));
        }
        if metadata.initiate_login_uri.as_ref().is_some_and(has_other_origin) {
            return Err(Metadata("initiate_login_uri does not have the origin of the document."));
        }
        Ok(metadata)
    }

    /// Reads the metadata of an app that registers itself (RFC 7591, section 3.1). Its `initiate_login_uri` must have the origin
    /// of a redirect URI, so that the account page links only to an origin to which users have returned after a sign-in.
    ///
    /// # Errors
    /// [`MetadataError`]
    pub fn from_registration(members: &Map<String, Value>) -> Result<Self, MetadataError> {
        let metadata = Self::read(members, ClientAuthMethod::SecretBasic)?;
        let origin_of = |uri: &String| Url::parse(uri).ok().map(|url| url.origin());
        if let Some(login_uri) = &metadata.initiate_login_uri {
            // `login_uri` is an https URI. A redirect URI with a scheme of its own has an opaque origin, which equals no other.
            let origin = origin_of(login_uri);
            if !metadata.redirect_uris.iter().any(|redirect_uri| origin_of(redirect_uri) == origin) {
                return Err(MetadataError::Metadata("initiate_login_uri does not have the origin of a redirect URI."));
            }
        }
        Ok(metadata)
    }
}

/// The error as a sentence for the developer of the client.
const fn describe(error: RedirectUriError) -> &'static str {
    match error {
        RedirectUriError::Form => "A redirect URI must be an absolute URI of at most 512 printable ASCII characters.",
        RedirectUriError::ForbiddenPart => "A redirect URI must have no fragment, user name or password.",
        RedirectUriError::Scheme => {
            "A redirect URI must be https, or http on 127.0.0.1, [::1] or localhost, or, without client authentication, have a scheme with a dot."
        }
    }
}

/// Whether a URI is an https URL in the usual form: URL parsers also accept `https:host` and `HTTPS://host`.
fn is_https(uri: &str) -> bool {
    uri.starts_with("https://") && Url::parse(uri).is_ok()
}

#[cfg(test)]
pub(super) mod testing {
    use serde_json::json;

    use super::*;

    pub(in super::super) const URL: &str = "https://app.example.com/client.json";

    /// Reads a valid document with these members changed.
    pub(in super::super) fn document(change: &[(&str, Value)]) -> Result<ClientMetadata, MetadataError> {
        let mut members = json!({
            "client_id": URL,
            "client_name": "An App",
            "redirect_uris": ["https://app.example.com/callback", "http://127.0.0.1/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "none",
        });
        for (name, value) in change {
            members[*name] = value.clone();
        }
        ClientMetadata::from_document(members.as_object().unwrap(), &Url::parse(URL).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{testing::document, *};

    #[test]
    fn valid_document_is_accepted() {
        let metadata = document(&[]).unwrap();
        assert_eq!(metadata.name.as_deref(), Some("An App"));
        assert_eq!(metadata.method(), ClientAuthMethod::None);
        assert_eq!(metadata.grant_types(), [GrantType::AuthorizationCode, GrantType::RefreshToken]);
        // The metadata is stored as JSON.
        let json = serde_json::to_string(&metadata).unwrap();
        assert_eq!(serde_json::from_str::<ClientMetadata>(&json).unwrap(), metadata);
        let minimal = document(&[("token_endpoint_auth_method", Value::Null), ("grant_types", Value::Null)]).unwrap();
        assert_eq!(minimal.method(), ClientAuthMethod::None);
        assert!(!minimal.refreshes);
        let own_scheme = json!(["com.example.app:/callback"]);
        assert!(document(&[("redirect_uris", own_scheme)]).is_ok());
    }

    #[test]
    fn invalid_document_is_refused() {
        for (name, value) in [
            ("client_id", json!("https://other.example/client.json")),
            ("client_id", json!("https://app.example.com/client.json/")),
            ("client_id", Value::Null),
            ("client_secret", json!("secret")),
            ("client_secret_expires_at", json!(0)),
            ("token_endpoint_auth_method", json!("client_secret_basic")),
            ("token_endpoint_auth_method", json!("client_secret_post")),
            ("token_endpoint_auth_method", json!("tls_client_auth")),
            // without jwks and jwks_uri
            ("token_endpoint_auth_method", json!("private_key_jwt")),
            ("token_endpoint_auth_method", json!(1)),
            ("redirect_uris", Value::Null),
            ("redirect_uris", json!([])),
            ("redirect_uris", json!("https://app.example.com/callback")),
            ("redirect_uris", json!([1])),
            ("redirect_uris", json!(["https://evil.example/callback"])),
            ("redirect_uris", json!(["https://app.example.com:8443/callback"])),
            ("redirect_uris", json!(["https://app.example.com/callback", "https://evil.example/"])),
            ("redirect_uris", json!(["http://app.example.com/callback"])),
            ("redirect_uris", json!(["javascript:alert(1)"])),
            ("redirect_uris", json!(["data:text/html,x"])),
            ("redirect_uris", json!(["https://app.example.com/callback#x"])),
            ("redirect_uris", json!(vec!["https://app.example.com/callback"; MAX_ITEMS + 1])),
            ("post_logout_redirect_uris", json!(["https://evil.example/"])),
            ("grant_types", json!(["client_credentials"])),
            ("response_types", json!(["token"])),
            // two spaces between the scopes
            ("scope", json!("a  b")),
            ("jwks", json!("text")),
            ("jwks", json!({ "keys": [{ "kty": "EC", "d": "x" }] })),
            ("jwks", json!({ "keys": [{ "kty": "oct", "k": "x" }] })),
            ("jwks_uri", json!(1)),
            ("initiate_login_uri", json!("http://app.example.com/start")),
            ("initiate_login_uri", json!("http://127.0.0.1/start")),
            ("initiate_login_uri", json!("https://evil.example/start")),
            ("initiate_login_uri", json!("https://app.example.com/start#x")),
            ("initiate_login_uri", json!("javascript:alert(1)")),
            ("initiate_login_uri", json!(["https://app.example.com/start"])),
        ] {
            assert!(document(&[(name, value.clone())]).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn invalid_redirect_uris_of_both_kinds_are_refused_as_redirect_uris() {
        for name in ["redirect_uris", "post_logout_redirect_uris"] {
            for value in [json!("https://app.example.com/"), json!([1]), json!(["javascript:alert(1)"])] {
                let refused = document(&[(name, value.clone())]);
                assert!(matches!(refused, Err(MetadataError::RedirectUri(_))), "{name}: {value}");
            }
        }
    }

    #[test]
    fn keys_are_in_the_document_or_at_an_https_url_of_a_host_name() {
        let method = || ("token_endpoint_auth_method", json!("private_key_jwt"));
        let keys = || ("jwks", json!({ "keys": [] }));
        let uri = |text: &str| ("jwks_uri", json!(text));
        let at_uri = document(&[method(), uri("https://keys.example.net/jwks")]).unwrap();
        assert_eq!(at_uri.jwks, None);
        assert_eq!(at_uri.jwks_uri.as_deref(), Some("https://keys.example.net/jwks"));
        let inline = document(&[method(), keys()]).unwrap();
        assert_eq!(inline.jwks.as_deref(), Some(r#"{"keys":[]}"#));
        assert_eq!(inline.jwks_uri, None);
        // A public client has no use for keys.
        let unused = document(&[uri("https://keys.example.net/jwks")]).unwrap();
        assert_eq!(unused.jwks_uri, None);
        assert!(document(&[method(), keys(), uri("https://keys.example.net/jwks")]).is_err());
        for text in [
            "http://keys.example.net/jwks",
            "https://127.0.0.1/jwks",
            "https://[::1]/jwks",
            // 127.0.0.1 as one number
            "https://2130706433/jwks",
            "https://user@keys.example.net/jwks",
            "https://keys.example.net:443/jwks",
            "https://keys.example.net/../jwks",
            "file:///etc/passwd",
            "",
        ] {
            assert!(document(&[method(), uri(text)]).is_err(), "{text}");
        }
    }

    #[test]
    fn initiate_login_uri_of_registration_must_have_origin_of_a_redirect_uri() {
        let registration = |uri: &str, redirect_uri: &str| {
            let members = json!({ "redirect_uris": [redirect_uri], "initiate_login_uri": uri });
            ClientMetadata::from_registration(members.as_object().unwrap())
        };
        let (start, callback) = ("https://app.example.com/start", "https://app.example.com/callback");
        let metadata = registration(start, callback).unwrap();
        assert_eq!(metadata.initiate_login_uri.as_deref(), Some(start));
        assert_eq!(metadata.method(), ClientAuthMethod::SecretBasic, "the default of a registration");
        for (uri, redirect_uri) in [
            ("https://evil.example/start", callback),
            ("https://app.example.com:8443/start", callback),
            ("http://app.example.com/start", callback),
            (start, "http://127.0.0.1/callback"),
        ] {
            assert!(registration(uri, redirect_uri).is_err(), "{uri} {redirect_uri}");
        }
    }
}
