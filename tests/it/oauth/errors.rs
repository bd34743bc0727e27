//! Errors of the endpoints under `/oauth2/`: an invalid request gets an error of RFC 6749. An HTTP error or an outage of a store gets a
//! problem (RFC 9457).

use reqwest::Method;

use super::{error, post, refused};
use crate::harness::test_cluster::TestCluster;

/// The endpoints that services and apps call with a form.
const PATHS: [&str; 3] = ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"];

#[tokio::test]
async fn body_that_is_not_a_valid_form_is_an_invalid_request() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let form = "application/x-www-form-urlencoded";
    for path in PATHS {
        for (content_type, body) in [
            (Some("application/json"), r#"{"grant_type":"client_credentials","token":"x"}"#),
            (Some("text/plain"), "grant_type=client_credentials&token=x"),
            (Some("multipart/form-data"), "grant_type=client_credentials&token=x"),
            (None, "grant_type=client_credentials&token=x"),
            (None, ""),
            (Some(form), ""),
            (Some(form), "grant_type=&token="),
            // invalid percent-encoding, invalid UTF-8
            (Some(form), "grant_type=client_credentials&token=%"),
            (Some(form), "grant_type=client_credentials&token=%ff"),
            // repeated parameters; `%61` is `a`
            (Some(form), "grant_type=client_credentials&token=x&token=x&grant_type=refresh_token"),
            (Some(form), "grant_type=client_credentials&token=x&a=1&%61=1"),
        ] {
            let mut request = node.request(Method::POST, path).body(body);
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            let answer = node.send(request).await;
            assert_eq!(error(&answer), refused(400, "invalid_request"), "{path} {content_type:?} {body}");
        }
    }
    // the media type in mixed case, and with a parameter
    let content_type = "Application/X-WWW-Form-Urlencoded; charset=utf-8";
    let valid = node.request(Method::POST, "/oauth2/revoke").header("content-type", content_type).body("token=x");
    node.send(valid).await.expect(200);
}

#[tokio::test]
async fn unknown_grant_type_and_missing_token_have_different_errors() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    // grant types are case-sensitive
    for grant in ["password", "implicit", "Refresh_Token", "urn:ietf:params:oauth:grant-type:device_code"] {
        let answer = post(&node, "/oauth2/token", None, &[("grant_type", grant)]).await;
        assert_eq!(error(&answer), refused(400, "unsupported_grant_type"), "{grant}");
    }
    // without a `refresh_token`
    let answer = post(&node, "/oauth2/token", None, &[("grant_type", "refresh_token")]).await;
    assert_eq!(error(&answer), refused(400, "invalid_request"));
}

#[tokio::test]
async fn http_errors_and_unavailability_answer_with_problems() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    for path in PATHS {
        let answer = node.send(node.request(Method::GET, path)).await;
        assert_eq!(answer.problem(), (405, "method_not_allowed".to_owned()));
        assert_eq!(answer.header("allow"), "POST");
        // longer than `http.max_body`, 64 KiB
        let long = "x".repeat(70_000);
        assert_eq!(post(&node, path, None, &[("token", &long)]).await.problem(), (413, "payload_too_large".to_owned()));
    }
    assert_eq!(post(&node, "/oauth2/unknown", None, &[]).await.problem(), (404, "not_found".to_owned()));
    // With this limit of its memory, Redis refuses every write.
    cluster.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let form = [("grant_type", "refresh_token"), ("refresh_token", &tokens.refresh)];
    let answer = post(&node, "/oauth2/token", None, &form).await;
    assert_eq!(answer.problem(), (503, "unavailable".to_owned()));
    assert!(!answer.header("retry-after").is_empty());
    // 0 means unlimited: the node works again
    cluster.redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    post(&node, "/oauth2/introspect", Some(&client), &[("token", &tokens.refresh)]).await.expect(200);
}
