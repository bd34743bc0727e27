//! `GET /.well-known/oauth-authorization-server` and `GET /.well-known/openid-configuration`.

use reqwest::Method;
use serde_json::json;

use super::problem;
use crate::harness::test_cluster::TestCluster;

const OAUTH_PATH: &str = "/.well-known/oauth-authorization-server";
const OPENID_PATH: &str = "/.well-known/openid-configuration";

#[tokio::test]
async fn metadata_is_complete_and_cacheable() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let answer = node.send(node.request(Method::GET, OAUTH_PATH)).await.expect(200);
    assert_eq!(answer.header("cache-control"), "public, max-age=3600");
    assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let algorithms = ["ES256", "EdDSA", "RS256", "PS256"];
    // a client without credentials can't introspect tokens
    let confidential_methods = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
    let all_methods = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"];
    let expected = json!({
        "issuer": "https://auth.example.com",
        "authorization_endpoint": "https://auth.example.com/oauth2/authorize",
        "token_endpoint": "https://auth.example.com/oauth2/token",
        "userinfo_endpoint": "https://auth.example.com/oauth2/userinfo",
        "end_session_endpoint": "https://auth.example.com/oauth2/logout",
        "jwks_uri": "https://auth.example.com/.well-known/jwks.json",
        "introspection_endpoint": "https://auth.example.com/oauth2/introspect",
        "revocation_endpoint": "https://auth.example.com/oauth2/revoke",
        "scopes_supported": ["openid", "profile", "email", "offline_access", "account"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "prompt_values_supported": ["none", "login", "consent", "select_account", "create"],
        "acr_values_supported": ["aal1", "aal2"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "at_hash", "name",
            "preferred_username", "locale", "zoneinfo", "updated_at", "email", "email_verified",
        ],
        "claim_types_supported": ["normal"],
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "subject_types_supported": ["public"],
        "token_endpoint_auth_methods_supported": all_methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint_auth_methods_supported": confidential_methods,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": all_methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "service_documentation": "https://auth.example.com/docs",
        "latchkey_revocations_endpoint": "https://auth.example.com/v1/revocations",
        "latchkey_verify_endpoint": "https://auth.example.com/v1/verify",
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(node.get_anonymously(OPENID_PATH).await.expect(200).json(), expected);
}

#[tokio::test]
async fn every_listed_endpoint_exists() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let metadata = node.get_anonymously(OAUTH_PATH).await.json();
    let issuer = &cluster.config.issuer;
    let mut checked = 0;
    let is_url = |name: &str| ["_endpoint", "_uri", "_documentation"].iter().any(|suffix| name.ends_with(suffix));
    for (name, value) in metadata.as_object().unwrap().iter().filter(|(name, _)| is_url(name)) {
        let url = value.as_str().unwrap();
        let path = url.strip_prefix(issuer).unwrap_or_else(|| panic!("{name} is not under the issuer: {url}"));
        // the body is not read: event streams have no end
        let answer = node.request(Method::GET, path).send().await.unwrap();
        assert_ne!(answer.status(), 404, "{name}: {url}");
        checked += 1;
    }
    // 8 endpoints, jwks_uri and service_documentation
    assert_eq!(checked, 10, "{metadata}");
}

#[tokio::test]
async fn metadata_of_issuer_with_path_is_served_at_both_paths() {
    let mut cluster = TestCluster::new();
    cluster.config.issuer = "https://example.com/sign/in".to_owned();
    let node = cluster.node().await;
    for well_known in [OAUTH_PATH, OPENID_PATH] {
        // a proxy removes the issuer's path, or leaves it where RFC 8414 puts it: behind the well-known path
        for path in [well_known.to_owned(), format!("{well_known}/sign/in")] {
            let metadata = node.get_anonymously(&path).await.expect(200).json();
            assert_eq!(metadata["issuer"], "https://example.com/sign/in");
            assert_eq!(metadata["jwks_uri"], "https://example.com/sign/in/.well-known/jwks.json");
        }
        // neither the well-known path nor the well-known path with the path of the issuer
        for other in ["/", "/sign", "/sign/in/", "/sign/in/x", "/sign/on", "x"] {
            let answer = node.get_anonymously(&format!("{well_known}{other}")).await;
            assert_eq!(answer.problem(), problem(404, "not_found"), "{other}");
        }
    }
}
