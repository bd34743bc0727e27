//! `latchkey apply`: creates and changes the clients and accounts that a file declares.

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
# SHA-256 of "test"
secret_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
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

/// Writes the set-up file, and creates the folder `secrets` beside it. Returns this folder.
fn write_setup(folder: &Path, setup: &str) -> PathBuf {
    let setup_folder = folder.join("setup");
    fs::create_dir_all(setup_folder.join("secrets")).unwrap();
    fs::write(setup_folder.join("latchkey-setup.toml"), setup).unwrap();
    setup_folder.join("secrets")
}

/// The clients as `latchkey client list --json` prints them, one a line.
fn clients(folder: &Path) -> Vec<Value> {
    let output = run(folder, &["client", "list", "--json"]);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asserts that all declarations are in effect already.
fn assert_nothing_to_change(folder: &Path) {
    assert_eq!(apply(folder, &[]), (Some(0), "Nothing to change.\n".to_owned()));
}

/// Whether the service accepts these client credentials.
async fn authenticates(service: &Service, id: &str, secret: &str) -> bool {
    let request = service.client.request(Method::POST, "/oauth2/token").basic_auth(id, Some(secret));
    let answer = service.client.send(request.form(&[("grant_type", "client_credentials")])).await;
    answer.status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_clients_and_accounts_are_created_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let secrets = write_setup(folder.path(), SETUP);
    fs::write(secrets.join("ada"), format!("{PASSWORD}\n")).unwrap();

    let (code, planned) = apply(folder.path(), &["--dry-run"]);
    assert_eq!(code, Some(0), "{planned}");
    assert!(planned.contains("+ client billing: audiences latchkey, scopes read write, a new secret in"), "{planned}");
    assert!(planned.contains("+ client reports: audiences reports, scopes none, the declared secret"), "{planned}");
    assert!(planned.contains("~ client reports: disabled"), "{planned}");
    assert!(planned.contains("+ user ada@example.com: roles admin, the password in"), "{planned}");
    assert!(planned.ends_with("Nothing was changed (--dry-run).\n"), "{planned}");
    assert!(clients(folder.path()).is_empty());
    assert!(!secrets.join("billing").exists());

    let (code, applied) = apply(folder.path(), &[]);
    assert_eq!(code, Some(0), "{applied}");
    assert_eq!(applied.lines().count(), 5, "the four planned changes and a summary: {applied}");
    assert_eq!(fs::metadata(secrets.join("billing")).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(secrets.join("billing")).unwrap().trim_end().to_owned();
    assert!(secret.starts_with("lk_cs_"), "{secret}");
    assert!(!applied.contains(&secret), "a secret is written, not printed");
    assert_nothing_to_change(folder.path());

    // A restarted node has the new clients at once. A running node applies them within seconds.
    drop(service.end(Signal::TERM));
    let service = Service::start(folder.path());
    assert!(authenticates(&service, "billing", &secret).await);
    // "test" is the secret whose hash the file declares.
    assert!(!authenticates(&service, "reports", "test").await, "a disabled client is refused");
    let tokens = service.client.login("ada").await;
    let me = service.client.get("/v1/me", &tokens.access).await.expect(200).json();
    assert_eq!(me["roles"][0], "admin", "{me}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_declarations_change_clients_and_roles() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    service.client.register("ada").await;
    let secrets = write_setup(folder.path(), "[[client]]\nname = \"billing\"\nsecret_file = \"secrets/billing\"\n");
    let first_secret = "first-secret-of-the-billing-service-0123";
    fs::write(secrets.join("billing"), first_secret).unwrap();
    assert_eq!(apply(folder.path(), &[]).0, Some(0));

    let second_secret = "second-secret-of-the-billing-service-456";
    fs::write(secrets.join("billing"), format!("{second_secret}\n")).unwrap();
    // Addresses are compared without regard to case.
    write_setup(
        folder.path(),
        "[[client]]\nname = \"billing\"\nscopes = [\"read\"]\nsecret_file = \"secrets/billing\"\n\
         [[user]]\nemail = \"ADA@example.com\"\nroles = [\"support\", \"ops\"]\n",
    );
    let (code, text) = apply(folder.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("~ client billing: scopes none → read"), "{text}");
    assert!(
        text.contains("~ client billing: the declared secret replaces the current one, which stays valid for a day"),
        "{text}"
    );
    assert!(text.contains("~ user ada@example.com: roles none → ops support"), "{text}");
    assert_nothing_to_change(folder.path());

    // Roles that are not declared are removed. An account that is declared without `roles` keeps its roles.
    write_setup(folder.path(), "[[user]]\nemail = \"ada@example.com\"\nroles = [\"ops\"]\n");
    let (_, text) = apply(folder.path(), &[]);
    assert!(text.contains("roles ops support → ops"), "{text}");
    write_setup(folder.path(), "[[user]]\nemail = \"ada@example.com\"\n");
    assert_nothing_to_change(folder.path());
    // A client that is no longer declared stays.
    assert_eq!(clients(folder.path()).len(), 1);
    drop(service.end(Signal::TERM));
    let service = Service::start(folder.path());
    assert!(authenticates(&service, "billing", first_secret).await, "the former secret is valid for a day");
    assert!(authenticates(&service, "billing", second_secret).await, "the line break of the file is no part of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_declarations_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let _service = Service::start(folder.path());
    // Three lines, and an empty one follows: `bad` begins in line 5.
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
        let secrets = write_setup(folder.path(), &format!("{good}\n{bad}"));
        fs::write(secrets.join("short"), "short").unwrap();
        let (code, text) = apply(folder.path(), &[]);
        assert_eq!(code, Some(1), "{bad}: {text}");
        assert!(text.contains(problem), "{bad}: {text}");
        assert!(clients(folder.path()).is_empty(), "{bad}");
        assert!(!secrets.join("good").exists(), "{bad}");
    }
}

const APPS: &str = r#"
[[client]]
name = "grafana"
kind = "web"
display_name = "Grafana"
redirect_uris = ["https://grafana.example.com/login/generic_oauth"]
post_logout_redirect_uris = ["https://grafana.example.com/"]
auth_method = "client_secret_basic"
consent = true
secret_file = "secrets/grafana"

[[client]]
name = "terminal"
kind = "public"
redirect_uris = ["http://127.0.0.1/callback"]
scopes = ["openid", "invoices:read"]
audiences = ["https://invoices.example.com"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn declared_apps_are_created_once_and_changed_with_their_declaration() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let secrets = write_setup(folder.path(), APPS);
    let web_plan = "+ client grafana (web): redirect URIs https://grafana.example.com/login/generic_oauth, audiences none, \
               scopes openid profile email offline_access, a new secret in";
    let public_plan = "+ client terminal (public): redirect URIs http://127.0.0.1/callback, audiences \
                  https://invoices.example.com, scopes openid invoices:read\n";
    let (code, planned) = apply(folder.path(), &["--dry-run"]);
    assert_eq!(code, Some(0), "{planned}");
    assert!(planned.contains(web_plan), "{planned}");
    assert!(planned.contains(public_plan), "{planned}");
    assert!(clients(folder.path()).is_empty());
    assert!(!secrets.join("grafana").exists());
    assert_eq!(apply(folder.path(), &[]).0, Some(0));
    assert_nothing_to_change(folder.path());
    let created = clients(folder.path());
    assert_eq!(created.len(), 2);
    let (grafana, terminal) = (&created[0], &created[1]);
    assert_eq!(grafana["client_id"], "grafana");
    assert_eq!(grafana["kind"], "web");
    assert_eq!(grafana["secrets"], 1);
    assert_eq!(terminal["client_id"], "terminal");
    assert_eq!(terminal["kind"], "public");
    assert_eq!(terminal["secrets"], 0, "a public client has no secret");

    let changed = APPS
        .replace("login/generic_oauth", "login/other")
        .replace("consent = true\n", "")
        .replace("display_name = \"Grafana\"", "display_name = \"Our Grafana\"");
    write_setup(folder.path(), &changed);
    let (code, text) = apply(folder.path(), &["--dry-run"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains(
            "~ client grafana: display name Grafana → Our Grafana, redirect URIs \
             https://grafana.example.com/login/generic_oauth → https://grafana.example.com/login/other, consent yes → no\n"
        ),
        "{text}"
    );
    assert_eq!(apply(folder.path(), &[]).0, Some(0));
    assert_nothing_to_change(folder.path());

    // The apps work with the declared credentials and redirect URIs. With the right secret, only the refresh token is refused.
    drop(service.end(Signal::TERM));
    let service = Service::start(folder.path());
    let secret = fs::read_to_string(secrets.join("grafana")).unwrap().trim_end().to_owned();
    let form = [("grant_type", "refresh_token"), ("refresh_token", "lk_rt_x")];
    for (presented, error) in [(secret.as_str(), "invalid_grant"), ("lk_cs_wrong", "invalid_client")] {
        let request = service.client.request(Method::POST, "/oauth2/token").basic_auth("grafana", Some(presented));
        assert_eq!(service.client.send(request.form(&form)).await.text_of("error"), error);
    }
    // A valid request leads to the sign-in page. A redirect URI at a loopback address may have any port (RFC 8252, section 7.3).
    let authorize = "/oauth2/authorize?client_id=terminal&redirect_uri=http%3A%2F%2F127.0.0.1%3A4711%2Fcallback\
                     &response_type=code&scope=invoices:read&code_challenge_method=S256\
                     &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    service.client.get_anonymously(authorize).await.expect(303);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_app_declarations_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let _service = Service::start(folder.path());
    let public = "[[client]]\nname = \"a\"\nkind = \"public\"\nredirect_uris = [\"https://a.example/cb\"]\n";
    let web = public.replace("public", "web");
    for (bad, problem) in [
        (public.replace("public", "native"), "kind must be service, web or public"),
        (public.replace("https", "http"), "the redirect URI \"http://a.example/cb\" must be https"),
        (format!("{public}secret_file = \"secrets/a\"\n"), "a public client has no secret"),
        (format!("{public}auth_method = \"client_secret_basic\"\n"), "a public client has no credentials"),
        (format!("{public}grant_types = [\"password\"]\n"), "grant_types must hold"),
        (format!("{web}auth_method = \"none\"\n"), "auth_method must be"),
        (format!("{web}auth_method = \"private_key_jwt\"\n"), "private_key_jwt requires"),
        (web.clone(), "client a is new and could not authenticate"),
        (
            "[[client]]\nname = \"a\"\nkind = \"web\"\nsecret_file = \"secrets/a\"\n".to_owned(),
            "an app needs a redirect URI",
        ),
        (
            "[[client]]\nname = \"a\"\nsecret_file = \"secrets/a\"\nredirect_uris = [\"https://a.example/cb\"]\n"
                .to_owned(),
            "a service signs nobody in",
        ),
    ] {
        let secrets = write_setup(folder.path(), &bad);
        let (code, text) = apply(folder.path(), &[]);
        assert_eq!(code, Some(1), "{bad}: {text}");
        assert!(text.contains(problem), "{bad}: {text}");
        assert!(!text.contains(" --"), "the file has keys, no command-line options: {text}");
        assert!(clients(folder.path()).is_empty(), "{bad}");
        assert!(!secrets.join("a").exists(), "{bad}");
    }
    // A client's kind can't change: its secrets and grants would not fit the new kind.
    write_setup(folder.path(), public);
    assert_eq!(apply(folder.path(), &[]).0, Some(0));
    write_setup(folder.path(), &format!("{web}secret_file = \"secrets/a\"\n"));
    let (code, text) = apply(folder.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("client a is of the kind public and declared as web: delete it first"), "{text}");
}
