//! `latchkey apply`: a declared set-up.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    binary::{Service, run},
    harness::client::PASSWORD,
};

const SETUP: &str = r#"
[[client]]
name = "billing"
scopes = ["read", "write"]
secret_file = "secrets/billing"

[[client]]
name = "reports"
audiences = ["reports"]
secret_sha256 = "HASH"
disabled = true

[[user]]
email = "ada@example.com"
username = "ada"
roles = ["admin"]
password_file = "secrets/ada"
"#;

/// Runs `latchkey apply`. Returns its exit code, and its output or error.
fn apply(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(folder, &[&["apply", "setup/latchkey-setup.toml"], arguments].concat());
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn write(folder: &Path, setup: &str) -> PathBuf {
    let setup_folder = folder.join("setup");
    fs::create_dir_all(setup_folder.join("secrets")).unwrap();
    fs::write(setup_folder.join("latchkey-setup.toml"), setup).unwrap();
    setup_folder.join("secrets")
}

/// The clients as `latchkey client list --json` prints them.
fn clients(folder: &Path) -> Vec<Value> {
    let output = run(folder, &["client", "list", "--json"]);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn authenticates(service: &Service, id: &str, secret: &str) -> bool {
    let request = service.client.request(Method::POST, "/oauth2/token").basic_auth(id, Some(secret));
    let answer = service.client.send(request.form(&[("grant_type", "client_credentials")])).await;
    answer.status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_clients_and_accounts_are_created_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let secrets = write(folder.path(), &SETUP.replace("HASH", hash));
    fs::write(secrets.join("ada"), format!("{PASSWORD}\n")).unwrap();

    let (code, planned) = apply(folder.path(), &["--dry-run"]);
    assert_eq!(code, Some(0), "{planned}");
    assert!(planned.contains("+ client billing: audiences latchkey, scopes read write, a new secret in"), "{planned}");
    assert!(planned.contains("+ client reports: audiences reports, scopes none, the declared secret"), "{planned}");
    assert!(planned.contains("~ client reports: disabled"), "{planned}");
    assert!(planned.contains("+ user ada@example.com: roles admin, the password in"), "{planned}");
    assert!(planned.ends_with("Nothing was changed (--dry-run).\n"), "{planned}");
    assert!(clients(folder.path()).is_empty() && !secrets.join("billing").exists());

    let (code, applied) = apply(folder.path(), &[]);
    assert_eq!(code, Some(0), "{applied}");
    assert_eq!(applied.lines().count(), 5, "{applied}");
    assert_eq!(fs::metadata(secrets.join("billing")).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(secrets.join("billing")).unwrap().trim_end().to_owned();
    assert!(secret.starts_with("lk_cs_") && !applied.contains(&secret), "a secret is written, not printed");
    assert_eq!(apply(folder.path(), &[]), (Some(0), "Nothing to change.\n".to_owned()));

    // A node reads clients at its start.
    drop(service.end(Signal::TERM));
    let service = Service::start(folder.path());
    assert!(authenticates(&service, "billing", &secret).await);
    assert!(!authenticates(&service, "reports", "test").await, "disabled");
    let tokens = service.client.login("ada").await;
    let me = service.client.get("/v1/me", &tokens.access).await.expect(200).json();
    assert_eq!(me["roles"][0], "admin", "{me}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_declarations_change_clients_and_roles() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    service.client.account("ada").await;
    let secrets = write(folder.path(), "[[client]]\nname = \"billing\"\nsecret_file = \"secrets/billing\"\n");
    let first = "first-secret-of-the-billing-service-0123";
    fs::write(secrets.join("billing"), first).unwrap();
    assert_eq!(apply(folder.path(), &[]).0, Some(0));

    fs::write(secrets.join("billing"), "second-secret-of-the-billing-service-456\n").unwrap();
    write(
        folder.path(),
        "[[client]]\nname = \"billing\"\nscopes = [\"read\"]\nsecret_file = \"secrets/billing\"\n\
         [[user]]\nemail = \"ADA@example.com\"\nroles = [\"support\", \"ops\"]\n",
    );
    let (code, text) = apply(folder.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("~ client billing: scopes none → read"), "{text}");
    assert!(text.contains("~ client billing: the declared secret; the present one stays valid for a day"), "{text}");
    assert!(text.contains("~ user ada@example.com: roles none → ops support"), "{text}");
    assert_eq!(apply(folder.path(), &[]).1, "Nothing to change.\n");

    // Roles that are not declared are removed, and an account without `roles` keeps them.
    write(folder.path(), "[[user]]\nemail = \"ada@example.com\"\nroles = [\"ops\"]\n");
    assert!(apply(folder.path(), &[]).1.contains("roles ops support → ops"));
    write(folder.path(), "[[user]]\nemail = \"ada@example.com\"\n");
    assert_eq!(apply(folder.path(), &[]).1, "Nothing to change.\n");
    // A client that is no longer declared stays.
    assert_eq!(clients(folder.path()).len(), 1);
    drop(service.end(Signal::TERM));
    let service = Service::start(folder.path());
    assert!(authenticates(&service, "billing", first).await, "within the grace period");
    assert!(authenticates(&service, "billing", "second-secret-of-the-billing-service-456").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_declarations_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let _service = Service::start(folder.path());
    let good = "[[client]]\nname = \"good\"\nsecret_file = \"secrets/good\"\n";
    for (bad, problem) in [
        ("[[client]]\nname = \"a\"\nscope = []\n", "line 7: unknown field `scope`, expected one of"),
        ("[[client]]\nname = \"a b\"\n", "client \"a b\": the name must have 1 to 64"),
        ("[[client]]\nname = \"a\"\n", "client a is new and could not authenticate: declare secret_file"),
        ("[[client]]\nname = \"good\"\n", "client \"good\" is declared twice"),
        ("[[client]]\nname = \"a\"\nsecret_sha256 = \"x\"\n", "secret_sha256 must be 64 hexadecimal digits"),
        ("[[client]]\nname = \"a\"\nsecret_file = \"secrets/short\"\n", "is shorter than 32 bytes"),
        ("[[user]]\nemail = \"ada\"\n", "email is not an e-mail address"),
        ("[[user]]\nemail = \"ada@example.com\"\n", "there is no account ada@example.com: declare password_file"),
        ("[[user]]\nemail = \"ada@example.com\"\npassword_file = \"none\"\n", "No such file"),
    ] {
        let secrets = write(folder.path(), &format!("{good}\n{bad}"));
        fs::write(secrets.join("short"), "short").unwrap();
        let (code, text) = apply(folder.path(), &[]);
        assert_eq!(code, Some(1), "{bad}: {text}");
        assert!(text.contains(problem), "{bad}: {text}");
        assert!(clients(folder.path()).is_empty() && !secrets.join("good").exists(), "{bad}");
    }
}
