//! Commands that manage a running service.

mod accounts;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    binary::{Service, command, run},
    harness::{postgres, wait},
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed. Returns its standard output.
fn run_ok(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_keys_rotate_beside_a_running_node() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let before = service.client.get_anonymously("/.well-known/jwks.json").await.expect(200).json();
    let signing_key = before["keys"][0]["kid"].as_str().unwrap();
    run_ok(folder.path(), &["keys", "rotate"]);
    let listed = run_ok(folder.path(), &["keys", "list"]);
    // The new key is published, and signs later. The former one signs until then.
    assert!(listed.contains("signing"), "{listed}");
    assert!(listed.contains("published"), "{listed}");
    let retired = run(folder.path(), &["keys", "retire", signing_key]);
    assert_eq!(retired.status.code(), Some(1), "the only signing key cannot be retired");
    // A restarted node publishes both keys.
    service.end(Signal::TERM);
    let service = Service::start(folder.path());
    let after = service.client.get_anonymously("/.well-known/jwks.json").await.expect(200).json();
    assert_eq!(after["keys"].as_array().unwrap().len(), 2, "{after}");
    service.end(Signal::TERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn service_clients_are_managed_beside_a_running_node() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let run_ok = |arguments: &[&str]| run_ok(folder.path(), arguments);
    let secret_in = |text: &str| {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("client_id: billing"));
        let secret = lines.next().unwrap().strip_prefix("client_secret: ").unwrap().to_owned();
        let random = secret.strip_prefix("lk_cs_").unwrap();
        assert_eq!(random.len(), 43, "32 bytes in base64url");
        assert_eq!(lines.next(), None);
        secret
    };
    let first = secret_in(&run_ok(&["client", "add", "billing", "--scope", "read", "--scope", "write"]));
    let request_token = async |secret: &str| {
        let request = service.client.request(reqwest::Method::POST, "/oauth2/token");
        let request = request.form(&[("grant_type", "client_credentials")]).basic_auth("billing", Some(secret));
        service.client.send(request).await
    };
    assert_eq!(request_token(&first).await.expect(200).json()["scope"], "read write");

    let second = secret_in(&run_ok(&["client", "rotate-secret", "billing", "--grace", "1h"]));
    wait::until("the node applies the new secret", async || request_token(&second).await.status == 200).await;
    request_token(&first).await.expect(200);
    let listed: Value = serde_json::from_str(&run_ok(&["client", "list", "--json"])).unwrap();
    assert_eq!(listed["client_id"], "billing");
    assert_eq!(listed["secrets"], 2, "the current and the former one");
    assert_eq!(listed["scopes"][1], "write");
    assert_eq!(listed["audiences"][0], "latchkey");

    let pem = folder.path().join("key.pem");
    fs::write(&pem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    for (arguments, expected) in [
        (&["client", "add", "billing"][..], "\"billing\": a client of this name exists"),
        (&["client", "add", "a b"], "1 to 64 ASCII letters"),
        (&["client", "add", "latchkey"], "the name is token.client_id, which is reserved"),
        (&["client", "add", "other", "--public-key", "key.pem"], "key.pem: holds a private key"),
        (&["client", "add", "other", "--jwks", "none.json"], "none.json"),
        (&["client", "disable", "other"], "\"other\": there is no client of this name"),
        (&["client", "rotate-secret", "other"], "\"other\": there is no client of this name"),
    ] {
        let output = run(folder.path(), arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert_eq!(text(&output.stdout), "", "{error}");
        assert!(error.contains(expected), "{arguments:?}: no {expected} in {error}");
    }
    run_ok(&["client", "disable", "billing"]);
    wait::until("the node applies the disabled client", async || request_token(&second).await.status == 401).await;
    let table = run_ok(&["client", "list"]);
    assert!(table.contains("billing"), "{table}");
    assert!(table.contains("disabled"), "{table}");
    assert!(run_ok(&["client", "show", "billing"]).contains("disabled since"));
    let refused = run(folder.path(), &["client", "rotate-secret", "billing"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(text(&refused.stdout), "");
    assert!(text(&refused.stderr).contains("disabled; enable it first"), "{refused:?}");

    run_ok(&["client", "enable", "billing"]);
    wait::until("the node applies the enabled client", async || request_token(&second).await.status == 200).await;
    let unconfirmed = run(folder.path(), &["client", "delete", "billing"]);
    assert_eq!(unconfirmed.status.code(), Some(1), "a deletion without a terminal needs --yes");
    run_ok(&["client", "delete", "billing", "--yes"]);
    wait::until("the node applies the deleted client", async || request_token(&second).await.status == 401).await;
    let missing = run(folder.path(), &["client", "show", "billing"]);
    assert_eq!(missing.status.code(), Some(1));
    let third = secret_in(&run_ok(&["client", "add", "billing"]));
    assert_ne!(third, second);
    let (_exit_code, log) = service.end(Signal::TERM);
    for secret in [first, second] {
        assert!(!log.contains(&secret), "the log has a secret");
        assert!(!table.contains(&secret), "the list has a secret");
    }
}

#[test]
fn command_without_a_service_creates_nothing_and_names_the_data_directory() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["user", "list"][..],
        &["user", "add", "ada@example.com", "--password-stdin"],
        &["client", "add", "billing"],
        &["session", "list", "ada"],
        &["keys", "list"],
        &["audit"],
    ] {
        let output = run(folder.path(), arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains("there is no database at"), "{arguments:?}: {error}");
        assert!(error.contains("--data-dir"), "{arguments:?}: {error}");
    }
    // If the settings place all data elsewhere, the error names the database.
    let settings = [
        "database.url=sqlite://other.db",
        "redis.url=redis://127.0.0.1:1",
        "secret=long enough for a secret of a test",
    ];
    let options = settings.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<_> = ["user", "list"].into_iter().chain(options).collect();
    let output = run(folder.path(), &arguments);
    assert!(text(&output.stderr).contains("there is no database at other.db"), "{output:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    // With the database that `migrate` creates, a command needs no running node.
    run_ok(folder.path(), &["migrate"]);
    run_ok(folder.path(), &["client", "add", "billing"]);
}

#[test]
fn completions_manual_page_and_config_check_need_no_service() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run_ok(folder.path(), &["completions", "bash"]).contains("latchkey__subcmd__user"));
    assert!(run_ok(folder.path(), &["man"]).contains(".TH latchkey 1"));
    assert_eq!(run_ok(folder.path(), &["config", "check"]), "");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn command_in_a_removed_working_directory_reports_a_problem_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let in_removed_directory = "mkdir removed && cd removed && rmdir ../removed && exec \"$0\" \"$@\"";
    for arguments in [&["config", "check"][..], &["user", "list"], &["mail", "preview", "test"]] {
        let mut shell = Command::new("sh");
        shell.args(["-c", in_removed_directory, env!("CARGO_BIN_EXE_latchkey")]).args(arguments);
        let output = shell.current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains("working directory"), "{arguments:?}: {output:?}");
    }
}

#[test]
fn config_check_refuses_broken_templates_and_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("templates")).unwrap();
    // Mails and pages have a layout of this name.
    fs::write(folder.path().join("templates/layout.html"), "{{ no_such_value }}").unwrap();
    for key in ["mail.templates", "pages.templates"] {
        let output = run(folder.path(), &["config", "check", "--set", &format!("{key}=templates")]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(&format!("  {key}: ")) && error.contains("undefined value"), "{error}");
    }
    let disabled_pages = ["config", "check", "--set", "pages.templates=templates", "--set", "pages.enabled=false"];
    assert_eq!(run_ok(folder.path(), &disabled_pages), "");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only `templates`");
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_follow_prints_events_as_they_are_written() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    run_ok(folder.path(), &["migrate"]);
    run_ok(folder.path(), &["client", "add", "first"]);
    let mut follow = command(folder.path(), &["audit", "--follow", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    assert!(lines.next().unwrap().contains("\"first\""));
    run_ok(folder.path(), &["client", "add", "second"]);
    assert!(lines.next().unwrap().contains("\"second\""));
    follow.kill().unwrap();
    follow.wait().unwrap();
}

/// Error messages quote and escape names, so that a name cannot control the terminal.
#[test]
fn refused_client_name_is_quoted_and_escaped() {
    let folder = tempfile::tempdir().unwrap();
    run_ok(folder.path(), &["migrate"]);
    for command in ["add", "show", "disable", "enable", "delete", "rotate-secret"] {
        let refused = run(folder.path(), &["client", command, "--", "a\n\u{1b}[31mb"]);
        let error = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{error}");
        assert!(error.contains(r#"latchkey: "a\n\u{1b}[31mb": "#), "{error}");
    }
}

#[test]
fn strict_doctor_fails_on_warnings() {
    let folder = tempfile::tempdir().unwrap();
    run_ok(folder.path(), &["migrate"]);
    // the doctor warns of the weak hashing that `run` configures
    let findings = run_ok(folder.path(), &["doctor"]);
    assert!(findings.contains("warn  configuration"), "{findings}");
    let strict = run(folder.path(), &["doctor", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    let strong_hashing = ["doctor", "--strict", "--set", "password.memory_kib=19456", "--set", "password.iterations=2"];
    let strict = run(folder.path(), &strong_hashing);
    let findings = text(&strict.stdout);
    // the machine may cause other warnings
    assert_eq!(strict.status.success(), !findings.contains("warn  "), "{findings}");
}

#[test]
fn start_with_a_missing_database_names_the_setting_and_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = postgres::shared();
    for arguments in [&["serve"][..], &["migrate"]] {
        let output = command(folder.path(), arguments)
            .env("LATCHKEY_DATABASE_URL", postgres.url("no_such_database"))
            .output()
            .unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        let location = format!("latchkey: database.url, 127.0.0.1:{}/no_such_database: ", postgres.port());
        assert!(error.contains(&location), "{error}");
        assert!(error.contains("does not exist"), "{error}");
    }
}
