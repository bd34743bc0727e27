//! `latchkey user` and `latchkey session`.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Output, Stdio},
    thread,
};

use rustix::process::Signal;
use serde_json::Value;

use super::{run_ok, text};
use crate::{
    accounts::problem,
    binary::{Service, command, run},
    harness::{client::PASSWORD, wait},
};

const NEW_PASSWORD: &str = "another tidal engine verse";

/// Runs a command with this line as its standard input.
fn run_with_input(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = command(folder, arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{input}").unwrap();
    child.wait_with_output().unwrap()
}

/// Parses the output of a command that prints one JSON object per line.
fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_managed_beside_a_running_node() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let add = ["user", "add", "ada@example.com", "--username", "ada", "--role", "admin", "--password-stdin"];
    assert!(run_with_input(folder.path(), &add, PASSWORD).status.success());
    let tokens = service.client.login("ada").await;
    let listed = run_ok(folder.path(), &["user", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["email"], "ada@example.com");
    assert_eq!(listed["roles"][0], "admin");
    run_ok(folder.path(), &["user", "disable", "ada"]);
    assert_eq!(service.client.refresh(&tokens.refresh).await.problem(), problem(401, "invalid_refresh_token"));
    service.client.try_login("ada", PASSWORD).await.expect(401);
    run_ok(folder.path(), &["user", "enable", "ada@example.com"]);
    service.client.login("ada").await;
    let unconfirmed = run(folder.path(), &["user", "delete", "ada"]);
    assert_eq!(unconfirmed.status.code(), Some(1));
    assert!(text(&unconfirmed.stderr).contains("--yes"), "{unconfirmed:?}");
    service.client.login("ada").await;
    run_ok(folder.path(), &["user", "delete", "ada", "--yes"]);
    service.client.try_login("ada", PASSWORD).await.expect(401);
    let repeated = run(folder.path(), &["user", "delete", "ada", "--yes"]);
    assert_eq!(repeated.status.code(), Some(1));
    service.end(Signal::TERM);
}

#[test]
fn user_list_at_its_limit_announces_no_more_accounts_if_no_later_one_matches() {
    let folder = tempfile::tempdir().unwrap();
    run_ok(folder.path(), &["migrate"]);
    for (email, role) in [("ada@example.com", "admin"), ("bob@example.com", "support")] {
        let add = ["user", "add", email, "--role", role, "--password-stdin"];
        assert!(run_with_input(folder.path(), &add, PASSWORD).status.success());
    }
    let list_admins =
        |limit: &str| run(folder.path(), &["user", "list", "--role", "admin", "--limit", limit, "--json"]);
    let admins = list_admins("1");
    assert_eq!(json_lines(&text(&admins.stdout)).len(), 1);
    assert!(!text(&admins.stderr).contains("more accounts match"), "{admins:?}");
    assert_eq!(list_admins("0").status.code(), Some(2), "a limit is at least 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_changes_roles_password_and_email_of_an_account() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let service = Service::start(path);
    service.client.register("ada").await;
    let first = service.client.login("ada").await;

    let roles = run_ok(path, &["user", "roles", "ada", "--add", "ops", "--add", "admin"]);
    assert!(roles.contains("admin ops"), "{roles}");
    let access = service.client.refresh(&first.refresh).await.expect(200).text_of("access_token");
    let me = service.client.get("/v1/me", &access).await.expect(200).json();
    assert_eq!(me["roles"], serde_json::json!(["admin", "ops"]));
    let roles = run_ok(path, &["user", "roles", "email:ada@example.com", "--remove", "admin"]);
    assert!(roles.contains(": ops."), "{roles}");
    assert!(!roles.contains("admin"), "{roles}");
    assert!(roles.contains("Older access tokens are refused"), "{roles}");
    let unchanged = run_ok(path, &["user", "roles", "ada", "--remove", "admin"]);
    assert!(unchanged.contains(": ops. Nothing has changed."), "{unchanged}");

    // `password` is too common a password. `--stdin` is an alias of `--password-stdin`.
    let weak = run_with_input(path, &["user", "set-password", "ada", "--stdin"], "password");
    assert_eq!(weak.status.code(), Some(1), "{}", text(&weak.stderr));
    let set = run_with_input(path, &["user", "set-password", "ada", "--password-stdin"], NEW_PASSWORD);
    assert!(set.status.success(), "{set:?}");
    assert!(text(&set.stdout).contains("1 session ended"), "{set:?}");
    service.client.refresh(&first.refresh).await.expect(401);
    service.client.try_login("ada", PASSWORD).await.expect(401);
    service.client.try_login("ada", NEW_PASSWORD).await.expect(200);

    run_ok(path, &["user", "set-email", "username:ada", "countess@example.com"]);
    service.client.try_login("countess@example.com", NEW_PASSWORD).await.expect(200);
    let account = &json_lines(&run_ok(path, &["user", "show", "countess@example.com", "--json"]))[0];
    assert_eq!(account["username"], "ada");
    assert_eq!(account["sessions"], 2, "the sessions of the two sign-ins with the new password");
    let id = account["id"].as_str().unwrap();
    assert!(run_ok(path, &["user", "show", &format!("id:{id}")]).contains("countess@example.com"));

    let audit = json_lines(&run_ok(path, &["audit", "--json", "--account", id]));
    let is_by_operator = |row: &&Value| row["actor"].as_str().unwrap().starts_with("operator:");
    for (event, expected) in [("password_change", 1), ("email_changed", 1), ("roles_changed", 2)] {
        let count = audit.iter().filter(is_by_operator).filter(|row| row["event"] == event).count();
        assert_eq!(count, expected, "{event} in {audit:#?}");
    }
    service.end(Signal::TERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_sees_addresses_and_factors_of_an_account_and_removes_a_secondary_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let service = Service::start(path);
    service.client.register("ada").await;
    assert!(run_ok(path, &["user", "show", "ada"]).contains("second factors    -\n"));
    let grace = serde_json::json!({
        "email": "grace@example.com",
        "email_verified": true,
        "username": "grace",
        "password_hash": null,
        "totp_secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "secondary_emails": [{ "email": "grace@work.example", "verified": true }, { "email": "grace@typo.example" }],
    });
    fs::write(path.join("accounts.jsonl"), format!("{grace}\n")).unwrap();
    run_ok(path, &["user", "import", "accounts.jsonl"]);

    let shown = run_ok(path, &["user", "show", "grace@work.example"]);
    // The secondary addresses of an import have no order.
    let secondary = if shown.contains("secondary         grace@work.example") {
        "secondary         grace@work.example, grace@typo.example (not verified)\n"
    } else {
        "secondary         grace@typo.example (not verified), grace@work.example\n"
    };
    for line in
        ["e-mail            grace@example.com\n", secondary, "second factors    totp ", " (0 recovery codes left)\n"]
    {
        assert!(shown.contains(line), "no {line:?} in {shown}");
    }
    let shown = &json_lines(&run_ok(path, &["user", "show", "grace", "--json"]))[0];
    let secondary = shown["secondary_emails"].as_array().unwrap();
    for (email, verified) in [("grace@work.example", true), ("grace@typo.example", false)] {
        assert!(secondary.contains(&serde_json::json!({ "email": email, "verified": verified })), "{secondary:?}");
    }
    assert_eq!(shown["factors"][0]["kind"], "totp");
    assert_eq!(shown["recovery_codes_left"], 0);
    let listed = run_ok(path, &["user", "emails", "grace", "list"]);
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], "primary    grace@example.com");
    for line in ["secondary  grace@work.example", "secondary  grace@typo.example  (not verified)"] {
        assert!(lines.contains(&line), "{listed}");
    }
    assert_eq!(json_lines(&run_ok(path, &["user", "emails", "grace", "list", "--json"])).len(), 3);

    let remove = |email: &str| run(path, &["user", "emails", "grace", "remove", email, "--yes"]);
    let unconfirmed = run(path, &["user", "emails", "grace", "remove", "grace@work.example"]);
    assert!(text(&unconfirmed.stderr).contains("--yes"), "{unconfirmed:?}");
    let primary = remove("grace@example.com");
    assert!(text(&primary.stderr).contains("latchkey user set-email"), "{primary:?}");
    let unknown = remove("nobody@example.com");
    assert!(text(&unknown.stderr).contains("no such e-mail address"), "{unknown:?}");
    for email in ["grace@work.example", "grace@typo.example"] {
        let removed = remove(email);
        assert!(text(&removed.stdout).starts_with(&format!("Removed {email} from the account ")), "{removed:?}");
    }
    assert_eq!(run_ok(path, &["user", "emails", "grace", "list"]), "primary    grace@example.com\n");
    assert_eq!(run(path, &["user", "show", "grace@work.example"]).status.code(), Some(1));
    let audit = json_lines(&run_ok(path, &["audit", "--json", "--account", "grace", "--event", "email_removed"]));
    assert_eq!(audit.len(), 2, "{audit:#?}");
    assert!(audit.iter().all(|row| row["actor"].as_str().unwrap().starts_with("operator:")), "{audit:#?}");
    service.end(Signal::TERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_lists_and_revokes_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let service = Service::start(path);
    service.client.register("ada").await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(service.client.login("ada").await);
    }
    let listed = json_lines(&run_ok(path, &["session", "list", "ada", "--json"]));
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0]["address"], "127.0.0.1");
    assert_eq!(run_ok(path, &["session", "list", "ada"]).lines().count(), 4, "a heading and the three sessions");

    run_ok(path, &["session", "revoke", "ada", &tokens[0].session]);
    service.client.refresh(&tokens[0].refresh).await.expect(401);
    service.client.refresh(&tokens[1].refresh).await.expect(200);
    let repeated = run(path, &["session", "revoke", "ada", &tokens[0].session]);
    assert_eq!(repeated.status.code(), Some(1), "the session has ended already");
    assert!(run_ok(path, &["session", "revoke", "ada", "--all"]).contains("2 sessions ended"));
    service.client.refresh(&tokens[2].refresh).await.expect(401);
    let audit = json_lines(&run_ok(path, &["audit", "--json", "--account", "ada"]));
    let events: Vec<_> = audit.iter().map(|row| row["event"].as_str().unwrap()).collect();
    assert!(events.contains(&"session_ended"), "the revocation by id: {audit:#?}");
    assert!(events.contains(&"sessions_ended"), "the revocation by `--all`: {audit:#?}");
    service.end(Signal::TERM);
}

#[test]
fn account_list_is_filtered_and_paged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    run_ok(path, &["migrate"]);
    for name in ["ann", "ben", "cleo"] {
        let email = format!("{name}@example.com");
        let add = ["user", "add", &email, "--username", name, "--role", "staff", "--password-stdin"];
        let added = run_with_input(path, &add, PASSWORD);
        assert!(added.status.success(), "{}", text(&added.stderr));
    }
    let list = |arguments: &[&str]| json_lines(&run_ok(path, &[&["user", "list", "--json"], arguments].concat()));
    assert_eq!(list(&["--role", "staff"]).len(), 3);
    assert_eq!(list(&["--contains", "BEN@"])[0]["username"], "ben");
    assert_eq!(list(&["--state", "disabled"]).len(), 0);
    let first = list(&["--limit", "2"]);
    assert_eq!(first.len(), 2);
    let rest = list(&["--limit", "2", "--after", first[1]["id"].as_str().unwrap()]);
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0]["username"], "cleo");
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_invites_a_user_and_starts_a_reset_without_learning_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let service = Service::start(path);
    let value_of = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.trim().to_owned()
    };
    let reset_password = async |body: Value| service.client.post("/v1/password/reset", body).await;

    let mailed = run_ok(path, &["user", "invite", "ada@example.com", "--username", "ada", "--role", "ops"]);
    assert_eq!(mailed.lines().count(), 1, "no link is printed: {mailed}");
    let invitation = run_ok(path, &["user", "invite", "ada@example.com", "--print"]);
    let link = value_of(&invitation, "link");
    // `lk_ot_` begins a one-time token. The link ends with it.
    let token = &link[link.find("lk_ot_").unwrap()..];
    let body = serde_json::json!({ "token": token, "new_password": PASSWORD });
    reset_password(body).await.expect(204);
    let tokens = service.client.login("ada").await;
    let me = service.client.get("/v1/me", &tokens.access).await.expect(200).json();
    assert_eq!(me["roles"], serde_json::json!(["ops"]));
    assert_eq!(me["email_verified"], true);
    let taken = run(path, &["user", "invite", "ada@example.com"]);
    assert_eq!(taken.status.code(), Some(1), "{}", text(&taken.stderr));

    let reset = run_ok(path, &["user", "reset", "ada", "--print"]);
    // The former password works until the user sets a new one.
    service.client.login("ada").await;
    let code = value_of(&reset, "code");
    let body = serde_json::json!({ "identifier": "ada", "code": code, "new_password": NEW_PASSWORD });
    reset_password(body).await.expect(204);
    service.client.refresh(&tokens.refresh).await.expect(401);
    service.client.try_login("ada", NEW_PASSWORD).await.expect(200);
    assert_eq!(run(path, &["user", "reset", "nobody"]).status.code(), Some(1));
    service.end(Signal::TERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_writes_metadata_that_tokens_contain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let metadata_setting = ["--set", "token.app_metadata=plan"];
    let service = Service::start_with(path, &[&["serve"], &metadata_setting[..]].concat());
    service.client.register("ada").await;
    let before = service.client.login("ada").await;
    let run_metadata =
        |arguments: &[&str]| run_ok(path, &[&["user", "metadata", "ada"], arguments, &metadata_setting].concat());
    assert_eq!(run_metadata(&[]), "{}\n");
    let written = run_metadata(&["--add", "plan=\"gold\"", "--add", "note={\"a\":1}"]);
    assert_eq!(
        serde_json::from_str::<Value>(&written).unwrap(),
        serde_json::json!({ "plan": "gold", "note": { "a": 1 } })
    );
    wait::until("the node refuses the former token", async || {
        service.client.get("/v1/verify", &before.access).await.status == 401
    })
    .await;
    let after = service.client.refresh(&before.refresh).await.expect(200).text_of("access_token");
    service.client.get("/v1/verify", &after).await.expect(200);
    let me = service.client.get("/v1/me", &after).await.expect(200).json();
    assert_eq!(me["app_metadata"]["plan"], "gold");
    // `--remove` applies after `--replace`.
    assert_eq!(run_metadata(&["--replace", "{\"b\":2}", "--remove", "b"]), "{}\n");
    // no value, a value that is not JSON, and metadata that is not an object
    for bad in [&["--add", "plan"][..], &["--add", "plan=gold"], &["--replace", "[1]"]] {
        let output = run(path, &[&["user", "metadata", "ada"], bad].concat());
        assert_eq!(output.status.code(), Some(1), "{bad:?}");
    }
    service.end(Signal::TERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_of_metadata_keep_each_others_members() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let service = Service::start(path);
    service.client.register("ada").await;
    let names = ["a", "b", "c", "d", "e", "f"];
    thread::scope(|scope| {
        for name in names {
            scope.spawn(move || run_ok(path, &["user", "metadata", "ada", "--add", &format!("{name}=1")]));
        }
    });
    let stored: Value = serde_json::from_str(&run_ok(path, &["user", "metadata", "ada"])).unwrap();
    assert_eq!(stored, serde_json::json!({ "a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1 }));
    service.end(Signal::TERM);
}
