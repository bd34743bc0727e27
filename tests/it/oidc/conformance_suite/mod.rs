//! The modules of the OpenID Foundation's conformance suite, version of August 2026. Each module of the profiles Basic, Form Post, Config,
//! RP-Initiated Logout and 3rd Party-Init OP has a test with its name; docs/conformance.md lists them. Basic and Form Post have the same
//! modules with different response modes, so both call the functions of `walk.rs`.

mod basic;
mod config;
mod form_post;
mod logout;
mod third_party_login;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use super::{Browser, CALLBACK, Request, exchange, response_of, web};
use crate::harness::{
    client::Answer,
    test_cluster::{Node, ServiceClient, TestCluster},
};

/// The response mode in which the app receives authorization responses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Query,
    FormPost,
}

/// A provider with the account ada, and the suite's app.
pub struct Suite {
    pub cluster: TestCluster,
    pub node: Node,
    pub app: ServiceClient,
    mode: Mode,
}

impl Suite {
    pub async fn start(mode: Mode) -> Self {
        let cluster = TestCluster::new();
        let node = cluster.node().await;
        node.register("ada").await;
        let app = cluster.service_client_with(web("suite")).await;
        Self { cluster, node, app, mode }
    }

    pub async fn finish(self) {
        self.node.stop().await;
    }

    pub async fn browser(&self) -> Browser {
        Browser::signed_in(&self.node, "ada").await
    }

    /// An authorization request for the scope `openid`.
    pub fn request(&self) -> Request {
        let request = Request::for_client(&self.app.id).with("scope", "openid");
        match self.mode {
            Mode::Query => request,
            Mode::FormPost => request.with("response_mode", "form_post"),
        }
    }

    /// The parameters of an authorization response, as the app receives them.
    #[track_caller]
    pub fn received(&self, answer: &Answer) -> BTreeMap<String, String> {
        if self.mode == Mode::Query {
            return response_of(answer);
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text.contains("method=\"post\""), "{answer:?}");
        assert!(answer.text.contains(&format!("action=\"{CALLBACK}\"")), "{answer:?}");
        let mut parameters = BTreeMap::new();
        for field in answer.text.split("type=\"hidden\" name=\"").skip(1) {
            let (name, rest) = field.split_once("\" value=\"").unwrap();
            let (value, _) = rest.split_once('"').unwrap();
            parameters.insert(name.to_owned(), unescape(value));
        }
        parameters
    }

    /// Sends an authorization request that needs no page, and returns the parameters of the response.
    pub async fn authorize(&self, browser: &Browser, request: &Request) -> BTreeMap<String, String> {
        self.received(&browser.authorize(&self.node, request).await)
    }

    /// Exchanges the code of an authorization response for tokens.
    pub async fn tokens_of(&self, response: &BTreeMap<String, String>) -> Value {
        let code = response.get("code").unwrap_or_else(|| panic!("{response:?}"));
        exchange(&self.node, &self.app, code).await.expect(200).json()
    }

    /// Sends an authorization request that needs no page, and exchanges its code for tokens.
    pub async fn tokens(&self, browser: &Browser, request: &Request) -> Value {
        self.tokens_of(&self.authorize(browser, request).await).await
    }
}

/// Decodes the character references of an HTML attribute's value. `&amp;` comes last: the `&` that it yields must not be decoded again.
fn unescape(text: &str) -> String {
    let pairs = [("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&#x27;", "'"), ("&#x2f;", "/"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

/// The modules of the profiles Basic and Form Post.
const BASIC: &[&str] = &[
    "oidcc-server",
    "oidcc-response-type-missing",
    "oidcc-idtoken-signature",
    "oidcc-idtoken-unsigned",
    "oidcc-userinfo-get",
    "oidcc-userinfo-post-header",
    "oidcc-userinfo-post-body",
    "oidcc-ensure-request-without-nonce-succeeds-for-code-flow",
    "oidcc-scope-profile",
    "oidcc-scope-email",
    "oidcc-scope-address",
    "oidcc-scope-phone",
    "oidcc-scope-all",
    "oidcc-alternate-happy-flow",
    "oidcc-display-page",
    "oidcc-display-popup",
    "oidcc-prompt-login",
    "oidcc-prompt-none-not-logged-in",
    "oidcc-prompt-none-logged-in",
    "oidcc-max-age-1",
    "oidcc-max-age-10000",
    "oidcc-ensure-request-with-unknown-parameter-succeeds",
    "oidcc-id-token-hint",
    "oidcc-login-hint",
    "oidcc-ui-locales",
    "oidcc-claims-locales",
    "oidcc-ensure-request-with-acr-values-succeeds",
    "oidcc-codereuse",
    "oidcc-codereuse-30seconds",
    "oidcc-ensure-registered-redirect-uri",
    "oidcc-ensure-post-request-succeeds",
    "oidcc-server-client-secret-post",
    "oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported",
    "oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported",
    "oidcc-claims-essential",
    "oidcc-ensure-request-object-with-redirect-uri",
    "oidcc-refresh-token",
    "oidcc-ensure-request-with-valid-pkce-succeeds",
];

/// The modules of each profile, by the name of the file with their tests.
const PROFILES: [(&str, &[&str]); 5] = [
    ("basic", BASIC),
    ("form_post", BASIC),
    ("config", &["oidcc-discovery-endpoint-verification"]),
    (
        "logout",
        &[
            "oidcc-rp-initiated-logout-discovery-endpoint-verification",
            "oidcc-rp-initiated-logout",
            "oidcc-rp-initiated-logout-bad-post-logout-redirect-uri",
            "oidcc-rp-initiated-logout-modified-id-token-hint",
            "oidcc-rp-initiated-logout-no-id-token-hint",
            "oidcc-rp-initiated-logout-no-params",
            "oidcc-rp-initiated-logout-no-post-logout-redirect-uri",
            "oidcc-rp-initiated-logout-no-state",
            "oidcc-rp-initiated-logout-only-state",
            "oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri",
            "oidcc-rp-initiated-logout-bad-id-token-hint",
        ],
    ),
    ("third_party_login", &["oidcc-3rd_party-init-login", "oidcc-3rd_party-init-login-nohttps"]),
];

/// docs/conformance.md lists exactly these modules. Each module has a test with its name, which is not ignored.
#[test]
fn checklist_has_a_test_of_its_own_for_each_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/conformance.md")).unwrap();
    // A row begins with the module and the path of its test.
    let mut listed: BTreeSet<(&str, String)> = BTreeSet::new();
    for row in document.lines().filter(|line| line.starts_with("| `oidcc-")) {
        let mut cells = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']));
        let module = cells.next().unwrap();
        let test = cells.next().unwrap().to_owned();
        let is_new = listed.insert((module, test));
        assert!(is_new, "listed twice: {row}");
    }
    let mut expected = BTreeSet::new();
    for (profile, modules) in PROFILES {
        let source = fs::read_to_string(root.join(format!("tests/it/oidc/conformance_suite/{profile}.rs"))).unwrap();
        assert_eq!(source.matches("#[tokio::test").count(), modules.len(), "{profile} has tests of modules only");
        for module in modules {
            let name = module.replace('-', "_");
            // An ignored test would have another line between these two.
            let test = format!("#[tokio::test(flavor = \"multi_thread\")]\nasync fn {name}() {{\n");
            assert!(source.contains(&test), "no test {name} in {profile}");
            expected.insert((*module, format!("oidc::conformance_suite::{profile}::{name}")));
        }
    }
    assert_eq!(listed, expected);
}
