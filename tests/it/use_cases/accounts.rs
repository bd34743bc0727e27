//! Changes to accounts by an operator: roles, passwords, addresses, sessions.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::{
    domain::{
        account::{Email, Roles},
        additional_claims::AdditionalClaims,
        ids::AccountId,
        session::{OriginTag, SessionOrigin, Transport},
    },
    service::{
        accounts::{self, ChangeAccountError},
        sessions,
    },
    store::{
        redis::{CreateOutcome, NewSession, SessionBasis},
        sql::{AuditFilter, AuditRow},
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    client::{PASSWORD, Tokens},
    test_cluster::{Node, TestCluster},
};

async fn account_id(node: &Node, name: &str) -> AccountId {
    accounts::find(&node.state.sql, name).await.unwrap().id
}

fn roles(names: &[&str]) -> Roles {
    Roles::parse(names).unwrap()
}

async fn add_roles(node: &Node, account: AccountId, names: &[&str]) -> Roles {
    accounts::change_roles(&node.state, account, &roles(names), &Roles::default()).await.unwrap()
}

async fn remove_roles(node: &Node, account: AccountId, names: &[&str]) -> Roles {
    accounts::change_roles(&node.state, account, &Roles::default(), &roles(names)).await.unwrap()
}

/// The `roles` claim of an access token.
fn roles_claim(token: &str) -> Value {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()["roles"].clone()
}

/// The rows of an account in the audit log, newest first.
async fn audit(node: &Node, account: AccountId) -> Vec<AuditRow> {
    node.state.audit.flush().await.unwrap();
    node.state.sql.audit(&AuditFilter { account: Some(account), ..AuditFilter::default() }, 100).await.unwrap()
}

#[tokio::test]
async fn changed_roles_are_in_the_token_of_the_next_refresh_on_every_node() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let account = account_id(&nodes[0], "ada").await;
    let tokens = nodes[0].login("ada").await;
    assert_eq!(roles_claim(&tokens.access), Value::Null);

    assert_eq!(add_roles(&nodes[0], account, &["editor", "admin"]).await, roles(&["admin", "editor"]));
    let tokens = Tokens::of(&nodes[1].refresh(&tokens.refresh).await.expect(200));
    assert_eq!(roles_claim(&tokens.access), json!(["admin", "editor"]));

    cluster.advance(Duration::from_secs(1));
    assert_eq!(remove_roles(&nodes[1], account, &["admin"]).await, roles(&["editor"]));
    let tokens = Tokens::of(&nodes[0].refresh(&tokens.refresh).await.expect(200));
    assert_eq!(roles_claim(&tokens.access), json!(["editor"]));
    cluster.advance(Duration::from_secs(1));
    remove_roles(&nodes[1], account, &["editor", "absent"]).await;
    let tokens = Tokens::of(&nodes[0].refresh(&tokens.refresh).await.expect(200));
    assert_eq!(roles_claim(&tokens.access), Value::Null);

    let rows = audit(&nodes[0], account).await;
    let changes: Vec<_> =
        rows.iter().rev().filter(|row| row.event == "roles_changed").map(|row| row.detail.clone().unwrap()).collect();
    assert_eq!(changes, ["admin editor", "editor", "none"]);
}

/// The session is created with the account's roles and epoch from before the change, as by a login that read the account then.
#[tokio::test]
async fn login_checked_before_a_role_change_cannot_restore_the_former_roles() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let account = account_id(&node, "ada").await;
    add_roles(&node, account, &["admin"]).await;
    let before = accounts::find(&node.state.sql, "ada").await.unwrap();
    remove_roles(&node, account, &["admin"]).await;
    let session = NewSession {
        id: node.state.entropy.session_id(),
        account,
        roles: before.roles,
        additional_claims: AdditionalClaims::default(),
        epoch: before.epoch,
        claims_version: before.claims_version,
        transport: Transport::Bearer,
        origin: SessionOrigin::default(),
        tag: OriginTag::default(),
        basis: SessionBasis::default(),
        idle_timeout: node.state.config.session.idle_timeout,
        absolute_timeout: node.state.config.session.absolute_timeout,
        max_per_account: 50,
    };
    let created = node.state.redis.sessions.create(session, node.state.clock.now()).await.unwrap();
    assert_eq!(created, CreateOutcome::Stale);
}

#[tokio::test]
async fn admin_whose_role_was_removed_cannot_create_accounts() {
    let mut cluster = TestCluster::new();
    let open_node = cluster.node().await;
    open_node.register("ada").await;
    let account = account_id(&open_node, "ada").await;
    add_roles(&open_node, account, &["admin"]).await;
    // on this node, only admins create accounts
    cluster.config.registration.open = false;
    let node = cluster.node().await;
    let tokens = node.login("ada").await;
    let register = |email: &str, access: &str| {
        let body = json!({ "email": email, "password": PASSWORD });
        node.send(node.request(Method::POST, "/v1/users").bearer_auth(access).json(&body))
    };
    register("one@example.com", &tokens.access).await.expect(201);
    remove_roles(&node, account, &["admin"]).await;
    assert_eq!(roles_claim(&tokens.access), json!(["admin"]), "the token still has the role");
    assert_eq!(register("two@example.com", &tokens.access).await.problem(), (401, "claims_changed".to_owned()));
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    assert_eq!(register("two@example.com", &tokens.access).await.problem(), (403, "registration_closed".to_owned()));
    add_roles(&node, account, &["admin"]).await;
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    register("three@example.com", &tokens.access).await.expect(201);
}

#[tokio::test]
async fn roles_beyond_the_maximum_are_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let account = account_id(&node, "ada").await;
    let names: Vec<String> = (0..Roles::MAX).map(|number| format!("role{number}")).collect();
    let max_roles = Roles::parse(&names).unwrap();
    accounts::change_roles(&node.state, account, &max_roles, &Roles::default()).await.unwrap();
    let refused = accounts::change_roles(&node.state, account, &roles(&["one-more"]), &Roles::default()).await;
    assert!(matches!(refused, Err(ChangeAccountError::TooManyRoles)));
    assert_eq!(accounts::find(&node.state.sql, "ada").await.unwrap().roles, max_roles);
}

#[tokio::test]
async fn password_set_by_an_operator_ends_all_sessions() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let account = account_id(&node, "ada").await;
    let sessions = [node.login("ada").await, node.login("ada").await];
    let weak = accounts::set_password(&node.state, account, "password1".into()).await;
    assert!(matches!(weak, Err(ChangeAccountError::WeakPassword(_))));
    // the refused change has ended no session
    node.refresh(&sessions[0].refresh).await.expect(200);

    let new_password = "gravel lantern ostrich nine";
    let ended_sessions = accounts::set_password(&node.state, account, new_password.into()).await.unwrap();
    assert_eq!(ended_sessions, 2);
    for session in &sessions {
        node.refresh(&session.refresh).await.expect(401);
        node.get("/v1/me", &session.access).await.expect(401);
    }
    node.try_login("ada", PASSWORD).await.expect(401);
    node.login_with("ada", new_password).await;
    let rows = audit(&node, account).await;
    let row = |event: &str| rows.iter().find(|row| row.event == event).unwrap();
    assert_eq!(row("password_change").reason.as_deref(), Some("set_by_operator"));
    let ended = row("sessions_ended");
    assert_eq!(ended.reason.as_deref(), Some("password_changed"));
    assert_eq!(ended.count, 2);
}

#[tokio::test]
async fn account_logs_in_with_email_set_by_an_operator_and_a_taken_email_is_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for name in ["ada", "grace"] {
        node.register(name).await;
    }
    let account = account_id(&node, "ada").await;
    let tokens = node.login("ada").await;
    let email = |text: &str| Email::parse(text).unwrap();
    let taken = accounts::set_email(&node.state, account, &email("GRACE@example.com")).await;
    assert!(matches!(taken, Err(ChangeAccountError::EmailTaken)));
    accounts::set_email(&node.state, account, &email("Countess@example.com")).await.unwrap();
    // the session continues
    node.refresh(&tokens.refresh).await.expect(200);
    node.try_login("countess@example.com", PASSWORD).await.expect(200);
    node.try_login("ada@example.com", PASSWORD).await.expect(401);
    // A change of the letter case counts as a change.
    accounts::set_email(&node.state, account, &email("countess@example.com")).await.unwrap();
    let changes = audit(&node, account).await;
    assert_eq!(changes.iter().filter(|row| row.event == "email_changed").count(), 2);
}

#[tokio::test]
async fn account_is_found_by_id_username_or_email_and_a_prefix_restricts_the_kind() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let id = account_id(&node, "ada").await;
    for name in
        ["ada", "ada@example.com", "username:ada", "email:ADA@example.com", &id.to_string(), &format!("id:{id}")]
    {
        assert_eq!(account_id(&node, name).await, id, "{name}");
    }
    for name in ["id:ada", "username:ada@example.com", "email:ada", &format!("username:{id}"), "id:", ""] {
        let found = accounts::find(&node.state.sql, name).await;
        assert!(matches!(found, Err(ChangeAccountError::NotFound)), "{name}: {found:?}");
    }
}

#[tokio::test]
async fn sessions_ended_by_an_operator_are_recorded_with_that_cause() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let account = account_id(&node, "ada").await;
    let (first, second, third) = (node.login("ada").await, node.login("ada").await, node.login("ada").await);
    let listed = sessions::list_for_operator(&node.state, account).await.unwrap();
    assert_eq!(listed.len(), 3);
    let listed_session = listed.iter().find(|session| session.id.to_string() == first.session).unwrap();
    let was_live = sessions::revoke_by_operator(&node.state, account, listed_session.id).await.unwrap();
    assert!(was_live);
    let was_live = sessions::revoke_by_operator(&node.state, account, listed_session.id).await.unwrap();
    assert!(!was_live, "the session has ended before");
    node.refresh(&first.refresh).await.expect(401);
    node.refresh(&second.refresh).await.expect(200);
    let ended_sessions = sessions::revoke_all_by_operator(&node.state, account).await.unwrap();
    assert_eq!(ended_sessions, 2, "the second session and the third");
    node.refresh(&third.refresh).await.expect(401);
    let rows = audit(&node, account).await;
    let mut ended: Vec<_> = rows
        .iter()
        .filter(|row| row.event.starts_with("session"))
        .map(|row| (row.event.as_str(), row.reason.as_deref().unwrap(), row.count))
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, [("session_ended", "operator", 1), ("sessions_ended", "operator", 2)]);
}
