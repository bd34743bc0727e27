//! OpenID Connect: apps that send their users to Latchkey (docs/openid-connect.md).

mod attacks;
mod authorize;
mod client_keys;
mod clients;
mod code;
mod conformance;
mod conformance_suite;
mod consent;
mod document_cache;
mod dynamic_clients;
mod dynamic_registration;
mod initiate_login;
mod interop;
mod logout;
mod mcp;
mod metadata_fetch;
mod redirects;
mod single_sign_on;
mod through_pages;
mod tokens;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::{
    crypto::authorization_code::{RequestHandle, s256},
    domain::{
        account::Identifier,
        app_client::{AppSettings, ClientKind},
        authentication::{Acr, Authentication, AuthenticationMethod, AuthenticationMethods},
        ids::{AccountId, SessionId},
        session::{OriginTag, SessionOrigin, Transport},
    },
    service::{
        // `authorize` is also a module of these tests
        authorize::{self as authorization_requests, AuthorizeStep},
        browser_session::{self, BrowserSession},
        clients::NewClient,
    },
    store::redis::{CreateOutcome, NewSession, SessionBasis},
};
use reqwest::Method;
use serde_json::Value;
use url::Url;

use crate::harness::{
    client::Answer,
    test_cluster::{Node, ServiceClient, TestCluster},
};

/// The redirect URI of the apps [`web`] and [`public`], and of [`Request::for_client`].
pub const CALLBACK: &str = "https://app.example.com/callback";
/// The PKCE code verifier of [`Request::for_client`]: the example of RFC 7636, appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// An app with a secret, to be registered. It gets the default scopes of an app (`SIGN_IN_SCOPES` in `service/clients`): `openid`,
/// `profile`, `email` and `offline_access`.
pub fn web(name: &str) -> NewClient {
    NewClient {
        name: name.to_owned(),
        kind: ClientKind::Web,
        app: AppSettings {
            redirect_uris: vec![CALLBACK.to_owned()],
            post_logout_redirect_uris: vec!["https://app.example.com/bye".to_owned()],
            ..AppSettings::default()
        },
        ..NewClient::default()
    }
}

/// An app without a secret, to be registered.
pub fn public(name: &str) -> NewClient {
    NewClient { kind: ClientKind::Public, ..web(name) }
}

/// Starts a node, and registers the account `ada` (`ada@example.com`) and the app `shop`. Returns the node and the app.
pub async fn node_with_ada_and_shop(cluster: &TestCluster) -> (Node, ServiceClient) {
    let node = cluster.node().await;
    node.register("ada").await;
    let shop = cluster.service_client_with(web("shop")).await;
    (node, shop)
}

/// A browser, with the cookie and the id of its session if it has signed in.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    pub cookie: Option<String>,
    pub session: Option<(AccountId, SessionId)>,
}

impl Browser {
    /// Stores a browser session of an account as a sign-in by password would. Checks no password.
    pub async fn signed_in(node: &Node, name: &str) -> Self {
        let by_password = None;
        Self::signed_in_with(node, name, by_password).await
    }

    /// Stores a browser session of an account as a sign-in with two factors would. Checks no factor.
    pub async fn signed_in_at_aal2(node: &Node, name: &str) -> Self {
        let methods = AuthenticationMethods::PASSWORD
            .with(AuthenticationMethod::OneTimePassword)
            .with(AuthenticationMethod::MultipleFactors);
        let authentication = Authentication { at: node.state.clock.now(), methods, acr: Acr::Aal2 };
        Self::signed_in_with(node, name, Some(authentication)).await
    }

    /// Stores a browser session of an account. If `authentication` is `None`, the session is that of a sign-in by password at this time.
    async fn signed_in_with(node: &Node, name: &str, authentication: Option<Authentication>) -> Self {
        let identifier = Identifier::parse(name);
        let account = node.state.sql.find_account(&identifier).await.unwrap().expect("the account is registered");
        let settings = &node.state.config.session;
        let id = node.state.entropy.session_id();
        let new_session = NewSession {
            id,
            account: account.id,
            roles: account.roles.clone(),
            additional_claims: Default::default(),
            claims_version: account.claims_version,
            epoch: account.epoch,
            transport: Transport::Browser,
            origin: SessionOrigin { user_agent: Some("Firefox".to_owned()), ..SessionOrigin::default() },
            tag: OriginTag::default(),
            basis: SessionBasis { authentication, ..SessionBasis::default() },
            idle_timeout: settings.idle_timeout,
            absolute_timeout: settings.absolute_timeout,
            max_per_account: settings.max_per_account,
        };
        let created = node.state.redis.sessions.create(new_session, node.state.clock.now()).await.unwrap();
        assert!(matches!(created, CreateOutcome::Created { .. }));
        let token = browser_session::cookie_value(&node.state, account.id, id);
        let cookie = format!("__Host-latchkey-browser={}", token.expose());
        Self { cookie: Some(cookie), session: Some((account.id, id)) }
    }

    /// The name and the value of the cookie.
    pub fn cookie_parts(&self) -> (&str, &str) {
        self.cookie.as_ref().expect("the browser has signed in").split_once('=').unwrap()
    }

    /// The session of the cookie; `None` if it has ended.
    pub async fn live_session(&self, node: &Node) -> Option<BrowserSession> {
        let (_name, token) = self.cookie_parts();
        browser_session::load(&node.state, token, &SessionOrigin::default()).await.unwrap()
    }

    /// Consents to the authorization request of a handle, as the page for consent does.
    pub async fn consent(&self, node: &Node, handle: &str) {
        let handle = RequestHandle::parse(handle).unwrap();
        let session = self.live_session(node).await.expect("the browser's session is live");
        let pending = authorization_requests::pending(&node.state, &handle, Some(&session)).await.unwrap();
        assert_eq!(pending.step, Some(AuthorizeStep::Consent));
        authorization_requests::consent(&node.state, &handle, &session).await.unwrap();
    }

    /// Requests a path of the node.
    pub async fn get(&self, node: &Node, path: &str) -> Answer {
        let request = node.request(Method::GET, path);
        node.send(self.with_cookie(request)).await
    }

    /// Adds the browser's cookie.
    pub fn with_cookie(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    /// Sends an authorization request.
    pub async fn authorize(&self, node: &Node, request: &Request) -> Answer {
        self.get(node, &format!("/oauth2/authorize?{}", request.query())).await
    }

    /// Sends an authorization request that needs no page, and returns the code.
    pub async fn code(&self, node: &Node, request: &Request) -> String {
        let answer = self.authorize(node, request).await.expect(303);
        response_of(&answer).remove("code").unwrap_or_else(|| panic!("{answer:?}"))
    }
}

/// The parameters of an authorization request.
#[derive(Clone, Debug)]
pub struct Request(pub Vec<(String, String)>);

impl Request {
    /// A request of an app for the scope `openid profile email`.
    pub fn for_client(client_id: &str) -> Self {
        let parameters = [
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", CALLBACK),
            ("scope", "openid profile email"),
            ("state", "a state"),
            ("nonce", "a nonce"),
            ("code_challenge", &s256(VERIFIER)),
            ("code_challenge_method", "S256"),
        ];
        Self(parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Sets the value of a parameter, and replaces the parameter if the request has it already.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut parameters = self.without(name).0;
        parameters.push((name.to_owned(), value.to_owned()));
        Self(parameters)
    }

    /// Adds a parameter, even if the request already has one of that name.
    pub fn with_another(&self, name: &str, value: &str) -> Self {
        let mut parameters = self.0.clone();
        parameters.push((name.to_owned(), value.to_owned()));
        Self(parameters)
    }

    /// Removes a parameter.
    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(key, _)| key != name).cloned().collect())
    }

    /// Encodes the request as a URL query.
    pub fn query(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }
}

/// The parameters of the redirect to [`CALLBACK`].
#[track_caller]
pub fn response_of(answer: &Answer) -> std::collections::BTreeMap<String, String> {
    let location = answer.header("location");
    assert!(location.starts_with(CALLBACK), "{answer:?}");
    Url::parse(location).unwrap().query_pairs().into_owned().collect()
}

/// The path to which an answer redirects the browser, and the handle of the waiting authorization request. If the URL has further
/// parameters, they follow the handle.
#[track_caller]
pub fn page_and_handle(node: &Node, answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 303, "{answer:?}");
    let location = answer.header("location").strip_prefix(&node.state.config.issuer).unwrap();
    let (path, handle) = location.split_once("?request=").expect(location);
    assert!(handle.starts_with("lk_ar_"), "{location}");
    (path.to_owned(), handle.to_owned())
}

/// Exchanges a code for tokens, with [`CALLBACK`] and [`VERIFIER`].
pub async fn exchange(node: &Node, client: &ServiceClient, code: &str) -> Answer {
    exchange_with(node, client, code, CALLBACK, VERIFIER).await
}

/// Exchanges a code for tokens, with this redirect URI and verifier.
pub async fn exchange_with(
    node: &Node,
    client: &ServiceClient,
    code: &str,
    redirect_uri: &str,
    verifier: &str,
) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", redirect_uri),
        ("code_verifier", verifier),
    ];
    token(node, client, &form).await
}

/// Refreshes the tokens of an app.
pub async fn refresh(node: &Node, client: &ServiceClient, refresh_token: &str) -> Answer {
    token(node, client, &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
}

/// Calls the token endpoint as a client that authenticates by HTTP Basic. A public client has an empty secret.
pub async fn token(node: &Node, client: &ServiceClient, form: &[(&str, &str)]) -> Answer {
    let request = node.request(Method::POST, "/oauth2/token").form(form);
    node.send(request.basic_auth(&client.id, Some(&client.secret))).await
}

/// Signs the browser's user in to an app with a space-separated scope, and returns the response of the token endpoint.
pub async fn sign_in(node: &Node, browser: &Browser, client: &ServiceClient, scope: &str) -> Value {
    let code = browser.code(node, &Request::for_client(&client.id).with("scope", scope)).await;
    exchange(node, client, &code).await.expect(200).json()
}

/// The claims of a JWT, unverified.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The value of a text field.
#[track_caller]
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// The status and `error` of an OAuth error response.
#[track_caller]
pub fn error_of(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.text_of("error"))
}
