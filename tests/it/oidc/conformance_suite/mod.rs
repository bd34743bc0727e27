//! The modules of the OpenID Foundation's conformance suite, as of its version of August 2026: a test of the same name for each module of the
//! profiles Basic, Form Post, Config, RP-Initiated Logout and 3rd Party-Init OP. docs/openid-connect.md lists them. The modules of Basic and
//! Form Post are the same ones with another response mode: `walk.rs` has them.

mod basic;
mod config;
mod form_post;
mod logout;
mod third_party_login;
mod walk;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Browser, CALLBACK, Request, exchange, response_of, web};
use crate::harness::{
    client::Answer,
    test_cluster::{Node, ServiceClient, TestCluster},
};

/// How responses arrive at the app.
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
        node.account("ada").await;
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
        let request = Request::of(&self.app.id).with("scope", "openid");
        match self.mode {
            Mode::Query => request,
            Mode::FormPost => request.with("response_mode", "form_post"),
        }
    }

    /// The parameters that the app receives.
    #[track_caller]
    pub fn received(&self, answer: &Answer) -> BTreeMap<String, String> {
        if self.mode == Mode::Query {
            return response_of(answer);
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text.contains("method=\"post\"") && answer.text.contains(&format!("action=\"{CALLBACK}\"")));
        let fields = answer.text.split("type=\"hidden\" name=\"").skip(1).map(|rest| {
            let (name, rest) = rest.split_once("\" value=\"").unwrap();
            (name.to_owned(), unescaped(rest.split('"').next().unwrap()))
        });
        fields.collect()
    }

    /// The response to a request that needs no page.
    pub async fn respond(&self, browser: &Browser, request: &Request) -> BTreeMap<String, String> {
        self.received(&browser.authorize(&self.node, request).await)
    }

    /// The tokens for a response with a code.
    pub async fn tokens_of(&self, response: &BTreeMap<String, String>) -> Value {
        let code = response.get("code").unwrap_or_else(|| panic!("{response:?}"));
        exchange(&self.node, &self.app, code).await.expect(200).json()
    }

    /// The tokens for a request that needs no page.
    pub async fn tokens(&self, browser: &Browser, request: &Request) -> Value {
        self.tokens_of(&self.respond(browser, request).await).await
    }
}

/// The text of an attribute's value in HTML.
fn unescaped(text: &str) -> String {
    let pairs = [("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&#x27;", "'"), ("&#x2f;", "/"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}
