//! I11 (single use): a link, a code or a challenge works exactly once among sixteen concurrent requests (*racers*) on two nodes. Links
//! stop working when the account's password, address or epoch changes.

use latchkey::{
    domain::account::{Email, Roles},
    service::accounts,
};
use reqwest::Method;
use serde_json::json;

use crate::{
    accounts::{
        NEW_PASSWORD, email, emails, first_mail, problem, remove_mail_and_login_limits, request_reset, reset,
        signed_in, verify_address,
    },
    factors,
    harness::{
        client::{Answer, PASSWORD, Tokens},
        test_cluster::TestCluster,
    },
};

/// The number of concurrent requests.
const RACERS: usize = 16;

/// A different password for each racer, to find out which racer succeeded.
fn password(racer: usize) -> String {
    format!("{NEW_PASSWORD} racer {racer}")
}

/// Asserts that each racer succeeded or was refused with `invalid_code`, and returns the numbers of those that succeeded.
fn check_winners(answers: &[Answer]) -> Vec<usize> {
    let mut winners = Vec::new();
    for (racer, answer) in answers.iter().enumerate() {
        if answer.status == 204 {
            winners.push(racer);
        } else {
            assert_eq!(answer.problem(), problem(401, "invalid_code"));
        }
    }
    winners
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_link_and_code_work_once_among_sixteen_racers_on_two_nodes() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    for by_code in [false, true] {
        let (token, code) = request_reset(&cluster, &nodes[0], "ada").await;
        let race = (0..RACERS).map(|racer| {
            let body = if by_code {
                json!({ "identifier": "ada", "code": code, "new_password": password(racer) })
            } else {
                json!({ "token": token, "new_password": password(racer) })
            };
            nodes[racer % 2].post("/v1/password/reset", body)
        });
        let answers = futures_util::future::join_all(race).await;
        let winners = check_winners(&answers);
        assert_eq!(winners.len(), 1, "{winners:?}");
        nodes[1].try_login("ada", &password(winners[0])).await.expect(200);
    }
}

/// A code has five attempts. Once they are used up, the right code is refused as well.
#[tokio::test(flavor = "multi_thread")]
async fn i11_sixteen_wrong_codes_at_once_leave_no_attempt() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let (_, code) = request_reset(&cluster, &nodes[0], "ada").await;
    let guesses = (0..RACERS).map(|racer| {
        let body = json!({ "identifier": "ada", "code": "2222-2222", "new_password": password(racer) });
        nodes[racer % 2].post("/v1/password/reset", body)
    });
    let answers = futures_util::future::join_all(guesses).await;
    assert!(check_winners(&answers).is_empty(), "{answers:?}");
    let body = json!({ "identifier": "ada", "code": code, "new_password": NEW_PASSWORD });
    assert_eq!(nodes[0].post("/v1/password/reset", body).await.problem(), problem(401, "invalid_code"));
}

/// Two accounts have added the same secondary address, and sixteen concurrent requests verify it, half for each account.
#[tokio::test(flavor = "multi_thread")]
async fn i11_secondary_address_is_verified_for_one_account_among_sixteen_racers_on_two_nodes() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let nodes = [cluster.node().await, cluster.node().await];
    let mut owners = Vec::new();
    for (node, name) in nodes.iter().zip(["ada", "eve"]) {
        node.register(name).await;
        let tokens = node.login(name).await;
        let (_id, token, _code) = emails::add(&cluster, node, &tokens, "shared").await;
        owners.push((tokens, token));
    }
    let race = (0..RACERS).map(|racer| {
        // `racer / 2` gives each account racers on both nodes
        let (tokens, token) = &owners[(racer / 2) % 2];
        let body = json!({ "token": token });
        signed_in(&nodes[racer % 2], tokens, Method::POST, "/v1/email/verify", body)
    });
    let answers = futures_util::future::join_all(race).await;
    let won: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        // The verification ends the sessions of the winner's account (`invalid_token`). The other account finds the address taken.
        let refused = [problem(401, "invalid_code"), problem(401, "invalid_token"), problem(409, "email_taken")];
        assert!(refused.contains(&answer.problem()), "{answer:?}");
    }
    let winner = nodes[0].get("/v1/me", &Tokens::of(won[0]).access).await.text_of("id");
    // Both accounts have this password, so a sign-in by the address shows which account owns it.
    let by_address = nodes[1].try_login(&email("shared"), PASSWORD).await.expect(200);
    let owner = nodes[1].get("/v1/me", &Tokens::of(&by_address).access).await.text_of("id");
    assert_eq!(owner, winner);
}

#[tokio::test]
async fn i11_link_stops_working_when_password_address_or_epoch_changes() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    let id = node.register("ada").await.text_of("id").parse().unwrap();
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;

    let (token, _) = request_reset(&cluster, &node, "ada").await;
    node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200);
    assert_eq!(reset(&node, &token, PASSWORD).await.problem(), problem(401, "invalid_code"), "password");

    // A change of roles increments the epoch.
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    let (added, removed) = (Roles::parse(["admin"]).unwrap(), Roles::default());
    accounts::change_roles(&node.state, id, &added, &removed).await.unwrap();
    assert_eq!(reset(&node, &token, PASSWORD).await.problem(), problem(401, "invalid_code"), "epoch");

    let (token, _) = request_reset(&cluster, &node, "ada").await;
    let new_address = Email::parse(&email("lovelace")).unwrap();
    accounts::set_email(&node.state, id, &new_address).await.unwrap();
    assert_eq!(reset(&node, &token, PASSWORD).await.problem(), problem(401, "invalid_code"), "address");
}

/// Mail scanners follow links before the user reads the mail. The paths that consume a link refuse GET and HEAD.
#[tokio::test]
async fn i11_get_and_head_of_a_link_do_not_consume_it() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    node.post("/v1/email/verification", json!({ "email": email("ada") })).await.expect(202);
    let (token, _) = first_mail(&cluster, "ada", "verify_address").await;
    for path in ["/v1/email/verify", "/v1/password/reset", "/v1/email/undo", "/v1/account/secure"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = node.send(node.request(method, &format!("{path}?token={token}"))).await;
            assert_eq!(answer.status, 405, "{path}");
        }
    }
    let body = json!({ "token": token });
    signed_in(&node, &tokens, Method::POST, "/v1/email/verify", body).await.expect(204);
}

/// A copy of Redis contains neither links, codes nor addresses.
#[tokio::test]
async fn i11_redis_holds_digests_of_links_and_codes_only() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (token, code) = request_reset(&cluster, &node, "ada").await;
    let dump = String::from_utf8_lossy(&cluster.redis.dump()).into_owned();
    let token_without_prefix = token.strip_prefix("lk_ot_").unwrap();
    let code_without_hyphen = code.replace('-', "");
    for secret in [token.as_str(), token_without_prefix, &code, &code_without_hyphen, "ada@example.com"] {
        assert!(!dump.contains(secret), "{secret}");
    }
}

/// Sixteen concurrent requests present the same challenge and the same code.
#[tokio::test(flavor = "multi_thread")]
async fn i11_challenge_and_code_work_once_among_sixteen_racers_on_two_nodes() {
    let mut cluster = factors::cluster();
    // This throttle of wrong codes would refuse most of the requests before their codes are checked.
    cluster.config.limits.factor_backoff = None;
    let nodes = [cluster.node().await, cluster.node().await];
    let ada = factors::account_with_app(&cluster, &nodes[0], "ada").await;
    for (method, code) in [("totp", ada.app.code(&cluster.clock)), ("recovery_code", ada.recovery_codes[0].clone())] {
        let challenge = factors::challenge(&nodes[0], "ada").await;
        let race = (0..RACERS).map(|racer| factors::second_factor(&nodes[racer % 2], &challenge, method, &code));
        let answers = futures_util::future::join_all(race).await;
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(won, 1, "{method}: {answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            // A request that has opened the challenge before the winner took it may check the code after the winner has consumed it.
            let refused = [problem(401, "invalid_challenge"), problem(401, "invalid_code")];
            assert!(refused.contains(&answer.problem()), "{method}: {answer:?}");
        }
    }
}

/// Sixteen concurrent requests present the same code, each with a challenge of its own.
#[tokio::test(flavor = "multi_thread")]
async fn i11_code_works_once_among_sixteen_challenges() {
    let mut cluster = factors::cluster();
    // This throttle of wrong codes would refuse most of the requests before their codes are checked.
    cluster.config.limits.factor_backoff = None;
    let nodes = [cluster.node().await, cluster.node().await];
    let ada = factors::account_with_app(&cluster, &nodes[0], "ada").await;
    for (method, code) in [("totp", ada.app.code(&cluster.clock)), ("recovery_code", ada.recovery_codes[0].clone())] {
        let mut challenges = Vec::new();
        for racer in 0..RACERS {
            challenges.push(factors::challenge(&nodes[racer % 2], "ada").await);
        }
        let race =
            (0..RACERS).map(|racer| factors::second_factor(&nodes[racer % 2], &challenges[racer], method, &code));
        let answers = futures_util::future::join_all(race).await;
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(won, 1, "{method}: {answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(answer.problem(), problem(401, "invalid_code"));
        }
    }
}
