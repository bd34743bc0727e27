//! The test of the conformance suite's profile Config OP: the provider's metadata and keys.

use serde_json::json;
use url::Url;

use super::{super::claims, Mode::Query, Suite};

/// The metadata has the members that OpenID Connect Discovery, section 3, requires. All endpoints are HTTPS URLs below the issuer.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_discovery_endpoint_verification() {
    let suite = Suite::start(Query).await;
    let metadata = suite.node.get_anonymously("/.well-known/openid-configuration").await.expect(200).json();
    let issuer = suite.node.state.config.issuer.as_str();
    assert_eq!(metadata["issuer"], issuer);
    for endpoint in
        ["authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "end_session_endpoint"]
    {
        let url = metadata[endpoint].as_str().unwrap_or_else(|| panic!("no {endpoint}"));
        assert!(url.starts_with(issuer), "{endpoint}: {url}");
        assert_eq!(Url::parse(url).unwrap().scheme(), "https", "{endpoint}: {url}");
    }
    for (name, value) in [
        ("response_types_supported", json!(["code"])),
        ("response_modes_supported", json!(["query", "form_post"])),
        ("grant_types_supported", json!(["authorization_code", "refresh_token", "client_credentials"])),
        ("subject_types_supported", json!(["public"])),
        ("id_token_signing_alg_values_supported", json!(["ES256"])),
        ("code_challenge_methods_supported", json!(["S256"])),
        ("prompt_values_supported", json!(["none", "login", "consent", "select_account", "create"])),
        ("acr_values_supported", json!(["aal1", "aal2"])),
        ("claims_parameter_supported", json!(false)),
        ("request_parameter_supported", json!(false)),
        ("request_uri_parameter_supported", json!(false)),
        ("scopes_supported", json!(["openid", "profile", "email", "offline_access", "account"])),
    ] {
        assert_eq!(metadata[name], value, "{name}");
    }
    let jwks = suite.node.get_anonymously("/.well-known/jwks.json").await.expect(200).json();
    for key in jwks["keys"].as_array().unwrap() {
        assert_eq!(key["use"], "sig");
        assert_eq!(key["alg"], "ES256");
        assert!(key["kid"].is_string(), "{key}");
        assert!(key["d"].is_null(), "no private key: {key}");
    }
    // The metadata lists every claim of an ID token.
    let request = suite.request().with("scope", "openid profile email");
    let tokens = suite.tokens(&suite.browser().await, &request).await;
    let listed = metadata["claims_supported"].as_array().unwrap();
    let id_token = claims(tokens["id_token"].as_str().unwrap());
    for name in id_token.as_object().unwrap().keys() {
        assert!(listed.contains(&json!(name)), "{name}");
    }
    suite.finish().await;
}
