//! Settings of clients, above all of those that sign users in (RFC 6749, section 2; RFC 8252): kind, redirect URIs, grant types and
//! authentication.

use url::Url;

/// The kind of a client (RFC 6749, section 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientKind {
    /// An app without a secret, such as a single-page, mobile or command-line app.
    Public,
    /// A web app whose server keeps a secret.
    Web,
    /// A service that introspects tokens and has tokens of its own. It does not sign users in.
    #[default]
    Service,
}

impl ClientKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Public, Self::Web, Self::Service];

    /// The stable text in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Web => "web",
            Self::Service => "service",
        }
    }

    /// Parses the text of [`ClientKind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How a client authenticates (OpenID Connect Core 1.0, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthMethod {
    /// The client does not authenticate: it is public.
    None,
    /// A secret by HTTP Basic.
    SecretBasic,
    /// A secret in the form.
    SecretPost,
    /// A JWT signed with the client's key (RFC 7523).
    PrivateKeyJwt,
}

impl ClientAuthMethod {
    /// All methods.
    pub const ALL: [Self; 4] = [Self::None, Self::SecretBasic, Self::SecretPost, Self::PrivateKeyJwt];

    /// The name in metadata (RFC 7591, section 2).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SecretBasic => "client_secret_basic",
            Self::SecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// Parses the text of [`ClientAuthMethod::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == text)
    }
}

/// A grant that a client may exchange for tokens (RFC 6749, section 1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantType {
    /// An authorization code.
    AuthorizationCode,
    /// A refresh token.
    RefreshToken,
    /// The client's own credentials.
    ClientCredentials,
}

impl GrantType {
    /// All grant types.
    pub const ALL: [Self; 3] = [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials];

    /// The value of `grant_type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }

    /// Parses the text of [`GrantType::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.as_str() == text)
    }

    /// The grant types that a client of this kind has by default.
    pub fn of_kind(kind: ClientKind) -> Vec<Self> {
        match kind {
            ClientKind::Public | ClientKind::Web => vec![Self::AuthorizationCode, Self::RefreshToken],
            ClientKind::Service => vec![Self::ClientCredentials],
        }
    }
}

/// How a client signs users in. Empty for a service, except for its grant types and authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppSettings {
    /// The name that pages and lists show. Without a name, they show the `client_id`.
    pub name: Option<String>,
    /// Where authorization responses may go.
    pub redirect_uris: Vec<String>,
    /// Where a browser may go after sign-out.
    pub post_logout_redirect_uris: Vec<String>,
    /// The types of grants that the client may exchange for tokens.
    pub grant_types: Vec<GrantType>,
    /// The only authentication method that is accepted. Without a value, every method is accepted for which the client has credentials.
    pub auth_method: Option<ClientAuthMethod>,
    /// Whether users must consent before their first sign-in to the app.
    pub asks_consent: bool,
    /// Whether requests may omit PKCE, for a program that does not support it. Applies only to clients that authenticate, and only
    /// to requests with a `nonce`. The app must check the `nonce` to detect an injected code (RFC 9700, sections 2.1.1 and
    /// 4.5.3.2).
    pub without_pkce: bool,
    /// A logo for the pages.
    pub logo_uri: Option<String>,
    /// The app's home page.
    pub client_uri: Option<String>,
    /// The app's privacy policy.
    pub policy_uri: Option<String>,
    /// The app's terms of service.
    pub tos_uri: Option<String>,
    /// The address at which other sites can make the app start a sign-in (OpenID Connect Core 1.0, section 4).
    pub initiate_login_uri: Option<String>,
}

impl AppSettings {
    /// Whether responses may go to `uri` (RFC 9700, section 4.1.3): it is one of the registered URIs, character for character. A
    /// loopback address may have any port (RFC 8252, section 7.3).
    pub fn allows_redirect(&self, uri: &str) -> bool {
        matches_any(&self.redirect_uris, uri)
    }

    /// The URL that makes the app start a sign-in at `issuer` (OpenID Connect Core 1.0, section 4) and then open its home page.
    /// `None` if the app has no valid `initiate_login_uri`.
    pub fn initiate_login_url(&self, issuer: &str, login_hint: Option<&str>) -> Option<String> {
        let mut url = Url::parse(self.initiate_login_uri.as_deref()?).ok()?;
        let mut query = url.query_pairs_mut();
        query.append_pair("iss", issuer);
        if let Some(login_hint) = login_hint {
            query.append_pair("login_hint", login_hint);
        }
        if let Some(home) = &self.client_uri {
            query.append_pair("target_link_uri", home);
        }
        drop(query); // It borrows `url`.
        Some(url.into())
    }

    /// Whether a browser may go to `uri` after sign-out.
    pub fn allows_post_logout_redirect(&self, uri: &str) -> bool {
        matches_any(&self.post_logout_redirect_uris, uri)
    }
}

/// The longest redirect URI, in bytes.
const MAX_REDIRECT_URI_BYTES: usize = 512;

/// Why a text can't be registered as a redirect URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectUriError {
    /// The text is not an absolute URI, is longer than 512 bytes, or has characters that are not printable ASCII.
    #[error("must be an absolute URI of at most 512 printable ASCII characters")]
    Form,
    /// The URI has a fragment (RFC 6749, section 3.1.2), a user name or a password.
    #[error("must have no fragment, user name or password")]
    ForbiddenPart,
    /// Responses to a URI with this scheme could be intercepted, or the scheme could run code.
    #[error(
        "must be https, or http on 127.0.0.1, [::1] or localhost, or, for public clients, a scheme with a dot such as com.example.app"
    )]
    Scheme,
}

/// Checks a redirect URI for registration.
///
/// # Errors
/// [`RedirectUriError`]
pub fn check_redirect_uri(kind: ClientKind, uri: &str) -> Result<(), RedirectUriError> {
    if uri.len() > MAX_REDIRECT_URI_BYTES || !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RedirectUriError::Form);
    }
    let url = Url::parse(uri).map_err(|_| RedirectUriError::Form)?;
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(RedirectUriError::ForbiddenPart);
    }
    let allowed = match url.scheme() {
        "https" => url.host().is_some(),
        "http" => split_loopback(uri).is_some(),
        scheme => kind == ClientKind::Public && scheme.contains('.'),
    };
    if allowed { Ok(()) } else { Err(RedirectUriError::Scheme) }
}

/// Checks a URI of an app, such as its home page, to which pages link: https, or http on a loopback address.
///
/// # Errors
/// [`RedirectUriError`]
pub fn check_link_uri(uri: &str) -> Result<(), RedirectUriError> {
    check_redirect_uri(ClientKind::Web, uri)
}

/// Whether only one web server can receive a response that is sent to `uri`. In contrast, any program on the device may listen on
/// a loopback address or claim a scheme of its own (RFC 8252, section 8.6).
pub fn is_owned_by_a_server(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| url.scheme() == "https")
}

/// Whether `uri` is one of the registered URIs, or differs from one only in the port of a loopback address.
fn matches_any(registered: &[String], uri: &str) -> bool {
    let loopback = split_loopback(uri);
    registered.iter().any(|known| known == uri || (loopback.is_some() && split_loopback(known) == loopback))
}

/// Splits an http URI on a loopback address into its host and the text after the port. Returns `None` for any other URI. Works
/// on the text of the URI, so that no two parsers can disagree.
fn split_loopback(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let host = ["127.0.0.1", "[::1]", "localhost"].into_iter().find(|host| rest.starts_with(*host))?;
    let after_host = &rest[host.len()..];
    let after_port = match after_host.strip_prefix(':') {
        None => after_host,
        Some(port_and_rest) => {
            let digits = port_and_rest.bytes().take_while(u8::is_ascii_digit).count();
            // A port is a number below 65536.
            port_and_rest[..digits].parse::<u16>().ok()?;
            &port_and_rest[digits..]
        }
    };
    // Any other character would continue the host, as in `http://127.0.0.1.evil.example`.
    let authority_ends = after_port.is_empty() || after_port.starts_with(['/', '?']);
    authority_ends.then_some((host, after_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_uri_matches_exactly_but_for_the_port_of_a_loopback_address() {
        let app = |uri: &str| AppSettings { redirect_uris: vec![uri.to_owned()], ..AppSettings::default() };
        let web = app("https://app.example.com/cb");
        assert!(web.allows_redirect("https://app.example.com/cb"));
        for other in [
            "https://app.example.com/cb/",
            "https://app.example.com/cb?x=1",
            "https://app.example.com/cb#x",
            "https://app.example.com:443/cb",
            "https://APP.example.com/cb",
            "https://app.example.com/other/../cb",
            "https://app.example.com/%63b",
            "https://app.example.com.evil.example/cb",
            "https://app.example.com@evil.example/cb",
            "https://app.example.com:8443/cb",
            "http://app.example.com/cb",
            "//app.example.com/cb",
            "",
        ] {
            assert!(!web.allows_redirect(other), "{other}");
        }
        let native = app("http://127.0.0.1/cb");
        for uri in ["http://127.0.0.1/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb"] {
            assert!(native.allows_redirect(uri), "{uri}");
        }
        for uri in [
            "http://127.0.0.1:65536/cb",
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:80@evil.example/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://127.0.0.1:80/other",
            "http://localhost:80/cb",
            "http://[::1]:80/cb",
            "https://127.0.0.1:80/cb",
        ] {
            assert!(!native.allows_redirect(uri), "{uri}");
        }
    }

    #[test]
    fn initiate_login_url_keeps_configured_query_and_escapes_added_parameters() {
        let mut app = AppSettings::default();
        assert_eq!(app.initiate_login_url("https://auth.example.com", None), None);
        app.initiate_login_uri = Some("https://app.example.com/start?tenant=1".to_owned());
        let url =
            |app: &AppSettings, login_hint| app.initiate_login_url("https://auth.example.com", login_hint).unwrap();
        assert_eq!(url(&app, None), "https://app.example.com/start?tenant=1&iss=https%3A%2F%2Fauth.example.com");
        app.client_uri = Some("https://app.example.com/?a=b&c".to_owned());
        assert_eq!(
            url(&app, Some("ada+x@example.com")),
            "https://app.example.com/start?tenant=1&iss=https%3A%2F%2Fauth.example.com&login_hint=ada%2Bx%40example.com\
             &target_link_uri=https%3A%2F%2Fapp.example.com%2F%3Fa%3Db%26c"
        );
    }

    #[test]
    fn https_uri_in_any_spelling_is_owned_by_a_server() {
        for uri in ["https://app.example.com/cb", "HTTPS://app.example.com/cb", "https:app.example.com/cb"] {
            assert!(is_owned_by_a_server(uri), "{uri}");
        }
        for uri in ["http://127.0.0.1/cb", "http://localhost:3000/cb", "com.example.app:/cb", "/cb"] {
            assert!(!is_owned_by_a_server(uri), "{uri}");
        }
    }

    #[test]
    fn redirect_uri_that_others_could_receive_is_not_registered() {
        use ClientKind::{Public, Web};
        for uri in
            ["https://app.example.com/cb", "http://localhost:3000/cb", "http://[::1]/cb", "https://a.example/?x=1"]
        {
            assert_eq!(check_redirect_uri(Web, uri), Ok(()), "{uri}");
        }
        // Only public clients may have a scheme of their own.
        assert_eq!(check_redirect_uri(Public, "com.example.app:/cb"), Ok(()));
        for (uri, error) in [
            ("com.example.app:/cb", RedirectUriError::Scheme),
            ("http://app.example.com/cb", RedirectUriError::Scheme),
            ("http://localhost.evil.example/cb", RedirectUriError::Scheme),
            ("javascript:alert(1)", RedirectUriError::Scheme),
            ("data:text/html,x", RedirectUriError::Scheme),
            ("https://app.example.com/cb#x", RedirectUriError::ForbiddenPart),
            ("https://user@app.example.com/cb", RedirectUriError::ForbiddenPart),
            ("/cb", RedirectUriError::Form),
            ("https://app.example.com/a b", RedirectUriError::Form),
            ("", RedirectUriError::Form),
        ] {
            assert_eq!(check_redirect_uri(Web, uri), Err(error), "{uri}");
        }
        assert_eq!(check_redirect_uri(Public, "javascript:alert(1)"), Err(RedirectUriError::Scheme));
    }
}
