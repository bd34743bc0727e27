//! `POST /oauth2/token`: the grants `refresh_token` and `client_credentials`.

use std::time::Duration;

use latchkey::service::clients::NewClient;
use serde_json::json;

use super::{client_token, error, introspect, jwt_claims, jwt_header, post, refused};
use crate::harness::{
    client::{Answer, PASSWORD},
    test_cluster::{Node, TestCluster},
};

/// Calls the token endpoint without the credentials of a service client.
async fn request_without_client(node: &Node, form: &[(&str, &str)]) -> Answer {
    post(node, "/oauth2/token", None, form).await
}

/// Refreshes a session by the grant `refresh_token`.
async fn refresh(node: &Node, token: &str) -> Answer {
    request_without_client(node, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
}

#[tokio::test]
async fn refresh_grant_returns_the_next_tokens() {
    let mut cluster = TestCluster::new();
    // Without a retry window, a superseded token counts as reuse after the grace window of ten seconds.
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    node.register("ada").await;
    let first = node.login("ada").await;
    let answer = refresh(&node, &first.refresh).await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("pragma"), "no-cache");
    let access = answer.text_of("access_token");
    let next = answer.text_of("refresh_token");
    let body = json!({
        "access_token": access, "refresh_token": next, "token_type": "Bearer", "expires_in": 300, "scope": "account",
    });
    assert_eq!(answer.json(), body);
    node.get("/v1/me", &access).await.expect(200);
    assert_eq!(jwt_claims(&access)["sid"], first.session.as_str());

    // The rotation rule is that of `/v1/refresh`: one successor, and reuse ends the session.
    assert_eq!(refresh(&node, &first.refresh).await.expect(200).text_of("refresh_token"), next);
    assert_eq!(node.refresh(&first.refresh).await.expect(200).text_of("refresh_token"), next);
    let with_client_id_and_scope =
        [("grant_type", "refresh_token"), ("refresh_token", &next), ("client_id", "latchkey"), ("scope", "account")];
    let last = request_without_client(&node, &with_client_id_and_scope).await.expect(200).text_of("refresh_token");
    cluster.advance(cluster.config.session.grace);
    assert_eq!(error(&refresh(&node, &first.refresh).await), refused(400, "invalid_grant"));
    assert_eq!(error(&refresh(&node, &last).await), refused(400, "invalid_grant"), "reuse has ended the session");
}

#[tokio::test]
async fn refresh_grant_with_an_invalid_token_is_an_invalid_grant() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let ended = node.login("ada").await;
    let idle = node.login("ada").await;
    node.logout(&ended.refresh).await.expect(204);
    let too_long = format!("{}A", idle.refresh);
    for token in ["x", &ended.refresh, &ended.access, &too_long] {
        assert_eq!(error(&refresh(&node, token).await), refused(400, "invalid_grant"), "{token}");
    }
    // longer than the idle timeout of seven days
    cluster.advance(Duration::from_hours(8 * 24));
    assert_eq!(error(&refresh(&node, &idle.refresh).await), refused(400, "invalid_grant"));
}

#[tokio::test]
async fn refresh_grant_with_the_token_of_a_cookie_session_is_refused_and_has_no_effect() {
    let mut cluster = TestCluster::new();
    // Without a retry window, a superseded token counts as reuse after the grace window of ten seconds.
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    node.register("ada").await;
    let login = json!({ "identifier": "ada", "password": PASSWORD, "transport": "cookie" });
    let cookie = node.post("/v1/login", login).await.expect(200).header("set-cookie").to_owned();
    // The header is `__Host-latchkey=TOKEN; Path=…`.
    let token = cookie.split(['=', ';']).nth(1).unwrap();
    assert_eq!(error(&refresh(&node, token).await), refused(400, "invalid_grant"));
    // If the refused grant had advanced the session, this refresh would be reuse.
    cluster.advance(cluster.config.session.grace);
    let request =
        node.request(reqwest::Method::POST, "/v1/refresh").header("cookie", format!("__Host-latchkey={token}"));
    node.send(request).await.expect(200);
}

#[tokio::test]
async fn refresh_grant_by_a_service_client_or_for_further_scopes_is_refused_and_has_no_effect() {
    let mut cluster = TestCluster::new();
    // Without a retry window, a superseded token counts as reuse after the grace window of ten seconds.
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let form = |id| [("grant_type", "refresh_token"), ("refresh_token", tokens.refresh.as_str()), ("client_id", id)];
    let by_client = post(&node, "/oauth2/token", Some(&client), &form("billing")).await;
    assert_eq!(error(&by_client), refused(400, "invalid_grant"));
    assert_eq!(error(&request_without_client(&node, &form("billing")).await), refused(401, "invalid_client"));
    assert_eq!(error(&request_without_client(&node, &form("nobody")).await), refused(401, "invalid_client"));
    // `latchkey` is the client of the REST API: the sessions that begin with `POST /v1/login`.
    let code_form = [("grant_type", "authorization_code"), ("code", "x"), ("client_id", "latchkey")];
    let answer = request_without_client(&node, &code_form).await;
    assert_eq!(error(&answer), refused(401, "invalid_client"));
    let description = "client_id is missing, or is that of the REST API, whose sessions have no codes.";
    assert_eq!(answer.text_of("error_description"), description);
    let further_scope =
        [("grant_type", "refresh_token"), ("refresh_token", &tokens.refresh), ("scope", "account admin")];
    assert_eq!(error(&request_without_client(&node, &further_scope).await), refused(400, "invalid_scope"));
    // If a refused request had rotated the token, this refresh would be reuse.
    cluster.advance(cluster.config.session.grace);
    request_without_client(&node, &form("latchkey")).await.expect(200);
}

#[tokio::test]
async fn client_credentials_grant_returns_a_token_of_the_client() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let form = [("grant_type", "client_credentials")];
    let answer = post(&node, "/oauth2/token", Some(&client), &form).await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("pragma"), "no-cache");
    let token = answer.text_of("access_token");
    let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": "read write" });
    assert_eq!(answer.json(), body);
    assert_eq!(jwt_header(&token)["typ"], "at+jwt");
    let claims = jwt_claims(&token);
    let now = cluster.clock.now().as_secs();
    let jti = claims["jti"].clone();
    assert_eq!(
        claims,
        json!({
            "iss": "https://auth.example.com", "sub": "billing", "client_id": "billing", "aud": "latchkey",
            "iat": now, "exp": now + 300, "jti": jti, "scope": "read write",
        })
    );
    // One of the client's scopes. A service client's `resource` has no effect.
    let form = [("grant_type", "client_credentials"), ("scope", "write"), ("resource", "ignored")];
    assert_eq!(post(&node, "/oauth2/token", Some(&client), &form).await.expect(200).json()["scope"], "write");
    // Scopes that the client does not have, a doubled space, and a quotation mark, which no scope contains.
    for scope in ["admin", "read admin", "read  write", "\"", "account"] {
        let form = [("grant_type", "client_credentials"), ("scope", scope)];
        let answer = post(&node, "/oauth2/token", Some(&client), &form).await;
        assert_eq!(error(&answer), refused(400, "invalid_scope"), "{scope}");
    }
    assert_eq!(error(&request_without_client(&node, &form).await), refused(401, "invalid_client"));
}

#[tokio::test]
async fn client_token_is_valid_for_its_audiences_and_no_account() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let service = cluster.service_client("service").await;
    let audiences = ["reports", "https://api.example.com/"].map(str::to_owned).to_vec();
    let other = NewClient { name: "other".to_owned(), audiences: audiences.clone(), ..NewClient::default() };
    let other = cluster.service_client_with(other).await;
    let (service_token, other_token) = (client_token(&node, &service).await, client_token(&node, &other).await);
    let claims = jwt_claims(&other_token);
    assert_eq!(claims["aud"], json!(audiences));
    assert_eq!(claims["scope"], json!(null), "the token has no scopes");

    let verified = node.get("/v1/verify?allow=clients", &service_token).await.expect(200);
    assert_eq!(verified.header("x-auth-subject"), "service");
    assert_eq!(verified.header("x-auth-session"), "");
    assert_eq!(verified.header("x-auth-client"), "service");
    assert_eq!(verified.header("x-auth-scope"), "read write");
    assert_eq!(verified.header("x-auth-roles"), "");
    let expires = cluster.clock.now().as_secs() + 300;
    assert_eq!(verified.header("x-auth-expires"), expires.to_string());
    assert_eq!(node.get("/v1/verify?allow=clients", &other_token).await.problem(), (401, "invalid_token".to_owned()));
    for token in [&service_token, &other_token] {
        for path in ["/v1/me", "/v1/sessions"] {
            assert_eq!(node.get(path, token).await.problem(), (401, "invalid_token".to_owned()), "{path}");
        }
        assert_eq!(node.delete("/v1/sessions", token).await.problem().0, 401);
        assert_eq!(node.change_password(token, PASSWORD, "another fine day of summer").await.problem().0, 401);
        // A client token belongs to no session: the logout ends nothing.
        let logout = node.request(reqwest::Method::POST, "/v1/logout").bearer_auth(token);
        node.send(logout).await.expect(204);
    }
    // A client sees only tokens for its own audiences as active. By default, a client has the audience `latchkey`.
    assert_eq!(introspect(&node, &service, &service_token).await["active"], true);
    assert_eq!(introspect(&node, &other, &other_token).await["active"], true);
    assert_eq!(introspect(&node, &other, &service_token).await, json!({ "active": false }));
    assert_eq!(introspect(&node, &service, &other_token).await, json!({ "active": false }));
    // one second more than the lifetime of five minutes and the leeway of five seconds
    cluster.advance(Duration::from_secs(306));
    assert_eq!(introspect(&node, &service, &service_token).await, json!({ "active": false }));
}
