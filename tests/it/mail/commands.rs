//! `latchkey mail` and the doctor's checks of mail, as an operator runs them.

use std::{fs, path::Path};

use latchkey::{
    config::{Sources, load_existing},
    domain::clock::Clock,
    store::sql::Sql,
};
use serde_json::Value;
use tempfile::TempDir;

use super::outbox::outbox_mail;
use crate::{binary::run, harness::mail};

/// Creates a folder with a migrated database.
fn folder_with_database() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    output(folder.path(), &["migrate"]);
    folder
}

/// The standard output of a command that succeeds.
fn output(folder: &Path, arguments: &[&str]) -> String {
    let finished = run(folder, arguments);
    assert!(finished.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&finished.stderr));
    String::from_utf8(finished.stdout).unwrap()
}

#[test]
fn preview_renders_each_part_in_the_requested_language() {
    // The command needs no database.
    let folder = tempfile::tempdir().unwrap();
    let text = output(folder.path(), &["mail", "preview", "password_reset", "--locale", "de", "--text"]);
    assert!(text.starts_with("Subject: Setzen Sie Ihr Passwort"), "{text}");
    let path = folder.path().join("reset.html");
    output(folder.path(), &["mail", "preview", "password_reset", "--locale", "fr", "--output", path.to_str().unwrap()]);
    assert!(fs::read_to_string(path).unwrap().contains("<html lang=\"fr\""));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the previews write nothing but reset.html");

    fs::create_dir(folder.path().join("templates")).unwrap();
    fs::write(folder.path().join("templates/layout.html"), "{{ no_such_value }}").unwrap();
    let refused = run(folder.path(), &["mail", "preview", "test", "--set", "mail.templates=templates"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(error.contains("layout.html: line 1: undefined value"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_commands_list_show_and_retry_mails_of_the_outbox() {
    let folder = folder_with_database();
    let config = load_existing(&Sources::in_dir(folder.path())).unwrap();
    let sql = Sql::connect(&config.database).await.unwrap();
    let mail = outbox_mail(Clock::System.now());
    sql.enqueue_mail(&mail).await.unwrap();
    sql.close().await;

    let id = mail.id.to_string();
    let list = output(folder.path(), &["mail", "list", "--state", "waiting", "--json"]);
    let row: Value = serde_json::from_str(list.trim()).unwrap();
    assert_eq!(row["id"], id.as_str());
    assert_eq!(row["to"], "ann@example.com");
    assert!(output(folder.path(), &["mail", "list"]).contains("password_reset"));
    assert_eq!(output(folder.path(), &["mail", "list", "--state", "failed", "--json"]), "");
    assert!(output(folder.path(), &["mail", "show", &id]).contains("State         waiting"));
    assert!(output(folder.path(), &["mail", "retry", &id]).contains("is due now"));
    assert!(output(folder.path(), &["mail", "retry", "--all"]).contains("1 mail is due now"));
    // an id that no mail has
    let missing = run(folder.path(), &["mail", "show", "0192f0c1-7a2b-7000-8000-000000000001"]);
    assert!(!missing.status.success());
}

#[test]
fn doctor_sends_a_test_mail_and_reports_an_unreachable_server() {
    let folder = folder_with_database();
    let findings = output(folder.path(), &["doctor", "--json", "--test-mail", "ann@example.com"]);
    assert!(findings.contains("no SMTP server is configured: mails become files in"), "{findings}");
    assert!(findings.contains("sent the test mail"), "{findings}");
    let mails = mail::mails_of_template(&folder.path().join("latchkey-data/mail"), "test");
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, "ann@example.com");

    // no server listens on port 1; `mail.url` requires `mail.from`
    let unreachable = "mail.url=smtp://127.0.0.1:1?tls=none";
    let sender = "mail.from=a@example.com";
    let refused = run(folder.path(), &["doctor", "--json", "--set", unreachable, "--set", sender]);
    let findings = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success());
    assert!(findings.contains("correct mail.url (LATCHKEY_MAIL_URL)"), "{findings}");
}
