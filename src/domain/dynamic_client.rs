//! Clients that no operator has registered: apps with a metadata document at the URL that is their `client_id`
//! (draft-ietf-oauth-client-id-metadata-document), and apps that have registered themselves (RFC 7591).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::{Host, Url};

use super::{
    app_client::{AppSettings, ClientAuthMethod, ClientKind, GrantType, RedirectUriError, check_redirect_uri},
    client::{Client, ClientId, ClientSecretHash, SpaceSeparated},
    clock::Timestamp,
    text::{is_deceptive, mixes_lookalike_scripts},
};

/// The longest URL of a metadata document, in bytes. Access tokens contain it.
pub const MAX_URL_BYTES: usize = 512;
/// The maximum number of redirect URIs of one app.
const MAX_REDIRECT_URIS: usize = 16;
/// The longest name that is shown, in characters.
const MAX_NAME: usize = 64;
/// The longest other text of the metadata, in bytes.
const MAX_TEXT: usize = 1024;

/// Where the metadata of a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynamicSource {
    /// The document at the URL that is the `client_id`.
    Document,
    /// The `client_id` itself, which this service has issued.
    Registration,
}

impl DynamicSource {
    /// The prefix of the [references](DynamicClient::reference) to clients of this source. No operator can register a client with
    /// it.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Document => "url.",
            Self::Registration => "dcr.",
        }
    }
}

/// The properties that only dynamic clients have: those that no operator has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicClient {
    /// The `client_id` that the client sends, and that tokens and lists show: up to 2 kB. The store and the sessions hold the client's
    /// [`Client::id`] instead, a digest of it.
    pub client_id: String,
    /// Where the metadata comes from.
    pub source: DynamicSource,
    /// The metadata, as far as they are used.
    pub metadata: ClientMetadata,
}

impl DynamicClient {
    /// Whether a client's id is a reference to a dynamic client: a prefix, and a digest in 32 characters of base64url.
    pub fn is_reference(id: &str) -> bool {
        [DynamicSource::Document, DynamicSource::Registration]
            .into_iter()
            .any(|source| id.strip_prefix(source.prefix()).is_some_and(|digest| digest.len() == 32))
    }

    /// The reference with this digest.
    ///
    /// # Panics
    /// If the digest has other characters than those of base64url.
    pub fn reference(source: DynamicSource, digest: &str) -> ClientId {
        ClientId::parse(&format!("{}{digest}", source.prefix())).expect("a prefix and base64url are a client id")
    }

    /// The host that serves the metadata document and answers for the app. None for an app that has registered itself.
    pub fn host(&self) -> Option<String> {
        match self.source {
            DynamicSource::Document => Url::parse(&self.client_id).ok()?.host_str().map(str::to_owned),
            DynamicSource::Registration => None,
        }
    }
}

/// Why a text can't be the URL of a metadata document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentUrlError {
    /// The URL is too long.
    #[error("is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
    /// The URL is not an https URL in its normal form.
    #[error("is not an https URL in normal form: without dot segments, user name and fragment")]
    Form,
    /// The host is an address or ends with a dot.
    #[error("has an IP address in place of a host name")]
    Host,
}

/// Checks the URL of a metadata document (section 3 of the draft). Only the normal form of a URL is accepted, so that no two parsers can
/// disagree about it: this excludes dot segments, upper case and default ports, decimal and hexadecimal addresses, and control characters.
///
/// # Errors
/// [`DocumentUrlError`]
pub fn check_document_url(text: &str) -> Result<Url, DocumentUrlError> {
    if text.len() > MAX_URL_BYTES {
        return Err(DocumentUrlError::TooLong);
    }
    let url = Url::parse(text).map_err(|_| DocumentUrlError::Form)?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    if url.scheme() != "https" || url.as_str() != text || has_user || url.fragment().is_some() {
        return Err(DocumentUrlError::Form);
    }
    match url.host() {
        Some(Host::Domain(name)) if !name.ends_with('.') => Ok(url),
        _ => Err(DocumentUrlError::Host),
    }
}

/// Why metadata are refused, for the developer of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The redirect URIs (`invalid_redirect_uri`).
    #[error("{0}")]
    RedirectUri(&'static str),
    /// Something else (`invalid_client_metadata`).
    #[error("{0}")]
    Metadata(&'static str),
}

/// Client metadata (RFC 7591, section 2), as far as they are used. The stored form is JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientMetadata {
    /// `client_name`, if it can be shown.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `redirect_uris`
    #[serde(rename = "r")]
    pub redirect_uris: Vec<String>,
    /// `post_logout_redirect_uris`
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    pub post_logout_redirect_uris: Vec<String>,
    /// Whether `grant_types` contains `refresh_token`.
    #[serde(rename = "o", default)]
    pub refreshes: bool,
    /// `token_endpoint_auth_method`
    #[serde(rename = "a")]
    pub auth_method: String,
    /// `scope`; none for all scopes that dynamic clients may request.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// `client_uri`
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<String>,
    /// `jwks`
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
}

/// The members of a metadata object, with errors for the developer of the client.
struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    fn text(&self, name: &str, wrong: &'static str) -> Result<Option<&'a str>, MetadataError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(text)),
            Some(_) => Err(MetadataError::Metadata(wrong)),
        }
    }

    fn list(&self, name: &str, wrong: MetadataError) -> Result<Option<Vec<&'a str>>, MetadataError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) if items.len() <= MAX_REDIRECT_URIS => {
                items.iter().map(|item| item.as_str().ok_or(wrong)).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(wrong),
        }
    }
}

impl ClientMetadata {
    /// Reads metadata. Unknown members are ignored (RFC 7591, section 2). `default_method` is the authentication method of a client that
    /// names none.
    ///
    /// # Errors
    /// [`MetadataError`]
    pub fn read(members: &Map<String, Value>, default_method: ClientAuthMethod) -> Result<Self, MetadataError> {
        use MetadataError::{Metadata, RedirectUri};
        let members = Members(members);
        let auth_method = members.text("token_endpoint_auth_method", "token_endpoint_auth_method must be a text.")?;
        let auth_method = match auth_method.map(ClientAuthMethod::parse) {
            None => default_method,
            Some(Some(method)) => method,
            Some(None) => return Err(Metadata("The token_endpoint_auth_method is not supported.")),
        };
        let wrong = RedirectUri("redirect_uris must be a list of at most 16 URIs.");
        let redirect_uris = members.list("redirect_uris", wrong)?.unwrap_or_default();
        if redirect_uris.is_empty() {
            return Err(RedirectUri("redirect_uris is missing."));
        }
        let wrong = Metadata("post_logout_redirect_uris must be a list of at most 16 URIs.");
        let post_logout_redirect_uris = members.list("post_logout_redirect_uris", wrong)?.unwrap_or_default();
        let kind = kind_of(auth_method);
        for uri in redirect_uris.iter().chain(&post_logout_redirect_uris) {
            check_redirect_uri(kind, uri).map_err(|error| RedirectUri(describe(error)))?;
        }
        let wrong = Metadata("grant_types must be a list of at most 16 texts.");
        let grant_types = members.list("grant_types", wrong)?;
        let grant_types = grant_types.unwrap_or_else(|| vec![GrantType::AuthorizationCode.as_str()]);
        if !grant_types.contains(&GrantType::AuthorizationCode.as_str()) {
            return Err(Metadata("grant_types must contain authorization_code."));
        }
        let wrong = Metadata("response_types must be a list of at most 16 texts.");
        if members.list("response_types", wrong)?.is_some_and(|types| !types.contains(&"code")) {
            return Err(Metadata("response_types must contain code."));
        }
        let scope =
            members.text("scope", "scope must be a text of at most 1024 bytes.")?.filter(|text| !text.is_empty());
        if scope.is_some_and(|scope| SpaceSeparated::from_spaced(scope).is_err()) {
            return Err(Metadata("scope must be scopes with single spaces between them."));
        }
        let jwks = match members.0.get("jwks") {
            None | Some(Value::Null) => None,
            Some(set @ Value::Object(_)) => Some(set.to_string()),
            Some(_) => return Err(Metadata("jwks must be a JWK Set.")),
        };
        if auth_method == ClientAuthMethod::PrivateKeyJwt && jwks.is_none() {
            return Err(Metadata("private_key_jwt requires jwks; jwks_uri is not supported."));
        }
        let name = members.text("client_name", "client_name must be a text of at most 1024 bytes.")?;
        let client_uri = members.text("client_uri", "client_uri must be a text of at most 1024 bytes.")?;
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        Ok(Self {
            name: name.and_then(presentable),
            redirect_uris: owned(redirect_uris),
            post_logout_redirect_uris: owned(post_logout_redirect_uris),
            refreshes: grant_types.contains(&GrantType::RefreshToken.as_str()),
            auth_method: auth_method.as_str().to_owned(),
            scope: scope.map(str::to_owned),
            client_uri: client_uri.filter(|uri| is_https(uri)).map(str::to_owned),
            jwks: jwks.filter(|_| auth_method == ClientAuthMethod::PrivateKeyJwt),
        })
    }

    /// Reads a metadata document, the one at the URL `client_id` (section 4 of the draft). Its https redirect URIs must have the origin of the
    /// document: the owner of one host must not get the codes of apps of other hosts.
    ///
    /// # Errors
    /// [`MetadataError`]
    pub fn of_document(members: &Map<String, Value>, client_id: &Url) -> Result<Self, MetadataError> {
        use MetadataError::{Metadata, RedirectUri};
        if members.get("client_id").and_then(Value::as_str) != Some(client_id.as_str()) {
            return Err(Metadata("client_id is not the URL of the document."));
        }
        if members.contains_key("client_secret") || members.contains_key("client_secret_expires_at") {
            return Err(Metadata("The document contains a client_secret, which everyone can read."));
        }
        let metadata = Self::read(members, ClientAuthMethod::None)?;
        if !matches!(metadata.method(), ClientAuthMethod::None | ClientAuthMethod::PrivateKeyJwt) {
            return Err(Metadata("token_endpoint_auth_method must be none or private_key_jwt."));
        }
        let origin = client_id.origin();
        let is_elsewhere = |uri: &String| is_https(uri) && Url::parse(uri).is_ok_and(|url| url.origin() != origin);
        if metadata.redirect_uris.iter().chain(&metadata.post_logout_redirect_uris).any(is_elsewhere) {
            return Err(RedirectUri("An https redirect URI has another origin than the document."));
        }
        Ok(metadata)
    }

    /// The authentication method.
    pub fn method(&self) -> ClientAuthMethod {
        ClientAuthMethod::parse(&self.auth_method).unwrap_or(ClientAuthMethod::PrivateKeyJwt)
    }

    /// The grant types.
    pub fn grant_types(&self) -> Vec<GrantType> {
        let refresh = self.refreshes.then_some(GrantType::RefreshToken);
        std::iter::once(GrantType::AuthorizationCode).chain(refresh).collect()
    }

    /// The client with these metadata. It gets those of its scopes that are in `scopes`, may request tokens for `resources`, and its users always consent.
    pub fn into_client(
        self,
        id: ClientId,
        (client_id, source): (String, DynamicSource),
        (scopes, resources): (&SpaceSeparated, &SpaceSeparated),
        secret: ClientSecretHash,
        created_at: Timestamp,
    ) -> Client {
        let requested = self.scope.as_deref().and_then(|scope| SpaceSeparated::from_spaced(scope).ok());
        let granted = scopes.words().iter().filter(|scope| requested.as_ref().is_none_or(|own| own.contains(scope)));
        let method = self.method();
        let jwks = self.jwks.clone();
        let dynamic = DynamicClient { client_id, source, metadata: self };
        let metadata = &dynamic.metadata;
        let by_host = || dynamic.host().or_else(|| host_of(metadata.redirect_uris.first()?));
        Client {
            id,
            kind: kind_of(method),
            app: AppSettings {
                name: metadata.name.clone().or_else(by_host),
                redirect_uris: metadata.redirect_uris.clone(),
                post_logout_redirect_uris: metadata.post_logout_redirect_uris.clone(),
                grant_types: metadata.grant_types(),
                auth_method: Some(method),
                asks_consent: true,
                client_uri: metadata.client_uri.clone(),
                ..AppSettings::default()
            },
            scopes: SpaceSeparated::parse(granted).unwrap_or_default(),
            audiences: resources.clone(),
            jwks,
            secret,
            former_secret: None,
            created_at,
            disabled_at: None,
            dynamic: Some(Box::new(dynamic)),
        }
    }
}

/// The kind of a client that authenticates by this method.
fn kind_of(method: ClientAuthMethod) -> ClientKind {
    if method == ClientAuthMethod::None { ClientKind::Public } else { ClientKind::Web }
}

const fn describe(error: RedirectUriError) -> &'static str {
    match error {
        RedirectUriError::Form => "A redirect URI must be an absolute URI of at most 512 printable ASCII characters.",
        RedirectUriError::Fragment => "A redirect URI must have no fragment and no user name.",
        RedirectUriError::Scheme => {
            "A redirect URI must be https, or http on 127.0.0.1, [::1] or localhost, or, without client authentication, have a scheme with a dot."
        }
    }
}

/// The host of a URI, or its scheme, which names an app on the user's device.
fn host_of(uri: &str) -> Option<String> {
    let url = Url::parse(uri).ok()?;
    Some(url.host_str().map_or_else(|| url.scheme().to_owned(), str::to_owned))
}

fn is_https(uri: &str) -> bool {
    uri.starts_with("https://") && Url::parse(uri).is_ok_and(|url| url.scheme() == "https")
}

/// A name that can be shown to users: one line without invisible or reordering characters, at most 64 characters. None for a name that
/// imitates others by mixing scripts, or has nothing to show.
fn presentable(name: &str) -> Option<String> {
    if mixes_lookalike_scripts(name) {
        return None;
    }
    let visible: String =
        name.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !is_deceptive(*c)).collect();
    let words: Vec<&str> = visible.split(' ').filter(|word| !word.is_empty()).collect();
    let name: String = words.join(" ").chars().take(MAX_NAME).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const URL: &str = "https://app.example.com/client.json";

    fn document(change: &[(&str, Value)]) -> Result<ClientMetadata, MetadataError> {
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
        ClientMetadata::of_document(members.as_object().unwrap(), &Url::parse(URL).unwrap())
    }

    #[test]
    fn document_url_has_one_form_only() {
        for text in [URL, "https://app.example.com/", "https://app.example.com:8443/c?v=1", "https://localhost:1/c"] {
            assert_eq!(check_document_url(text).map(String::from), Ok(text.to_owned()));
        }
        for text in [
            "http://app.example.com/c",
            "https://app.example.com",
            "https://app.example.com/a/../c",
            "https://app.example.com/a/./c",
            "https://app.example.com/%2e%2e/c",
            "https://app.example.com/c#",
            "https://app.example.com/c#x",
            "https://user@app.example.com/c",
            "https://user:pass@app.example.com/c",
            "https://@app.example.com/c",
            "https://app.example.com:443/c",
            "https://APP.example.com/c",
            "HTTPS://app.example.com/c",
            "https:app.example.com/c",
            "https:///app.example.com/c",
            "https:\\\\app.example.com\\c",
            "https://app.example.com\\@evil.example/c",
            "https://app.example.com/a b",
            "https://app.example.com/a\tb",
            "https://bücher.example/c",
            "https://2130706433/c",
            "https://0x7f.1/c",
            "https://0177.0.0.1/c",
            "https://127.1/c",
            " https://app.example.com/c",
            "javascript:alert(1)",
            "",
        ] {
            assert_eq!(check_document_url(text), Err(DocumentUrlError::Form), "{text}");
        }
        for text in
            ["https://127.0.0.1/c", "https://[::1]/c", "https://[::ffff:7f00:1]/c", "https://app.example.com./c"]
        {
            assert_eq!(check_document_url(text), Err(DocumentUrlError::Host), "{text}");
        }
        let long = format!("https://app.example.com/{}", "x".repeat(MAX_URL_BYTES));
        assert_eq!(check_document_url(&long), Err(DocumentUrlError::TooLong));
    }

    #[test]
    fn document_of_an_honest_app_is_accepted() {
        let metadata = document(&[]).unwrap();
        assert_eq!(metadata.name.as_deref(), Some("An App"));
        assert_eq!(metadata.method(), ClientAuthMethod::None);
        assert_eq!(metadata.grant_types(), [GrantType::AuthorizationCode, GrantType::RefreshToken]);
        let json = serde_json::to_string(&metadata).unwrap();
        assert_eq!(serde_json::from_str::<ClientMetadata>(&json).unwrap(), metadata);
        // A document without a method is for a public client; without grant types, the client does not refresh.
        let least = document(&[("token_endpoint_auth_method", Value::Null), ("grant_types", Value::Null)]).unwrap();
        assert_eq!((least.method(), least.refreshes), (ClientAuthMethod::None, false));
        let own_scheme = json!(["com.example.app:/callback"]);
        assert!(document(&[("redirect_uris", own_scheme)]).is_ok());
    }

    #[test]
    fn document_that_lies_is_refused() {
        for change in [
            ("client_id", json!("https://other.example/client.json")),
            ("client_id", json!("https://app.example.com/client.json/")),
            ("client_id", Value::Null),
            ("client_secret", json!("secret")),
            ("client_secret_expires_at", json!(0)),
            ("token_endpoint_auth_method", json!("client_secret_basic")),
            ("token_endpoint_auth_method", json!("client_secret_post")),
            ("token_endpoint_auth_method", json!("tls_client_auth")),
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
            ("redirect_uris", json!(vec!["https://app.example.com/callback"; 17])),
            ("post_logout_redirect_uris", json!(["https://evil.example/"])),
            ("grant_types", json!(["client_credentials"])),
            ("response_types", json!(["token"])),
            ("scope", json!("a  b")),
            ("jwks", json!("text")),
        ] {
            assert!(document(std::slice::from_ref(&change)).is_err(), "{change:?}");
        }
    }

    #[test]
    fn name_that_deceives_is_not_shown() {
        assert_eq!(presentable("  A\n nice\u{202e} App\u{200b} "), Some("A nice App".to_owned()));
        assert_eq!(presentable("\u{200b}\u{202e} "), None);
        assert_eq!(presentable("Сlaude"), None, "a Cyrillic letter");
        assert_eq!(presentable(&"x".repeat(200)).map(|name| name.len()), Some(MAX_NAME));
    }

    #[test]
    fn client_gets_no_more_than_dynamic_clients_may_have() {
        let allowed = SpaceSeparated::parse(["openid", "email", "mcp:read"]).unwrap();
        let resources = SpaceSeparated::parse(["https://mcp.example.com/mcp"]).unwrap();
        let client = |scope: Value| {
            let metadata = document(&[("scope", scope), ("client_name", Value::Null)]).unwrap();
            metadata.into_client(
                DynamicClient::reference(DynamicSource::Document, &"a".repeat(32)),
                (URL.to_owned(), DynamicSource::Document),
                (&allowed, &resources),
                ClientSecretHash::new([0; 32]),
                Timestamp::from_millis(0),
            )
        };
        let greedy = client(json!("openid admin"));
        assert_eq!(greedy.scopes.to_string(), "openid");
        assert_eq!(client(Value::Null).scopes, allowed);
        assert!(greedy.app.asks_consent);
        assert_eq!((greedy.client_id(), greedy.display_name()), (URL, "app.example.com"));
        assert!(DynamicClient::is_reference(greedy.id.as_str()) && !DynamicClient::is_reference("grafana"));
    }
}
