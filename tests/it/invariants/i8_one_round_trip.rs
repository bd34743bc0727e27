//! I8: Session creation, refresh, logout and an introspection miss cost one round trip to Redis each, and all keys of an
//! operation share a slot.

use serde_json::json;

use crate::{
    accounts::NEW_PASSWORD,
    harness::{client::PASSWORD, monitor::Monitor, test_cluster::TestCluster},
};

/// The hash tag of a key: the part between braces, which alone decides its slot in Redis Cluster.
fn hash_tag(key: &str) -> &str {
    let (_, after_brace) = key.split_once('{').unwrap();
    let (tag, _) = after_brace.split_once('}').unwrap();
    tag
}

#[tokio::test]
async fn i8_each_session_operation_sends_one_command_in_one_slot() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    // The first call of a script takes further commands, which load the script. These requests load all scripts that the test uses.
    let tokens = node.login("ada").await;
    node.refresh(&tokens.refresh).await.expect(200);
    node.delete("/v1/sessions", &tokens.access).await.expect(200);
    node.logout(&tokens.refresh).await.expect(204);
    let tokens = node.login("ada").await;
    node.delete(&format!("/v1/sessions/{}", tokens.session), &tokens.access).await.expect(204);

    // The monitor leaves out the commands of rate limits, which have keys of their own.
    let mut monitor = Monitor::start(&cluster.redis);
    // Checks the commands since the last call.
    let mut assert_sent = |operation: &str, expected: &[&str]| {
        let commands = monitor.commands(&cluster.redis);
        let names: Vec<_> = commands.iter().map(|words| words[0].to_ascii_uppercase()).collect();
        assert_eq!(names, expected, "{operation}: {commands:?}");
        for words in commands.iter().filter(|words| words[0].eq_ignore_ascii_case("EVALSHA")) {
            // EVALSHA, the digest, the number of keys, the keys
            let key_count: usize = words[2].parse().unwrap();
            let mut tags: Vec<_> = words[3..3 + key_count].iter().map(|key| hash_tag(key)).collect();
            tags.dedup();
            assert_eq!(tags.len(), 1, "{operation}: {words:?}");
        }
    };
    assert_sent("before the first operation", &[]);

    let tokens = node.login("ada").await;
    assert_sent("login", &["EVALSHA"]);
    assert_eq!(node.try_login("ada", "not the password").await.status, 401);
    assert_eq!(node.try_login("nobody", PASSWORD).await.status, 401);
    assert_sent("refused logins", &[]);
    node.refresh(&tokens.refresh).await.expect(200);
    assert_sent("refresh", &["EVALSHA"]);
    node.refresh(&tokens.refresh).await.expect(200);
    assert_sent("refresh within the grace window", &["EVALSHA"]);
    assert_eq!(node.refresh(&format!("{}A", tokens.refresh)).await.status, 401);
    // the second byte is changed, which the MAC covers
    let forged = tokens.refresh.replacen("lk_rt_AQ", "lk_rt_AR", 1);
    assert_eq!(node.refresh(&forged).await.status, 401);
    assert_sent("a forged or damaged token", &[]);
    node.get("/v1/me", &tokens.access).await.expect(200);
    assert_sent("lookup of an access token's session", &["HMGET"]);
    node.logout(&tokens.refresh).await.expect(204);
    assert_sent("logout", &["EVALSHA"]);

    let tokens = node.login("ada").await;
    assert_sent("login", &["EVALSHA"]);
    let logout = node.request(reqwest::Method::POST, "/v1/logout").bearer_auth(&tokens.access);
    node.send(logout).await.expect(204);
    assert_sent("logout by access token", &["EVALSHA"]);
    let body = json!({ "identifier": "ada", "password": PASSWORD, "transport": "cookie" });
    let answer = node.post("/v1/login", body).await.expect(200);
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    assert_sent("login with a cookie", &["EVALSHA"]);
    let refresh = node.request(reqwest::Method::POST, "/v1/refresh").header("cookie", &cookie);
    node.send(refresh).await.expect(200);
    assert_sent("refresh with a cookie", &["EVALSHA"]);

    let tokens = node.login("ada").await;
    assert_sent("login", &["EVALSHA"]);
    node.get("/v1/sessions", &tokens.access).await.expect(200);
    assert_sent("authentication and list", &["HMGET", "HGETALL"]);
    node.delete(&format!("/v1/sessions/{}", tokens.session), &tokens.access).await.expect(204);
    assert_sent("authentication and revocation", &["HMGET", "EVALSHA"]);
    let tokens = node.login("ada").await;
    assert_sent("login", &["EVALSHA"]);
    node.delete("/v1/sessions", &tokens.access).await.expect(200);
    assert_sent("authentication and revocation of all sessions", &["HMGET", "EVALSHA"]);

    let tokens = node.login("ada").await;
    assert_sent("login", &["EVALSHA"]);
    node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200);
    assert_sent("authentication and password change", &["HMGET", "EVALSHA"]);

    // Calls of service clients.
    let tokens = node.login_with("ada", NEW_PASSWORD).await;
    assert_sent("login", &["EVALSHA"]);
    let client = cluster.service_client("billing").await;
    let call = |path: &str, form: &[(&str, &str)]| {
        node.request(reqwest::Method::POST, path).form(form).basic_auth(&client.id, Some(&client.secret))
    };
    // The introspection of an access token reads several fields, such as the session's record and the claims version.
    for (token, command) in [(&tokens.access, "HMGET"), (&tokens.refresh, "HGET")] {
        node.send(call("/oauth2/introspect", &[("token", token)])).await.expect(200);
        assert_sent("an introspection miss", &[command]);
    }
    node.send(call("/oauth2/introspect", &[("token", &format!("{}A", tokens.refresh))])).await.expect(200);
    node.send(call("/oauth2/introspect", &[("token", &tokens.access[1..])])).await.expect(200);
    assert_sent("introspection of a forged or damaged token", &[]);
    node.send(call("/oauth2/token", &[("grant_type", "client_credentials")])).await.expect(200);
    assert_sent("a client's own token", &[]);
    // without client credentials: a session of `/v1/login` belongs to no client
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", &tokens.refresh)];
    node.send(node.request(reqwest::Method::POST, "/oauth2/token").form(&refresh)).await.expect(200);
    assert_sent("refresh at the token endpoint", &["EVALSHA"]);
    node.send(call("/oauth2/revoke", &[("token", &tokens.refresh)])).await.expect(200);
    assert_sent("revocation", &["EVALSHA"]);
}
