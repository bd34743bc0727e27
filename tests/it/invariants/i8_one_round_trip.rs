//! I8: Session creation, refresh, logout and an introspection miss cost one round trip to Redis each, and all keys of an
//! operation share a slot.

use serde_json::json;

use crate::harness::{client::PASSWORD, monitor::Monitor, test_cluster::TestCluster};

/// The part of a key that Redis Cluster hashes.
fn tag(key: &str) -> &str {
    key.split_once('{').unwrap().1.split_once('}').unwrap().0
}

#[tokio::test]
async fn i8_each_session_operation_sends_one_command_in_one_slot() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    // Loads the scripts.
    let tokens = node.login("ada").await;
    node.refresh(&tokens.refresh).await.expect(200);
    node.delete("/v1/sessions", &tokens.access).await.expect(200);
    node.logout(&tokens.refresh).await.expect(204);
    let tokens = node.login("ada").await;
    node.delete(&format!("/v1/sessions/{}", tokens.session), &tokens.access).await.expect(204);

    let mut monitor = Monitor::start(&cluster.redis);
    let mut sent = |operation: &str, expected: &[&str]| {
        let commands = monitor.commands(&cluster.redis);
        let names: Vec<_> = commands.iter().map(|words| words[0].to_ascii_uppercase()).collect();
        assert_eq!(names, expected, "{operation}: {commands:?}");
        for words in commands.iter().filter(|words| words[0].eq_ignore_ascii_case("EVALSHA")) {
            let count: usize = words[2].parse().unwrap();
            let tags: Vec<_> = words[3..3 + count].iter().map(|key| tag(key)).collect();
            assert!(count >= 1 && tags.iter().all(|other| *other == tags[0]), "{operation}: {words:?}");
        }
    };
    sent("nothing", &[]);

    let tokens = node.login("ada").await;
    sent("login", &["EVALSHA"]);
    assert_eq!(node.try_login("ada", "not the password").await.status, 401);
    assert_eq!(node.try_login("nobody", PASSWORD).await.status, 401);
    sent("refused logins", &[]);
    node.refresh(&tokens.refresh).await.expect(200);
    sent("refresh", &["EVALSHA"]);
    node.refresh(&tokens.refresh).await.expect(200);
    sent("refresh within the grace window", &["EVALSHA"]);
    assert_eq!(node.refresh(&format!("{}A", tokens.refresh)).await.status, 401);
    let forged = tokens.refresh.replacen("lk_rt_AQ", "lk_rt_AR", 1);
    assert_eq!(node.refresh(&forged).await.status, 401);
    sent("a forged or damaged token", &[]);
    node.get("/v1/me", &tokens.access).await.expect(200);
    sent("an access token's session", &["HMGET"]);
    node.logout(&tokens.refresh).await.expect(204);
    sent("logout", &["EVALSHA"]);

    let tokens = node.login("ada").await;
    sent("login", &["EVALSHA"]);
    let logout = node.request(reqwest::Method::POST, "/v1/logout").bearer_auth(&tokens.access);
    node.send(logout).await.expect(204);
    sent("logout by access token", &["EVALSHA"]);
    let cookie = json!({ "identifier": "ada", "password": PASSWORD, "transport": "cookie" });
    let set = node.post("/v1/login", cookie).await.expect(200);
    let cookie = set.header("set-cookie").split(';').next().unwrap().to_owned();
    sent("login with a cookie", &["EVALSHA"]);
    let refresh = node.request(reqwest::Method::POST, "/v1/refresh").header("cookie", &cookie);
    node.send(refresh).await.expect(200);
    sent("refresh with a cookie", &["EVALSHA"]);

    let tokens = node.login("ada").await;
    sent("login", &["EVALSHA"]);
    node.get("/v1/sessions", &tokens.access).await.expect(200);
    sent("authentication and list", &["HMGET", "HGETALL"]);
    node.delete(&format!("/v1/sessions/{}", tokens.session), &tokens.access).await.expect(204);
    sent("authentication and revocation", &["HMGET", "EVALSHA"]);
    let tokens = node.login("ada").await;
    sent("login", &["EVALSHA"]);
    node.delete("/v1/sessions", &tokens.access).await.expect(200);
    sent("authentication and revocation of all sessions", &["HMGET", "EVALSHA"]);

    let tokens = node.login("ada").await;
    sent("login", &["EVALSHA"]);
    let new = "gravel lantern ostrich nine";
    node.change_password(&tokens.access, PASSWORD, new).await.expect(200);
    sent("authentication and password change", &["HMGET", "EVALSHA"]);

    // Service clients.
    let tokens = node.login_with("ada", new).await;
    sent("login", &["EVALSHA"]);
    let client = cluster.service_client("billing").await;
    let call = |path: &str, form: &[(&str, &str)]| {
        node.request(reqwest::Method::POST, path).form(form).basic_auth(&client.id, Some(&client.secret))
    };
    for (token, command) in [(&tokens.access, "HMGET"), (&tokens.refresh, "HGET")] {
        node.send(call("/oauth2/introspect", &[("token", token)])).await.expect(200);
        sent("an introspection miss", &[command]);
    }
    node.send(call("/oauth2/introspect", &[("token", &format!("{}A", tokens.refresh))])).await.expect(200);
    node.send(call("/oauth2/introspect", &[("token", &tokens.access[1..])])).await.expect(200);
    sent("introspection of a forged or damaged token", &[]);
    node.send(call("/oauth2/token", &[("grant_type", "client_credentials")])).await.expect(200);
    sent("a client's own token", &[]);
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", &tokens.refresh)];
    node.send(node.request(reqwest::Method::POST, "/oauth2/token").form(&refresh)).await.expect(200);
    sent("refresh by a stock client", &["EVALSHA"]);
    node.send(call("/oauth2/revoke", &[("token", &tokens.refresh)])).await.expect(200);
    sent("revocation", &["EVALSHA"]);
}
