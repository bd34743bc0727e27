//! The command `latchkey client`, for clients of each kind.

use std::path::Path;

use serde_json::{Value, json};

use crate::binary::{Service, run};

/// Runs a command that must succeed. Returns its standard output.
fn run_successfully(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn client_add_prints_the_settings_that_an_app_needs() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let uri = "https://grafana.example.com/login/generic_oauth";
    let add =
        ["client", "add", "grafana", "--kind", "web", "--redirect-uri", uri, "--display-name", "Grafana", "--consent"];
    let output = run_successfully(folder.path(), &add);
    let printed: std::collections::BTreeMap<_, _> = output.lines().filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(printed["client_id"], "grafana");
    assert!(printed["client_secret"].starts_with("lk_cs_"));
    assert_eq!(printed["scopes"], "openid profile email offline_access");
    assert_eq!(printed["redirect_uris"], uri);
    let metadata = service.client.get_anonymously("/.well-known/openid-configuration").await.expect(200).json();
    assert_eq!(printed["discovery"], format!("{}/.well-known/openid-configuration", printed["issuer"]));
    for name in
        ["issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "end_session_endpoint", "jwks_uri"]
    {
        assert_eq!(metadata[name], printed[name], "{name}");
    }
    let shown = run_successfully(folder.path(), &["client", "show", "grafana", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["kind"], "web");
    assert_eq!(shown["name"], "Grafana");
    assert_eq!(shown["redirect_uris"], json!([uri]));
    assert_eq!(shown["consent"], true);
    assert_eq!(shown["grant_types"], json!(["authorization_code", "refresh_token"]));
    let add_public = ["client", "add", "spa", "--kind", "public", "--redirect-uri", "https://a.example/"];
    let output = run_successfully(folder.path(), &add_public);
    assert!(output.starts_with("client_id: spa\nissuer: "), "{output}");
    assert!(!output.contains("secret"), "{output}");
}

#[test]
fn client_add_reports_where_the_issuer_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    // creates the database
    run_successfully(folder.path(), &["migrate"]);
    // Returns the standard output, and the notes on the standard error.
    let add = |name: &str, more: &[&str]| {
        let app = ["client", "add", name, "--kind", "public", "--redirect-uri", "https://a.example/"];
        let output = run(folder.path(), &[&app[..], more].concat());
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let [printed, notes] = add("first", &["--set", "issuer=https://auth.example.com"]);
    assert!(printed.contains("\nissuer: https://auth.example.com\n"), "{printed}");
    assert!(notes.contains("The issuer is from the configuration of this command (--set)."), "{notes}");
    let [_, notes] = add("second", &[]);
    assert!(notes.contains("(not set, derived from listen)"), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_add_refuses_settings_that_contradict_each_other() {
    let folder = tempfile::tempdir().unwrap();
    // creates the database
    drop(Service::start(folder.path()));
    for (arguments, message) in [
        (&["--kind", "web"][..], "an app needs a redirect URI"),
        // without --kind, the client is a service
        (&["--redirect-uri", "https://a.example/"], "a service signs nobody in"),
        (&["--kind", "web", "--redirect-uri", "http://a.example/"], "must be https"),
        (&["--kind", "web", "--redirect-uri", "https://a.example/#x"], "must have no fragment"),
        (&["--kind", "web", "--redirect-uri", "com.example.app:/cb"], "must be https"),
        (
            &["--kind", "public", "--redirect-uri", "com.example.app:/cb", "--auth-method", "client_secret_basic"],
            "has no credentials",
        ),
        (
            &["--kind", "web", "--redirect-uri", "https://a.example/", "--auth-method", "private_key_jwt"],
            "private_key_jwt requires a public key or a JWK set",
        ),
        (
            &["--kind", "public", "--redirect-uri", "https://a.example/", "--grant-type", "client_credentials"],
            "has no credentials",
        ),
        (
            &["--kind", "public", "--redirect-uri", "https://a.example/", "--without-pkce"],
            "only an app that authenticates may leave PKCE out",
        ),
        (&["--kind", "service", "--without-pkce"], "only an app that authenticates may leave PKCE out"),
    ] {
        let output = run(folder.path(), &[&["client", "add", "app"], arguments].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(errors.contains(message), "{arguments:?}: {errors}");
    }
}
